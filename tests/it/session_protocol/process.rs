//! One process: what it remembers, and the step it is at.

use confidential_client::cache::{BeginRedemption, PutOutcome};

use super::rules::{RecordBehindMemory, Rules, SignOut};
use super::store::{Call, Generation, Owner, Record, Reply, State, Token};
use super::world::{Step, World};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The newest record with a refresh token that the process has read or put.
    memory: Option<Record>,
    /// The owner of the current attempt.
    owner: Owner,
    attempts: u8,
    at: At,
}

/// The step that a process takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Lock,
    /// Holds the lock, and puts back the newer record that it remembers.
    PutBack {
        record: Record,
        older: Generation,
    },
    Begin {
        generation: Generation,
        token: Token,
    },
    /// Has marked the record, and sends the refresh token.
    Send {
        generation: Generation,
        token: Token,
    },
    /// Has received a refresh token, and stores it until the store responds.
    Store {
        record: Record,
    },
    /// Removes its mark.
    Cancel {
        generation: Generation,
    },
    Unlock,
    SignInRead {
        token: Token,
    },
    /// Puts a record without a refresh token.
    SignInCreate {
        record: Record,
    },
    SignInPut {
        record: Record,
    },
    SignOutRead,
    SignOutRemove {
        generation: Generation,
        token: Token,
    },
    SignOutPut {
        record: Record,
    },
}

impl Process {
    pub fn new(attempts: u8) -> Self {
        Self {
            memory: None,
            owner: 0,
            attempts,
            at: At::Idle,
        }
    }

    pub fn memory(&self) -> Option<Record> {
        self.memory
    }

    pub fn is_idle(&self) -> bool {
        self.at == At::Idle && self.attempts == 0
    }

    /// Returns the call that the process waits for.
    fn call(&self, rules: &Rules) -> Option<Call> {
        let owner = self.owner;
        Some(match self.at {
            At::Idle | At::Send { .. } => return None,
            At::Lock => Call::Lock(owner),
            At::PutBack { record, older } => Call::Put {
                record,
                replaces: Some(older),
            },
            At::Begin { generation, .. } => Call::Begin(owner, generation),
            At::Store { record } => Call::Put {
                record,
                replaces: rules.rotation_only_replaces.then(|| record.generation - 1),
            },
            At::Cancel { generation } => Call::Cancel(owner, generation),
            At::Unlock => Call::Unlock(owner),
            At::SignInRead { .. } | At::SignOutRead => Call::Get,
            At::SignInCreate { record } | At::SignOutPut { record } => Call::Put {
                record: Record {
                    state: State::Empty,
                    ..record
                },
                replaces: None,
            },
            At::SignInPut { record } => Call::Put {
                record,
                replaces: rules.sign_in_creates_empty.then(|| record.generation - 1),
            },
            At::SignOutRemove { generation, .. } => Call::Remove(generation),
        })
    }

    fn remember(&mut self, record: Record) {
        self.memory = Some(Record {
            mark: None,
            ..record
        });
    }
}

impl World {
    pub fn process_steps(&self, index: usize, rules: &Rules, found: &mut Vec<(Step, World)>) {
        let process = &self.processes[index];
        let mut step = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            let process = Some(index);
            found.push((Step { process, name }, world));
        };
        if self.faults.crashes > 0 && *process != Process::new(process.attempts) {
            step("crashes and restarts", &|world| {
                world.faults.crashes -= 1;
                let process = &mut world.processes[index];
                // A new process has other owners.
                let owner = process.owner;
                *process = Process::new(process.attempts);
                process.owner = owner;
            });
        }
        if let Some(call) = process.call(rules) {
            step(name_of(call), &|world| {
                let reply = world.store.execute(call);
                if let Reply::Begin(BeginRedemption::Begun) = reply
                    && rules.waits_for_replica
                {
                    world.replica = world.store;
                }
                world.resume(index, Some(reply), rules);
            });
            if self.faults.timeouts > 0 {
                step("a call is lost", &|world| {
                    world.faults.timeouts -= 1;
                    world.resume(index, None, rules);
                });
                step("a call times out, and is late", &|world| {
                    world.faults.timeouts -= 1;
                    world.late.push(call);
                    world.resume(index, None, rules);
                });
            }
            return;
        }
        match process.at {
            At::Send { generation, token } => {
                self.send_steps(index, generation, token, rules, found)
            }
            _ => self.idle_steps(index, rules, found),
        }
    }

    fn idle_steps(&self, index: usize, rules: &Rules, found: &mut Vec<(Step, World)>) {
        let mut step = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            let process = Some(index);
            found.push((Step { process, name }, world));
        };
        if self.processes[index].attempts > 0 {
            step("begins", &|world| {
                let process = &mut world.processes[index];
                process.attempts -= 1;
                let attempt = match rules.has_new_owners {
                    true => process.attempts,
                    false => 0,
                };
                process.owner = index as u8 * 16 + attempt + 1;
                process.at = At::Lock;
            });
        }
        if self.faults.sign_ins > 0 {
            step("signs the user in", &|world| {
                world.faults.sign_ins -= 1;
                let token = world.provider.sign_in();
                world.processes[index].at = At::SignInRead { token };
            });
        }
        if self.faults.sign_outs > 0 {
            step("signs the user out", &|world| {
                world.faults.sign_outs -= 1;
                world.processes[index].at = At::SignOutRead;
            });
        }
    }

    fn send_steps(
        &self,
        index: usize,
        generation: Generation,
        token: Token,
        rules: &Rules,
        found: &mut Vec<(Step, World)>,
    ) {
        let mut step = |name, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            let process = Some(index);
            found.push((Step { process, name }, world));
        };
        step("redeems", &|world| {
            let new = world.provider.redeem(token);
            let process = &mut world.processes[index];
            let record = Record::new(generation + 1, new, State::Usable);
            process.remember(record);
            process.at = At::Store { record };
        });
        if self.faults.lost_responses == 0 {
            return;
        }
        step("cannot connect to the provider", &|world| {
            world.faults.lost_responses -= 1;
            world.processes[index].at = At::Cancel { generation };
        });
        step("redeems, and the response is lost", &|world| {
            world.faults.lost_responses -= 1;
            world.provider.redeem(token);
            let process = &mut world.processes[index];
            process.at = if !rules.sends_once {
                At::Send { generation, token }
            } else if !rules.cancels_only_what_was_not_sent {
                At::Cancel { generation }
            } else {
                let record = Record::new(generation + 1, token, State::InDoubt);
                At::Store { record }
            };
        });
    }

    /// Goes on with the reply of the store, or without one.
    fn resume(&mut self, index: usize, reply: Option<Reply>, rules: &Rules) {
        let at = self.processes[index].at;
        let next = match (at, reply) {
            (At::Lock, Some(Reply::Acquired(record))) => self.decide(index, record, rules),
            (At::Lock, _) => At::Idle,
            (At::PutBack { record, .. }, Some(Reply::Put(PutOutcome::Stored)))
                if record.state == State::Usable =>
            {
                begin(record, rules)
            }
            (At::PutBack { .. }, _) => At::Unlock,
            (At::Begin { generation, token }, Some(Reply::Begin(BeginRedemption::Begun))) => {
                At::Send { generation, token }
            }
            // The mark may be there.
            (At::Begin { generation, .. }, None) => At::Cancel { generation },
            (At::Begin { .. }, _) => At::Unlock,
            (At::Store { record }, Some(Reply::Put(outcome))) => {
                if outcome == PutOutcome::Superseded && self.processes[index].memory == Some(record)
                {
                    // Another record is newer, and the next look finds it.
                    self.processes[index].memory = None;
                }
                At::Unlock
            }
            (At::Cancel { .. }, Some(_)) => At::Unlock,
            (At::Store { .. } | At::Cancel { .. }, _) => at,
            (At::Unlock, _) => At::Idle,
            (At::SignInRead { token }, Some(Reply::Record(read))) => {
                let record = rules.first_record(token, read, &self.provider);
                match rules.sign_in_creates_empty {
                    true => At::SignInCreate { record },
                    false => At::SignInPut { record },
                }
            }
            (At::SignInCreate { record }, Some(Reply::Put(PutOutcome::Stored))) => At::SignInPut {
                record: Record {
                    generation: record.generation + 1,
                    ..record
                },
            },
            (At::SignInPut { record }, Some(Reply::Put(PutOutcome::Stored))) => {
                self.processes[index].remember(record);
                At::Idle
            }
            // Stored by a call that timed out, or another sign-in or sign-out is newer.
            (At::SignInPut { .. }, Some(_)) if rules.sign_in_creates_empty => At::Idle,
            (At::SignInCreate { record } | At::SignInPut { record }, Some(_)) => At::SignInRead {
                token: record.token,
            },
            (At::SignOutRead, Some(Reply::Record(Some(record))))
                if record.state != State::Empty =>
            {
                match rules.sign_out {
                    SignOut::Removes => At::SignOutRemove {
                        generation: record.generation,
                        token: record.token,
                    },
                    SignOut::PutsEmpty => At::SignOutPut {
                        record: Record::new(record.generation + 1, record.token, State::Empty),
                    },
                }
            }
            (At::SignOutRead, Some(_)) => {
                self.processes[index].memory = None;
                At::Idle
            }
            (At::SignOutRemove { token, .. }, Some(Reply::Removed(true))) => {
                self.signed_out(index, token)
            }
            (At::SignOutPut { record }, Some(Reply::Put(PutOutcome::Stored))) => {
                self.signed_out(index, record.token)
            }
            (At::SignOutRemove { .. } | At::SignOutPut { .. }, Some(_)) => At::SignOutRead,
            // Tried again.
            (
                At::SignInRead { .. }
                | At::SignInCreate { .. }
                | At::SignInPut { .. }
                | At::SignOutRead
                | At::SignOutRemove { .. }
                | At::SignOutPut { .. },
                _,
            ) => at,
            (At::Idle | At::Send { .. }, _) => unreachable!("no call of the store"),
        };
        self.processes[index].at = next;
    }

    fn signed_out(&mut self, index: usize, token: Token) -> At {
        self.signed_out |= 1 << self.provider.family(token);
        self.processes[index].memory = None;
        At::Idle
    }

    /// Decides what the holder of the lock does with the record.
    fn decide(&mut self, index: usize, record: Option<Record>, rules: &Rules) -> At {
        let process = &mut self.processes[index];
        let Some(record) = record else {
            return match process.memory {
                Some(record) if !rules.leaves_absent_records_absent => {
                    // Without a record there is nothing to replace.
                    self.store.record = Some(record);
                    begin(record, rules)
                }
                _ => {
                    self.asked_to_sign_in = true;
                    At::Unlock
                }
            };
        };
        if let Some(newer) = process.memory
            && newer.generation > record.generation
            && (!rules.another_family_wins
                || self.provider.family(newer.token) == self.provider.family(record.token))
            && rules.record_behind_memory != RecordBehindMemory::Ignored
        {
            let is_own = |owner: Owner| owner / 16 == index as u8;
            let state = match rules.record_behind_memory {
                _ if rules.remembers_doubt && newer.state == State::InDoubt => State::InDoubt,
                RecordBehindMemory::PutBackUsable => State::Usable,
                RecordBehindMemory::PutBackUsableWithOwnMark
                    if record.generation + 1 == newer.generation
                        && record.mark.is_some_and(|mark| is_own(mark.owner)) =>
                {
                    State::Usable
                }
                _ => State::InDoubt,
            };
            return At::PutBack {
                record: Record { state, ..newer },
                older: record.generation,
            };
        }
        match record.state {
            State::Empty => process.memory = None,
            State::Usable | State::InDoubt => process.remember(record),
        }
        match (record.state, record.mark) {
            (State::Empty, _) => {
                self.asked_to_sign_in = true;
                At::Unlock
            }
            (State::Usable, None) => begin(record, rules),
            // The other process may still store its new refresh token.
            (State::Usable, Some(mark)) if !mark.is_old => At::Unlock,
            _ if rules.signs_in_when_in_doubt => {
                self.asked_to_sign_in = true;
                At::Unlock
            }
            _ => At::Send {
                generation: record.generation,
                token: record.token,
            },
        }
    }
}

fn begin(record: Record, rules: &Rules) -> At {
    let Record {
        generation, token, ..
    } = record;
    match rules.marks_before_sending {
        true => At::Begin { generation, token },
        false => At::Send { generation, token },
    }
}

fn name_of(call: Call) -> &'static str {
    match call {
        Call::Get => "reads",
        Call::Lock(_) => "locks",
        Call::Unlock(_) => "unlocks",
        Call::Put { .. } => "puts",
        Call::Begin(..) => "marks",
        Call::Cancel(..) => "cancels",
        Call::Remove(_) => "removes",
    }
}
