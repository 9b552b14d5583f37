//! Random calls, responses and clock steps, each call compared with a [`Reference`] cache.
//!
//! Each property runs 256 sequences, or the number in `PROPTEST_CASES`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{
    AccessToken, CacheOptions, ConfidentialClient, Error, RetryPolicy, TokenRequest,
};
use http::{Request, Response};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

mod call;
mod reference;
mod time;

use call::{Answer, Ask, Kind, Seen, SeenError, SeenToken};
use reference::Reference;
use time::Now;

use crate::support::{CLIENT_ID, SECRET, TENANT, scope};

#[derive(Clone, Debug)]
enum Step {
    /// A call, and the provider's response to a possible request.
    Acquire(usize, Wish, Answer),
    Cached(usize),
    Invalidate(usize, Which),
    Clear,
    Time(Duration),
    Wall(Duration),
    WallBack(Duration),
    Monotonic(Duration),
}

#[derive(Clone, Debug)]
enum Wish {
    Plain,
    /// A read through a provider.
    Provider,
    ForceRefresh,
    MinRemaining(Duration),
    Rejected(Which),
    Claims(&'static str),
    RejectedWithClaims(Which, &'static str),
}

/// Selects one of the tokens returned for a key.
#[derive(Clone, Copy, Debug)]
enum Which {
    Latest,
    Earlier(prop::sample::Index),
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_key(steps in vec(step(1, answer()), 1..60)) {
        run(&steps, 10_000, None);
    }

    #[test]
    fn keys_that_share_a_host(steps in vec(step(5, answer()), 1..100)) {
        run(&steps, 10_000, None);
    }

    /// Without outages: the circuit breaker counts slots, and an evicted key returns in a new slot.
    #[test]
    fn more_keys_than_there_is_room_for(steps in vec(step(7, no_outage()), 1..100)) {
        run(&steps, 2, Some(0));
    }
}

fn run(steps: &[Step], max_entries: usize, held: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut bench = Bench::new(max_entries, held);
        let _provider = held.map(|key| bench.client.token_provider(scope(key)).unwrap());
        for step in steps {
            bench.take(step).await;
            assert_eq!(bench.requests(), bench.reference.requests());
            assert_eq!(bench.client.cache().len(), bench.reference.len());
        }
    });
}

/// The library and the reference.
struct Bench {
    client: ConfidentialClient,
    provider: Arc<Mutex<Provider>>,
    /// A key with a provider during the whole run.
    held: Option<usize>,
    clock: ManualClock,
    started: Instant,
    reference: Reference,
    /// Returned tokens, with their keys.
    given: Vec<(usize, AccessToken)>,
}

struct Provider {
    requests: usize,
    next: Answer,
}

impl Bench {
    fn new(max_entries: usize, held: Option<usize>) -> Self {
        let clock = ManualClock::new();
        let provider = Arc::new(Mutex::new(Provider {
            requests: 0,
            next: Answer::Silence,
        }));
        let asked = Arc::clone(&provider);
        let client = ConfidentialClient::builder(CLIENT_ID)
            .tenant(TENANT)
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
            .cache(CacheOptions::default().max_entries(max_entries))
            .clock(clock.clone())
            .transport(move |_: Request<Bytes>| {
                let answer = asked.lock().unwrap().answer();
                async { answer }
            })
            .build()
            .unwrap();
        Self {
            client,
            provider,
            started: clock.monotonic(),
            clock,
            reference: Reference::new(max_entries, held),
            held,
            given: Vec::new(),
        }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Acquire(key, wish, answer) => self.acquire(*key, wish, *answer).await,
            Step::Cached(key) => {
                // Where there is no room for all, by the provider that is held.
                let key = &self.held.unwrap_or(*key);
                let evicted = self.client.cache().stats().evictions;
                let provider = self.client.token_provider(scope(*key)).unwrap();
                let cached = provider.cached().map(|token| number(&token));
                let evicted = self.client.cache().stats().evictions - evicted;
                assert_eq!(cached, self.reference.cached(*key, evicted, self.now()));
            }
            Step::Invalidate(key, which) => {
                if let Some(token) = self.given(*key, *which) {
                    self.client.invalidate(&token);
                    let now = self.now();
                    self.reference.invalidate(*key, number(&token), now);
                }
            }
            Step::Clear => {
                self.client.cache().clear();
                self.reference.clear();
            }
            Step::Time(by) => self.clock.advance(*by),
            Step::Wall(by) => self.clock.advance_wall(*by),
            Step::WallBack(by) => self.clock.turn_wall_back(*by),
            Step::Monotonic(by) => {
                self.clock.advance(*by);
                self.clock.turn_wall_back(*by);
            }
        }
    }

    async fn acquire(&mut self, key: usize, wish: &Wish, answer: Answer) {
        let key = match wish {
            Wish::Provider => self.held.unwrap_or(key),
            _ => key,
        };
        self.provider.lock().unwrap().next = answer;
        let (requests, evicted) = (self.requests(), self.client.cache().stats().evictions);
        let (request, ask) = self.request(key, wish);
        let told = match wish {
            Wish::Provider => {
                let provider = self.client.token_provider(request).unwrap();
                provider.token().await
            }
            _ => self.client.acquire_token_for_client(request).await,
        };
        // For a refresh that the call may have started.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let seen = Seen {
            told: told.as_ref().map(seen_token).map_err(seen_error),
            requests: self.requests() - requests,
            evicted: self.client.cache().stats().evictions - evicted,
        };
        let now = self.now();
        self.reference.acquire(key, ask, answer, &seen, now);
        self.given.extend(told.ok().map(|token| (key, token)));
    }

    /// Returns the request for the library and for the reference.
    fn request(&self, key: usize, wish: &Wish) -> (TokenRequest, Ask) {
        let mut request = TokenRequest::new(scope(key));
        let mut ask = Ask::default();
        if let Wish::Claims(claims) | Wish::RejectedWithClaims(_, claims) = wish {
            request = request.claims(*claims);
            ask.claims = Some(claims);
        }
        if let Wish::Rejected(which) | Wish::RejectedWithClaims(which, _) = wish
            && let Some(token) = self.given(key, *which)
        {
            request = request.rejected_token(&token);
            ask.rejected = Some(number(&token));
        }
        if let Wish::ForceRefresh = wish {
            request = request.force_refresh();
            ask.force_refresh = true;
        }
        if let Wish::MinRemaining(min_remaining) = wish {
            request = request.min_remaining(*min_remaining);
            ask.min_remaining = *min_remaining;
        }
        (request, ask)
    }

    fn given(&self, key: usize, which: Which) -> Option<AccessToken> {
        let given = self.given.iter().filter(|(of, _)| *of == key);
        let given: Vec<&AccessToken> = given.map(|(_, token)| token).collect();
        let token = match which {
            _ if given.is_empty() => return None,
            Which::Latest => given[given.len() - 1],
            Which::Earlier(index) => index.get(&given),
        };
        Some(token.clone())
    }

    fn requests(&self) -> usize {
        self.provider.lock().unwrap().requests
    }

    fn now(&self) -> Now {
        Now {
            wall: self.clock.wall().duration_since(UNIX_EPOCH).unwrap(),
            monotonic: self.clock.monotonic() - self.started,
        }
    }
}

impl Provider {
    fn answer(&mut self) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        self.requests += 1;
        let response = match self.next {
            Answer::Token {
                lifetime,
                refresh_in,
            } => {
                let body = serde_json::json!({
                    "token_type": "Bearer",
                    "access_token": self.requests.to_string(),
                    "expires_in": lifetime.as_secs(),
                    "refresh_in": refresh_in.map(|refresh_in| refresh_in.as_secs()),
                });
                Response::builder().body(body.to_string())
            }
            Answer::Silence => return Err("no route".into()),
            Answer::Broken => Response::builder().status(500).body(String::new()),
            Answer::Throttled(wait) => Response::builder()
                .status(429)
                .header("retry-after", wait.as_secs())
                .body(String::new()),
            Answer::Refused => Response::builder()
                .status(401)
                .body(r#"{"error":"invalid_client"}"#.to_owned()),
        };
        Ok(response.unwrap().map(Bytes::from))
    }
}

fn number(token: &AccessToken) -> usize {
    token.secret().parse().unwrap()
}

fn seen_token(token: &AccessToken) -> SeenToken {
    SeenToken {
        number: number(token),
        source: token.source(),
        refresh_on: token.refresh_on().duration_since(UNIX_EPOCH).unwrap(),
    }
}

fn seen_error(error: &Error) -> SeenError {
    SeenError {
        kind: match error {
            Error::Transport(_) => Kind::Transport,
            Error::InvalidResponse(_) => Kind::InvalidResponse,
            Error::Throttled(_) => Kind::Throttled,
            Error::Server(_) => Kind::Server,
            other => panic!("{other:?}"),
        },
        retry_after: error.retry_after(),
    }
}

fn step(keys: usize, answer: BoxedStrategy<Answer>) -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..keys, wish(), answer).prop_map(|(key, wish, answer)| Step::Acquire(key, wish, answer)),
        1 => (0..keys).prop_map(Step::Cached),
        1 => (0..keys, which()).prop_map(|(key, which)| Step::Invalidate(key, which)),
        6 => duration().prop_map(Step::Time),
        1 => duration().prop_map(Step::Wall),
        1 => duration().prop_map(Step::WallBack),
        1 => duration().prop_map(Step::Monotonic),
        // Rarely, since clearing removes all state.
        1 => option::weighted(0.3, Just(Step::Clear))
            .prop_map(|step| step.unwrap_or(Step::Time(Duration::from_secs(1)))),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let claims = || prop::sample::select(vec![r#"{"a":1}"#, r#"{"b":1}"#, r#"{"c":1}"#]);
    prop_oneof![
        6 => Just(Wish::Plain),
        2 => Just(Wish::Provider),
        1 => Just(Wish::ForceRefresh),
        1 => duration().prop_map(Wish::MinRemaining),
        2 => which().prop_map(Wish::Rejected),
        1 => claims().prop_map(Wish::Claims),
        1 => (which(), claims()).prop_map(|(which, claims)| Wish::RejectedWithClaims(which, claims)),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        Just(Which::Latest),
        any::<prop::sample::Index>().prop_map(Which::Earlier)
    ]
}

fn answer() -> BoxedStrategy<Answer> {
    prop_oneof![
        4 => no_outage(),
        3 => prop_oneof![Just(Answer::Silence), Just(Answer::Broken)],
    ]
    .boxed()
}

fn no_outage() -> BoxedStrategy<Answer> {
    let refresh_in = option::weighted(0.3, duration());
    prop_oneof![
        6 => (duration(), refresh_in)
            .prop_map(|(lifetime, refresh_in)| Answer::Token { lifetime, refresh_in }),
        1 => duration().prop_map(Answer::Throttled),
        1 => Just(Answer::Refused),
    ]
    .boxed()
}

/// From a second to a day and a half, with round values more often.
fn duration() -> impl Strategy<Value = Duration> {
    let seconds = prop_oneof![
        prop::sample::select(vec![1, 2, 5, 10, 30, 60, 300, 1800, 3300, 3590, 3600, 7200]),
        1..60_u64,
        1..4000_u64,
        1..130_000_u64,
    ];
    seconds.prop_map(Duration::from_secs)
}
