use std::fmt;

use crate::crypto::NoBackend;
use crate::error::Escaped;

/// The check that a token failed. Safe to show to whoever sent it, and to log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("the token is longer than 64 KiB")]
    TooLong,
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the token is signed by '{0}', which is not taken; RS256, PS256 and ES256 are")]
    Algorithm(Text),
    #[error("the token's header has a 'crit', and nothing in it is understood")]
    Critical,
    #[error("the token's 'typ' is '{0}', which is neither an access token's nor an ID token's")]
    Type(Text),
    #[error("the token is signed with a key that the identity provider does not publish")]
    UnknownKey,
    #[error("the token does not name its key, and the identity provider publishes several")]
    UnnamedKey,
    #[error("the token's 'alg' does not go with the key that it names")]
    UnfitKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    #[error(
        "the token is for Microsoft Graph, and not for this application; ask for a scope of this one"
    )]
    ForGraph,
    #[error("the token has no '{0}', or one that cannot be read")]
    Claim(&'static str),
    #[error("the token's issuer is '{0}', which is not the one trusted here")]
    Issuer(Text),
    #[error("the token's key is that of another issuer")]
    KeyIssuer,
    #[error("the token's audience is '{0}', and not this application; ask for a scope of this one")]
    Audience(Text),
    #[error("the token was issued to '{0}', and not to this application")]
    AuthorizedParty(Text),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
}

/// What stands in a token, as it is shown: no more than a line, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(Box<str>);

impl<T: AsRef<str>> From<T> for Text {
    fn from(text: T) -> Self {
        let escaped = Escaped(text.as_ref()).to_string();
        Self(escaped.chars().take(LONGEST).collect())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 200;
