use std::borrow::Cow;

use super::target_uri::TargetUriError;
use crate::crypto::{NoBackend, SigningAlgorithm};
use crate::jwt::{ComparedTime, TokenText};
use crate::token::Thumbprint;

/// The reason why a proof is rejected ([RFC 9449 section 4.3]).
///
/// `Display` is for the operator, and names the compared values.
/// [`for_sender`](Self::for_sender) is for the sender of the proof. Neither text has the proof.
///
/// [RFC 9449 section 4.3]: https://www.rfc-editor.org/rfc/rfc9449#section-4.3
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("the request has no DPoP header with a proof")]
    Missing,
    #[error("the request has more than one DPoP header")]
    Several,
    #[error("the proof is longer than 8 KiB")]
    TooLong,
    #[error("the proof is not a signed JWT: {0}")]
    Malformed(&'static str),
    #[error("the proof's 'typ' is not 'dpop+jwt'")]
    Type,
    #[error("the proof's header has 'crit', and no critical extension is supported")]
    Critical,
    #[error("the proof is signed with '{0}', which is not accepted")]
    Algorithm(TokenText),
    #[error("the proof's 'jwk' is not an RSA, P-256, P-384 or Ed25519 key that is accepted")]
    Key,
    #[error("the proof's 'jwk' contains a private or symmetric key; send the public key only")]
    PrivateKey,
    #[error("the proof's 'alg' is {0}, and the key in 'jwk' is not for {0}")]
    UnfitKey(SigningAlgorithm),
    #[error("the proof's signature is wrong: the key in 'jwk' does not verify the proof")]
    Signature,
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    #[error("the proof's claim '{0}' is missing or cannot be read")]
    Claim(&'static str),
    #[error("the proof's 'htm' is '{found}', and the method of the request is '{expected}'")]
    Method {
        found: TokenText,
        expected: TokenText,
    },
    #[error("the proof's 'htu' is '{found}', and the URI of the request is '{expected}'")]
    Uri {
        found: TokenText,
        expected: TokenText,
    },
    #[error("the proof's 'htu' is '{found}': {error}")]
    InvalidUri {
        found: TokenText,
        error: TargetUriError,
    },
    #[error("the URI of the request cannot be compared with a proof: {0}")]
    RequestUri(TargetUriError),
    #[error("the proof has no nonce, and the server requires one")]
    NonceMissing,
    #[error("the proof's nonce is not a current nonce of the server")]
    NonceNotAccepted,
    #[error("the proof is too old: 'iat' is {0}")]
    Stale(ComparedTime),
    #[error("the proof is from the future: 'iat' is {0}; synchronize the clocks (NTP)")]
    Future(ComparedTime),
    #[error("the proof's 'ath' is not the hash of the access token")]
    TokenHash,
    #[error(
        "the proof is made with the key '{found}', and the access token is bound to '{expected}'"
    )]
    OtherKey {
        found: Thumbprint,
        expected: Thumbprint,
    },
    #[error("the proof was used before")]
    Replayed,
}

impl ProofError {
    /// Returns whether a proof with a nonce of the server would help (`use_dpop_nonce`).
    pub(crate) fn needs_nonce(&self) -> bool {
        matches!(self, Self::NonceMissing | Self::NonceNotAccepted)
    }

    /// Returns the text for the sender of the proof.
    ///
    /// The text repeats neither the configuration nor values of the proof.
    pub(crate) fn for_sender(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Algorithm(_) => "the proof is signed with an algorithm that is not accepted",
            Self::NoBackend(_) => "the proof's signature cannot be verified",
            Self::Method { .. } => "the proof's 'htm' is not the method of the request",
            Self::Uri { .. } | Self::InvalidUri { .. } => {
                "the proof's 'htu' is not the URI of the request"
            }
            Self::Stale(_) => "the proof is too old; make a new proof for each request",
            Self::Future(_) => "the proof's 'iat' is in the future; synchronize the clock (NTP)",
            Self::OtherKey { .. } => {
                "the proof is made with another key than the key of the access token"
            }
            _ => return Cow::Owned(self.to_string()),
        })
    }
}
