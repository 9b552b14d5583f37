use std::time::Duration;

use crate::random::Random;

/// One of the pairs of tenant and scope that tokens are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(usize);

impl Key {
    pub const COUNT: usize = TENANTS * RESOURCES;

    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Some are asked for several times in a token's life, and others hardly once.
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

    /// Whether a provider holds its place in the cache all the time. Such a key is never evicted, and
    /// nobody rejects its tokens, so that all of its requests can be foretold.
    pub fn is_bound(self) -> bool {
        self.0.is_multiple_of(5)
    }

    /// How long its next token lives. A bound key's lives are all the same, since a token takes the
    /// place of one that might have lived longer.
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

/// An access token of this soak: for what, and until when, for whoever gets it to see.
#[derive(Clone, Copy)]
pub struct Token {
    pub key: Key,
    pub number: u64,
    pub lifetime: Duration,
    /// Since the start of the program.
    pub end: Duration,
}

impl Token {
    /// As long as Entra's are.
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

    /// From when on a client is not to serve it.
    pub fn unusable(self) -> Duration {
        self.end.saturating_sub(self.margin())
    }

    pub fn margin(self) -> Duration {
        self.lifetime / 10
    }
}

/// The least that a token lives; the longest lives four seconds more.
pub const SHORTEST: Duration = Duration::from_secs(4);
const TENANTS: usize = 100;
const RESOURCES: usize = 10;
const LENGTH: usize = 1_492;
