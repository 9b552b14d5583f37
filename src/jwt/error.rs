use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::crypto::{NoBackend, SigningAlgorithm};
use crate::error::Escaped;
use crate::time::{format_limit, format_time};

/// The reason why a token is rejected.
///
/// `Display` is for the operator. The text names the compared values, which include the expected
/// issuers, audiences and keys. [`for_sender`](Self::for_sender) is for the token's sender. Neither
/// text contains the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("the token is longer than 64 KiB")]
    TooLong,
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the token is signed with '{0}', which is not accepted; use {names}", names = SigningAlgorithm::supported_names())]
    Algorithm(TokenText),
    #[error("the token's header has 'crit', and no critical extension is supported")]
    Critical,
    #[error("the token's 'typ' is '{0}', which is not accepted here")]
    Type(TokenText),
    #[error(
        "the token is signed with the key '{0}', which the identity provider does not publish; the published keys are {accepted}",
        accepted = .0.accepted
    )]
    UnknownKey(Compared),
    /// The number of keys that could have signed the token.
    #[error(
        "the token does not name its key (no 'kid' and no 'x5t'), and the identity provider publishes {0} keys for the token's algorithm"
    )]
    UnnamedKey(usize),
    #[error("the token's 'alg' is {found}, and the token's key '{key}' is not for {found}")]
    UnfitKey {
        found: SigningAlgorithm,
        key: TokenText,
    },
    /// The name of the key, if the token names the key.
    #[error("the token's signature is wrong: {} does not verify the token", named(.0))]
    Signature(Option<TokenText>),
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    #[error(
        "the token is for Microsoft Graph, and not for this application; request a scope of this application"
    )]
    ForGraph,
    #[error("the token's claim '{0}' is missing or cannot be read")]
    Claim(&'static str),
    #[error(
        "the token's issuer is '{0}', which is not trusted here; trusted is {accepted}",
        accepted = .0.accepted
    )]
    Issuer(Compared),
    #[error(
        "the token's tenant (tid) is '{0}', and the issuer's tenant is {accepted}",
        accepted = .0.accepted
    )]
    Tenant(Compared),
    #[error(
        "the token's tenant (tid) is '{0}', and Microsoft Entra ID writes a tenant id in lower case; look for a component that changes or creates tokens"
    )]
    TenantCase(TokenText),
    #[error(
        "the token is signed with a key of the issuer '{0}', and the token's issuer is {accepted}",
        accepted = .0.accepted
    )]
    KeyIssuer(Compared),
    #[error(
        "the token's audience is '{0}', and not this application; the accepted audiences are {accepted}",
        accepted = .0.accepted
    )]
    Audience(Compared),
    #[error("the token was issued to '{0}', and not to this application")]
    AuthorizedParty(TokenText),
    #[error(
        "the token has expired: 'exp' is {0}; synchronize this machine's clock (NTP) if the token is new"
    )]
    Expired(ComparedTime),
    #[error("the token is not valid yet: 'nbf' is {0}; synchronize this machine's clock (NTP)")]
    NotYetValid(ComparedTime),
}

impl JwtError {
    /// Returns the text for the sender of the token.
    ///
    /// The text repeats neither the configuration nor the identity provider's keys.
    pub(crate) fn for_sender(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::TooLong | Self::Malformed(_) | Self::Critical => {
                return Cow::Owned(self.to_string());
            }
            Self::ForGraph | Self::Claim(_) => return Cow::Owned(self.to_string()),
            Self::Algorithm(_) => "the token is signed with an algorithm that is not accepted",
            Self::Type(_) => "the token's 'typ' is not accepted; send an access token",
            Self::UnknownKey(_) => "the token is signed with a key that is not accepted",
            Self::UnnamedKey(_) => "the token does not name its key",
            Self::UnfitKey { .. } => "the token's 'alg' does not match the key of the token",
            Self::Signature(_) => "the token's signature is wrong",
            Self::NoBackend(_) => "the token's signature cannot be verified",
            Self::Issuer(_) => "the token's issuer is not trusted by this API",
            Self::Tenant(_) => "the token's tenant does not match the token's issuer",
            Self::TenantCase(_) => "the token's tenant id (tid) is not in lower case",
            Self::KeyIssuer(_) => "the token is signed with a key of another issuer",
            Self::Audience(_) => {
                "the token's audience is not this API; request a scope of this API"
            }
            Self::AuthorizedParty(_) => "the token was issued to another client",
            Self::Expired(_) => "the token has expired",
            Self::NotYetValid(_) => "the token is not valid yet",
        })
    }
}

/// A text from a token, and the accepted texts.
///
/// Two values are equal if the texts from the tokens are equal.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    found: TokenText,
    accepted: Box<str>,
}

impl Compared {
    pub(crate) fn new<T: AsRef<str>>(
        found: impl AsRef<str>,
        accepted: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            found: found.into(),
            accepted: listed(accepted).into(),
        }
    }
}

impl PartialEq for Compared {
    fn eq(&self, other: &Self) -> bool {
        self.found == other.found
    }
}

impl Eq for Compared {}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.found.fmt(f)
    }
}

/// A time in a token, and the clock at the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ComparedTime {
    pub(crate) claim: SystemTime,
    pub(crate) now: SystemTime,
    pub(crate) leeway: Duration,
}

impl fmt::Display for ComparedTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (distance, direction) = match self.now.duration_since(self.claim) {
            Ok(distance) => (distance, "before"),
            Err(error) => (error.duration(), "after"),
        };
        write!(
            f,
            "{}, which is {} s {direction} this machine's clock ({}), and the allowed clock skew is {}",
            format_time(self.claim),
            distance.as_secs(),
            format_time(self.now),
            format_limit(self.leeway),
        )
    }
}

/// Text from a token for display: one line, escaped, at most 200 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenText(Box<str>);

impl<T: AsRef<str>> From<T> for TokenText {
    fn from(text: T) -> Self {
        let escaped = Escaped(text.as_ref()).to_string();
        Self(escaped.chars().take(LONGEST).collect())
    }
}

impl fmt::Display for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lists texts for display: quoted, escaped, and at most ten of them.
pub(crate) fn listed<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut texts = texts.into_iter();
    let shown: Vec<String> = texts
        .by_ref()
        .take(MOST_LISTED)
        .map(|text| format!("'{}'", TokenText::from(text)))
        .collect();
    match (shown.as_slice(), texts.count()) {
        ([], _) => "none".to_owned(),
        (shown, 0) => shown.join(", "),
        (shown, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn named(key: &Option<TokenText>) -> String {
    match key {
        Some(name) => format!("the key '{name}'"),
        None => "the only published key".to_owned(),
    }
}

const LONGEST: usize = 200;
const MOST_LISTED: usize = 10;
