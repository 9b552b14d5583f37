//! Measures the cost of the adapters for a request, beside a token attached by hand.
//!
//! ```sh
//! cargo bench --bench attach
//! ```
//!
//! Nothing is sent. Each chain ends in a service that responds at once. The rows take turns, and a
//! figure is the best round of a row. A separate round counts the allocations. See `README.md`.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use confidential_client::{ConfidentialClient, TokenProvider};
use http::{Extensions, Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};

/// The name of a row, and a function that sends a number of requests.
type Row<'a> = (&'a str, &'a dyn Fn(usize) -> Result<()>);
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ORIGIN: &str = "https://graph.microsoft.com";
const USERS: &str = "https://graph.microsoft.com/v1.0/users";

fn main() -> Result<()> {
    // `cargo test` runs the benchmark, too, and needs no figures.
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        true => (200, 2_000),
        false => (2, 10),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let provider = provider(&runtime)?;
    let auth = BearerAuth::new(provider.clone(), [ORIGIN])?;
    let tower = tower::service_fn(respond);
    let layered = BearerAuthLayer::new(auth.clone()).retry_with(|body: &Bytes| Some(body.clone()));
    let layered = layered.layer(tower);
    let plain = || ClientBuilder::new(reqwest::Client::new());
    let by_hand = plain().with(Respond).build();
    let middleware = plain().with(auth).with(Respond).build();

    let rows: [Row<'_>; 5] = [
        ("tower, no token", &|calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    black_box(tower.oneshot(request()?).await?);
                }
                Ok(())
            })
        }),
        ("tower, by hand", &|calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let mut request = request()?;
                    provider.authorize(request.headers_mut()).await?;
                    black_box(tower.oneshot(request).await?);
                }
                Ok(())
            })
        }),
        ("tower, `BearerAuthLayer`", &|calls| {
            runtime.block_on(layers(&layered, calls))
        }),
        ("reqwest-middleware, by hand", &|calls| {
            runtime.block_on(sent_by_hand(&by_hand, &provider, calls))
        }),
        ("reqwest-middleware, `BearerAuth`", &|calls| {
            runtime.block_on(sent(&middleware, calls))
        }),
    ];
    let mut best = rows.map(|_| Duration::MAX);
    for _ in 0..rounds {
        for ((_, run), best) in rows.iter().zip(&mut best) {
            let began = Instant::now();
            run(calls)?;
            *best = began.elapsed().min(*best);
        }
    }
    println!("Least of {rounds} rounds of {calls} calls.\n");
    println!("| a request | ns | allocations |\n| --- | ---: | ---: |");
    for ((name, run), best) in rows.iter().zip(best) {
        let region = Region::new(ALLOCATOR);
        run(calls)?;
        let allocations = region.change().allocations as f64 / calls as f64;
        let ns = best.as_nanos() as f64 / calls as f64;
        println!("| {name} | {ns:.0} | {allocations:.1} |");
    }
    Ok(())
}

async fn layers<S>(service: &S, calls: usize) -> Result<()>
where
    S: Service<Request<Bytes>, Error: std::error::Error + 'static> + Clone,
{
    for _ in 0..calls {
        black_box(service.clone().oneshot(request()?).await?);
    }
    Ok(())
}

async fn sent(http: &ClientWithMiddleware, calls: usize) -> Result<()> {
    for _ in 0..calls {
        black_box(http.get(USERS).send().await?);
    }
    Ok(())
}

async fn sent_by_hand(
    http: &ClientWithMiddleware,
    provider: &TokenProvider,
    calls: usize,
) -> Result<()> {
    for _ in 0..calls {
        let mut request = http.get(USERS).build()?;
        provider.authorize(request.headers_mut()).await?;
        black_box(http.execute(request).await?);
    }
    Ok(())
}

fn request() -> Result<Request<Bytes>> {
    Ok(Request::get(USERS).body(Bytes::new())?)
}

async fn respond(
    _: Request<Bytes>,
) -> std::result::Result<Response<Bytes>, std::convert::Infallible> {
    Ok(Response::new(Bytes::new()))
}

/// The last middleware of a chain, which responds without a network.
struct Respond;

#[async_trait::async_trait]
impl Middleware for Respond {
    async fn handle(
        &self,
        _: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        Ok(Response::new("").into())
    }
}

fn provider(runtime: &Runtime) -> Result<TokenProvider> {
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("s3cret")
        .transport(|_: Request<Bytes>| async {
            // The length of a token of Microsoft Entra ID.
            let token = "x".repeat(1_492);
            let body =
                format!(r#"{{"token_type":"Bearer","expires_in":86399,"access_token":"{token}"}}"#);
            Ok(Response::new(Bytes::from(body)))
        })
        .build()?;
    let provider = client.token_provider(format!("{ORIGIN}/.default"))?;
    runtime.block_on(provider.token())?;
    Ok(provider)
}
