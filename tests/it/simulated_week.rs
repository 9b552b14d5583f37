//! A week of a daemon with 500 keys and a failing provider, in simulated time.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{ConfidentialClient, RetryPolicy, TokenRequest};
use http::{Request, Response};

use crate::support::{CLIENT_ID, SECRET, TENANT, scope, success};

const WEEK: u64 = 7 * 24 * 60 * 60;
const KEYS: u64 = 500;
/// Each key is asked for once in this many seconds, from `LATE` of its token's life on: what comes
/// before are hits, too many to simulate.
const PERIOD: u64 = 100;
const LATE: u64 = 2_900;
const LIFETIME: u64 = 3_599;
/// From here on the cache may renew a token, if it draws no jitter.
const DUE: u64 = LIFETIME - 300;
/// Until here it serves it.
const USABLE: u64 = LIFETIME - 10;

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Numerical Recipes' generator, of which the high bits are good.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & 0xffff_ffff;
        (self.0 >> 8) % limit
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Weather {
    Fair,
    NoAnswer,
    Unavailable,
    /// With `Retry-After`.
    Busy,
    /// 429 with `Retry-After`, for every third key.
    Throttled,
}

struct Provider {
    clock: ManualClock,
    start: SystemTime,
    /// From when to when, and what.
    weather: Vec<(Range<u64>, Weather)>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By minute.
    succeeded: BTreeMap<u64, u64>,
    failed: BTreeMap<u64, u64>,
    /// By key: when it last got a token, and until when it was told to wait.
    issued: BTreeMap<usize, u64>,
    told_to_wait: BTreeMap<usize, u64>,
}

impl Provider {
    fn now(&self) -> u64 {
        let wall = self.clock.wall();
        wall.duration_since(self.start).unwrap().as_secs()
    }

    fn weather(&self, now: u64) -> Weather {
        let mut weather = self.weather.iter();
        let current = weather.find(|(when, _)| when.contains(&now));
        current.map_or(Weather::Fair, |(_, weather)| *weather)
    }

    fn answer(
        &self,
        request: &Request<Bytes>,
    ) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
        let mut form = url::form_urlencoded::parse(request.body());
        let (_, scope) = form.find(|(name, _)| name == "scope").unwrap();
        let key = scope.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
        let now = self.now();
        let mut seen = self.seen.lock().unwrap();
        let wait = seen.told_to_wait.get(&key).copied().unwrap_or_default();
        assert!(now >= wait, "at {now} s, and told to wait until {wait} s");
        let weather = match self.weather(now) {
            Weather::Throttled if key % 3 != 0 => Weather::Fair,
            weather => weather,
        };
        if weather == Weather::Fair {
            *seen.succeeded.entry(now / 60).or_default() += 1;
            seen.issued.insert(key, now);
            return Ok(success("token", LIFETIME));
        }
        *seen.failed.entry(now / 60).or_default() += 1;
        let (status, wait) = match weather {
            Weather::NoAnswer => return Err("connection refused".into()),
            Weather::Unavailable => (503, 0),
            Weather::Busy => (503, 60),
            Weather::Throttled | Weather::Fair => (429, 120),
        };
        let mut response = Response::builder().status(status);
        if wait > 0 {
            response = response.header("retry-after", wait);
            seen.told_to_wait.insert(key, now + wait);
        }
        Ok(response.body(Bytes::new()).unwrap())
    }
}

/// Bad minutes, one to forty of them, every few hours.
fn a_week_of_weather() -> Vec<(Range<u64>, Weather)> {
    let mut random = Random(20_261_121);
    let mut weather = Vec::new();
    let mut at = 3 * 60 * 60;
    while at < WEEK {
        let end = at + 60 * (1 + random.below(40));
        let kind = match random.below(4) {
            0 => Weather::NoAnswer,
            1 => Weather::Unavailable,
            2 => Weather::Busy,
            _ => Weather::Throttled,
        };
        weather.push((at..end, kind));
        at = end + 60 * (60 + random.below(8 * 60));
    }
    weather
}

/// No caller sees an error as long as there is a token that is good; nobody is asked more often
/// than it takes; and nobody comes in herds.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "its figures are worth reading")]
async fn a_week_with_outages_and_throttling() {
    let clock = ManualClock::new();
    let provider = Arc::new(Provider {
        start: clock.wall(),
        clock: clock.clone(),
        weather: a_week_of_weather(),
        seen: Mutex::default(),
    });
    let transport = Arc::clone(&provider);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .clock(clock.clone())
        .transport(move |request: Request<Bytes>| {
            let answer = transport.answer(&request);
            async { answer }
        })
        .build()
        .unwrap();
    let requests: Vec<TokenRequest> = (0..KEYS as usize)
        .map(|key| TokenRequest::new(scope(key)))
        .collect();

    let (mut calls, mut errors) = (0_u64, 0_u64);
    for second in 0..WEEK {
        for key in ((second % PERIOD)..KEYS).step_by(PERIOD as usize) {
            let key = key as usize;
            let issued = provider.seen.lock().unwrap().issued.get(&key).copied();
            if issued.is_some_and(|issued| second < issued + LATE) {
                continue;
            }
            calls += 1;
            if let Err(error) = client.acquire_token_for_client(&requests[key]).await {
                errors += 1;
                assert!(error.is_transient(), "{error:?}");
                let ends = issued.map_or(0, |issued| issued + USABLE);
                assert!(second >= ends, "{error} at {second} of {ends} s");
            }
        }
        // A renewal is over once its task has been polled.
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    }

    let seen = provider.seen.lock().unwrap();
    let minutes = |wanted: fn(&Weather) -> bool| -> Vec<u64> {
        let bad = provider.weather.iter().filter(|(_, kind)| wanted(kind));
        bad.flat_map(|(when, _)| when.start / 60..when.end / 60)
            .collect()
    };
    let down = minutes(|kind| *kind != Weather::Throttled);
    let failed: u64 = down
        .iter()
        .filter_map(|minute| seen.failed.get(minute))
        .sum();
    let throttled = minutes(|kind| *kind == Weather::Throttled);
    let succeeded: u64 = seen.succeeded.values().sum();
    let least = KEYS * (WEEK / DUE);
    println!(
        "{calls} calls: {errors} of them without a token; {succeeded} requests that succeeded, at least {least}; \
         {failed} that failed in {} minutes without an answer, {} told to wait in {} minutes",
        down.len(),
        seen.failed.values().sum::<u64>() - failed,
        throttled.len(),
    );
    let mut histogram = BTreeMap::<u64, u64>::new();
    for minute in 0..WEEK / 60 {
        let succeeded = seen.succeeded.get(&minute).copied().unwrap_or_default();
        *histogram.entry(succeeded.div_ceil(10) * 10).or_default() += 1;
    }
    println!("requests that succeeded in a minute, up to: in how many minutes");
    for (requests, minutes) in histogram {
        println!("{requests:4}: {minutes}");
    }
    // Tokens of one moment are renewed over five minutes, and half as many more in one of them are
    // chance. Those that ended in a long outage are fetched as their callers come.
    let calm = |minute: &&u64| {
        let mut weather = provider.weather.iter();
        **minute >= 5
            && !weather.any(|(when, _)| (when.start..when.end + 600).contains(&(**minute * 60)))
    };
    let busiest = seen
        .succeeded
        .keys()
        .filter(calm)
        .map(|minute| seen.succeeded[minute])
        .max()
        .unwrap();
    println!("at most {busiest} in a calm minute");
    assert!(busiest <= KEYS / 5 * 3 / 2, "a herd of {busiest}");
    assert!(succeeded as f64 <= 1.05 * least as f64);
    assert!(failed <= 2 * down.len() as u64);
}
