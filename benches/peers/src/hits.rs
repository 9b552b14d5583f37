//! The cost of a hit, with the header of the outgoing request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use azure_core::credentials::TokenCredential;
use confidential_client::{ConfidentialClient, TokenProvider, TokenRequest};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::{Result, SECRET, clients, verdict};

/// The caches of both libraries, filled with the same tokens.
struct Caches {
    scopes: Vec<String>,
    requests: Vec<TokenRequest>,
    providers: Vec<TokenProvider>,
    ours: ConfidentialClient,
    azure: std::sync::Arc<dyn TokenCredential>,
    /// The first key of the next round. The keys of a round were not used recently.
    next: usize,
    least: [Duration; 3],
}

impl Caches {
    async fn fill(base_url: &str, entries: usize) -> Result<Self> {
        let ours = clients::ours(base_url).client_secret(SECRET).build()?;
        let azure = clients::azure_identity(base_url)?;
        let mut scopes: Vec<String> = (0..entries)
            .map(|number| format!("https://r{number}.example.org/.default"))
            .collect();
        for scope in &scopes {
            ours.acquire_token_for_client(scope.as_str()).await?;
            azure.get_token(&[scope], None).await?;
        }
        crate::shuffle(&mut scopes);
        let requests: Vec<TokenRequest> = scopes.iter().map(TokenRequest::new).collect();
        let mut providers = Vec::new();
        for request in &requests {
            providers.push(ours.token_provider(request)?);
        }
        Ok(Self {
            scopes,
            requests,
            providers,
            ours,
            azure,
            next: 0,
            least: [Duration::MAX; 3],
        })
    }

    async fn round(&mut self) -> Result<()> {
        let mut headers = HeaderMap::with_capacity(8);
        let from = self.next;
        self.next = (self.next + CALLS) % self.scopes.len();

        let started = Instant::now();
        for provider in self.providers.iter().cycle().skip(from).take(CALLS) {
            provider.authorize(black_box(&mut headers)).await?;
        }
        let by_provider = started.elapsed();

        let started = Instant::now();
        for request in self.requests.iter().cycle().skip(from).take(CALLS) {
            let token = self.ours.acquire_token_for_client(request).await?;
            black_box(&mut headers).insert(AUTHORIZATION, token.authorization_header());
        }
        let by_request = started.elapsed();

        let started = Instant::now();
        for scope in self.scopes.iter().cycle().skip(from).take(CALLS) {
            let token = self.azure.get_token(&[scope], None).await?;
            let value = format!("Bearer {}", token.token.secret());
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            black_box(&mut headers).insert(AUTHORIZATION, value);
        }
        let azure = started.elapsed();

        for (least, elapsed) in self.least.iter_mut().zip([by_provider, by_request, azure]) {
            *least = elapsed.min(*least);
        }
        Ok(())
    }
}

pub async fn report(base_url: &str) -> Result<()> {
    let mut each = Vec::new();
    for entries in [1, 100_000] {
        each.push((entries, Caches::fill(base_url, entries).await?));
    }
    for _ in 0..ROUNDS {
        for (_, caches) in &mut each {
            caches.round().await?;
        }
    }
    println!("A hit with the header built, nanoseconds; least of {ROUNDS} rounds of {CALLS}.\n");
    println!("| entries | | ours | `azure_identity` | ratio | goal | verdict |");
    println!("| ---: | --- | ---: | ---: | ---: | --- | --- |");
    for (entries, caches) in each {
        let [by_provider, by_request, azure] = caches
            .least
            .map(|least| least.as_secs_f64() * 1e9 / CALLS as f64);
        for (name, ours) in [
            ("`provider.authorize(..)`", by_provider),
            ("by `&request`", by_request),
        ] {
            let times = azure / ours;
            println!(
                "| {entries} | {name} | {ours:.0} | {azure:.0} | {times:.1} | at least 4 | {} |",
                verdict(times >= 4.0)
            );
        }
    }
    println!();
    Ok(())
}

const CALLS: usize = 10_000;
const ROUNDS: u32 = 200;
