//! A reference cache that follows the documentation for sequential callers, without locks, flights
//! or queues.
//!
//! Values that the library draws at random are observed, and checked against their range.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use confidential_client::TokenSource;

use super::call::{Answer, Ask, Kind, Seen};
use super::time::{Now, Until};

pub struct Reference {
    places: BTreeMap<usize, Place>,
    host: Host,
    requests: usize,
    len: usize,
    max_entries: usize,
    /// A key with a provider.
    held: Option<usize>,
}

/// State of one key.
#[derive(Default)]
struct Place {
    /// True after other keys arrived, which may have evicted this key.
    perhaps_evicted: bool,
    token: Option<Token>,
    failure: Option<Failure>,
    failures: u32,
    /// The end of the period after a forced refresh that ignored a rejection.
    forced: Option<Until>,
    /// Recent refreshes after a rejection, each with its claims.
    renewals: Vec<(Option<&'static str>, Until)>,
}

#[derive(Clone, Copy)]
struct Token {
    number: usize,
    claims: Option<&'static str>,
    issued: Now,
    lifetime: Duration,
    refresh_in: Option<Duration>,
}

/// A cached failure, with the shortest and the longest cool-down.
#[derive(Clone, Copy)]
struct Failure {
    kind: Kind,
    /// The rejected claims. The failure applies only to calls with these claims.
    claims: Option<&'static str>,
    /// True for the second consecutive failure with different claims.
    is_for_all_claims: bool,
    over: [Until; 2],
}

/// State of the authority's host, shared by all keys.
#[derive(Default)]
struct Host {
    /// Keys that failed consecutively.
    failed: BTreeSet<usize>,
    down: Option<Failure>,
    probes: u32,
}

impl Reference {
    pub fn new(max_entries: usize, held: Option<usize>) -> Self {
        Self {
            places: held
                .map(|key| (key, Place::default()))
                .into_iter()
                .collect(),
            host: Host::default(),
            requests: 0,
            len: usize::from(held.is_some()),
            max_entries,
            held,
        }
    }

    /// Returns the number of requests.
    pub fn requests(&self) -> usize {
        self.requests
    }

    /// Returns the number of cached keys.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn acquire(&mut self, key: usize, ask: Ask, answer: Answer, seen: &Seen, now: Now) {
        self.enter(key, seen.evicted, now);
        let remembered = self.remembered(key, ask, now);
        let place = self.places.get_mut(&key).unwrap();
        let good = place.token.filter(|token| token.is_good(now));

        // A valid token that meets the requirements is returned at once. A due token is refreshed.
        if let Some(token) = good
            && ask.is_met_by(&token, now)
        {
            let refresh_on = seen.is_of_memory(token.number).refresh_on;
            token.check_refresh_on(refresh_on);
            // A call with claims causes no refresh.
            let due = ask.claims.is_none() && token.is_due(refresh_on, now);
            match seen.requests {
                0 => assert!(
                    !due || remembered.any(),
                    "the token is due and was not refreshed"
                ),
                1 => {
                    assert!(
                        due && !remembered.surely,
                        "the token was refreshed too early"
                    );
                    self.land(key, Ask::default(), answer, now);
                }
                _ => panic!("too many requests"),
            }
            return;
        }

        // An API that rejects every token causes few requests.
        if let Some(token) = good
            && ask.is_of_a_rejection()
            && !place.allows_a_renewal(ask.claims, now)
        {
            seen.is_of_memory(token.number);
            assert_eq!(seen.requests, 0, "refreshes after a rejection are limited");
            return;
        }

        // A request is sent, unless the last failure is still cached.
        let failures = match seen.requests {
            0 => {
                assert!(remembered.any(), "no request was sent");
                remembered.failures
            }
            1 => {
                assert!(!remembered.surely, "too soon after a failure");
                if ask.force_refresh && remembered.ignores_a_rejection {
                    self.places.get_mut(&key).unwrap().forced = Some(now.plus(RATION));
                }
                self.land(key, ask, answer, now);
                match self.places[&key].failure {
                    Some(failure) => vec![failure],
                    None => {
                        let token = self.places[&key].token.unwrap();
                        let told = seen.told.as_ref().unwrap();
                        assert_eq!(told.number, token.number);
                        assert_eq!(told.source, TokenSource::IdentityProvider);
                        token.check_refresh_on(told.refresh_on);
                        return;
                    }
                }
            }
            _ => panic!("too many requests"),
        };

        // A valid token is returned to every caller that did not reject the token.
        if let Some(token) = good
            && !ask.is_of_a_rejection()
        {
            seen.is_of_memory(token.number);
        } else {
            let error = seen.told.as_ref().unwrap_err();
            let mut expected = failures.iter().filter(|failure| failure.kind == error.kind);
            let wait = error.retry_after.unwrap();
            assert!(
                expected.any(|failure| failure.is_over_after(wait, now)),
                "another error"
            );
        }
    }

    /// Predicts `TokenProvider::cached` of a new provider.
    pub fn cached(&mut self, key: usize, evicted: u64, now: Now) -> Option<usize> {
        self.enter(key, evicted, now);
        let token = self.places[&key].token;
        token
            .filter(|token| token.is_good(now))
            .map(|token| token.number)
    }

    /// Removes the token with this number, within the limit on refreshes.
    pub fn invalidate(&mut self, key: usize, number: usize, now: Now) {
        if let Some(place) = self.places.get_mut(&key)
            && place.token.is_some_and(|token| token.number == number)
            && place.allows_a_renewal(None, now)
        {
            place.renewed(None, now);
            place.token = None;
        }
    }

    /// Clears all state. A key with a provider stays, without a token.
    pub fn clear(&mut self) {
        *self = Self {
            requests: self.requests,
            ..Self::new(self.max_entries, self.held)
        };
    }

    /// Applies the outcome of a request to the state.
    fn land(&mut self, key: usize, ask: Ask, answer: Answer, now: Now) {
        self.requests += 1;
        self.host.learn(key, answer, now);
        let place = self.places.get_mut(&key).unwrap();
        match answer {
            Answer::Token {
                lifetime,
                refresh_in,
            } => {
                place.token = Some(Token {
                    number: self.requests,
                    claims: ask.claims,
                    issued: now,
                    lifetime,
                    refresh_in,
                });
                place.failure = None;
                place.failures = 0;
                place.forced = None;
                if ask.is_of_a_rejection() {
                    place.renewed(ask.claims, now);
                }
            }
            failed => place.fail(failed, ask.claims, now),
        }
    }

    /// Returns the cached failure that replaces a request.
    ///
    /// A forced refresh ignores a rejection once in 30 seconds.
    fn remembered(&self, key: usize, ask: Ask, now: Now) -> Remembered {
        let place = &self.places[&key];
        let own = place.failure.filter(|own| {
            let for_all = own.is_for_all_claims && ask.claims.is_some();
            own.claims.is_none() || own.claims == ask.claims || for_all
        });
        let may_force = ask.force_refresh && place.forced.is_none_or(|over| over.is_reached(now));
        let is_rejection = own.is_some_and(|own| matches!(own.kind, Kind::Server));
        let ignores_a_rejection =
            may_force && is_rejection && own.is_some_and(|own| own.surely_lasts(now));
        let own = own.filter(|_| !ignores_a_rejection);
        let mut remembered = Remembered {
            failures: Vec::new(),
            surely: false,
            ignores_a_rejection,
        };
        for failure in own.into_iter().chain(self.host.down) {
            if !remembered.surely && !failure.is_surely_over(now) {
                remembered.surely = failure.surely_lasts(now);
                remembered.failures.push(failure);
            }
        }
        remembered
    }

    /// Adds the key if missing, which may evict another key.
    fn enter(&mut self, key: usize, evicted: u64, now: Now) {
        let full = self.len >= self.max_entries + usize::from(self.held.is_some());
        let stayed = match self.places.get(&key) {
            Some(place) if place.perhaps_evicted => evicted == 0,
            Some(_) => true,
            None => false,
        };
        assert_eq!(evicted, u64::from(!stayed && full), "evictions");
        if stayed {
            self.places.get_mut(&key).unwrap().perhaps_evicted = false;
            return;
        }
        self.places.remove(&key);
        if full {
            self.evict(now);
        } else {
            self.len += 1;
        }
        self.places.insert(key, Place::default());
    }

    /// Evicts a key without a valid token first. The choice among several is not specified.
    fn evict(&mut self, now: Now) {
        let others = self
            .places
            .iter()
            .filter(|(key, _)| Some(**key) != self.held);
        let others: Vec<(usize, &Place)> = others.map(|(key, place)| (*key, place)).collect();
        let sure = others
            .iter()
            .any(|(_, place)| !place.perhaps_evicted && place.is_surely_idle(now));
        let candidates: Vec<usize> = others
            .iter()
            .filter(|(_, place)| !sure || !place.surely_serves(now))
            .map(|(key, _)| *key)
            .collect();
        if let [gone] = candidates[..] {
            self.places.remove(&gone);
        } else {
            for key in candidates {
                self.places.get_mut(&key).unwrap().perhaps_evicted = true;
            }
        }
    }
}

impl Place {
    /// Counts a rejection once, even if reported in two ways.
    fn renewed(&mut self, claims: Option<&'static str>, now: Now) {
        let renewal = (claims, now.plus(RATION));
        let mut places = self.renewals.iter();
        let free = places.position(|(others, over)| over.is_reached(now) || *others == claims);
        match free {
            Some(free) => self.renewals[free] = renewal,
            None if self.renewals.len() < 2 => self.renewals.push(renewal),
            None => {}
        }
    }

    fn fail(&mut self, answer: Answer, claims: Option<&'static str>, now: Now) {
        let last = self.failure.map(|failure| failure.kind.is_transient());
        if last.is_some_and(|last| last != answer.kind().is_transient()) {
            self.failures = 0;
        }
        self.failures += 1;
        let claims = claims.filter(|_| matches!(answer, Answer::Refused));
        let of_late = self.failure.filter(|last| last.surely_lasts(now));
        self.failure = Some(Failure {
            claims,
            is_for_all_claims: of_late.is_some_and(|last| last.claims.is_some()),
            ..Failure::new(answer, self.failures, now)
        });
    }

    /// Allows one refresh in 30 seconds for the same claims or for none, and two in total.
    fn allows_a_renewal(&self, claims: Option<&str>, now: Now) -> bool {
        // A clock that is set back makes an expired entry valid again.
        let of_late = || {
            self.renewals
                .iter()
                .filter(|(_, over)| !over.is_reached(now))
        };
        of_late().count() < 2 && of_late().all(|(others, _)| *others != claims)
    }

    fn surely_serves(&self, now: Now) -> bool {
        self.token.is_some_and(|token| token.is_good(now))
            || self
                .failure
                .is_some_and(|failure| failure.claims.is_none() && failure.surely_lasts(now))
    }

    fn is_surely_idle(&self, now: Now) -> bool {
        !self.token.is_some_and(|token| token.is_good(now))
            && self
                .failure
                .is_none_or(|failure| failure.claims.is_some() || failure.is_surely_over(now))
    }
}

impl Host {
    /// Opens the circuit after three consecutive keys without a response or with a 5xx. Then only
    /// probes are sent. Any other response closes the circuit.
    fn learn(&mut self, key: usize, answer: Answer, now: Now) {
        if !matches!(answer, Answer::Silence | Answer::Broken) {
            *self = Self::default();
            return;
        }
        self.failed.insert(key);
        if self.down.is_some() || self.failed.len() == 3 {
            self.probes += 1;
            self.down = Some(Failure {
                kind: Kind::Transport,
                ..Failure::new(answer, self.probes, now)
            });
        }
    }
}

impl Token {
    /// Returns the lifetime without the last ten seconds or the last tenth.
    fn whole(&self) -> Duration {
        self.lifetime - (self.lifetime / 10).min(Duration::from_secs(10))
    }

    fn is_good(&self, now: Now) -> bool {
        !self.issued.plus(self.whole()).is_reached(now)
    }

    fn is_due(&self, refresh_on: Duration, now: Now) -> bool {
        let after = refresh_on - self.issued.wall;
        self.issued.plus(after).is_reached(now)
    }

    /// Checks the range of the refresh time.
    ///
    /// The server's `refresh_in` applies, else half the lifetime for lifetimes from two hours up,
    /// else five minutes before the expiry, but not before half the lifetime. A jitter of up to
    /// five minutes or a tenth of the lifetime is subtracted.
    fn check_refresh_on(&self, refresh_on: Duration) {
        let latest = match self.refresh_in {
            Some(refresh_in) if refresh_in < self.lifetime => refresh_in,
            _ if self.lifetime >= 2 * HOUR => self.lifetime / 2,
            _ => self
                .lifetime
                .saturating_sub(5 * MINUTE)
                .max(self.lifetime / 2),
        };
        let jitter = (5 * MINUTE).min(self.lifetime / 10);
        let after = refresh_on - self.issued.wall;
        assert!(
            (latest.saturating_sub(jitter)..=latest).contains(&after),
            "refresh_on"
        );
    }
}

impl Ask {
    /// Returns whether a valid token meets the requirements.
    fn is_met_by(&self, token: &Token, now: Now) -> bool {
        let left = token.issued.plus(token.whole()).left(now);
        let young = match token.whole() < self.min_remaining {
            true => token.whole() / 2,
            false => token.whole() - token.whole() / 10,
        };
        let comes_by_the_claims = match self.claims {
            None => true,
            // Or by a refresh without a reason, after the rejected token.
            Some(_) => {
                self.rejected.is_some() && (token.claims.is_none() || token.claims == self.claims)
            }
        };
        !self.force_refresh
            && self.rejected != Some(token.number)
            && comes_by_the_claims
            && (left >= self.min_remaining || left > young)
    }
}

impl Failure {
    /// Creates a failure with the range of the cool-down.
    ///
    /// `Retry-After` applies, up to an hour. Otherwise one second doubles to 30, plus a quarter.
    /// For a rejection five seconds double to 60.
    fn new(answer: Answer, in_a_row: u32, now: Now) -> Self {
        let doubled = |first: u64, longest: u64| {
            let factor = 2_u64.saturating_pow(in_a_row - 1);
            Duration::from_secs(first.saturating_mul(factor).min(longest))
        };
        let [least, most] = match answer {
            Answer::Throttled(asked) => [asked.min(HOUR); 2],
            Answer::Refused => [doubled(5, 60); 2],
            _ => [doubled(1, 30), doubled(1, 30).mul_f64(1.25)],
        };
        Self {
            kind: answer.kind(),
            claims: None,
            is_for_all_claims: false,
            over: [now.plus(least), now.plus(most)],
        }
    }

    fn surely_lasts(&self, now: Now) -> bool {
        !self.over[0].is_reached(now)
    }

    fn is_surely_over(&self, now: Now) -> bool {
        self.over[1].is_reached(now)
    }

    fn is_over_after(&self, wait: Duration, now: Now) -> bool {
        let [least, most] = self.over.map(|over| over.left(now));
        (least..=most).contains(&wait)
    }
}

/// Cached failures that may replace a request.
struct Remembered {
    failures: Vec<Failure>,
    /// Returns whether a cached failure applies for every random choice.
    surely: bool,
    /// True if a forced refresh may ignore the key's failure.
    ignores_a_rejection: bool,
}

impl Remembered {
    fn any(&self) -> bool {
        !self.failures.is_empty()
    }
}

const RATION: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
