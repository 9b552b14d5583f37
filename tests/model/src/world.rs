use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use loom::sync::RwLock;
use loom::thread::{self, JoinHandle};

use super::bounded_map::BoundedMap;
use super::circuit_breaker::CircuitBreaker;
use super::requirements::{Requirements, SpecialRequirements};
use super::slot::{Cached, Invalidated, JoinOutcome, Slot, Started};
use super::slots::HeldSlot;
use crate::authority::Tenant;
use crate::error::{Error, Failure};
use crate::request::parameters::Parameters;
use crate::scope::ScopeSet;
use crate::time::{Clock, Now, TimeSource};
use crate::token::{CacheKey, IssuedToken, Lifetime, TokenBinding};

mod flight;
mod log;

pub use flight::Fate;
use flight::{Flight, FlightOutcome};
use log::{Departed, Log};

/// What `cache.rs` and `flight.rs` do with slots, without tokio: a loom thread is a caller, and,
/// if its call starts a flight, also the task that flies it.
///
/// Time is in seconds, and each call says what time it is. A token is known by the number of the
/// flight that brought it.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    entries: RwLock<BoundedMap<Slot<Flight>>>,
    breaker: CircuitBreaker,
    /// For the checks alone. Loom runs one thread at a time, so nobody waits for this lock.
    log: std::sync::Mutex<Log>,
}

/// The place of one key, held by a caller.
#[derive(Clone)]
pub struct Place {
    world: World,
    slot: HeldSlot<Flight>,
    key: &'static str,
    fates: &'static [Fate],
}

/// What a caller asks for.
#[derive(Clone, Copy)]
pub struct Ask {
    pub claims: Option<&'static str>,
    /// The token that an API turned down.
    pub rejected: Option<u64>,
    pub force_refresh: bool,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    Token(u64),
    /// The failure of a flight that it waited for.
    Failed,
    /// A failure that is remembered.
    Refused,
    /// Two flights were lost.
    Lost,
}

impl Ask {
    pub const PLAIN: Self = Self {
        claims: None,
        rejected: None,
        force_refresh: false,
    };
    pub const FORCED: Self = Self {
        force_refresh: true,
        ..Self::PLAIN
    };
}

impl World {
    pub fn new(max_entries: usize) -> Self {
        Self(Arc::new(Shared {
            entries: RwLock::new(BoundedMap::new(max_entries)),
            breaker: CircuitBreaker::new(OVERDUE),
            log: std::sync::Mutex::default(),
        }))
    }

    /// Like `Cache::slot`.
    pub fn place(&self, key: &'static str, fates: &'static [Fate]) -> Place {
        let typed = typed(key);
        let existing = self.0.entries.read().unwrap().hold(&typed);
        let slot = existing.unwrap_or_else(|| {
            let mut entries = self.0.entries.write().unwrap();
            entries.get_or_insert(&typed, 0, &now(0)).0
        });
        Place {
            world: self.clone(),
            slot,
            key,
            fates,
        }
    }

    /// Like `Cache::clear`.
    pub fn clear(&self) {
        self.0.entries.write().unwrap().clear();
        self.0.breaker.reset();
    }

    pub fn entries(&self) -> usize {
        self.0.entries.read().unwrap().len()
    }

    /// From now on no two flights may be under way at once, on whatever slots, until one is
    /// answered.
    pub fn expect_one_probe_at_a_time(&self) {
        self.log().one_at_a_time = true;
    }

    /// How many flights have departed for a key, on whichever slots.
    pub fn flights(&self, key: &str) -> usize {
        self.log().claims(key).len()
    }

    /// How many times a flight closed the gate.
    pub fn closings(&self) -> usize {
        self.log().closings
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.log.lock().unwrap()
    }
}

impl Place {
    /// Does something on a thread of its own.
    pub fn spawn<T: 'static>(&self, call: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let place = self.clone();
        thread::spawn(move || call(&place))
    }

    /// Like `ConfidentialClient::acquire_from`.
    pub fn token(&self, at: u64, ask: Ask) -> Told {
        let requirements = self.requirements(ask);
        match self.slot.get(&now(at), &requirements) {
            Cached::Fresh(issued) => served(&issued),
            Cached::Stale(issued) => {
                self.refresh(at);
                served(&issued)
            }
            Cached::Miss => self.fetch(at, &requirements),
        }
    }

    /// A caller who is dropped where it would wait: what it started goes on.
    pub fn token_cancelled(&self, at: u64) {
        self.join(at, &Requirements::NONE);
    }

    /// Like `TokenProvider::cached`.
    pub fn cached(&self, at: u64) -> Option<u64> {
        match self.slot.get(&now(at), &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => Some(number(&issued)),
            Cached::Miss => None,
        }
    }

    /// Like `Cache::invalidate`; whether the token is removed.
    pub fn invalidate(&self, token: u64, at: u64) -> bool {
        let rejected = self.issued(token, at, 3600);
        self.slot.invalidate(&rejected, &now(at)) == Invalidated::Removed
    }

    pub fn has_a_flight(&self) -> bool {
        self.slot.flight().is_some()
    }

    pub fn flights(&self) -> usize {
        self.world.flights(self.key)
    }

    /// The claims that its flights asked with.
    pub fn claims(&self) -> Vec<Option<String>> {
        self.world.log().claims(self.key)
    }

    /// Like `Cache::fetch`.
    fn fetch(&self, at: u64, requirements: &Requirements) -> Told {
        let told = self.join_flight(at, requirements);
        if matches!(told, Told::Token(_)) || requirements.follow_a_rejection() {
            return told;
        }
        match self.slot.get(&now(at), &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => served(&issued),
            Cached::Miss => told,
        }
    }

    /// Like `Cache::join_flight`.
    fn join_flight(&self, mut at: u64, requirements: &Requirements) -> Told {
        let mut has_lost_one = false;
        loop {
            let (generation, flight) = match self.join(at, requirements) {
                JoinOutcome::Served(issued) => return served(&issued),
                JoinOutcome::Failed(_) => return Told::Refused,
                JoinOutcome::NeedsFlight => unreachable!("every caller may start a flight"),
                JoinOutcome::Started(_) => unreachable!("`join` spawns the flight"),
                JoinOutcome::Joined { generation, flight } => (generation, flight),
                JoinOutcome::Blocked { generation, flight } => {
                    if flight.outcome(self.fate(generation)).is_none() {
                        at += self.fate(generation).seconds_in_vain();
                        self.drop_flight(generation);
                    }
                    continue;
                }
            };
            match flight.outcome(self.fate(generation)) {
                Some(Ok(issued)) => return served(&issued),
                Some(Err(_)) => return Told::Failed,
                None if has_lost_one => return Told::Lost,
                None => {
                    has_lost_one = true;
                    at += self.fate(generation).seconds_in_vain();
                    self.drop_flight(generation);
                }
            }
        }
    }

    /// Joins a flight. A flight that this caller starts flies at once.
    fn join(&self, at: u64, requirements: &Requirements) -> JoinOutcome<Flight> {
        let flight = Flight::default();
        let breaker = &self.world.0.breaker;
        let handle = Some(flight.clone());
        match self.slot.join(&now(at), requirements, breaker, handle) {
            JoinOutcome::Started(started) => {
                let claims = requirements.claims().map(ToString::to_string);
                let generation = started.generation;
                self.spawn_flight(&flight, started, claims, at);
                JoinOutcome::Joined { generation, flight }
            }
            other => other,
        }
    }

    /// Like `Cache::refresh`.
    fn refresh(&self, at: u64) {
        if !self.slot.needs_refresh(&now(at)) {
            return;
        }
        let flight = Flight::default();
        let breaker = &self.world.0.breaker;
        if let Some(started) = self.slot.refresh(&now(at), breaker, flight.clone()) {
            self.spawn_flight(&flight, started, None, at);
        }
    }

    /// Like `FlightContext::spawn`, and the task itself.
    fn spawn_flight(
        &self,
        flight: &Flight,
        started: Started<Flight>,
        claims: Option<String>,
        at: u64,
    ) {
        let generation = started.generation;
        let place = (self.key, self.slot.shared());
        let replaced = started.replaced.map(|flight| flight.generation());
        flight.start(generation);
        // No loom thread runs between the slot's lock and this log.
        self.world
            .log()
            .depart(place, (generation, replaced), claims, &now(at));
        let no_answer = || Err(Error::Transport(Failure::new("no answer").into()));
        match self.fate(generation) {
            Fate::Token(seconds) => {
                let issued = Arc::new(self.issued(generation, at, seconds));
                self.complete(flight, generation, Ok(issued), at);
            }
            Fate::NoAnswer => self.complete(flight, generation, no_answer(), at),
            Fate::Lost => {
                self.drop_flight(generation);
                flight.end(None);
            }
            Fate::Stuck => {}
            Fate::LateToken(seconds) => {
                let issued = Arc::new(self.issued(generation, at, seconds));
                self.complete(flight, generation, Ok(issued), at + LATE);
            }
            Fate::LateFailure => self.complete(flight, generation, no_answer(), at + LATE),
        }
    }

    /// Like `FlightGuard::complete`.
    fn complete(&self, flight: &Flight, generation: u64, outcome: FlightOutcome, at: u64) {
        let breaker = &self.world.0.breaker;
        let id = self.slot.flight_id(generation);
        let opens = breaker.report(id, &outcome, &now(at), 0.0);
        self.log(generation, |flight| flight.probing = false);
        self.world.log().learn(outcome.is_ok(), opens);
        let outcome = self.slot.complete(generation, outcome, &now(at), 0.0);
        self.log(generation, |flight| flight.under_way = false);
        flight.end(Some(outcome));
    }

    /// Like `FlightContext::drop_flight`.
    fn drop_flight(&self, generation: u64) {
        let in_time = matches!(self.fate(generation), Fate::Token(_) | Fate::NoAnswer);
        assert!(!in_time, "a flight in time is dropped");
        self.world
            .0
            .breaker
            .drop_flight(self.slot.flight_id(generation));
        self.log(generation, |flight| flight.probing = false);
        self.slot.drop_flight(generation);
        self.log(generation, |flight| flight.under_way = false);
    }

    fn fate(&self, generation: u64) -> Fate {
        let number = usize::try_from(generation - 1).unwrap();
        *self.fates.get(number).expect("a flight too many")
    }

    fn log(&self, generation: u64, change: impl FnOnce(&mut Departed)) {
        change(self.world.log().flight(self.slot.shared(), generation));
    }

    fn requirements(&self, ask: Ask) -> Requirements {
        Requirements::new(SpecialRequirements {
            claims: ask.claims.map(Arc::from),
            rejected: ask.rejected.map(|token| Arc::new(self.issued(token, 0, 1))),
            force_refresh: ask.force_refresh,
            min_remaining: Duration::ZERO,
        })
    }

    fn issued(&self, number: u64, at: u64, seconds: u64) -> IssuedToken {
        let lifetime = Lifetime::new(Duration::from_secs(seconds), None, now(at), 0.0);
        let number = number.to_string();
        let key = Arc::new(typed(self.key));
        IssuedToken::new(
            key,
            &number,
            lifetime,
            "s".into(),
            None,
            &number,
            TokenBinding::Unbound,
        )
        .unwrap()
    }
}

/// Seconds since the start of the test process, on both clocks.
struct At(u64);

impl Clock for At {
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.0)
    }

    fn monotonic(&self) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(self.0)
    }
}

fn now(at: u64) -> Now {
    TimeSource::Injected(Arc::new(At(at))).now()
}

fn typed(key: &str) -> CacheKey {
    CacheKey {
        tenant: Tenant::parse(key).ok(),
        scopes: ScopeSet::default(),
        user: None,
        parameters: Parameters::default(),
    }
}

fn served(issued: &IssuedToken) -> Told {
    Told::Token(number(issued))
}

fn number(issued: &IssuedToken) -> u64 {
    issued.correlation_id().parse().unwrap()
}

/// When a late flight lands, in seconds after it departed.
const LATE: u64 = 40;

/// After this time a flight is taken for lost.
const OVERDUE: Duration = Duration::from_secs(31);
