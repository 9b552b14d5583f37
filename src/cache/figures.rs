//! What a cache holds, in numbers for an operator.

use std::time::Duration;

/// The number of entries in each state, and how long the tokens last.
pub(crate) struct CacheFigures {
    /// By the discriminant of the [`EntryState`].
    entries: [u64; EntryState::ALL.len()],
    pub(crate) cool_downs: u64,
    /// The shortest remaining lifetime. `None` if no entry has one.
    pub(crate) least_remaining: Option<Duration>,
    pub(crate) circuit_is_open: bool,
}

/// The figures of one entry.
pub(super) struct EntryFigures {
    pub(super) state: EntryState,
    /// The remaining lifetime of the token, zero for an entry that is unavailable. `None` for a
    /// token that is due and that nobody asked for, because such a token runs out unused.
    pub(super) remaining: Option<Duration>,
    pub(super) is_cooling_down: bool,
}

/// The state of an entry, as an operator wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// The token is valid.
    Valid,
    /// The token is valid, and its refresh fails.
    Failing,
    /// There is no valid token, and callers get errors.
    Unavailable,
    /// There is no valid token, and nobody asks for one.
    Unused,
}

impl EntryState {
    pub(crate) const ALL: [Self; 4] = [Self::Valid, Self::Failing, Self::Unavailable, Self::Unused];

    /// Returns the state as a label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Failing => "failing",
            Self::Unavailable => "unavailable",
            Self::Unused => "unused",
        }
    }
}

impl CacheFigures {
    pub(super) fn new(circuit_is_open: bool) -> Self {
        Self {
            entries: Default::default(),
            cool_downs: 0,
            least_remaining: None,
            circuit_is_open,
        }
    }

    pub(super) fn add(&mut self, entry: &EntryFigures) {
        if let Some(count) = self.entries.get_mut(entry.state as usize) {
            *count += 1;
        }
        self.cool_downs += u64::from(entry.is_cooling_down);
        self.least_remaining = least(self.least_remaining, entry.remaining);
    }

    pub(crate) fn entries(&self, state: EntryState) -> u64 {
        self.entries.get(state as usize).copied().unwrap_or(0)
    }

    /// Adds the figures of another client.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.entries.iter_mut().zip(other.entries) {
            *count += more;
        }
        self.cool_downs += other.cool_downs;
        self.least_remaining = least(self.least_remaining, other.least_remaining);
        self.circuit_is_open |= other.circuit_is_open;
    }
}

fn least(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(circuit_is_open: bool, remaining: &[Option<u64>]) -> CacheFigures {
        let mut figures = CacheFigures::new(circuit_is_open);
        for remaining in remaining {
            figures.add(&EntryFigures {
                state: EntryState::Failing,
                remaining: remaining.map(Duration::from_secs),
                is_cooling_down: true,
            });
        }
        figures
    }

    #[test]
    fn the_figures_of_clients_add_up_and_the_shortest_lifetime_remains() {
        let none = figures(false, &[]);
        let (short, long) = ([Some(70), None, Some(7)], [Some(8), Some(80)]);
        for (ours, theirs) in [(short.as_slice(), long.as_slice()), (&long, &short)] {
            for (one, other) in [(true, false), (false, true), (false, false)] {
                let mut sum = figures(one, ours);
                sum.merge(&figures(other, theirs));
                sum.merge(&none);
                assert_eq!(sum.least_remaining, Some(Duration::from_secs(7)));
                assert_eq!((sum.cool_downs, sum.entries(EntryState::Failing)), (5, 5));
                assert_eq!(sum.entries(EntryState::Valid), 0);
                assert_eq!(sum.circuit_is_open, one || other);
            }
        }
    }
}
