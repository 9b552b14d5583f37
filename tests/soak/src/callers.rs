use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use confidential_client::{
    AccessToken, ConfidentialClient, Error, TokenProvider, TokenRequest, TokenSource,
};
use tokio::time::{sleep, timeout};

use crate::authority::Authority;
use crate::fault::outage;
use crate::findings::Findings;
use crate::key::{Key, Token};
use crate::now;
use crate::random::Random;
use crate::tally::{Kind, Tally};

/// State shared by all callers.
pub struct Shared {
    pub client: ConfidentialClient,
    pub authority: Arc<Authority>,
    pub findings: Arc<Findings>,
    pub tally: Tally,
    pub stop: AtomicBool,
    places: Vec<Place>,
    /// Time at which each caller last returned from a call, in microseconds.
    progress: Vec<AtomicU64>,
}

struct Place {
    key: Key,
    request: TokenRequest,
    /// The provider of a bound key.
    provider: Option<TokenProvider>,
    /// Time until which a token of a bound key must be cached, in microseconds.
    good_until: AtomicU64,
}

/// One of many tasks that acquire tokens.
pub struct Caller {
    pub number: usize,
    pub random: Random,
    pub shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Plain,
    /// A call dropped after a few milliseconds.
    Cancelled,
    /// A read of the cache, without waiting.
    Peek,
    /// A call through the client instead of the provider.
    LookedUp,
    Lasting,
    Forced,
    Rejected,
    WithClaims,
    Invalidated,
}

impl Act {
    const OF_BOUND_KEYS: [(Self, u64); 5] = [
        (Self::Plain, 800),
        (Self::Cancelled, 80),
        (Self::Peek, 20),
        (Self::LookedUp, 100),
        (Self::Forced, 10),
    ];
    const OF_OTHERS: [(Self, u64); 7] = [
        (Self::Plain, 880),
        (Self::Cancelled, 80),
        (Self::Lasting, 20),
        (Self::Forced, 5),
        (Self::Rejected, 5),
        (Self::WithClaims, 5),
        (Self::Invalidated, 5),
    ];
}

impl Shared {
    pub fn new(
        client: ConfidentialClient,
        authority: Arc<Authority>,
        findings: Arc<Findings>,
    ) -> Result<Self, Error> {
        let places = Key::all().map(|key| {
            let request = TokenRequest::new(key.scope()).tenant(key.tenant());
            let provider = key.is_bound().then(|| client.token_provider(&request));
            Ok(Place {
                key,
                provider: provider.transpose()?,
                request,
                good_until: AtomicU64::new(0),
            })
        });
        Ok(Self {
            places: places.collect::<Result<_, Error>>()?,
            client,
            authority,
            findings,
            tally: Tally::default(),
            stop: AtomicBool::new(false),
            progress: (0..CALLERS).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Returns whether a token request is in flight, judged by the counters.
    pub fn has_flights(&self) -> bool {
        let stats = self.client.cache().stats();
        let counts = self.authority.with_ledger(|ledger| ledger.counts);
        let failed = stats.transport_errors
            + stats.server_errors
            + stats.throttled_errors
            + stats.invalid_response_errors;
        let made = counts.failed.iter().sum();
        (stats.requests, failed) != (counts.tokens + made, made)
    }

    /// Returns the caller with the longest running call, and the duration.
    pub fn slowest(&self) -> (usize, Duration) {
        let since = |progress: &AtomicU64| Duration::from_micros(progress.load(Ordering::Relaxed));
        let mut all = self
            .progress
            .iter()
            .map(since)
            .enumerate()
            .collect::<Vec<_>>();
        all.sort_by_key(|(_, since)| *since);
        let (number, since) = all.first().copied().unwrap_or_default();
        (number, now().saturating_sub(since))
    }
}

impl Caller {
    pub async fn run(mut self) {
        let progress = |shared: &Shared, now: Duration| {
            let done = shared.progress.get(self.number);
            if let Some(done) = done {
                done.store(micros(now), Ordering::Relaxed);
            }
        };
        while !self.shared.stop.load(Ordering::Relaxed) {
            let key = Key::draw(&mut self.random);
            let acts: &[(Act, u64)] = match key.is_bound() {
                true => &Act::OF_BOUND_KEYS,
                false => &Act::OF_OTHERS,
            };
            let act = self.random.pick(acts).unwrap_or(Act::Plain);
            let patience = self.random.millis(1..8);
            if let Some(place) = self.shared.places.get(key.index()) {
                self.shared.act(place, act, patience).await;
            }
            progress(&self.shared, now());
            let pause = self.random.millis(0..80);
            sleep(pause).await;
        }
        progress(&self.shared, Duration::MAX);
    }
}

impl Shared {
    async fn act(&self, place: &Place, act: Act, patience: Duration) {
        let began = now();
        let known = Duration::from_micros(place.good_until.load(Ordering::Relaxed));
        let result = match act {
            Act::Plain => self.plain(place).await,
            Act::Cancelled => match timeout(patience, self.plain(place)).await {
                Ok(result) => result,
                Err(_) => return self.cancelled(place, known),
            },
            Act::Peek => match place.provider.as_ref().map(TokenProvider::cached) {
                Some(None) => return self.expect_none(place, known),
                Some(Some(token)) => Ok(token),
                None => self.plain(place).await,
            },
            Act::LookedUp => self.client.acquire_token_for_client(&place.request).await,
            Act::Lasting => {
                let request = place.request.clone().min_remaining(Duration::from_secs(2));
                self.client.acquire_token_for_client(request).await
            }
            Act::Forced => {
                self.authority.with_ledger(|ledger| ledger.force(place.key));
                let request = place.request.clone().force_refresh();
                self.client.acquire_token_for_client(request).await
            }
            Act::Rejected | Act::WithClaims | Act::Invalidated => {
                return Box::pin(self.reject(place, act, patience)).await;
            }
        };
        self.check(place, act, (began, known), &result);
    }

    async fn plain(&self, place: &Place) -> Result<AccessToken, Error> {
        match &place.provider {
            Some(provider) => provider.token().await,
            None => self.client.acquire_token_for_client(&place.request).await,
        }
    }

    /// Reports that an API rejected the token.
    async fn reject(&self, place: &Place, act: Act, patience: Duration) {
        let began = now();
        let result = self.plain(place).await;
        self.check(place, Act::Plain, (began, Duration::ZERO), &result);
        let Ok(token) = result else { return };
        self.authority
            .with_ledger(|ledger| ledger.license(place.key));
        let began = now();
        let mut request = place.request.clone();
        match act {
            Act::Invalidated => self.client.invalidate(&token),
            Act::WithClaims => {
                // Two different challenges, so that callers wait for each other's requests.
                let value = patience.as_millis();
                let claims = format!(r#"{{"access_token":{{"nbf":{{"value":"{value}"}}}}}}"#);
                request = request.rejected_token(&token).claims(claims);
            }
            _ => request = request.rejected_token(&token),
        }
        let result = self.client.acquire_token_for_client(request).await;
        self.check(place, act, (began, Duration::ZERO), &result);
    }

    /// Counts a dropped call, which must not happen while a token is cached.
    fn cancelled(&self, place: &Place, known: Duration) {
        let ended = now();
        self.tally.cancelled.fetch_add(1, Ordering::Relaxed);
        self.findings.expect(
            known < ended,
            "a call that waited despite a cached token",
            || format!("{:?}", place.key),
        );
    }

    fn expect_none(&self, place: &Place, known: Duration) {
        let ended = now();
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        self.findings
            .expect(known < ended, "a valid token was not there", || {
                format!("{:?}", place.key)
            });
    }

    fn check(
        &self,
        place: &Place,
        act: Act,
        (began, known): (Duration, Duration),
        result: &Result<AccessToken, Error>,
    ) {
        let ended = now();
        let key = place.key;
        self.tally.took(ended.saturating_sub(began));
        self.findings
            .expect(ended - began < LONGEST_CALL, "a call without end", || {
                format!("{key:?} {act:?}: {} s", (ended - began).as_secs())
            });
        match result {
            Ok(token) => {
                let is_hit = token.source() == TokenSource::Cache;
                self.tally.got(is_hit, is_hit && outage(began).is_some());
                self.findings.expect(
                    is_hit || known < ended || act == Act::Forced,
                    "a request despite a cached token",
                    || format!("{key:?} {act:?}"),
                );
                self.check_token(place, act, token, (began, ended));
            }
            Err(error) => {
                self.findings
                    .expect(known < ended, "a valid token was withheld", || {
                        format!("{key:?} {act:?}: {}", error.chain())
                    });
                match Kind::of(error) {
                    Some(kind) => self.tally.failed(kind),
                    None => self.findings.add("an unexpected kind of error", || {
                        format!("{key:?} {act:?}: {error:?}")
                    }),
                }
            }
        }
    }

    fn check_token(
        &self,
        place: &Place,
        act: Act,
        token: &AccessToken,
        (began, ended): (Duration, Duration),
    ) {
        let key = place.key;
        let Some(claims) = Token::parse(token.secret()) else {
            return self
                .findings
                .add("a token that was never issued", || format!("{key:?}"));
        };
        self.findings.expect(
            claims.key == key,
            "a token of another tenant or scope",
            || format!("{key:?} {act:?}: {:?}", claims.key),
        );
        // The scheduler may have delayed the caller after the call.
        let served = ended.saturating_sub(HELD_UP).max(began);
        self.findings
            .expect(served < claims.unusable(), "a token after its end", || {
                let late = (served - claims.unusable()).as_millis();
                format!(
                    "{key:?} {act:?}: {late} ms late, of {} s",
                    claims.lifetime.as_secs()
                )
            });
        if key.is_bound() {
            let left = token.expires_on().duration_since(SystemTime::now());
            let left = left.unwrap_or_default().saturating_sub(claims.margin());
            let until = (now() + left).saturating_sub(CLOCKS);
            place.good_until.fetch_max(micros(until), Ordering::Relaxed);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub const CALLERS: usize = 64;
/// The 30 s of a flight, one more until the flight is replaced, and some time to notice.
const LONGEST_CALL: Duration = Duration::from_secs(35);
const HELD_UP: Duration = Duration::from_millis(250);
/// Tolerance, since the wall clock and the monotonic clock are not read at the same instant.
const CLOCKS: Duration = Duration::from_millis(10);
