//! A hit with a request as the key, among many cached entries and in a cache with one entry.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use confidential_client::{ConfidentialClient, TokenRequest};
use tokio::runtime::Runtime;

use crate::rounds::Rounds;
use crate::setup::{self, Result};
use crate::table::{Table, verdict};

pub(crate) struct Keyed<'a> {
    runtime: &'a Runtime,
    one: ConfidentialClient,
    request_of_one: Vec<TokenRequest>,
    many: ConfidentialClient,
    /// Every request once, in random order.
    shuffled: Vec<TokenRequest>,
    /// The number of requests in the small set that repeats.
    hot: usize,
    /// The first key of the next round. The keys of a round were not used recently.
    next: Cell<usize>,
}

impl<'a> Keyed<'a> {
    pub(crate) fn fill(entries: usize, hot: usize, runtime: &'a Runtime) -> Result<Self> {
        let one = setup::builder().build()?;
        let request_of_one = vec![setup::request(0)];
        runtime.block_on(fill(&one, &request_of_one))?;
        let many = setup::builder().build()?;
        let mut requests: Vec<TokenRequest> = (0..entries).map(setup::request).collect();
        runtime.block_on(fill(&many, &requests))?;
        shuffle(&mut requests);
        Ok(Self {
            runtime,
            one,
            request_of_one,
            many,
            shuffled: requests,
            hot,
            next: Cell::new(0),
        })
    }

    pub(crate) fn round(&self, rounds: &mut Rounds) -> Result<()> {
        rounds.add(ONE, |calls| {
            self.hits(&self.one, calls, self.request_of_one.iter())
        })?;
        rounds.add(HOT, |calls| {
            self.hits(&self.many, calls, self.shuffled.iter().take(self.hot))
        })?;
        rounds.add(RANDOM, |calls| {
            let start = self.next.get();
            self.next
                .set((start + calls as usize) % self.shuffled.len());
            let requests = self.shuffled.iter().cycle().skip(start);
            self.hits(&self.many, calls, requests)
        })
    }

    fn hits<'r>(
        &self,
        client: &ConfidentialClient,
        calls: u32,
        requests: impl Iterator<Item = &'r TokenRequest> + Clone,
    ) -> Result<Duration> {
        self.runtime.block_on(async {
            let started = Instant::now();
            for request in requests.cycle().take(calls as usize) {
                black_box(client.acquire_token_for_client(request).await?);
            }
            Ok(started.elapsed())
        })
    }
}

async fn fill(client: &ConfidentialClient, requests: &[TokenRequest]) -> Result<()> {
    for request in requests {
        client.acquire_token_for_client(request).await?;
    }
    Ok(())
}

/// Shuffles the items into the same order at each run.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for end in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(end, (state % (end as u64 + 1)) as usize);
    }
}

pub(crate) fn report(rounds: &Rounds, entries: usize) -> Result<()> {
    let one = rounds.ns(ONE)?;
    println!("By `&request`, in a client with {entries} entries and in one with one.\n");
    let mut table = Table::new(["keys", "ns", "ratio", "goal", "verdict"]);
    for (name, goal) in [(ONE, None), (HOT, Some(2.0)), (RANDOM, Some(8.0))] {
        let ratio = rounds.ns(name)? / one;
        table.row([
            name.to_owned(),
            format!("{:.1}", rounds.ns(name)?),
            format!("{ratio:.2}"),
            goal.map_or_else(String::new, |goal| format!("at most {goal}")),
            goal.map_or_else(String::new, |goal| verdict(ratio <= goal)),
        ]);
    }
    table.print();
    Ok(())
}

const ONE: &str = "the only one";
const HOT: &str = "a few hot ones of many";
const RANDOM: &str = "each of many in no order";
