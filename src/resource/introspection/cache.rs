use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::pause::{Pause, is_about_the_token};
use crate::cache::cool_down_length;
use crate::error::{Error, Failure};
use crate::response::ActiveToken;
use crate::time::{Deadline, Now};

/// The result of an introspection.
#[derive(Clone)]
pub(super) enum Outcome {
    /// The provider's response, and the end of its use.
    Active(Arc<ActiveToken>, Deadline),
    Inactive,
    /// The provider said nothing about the token.
    Unavailable(Error),
}

/// The SHA-256 of a token. The cache does not have the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// Responses about tokens, the requests in flight, and the pause of the endpoint.
pub(super) struct IntrospectionCache {
    state: Mutex<State>,
    cache_for: Duration,
}

struct State {
    active: Remembered,
    /// Apart from the active tokens, so that no flood of invalid tokens evicts these.
    others: Remembered,
    flights: HashMap<TokenDigest, Flight>,
    next_flight: u64,
    pause: Pause,
}

/// An introspection in flight, which several callers wait for.
#[derive(Clone)]
pub(super) struct Flight {
    id: u64,
    /// The time at which the flight is considered lost.
    overdue: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Flight {
    /// Waits for the outcome. Returns `None` for a flight that is lost with its runtime.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let ended = self.outcome.wait_for(Option::is_some);
        match tokio::time::timeout_at(self.overdue, ended).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

/// The next step of a caller with a token.
pub(super) enum Step {
    Return(Outcome),
    Wait(Flight),
    /// Send an introspection request, and report the outcome.
    Start(Flight, NewFlight),
}

/// The right to complete a flight.
pub(super) struct NewFlight {
    token: TokenDigest,
    id: u64,
    outcome: watch::Sender<Option<Outcome>>,
}

impl IntrospectionCache {
    /// Creates an empty cache that uses a response about an active token for `cache_for`.
    pub(super) fn new(cache_for: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                active: Remembered::default(),
                others: Remembered::default(),
                flights: HashMap::new(),
                next_flight: 0,
                pause: Pause::default(),
            }),
            cache_for,
        }
    }

    /// Decides the next step of a caller. A flight ends within `limit`.
    pub(super) fn next(&self, token: TokenDigest, now: &Now, limit: Duration) -> Step {
        let mut state = self.lock();
        let state = &mut *state;
        let known = state.active.get(&token, now);
        if let Some(outcome) = known.or_else(|| state.others.get(&token, now)) {
            return Step::Return(outcome);
        }
        if let Some(flight) = state.flights.get(&token) {
            return Step::Wait(flight.clone());
        }
        if state.flights.len() >= MOST_FLIGHTS {
            return Step::Return(Outcome::Unavailable(too_many()));
        }
        if let Err(error) = state.pause.try_pass(now, limit) {
            return Step::Return(Outcome::Unavailable(error));
        }
        state.next_flight = state.next_flight.wrapping_add(1);
        let (sender, receiver) = watch::channel(None);
        let flight = Flight {
            id: state.next_flight,
            overdue: Instant::now() + limit + GRACE,
            outcome: receiver,
        };
        state.flights.insert(token, flight.clone());
        let new = NewFlight {
            token,
            id: flight.id,
            outcome: sender,
        };
        Step::Start(flight, new)
    }

    /// Forgets a flight that is lost, so that another caller starts one.
    pub(super) fn forget(&self, token: TokenDigest, flight: &Flight) {
        self.lock().end(token, flight.id);
    }

    /// Returns the end of the use of a response about an active token: `cache_for` from now, and
    /// never after the token's expiry.
    pub(super) fn usable_until(&self, token: &ActiveToken, now: &Now) -> Deadline {
        let expiry = token.members.time("exp").ok().flatten();
        let left = expiry.map(|expiry| expiry.duration_since(now.wall()).unwrap_or_default());
        now.plus(self.cache_for.min(left.unwrap_or(Duration::MAX)))
    }

    /// Stores the outcome of a flight, and lets the waiting callers have it. `jitter` is from 0 to
    /// 1.
    pub(super) fn complete(&self, flight: NewFlight, mut outcome: Outcome, now: &Now, jitter: f64) {
        let mut state = self.lock();
        // The outcome of a lost flight is as good as any other.
        state.end(flight.token, flight.id);
        match &mut outcome {
            Outcome::Active(_, until) => {
                let until = *until;
                state.pause.succeed();
                state
                    .active
                    .insert(flight.token, outcome.clone(), until, now);
            }
            Outcome::Inactive => {
                state.pause.succeed();
                let until = now.plus(REMEMBER_INACTIVE);
                state
                    .others
                    .insert(flight.token, outcome.clone(), until, now);
            }
            Outcome::Unavailable(error) => {
                state.pause.fail(error, now, jitter);
                let length = match is_about_the_token(error) {
                    true => REMEMBER_INACTIVE,
                    false => cool_down_length(error, 1, jitter).min(REMEMBER_INACTIVE),
                };
                if error.retry_after().is_none() {
                    *error = error.with_retry_after(length);
                }
                let until = now.plus(length);
                state
                    .others
                    .insert(flight.token, outcome.clone(), until, now);
            }
        }
        drop(state);
        flight.outcome.send_replace(Some(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics under the lock, and every field would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&mut self, token: TokenDigest, id: u64) {
        if self
            .flights
            .get(&token)
            .is_some_and(|flight| flight.id == id)
        {
            self.flights.remove(&token);
        }
    }
}

/// A bounded number of outcomes. The oldest is evicted first.
#[derive(Default)]
struct Remembered {
    outcomes: HashMap<TokenDigest, (Outcome, Deadline, u64)>,
    /// The tokens in the order of insertion, with the number of the insertion.
    queue: VecDeque<(TokenDigest, u64)>,
    inserted: u64,
}

impl Remembered {
    fn get(&self, token: &TokenDigest, now: &Now) -> Option<Outcome> {
        let (outcome, until, _) = self.outcomes.get(token)?;
        let outcome = (!until.reached(now)).then_some(outcome)?;
        Some(match outcome {
            Outcome::Unavailable(error) => {
                Outcome::Unavailable(error.with_retry_after(until.remaining(now)))
            }
            outcome => outcome.clone(),
        })
    }

    fn insert(&mut self, token: TokenDigest, outcome: Outcome, until: Deadline, now: &Now) {
        while let Some((first, number)) = self.queue.front() {
            let is_latest = |(_, _, latest): &&(Outcome, Deadline, u64)| latest == number;
            let known = self.outcomes.get(first).filter(is_latest);
            let has_room = self.queue.len() < MOST_REMEMBERED;
            if has_room && known.is_some_and(|(_, until, _)| !until.reached(now)) {
                break;
            }
            if known.is_some() {
                self.outcomes.remove(first);
            }
            self.queue.pop_front();
        }
        if until.reached(now) {
            return;
        }
        self.inserted = self.inserted.wrapping_add(1);
        self.outcomes.insert(token, (outcome, until, self.inserted));
        self.queue.push_back((token, self.inserted));
    }
}

fn too_many() -> Error {
    let message = format!(
        "{MOST_FLIGHTS} tokens are introspected at the moment, and the token was not sent; this happens under a flood of invalid tokens, or with a slow introspection endpoint"
    );
    let failure = Failure::new(message).retry_after(Some(Duration::from_secs(1)));
    Error::Transport(failure.not_sent().into())
}

/// The number of active tokens, and of other tokens, that are remembered.
const MOST_REMEMBERED: usize = 10_000;
/// The number of introspections in flight, with those that wait for a permit.
const MOST_FLIGHTS: usize = 1_000;
/// The time for which an inactive token is remembered.
const REMEMBER_INACTIVE: Duration = Duration::from_secs(10);
/// The time after a flight's limit at which the flight is considered lost.
const GRACE: Duration = Duration::from_secs(1);
