//! The check that the sender of a token has the key that the token is bound to.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

use super::certificate_source::CertificateReader;
use super::dpop_policy::ProofChecker;
use super::rejection::{RejectionReason, TokenRejection, bearer_challenge};
use super::request::ResourceRequest;
use crate::jwt::{self, ClaimValue, ClaimsSet};
use crate::token::{Thumbprint, TokenScheme};

/// The kinds of bound tokens that an API accepts.
#[derive(Default)]
pub(super) struct Bindings {
    pub(super) certificate: Option<CertificateReader>,
    pub(super) dpop: Option<ProofChecker>,
    /// True if a token must be bound.
    pub(super) is_required: bool,
}

/// A token as a client sent it.
pub(super) struct Presented<'a> {
    pub(super) scheme: TokenScheme,
    pub(super) token: &'a str,
    /// The request. `None` if only the token is known.
    pub(super) request: Option<ResourceRequest<'a>>,
}

/// The schemes of the `Authorization` header that an API accepts, for the challenges.
pub(super) struct AcceptedSchemes {
    pub(super) bearer: bool,
    /// The names of the accepted algorithms of proofs, separated by spaces. `None` if the API does
    /// not accept proofs.
    pub(super) dpop: Option<Arc<str>>,
    pub(super) mtls_pop: bool,
}

/// The keys that a token is bound to, from the claim `cnf`.
struct Confirmation {
    /// `jkt` ([RFC 9449 section 6.1]).
    ///
    /// [RFC 9449 section 6.1]: https://www.rfc-editor.org/rfc/rfc9449#section-6.1
    proof_key: Option<Thumbprint>,
    /// `x5t#S256` ([RFC 8705 section 3.1]).
    ///
    /// [RFC 8705 section 3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
    certificate: Option<Thumbprint>,
}

impl AcceptedSchemes {
    /// Returns the schemes that are read, `Bearer` first.
    ///
    /// `Bearer` is always read, because the error for a bearer token says what is missing.
    pub(super) fn read(&self) -> impl Iterator<Item = TokenScheme> {
        let dpop = self.dpop.as_ref().map(|_| TokenScheme::Dpop);
        let mtls_pop = self.mtls_pop.then_some(TokenScheme::MtlsPop);
        [Some(TokenScheme::Bearer), dpop, mtls_pop]
            .into_iter()
            .flatten()
    }

    /// Returns a challenge for each accepted scheme, with the parameters in the challenge of the
    /// scheme that the client used.
    pub(super) fn challenge(&self, used: TokenScheme, parameters: &[String]) -> String {
        let dpop = |parameters: &[String]| {
            let algorithms = format!(r#"algs="{}""#, self.dpop.as_ref()?);
            let parameters = parameters.iter().map(|parameter| format!("{parameter}, "));
            Some(format!(
                "DPoP {}{algorithms}",
                parameters.collect::<String>()
            ))
        };
        let bearer = |parameters: &[String]| self.bearer.then(|| bearer_challenge(parameters));
        let challenges = match used {
            TokenScheme::Dpop => [dpop(parameters), bearer(&[])],
            _ if self.bearer => [bearer(parameters), dpop(&[])],
            // The API accepts only tokens with a proof.
            _ => [dpop(parameters), None],
        };
        let challenges: Vec<String> = challenges.into_iter().flatten().collect();
        challenges.join(", ")
    }
}

impl Bindings {
    /// Returns the accepted schemes. `None` if bound tokens are not accepted.
    pub(super) fn schemes(&self) -> Option<AcceptedSchemes> {
        let dpop = self.dpop.as_ref();
        let has_certificates = self.certificate.is_some();
        (dpop.is_some() || has_certificates).then(|| AcceptedSchemes {
            // A certificate-bound token is sent as a bearer token.
            bearer: !self.is_required || has_certificates,
            dpop: dpop.map(|dpop| Arc::clone(dpop.algorithms())),
            mtls_pop: has_certificates,
        })
    }

    /// Returns the current nonce, if proofs need a nonce.
    pub(super) fn nonce(&self, now: SystemTime) -> Option<HeaderValue> {
        self.dpop.as_ref()?.nonce(now)
    }

    /// Checks that the sender of a token has every key that the token is bound to.
    ///
    /// The claims are those of a JWT, or the members of an introspection response.
    pub(super) async fn confirm(
        &self,
        claims: &ClaimsSet,
        presented: &Presented<'_>,
        now: impl FnOnce() -> SystemTime,
    ) -> Result<(), TokenRejection> {
        let Some(cnf) = claims.get("cnf") else {
            return self.check_unbound(presented.scheme);
        };
        let confirmation = Confirmation::read(cnf)?;
        match confirmation.certificate {
            Some(expected) => self.confirm_certificate(expected, presented, cnf)?,
            None if presented.scheme == TokenScheme::MtlsPop => return Err(without_certificate()),
            None => {}
        }
        match (confirmation.proof_key, presented.scheme) {
            (Some(key), TokenScheme::Dpop) => self.confirm_proof(key, presented, cnf, now()).await,
            (Some(_), _) if self.dpop.is_none() => Err(cannot_check(cnf)),
            (Some(_), _) => Err(TokenRejection::new(
                RejectionReason::BoundToKey,
                "the token is bound to a proof key, and was sent without a proof; send the token with the scheme 'DPoP' and a proof in the header 'DPoP'",
            )),
            (None, TokenScheme::Dpop) => Err(without_proof_key()),
            (None, _) => Ok(()),
        }
    }

    fn check_unbound(&self, scheme: TokenScheme) -> Result<(), TokenRejection> {
        match scheme {
            TokenScheme::Dpop => Err(without_proof_key()),
            TokenScheme::MtlsPop => Err(without_certificate()),
            _ if self.is_required => Err(TokenRejection::new(
                RejectionReason::NotBound,
                "the token is not bound to a key, and this API accepts only bound tokens",
            )),
            _ => Ok(()),
        }
    }

    fn confirm_certificate(
        &self,
        expected: Thumbprint,
        presented: &Presented<'_>,
        cnf: ClaimValue<'_>,
    ) -> Result<(), TokenRejection> {
        let (Some(reader), Some(request)) = (&self.certificate, &presented.request) else {
            return Err(cannot_check(cnf));
        };
        let found = reader.thumbprint(request).map_err(|problem| {
            TokenRejection::compared(
                RejectionReason::BoundToKey,
                "the token is bound to a client certificate, and the request came without a client certificate",
                problem,
            )
        })?;
        match found == expected {
            true => Ok(()),
            false => Err(TokenRejection::compared(
                RejectionReason::BoundToKey,
                "the token is bound to another client certificate than the certificate of the request",
                format!("the token names {expected}, and the certificate has {found} (x5t#S256)"),
            )),
        }
    }

    async fn confirm_proof(
        &self,
        key: Thumbprint,
        presented: &Presented<'_>,
        cnf: ClaimValue<'_>,
        now: SystemTime,
    ) -> Result<(), TokenRejection> {
        let (Some(dpop), Some(request)) = (&self.dpop, &presented.request) else {
            return Err(cannot_check(cnf));
        };
        let Some(target) = request.target else {
            return Err(cannot_check(cnf));
        };
        dpop.check(request, target, presented.token, key, now).await
    }
}

impl Confirmation {
    /// Reads the claim `cnf`. Ignores members of other kinds, if there is a known one ([RFC 7800
    /// section 3.1]).
    ///
    /// [RFC 7800 section 3.1]: https://www.rfc-editor.org/rfc/rfc7800#section-3.1
    fn read(cnf: ClaimValue<'_>) -> Result<Self, TokenRejection> {
        let thumbprint = |name: &str| match cnf.member(name) {
            None => Ok(None),
            Some(value) => {
                let thumbprint = value.as_str().and_then(Thumbprint::parse);
                thumbprint.map(Some).ok_or_else(|| cannot_check(cnf))
            }
        };
        let confirmation = Self {
            proof_key: thumbprint("jkt")?,
            certificate: thumbprint("x5t#S256")?,
        };
        match confirmation {
            Self {
                proof_key: None,
                certificate: None,
            } => Err(cannot_check(cnf)),
            confirmation => Ok(confirmation),
        }
    }
}

fn cannot_check(cnf: ClaimValue<'_>) -> TokenRejection {
    TokenRejection::compared(
        RejectionReason::BoundToKey,
        "the token is bound to a key (cnf), and this API cannot check the binding; send a bearer token",
        format!(
            "the members of cnf are {}; the validator checks 'jkt' with dpop(..) and 'x5t#S256' with certificate_bound(..), and needs the whole request (validate_request)",
            jwt::listed(cnf.member_names())
        ),
    )
}

fn without_proof_key() -> TokenRejection {
    TokenRejection::new(
        RejectionReason::NotBound,
        "the token is not bound to a proof key, so the scheme is not 'DPoP'; send a bearer token, or request a bound token",
    )
}

fn without_certificate() -> TokenRejection {
    TokenRejection::new(
        RejectionReason::NotBound,
        "the token is not bound to a client certificate, so the scheme is not 'mtls_pop'; send a bearer token, or request a bound token",
    )
}
