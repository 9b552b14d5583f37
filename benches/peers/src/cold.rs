//! The cost of a token from the authority over an open connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use azure_core::credentials::TokenCredential;
use confidential_client::{Certificate, ConfidentialClient};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::{Builder, Runtime};

use crate::cpu::cpu_time;
use crate::{Result, SECRET, clients, verdict};

pub fn report(base_url: &str) -> Result<()> {
    let key = KeyAndCertificate::create()?;
    let mut rows = Vec::new();
    for kind in [
        Kind::MultiThread,
        Kind::Busy,
        Kind::CurrentThread,
        Kind::OwnReqwest,
    ] {
        rows.push(Row::new(kind, base_url, &key)?);
    }
    let pair = PrivatePkcs8KeyDer::from_pem_slice(key.pem.as_bytes())?;
    let pair = RsaKeyPair::from_pkcs8(pair.secret_pkcs8_der())?;
    let mut signature = Duration::MAX;
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.round()?;
        }
        let start = cpu_time();
        for _ in 0..CALLS {
            sign(&pair)?;
        }
        signature = signature.min(cpu_time() - start);
    }

    println!("A token over a kept connection, microseconds of CPU time in all threads of the");
    println!("client; least of {ROUNDS} rounds of {CALLS}. One bare signature with RSA 2048 costs");
    println!("{:.1}.\n", micros(signature));
    println!("| runtime | credential | ours | beside | | ratio | goal | verdict |");
    println!("| --- | --- | ---: | --- | ---: | ---: | --- | --- |");
    for row in &rows {
        let [secret, certificate, oauth2, azure_secret, azure_certificate] = row
            .contenders
            .each_ref()
            .map(|contender| micros(contender.least));
        for (credential, ours, name, peer, goal) in [
            ("secret", secret, "oauth2", oauth2, Some(1.15)),
            ("secret", secret, "azure_identity", azure_secret, None),
            (
                "RSA 2048",
                certificate,
                "azure_identity",
                azure_certificate,
                Some(1.0),
            ),
        ] {
            let ratio = ours / peer;
            let (goal, verdict) = match goal {
                Some(goal) => (format!("at most {goal}"), verdict(ratio <= goal)),
                None => (String::new(), ""),
            };
            println!(
                "| {} | {credential} | {ours:.1} | `{name}` | {peer:.1} | {ratio:.2} | {goal} | {verdict} |",
                row.kind.name()
            );
        }
    }
    println!();
    Ok(())
}

/// Acquires tokens from one library, and prints nothing. For a profiler.
pub fn profile(base_url: &str, kind: &str, library: &str, tokens: &str) -> Result<()> {
    let kind = match kind {
        "multi-thread" => Kind::MultiThread,
        "busy" => Kind::Busy,
        "current-thread" => Kind::CurrentThread,
        "own-reqwest" => Kind::OwnReqwest,
        _ => {
            return Err(
                "the runtime is none of multi-thread, busy, current-thread, own-reqwest".into(),
            );
        }
    };
    let credential = match library {
        "ours" => kind.ours(base_url)?,
        "ours-certificate" => kind.ours_with(base_url, &KeyAndCertificate::create()?)?,
        "oauth2" => Library::OAuth2(Arc::new(clients::OAuth2::new(base_url)?)),
        "azure" => Library::Azure(clients::azure_identity(base_url)?),
        "azure-certificate" => Library::Azure(clients::azure_identity_with_certificate(
            base_url,
            KeyAndCertificate::create()?.pkcs12,
        )?),
        _ => return Err("there is no such library".into()),
    };
    kind.run(&kind.runtime()?, credential, 0, tokens.parse()?)
}

/// A kind of runtime with all libraries.
struct Row {
    kind: Kind,
    runtime: Runtime,
    contenders: [Contender; 5],
    next: u32,
}

/// The runtime of the caller, and the HTTP client of this crate.
#[derive(Clone, Copy)]
enum Kind {
    MultiThread,
    /// A multi-thread runtime with [`TASKS`] tasks, so that its threads do not wait for work.
    Busy,
    CurrentThread,
    /// A current-thread runtime, and a reqwest builder of the caller's.
    OwnReqwest,
}

struct Contender {
    library: Library,
    least: Duration,
}

/// A library with a credential.
#[derive(Clone)]
enum Library {
    Ours(ConfidentialClient),
    OAuth2(Arc<clients::OAuth2>),
    Azure(Arc<dyn TokenCredential>),
}

impl Row {
    fn new(kind: Kind, base_url: &str, key: &KeyAndCertificate) -> Result<Self> {
        let azure = clients::azure_identity_with_certificate(base_url, key.pkcs12.clone())?;
        let libraries = [
            kind.ours(base_url)?,
            kind.ours_with(base_url, key)?,
            Library::OAuth2(Arc::new(clients::OAuth2::new(base_url)?)),
            Library::Azure(clients::azure_identity(base_url)?),
            Library::Azure(azure),
        ];
        Ok(Self {
            kind,
            runtime: kind.runtime()?,
            contenders: libraries.map(|library| Contender {
                library,
                least: Duration::MAX,
            }),
            next: 0,
        })
    }

    fn round(&mut self) -> Result<()> {
        for contender in &mut self.contenders {
            let start = cpu_time();
            let library = contender.library.clone();
            self.kind.run(&self.runtime, library, self.next, CALLS)?;
            contender.least = contender.least.min(cpu_time() - start);
            self.next += CALLS;
        }
        Ok(())
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::MultiThread => "multi-thread",
            Self::Busy => "multi-thread, 16 tasks",
            Self::CurrentThread => "current-thread",
            Self::OwnReqwest => "current-thread, `reqwest(..)`",
        }
    }

    fn runtime(self) -> Result<Runtime> {
        let mut builder = match self {
            Self::MultiThread | Self::Busy => Builder::new_multi_thread(),
            Self::CurrentThread | Self::OwnReqwest => Builder::new_current_thread(),
        };
        Ok(builder.worker_threads(2).enable_all().build()?)
    }

    fn builder(self, base_url: &str) -> confidential_client::ConfidentialClientBuilder {
        match self {
            Self::MultiThread | Self::Busy | Self::CurrentThread => clients::ours(base_url),
            Self::OwnReqwest => clients::ours(base_url).reqwest(reqwest::Client::builder()),
        }
    }

    fn ours(self, base_url: &str) -> Result<Library> {
        let client = self.builder(base_url).client_secret(SECRET).build()?;
        Ok(Library::Ours(client))
    }

    fn ours_with(self, base_url: &str, key: &KeyAndCertificate) -> Result<Library> {
        let certificate = Certificate::from_pem(&key.pem)?;
        let client = self.builder(base_url).certificate(certificate).build()?;
        Ok(Library::Ours(client))
    }

    /// Acquires tokens one after the other, in a task where tasks have threads of their own.
    fn run(self, runtime: &Runtime, library: Library, first: u32, tokens: u32) -> Result<()> {
        let tasks = match self {
            Self::Busy => TASKS,
            Self::MultiThread | Self::CurrentThread | Self::OwnReqwest => 1,
        };
        let each = tokens.div_ceil(tasks);
        let mut acquiring =
            (0..tasks).map(|task| acquire(library.clone(), first + task * each, each));
        match self {
            Self::CurrentThread | Self::OwnReqwest => {
                runtime.block_on(acquiring.next().ok_or("no task")?)
            }
            Self::MultiThread | Self::Busy => {
                let tasks: Vec<_> = acquiring
                    .map(|acquiring| runtime.spawn(acquiring))
                    .collect();
                runtime.block_on(async {
                    for task in tasks {
                        task.await??;
                    }
                    Ok(())
                })
            }
        }
    }
}

fn acquire(
    library: Library,
    first: u32,
    tokens: u32,
) -> impl Future<Output = Result<()>> + Send + 'static {
    async move {
        for number in first..first + tokens {
            let scope = format!("https://cold{number}.example.org/.default");
            match &library {
                Library::Ours(client) => drop(client.acquire_token_for_client(scope).await?),
                Library::OAuth2(client) => drop(client.acquire(scope).await?),
                Library::Azure(credential) => drop(credential.get_token(&[&scope], None).await?),
            }
        }
        Ok(())
    }
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

/// A key and a certificate from OpenSSL, in both formats.
struct KeyAndCertificate {
    pem: String,
    pkcs12: Vec<u8>,
}

impl KeyAndCertificate {
    fn create() -> Result<Self> {
        let request = "req -x509 -newkey rsa:2048 -nodes -subj /CN=daemon -keyout -";
        let pem = String::from_utf8(openssl(request, &[])?)?;
        let pkcs12 = openssl("pkcs12 -export -passout pass:", pem.as_bytes())?;
        Ok(Self { pem, pkcs12 })
    }
}

fn openssl(arguments: &str, input: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let mut process = Command::new("openssl")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    process.stdin.take().ok_or("no input")?.write_all(input)?;
    let output = process.wait_with_output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}

fn micros(round: Duration) -> f64 {
    round.as_secs_f64() * 1e6 / f64::from(CALLS)
}

const TASKS: u32 = 16;
const CALLS: u32 = 320;
const ROUNDS: u32 = 40;
