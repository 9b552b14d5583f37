//! The nodes of a fleet that use one tenant for a week, one event for each look beyond memory.
//!
//! A hit changes nothing, so that the simulation leaves hits out. Calls arrive at random
//! (Poisson), and the next call after a time is exponentially distributed. Tenants do not affect
//! each other, so that each is simulated by itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::rules::{HOUR, Token, refresh_after};

/// The fleet and its week.
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) nodes: usize,
    pub(crate) tenants: usize,
    /// Calls a second of all nodes for all tenants.
    pub(crate) calls: f64,
    pub(crate) week: f64,
    /// Redis does not respond, and is empty afterwards.
    pub(crate) outage: [f64; 2],
    /// The identity provider responds to nine requests in ten with 429 and `Retry-After: 60`.
    pub(crate) throttled: [f64; 2],
}

/// Who shares tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sharing {
    /// One process makes all calls and never restarts.
    OneProcess,
    /// One process that refreshes no token ahead.
    OneProcessAtExpiry,
    Nothing,
    Redis(Spread),
}

/// The time at which a node looks for a newer token after reading one from the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Spread {
    /// The time in the record.
    None,
    /// Later by up to a minute, and at most a twentieth of the lifetime.
    Later,
    /// A jitter of its own, as if the node had fetched the token.
    OwnJitter,
    /// As [`Spread::Later`]. While Redis is down, a valid token that is due is refreshed at a random
    /// time until a minute before its end.
    LaterAndPostponed,
    /// As [`Spread::Later`], but a published failure replaces the token in the record.
    LaterWithLostTokens,
}

/// The counts of a week.
#[derive(Default)]
pub(crate) struct Counts {
    /// Requests to the identity provider, each second.
    pub(crate) requests: Vec<u32>,
    /// Operations of Redis, each second: the record is read before the lock is tried.
    pub(crate) operations: Vec<u32>,
    /// The same if the lock is tried first.
    pub(crate) lock_first: Vec<u32>,
    /// The most operations for one tenant within a second.
    pub(crate) tenant_peak: u32,
    pub(crate) errors: u64,
    /// Errors while a valid token was in Redis, and Redis responded.
    pub(crate) withheld: u64,
    /// Errors while another node had a valid token in memory.
    pub(crate) elsewhere: u64,
    /// Callers that waited for the identity provider.
    pub(crate) waits: u64,
    /// Pairs of a node and a tenant.
    pub(crate) pairs: u64,
}

#[derive(Clone, Default)]
struct Node {
    token: Option<Token>,
    cool_down: f64,
    restart: f64,
    /// The end of the token whose refresh was postponed.
    postponed: f64,
}

/// The record of the tenant in Redis.
#[derive(Default)]
struct Record {
    token: Option<Token>,
    cool_down: f64,
    /// The lock is held until then.
    locked: f64,
    was_emptied: bool,
}

struct Tenant<'a> {
    fleet: &'a Fleet,
    sharing: Sharing,
    /// Calls a second of one node.
    rate: f64,
    rank: usize,
    random: Random,
    nodes: Vec<Node>,
    record: Record,
    counts: &'a mut Counts,
    this_second: (u64, u32),
}

pub(crate) fn simulate(fleet: &Fleet, sharing: Sharing) -> Counts {
    let seconds = fleet.week as usize + 1;
    let mut counts = Counts {
        requests: vec![0; seconds],
        operations: vec![0; seconds],
        lock_first: vec![0; seconds],
        ..Counts::default()
    };
    let weights: f64 = (1..=fleet.tenants).map(weight).sum();
    for rank in 1..=fleet.tenants {
        let rate = fleet.calls * weight(rank) / weights;
        let nodes = match sharing {
            Sharing::OneProcess | Sharing::OneProcessAtExpiry => 1,
            Sharing::Nothing | Sharing::Redis(_) => (3 * fleet.nodes / rank).clamp(5, fleet.nodes),
        };
        counts.pairs += nodes as u64;
        Tenant {
            fleet,
            sharing,
            rate: rate / nodes as f64,
            rank,
            random: Random(rank as u64),
            nodes: vec![Node::default(); nodes],
            record: Record::default(),
            counts: &mut counts,
            this_second: (0, 0),
        }
        .week();
    }
    counts
}

/// Returns the share of a tenant in all calls, by a power law.
fn weight(rank: usize) -> f64 {
    (rank as f64).powf(-1.5)
}

impl Tenant<'_> {
    fn week(mut self) {
        let mut events = BinaryHeap::with_capacity(self.nodes.len());
        for node in 0..self.nodes.len() {
            self.nodes[node].restart = match self.sharing {
                Sharing::OneProcess | Sharing::OneProcessAtExpiry => f64::INFINITY,
                _ => self.first_restart(node),
            };
            let at = self.call_after(node, 0.0);
            events.push(Reverse((micros(at), node)));
        }
        while let Some(Reverse((at, node))) = events.pop() {
            let now = at as f64 / 1e6;
            if now >= self.fleet.week {
                break;
            }
            let due = self.look(node, now);
            let at = self.call_after(node, due.max(now));
            events.push(Reverse((micros(at), node)));
        }
    }

    /// Nodes restart one after another from noon on, within an hour, every day.
    fn first_restart(&self, node: usize) -> f64 {
        let place = (self.rank * 31 + node * 7) % self.fleet.nodes;
        12.0 * HOUR + place as f64 * HOUR / self.fleet.nodes as f64
    }

    /// Returns the time of the node's first call from `due` on. A restart before the call empties
    /// the node's memory, and the first call after the restart counts.
    fn call_after(&mut self, index: usize, due: f64) -> f64 {
        let mut at = due + self.random.exponential(self.rate);
        let day = 24.0 * HOUR;
        while self.nodes[index].restart < at {
            let restart = self.nodes[index].restart;
            self.nodes[index] = Node {
                restart: restart + day,
                ..Node::default()
            };
            at = restart + self.random.exponential(self.rate);
        }
        at
    }

    /// Handles a call that finds its token due or expired. Returns the time of the next look.
    fn look(&mut self, index: usize, now: f64) -> f64 {
        let valid = self.nodes[index].token.is_some_and(|token| token.end > now);
        if now < self.nodes[index].cool_down {
            if !valid {
                self.error(index, now);
            }
            return self.nodes[index].cool_down;
        }
        match self.sharing {
            Sharing::Redis(spread) if self.is_redis_up(index, now) => {
                self.look_shared(index, now, valid, spread)
            }
            Sharing::Redis(Spread::LaterAndPostponed) if valid => self.postpone(index, now),
            _ => self.look_alone(index, now, valid),
        }
    }

    fn postpone(&mut self, index: usize, now: f64) -> f64 {
        let end = self.nodes[index].token.map_or(now, |token| token.end);
        let rest = end - now - 60.0;
        if self.nodes[index].postponed == end || rest <= 0.0 {
            return self.look_alone(index, now, true);
        }
        self.nodes[index].postponed = end;
        now + rest * self.random.unit()
    }

    fn look_alone(&mut self, index: usize, now: f64, valid: bool) -> f64 {
        self.counts.waits += u64::from(!valid);
        match self.request(now) {
            Ok(token) => {
                self.nodes[index].token = Some(token);
                match self.sharing {
                    Sharing::OneProcessAtExpiry => token.end,
                    _ => token.refresh_on,
                }
            }
            Err(cool_down) => {
                self.nodes[index].cool_down = cool_down;
                if !valid {
                    self.error(index, now);
                }
                cool_down
            }
        }
    }

    fn look_shared(&mut self, index: usize, now: f64, valid: bool, spread: Spread) -> f64 {
        let outage_ended = now >= self.fleet.outage[1];
        if outage_ended && !self.record.was_emptied {
            self.record = Record {
                was_emptied: true,
                ..Record::default()
            };
        }
        // Another node is at the identity provider. A node with a valid token comes back.
        if now < self.record.locked {
            if valid {
                self.operations(now, 2, 1);
                return now + 1.0 + 4.0 * self.random.unit();
            }
            self.counts.waits += 1;
            let polls = ((self.record.locked - now) / 0.075).ceil() as u32;
            self.operations(now, 2 + polls, 1 + polls);
            return self.take(index, self.record.locked, spread);
        }
        if let Some(token) = self.record.token
            && token.refresh_on > now
        {
            self.operations(now, 1, 2);
            return self.take(index, now, spread);
        }
        if now < self.record.cool_down {
            self.operations(now, 1, 2);
            return self.take(index, now, spread);
        }
        let stored = self.record.token.filter(|token| token.end > now);
        self.operations(now, 4, 3);
        self.counts.waits += u64::from(!valid && stored.is_none());
        self.record.locked = now + LATENCY;
        match self.request(now) {
            Ok(token) => {
                self.record.token = Some(token);
                self.record.cool_down = 0.0;
                self.nodes[index].token = Some(token);
                token.refresh_on
            }
            Err(cool_down) => {
                self.record.cool_down = cool_down;
                if spread == Spread::LaterWithLostTokens {
                    self.record.token = None;
                }
                self.take(index, now, spread)
            }
        }
    }

    /// Takes the token of the record, or the published failure.
    fn take(&mut self, index: usize, now: f64, spread: Spread) -> f64 {
        let own = self.nodes[index].token.filter(|token| token.end > now);
        let stored = self.record.token.filter(|token| token.end > now);
        let best = match (own, stored) {
            (Some(own), Some(stored)) if own.end > stored.end => Some(own),
            (own, stored) => stored.or(own),
        };
        self.nodes[index].token = best;
        self.nodes[index].cool_down = self.record.cool_down;
        let Some(token) = best else {
            self.error(index, now);
            return self.record.cool_down;
        };
        let due = match spread {
            Spread::None => token.refresh_on,
            Spread::Later | Spread::LaterAndPostponed | Spread::LaterWithLostTokens => {
                token.refresh_on + self.random.unit() * f64::min(60.0, token.lifetime / 20.0)
            }
            Spread::OwnJitter => token.issued() + refresh_after(token.lifetime, self.random.unit()),
        };
        due.max(self.record.cool_down)
    }

    fn is_redis_up(&self, index: usize, now: f64) -> bool {
        let [begin, end] = self.fleet.outage;
        // The node tries Redis again within five seconds.
        let wait = (self.rank * 13 + index * 5) % 50;
        !(begin..end + wait as f64 / 10.0).contains(&now)
    }

    /// Sends a request to the identity provider. Returns the end of the cool-down if the provider
    /// responds with 429.
    fn request(&mut self, now: f64) -> Result<Token, f64> {
        if let Some(count) = self.counts.requests.get_mut(now as usize) {
            *count += 1;
        }
        let [begin, end] = self.fleet.throttled;
        if (begin..end).contains(&now) && self.random.unit() < 0.9 {
            return Err(now + 60.0);
        }
        // Entra's tokens live for 60 to 90 minutes, at random.
        let lifetime = HOUR * (1.0 + self.random.unit() / 2.0);
        Ok(Token::new(now, lifetime, self.random.unit()))
    }

    fn operations(&mut self, now: f64, get_first: u32, lock_first: u32) {
        let second = now as u64;
        if let Some(count) = self.counts.operations.get_mut(second as usize) {
            *count += get_first;
        }
        if let Some(count) = self.counts.lock_first.get_mut(second as usize) {
            *count += lock_first;
        }
        if self.this_second.0 != second {
            self.this_second = (second, 0);
        }
        self.this_second.1 += get_first;
        // Not the start of the whole fleet.
        if now < 2.0 * HOUR {
            return;
        }
        self.counts.tenant_peak = self.counts.tenant_peak.max(self.this_second.1);
    }

    fn error(&mut self, index: usize, now: f64) {
        self.counts.errors += 1;
        let is_valid = |token: Option<Token>| token.is_some_and(|token| token.end > now);
        let is_up = matches!(self.sharing, Sharing::Redis(_)) && self.is_redis_up(index, now);
        let is_elsewhere = self.nodes.iter().any(|node| is_valid(node.token));
        self.counts.withheld += u64::from(is_up && is_valid(self.record.token));
        self.counts.elsewhere += u64::from(is_elsewhere);
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds.min(1e12) * 1e6) as u64
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Returns a number from 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }
}

/// The time of a token request.
const LATENCY: f64 = 0.2;
