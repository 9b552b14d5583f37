//! The two hits that are measured with each kind of client.

use std::hint::black_box;
use std::time::{Duration, Instant};

use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, TokenProvider, TokenRequest,
};
use tokio::runtime::Runtime;

use crate::rounds::Rounds;
use crate::setup::{Result, SCOPE};

/// A client with one cached token.
pub(crate) struct Held<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) client: ConfidentialClient,
    pub(crate) provider: TokenProvider,
    pub(crate) request: TokenRequest,
}

impl<'a> Held<'a> {
    pub(crate) fn new(builder: ConfidentialClientBuilder, runtime: &'a Runtime) -> Result<Self> {
        let client = builder.build()?;
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
        rounds.add(TOKEN, |calls| self.token(calls))?;
        rounds.add(REQUEST, |calls| self.by_request(calls))
    }

    // Clients are compared by the same machine code. A copy at another address is some per cent
    // faster or slower.
    #[inline(never)]
    fn token(&self, calls: u32) -> Result<Duration> {
        self.runtime.block_on(async {
            let started = Instant::now();
            for _ in 0..calls {
                black_box(black_box(&self.provider).token().await?);
            }
            Ok(started.elapsed())
        })
    }

    #[inline(never)]
    fn by_request(&self, calls: u32) -> Result<Duration> {
        self.runtime.block_on(async {
            let started = Instant::now();
            for _ in 0..calls {
                let request = black_box(&self.request);
                black_box(self.client.acquire_token_for_client(request).await?);
            }
            Ok(started.elapsed())
        })
    }
}

pub(crate) const TOKEN: &str = "`provider.token().await`";
pub(crate) const REQUEST: &str = "`client.acquire_token_for_client(&request).await`";
