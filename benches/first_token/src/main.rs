//! Acquires one token and prints the time of `build()` and of the token in milliseconds. See `../README.md`.

use std::time::{Duration, Instant};

use confidential_client::{Authority, Cloud, ConfidentialClient};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || {
        arguments
            .next()
            .ok_or("usage: first_token BASE_URL TENANT MILLISECONDS")
    };
    let (base_url, tenant, pause) = (argument()?, argument()?, argument()?.parse()?);
    #[cfg(feature = "default-ring-installed")]
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is already installed")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;

    let started = Instant::now();
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .authority(Authority::entra(Cloud::Custom(base_url), tenant))
        .client_secret("s3cret")
        .build()?;
    let built = started.elapsed();
    std::thread::sleep(Duration::from_millis(pause));
    let started = Instant::now();
    let token = client.acquire_token_for_client("https://graph.microsoft.com/.default");
    runtime.block_on(token)?;
    let acquired = started.elapsed();
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!("{} {}", ms(built), ms(acquired));
    Ok(())
}
