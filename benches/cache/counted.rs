//! A hit of a client that counts its hits.

use std::hint::black_box;
use std::time::Instant;

use confidential_client::{
    CacheOptions, ConfidentialClient, ConfidentialClientBuilder, TokenProvider, TokenRequest,
};
use tokio::runtime::Runtime;

use crate::hits::{REQUEST, TOKEN};
use crate::rounds::Rounds;
use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};
use crate::threads::{poll_once, together};

pub(crate) struct CountedHits<'a> {
    runtime: &'a Runtime,
    client: ConfidentialClient,
    providers: [TokenProvider; 2],
    request: TokenRequest,
}

pub(crate) fn builder() -> ConfidentialClientBuilder {
    let options = CacheOptions::default()
        .max_entries(200_000)
        .count_hits(true);
    setup::builder().cache(options)
}

impl<'a> CountedHits<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Result<Self> {
        let client = builder().build()?;
        let request = TokenRequest::new(SCOPE);
        let providers = [
            client.token_provider(&request)?,
            client.token_provider(setup::request(1))?,
        ];
        for provider in &providers {
            runtime.block_on(provider.token())?;
        }
        Ok(Self {
            runtime,
            client,
            providers,
            request,
        })
    }

    pub(crate) fn round(&self, rounds: &mut Rounds) -> Result<()> {
        let Self {
            runtime,
            client,
            providers: [provider, other],
            request,
        } = self;
        rounds.add(COUNTED_TOKEN, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    black_box(black_box(provider).token().await?);
                }
                Ok(started.elapsed())
            })
        })?;
        rounds.add(COUNTED_REQUEST, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    let request = black_box(request);
                    black_box(client.acquire_token_for_client(request).await?);
                }
                Ok(started.elapsed())
            })
        })?;
        let [first, second] = [provider, other].map(|provider| {
            move || {
                black_box(black_box(provider).cached());
            }
        });
        let by_request = || {
            let hit = client.acquire_token_for_client(black_box(request));
            black_box(poll_once(hit));
        };
        rounds.add(ONE, |calls| together(calls, &[&first]))?;
        rounds.add(APART, |calls| together(calls, &[&first, &second]))?;
        rounds.add(SAME, |calls| together(calls, &[&first, &first]))?;
        rounds.add(ONE_BY_REQUEST, |calls| together(calls, &[&by_request]))?;
        rounds.add(BY_REQUEST, |calls| {
            together(calls, &[&by_request, &by_request])
        })
    }
}

pub(crate) fn report(rounds: &Rounds) -> Result<()> {
    println!("With counted hits, beside the same without counting.\n");
    let mut table = Table::new(["hit", "ns", "ratio"]);
    for (name, without) in [(COUNTED_TOKEN, TOKEN), (COUNTED_REQUEST, REQUEST)] {
        table.row([
            without.to_owned(),
            format!("{:.1}", rounds.ns(name)?),
            format!("{:.3}", rounds.ns(name)? / rounds.ns(without)?),
        ]);
    }
    table.print();
    println!("Two threads at once with counted hits: how many times the hits of one.\n");
    let mut table = Table::new(["two threads", "ratio", "goal", "verdict"]);
    for (name, one, goal) in [
        (APART, ONE, 1.8),
        (SAME, ONE, 1.5),
        (BY_REQUEST, ONE_BY_REQUEST, 1.5),
    ] {
        let times = 2.0 * rounds.ns(one)? / rounds.ns(name)?;
        table.row([
            name.to_owned(),
            format!("{times:.2}"),
            format!("at least {goal}"),
            verdict(times >= goal),
        ]);
    }
    table.print();
    Ok(())
}

const COUNTED_TOKEN: &str = "token(), counted";
const COUNTED_REQUEST: &str = "by request, counted";
const ONE: &str = "one thread, counted";
const APART: &str = "`cached()` of two providers, counted";
const SAME: &str = "`cached()` of one provider, counted";
const ONE_BY_REQUEST: &str = "one thread by request, counted";
const BY_REQUEST: &str = "by one `&request`, counted";
