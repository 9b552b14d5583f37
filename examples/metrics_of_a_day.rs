//! Simulates a day of a daemon with an outage of the identity provider, reads the metrics through
//! OpenTelemetry's SDK, and draws a picture of the day.
//!
//! ```sh
//! cargo run --example metrics_of_a_day -- target/metrics-of-a-day.svg
//! ```
//!
//! Needs no network. The path of the picture is optional.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

#[path = "metrics_of_a_day/day.rs"]
mod day;
#[path = "metrics_of_a_day/picture.rs"]
mod picture;
#[path = "metrics_of_a_day/readings.rs"]
mod readings;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).map_or_else(
        || PathBuf::from("target/metrics-of-a-day.svg"),
        PathBuf::from,
    );
    // Tokio's time is paused: the waits between retries take none.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let readings = runtime.block_on(day::simulate())?;
    for client in day::CLIENTS {
        let total = |metric| readings.total(client.name, metric);
        println!("{}", client.name);
        println!("  hits            {}", total(readings::HITS));
        println!("  token requests  {}", total(readings::ISSUED));
        println!("  of which ahead  {}", total(readings::REFRESHED));
        println!("  failed          {}", total(readings::FAILED));
        println!("  minutes with the circuit open  {}", total(readings::OPEN));
        println!(
            "  minutes with errors            {}",
            readings.minutes_with_errors(client.name)
        );
    }
    std::fs::write(&path, picture::draw(&readings))?;
    println!("the picture is in {}", path.display());
    Ok(())
}
