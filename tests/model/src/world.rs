use std::sync::{Arc, LazyLock};
use std::time::Duration;

use loom::sync::RwLock;
use loom::thread::{self, JoinHandle};

use super::bounded_map::BoundedMap;
use super::circuit_breaker::CircuitBreaker;
use super::requirements::{Requirements, SpecialRequirements};
use super::slot::{Cached, Invalidated, Joined, Slot};
use crate::error::{Error, Failure};
use crate::request::parameters::Parameters;
use crate::scope::ScopeSet;
use crate::time::{Now, TimeSource};
use crate::token::{CacheKey, IssuedToken, Kind, Lifetime};

mod flight;
mod log;

pub use flight::Fate;
use flight::{Flight, Outcome};
use log::{Departed, Log};

/// What `cache.rs` and `flight.rs` do with slots, without tokio: a loom thread is a caller, and,
/// if its call starts a flight, also the task that flies it.
///
/// Time is in seconds, and each call says what time it is. A token is known by the number of the
/// flight that brought it.
#[derive(Clone)]
pub struct World(Arc<Shared>);

struct Shared {
    entries: RwLock<BoundedMap<CacheKey, Slot<Flight>>>,
    gate: CircuitBreaker,
    /// For the checks alone. Loom runs one thread at a time, so nobody waits for this lock.
    log: std::sync::Mutex<Log>,
}

/// The place of one key, held by a caller.
#[derive(Clone)]
pub struct Place {
    world: World,
    slot: Arc<Slot<Flight>>,
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
            gate: CircuitBreaker::new(OVERDUE),
            log: std::sync::Mutex::default(),
        }))
    }

    /// As `Cache::slot` does.
    pub fn place(&self, key: &'static str, fates: &'static [Fate]) -> Place {
        let typed = typed(key);
        let existing = self.0.entries.read().unwrap().get(&typed);
        let slot = existing.unwrap_or_else(|| {
            let mut entries = self.0.entries.write().unwrap();
            entries.slot(&typed, 0, &now(0)).0
        });
        Place {
            world: self.clone(),
            slot,
            key,
            fates,
        }
    }

    /// As `Cache::clear` does.
    pub fn clear(&self) {
        self.0.entries.write().unwrap().clear();
        self.0.gate.open();
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

    /// As `ConfidentialClient::token` does.
    pub fn token(&self, at: u64, ask: Ask) -> Told {
        let requirements = self.requirements(ask);
        match self.slot.get(&now(at), &requirements) {
            Cached::Fresh(issued) => served(&issued),
            Cached::Stale(issued) => {
                self.renew(at);
                served(&issued)
            }
            Cached::Miss => self.wait(at, &requirements),
        }
    }

    /// A caller who is dropped where it would wait: what it started goes on.
    pub fn token_cancelled(&self, at: u64) {
        self.join(&now(at), at, &Requirements::NONE);
    }

    /// As `TokenProvider::cached` does.
    pub fn cached(&self, at: u64) -> Option<u64> {
        match self.slot.get(&now(at), &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => Some(number(&issued)),
            Cached::Miss => None,
        }
    }

    /// As `Cache::invalidate` does; whether the token is removed.
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

    /// As `Cache::wait` does.
    fn wait(&self, at: u64, requirements: &Requirements) -> Told {
        let told = self.arrive(at, requirements);
        if matches!(told, Told::Token(_)) || requirements.are_of_a_rejection() {
            return told;
        }
        match self.slot.get(&now(at), &Requirements::NONE) {
            Cached::Fresh(issued) | Cached::Stale(issued) => served(&issued),
            Cached::Miss => told,
        }
    }

    /// As `Cache::arrive` does.
    fn arrive(&self, mut at: u64, requirements: &Requirements) -> Told {
        let mut lost_before = false;
        loop {
            match self.join(&now(at), at, requirements) {
                Joined::Served(issued) => return served(&issued),
                Joined::Refused(_) => return Told::Refused,
                Joined::Full => unreachable!("everybody may start a flight"),
                Joined::Aboard { generation, flight } => match flight.outcome() {
                    Some(Ok(issued)) => return served(&issued),
                    Some(Err(_)) => return Told::Failed,
                    None if lost_before => return Told::Lost,
                    None => {
                        lost_before = true;
                        at += flight.seconds_in_vain();
                        self.abandon(generation, &flight);
                    }
                },
                Joined::Behind { generation, flight } => {
                    if flight.outcome().is_none() {
                        at += flight.seconds_in_vain();
                        self.abandon(generation, &flight);
                    }
                }
            }
        }
    }

    fn join(&self, now: &Now, at: u64, requirements: &Requirements) -> Joined<Flight> {
        let mut departed = None;
        let launch = |generation, replaced| {
            let claims = requirements.claims().map(ToString::to_string);
            let flight = self.depart(generation, replaced, now, claims);
            departed = Some(flight.clone());
            flight
        };
        let joined = self
            .slot
            .join(now, requirements, &self.world.0.gate, Some(launch));
        if let Some(flight) = departed {
            self.fly(&flight, at);
        }
        joined
    }

    /// As `Cache::renew` does.
    fn renew(&self, at: u64) {
        let mut departed = None;
        self.slot
            .renew(&now(at), &self.world.0.gate, |generation, replaced| {
                let flight = self.depart(generation, replaced, &now(at), None);
                departed = Some(flight.clone());
                flight
            });
        if let Some(flight) = departed {
            self.fly(&flight, at);
        }
    }

    fn depart(
        &self,
        generation: u64,
        replaced: Option<Flight>,
        now: &Now,
        claims: Option<String>,
    ) -> Flight {
        let replaced = replaced.map(|flight| flight.generation());
        let place = (self.key, &self.slot);
        let mut log = self.world.log();
        log.depart(place, (generation, replaced), claims, now);
        let number = usize::try_from(generation - 1).unwrap();
        let fate = self.fates.get(number).expect("a flight too many");
        Flight::new(generation, *fate)
    }

    /// The task of a flight.
    fn fly(&self, flight: &Flight, at: u64) {
        let no_answer = || Err(Error::Transport(Failure::new("no answer").into()));
        let generation = flight.generation();
        match flight.fate() {
            Fate::Token(seconds) => {
                let issued = Arc::new(self.issued(generation, at, seconds));
                self.land(flight, Ok(issued), at);
            }
            Fate::NoAnswer => self.land(flight, no_answer(), at),
            Fate::Lost => {
                self.abandon(generation, flight);
                flight.arrive(None);
            }
            Fate::Stuck => {}
            Fate::LateToken(seconds) => {
                let issued = Arc::new(self.issued(generation, at, seconds));
                self.land(flight, Ok(issued), at + LATE);
            }
            Fate::LateFailure => self.land(flight, no_answer(), at + LATE),
        }
    }

    /// As `Seat::land` does.
    fn land(&self, flight: &Flight, outcome: Outcome, at: u64) {
        let generation = flight.generation();
        let gate = &self.world.0.gate;
        let id = self.slot.flight_id(generation);
        let closes = gate.report(id, &outcome, &now(at), 0.0);
        self.log(generation, |flight| flight.probing = false);
        self.world.log().learn(outcome.is_ok(), closes);
        let outcome = self.slot.land(generation, outcome, &now(at), 0.0);
        self.log(generation, |flight| flight.under_way = false);
        flight.arrive(Some(outcome));
    }

    /// As `Tower::abandon` does.
    fn abandon(&self, generation: u64, flight: &Flight) {
        let in_time = matches!(flight.fate(), Fate::Token(_) | Fate::NoAnswer);
        assert!(!in_time, "a flight in time is given up");
        self.world.0.gate.abandon(self.slot.flight_id(generation));
        self.log(generation, |flight| flight.probing = false);
        self.slot.abandon(generation);
        self.log(generation, |flight| flight.under_way = false);
    }

    fn log(&self, generation: u64, change: impl FnOnce(&mut Departed)) {
        change(self.world.log().flight(&self.slot, generation));
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
        IssuedToken::new(key, &number, lifetime, "s".into(), None, &number).unwrap()
    }
}

fn now(at: u64) -> Now {
    static START: LazyLock<Now> = LazyLock::new(|| TimeSource::System.now());
    Now {
        wall: START.wall + Duration::from_secs(at),
        monotonic: START.monotonic + Duration::from_secs(at),
    }
}

fn typed(key: &str) -> CacheKey {
    CacheKey {
        tenant: key.into(),
        scopes: ScopeSet::default(),
        kind: Kind::Application,
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
