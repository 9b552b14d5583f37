use std::time::Duration;

use crate::random::Random;

/// A requested pair of tenant and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(usize);

impl Key {
    pub const COUNT: usize = TENANTS * RESOURCES;

    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Draws a key: some keys are requested several times in a token's lifetime, others rarely.
    pub fn draw(random: &mut Random) -> Self {
        let share = random.fraction().powi(3);
        Self(((share * Self::COUNT as f64) as usize).min(Self::COUNT - 1))
    }

    pub fn parse(tenant: &str, scope: &str) -> Option<Self> {
        let tenant: usize = number(tenant, "tenant-", ".example")?;
        let resource: usize = number(scope, "api://resource-", "/.default")?;
        (tenant < TENANTS && resource < RESOURCES).then_some(Self(tenant * RESOURCES + resource))
    }

    pub fn tenant(self) -> String {
        format!("tenant-{}.example", self.0 / RESOURCES)
    }

    pub fn scope(self) -> String {
        format!("api://resource-{}/.default", self.0 % RESOURCES)
    }

    /// Returns whether a provider keeps the key in the cache. A bound key is never evicted, and no
    /// caller rejects a token of a bound key, so that all requests are predictable.
    pub fn is_bound(self) -> bool {
        self.0.is_multiple_of(5)
    }

    /// Returns the lifetime of the next token. A bound key has one lifetime, since a new token may
    /// replace a token that expires later.
    pub fn lifetime(self, random: &mut Random) -> Duration {
        let seconds = match self.is_bound() {
            true => self.0 as u64 / 5,
            false => random.next(),
        };
        SHORTEST + Duration::from_secs(seconds % 5)
    }

    pub fn index(self) -> usize {
        self.0
    }
}

fn number(text: &str, before: &str, behind: &str) -> Option<usize> {
    let digits = text.strip_prefix(before)?.strip_suffix(behind)?;
    digits.parse().ok()
}

/// An access token of the soak test. The text names key and expiry, for checks by the callers.
#[derive(Clone, Copy)]
pub struct Token {
    pub key: Key,
    pub number: u64,
    pub lifetime: Duration,
    /// Expiry, as the time since the start of the program.
    pub end: Duration,
}

impl Token {
    /// Returns a text as long as Entra's tokens.
    pub fn to_text(self) -> String {
        let Self {
            key,
            number,
            lifetime,
            end,
        } = self;
        let (lifetime, end) = (lifetime.as_secs(), end.as_micros());
        format!(
            "{:-<LENGTH$}",
            format!("{}.{number}.{lifetime}.{end}.", key.0)
        )
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse);
        let mut next = || parts.next()?.ok();
        Some(Self {
            key: Key(usize::try_from(next()?).ok()?),
            number: next()?,
            lifetime: Duration::from_secs(next()?),
            end: Duration::from_micros(next()?),
        })
    }

    /// Returns the time from which a client must not return the token. A cache hit reads the coarse
    /// clocks.
    pub fn unusable(self) -> Duration {
        self.end.saturating_sub(self.margin()) + CLOCK_TICK
    }

    pub fn margin(self) -> Duration {
        self.lifetime / 10
    }
}

/// Shortest lifetime of a token. The longest is four seconds longer.
pub const SHORTEST: Duration = Duration::from_secs(4);
/// The time by which the kernel's coarse clocks may be behind.
const CLOCK_TICK: Duration = Duration::from_millis(10);
const TENANTS: usize = 100;
const RESOURCES: usize = 10;
const LENGTH: usize = 1_492;
