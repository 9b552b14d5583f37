//! The cost of a token from the authority over an open connection.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use confidential_client::{Certificate, ConfidentialClient};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use crate::{Result, SECRET, clients, verdict};

pub async fn report(base_url: &str) -> Result<()> {
    let pem = key_and_certificate()?;
    let certificate = Certificate::from_pem(&pem)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())?;
    let secret_client = clients::ours(base_url).client_secret(SECRET).build()?;
    let certificate_client = clients::ours(base_url).certificate(certificate).build()?;
    let oauth2 = clients::OAuth2::new(base_url)?;

    let mut number = 0;
    let mut scope = || {
        number += 1;
        format!("https://cold{number}.example.org/.default")
    };
    let [mut secret, mut certificate, mut peer, mut signature] = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        let start = cpu_time();
        for _ in 0..CALLS {
            oauth2.acquire(scope()).await?;
        }
        peer = peer.min(cpu_time() - start);
        secret = secret.min(acquire(&secret_client, &mut scope).await?);
        certificate = certificate.min(acquire(&certificate_client, &mut scope).await?);
        let start = cpu_time();
        for _ in 0..CALLS {
            sign(&key)?;
        }
        signature = signature.min(cpu_time() - start);
    }

    let [secret, certificate, peer, signature] = [secret, certificate, peer, signature]
        .map(|least| least.as_secs_f64() * 1e6 / f64::from(CALLS));
    println!("A token over a kept connection, microseconds of CPU time in all threads of the");
    println!("client; least of {ROUNDS} rounds of {CALLS}.\n");
    println!("| | ours | beside | | goal | verdict |");
    println!("| --- | ---: | --- | ---: | --- | --- |");
    println!(
        "| with a secret | {secret:.1} | `oauth2` | {peer:.1} | at most 1.25 × | {:.2}: {} |",
        secret / peer,
        verdict(secret <= 1.25 * peer)
    );
    println!(
        "| with RSA 2048 | {certificate:.1} | one bare signature | {signature:.1} | at most {secret:.1} + 1.1 × | {:.2}: {} |\n",
        (certificate - secret) / signature,
        verdict(certificate <= secret + 1.1 * signature)
    );
    Ok(())
}

async fn acquire(
    client: &ConfidentialClient,
    scope: &mut impl FnMut() -> String,
) -> Result<Duration> {
    let start = cpu_time();
    for _ in 0..CALLS {
        client.acquire_token_for_client(scope()).await?;
    }
    Ok(cpu_time() - start)
}

/// Signs a message as long as the signed part of an assertion.
fn sign(key: &RsaKeyPair) -> Result<()> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PSS_SHA256,
        &SystemRandom::new(),
        &[b'x'; 600],
        &mut signature,
    )?;
    std::hint::black_box(signature);
    Ok(())
}

/// Returns a key and a certificate from OpenSSL, in PEM.
fn key_and_certificate() -> Result<String> {
    let output = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -subj /CN=daemon -keyout -".split(' '))
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
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

const CALLS: u32 = 200;
const ROUNDS: u32 = 30;
