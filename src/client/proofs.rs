//! The proofs of a client with a proof key ([RFC 9449 section 4]).
//!
//! [RFC 9449 section 4]: https://www.rfc-editor.org/rfc/rfc9449#section-4

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use uuid::Uuid;

use crate::challenge::Challenge;
use crate::credential::DpopKey;
use crate::dpop::{NONCE, ProofClaims, TargetUri};
use crate::error::{Error, Escaped};
use crate::response;
use crate::time::{TimeSource, unix_seconds};
use crate::token::{AccessToken, Thumbprint, TokenBinding};

mod origins;

use origins::{ClockDifference, ProofOrigins};

/// The proof key of a client, and what servers said about its proofs.
///
/// Shared by the token requests of a client and by the requests to APIs.
pub(crate) struct Proofs {
    key: DpopKey,
    origins: ProofOrigins,
    clock: TimeSource,
    /// The time limit of one call to a [`Signer`](crate::credential::Signer).
    limit: Duration,
}

/// The proof of one request.
pub(crate) struct Proof {
    /// The value of the header `DPoP`, marked sensitive.
    pub(crate) header: HeaderValue,
    target: TargetUri,
    nonce: Option<Arc<str>>,
    difference: ClockDifference,
    /// The time of the proof, by the client's clock.
    made: SystemTime,
}

/// The reason why a server rejected a proof, if another proof may be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofRejection {
    /// The proof has no nonce, or an old one. The server sent another.
    Nonce,
    /// The clocks differ. The difference is known now.
    Clock,
}

/// The rejections after which a request was repeated. One repetition for each reason is enough.
#[derive(Default)]
pub(crate) struct ProofRepetitions {
    nonce: bool,
    clock: bool,
}

impl Proofs {
    pub(crate) fn new(key: DpopKey, clock: TimeSource, limit: Duration) -> Self {
        Self {
            key,
            origins: ProofOrigins::default(),
            clock,
            limit,
        }
    }

    /// Returns the key that tokens are bound to.
    pub(crate) fn binding(&self) -> TokenBinding {
        TokenBinding::ProofKey(self.key.jwk_thumbprint())
    }

    /// Returns the thumbprint of the key, if other processes may have the key.
    pub(crate) fn shared_key(&self) -> Option<Thumbprint> {
        (!self.key.is_generated()).then(|| self.key.jwk_thumbprint())
    }

    /// Checks that a token endpoint accepts the key's algorithm. `None` if nothing is published.
    pub(crate) fn check_algorithm(&self, supported: Option<&[String]>) -> Result<(), Error> {
        let name = self.key.algorithm().name();
        match supported {
            Some(supported) if !supported.iter().any(|known| known == name) => {
                Err(Error::config(format!(
                    "the proof key signs with {name}, and the OpenID provider accepts {} (dpop_signing_alg_values_supported); use another DpopKey",
                    match supported.is_empty() {
                        true => "no algorithm".to_owned(),
                        false => format!("only {}", supported.join(", ")),
                    }
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes the proof of one request. Every proof has an identifier of its own (`jti`).
    ///
    /// `token` is the access token of a request to an API.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a URI without scheme or host, and for a token that is bound to another
    /// key. [`Error::Credential`] if the key cannot sign.
    pub(crate) async fn prove(
        &self,
        method: &Method,
        uri: &str,
        token: Option<&AccessToken>,
    ) -> Result<Proof, Error> {
        if let Some(token) = token
            && token.issued().binding() != self.binding()
        {
            return Err(Error::config(
                "the access token is bound to another proof key than this client's; authorize the request with the client that acquired the token",
            ));
        }
        let target = TargetUri::to_prove(uri).map_err(|error| {
            Error::config(format!(
                "no proof can be made for a request to '{}': {error}; pass a request with the whole URI",
                Escaped(&TargetUri::shown(uri))
            ))
        })?;
        let (nonce, difference) = self.origins.get(origin_of(&target));
        let made = self.clock.wall();
        let mut id = Uuid::encode_buffer();
        let claims = ProofClaims {
            jti: Uuid::new_v4().hyphenated().encode_lower(&mut id),
            htm: method.as_str(),
            htu: &target,
            iat: unix_seconds(difference.corrected(made)),
            ath: token.map(|token| token.issued().proof_hash()),
            nonce: nonce.as_deref(),
        };
        let proof = self.key.sign(&claims, self.limit).await?;
        // Base64url and dots are a header value, so the error is never used.
        let header = HeaderValue::from_maybe_shared(Bytes::from(proof));
        let mut header = header.map_err(|_| Error::config("the proof is no header value"))?;
        header.set_sensitive(true);
        Ok(Proof {
            header,
            target,
            nonce,
            difference,
            made,
        })
    }

    /// Returns `true` if a proof is signed without waiting.
    #[cfg(feature = "blocking")]
    pub(crate) fn signs_at_once(&self) -> bool {
        self.key.signs_at_once()
    }

    /// Stores the nonce of a response for the next proofs to the response's origin.
    ///
    /// Servers send a nonce with good responses, too ([RFC 9449 section 8.2]).
    ///
    /// [RFC 9449 section 8.2]: https://www.rfc-editor.org/rfc/rfc9449#section-8.2
    pub(crate) fn learn(&self, proof: &Proof, headers: &HeaderMap) {
        if let Some(nonce) = nonce_of(headers) {
            self.origins.set_nonce(origin_of(&proof.target), nonce);
        }
    }

    /// Stores the nonce of a response whose proof is not known, and the difference of the clocks
    /// if the response rejects the proof.
    ///
    /// Returns whether the response rejects a proof, and another proof may be accepted.
    pub(crate) fn record(&self, uri: &str, headers: &HeaderMap) -> bool {
        let Ok(target) = TargetUri::of(uri) else {
            return false;
        };
        let origin = origin_of(&target);
        let nonce = nonce_of(headers);
        if let Some(nonce) = nonce {
            self.origins.set_nonce(origin, nonce);
        }
        match rejection_code(headers).as_deref() {
            Some(USE_NONCE) => nonce.is_some(),
            Some(INVALID_PROOF) => {
                let now = self.clock.wall();
                let Some(measured) = self.difference(headers, now, now) else {
                    return false;
                };
                let (_, known) = self.origins.get(origin);
                self.origins.set_difference(origin, measured);
                measured.differs_from(known) || measured.differs_from(ClockDifference::default())
            }
            _ => false,
        }
    }

    /// Returns the difference of the clocks, by the `Date` of a response.
    fn difference(
        &self,
        headers: &HeaderMap,
        sent: SystemTime,
        received: SystemTime,
    ) -> Option<ClockDifference> {
        ClockDifference::between(response::date(headers)?, sent, received)
    }

    /// Returns the reason of a rejection if another proof may be accepted. `error` is the code of
    /// the response, such as `use_dpop_nonce`.
    pub(crate) fn rejection(
        &self,
        proof: &Proof,
        error: &str,
        headers: &HeaderMap,
    ) -> Option<ProofRejection> {
        match error {
            USE_NONCE => {
                let nonce = nonce_of(headers)?;
                (proof.nonce.as_deref() != Some(nonce)).then_some(ProofRejection::Nonce)
            }
            INVALID_PROOF => {
                let measured = self.difference(headers, proof.made, self.clock.wall())?;
                measured.differs_from(proof.difference).then(|| {
                    self.origins
                        .set_difference(origin_of(&proof.target), measured);
                    ProofRejection::Clock
                })
            }
            _ => None,
        }
    }
}

impl ProofRejection {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nonce => "nonce",
            Self::Clock => "clock",
        }
    }
}

impl ProofRepetitions {
    /// Returns whether a request may be repeated after this rejection, and records the repetition.
    pub(crate) fn allow(&mut self, rejection: ProofRejection) -> bool {
        let repeated = match rejection {
            ProofRejection::Nonce => &mut self.nonce,
            ProofRejection::Clock => &mut self.clock,
        };
        !std::mem::replace(repeated, true)
    }
}

/// Returns the error of an API's challenge to a proof, such as `use_dpop_nonce`.
pub(crate) fn rejection_code(headers: &HeaderMap) -> Option<String> {
    let challenges = Challenge::from_headers(headers);
    let mut challenges = challenges.iter().filter(|challenge| challenge.is_dpop());
    challenges.find_map(|challenge| challenge.error().map(ToOwned::to_owned))
}

/// Returns the nonce of a response, if there is exactly one and its characters are allowed
/// ([RFC 9449 section 8.1]).
///
/// [RFC 9449 section 8.1]: https://www.rfc-editor.org/rfc/rfc9449#section-8.1
fn nonce_of(headers: &HeaderMap) -> Option<&str> {
    let mut nonces = headers.get_all(NONCE).iter();
    let nonce = nonces.next().filter(|_| nonces.next().is_none())?;
    let is_allowed = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_nonce = (1..=LONGEST_NONCE).contains(&nonce.len());
    let nonce = Some(nonce).filter(|nonce| is_nonce && nonce.as_bytes().iter().all(is_allowed))?;
    nonce.to_str().ok()
}

/// Returns the scheme, the host and the port of a proof's URI.
fn origin_of(target: &TargetUri) -> &str {
    let target = target.as_str();
    let host = target.find("://").map_or(0, |at| at.saturating_add(3));
    let path = target.get(host..).and_then(|rest| rest.find('/'));
    let end = path.map_or(target.len(), |path| host.saturating_add(path));
    target.get(..end).unwrap_or(target)
}

const USE_NONCE: &str = "use_dpop_nonce";
const INVALID_PROOF: &str = "invalid_dpop_proof";
/// The octets of the longest nonce. A server would reject a longer header itself.
const LONGEST_NONCE: usize = 2048;
