//! The cost of a signature on a PKCS#11 token, beside the module's bare call.
//!
//! ```sh
//! cargo bench --bench pkcs11
//! ```
//!
//! The token is one of SoftHSM, in a temporary folder. Without SoftHSM the program says so and
//! measures nothing. See `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use confidential_client::adapter::{Pkcs11Key, Pkcs11Token};
use confidential_client::credential::{Signer, SigningAlgorithm};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4815162342";
/// A message as long as that of a client assertion.
const MESSAGE: [u8; 600] = [b'a'; 600];

fn main() -> Result<()> {
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let rounds = match std::env::args().any(|argument| argument == "--bench") {
        true => 400,
        false => 1,
    };
    if std::env::var_os("SOFTHSM2_CONF").is_some() {
        return measure(rounds);
    }
    if !Path::new(MODULE).exists() {
        println!("there is no SoftHSM at {MODULE}: install the Debian package softhsm2");
        return Ok(());
    }
    // SoftHSM reads its configuration from a variable, which a process cannot set for itself.
    let folder = std::env::temp_dir().join(format!("pkcs11-bench-{}", std::process::id()));
    let result = create_token(&folder).and_then(|()| {
        let status = Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .env("SOFTHSM2_CONF", folder.join("softhsm2.conf"))
            .status()?;
        status
            .success()
            .then_some(())
            .ok_or("the measurement failed".into())
    });
    std::fs::remove_dir_all(&folder)?;
    result
}

fn measure(rounds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let token = Pkcs11Token::new(MODULE).label("daemon").pin(PIN);
    println!("Least of {rounds} rounds, microseconds a signature.\n");
    println!("| key | bare | bare, on a blocking thread | `Pkcs11Key` | ratio, goal 1.1 |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (label, algorithm, calls) in [
        ("rsa2048", SigningAlgorithm::PS256, 4),
        ("rsa4096", SigningAlgorithm::PS256, 1),
        ("p256", SigningAlgorithm::ES256, 20),
    ] {
        let key = token.key(label);
        runtime.block_on(sign(&key, algorithm))?;
        // The module is initialized and the user is logged in by now.
        let bare = Arc::new(Bare::new(label, algorithm)?);
        let (mut alone, mut moved, mut pooled) = (Duration::MAX, Duration::MAX, Duration::MAX);
        for _ in 0..rounds {
            alone = alone.min(time(calls, || bare.sign())?);
            moved = moved.min(time(calls, || on_blocking_thread(&bare, &runtime))?);
            pooled = pooled.min(time(calls, || runtime.block_on(sign(&key, algorithm)))?);
        }
        println!(
            "| {label}, {algorithm} | {:.1} | {:.1} | {:.1} | {:.2} |",
            micros(alone),
            micros(moved),
            micros(pooled),
            micros(pooled) / micros(alone)
        );
    }
    Ok(())
}

fn time(calls: u32, mut call: impl FnMut() -> Result<Vec<u8>>) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..calls {
        black_box(call()?);
    }
    Ok(started.elapsed() / calls)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

async fn sign(key: &Pkcs11Key, algorithm: SigningAlgorithm) -> Result<Vec<u8>> {
    Signer::sign(key, algorithm, MESSAGE.to_vec()).await
}

fn on_blocking_thread(bare: &Arc<Bare>, runtime: &Runtime) -> Result<Vec<u8>> {
    let bare = Arc::clone(bare);
    runtime.block_on(async { tokio::task::spawn_blocking(move || bare.sign()).await? })
}

/// A session of the same token, with the mechanism that the crate uses.
struct Bare {
    session: std::sync::Mutex<Session>,
    key: ObjectHandle,
    algorithm: SigningAlgorithm,
}

impl Bare {
    fn new(label: &str, algorithm: SigningAlgorithm) -> Result<Self> {
        let module = Pkcs11::new(MODULE)?;
        // The crate was first.
        let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let slots = module.get_slots_with_initialized_token()?;
        let session = module.open_ro_session(*slots.first().ok_or("there is no token")?)?;
        // The login is that of the process.
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        let keys = session.find_objects(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Label(label.as_bytes().to_vec()),
        ])?;
        Ok(Self {
            session: session.into(),
            key: *keys.first().ok_or("there is no key")?,
            algorithm,
        })
    }

    fn sign(&self) -> Result<Vec<u8>> {
        let pss = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        };
        let session = self.session.lock().map_err(|_| "the session is poisoned")?;
        Ok(match self.algorithm {
            SigningAlgorithm::ES256 => {
                session.sign(&Mechanism::Ecdsa, self.key, &Sha256::digest(MESSAGE))?
            }
            _ => session.sign(&Mechanism::Sha256RsaPkcsPss(pss), self.key, &MESSAGE)?,
        })
    }
}

/// Creates a token with three keys.
fn create_token(folder: &Path) -> Result<()> {
    let tokens = folder.join("tokens");
    std::fs::create_dir_all(&tokens)?;
    let configuration = folder.join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\n", tokens.display());
    std::fs::write(&configuration, text)?;
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", &configuration)
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    };
    let token = ["--label", "daemon", "--so-pin", "so-pin", "--pin", PIN];
    run(
        "softhsm2-util",
        &[&["--init-token", "--free"], &token[..]].concat(),
    )?;
    let file = folder.join("key.pem");
    let file = file.to_str().ok_or("the folder is not UTF-8")?;
    for (id, label, kind) in [
        (
            "01",
            "rsa2048",
            &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        (
            "02",
            "rsa4096",
            &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
        ),
        ("03", "p256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ] {
        let generate = [&["genpkey", "-out", file, "-algorithm"], &kind[..]].concat();
        run("openssl", &generate)?;
        let name = ["--label", label, "--id", id];
        let import = ["--import", file, "--token", "daemon", "--pin", PIN];
        run("softhsm2-util", &[&import[..], &name].concat())?;
    }
    Ok(())
}
