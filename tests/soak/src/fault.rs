use std::time::Duration;

use crate::random::Random;

/// What a token request gets instead of its answer.
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
    /// The answer, late.
    Delayed,
    /// No answer, and the connection stays open.
    Stalled,
}

impl Fault {
    /// With how often each is drawn, beside the others.
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
        // Every call for its token waits until the client gives the request up.
        (Self::Stalled, 1),
    ];

    pub fn draw(random: &mut Random) -> Option<Self> {
        (random.below(100) < PERCENT).then(|| random.pick(&Self::MIX))?
    }

    pub fn index(self) -> usize {
        self as usize
    }

    /// How the client is to take it.
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

/// Of `confidential_client::Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Transport,
    Server,
    Throttled,
    InvalidResponse,
}

/// For how long a failure is everybody's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoolDown {
    /// What time may cure.
    Transient,
    /// What the server asked for.
    Told(Duration),
    /// What time alone does not cure.
    Refused,
}

impl CoolDown {
    pub fn is_transient(self) -> bool {
        self != Self::Refused
    }

    /// The least that it takes after so many failures in a row.
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

/// The time of a whole outage, if there is one: when it began, and what every request gets.
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

/// Of all token requests.
const PERCENT: u64 = 20;
const OUTAGE: Duration = Duration::from_secs(5);
/// In seconds.
const OUTAGE_EVERY: u64 = 30;
const OUTAGE_AFTER: u64 = 12;
