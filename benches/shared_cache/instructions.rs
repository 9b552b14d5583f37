//! The instructions of a miss, counted by callgrind.
//!
//! The figure is the difference between a run with many misses and a run with few. The work between
//! two misses, such as clearing the cache, is counted, too.

use std::process::Command;

use crate::Row;
use crate::setup::Result;

/// The argument that makes this program run one row, for callgrind.
pub(crate) const FLAG: &str = "--row";
const FEW: u32 = 20;
const MORE: u32 = 500;

/// Runs this program under callgrind for each row.
pub(crate) fn report(rows: &[Row]) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed, so no instructions are counted");
        return Ok(());
    }
    println!("| | instructions |\n| --- | ---: |");
    for (index, row) in rows.iter().enumerate() {
        let instructions = (count(index, FEW + MORE)? - count(index, FEW)?) / f64::from(MORE);
        println!("| {} | {instructions:.0} |", row.name);
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
