//! A hit of a client with a shared cache, which a hit does not read.

use std::hint::black_box;
use std::time::Instant;

use confidential_client::cache::SharedCacheOptions;
use confidential_client::testing::LocalSharedCache;
use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, TokenProvider, TokenRequest,
};
use tokio::runtime::Runtime;

use crate::hits::{REQUEST, TOKEN};
use crate::rounds::Rounds;
use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};

pub(crate) struct SharedHits<'a> {
    runtime: &'a Runtime,
    client: ConfidentialClient,
    provider: TokenProvider,
    request: TokenRequest,
}

/// Returns a builder with the in-memory identity provider and a shared cache.
///
/// Without encryption, because the start of aws-lc's random numbers takes millions of instructions
/// more or less from run to run. A hit does not encrypt.
pub(crate) fn builder() -> ConfidentialClientBuilder {
    let options = SharedCacheOptions::without_encryption("the name key of the bench");
    setup::builder().shared_cache(LocalSharedCache::new(), options)
}

impl<'a> SharedHits<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Result<Self> {
        let client = builder().build()?;
        let request = TokenRequest::new(SCOPE);
        let provider = client.token_provider(&request)?;
        runtime.block_on(provider.token())?;
        Ok(Self {
            runtime,
            client,
            provider,
            request,
        })
    }

    pub(crate) fn round(&self, rounds: &mut Rounds) -> Result<()> {
        let Self {
            runtime,
            client,
            provider,
            request,
        } = self;
        rounds.add(SHARED_TOKEN, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    black_box(black_box(provider).token().await?);
                }
                Ok(started.elapsed())
            })
        })?;
        rounds.add(SHARED_REQUEST, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    let request = black_box(request);
                    black_box(client.acquire_token_for_client(request).await?);
                }
                Ok(started.elapsed())
            })
        })
    }
}

pub(crate) fn report(rounds: &Rounds) -> Result<()> {
    println!("With a shared cache, beside the same without one.\n");
    let mut table = Table::new(["hit", "ns", "ratio", "goal", "verdict"]);
    for (name, without) in [(SHARED_TOKEN, TOKEN), (SHARED_REQUEST, REQUEST)] {
        let ratio = rounds.ns(name)? / rounds.ns(without)?;
        table.row([
            without.to_owned(),
            format!("{:.1}", rounds.ns(name)?),
            format!("{ratio:.3}"),
            "at most 1.02".to_owned(),
            verdict(ratio <= 1.02),
        ]);
    }
    table.print();
    Ok(())
}

const SHARED_TOKEN: &str = "token() with a shared cache";
const SHARED_REQUEST: &str = "by request with a shared cache";
