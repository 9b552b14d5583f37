//! Hits from two threads at once.

use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use confidential_client::{
    ConfidentialClient, ConfidentialClientBuilder, TokenProvider, TokenRequest,
};
use tokio::runtime::Runtime;

use crate::rounds::Rounds;
use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};

pub(crate) struct Threads {
    client: ConfidentialClient,
    requests: [TokenRequest; 2],
    providers: [TokenProvider; 2],
}

impl Threads {
    pub(crate) fn new(builder: ConfidentialClientBuilder, runtime: &Runtime) -> Result<Self> {
        let client = builder.build()?;
        let requests = [setup::request(0), setup::request(1)];
        let [first, second] = &requests;
        let providers = [
            client.token_provider(first)?,
            client.token_provider(second)?,
        ];
        runtime.block_on(async {
            for provider in &providers {
                provider.token().await?;
            }
            for scope in [SCOPE, OTHER_SCOPE] {
                client.acquire_token_for_client(scope).await?;
            }
            Result::Ok(())
        })?;
        Ok(Self {
            client,
            requests,
            providers,
        })
    }

    pub(crate) fn round(&self, rounds: &mut Rounds) -> Result<()> {
        let clocks = || {
            black_box((std::time::SystemTime::now(), Instant::now()));
        };
        let [first, second] = self.providers.each_ref().map(|provider| {
            move || {
                black_box(black_box(provider).cached());
            }
        });
        let [by_first, by_second] = self.requests.each_ref().map(|request| {
            move || {
                let hit = self.client.acquire_token_for_client(black_box(request));
                black_box(poll_once(hit));
            }
        });
        let [by_scope, by_other_scope] = [SCOPE, OTHER_SCOPE].map(|scope| {
            move || {
                let hit = self.client.acquire_token_for_client(black_box(scope));
                black_box(poll_once(hit));
            }
        });
        rounds.add(CLOCKS[0], |calls| together(calls, &[&clocks]))?;
        rounds.add(CLOCKS[1], |calls| together(calls, &[&clocks, &clocks]))?;
        rounds.add(ONE, |calls| together(calls, &[&first]))?;
        rounds.add(APART, |calls| together(calls, &[&first, &second]))?;
        rounds.add(SHARED, |calls| together(calls, &[&first, &first]))?;
        rounds.add(ONE_BY_REQUEST, |calls| together(calls, &[&by_first]))?;
        rounds.add(BY_REQUEST, |calls| {
            together(calls, &[&by_first, &by_second])
        })?;
        rounds.add(ONE_REQUEST, |calls| {
            together(calls, &[&by_first, &by_first])
        })?;
        rounds.add(ONE_BY_SCOPE, |calls| together(calls, &[&by_scope]))?;
        rounds.add(BY_SCOPE, |calls| {
            together(calls, &[&by_scope, &by_other_scope])
        })?;
        rounds.add(ONE_SCOPE, |calls| together(calls, &[&by_scope, &by_scope]))
    }
}

/// Measures the time from the first start to the last end. Each thread runs one function `calls`
/// times.
fn together(calls: u32, functions: &[&(dyn Fn() + Sync)]) -> Result<Duration> {
    let ready = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = functions
            .iter()
            .map(|hit| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.fetch_add(1, Ordering::AcqRel);
                    while ready.load(Ordering::Acquire) < functions.len() {
                        std::hint::spin_loop();
                    }
                    let started = Instant::now();
                    for _ in 0..calls {
                        hit();
                    }
                    (started, Instant::now())
                })
            })
            .collect();
        let mut first = None;
        let mut last = None;
        for thread in threads {
            let (started, ended) = thread.join().map_err(|_| "a thread panicked")?;
            first = first.min(Some(started)).or(Some(started));
            last = last.max(Some(ended));
        }
        let elapsed = first.zip(last).map(|(first, last)| last - first);
        elapsed.ok_or_else(|| "no thread".into())
    })
}

/// Returns the output of a future that is ready at the first poll.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

pub(crate) fn report(title: &str, rounds: &Rounds) -> Result<()> {
    println!("{title}: how many times the hits of one.\n");
    let mut table = Table::new(["two threads", "ratio", "goal", "verdict"]);
    for (name, one, goal) in [
        (CLOCKS[1], CLOCKS[0], None),
        (APART, ONE, Some(1.8)),
        (SHARED, ONE, Some(1.5)),
        (BY_REQUEST, ONE_BY_REQUEST, Some(1.8)),
        (ONE_REQUEST, ONE_BY_REQUEST, Some(1.5)),
        (BY_SCOPE, ONE_BY_SCOPE, Some(1.8)),
        (ONE_SCOPE, ONE_BY_SCOPE, Some(1.5)),
    ] {
        let times = 2.0 * rounds.ns(one)? / rounds.ns(name)?;
        table.row([
            name.to_owned(),
            format!("{times:.2}"),
            goal.map_or_else(String::new, |goal| format!("at least {goal}")),
            goal.map_or_else(String::new, |goal| verdict(times >= goal)),
        ]);
    }
    table.print();
    Ok(())
}

const CLOCKS: [&str; 2] = ["two clock reads, one thread", "reading two clocks, no more"];
const ONE: &str = "one thread";
const APART: &str = "`cached()` of two providers";
const SHARED: &str = "`cached()` of one provider";
const ONE_BY_REQUEST: &str = "one thread by request";
const BY_REQUEST: &str = "by two `&request`s of one client";
const ONE_REQUEST: &str = "by one `&request`";
const ONE_BY_SCOPE: &str = "one thread by scope";
const BY_SCOPE: &str = "by the texts of two scopes";
const ONE_SCOPE: &str = "by the text of one scope";
const OTHER_SCOPE: &str = "api://other/.default";
