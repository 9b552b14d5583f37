//! The cost of the first token of a process, for each set of features.

use std::process::Command;

use crate::authority::Authority;
use crate::{Result, TENANT};

/// Reports the cost for each program. A program is `first_token` with one set of features. See
/// `../first_token/Cargo.toml`.
pub fn report(programs: &[&str]) -> Result<()> {
    let ca = std::env::temp_dir().join(format!("first_token-{}.pem", std::process::id()));
    let ca = ca.to_str().ok_or("the temporary folder has no name")?;
    let http = Authority::start(&["serve"])?;
    let https = Authority::start(&["serve-tls", ca])?;
    let mut rows = Vec::new();
    for program in programs {
        for authority in [&http, &https] {
            rows.push((*program, &authority.base_url, [f64::MAX; 4]));
        }
    }
    for _ in 0..ROUNDS {
        for (program, base_url, least) in &mut rows {
            let output = Command::new(*program)
                .args([base_url, TENANT, ca])
                .output()?;
            let stdout = String::from_utf8(output.stdout)?;
            if !output.status.success() {
                // A program without TLS cannot use the https authority.
                continue;
            }
            for (least, figure) in least.iter_mut().zip(stdout.split_whitespace()) {
                *least = least.min(figure.parse()?);
            }
        }
    }
    std::fs::remove_file(ca)?;
    println!("The first token of a new process, milliseconds; least of {ROUNDS} processes.\n");
    println!(
        "| features | authority | `build()`, CPU | first token, CPU | both, wall clock | whole process, CPU |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for (program, base_url, [build, token, wall, process]) in rows {
        let name = program.rsplit('/').next().unwrap_or(program);
        let scheme = base_url.split(':').next().unwrap_or(base_url);
        match build < f64::MAX {
            true => println!(
                "| {name} | {scheme} | {build:.1} | {token:.1} | {wall:.1} | {process:.1} |"
            ),
            false => println!("| {name} | {scheme} | refused | | | |"),
        }
    }
    println!();
    Ok(())
}

const ROUNDS: u32 = 30;
