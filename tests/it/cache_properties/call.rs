//! Calls and outcomes of the property tests.

use std::time::Duration;

use confidential_client::TokenSource;

/// Response of the identity provider to a possible request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A token with the number of the request.
    Token {
        lifetime: Duration,
        refresh_in: Option<Duration>,
    },
    Silence,
    /// 500.
    Broken,
    /// 429 with `Retry-After`.
    Throttled(Duration),
    /// 401 and `invalid_client`.
    Refused,
}

/// Requirements of a call, with tokens by number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    pub claims: Option<&'static str>,
    pub rejected: Option<usize>,
    pub force_refresh: bool,
    pub min_remaining: Duration,
}

/// Result of a call.
#[derive(Debug)]
pub struct Seen {
    pub told: Result<SeenToken, SeenError>,
    pub requests: usize,
    pub evicted: u64,
}

#[derive(Debug)]
pub struct SeenToken {
    pub number: usize,
    pub source: TokenSource,
    /// Expiry, by the wall clock.
    pub refresh_on: Duration,
}

#[derive(Debug)]
pub struct SeenError {
    pub kind: Kind,
    pub retry_after: Option<Duration>,
}

/// Kind of the library's error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Transport,
    InvalidResponse,
    Throttled,
    Server,
}

impl Answer {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Token { .. } => unreachable!("it is no failure"),
            Self::Silence => Kind::Transport,
            Self::Broken => Kind::InvalidResponse,
            Self::Throttled(_) => Kind::Throttled,
            Self::Refused => Kind::Server,
        }
    }
}

impl Kind {
    pub fn is_transient(self) -> bool {
        self != Self::Server
    }
}

impl Ask {
    /// Returns whether an API rejected the cached token.
    pub fn is_of_a_rejection(&self) -> bool {
        self.claims.is_some() || self.rejected.is_some()
    }
}

impl Seen {
    /// Checks that the call returned this token from the cache, and returns the details.
    pub fn is_of_memory(&self, number: usize) -> &SeenToken {
        let told = self.told.as_ref().unwrap();
        assert_eq!(told.number, number);
        assert_eq!(told.source, TokenSource::Cache);
        told
    }
}
