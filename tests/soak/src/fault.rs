use std::time::Duration;

use crate::random::Random;

/// A fault that replaces or delays the response to a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Unavailable,
    UnavailableForASecond,
    Throttled,
    ServerError,
    Dropped,
    DroppedInBody,
    Truncated,
    Page,
    /// A late response.
    Delayed,
    /// No response on an open connection.
    Stalled,
}

impl Fault {
    /// Each fault with a relative frequency.
    pub const MIX: [(Self, u64); 10] = [
        (Self::Unavailable, 300),
        (Self::UnavailableForASecond, 300),
        (Self::Throttled, 300),
        (Self::ServerError, 300),
        (Self::Dropped, 200),
        (Self::DroppedInBody, 200),
        (Self::Truncated, 200),
        (Self::Page, 200),
        (Self::Delayed, 400),
        // Every call for this token waits until the deadline.
        (Self::Stalled, 1),
    ];

    pub fn draw(random: &mut Random) -> Option<Self> {
        (random.below(100) < PERCENT).then(|| random.pick(&Self::MIX))?
    }

    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns the failure that the client must report.
    pub fn failure(self) -> Option<Failure> {
        let (variant, cool_down) = match self {
            Self::Unavailable | Self::ServerError => (Variant::Server, CoolDown::Transient),
            Self::UnavailableForASecond | Self::Throttled => {
                (Variant::Throttled, CoolDown::Told(Duration::from_secs(1)))
            }
            Self::Dropped | Self::DroppedInBody | Self::Stalled => {
                (Variant::Transport, CoolDown::Transient)
            }
            Self::Truncated | Self::Page => (Variant::InvalidResponse, CoolDown::Refused),
            Self::Delayed => return None,
        };
        Some(Failure { variant, cool_down })
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub variant: Variant,
    pub cool_down: CoolDown,
}

/// Kind of `confidential_client::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Transport,
    Server,
    Throttled,
    InvalidResponse,
}

/// Cool-down after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoolDown {
    /// Cool-down of a transient failure.
    Transient,
    /// The server's `Retry-After`.
    Told(Duration),
    /// Cool-down of a permanent failure.
    Refused,
}

impl CoolDown {
    pub fn is_transient(self) -> bool {
        self != Self::Refused
    }

    /// Returns the shortest cool-down after this number of consecutive failures.
    pub fn at_least(self, failures: u32) -> Duration {
        let doubled = |first: u64, longest| {
            let factor = 2_u64.saturating_pow(failures.saturating_sub(1));
            Duration::from_secs(first.saturating_mul(factor).min(longest))
        };
        match self {
            Self::Transient => doubled(1, 30),
            Self::Told(wait) => wait,
            Self::Refused => doubled(5, 60),
        }
    }
}

/// Returns the current outage, if any: the start, and the fault of every request.
pub fn outage(now: Duration) -> Option<(Duration, Fault)> {
    let number = now.as_secs() / OUTAGE_EVERY;
    let begin = Duration::from_secs(number * OUTAGE_EVERY + OUTAGE_AFTER);
    let kinds = [
        Fault::Dropped,
        Fault::Unavailable,
        Fault::UnavailableForASecond,
    ];
    let kind = kinds[usize::try_from(number).unwrap_or_default() % kinds.len()];
    (begin..begin + OUTAGE)
        .contains(&now)
        .then_some((begin, kind))
}

/// Share of all token requests.
const PERCENT: u64 = 20;
const OUTAGE: Duration = Duration::from_secs(5);
/// Seconds.
const OUTAGE_EVERY: u64 = 30;
const OUTAGE_AFTER: u64 = 12;
