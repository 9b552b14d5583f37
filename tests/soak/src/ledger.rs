use std::time::Duration;

use crate::MAX_CONCURRENT_REQUESTS;
use crate::fault::{CoolDown, Failure, Variant, outage};
use crate::findings::Findings;
use crate::key::Key;

/// Token requests as the identity provider sees them, compared with the promises of the client:
///
/// - one token request at a time for a key
/// - at most the policy's number of attempts in a flight (one correlation id), none before
///   `Retry-After`
/// - no more retries than the retry budget holds
/// - no request before a token is due, unless a caller forces a refresh
/// - no request during a cool-down
/// - few requests in an outage, once the circuit is open
///
/// The client does not report which key was evicted. So early requests for an unbound key are
/// counted, and must not exceed the number of evictions.
pub struct Ledger {
    accounts: Vec<Account>,
    /// The latest outage, and the number of requests during the outage.
    outage: (Duration, u64),
    pub counts: Counts,
}

#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub requests: u64,
    pub flights: u64,
    /// Retries with another certificate.
    pub repeats: u64,
    /// Other retries.
    pub retries: u64,
    pub early: u64,
    /// Issued tokens.
    pub licences: u64,
    pub tokens: u64,
    /// Failed flights, by the failure of the last attempt.
    pub failed: [u64; 4],
    pub in_outages: u64,
    /// Longest time without a request.
    pub silence: Duration,
    last: Duration,
}

#[derive(Clone, Default)]
struct Account {
    under_way: u32,
    flight: Option<Flight>,
    /// Consecutive failures of one kind.
    failures: u32,
    transient: bool,
    /// Number of requests allowed before a token is due.
    licences: u32,
    /// Forced requests that may pass the cool-down of a rejection.
    forced: u32,
    /// The time of the last one that did.
    passed: Option<Duration>,
}

#[derive(Clone)]
struct Flight {
    id: String,
    /// Attempts with one credential.
    attempts: u32,
    refusals: u32,
    has_claims: bool,
    arrived: Duration,
    left: Option<(Duration, Outcome)>,
}

/// Outcome of an attempt.
#[derive(Clone, Copy)]
pub enum Outcome {
    Token {
        lifetime: Duration,
    },
    Failed(Failure),
    /// Unknown certificate.
    Refused,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            accounts: vec![Account::default(); Key::COUNT],
            outage: Default::default(),
            counts: Counts::default(),
        }
    }

    /// Allows one request before a token is due.
    pub fn license(&mut self, key: Key) {
        self.counts.licences += 1;
        self.accounts[key.index()].licences += 1;
    }

    /// Allows one request before a token is due, or during the cool-down of a rejection.
    pub fn force(&mut self, key: Key) {
        self.license(key);
        self.accounts[key.index()].forced += 1;
    }

    pub fn arrive(
        &mut self,
        (key, id, has_claims): (Key, &str, bool),
        now: Duration,
        findings: &Findings,
    ) {
        self.counts.requests += 1;
        let silence = now.saturating_sub(self.counts.last);
        self.counts.silence = self.counts.silence.max(silence);
        self.counts.last = now;
        self.watch_outage(now, findings);
        let account = &mut self.accounts[key.index()];
        account.under_way += 1;
        findings.expect(
            account.under_way == 1,
            "two requests at once for a key",
            || format!("{key:?}"),
        );
        let again = account.flight.as_mut().filter(|flight| flight.id == id);
        if let Some(flight) = again {
            let left = flight.left.take();
            match left {
                Some((_, Outcome::Refused)) => self.counts.repeats += 1,
                _ => self.counts.retries += 1,
            }
            flight.repeat(key, left, now, findings);
            self.counts.forget(left);
            let (retries, tokens) = (self.counts.retries, self.counts.tokens);
            findings.expect(retries <= REPEATS + tokens, "too many repeats", || {
                format!("{retries}, with {tokens} tokens")
            });
            return;
        }
        self.counts.flights += 1;
        let is_early = account.is_early(key, now, findings);
        self.counts.early += u64::from(is_early);
        account.flight = Some(Flight {
            id: id.to_owned(),
            attempts: 1,
            refusals: 0,
            has_claims,
            arrived: now,
            left: None,
        });
    }

    /// Records the outcome of an attempt, before the client receives the response.
    pub fn leave(&mut self, key: Key, outcome: Outcome, now: Duration) {
        let account = &mut self.accounts[key.index()];
        account.under_way -= 1;
        if let Some(flight) = &mut account.flight {
            flight.left = Some((now, outcome));
        }
        self.counts.learn(outcome);
    }

    fn watch_outage(&mut self, now: Duration, findings: &Findings) {
        let Some((begin, _)) = outage(now) else {
            return;
        };
        self.counts.in_outages += 1;
        if now < begin + NOTICED {
            return;
        }
        if self.outage.0 != begin {
            self.outage = (begin, 0);
        }
        self.outage.1 += 1;
        findings.expect(self.outage.1 <= PROBES, "a storm in an outage", || {
            format!(
                "{} requests, where only probes and retries are allowed",
                self.outage.1
            )
        });
    }
}

impl Flight {
    /// Records a retry after the outcome of the last attempt.
    fn repeat(
        &mut self,
        key: Key,
        last: Option<(Duration, Outcome)>,
        now: Duration,
        findings: &Findings,
    ) {
        let mut not_before = Duration::ZERO;
        match last {
            Some((_, Outcome::Refused)) => {
                self.refusals += 1;
                self.attempts = 0;
            }
            Some((left, Outcome::Failed(failure))) => {
                if let CoolDown::Told(wait) = failure.cool_down {
                    not_before = left + wait;
                }
            }
            Some((_, Outcome::Token { .. })) | None => {}
        }
        self.attempts += 1;
        self.arrived = now;
        let is_allowed = self.attempts <= ATTEMPTS && self.refusals <= 1;
        findings.expect(is_allowed, "too many attempts", || {
            let Self {
                attempts, refusals, ..
            } = self;
            format!("{key:?}, attempt {attempts} after {refusals} refusals")
        });
        findings.expect(now + CLOCKS >= not_before, "an early attempt", || {
            format!("{key:?}, {} ms early", (not_before - now).as_millis())
        });
        let may_pass = !matches!(
            last,
            Some((_, Outcome::Token { .. }))
                | Some((
                    _,
                    Outcome::Failed(Failure {
                        cool_down: CoolDown::Refused,
                        ..
                    })
                ))
        );
        findings.expect(may_pass, "an attempt for nothing", || format!("{key:?}"));
    }
}

impl Account {
    /// Checks a new flight against the time that the last flight allows.
    fn is_early(&mut self, key: Key, now: Duration, findings: &Findings) -> bool {
        let Some(last) = self.flight.take() else {
            return false;
        };
        let Some((left, outcome)) = last.left else {
            return false;
        };
        let (not_before, why) = match outcome {
            Outcome::Token { lifetime } => {
                self.failures = 0;
                let due = lifetime.mul_f64(EARLIEST_RENEWAL);
                ((last.arrived + due).saturating_sub(SLACK), "a token")
            }
            Outcome::Failed(failure) => {
                let wait = self.cool_down(key, failure.cool_down);
                // A rejection of claims applies only to requests with the same claims.
                match last.has_claims && failure.cool_down == CoolDown::Refused {
                    true => (Duration::ZERO, ""),
                    false => (left + wait, "a failure"),
                }
            }
            Outcome::Refused => (left + self.cool_down(key, CoolDown::Refused), "a refusal"),
        };
        if now + CLOCKS >= not_before {
            return false;
        }
        if matches!(outcome, Outcome::Token { .. }) && self.licences > 0 {
            self.licences -= 1;
            return false;
        }
        let is_rejection = match outcome {
            Outcome::Failed(failure) => failure.cool_down == CoolDown::Refused,
            Outcome::Refused => true,
            Outcome::Token { .. } => false,
        };
        let may_pass = |passed: Duration| now + SLACK >= passed + BETWEEN_PASSES;
        if is_rejection && self.forced > 0 && self.passed.is_none_or(may_pass) {
            self.forced -= 1;
            self.passed = Some(now);
            return false;
        }
        findings.expect(!key.is_bound(), "a request before its time", || {
            let early = (not_before - now).as_millis();
            format!(
                "{key:?}, {early} ms early after {why}, {} failures",
                self.failures
            )
        });
        true
    }

    fn cool_down(&mut self, key: Key, cool_down: CoolDown) -> Duration {
        let of_one_kind = self.transient == cool_down.is_transient();
        self.failures = if of_one_kind { self.failures + 1 } else { 1 };
        self.transient = cool_down.is_transient();
        // An unseen eviction resets the count.
        cool_down.at_least(if key.is_bound() { self.failures } else { 1 })
    }
}

impl Counts {
    pub fn failed(&self, variant: Variant) -> u64 {
        self.failed[variant as usize]
    }

    fn learn(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Token { .. } => self.tokens += 1,
            Outcome::Failed(failure) => self.failed[failure.variant as usize] += 1,
            Outcome::Refused => {}
        }
    }

    /// Takes back a failure that was not the flight's last attempt.
    fn forget(&mut self, left: Option<(Duration, Outcome)>) {
        match left {
            Some((_, Outcome::Token { .. })) => self.tokens -= 1,
            Some((_, Outcome::Failed(failure))) => self.failed[failure.variant as usize] -= 1,
            Some((_, Outcome::Refused)) | None => {}
        }
    }
}

/// Maximum number of attempts of a flight with one certificate.
const ATTEMPTS: u32 = 3;
/// Initial retry budget of a client.
const REPEATS: u64 = 20;
/// Earliest refresh, as a share of the lifetime: half, minus the jitter of a tenth.
pub const EARLIEST_RENEWAL: f64 = 0.4;
/// Tolerance, since a lifetime starts before the request is signed and sent.
const SLACK: Duration = Duration::from_secs(1);
/// Tolerance for small adjustments of the wall clock.
const CLOCKS: Duration = Duration::from_millis(10);
/// Time in which one forced request passes the cool-down of a rejection.
const BETWEEN_PASSES: Duration = Duration::from_secs(30);
/// Time after which the circuit must be open in an outage.
const NOTICED: Duration = Duration::from_millis(1500);
/// Maximum number of requests after that time: probes after one, two and four seconds, and retries.
const PROBES: u64 = 4 + REPEATS + MAX_CONCURRENT_REQUESTS as u64;
