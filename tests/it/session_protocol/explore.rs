//! Searches schedules, all of them in small worlds and random ones in larger worlds.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::rules::Rules;
use super::world::{Step, Violation, World};

/// The result of a search.
pub struct Found {
    pub worlds: usize,
    pub violation: Option<(Violation, String)>,
    /// A schedule in which a caller was told to sign in.
    pub sign_in: Option<String>,
    /// The worlds in which no process had work left.
    pub at_rest: Vec<World>,
}

/// Visits every world that the rules lead to, the shortest schedules first. Ends at the first
/// violation.
pub fn every_schedule(start: World, rules: &Rules) -> Found {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::from([hasher.hash_one(&start)]);
    let mut visited: Vec<(World, usize, Option<Step>)> = vec![(start, 0, None)];
    let mut found = Found {
        worlds: 0,
        violation: None,
        sign_in: None,
        at_rest: Vec::new(),
    };
    let mut successors = Vec::new();
    let mut current = 0;
    while current < visited.len() {
        let (world, ..) = &visited[current];
        if world.is_at_rest() {
            found.at_rest.push(world.clone());
        }
        world.successors(rules, &mut successors);
        for (step, world) in successors.drain(..) {
            if !seen.insert(hasher.hash_one(&world)) {
                continue;
            }
            let violation = world.violation();
            let asked_to_sign_in = world.asked_to_sign_in;
            visited.push((world, current, Some(step)));
            if asked_to_sign_in && found.sign_in.is_none() {
                found.sign_in = Some(schedule(&visited));
            }
            if let Some(violation) = violation {
                found.violation = Some((violation, schedule(&visited)));
                found.worlds = visited.len();
                return found;
            }
        }
        current += 1;
    }
    found.worlds = visited.len();
    found
}

/// Returns the steps to the last world.
fn schedule(visited: &[(World, usize, Option<Step>)]) -> String {
    let mut steps = Vec::new();
    let mut at = visited.len() - 1;
    while let (_, before, Some(step)) = visited[at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    text_of(&steps)
}

fn text_of(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step.process {
            Some(process) => {
                let name = char::from(b'A' + process as u8);
                let _ = writeln!(text, "{name} {}", step.name);
            }
            None => {
                let _ = writeln!(text, "  {}", step.name);
            }
        }
    }
    text
}

/// The results of random schedules.
#[derive(Debug, Default)]
pub struct Walks {
    pub violations: u32,
    /// The shortest schedule with a violation.
    pub shortest: Option<(Violation, String)>,
    pub sign_ins: u32,
    pub redemptions: u32,
}

/// Runs random schedules of at most `steps` steps. The same seed gives the same schedules.
pub fn random_schedules(start: &World, rules: &Rules, count: u32, steps: u32) -> Walks {
    let mut random = Random::new(1);
    let mut walks = Walks::default();
    let mut shortest = usize::MAX;
    let mut successors = Vec::new();
    for _ in 0..count {
        let mut world = start.clone();
        let mut taken = Vec::new();
        for _ in 0..steps {
            world.successors(rules, &mut successors);
            if successors.is_empty() {
                break;
            }
            // Mostly work, because a schedule of faults alone tests nothing.
            let only_work = random.below(12) > 0;
            if only_work && successors.iter().any(|(step, _)| step.is_work()) {
                successors.retain(|(step, _)| step.is_work());
            }
            let chosen = random.below(successors.len());
            let (step, next) = successors.swap_remove(chosen);
            world = next;
            taken.push(step);
            if world.violation().is_some() {
                break;
            }
        }
        if let Some(violation) = world.violation() {
            walks.violations += 1;
            if taken.len() < shortest {
                shortest = taken.len();
                walks.shortest = Some((violation, text_of(&taken)));
            }
        }
        walks.sign_ins += u32::from(world.asked_to_sign_in);
        walks.redemptions += world.provider.presented.count_ones();
    }
    walks
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
