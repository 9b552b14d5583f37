//! Acquires one token and prints the cost in milliseconds. See `../README.md`.

use std::time::{Duration, Instant};

use confidential_client::{Authority, Cloud, ConfidentialClient};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .ok_or("usage: first_token BASE_URL TENANT CA_FILE")
    };
    let (base_url, tenant, ca) = (argument()?, argument()?, argument()?);
    #[cfg(feature = "ring")]
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is already installed")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;

    let (started, start) = (Instant::now(), cpu_time());
    let mut builder = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .authority(Authority::entra(Cloud::Custom(base_url.clone()), tenant))
        .client_secret("s3cret");
    if base_url.starts_with("https") {
        builder = builder.reqwest(http_trusting(&ca)?);
    }
    let client = builder.build()?;
    let built = cpu_time();
    let token = client.acquire_token_for_client("https://graph.microsoft.com/.default");
    runtime.block_on(token)?;
    let (wall, end) = (started.elapsed(), cpu_time());
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "{} {} {} {}",
        ms(built - start),
        ms(end - built),
        ms(wall),
        ms(end)
    );
    Ok(())
}

#[cfg(any(feature = "default", feature = "native-tls"))]
fn http_trusting(ca: &str) -> Result<reqwest::ClientBuilder> {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca)?)?;
    Ok(reqwest::Client::builder().tls_certs_merge([ca]))
}

#[cfg(not(any(feature = "default", feature = "native-tls")))]
fn http_trusting(_: &str) -> Result<reqwest::ClientBuilder> {
    Err("this program was built without TLS".into())
}

/// Returns the CPU time of all threads of this process, as Linux counts the time.
fn cpu_time() -> Duration {
    // The kernel adds up a thread's time at a context switch.
    std::thread::yield_now();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanos = threads.filter_map(|thread| {
        let schedule = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        schedule.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
