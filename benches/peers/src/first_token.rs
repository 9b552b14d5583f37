//! The cost of the first token of a process, for each set of features.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::authority::Authority;
use crate::{Result, TENANT};

/// Reports the cost for each program. A program is `first_token` with one set of features. See
/// `../first_token/Cargo.toml`.
pub fn report(programs: &[&str]) -> Result<()> {
    let ca = std::env::temp_dir().join(format!("first_token-{}.pem", std::process::id()));
    let http = Authority::start(&["serve"])?;
    let https = Authority::start(&["serve-tls", ca.to_str().ok_or("not UTF-8")?])?;
    trust_the_machines_cas_too(&ca)?;
    let mut rows = Vec::new();
    for program in programs {
        for (authority, pause) in [(&http, 0), (&https, 0), (&https, PAUSE)] {
            rows.push(Row {
                program,
                base_url: &authority.base_url,
                pause,
                least: [f64::MAX; 2],
                cpu_ticks: 0,
            });
        }
    }
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.round(&ca)?;
        }
    }
    std::fs::remove_file(ca)?;
    println!("The first token of a new process, milliseconds; least of {ROUNDS} processes.\n");
    println!(
        "| features | authority | pause | `build()` | first token | goal | verdict | process, CPU, mean |"
    );
    println!("| --- | --- | ---: | ---: | ---: | --- | --- | ---: |");
    for row in rows {
        row.print();
    }
    println!();
    Ok(())
}

/// One program with one authority.
struct Row<'a> {
    program: &'a str,
    base_url: &'a str,
    /// Milliseconds between `build()` and the token.
    pause: u32,
    /// The time of `build()` and of the token.
    least: [f64; 2],
    /// The CPU time of all processes.
    cpu_ticks: u64,
}

impl Row<'_> {
    fn round(&mut self, ca: &Path) -> Result<()> {
        let before = cpu_ticks_of_children()?;
        let output = Command::new(self.program)
            .args([self.base_url, TENANT, &self.pause.to_string()])
            .env("SSL_CERT_FILE", ca)
            .env("SSL_CERT_DIR", CA_FOLDER)
            .output()?;
        self.cpu_ticks += cpu_ticks_of_children()? - before;
        let stdout = String::from_utf8(output.stdout)?;
        if !output.status.success() {
            // A program without TLS cannot use the https authority.
            return Ok(());
        }
        for (least, figure) in self.least.iter_mut().zip(stdout.split_whitespace()) {
            *least = least.min(figure.parse()?);
        }
        Ok(())
    }

    fn print(&self) {
        let name = self.program.rsplit('/').next().unwrap_or(self.program);
        let scheme = self.base_url.split(':').next().unwrap_or(self.base_url);
        let pause = self.pause;
        let [build, token] = self.least;
        let process = self.cpu_ticks as f64 * MILLISECONDS_OF_A_TICK / f64::from(ROUNDS);
        if build == f64::MAX {
            println!("| {name} | {scheme} | {pause} | refused | | | | |");
            return;
        }
        let (goal, verdict) = match (name, scheme, pause) {
            ("ring", "https", _) => (
                "at most 6 + 4",
                if build <= 6.0 && token <= 4.0 {
                    "met"
                } else {
                    "**missed**"
                },
            ),
            ("default", "https", PAUSE) => (
                "token at most 4",
                if token <= 4.0 { "met" } else { "**missed**" },
            ),
            _ => ("", ""),
        };
        println!(
            "| {name} | {scheme} | {pause} | {build:.1} | {token:.1} | {goal} | {verdict} | {process:.1} |"
        );
    }
}

/// Appends the machine's CA certificates to the authority's, so that a client reads both.
fn trust_the_machines_cas_too(ca: &PathBuf) -> Result<()> {
    let mut bundle = std::fs::read(ca)?;
    bundle.extend(std::fs::read(CA_FILE)?);
    Ok(std::fs::write(ca, bundle)?)
}

/// Returns the CPU time of the children of this process that have ended.
fn cpu_ticks_of_children() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let times = fields.split_whitespace().skip(13).take(2);
    times.map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
}

const ROUNDS: u32 = 30;
/// Of Linux, on every machine.
const MILLISECONDS_OF_A_TICK: f64 = 10.0;
/// Milliseconds. aws-lc collects its entropy in fewer.
const PAUSE: u32 = 50;
/// Where Debian and its descendants have the CA certificates, as one file and as many.
const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
const CA_FOLDER: &str = "/etc/ssl/certs";
