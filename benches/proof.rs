//! The cost of a request with a proof (DPoP), beside the bare signature.
//!
//! ```sh
//! cargo bench --bench proof
//! ```
//!
//! The token is cached, and its key is a P-256 key in memory. See `README.md`.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use confidential_client::credential::DpopKey;
use confidential_client::{Authority, ConfidentialClient, TokenProvider};
use http::{Request, Response};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    // `cargo test --all-targets` runs this program without `--bench`, as a check without figures.
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        true => (400, 50),
        false => (1, 1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let bare = Bare::generate()?;
    let bearer = provider(None, &runtime)?;
    let bound = provider(Some(DpopKey::generate()?), &runtime)?;
    let with_nonce = provider(Some(DpopKey::generate()?), &runtime)?;
    let mut nonce = http::HeaderMap::new();
    nonce.insert("dpop-nonce", NONCE.parse()?);
    with_nonce.record_nonce(URL, &nonce);
    let message = message(&bound, &runtime)?;

    let mut rows = [
        Row::new(SIGNATURE),
        Row::new("`provider.authorize(&mut request)`, a bearer token"),
        Row::new("`provider.authorize(&mut request)`, with a proof"),
        Row::new("the same with a nonce"),
    ];
    for _ in 0..rounds {
        let [signature, one, two, three] = &mut rows;
        signature.measure(calls, || bare.sign(&message))?;
        for (row, provider) in [(one, &bearer), (two, &bound), (three, &with_nonce)] {
            row.measure(calls, || {
                let mut request = request()?;
                runtime.block_on(provider.authorize(&mut request))?;
                black_box(request);
                Ok(())
            })?;
        }
    }
    println!("Least of {rounds} rounds of {calls} calls.\n");
    println!("| | microseconds | ratio to the bare signature | allocations |");
    println!("| --- | ---: | ---: | ---: |");
    let [Row { least: bare, .. }, ..] = &rows;
    for row in &rows {
        row.print(*bare);
    }
    Ok(())
}

/// One kind of call, and the cost of a call in the best round.
struct Row {
    name: &'static str,
    least: Duration,
    allocations: usize,
}

impl Row {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            least: Duration::MAX,
            allocations: usize::MAX,
        }
    }

    fn measure(&mut self, calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        self.least = self.least.min(started.elapsed() / calls);
        let region = Region::new(ALLOCATOR);
        call()?;
        self.allocations = self.allocations.min(region.change().allocations);
        Ok(())
    }

    fn print(&self, bare: Duration) {
        let micros = self.least.as_secs_f64() * 1e6;
        let ratio = match self.name {
            SIGNATURE => String::new(),
            _ => format!("{:.2}", self.least.as_secs_f64() / bare.as_secs_f64()),
        };
        println!(
            "| {} | {micros:.2} | {ratio} | {} |",
            self.name, self.allocations
        );
    }
}

/// The signature alone, by the library that the crate signs with.
struct Bare(EcdsaKeyPair);

impl Bare {
    fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Self(pair.map_err(|_| "no key")?))
    }

    fn sign(&self, message: &[u8]) -> Result<()> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        black_box(signature.map_err(|_| "no signature")?);
        Ok(())
    }
}

/// Returns a provider with a cached token, of a client with an in-memory OpenID provider.
fn provider(key: Option<DpopKey>, runtime: &Runtime) -> Result<TokenProvider> {
    let token_type = if key.is_some() { "DPoP" } else { "Bearer" };
    // A token as long as Entra's.
    let token = "a".repeat(1492);
    let body =
        format!(r#"{{"token_type":"{token_type}","expires_in":3599,"access_token":"{token}"}}"#);
    let body = Bytes::from(body);
    let authority = Authority::oidc("https://id.example.org");
    let mut builder = ConfidentialClient::builder("daemon")
        .authority(authority.token_endpoint("https://id.example.org/token"))
        .client_secret("s3cret")
        .transport(move |_: Request<Bytes>| {
            let body = body.clone();
            async move { Ok(Response::new(body)) }
        });
    if let Some(key) = key {
        builder = builder.dpop(key);
    }
    let provider = builder.build()?.token_provider("orders.read")?;
    runtime.block_on(provider.token())?;
    Ok(provider)
}

/// Returns the message that a proof's signature covers.
fn message(provider: &TokenProvider, runtime: &Runtime) -> Result<Vec<u8>> {
    let mut request = request()?;
    runtime.block_on(provider.authorize(&mut request))?;
    let proof = request.headers().get("dpop").ok_or("no proof")?.to_str()?;
    let (message, _) = proof.rsplit_once('.').ok_or("the proof has no signature")?;
    Ok(message.into())
}

fn request() -> Result<Request<()>> {
    Ok(Request::get(URL).body(())?)
}

const SIGNATURE: &str = "the bare signature, ES256 by aws-lc-rs";
const URL: &str = "https://orders.example.org/v1/orders?page=2";
const NONCE: &str = "eyJ7S_zG.eyJH0-Z.HX4w-7v";
