//! A hit with each public method, on one thread.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use confidential_client::delegated::UserAssertion;
use confidential_client::{TokenRequest, blocking};
use http::{HeaderMap, Request, Response};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::held::{Held, REQUEST, TOKEN};
use crate::rounds::Rounds;
use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};

pub(crate) struct Hits<'a> {
    held: Held<'a>,
    /// The access token of a user's call.
    user_token: String,
    assertion: UserAssertion,
}

impl<'a> Hits<'a> {
    pub(crate) fn new(runtime: &'a Runtime) -> Result<Self> {
        let held = Held::new(setup::builder(), runtime)?;
        let user_token = setup::user_token();
        let assertion = UserAssertion::new(&user_token);
        let acquiring = held
            .client
            .acquire_token_on_behalf_of(&assertion, &held.request);
        runtime.block_on(acquiring)?;
        Ok(Self {
            held,
            user_token,
            assertion,
        })
    }

    pub(crate) fn round(&self, rounds: &mut Rounds) -> Result<()> {
        self.held.round(rounds)?;
        let Held {
            runtime,
            client,
            provider,
            ..
        } = &self.held;
        rounds.add(CACHED, |calls| {
            let started = Instant::now();
            for _ in 0..calls {
                black_box(black_box(provider).cached());
            }
            Ok(started.elapsed())
        })?;
        rounds.add(AUTHORIZE, |calls| {
            let mut headers = HeaderMap::with_capacity(8);
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    black_box(provider)
                        .authorize(black_box(&mut headers))
                        .await?;
                }
                Ok(started.elapsed())
            })
        })?;
        rounds.add(TEXT, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    let scope = black_box(SCOPE);
                    black_box(client.acquire_token_for_client(scope).await?);
                }
                Ok(started.elapsed())
            })
        })?;
        self.blocking(rounds)?;
        self.on_behalf_of(rounds)?;
        self.beside_a_hanging_fetch(rounds)
    }

    /// The same hits without a future, on the same client.
    fn blocking(&self, rounds: &mut Rounds) -> Result<()> {
        let client = blocking::ConfidentialClient::from(self.held.client.clone());
        let provider = blocking::TokenProvider::from(self.held.provider.clone());
        rounds.add(BLOCKING_TOKEN, |calls| {
            let started = Instant::now();
            for _ in 0..calls {
                black_box(black_box(&provider).token()?);
            }
            Ok(started.elapsed())
        })?;
        rounds.add(BLOCKING_AUTHORIZE, |calls| {
            let mut headers = HeaderMap::with_capacity(8);
            let started = Instant::now();
            for _ in 0..calls {
                black_box(&provider).authorize(black_box(&mut headers))?;
            }
            Ok(started.elapsed())
        })?;
        rounds.add(BLOCKING_REQUEST, |calls| {
            let started = Instant::now();
            for _ in 0..calls {
                let request = black_box(&self.held.request);
                black_box(client.acquire_token_for_client(request)?);
            }
            Ok(started.elapsed())
        })?;
        rounds.add(BLOCKING_TEXT, |calls| {
            let started = Instant::now();
            for _ in 0..calls {
                let scope = black_box(SCOPE);
                black_box(client.acquire_token_for_client(scope)?);
            }
            Ok(started.elapsed())
        })
    }

    fn on_behalf_of(&self, rounds: &mut Rounds) -> Result<()> {
        let Held {
            runtime,
            client,
            request,
            ..
        } = &self.held;
        rounds.add(HASH, |calls| {
            let started = Instant::now();
            for _ in 0..calls {
                black_box(Sha256::digest(black_box(self.user_token.as_bytes())));
            }
            Ok(started.elapsed())
        })?;
        rounds.add(ON_BEHALF_OF, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    let assertion = black_box(&self.assertion);
                    black_box(
                        client
                            .acquire_token_on_behalf_of(assertion, request)
                            .await?,
                    );
                }
                Ok(started.elapsed())
            })
        })?;
        rounds.add(NEW_ASSERTION, |calls| {
            runtime.block_on(async {
                let started = Instant::now();
                for _ in 0..calls {
                    let assertion = UserAssertion::new(black_box(&self.user_token));
                    black_box(
                        client
                            .acquire_token_on_behalf_of(&assertion, request)
                            .await?,
                    );
                }
                Ok(started.elapsed())
            })
        })
    }

    fn beside_a_hanging_fetch(&self, rounds: &mut Rounds) -> Result<()> {
        // A new client for each round, because a token request times out after 30 seconds.
        let client = setup::bare_builder()
            .transport(|request: Request<Bytes>| async move {
                if request.uri().path().contains("hangs") {
                    std::future::pending::<()>().await;
                }
                Ok(Response::new(setup::token_response(0)))
            })
            .build()?;
        let provider = client.token_provider(&self.held.request)?;
        let request = TokenRequest::new(SCOPE);
        self.held.runtime.block_on(async {
            provider.token().await?;
            let hanging_request = TokenRequest::new(SCOPE).tenant("hangs.example.org");
            let hanging_client = client.clone();
            let hanging = tokio::spawn(async move {
                hanging_client
                    .acquire_token_for_client(&hanging_request)
                    .await
            });
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            let started = Instant::now();
            for _ in 0..rounds.calls() {
                black_box(black_box(&provider).token().await?);
            }
            rounds.record(PROVIDER_BESIDE, started.elapsed());
            let started = Instant::now();
            for _ in 0..rounds.calls() {
                let request = black_box(&request);
                black_box(client.acquire_token_for_client(request).await?);
            }
            rounds.record(REQUEST_BESIDE, started.elapsed());
            if hanging.is_finished() {
                return Err("the hanging token request completed".into());
            }
            hanging.abort();
            Ok(())
        })
    }
}

pub(crate) fn report(rounds: &Rounds) -> Result<()> {
    let ns = |name| rounds.ns(name);
    let floor = ns("one clock read")? + ns("`ArcSwap` load")? + ns("`Arc` clone")?;
    let header = ns("`HeaderValue` clone and insert")?;
    let rows = [
        (CACHED, "one clock read + load + clone", floor, Some(1.1)),
        (TOKEN, "`cached()`", ns(CACHED)?, Some(1.25)),
        (
            AUTHORIZE,
            "`token()` + header clone and insert",
            ns(TOKEN)? + header,
            Some(1.5),
        ),
        (ON_BEHALF_OF, "by `&request`", ns(REQUEST)?, None),
        (
            NEW_ASSERTION,
            "the same + SHA-256 of the assertion",
            ns(ON_BEHALF_OF)? + ns(HASH)?,
            Some(1.25),
        ),
        // The goal is no cost. Two equal measurements differ by up to 5 %.
        (PROVIDER_BESIDE, "alone", ns(TOKEN)?, Some(1.05)),
        (REQUEST_BESIDE, "alone", ns(REQUEST)?, Some(1.05)),
        (BLOCKING_TOKEN, "async", ns(TOKEN)?, Some(1.05)),
        (BLOCKING_AUTHORIZE, "async", ns(AUTHORIZE)?, Some(1.05)),
        (BLOCKING_REQUEST, "async", ns(REQUEST)?, Some(1.05)),
        (BLOCKING_TEXT, "async", ns(TEXT)?, Some(1.05)),
    ];
    let mut table = Table::new(["hit", "ns", "beside", "ns", "ratio", "goal", "verdict"]);
    for (name, beside, base, goal) in rows {
        let ratio = ns(name)? / base;
        table.row([
            name.to_owned(),
            format!("{:.1}", ns(name)?),
            beside.to_owned(),
            format!("{base:.1}"),
            format!("{ratio:.2}"),
            goal.map_or_else(|| "none".to_owned(), |goal| format!("at most {goal}")),
            goal.map_or_else(String::new, |goal| verdict(ratio <= goal)),
        ]);
    }
    table.print();
    let mut table = Table::new([
        "hit",
        "ns",
        "ns above `provider.token()`",
        "goal",
        "verdict",
    ]);
    for (name, goal) in [(REQUEST, 10.0), (TEXT, 35.0)] {
        let above = ns(name)? - ns(TOKEN)?;
        table.row([
            name.to_owned(),
            format!("{:.1}", ns(name)?),
            format!("{above:.1}"),
            format!("at most {goal}"),
            verdict(above <= goal),
        ]);
    }
    table.print();
    Ok(())
}

const CACHED: &str = "`provider.cached()`";
const AUTHORIZE: &str = "`provider.authorize(&mut headers).await`";
const TEXT: &str = "`client.acquire_token_for_client(\"https://..\").await`";
const BLOCKING_TOKEN: &str = "`provider.token()`, blocking";
const BLOCKING_AUTHORIZE: &str = "`provider.authorize(&mut headers)`, blocking";
const BLOCKING_REQUEST: &str = "`client.acquire_token_for_client(&request)`, blocking";
const BLOCKING_TEXT: &str = "`client.acquire_token_for_client(\"https://..\")`, blocking";
const HASH: &str = "SHA-256 of the assertion";
const ON_BEHALF_OF: &str = "`client.acquire_token_on_behalf_of(&assertion, &request).await`";
const NEW_ASSERTION: &str = "the same with `UserAssertion::new(..)` at each call";
const PROVIDER_BESIDE: &str = "`provider.token().await` while another key's fetch hangs";
const REQUEST_BESIDE: &str = "by `&request` while another key's fetch hangs";
