//! Everything that a schedule of steps changes: processes, store, replica and identity provider.

use super::process::Process;
use super::rules::Rules;
use super::store::{Call, Generation, Record, State, Store, Token};

/// A step of a schedule: who takes the step, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// `None` is the environment.
    pub process: Option<usize>,
    pub name: &'static str,
}

impl Step {
    /// Returns `true` for a process's step without a fault.
    pub fn is_work(&self) -> bool {
        matches!(
            self.name,
            "begins"
                | "locks"
                | "marks"
                | "redeems"
                | "puts"
                | "cancels"
                | "unlocks"
                | "reads"
                | "removes"
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub store: Store,
    /// The state of the primary at some earlier time, which a fail-over restores.
    pub replica: Store,
    pub provider: Provider,
    pub processes: Vec<Process>,
    /// Calls that timed out and are executed later, or never.
    pub late: Vec<Call>,
    pub faults: Faults,
    /// The families of the users' sign-outs that completed, one bit each.
    pub signed_out: u16,
    /// A caller was told to sign in.
    pub asked_to_sign_in: bool,
    pub lost_writes: bool,
}

/// The faults that a schedule may still have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// The lock may expire at any time: a pause is longer than every limit.
    pub lock_expires: bool,
    /// A mark may become older than every limit at any time.
    pub mark_ages: bool,
    /// A record without a refresh token may expire at any time at which no call is late.
    pub empty_records_expire: bool,
    pub timeouts: u8,
    pub crashes: u8,
    pub fail_overs: u8,
    pub empty_restarts: u8,
    pub sign_ins: u8,
    pub sign_outs: u8,
    /// Requests to the identity provider without a response.
    pub lost_responses: u8,
}

/// An identity provider that revokes a family at the second presentation of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Provider {
    /// The family of each token.
    pub families: Vec<u8>,
    pub presented: u32,
    pub was_presented_twice: bool,
}

impl Provider {
    /// Issues the first refresh token of a family, at a sign-in.
    pub fn sign_in(&mut self) -> Token {
        let family = self.families.iter().max().map_or(0, |last| last + 1);
        self.issue(family)
    }

    fn issue(&mut self, family: u8) -> Token {
        self.families.push(family);
        (self.families.len() - 1) as Token
    }

    /// Redeems a refresh token for the next one of its family.
    pub fn redeem(&mut self, token: Token) -> Token {
        let bit = 1 << token;
        self.was_presented_twice |= self.presented & bit != 0;
        self.presented |= bit;
        self.issue(self.family(token))
    }

    pub fn family(&self, token: Token) -> u8 {
        self.families[usize::from(token)]
    }
}

impl World {
    /// Returns a session that has just begun, known to no process.
    pub fn new(processes: usize, attempts: u8, faults: Faults, rules: &Rules) -> Self {
        let mut world = Self {
            store: Store::default(),
            replica: Store::default(),
            provider: Provider {
                families: Vec::new(),
                presented: 0,
                was_presented_twice: false,
            },
            processes: (0..processes).map(|_| Process::new(attempts)).collect(),
            late: Vec::new(),
            faults,
            signed_out: 0,
            asked_to_sign_in: false,
            lost_writes: false,
        };
        let token = world.provider.sign_in();
        world.store.record = Some(rules.first_record(token, None, &world.provider));
        world.replica = world.store;
        world
    }

    /// Returns every world that one step leads to.
    pub fn successors(&self, rules: &Rules, found: &mut Vec<(Step, World)>) {
        found.clear();
        for process in 0..self.processes.len() {
            self.process_steps(process, rules, found);
        }
        self.environment_steps(found);
    }

    fn environment_steps(&self, found: &mut Vec<(Step, World)>) {
        let mut step = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            let process = None;
            found.push((Step { process, name }, world));
        };
        if self.faults.lock_expires && self.store.lock.is_some() {
            step("the lock expires", &|world| world.store.lock = None);
        }
        let mark = self.store.record.and_then(|record| record.mark);
        if self.faults.mark_ages && mark.is_some_and(|mark| !mark.is_old) {
            step("the mark becomes old", &|world| {
                for record in world.store.record.iter_mut() {
                    record.mark.iter_mut().for_each(|mark| mark.is_old = true);
                }
            });
        }
        let is_empty = |record: Record| record.state == State::Empty;
        if self.faults.empty_records_expire
            && self.late.is_empty()
            && self.store.record.is_some_and(is_empty)
        {
            step("the empty record expires", &|world| {
                world.store.record = None
            });
        }
        for index in 0..self.late.len() {
            step("a late call takes effect", &|world| {
                let call = world.late.remove(index);
                world.store.execute(call);
            });
        }
        if self.faults.fail_overs > 0 {
            if self.replica != self.store {
                step("the replica catches up", &|world| {
                    world.replica = world.store
                });
            }
            step("fail-over", &|world| {
                world.faults.fail_overs -= 1;
                world.lost_writes |= world.store != world.replica;
                world.store = world.replica;
                world.late.clear();
            });
        }
        if self.faults.empty_restarts > 0 {
            step("the store restarts empty", &|world| {
                world.faults.empty_restarts -= 1;
                world.lost_writes = true;
                world.store = Store::default();
                world.replica = Store::default();
                world.late.clear();
            });
        }
    }

    /// Returns the promise that this world breaks.
    pub fn violation(&self) -> Option<Violation> {
        if self.provider.was_presented_twice {
            return Some(Violation::PresentedTwice);
        }
        // A removal that the store forgot is not the protocol's fault.
        let is_back = !self.lost_writes
            && self.store.record.is_some_and(|record| {
                let family = self.provider.family(record.token);
                record.state != State::Empty && self.signed_out & (1 << family) != 0
            });
        is_back.then_some(Violation::SignedOutAndBack)
    }

    /// Returns `true` if the session can be refreshed: by the record, or by a process that
    /// remembers a newer refresh token.
    pub fn is_session_alive(&self) -> bool {
        let Some(record) = self.store.record else {
            return false;
        };
        let is_unused = |token: Token| self.provider.presented & (1 << token) == 0;
        let is_remembered = self.processes.iter().any(|process| {
            process
                .memory()
                .is_some_and(|newer| newer.generation > record.generation && is_unused(newer.token))
        });
        let is_stored =
            record.state == State::Usable && record.mark.is_none() && is_unused(record.token);
        is_stored || is_remembered
    }

    /// Returns `true` if no process has work left.
    pub fn is_at_rest(&self) -> bool {
        self.processes.iter().all(Process::is_idle)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A refresh token was presented twice.
    PresentedTwice,
    /// The session of a user who signed out is in the store again.
    SignedOutAndBack,
}

/// The generation that a sign-in takes at the earliest, in place of the milliseconds since 1970.
pub fn time_of(family: u8) -> Generation {
    family * 16 + 1
}
