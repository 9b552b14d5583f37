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
    /// The first key of the next row. Each row has keys of its own, so that no row finds entries in
    /// the processor's caches that another row has just used.
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

    fn next_row(&mut self) -> usize {
        let from = self.next;
        self.next = (self.next + CALLS) % self.scopes.len();
        from
    }

    /// Measures all rows, in another order each time. Each row finds in the processor's caches what
    /// the row before left there.
    async fn round(&mut self, number: usize) -> Result<()> {
        for row in ORDERS
            .iter()
            .cycle()
            .skip(number)
            .take(1)
            .flatten()
            .copied()
        {
            let elapsed = match row {
                0 => self.by_provider().await?,
                1 => self.by_request().await?,
                _ => self.azure_identity().await?,
            };
            if let Some(least) = self.least.get_mut(row) {
                *least = elapsed.min(*least);
            }
        }
        Ok(())
    }

    async fn by_provider(&mut self) -> Result<Duration> {
        let from = self.next_row();
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for provider in self.providers.iter().cycle().skip(from).take(CALLS) {
            provider.authorize(black_box(&mut headers)).await?;
        }
        Ok(started.elapsed())
    }

    async fn by_request(&mut self) -> Result<Duration> {
        let from = self.next_row();
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for request in self.requests.iter().cycle().skip(from).take(CALLS) {
            let token = self.ours.acquire_token_for_client(request).await?;
            black_box(&mut headers).insert(AUTHORIZATION, token.authorization_header());
        }
        Ok(started.elapsed())
    }

    async fn azure_identity(&mut self) -> Result<Duration> {
        let from = self.next_row();
        let mut headers = HeaderMap::with_capacity(8);
        let started = Instant::now();
        for scope in self.scopes.iter().cycle().skip(from).take(CALLS) {
            let token = self.azure.get_token(&[scope], None).await?;
            let value = format!("Bearer {}", token.token.secret());
            let mut value = HeaderValue::try_from(value)?;
            value.set_sensitive(true);
            black_box(&mut headers).insert(AUTHORIZATION, value);
        }
        Ok(started.elapsed())
    }
}

pub async fn report(base_url: &str) -> Result<()> {
    let mut each = Vec::new();
    for entries in [1, 100_000] {
        each.push((entries, Caches::fill(base_url, entries).await?));
    }
    for round in 0..ROUNDS {
        for (_, caches) in &mut each {
            caches.round(round).await?;
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

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
    [0, 2, 1],
    [2, 0, 1],
    [1, 0, 2],
];
const CALLS: usize = 10_000;
const ROUNDS: usize = 200;
