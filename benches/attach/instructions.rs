//! The instructions of a request, counted by callgrind.
//!
//! The figure is the difference between a run with many requests and a run with few requests.

use std::process::Command;

use super::{Result, Row};

/// The argument that makes this program run one row, for callgrind.
pub(crate) const FLAG: &str = "--row";
const FEW: u32 = 50;
const MORE: u32 = 1_000;

/// Runs this program under callgrind for each row.
pub(crate) fn report(rows: &[Row<'_>]) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed, so no instructions are counted");
        return Ok(());
    }
    println!("| a request | instructions | ratio |\n| --- | ---: | ---: |");
    let mut counted: Vec<(&str, f64)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let instructions = (count(index, FEW + MORE)? - count(index, FEW)?) / f64::from(MORE);
        let by_hand = counted.iter().find(|(name, _)| Some(*name) == row.beside);
        let ratio = by_hand.map(|(_, by_hand)| format!("{:.2}", instructions / by_hand));
        let ratio = ratio.unwrap_or_default();
        println!("| {} | {instructions:.0} | {ratio} |", row.name);
        counted.push((row.name, instructions));
    }
    Ok(())
}

fn count(row: usize, calls: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([FLAG, &row.to_string(), &calls.to_string()])
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.ok_or_else(|| format!("callgrind failed: {report}"))?;
    Ok(collected.trim().parse()?)
}
