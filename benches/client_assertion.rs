//! The cost of client authentication with a certificate, beside the bare signature.
//!
//! ```sh
//! cargo bench --bench client_assertion
//! ```
//!
//! The cost of an assertion is the cost of a token with a certificate, less the cost of a token
//! with a secret. Both tokens come from an in-memory identity provider that responds at once. See
//! `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::{Certificate, ConfidentialClient, ConfidentialClientBuilder};
use http::{Request, Response};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        true => (40, 8),
        false => (1, 1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut rows = Vec::new();
    for bits in [2048, 3072, 4096] {
        let key = Key::generate(bits)?;
        for algorithm in [SigningAlgorithm::PS256, SigningAlgorithm::RS256] {
            rows.push(Row::new(&key, algorithm, &runtime)?);
        }
    }
    for _ in 0..rounds {
        for row in &mut rows {
            row.round(calls, &runtime)?;
        }
    }
    println!(
        "{}; microseconds, least of {rounds} rounds of {calls} calls\n",
        bare::BACKEND
    );
    println!("{:<16}{:^27}{:^27}", "", "wall clock", "CPU time");
    let columns = format!("{:>9} {:>10} {:>6}", "bare", "assertion", "ratio");
    println!("{:<16}{columns}{columns}", "");
    for row in &rows {
        row.print();
    }
    Ok(())
}

/// One key with one algorithm, and the measured costs.
struct Row {
    name: String,
    certificate: Certificate,
    bare: bare::Key,
    /// The signed message, which is the header and the claims of a real assertion.
    message: Vec<u8>,
    signing: Cost,
    with_certificate: Cost,
    with_secret: Cost,
}

impl Row {
    fn new(key: &Key, algorithm: SigningAlgorithm, runtime: &Runtime) -> Result<Self> {
        let certificate = Certificate::from_der([&key.certificate], &key.private_key)?;
        let certificate = certificate.signing_algorithm(algorithm);
        Ok(Self {
            name: format!("RSA {} {algorithm}", key.bits),
            message: signing_input(&certificate, runtime)?,
            certificate,
            bare: bare::Key::parse(&key.private_key)?,
            signing: Cost::NONE,
            with_certificate: Cost::NONE,
            with_secret: Cost::NONE,
        })
    }

    fn round(&mut self, calls: u32, runtime: &Runtime) -> Result<()> {
        let algorithm = self.certificate.algorithm();
        self.signing.measure(calls, |_| {
            let signature = self.bare.sign(algorithm, &self.message)?;
            std::hint::black_box(signature);
            Ok(())
        })?;
        let acquire = |client: ConfidentialClient| {
            move |call| {
                // A new scope for each call, so that no token is cached.
                let scope = format!("api://{call}/.default");
                runtime.block_on(client.acquire_token_for_client(scope))?;
                Ok(())
            }
        };
        let client = builder().certificate(self.certificate.clone()).build()?;
        self.with_certificate.measure(calls, acquire(client))?;
        let client = builder().client_secret("s3cret").build()?;
        self.with_secret.measure(calls, acquire(client))
    }

    fn print(&self) {
        let figures = |time: fn(&Cost) -> Duration| {
            let micros = |cost: &Cost| time(cost).as_secs_f64() * 1e6;
            let assertion = micros(&self.with_certificate) - micros(&self.with_secret);
            let bare = micros(&self.signing);
            format!("{bare:>9.1} {assertion:>10.1} {:>6.2}", assertion / bare)
        };
        println!(
            "{:<16}{}{}",
            self.name,
            figures(|cost| cost.wall),
            figures(|cost| cost.cpu)
        );
    }
}

/// The average time of a call in the best round.
struct Cost {
    wall: Duration,
    /// The CPU time of all threads.
    cpu: Duration,
}

impl Cost {
    const NONE: Self = Self {
        wall: Duration::MAX,
        cpu: Duration::MAX,
    };

    fn measure(&mut self, calls: u32, mut call: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let (started, cpu) = (Instant::now(), cpu_time());
        for number in 0..calls {
            call(number)?;
        }
        self.wall = self.wall.min(started.elapsed() / calls);
        self.cpu = self.cpu.min(cpu_time().saturating_sub(cpu) / calls);
        Ok(())
    }
}

/// Returns a builder with an in-memory identity provider.
fn builder() -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .transport(|_: Request<Bytes>| async { Ok(Response::new(Bytes::from_static(TOKEN))) })
}

/// Returns the message that a client with the certificate signs.
fn signing_input(certificate: &Certificate, runtime: &Runtime) -> Result<Vec<u8>> {
    let sent = Arc::new(Mutex::new(Bytes::new()));
    let transport = {
        let sent = Arc::clone(&sent);
        move |request: Request<Bytes>| {
            let sent = Arc::clone(&sent);
            async move {
                *sent.lock().map_err(|error| error.to_string())? = request.into_body();
                Ok(Response::new(Bytes::from_static(TOKEN)))
            }
        }
    };
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .certificate(certificate.clone())
        .transport(transport)
        .build()?;
    runtime.block_on(client.acquire_token_for_client("api://first/.default"))?;
    let sent = sent.lock().map_err(|error| error.to_string())?;
    let mut fields = url::form_urlencoded::parse(&sent);
    let assertion = fields.find(|(name, _)| name == "client_assertion");
    let (_, assertion) = assertion.ok_or("no assertion was sent")?;
    let (message, _) = assertion
        .rsplit_once('.')
        .ok_or("the assertion has no signature")?;
    Ok(message.into())
}

/// A key and a certificate from OpenSSL, in DER.
struct Key {
    bits: u32,
    private_key: Vec<u8>,
    certificate: Vec<u8>,
}

impl Key {
    fn generate(bits: u32) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("client_assertion-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let key = Self::generate_in(&folder, bits);
        std::fs::remove_dir_all(&folder)?;
        key
    }

    fn generate_in(folder: &Path, bits: u32) -> Result<Self> {
        let openssl = |arguments: &str| -> Result<()> {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder);
            let output = command.output()?;
            match output.status.success() {
                true => Ok(()),
                false => Err(String::from_utf8_lossy(&output.stderr).into()),
            }
        };
        openssl(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out key.pem"
        ))?;
        openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der")?;
        openssl("req -x509 -new -key key.pem -subj /CN=daemon -outform DER -out certificate.der")?;
        Ok(Self {
            bits,
            private_key: std::fs::read(folder.join("key.der"))?,
            certificate: std::fs::read(folder.join("certificate.der"))?,
        })
    }
}

/// The bare signature by the library that the crate signs with.
#[cfg(feature = "aws-lc-rs")]
mod bare {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
    use confidential_client::credential::SigningAlgorithm;

    pub(super) const BACKEND: &str = "aws-lc-rs";

    pub(super) struct Key(RsaKeyPair);

    impl Key {
        pub(super) fn parse(pkcs8: &[u8]) -> super::Result<Self> {
            Ok(Self(RsaKeyPair::from_pkcs8(pkcs8)?))
        }

        pub(super) fn sign(
            &self,
            algorithm: SigningAlgorithm,
            message: &[u8],
        ) -> super::Result<Vec<u8>> {
            let encoding = match algorithm {
                SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
                _ => &RSA_PKCS1_SHA256,
            };
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0
                .sign(encoding, &SystemRandom::new(), message, &mut signature)?;
            Ok(signature)
        }
    }
}

/// The bare signature by the library that the crate signs with.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
mod bare {
    use confidential_client::credential::SigningAlgorithm;
    use ring::rand::SystemRandom;
    use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};

    pub(super) const BACKEND: &str = "ring";

    pub(super) struct Key(RsaKeyPair);

    impl Key {
        pub(super) fn parse(pkcs8: &[u8]) -> super::Result<Self> {
            Ok(Self(RsaKeyPair::from_pkcs8(pkcs8)?))
        }

        pub(super) fn sign(
            &self,
            algorithm: SigningAlgorithm,
            message: &[u8],
        ) -> super::Result<Vec<u8>> {
            let encoding: &'static dyn RsaEncoding = match algorithm {
                SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
                _ => &RSA_PKCS1_SHA256,
            };
            let mut signature = vec![0; self.0.public().modulus_len()];
            self.0
                .sign(encoding, &SystemRandom::new(), message, &mut signature)
                .map_err(|_| "ring cannot sign")?;
            Ok(signature)
        }
    }
}

/// The bare signature by the library that the crate signs with.
#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
mod bare {
    use confidential_client::credential::SigningAlgorithm;
    use rsa::pkcs8::DecodePrivateKey;
    use rsa::rand_core::OsRng;
    use rsa::sha2::Sha256;
    use rsa::signature::{RandomizedSigner, SignatureEncoding};
    use rsa::{RsaPrivateKey, pkcs1v15, pss};

    pub(super) const BACKEND: &str = "rust-crypto";

    pub(super) struct Key {
        pss: pss::BlindedSigningKey<Sha256>,
        pkcs1: pkcs1v15::SigningKey<Sha256>,
    }

    impl Key {
        pub(super) fn parse(pkcs8: &[u8]) -> super::Result<Self> {
            let key = RsaPrivateKey::from_pkcs8_der(pkcs8)?;
            Ok(Self {
                pss: pss::BlindedSigningKey::new(key.clone()),
                pkcs1: pkcs1v15::SigningKey::new(key),
            })
        }

        pub(super) fn sign(
            &self,
            algorithm: SigningAlgorithm,
            message: &[u8],
        ) -> super::Result<Vec<u8>> {
            Ok(match algorithm {
                SigningAlgorithm::PS256 => {
                    self.pss.try_sign_with_rng(&mut OsRng, message)?.to_vec()
                }
                _ => self.pkcs1.try_sign_with_rng(&mut OsRng, message)?.to_vec(),
            })
        }
    }
}

/// Returns the CPU time of all threads on Linux, and 0 on other systems.
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

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const TENANT: &str = "contoso.onmicrosoft.com";
const TOKEN: &[u8] = br#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
