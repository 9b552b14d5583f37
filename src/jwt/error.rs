use std::fmt;

use crate::crypto::NoBackend;
use crate::error::Escaped;

/// The reason why a token is rejected. Safe to log and to send to the token's sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("the token is longer than 64 KiB")]
    TooLong,
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the token is signed with '{0}', which is not accepted; use RS256, PS256 or ES256")]
    Algorithm(TokenText),
    #[error("the token's header has 'crit', and no critical extension is supported")]
    Critical,
    #[error("the token's 'typ' is '{0}', which is not accepted here")]
    Type(TokenText),
    #[error("the token is signed with a key that the identity provider does not publish")]
    UnknownKey,
    #[error("the token does not name its key, and the identity provider publishes several")]
    UnnamedKey,
    #[error("the token's 'alg' does not match the key that the token names")]
    UnfitKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    #[error(
        "the token is for Microsoft Graph, and not for this application; request a scope of this application"
    )]
    ForGraph,
    #[error("the token's claim '{0}' is missing or cannot be read")]
    Claim(&'static str),
    #[error("the token's issuer is '{0}', which is not trusted here")]
    Issuer(TokenText),
    #[error("the token is signed with a key of another issuer")]
    KeyIssuer,
    #[error(
        "the token's audience is '{0}', and not this application; request a scope of this application"
    )]
    Audience(TokenText),
    #[error("the token was issued to '{0}', and not to this application")]
    AuthorizedParty(TokenText),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
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

const LONGEST: usize = 200;
