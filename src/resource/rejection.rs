use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::confirmation::AcceptedSchemes;
use crate::dpop::ProofError;
use crate::error::{Error, Escaped};
use crate::jwt::JwtError;
use crate::token::TokenScheme;

mod reason;

pub use reason::RejectionReason;

/// The error for a request with a rejected token, or with a token that lacks a permission.
///
/// The error describes the HTTP response with [`status`](Self::status),
/// [`www_authenticate`](Self::www_authenticate) and [`retry_after`](Self::retry_after). The axum
/// adapter builds that response.
///
/// A rejection has two texts, each of one line:
///
/// - `Display` is for the client. The text names the failed check, and repeats neither the API's
///   configuration nor the identity provider's keys.
/// - [`chain`](Self::chain) and `Debug` are for the operator. The text also names the compared
///   values, such as the audience of the token and the accepted audiences.
///
/// Neither text contains the token, nor a name or an address of the user.
#[doc(alias("AuthenticationFailed", "Unauthorized"))]
#[derive(Clone)]
pub struct TokenRejection(Arc<RejectionDetails>);

struct RejectionDetails {
    reason: RejectionReason,
    /// The text for the client.
    message: Cow<'static, str>,
    /// The compared values, if the text for the operator names any.
    compared: Option<ComparedValues>,
    /// The scopes that allow the operation, separated by spaces. Any of the scopes is enough.
    scope: Option<String>,
    /// The claims to request another token with, as JSON.
    claims: Option<String>,
    authorization_uri: Option<Arc<str>>,
    /// The schemes of the API and the scheme of the request, if the API accepts bound tokens.
    schemes: Option<(Arc<AcceptedSchemes>, TokenScheme)>,
    /// A nonce for the next proof.
    nonce: Option<HeaderValue>,
    /// The error that made the signing keys unavailable, or that demands the claims.
    source: Option<Error>,
}

/// The compared values of a failed check, formatted when the operator reads them.
enum ComparedValues {
    /// The values, which follow the text for the client.
    Detail(String),
    /// An error and a hint, which replace the text for the client.
    Jwt(JwtError, &'static str),
    /// An error, which replaces the text for the client.
    Proof(ProofError),
}

impl TokenRejection {
    pub(super) fn new(reason: RejectionReason, message: impl Into<Cow<'static, str>>) -> Self {
        RejectionDetails::new(reason, message).into()
    }

    /// Creates a rejection with the compared values, which only the operator sees.
    pub(super) fn compared(
        reason: RejectionReason,
        message: impl Into<Cow<'static, str>>,
        detail: String,
    ) -> Self {
        RejectionDetails::new(reason, message).detail(detail).into()
    }

    /// Creates a rejection for a token without any of `scopes`.
    pub(super) fn insufficient(
        reason: RejectionReason,
        message: String,
        detail: String,
        scopes: &[&str],
    ) -> Self {
        Self::from(RejectionDetails {
            scope: (!scopes.is_empty()).then(|| scopes.join(" ")),
            ..RejectionDetails::new(reason, message).detail(detail)
        })
    }

    /// Creates a claims challenge for an authentication context.
    ///
    /// A token requested with `claims` satisfies the challenge. Without `claims` the response is a
    /// 403 without a challenge.
    pub(super) fn needs_authentication_context(
        message: String,
        detail: String,
        claims: Option<String>,
        authorization_uri: Option<Arc<str>>,
    ) -> Self {
        Self::from(RejectionDetails {
            authorization_uri: authorization_uri.filter(|_| claims.is_some()),
            claims,
            ..RejectionDetails::new(RejectionReason::NeedsAuthenticationContext, message)
                .detail(detail)
        })
    }

    /// Creates a claims challenge with the claims of `error`.
    ///
    /// Returns `None` if the error has no claims, or claims that do not fit in a challenge.
    pub(super) fn needs_claims(error: &Error, authorization_uri: Option<Arc<str>>) -> Option<Self> {
        let claims = error.claims_challenge()?;
        let is_object = serde_json::from_str::<Map<String, Value>>(claims).is_ok();
        if !is_object || claims.len() > MAX_CLAIMS_LENGTH {
            return None;
        }
        let message = "another API that this API calls for the user needs more claims; request a token with the claims of the challenge";
        Some(Self::from(RejectionDetails {
            claims: Some(claims.to_owned()),
            authorization_uri,
            source: Some(error.clone()),
            ..RejectionDetails::new(RejectionReason::NeedsClaims, message)
        }))
    }

    pub(super) fn keys_unavailable(error: Error) -> Self {
        let message = "the token cannot be validated now, because the identity provider's signing keys are unavailable; retry later";
        Self::from(RejectionDetails {
            source: Some(error),
            ..RejectionDetails::new(RejectionReason::KeysUnavailable, message)
        })
    }

    pub(super) fn introspection_unavailable(error: Error) -> Self {
        let message = "the token cannot be validated now, because the identity provider's introspection endpoint is unavailable; retry later";
        Self::from(RejectionDetails {
            source: Some(error),
            ..RejectionDetails::new(RejectionReason::IntrospectionUnavailable, message)
        })
    }

    /// Creates a rejection for a request with a missing or invalid proof.
    pub(super) fn of_proof(error: ProofError) -> Self {
        let reason = match &error {
            error if error.needs_nonce() => RejectionReason::NeedsNonce,
            ProofError::OtherKey { .. } => RejectionReason::BoundToKey,
            _ => RejectionReason::InvalidProof,
        };
        let details = RejectionDetails::new(reason, error.for_sender());
        Self::from(RejectionDetails {
            compared: Some(ComparedValues::Proof(error)),
            ..details
        })
    }

    pub(super) fn replay_cache_unavailable(error: Error) -> Self {
        Self::from(RejectionDetails {
            source: Some(error),
            ..RejectionDetails::new(RejectionReason::ReplayCacheUnavailable, NO_REPLAY_CHECK)
        })
    }

    pub(super) fn replay_cache_full() -> Self {
        Self::compared(
            RejectionReason::ReplayCacheUnavailable,
            NO_REPLAY_CHECK,
            "the replay cache is full of proofs that are still valid; raise max_replay_entries(..) or shorten proof_window(..)".to_owned(),
        )
    }

    /// Sets the schemes of the API, the scheme of the request, and a nonce for the next proof.
    pub(super) fn with_schemes(
        mut self,
        schemes: &Arc<AcceptedSchemes>,
        used: TokenScheme,
        nonce: Option<HeaderValue>,
    ) -> Self {
        // The caller has just created the rejection, so there is no other owner.
        if let Some(details) = Arc::get_mut(&mut self.0) {
            details.schemes = Some((Arc::clone(schemes), used));
            details.nonce = nonce;
        }
        self
    }

    /// Returns the check that failed.
    pub fn reason(&self) -> RejectionReason {
        self.0.reason
    }

    /// Returns the error and the compared values, in one line for the operator.
    ///
    /// The compared values may belong to the API's configuration, so do not send the chain to the
    /// client. The validator has logged the same text already.
    ///
    /// ```
    /// # use confidential_client::testing::{Application, LocalAuthority};
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::resource::TokenValidator;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalAuthority::start().await?;
    /// # let daemon = Application::new("daemon").secret("the secret's value");
    /// # local.register("contoso.onmicrosoft.com", daemon);
    /// # let authority = local.authority("contoso.onmicrosoft.com");
    /// # let client = ConfidentialClient::builder("daemon")
    /// #     .authority(local.authority("contoso.onmicrosoft.com"))
    /// #     .client_secret("the secret's value")
    /// #     .build()?;
    /// let validator = TokenValidator::builder(authority)
    ///     .audience("api://drive")
    ///     .single_tenant()
    ///     .build()?;
    /// let token = client.acquire_token_for_client("api://other/.default").await?;
    ///
    /// let rejection = validator.validate(token.secret()).await.unwrap_err();
    /// assert!(!rejection.to_string().contains("api://drive"));
    /// let chain = rejection.chain().to_string();
    /// assert!(chain.contains("the token's audience is 'api://other'"));
    /// assert!(chain.contains("the accepted audiences are 'api://drive'"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn chain(&self) -> impl fmt::Display + use<> {
        let mut text = self.0.for_operator();
        if let Some(error) = &self.0.source {
            text.push_str(": ");
            text.push_str(&error.chain().to_string());
        }
        Escaped(&text).to_string()
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self.0.reason {
            RejectionReason::InvalidRequest => StatusCode::BAD_REQUEST,
            _ if self.0.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            _ if self.0.is_forbidden() => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Returns the `WWW-Authenticate` header of the response ([RFC 6750 section 3]).
    ///
    /// The header contains the error, the missing scope, and the claims to request another token
    /// with. The header of an API that accepts bound tokens has a challenge for each accepted
    /// scheme ([RFC 9449 section 7.1]). The error is in the challenge of the scheme that the client
    /// used. Returns `None` for a 503 response.
    ///
    /// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
    /// [RFC 9449 section 7.1]: https://www.rfc-editor.org/rfc/rfc9449#section-7.1
    pub fn www_authenticate(&self) -> Option<HeaderValue> {
        let mut parameters = Vec::new();
        let mut add = |name: &'static str, value: &str| {
            parameters.push(format!(r#"{name}="{}""#, quotable(value)));
        };
        if let Some(uri) = &self.0.authorization_uri {
            add("authorization_uri", uri);
        }
        match self.0.error() {
            Some(error) => {
                add("error", error);
                add("error_description", &self.0.message);
            }
            None if self.0.is_unavailable() => return None,
            None => {}
        }
        if let Some(scope) = &self.0.scope {
            add("scope", scope);
        }
        if let Some(claims) = &self.0.claims {
            add("claims", &BASE64_STANDARD.encode(claims));
        }
        let challenge = match &self.0.schemes {
            None => bearer_challenge(&parameters),
            Some((schemes, used)) => schemes.challenge(*used, &parameters),
        };
        HeaderValue::try_from(challenge).ok()
    }

    /// Returns the `DPoP-Nonce` header of the response ([RFC 9449 section 9]).
    ///
    /// Returns `None` unless the validator
    /// [requires nonces](super::DpopPolicy::require_nonce). A response with the header must not be
    /// stored by caches (`Cache-Control: no-store`).
    ///
    /// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
    pub fn dpop_nonce(&self) -> Option<HeaderValue> {
        self.0.nonce.clone()
    }

    /// Returns the delay before the client may retry.
    ///
    /// Returns `None` for every response except a 503 response. The default delay is 5 seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        if !self.0.is_unavailable() {
            return None;
        }
        let delay = self.0.source.as_ref().and_then(Error::retry_after);
        Some(delay.unwrap_or(DEFAULT_RETRY_AFTER))
    }
}

impl RejectionDetails {
    fn new(reason: RejectionReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
            compared: None,
            scope: None,
            claims: None,
            authorization_uri: None,
            schemes: None,
            nonce: None,
            source: None,
        }
    }

    /// Adds the compared values to the text for the operator.
    fn detail(self, detail: String) -> Self {
        Self {
            compared: Some(ComparedValues::Detail(detail)),
            ..self
        }
    }

    fn for_operator(&self) -> String {
        match &self.compared {
            None => self.message.to_string(),
            Some(ComparedValues::Detail(detail)) => format!("{}: {detail}", self.message),
            Some(ComparedValues::Jwt(error, hint)) => format!("{error}{hint}"),
            Some(ComparedValues::Proof(error)) => error.to_string(),
        }
    }

    /// Returns whether nothing is known about the token or the proof, because a server that the
    /// validator needs is unavailable.
    fn is_unavailable(&self) -> bool {
        matches!(
            self.reason,
            RejectionReason::KeysUnavailable
                | RejectionReason::IntrospectionUnavailable
                | RejectionReason::ReplayCacheUnavailable
        )
    }

    /// Returns whether another token of the same kind does not help.
    fn is_forbidden(&self) -> bool {
        match self.reason {
            RejectionReason::MissingScope
            | RejectionReason::MissingRole
            | RejectionReason::NeedsUser
            | RejectionReason::NeedsApplication => true,
            RejectionReason::NeedsAuthenticationContext => self.claims.is_none(),
            _ => false,
        }
    }

    /// Returns the OAuth error code ([RFC 6750 section 3.1], [RFC 9449 section 7.1]).
    ///
    /// A response to a request without a token has no error code.
    ///
    /// [RFC 6750 section 3.1]: https://www.rfc-editor.org/rfc/rfc6750#section-3.1
    /// [RFC 9449 section 7.1]: https://www.rfc-editor.org/rfc/rfc9449#section-7.1
    fn error(&self) -> Option<&'static str> {
        match self.reason {
            RejectionReason::MissingToken => None,
            _ if self.is_unavailable() => None,
            RejectionReason::InvalidProof => Some("invalid_dpop_proof"),
            RejectionReason::NeedsNonce => Some("use_dpop_nonce"),
            RejectionReason::InvalidRequest => Some("invalid_request"),
            _ if self.is_forbidden() => Some("insufficient_scope"),
            // Defined by Microsoft. MSAL clients request a token with the challenge's claims.
            RejectionReason::NeedsAuthenticationContext | RejectionReason::NeedsClaims => {
                Some("insufficient_claims")
            }
            _ => Some("invalid_token"),
        }
    }
}

impl From<RejectionDetails> for TokenRejection {
    fn from(details: RejectionDetails) -> Self {
        Self(Arc::new(details))
    }
}

impl From<JwtError> for TokenRejection {
    fn from(error: JwtError) -> Self {
        Self::of_jwt(error, "")
    }
}

impl TokenRejection {
    /// Creates a rejection for an invalid token. Only the operator sees the `hint`, which follows
    /// the error's text.
    pub(super) fn of_jwt(error: JwtError, hint: &'static str) -> Self {
        let reason = match &error {
            JwtError::TooLong
            | JwtError::Malformed(_)
            | JwtError::Critical
            | JwtError::Claim(_) => RejectionReason::Malformed,
            JwtError::Algorithm(_) => RejectionReason::UnsupportedAlgorithm,
            JwtError::Type(_) | JwtError::AuthorizedParty(_) => RejectionReason::NotAnAccessToken,
            JwtError::UnknownKey(_) | JwtError::UnnamedKey(_) | JwtError::UnfitKey { .. } => {
                RejectionReason::NoMatchingKey
            }
            JwtError::Signature(_) | JwtError::NoBackend(_) => RejectionReason::InvalidSignature,
            JwtError::ForGraph => RejectionReason::ForGraph,
            JwtError::Issuer(_)
            | JwtError::Tenant(_)
            | JwtError::TenantCase(_)
            | JwtError::KeyIssuer(_) => RejectionReason::InvalidIssuer,
            JwtError::Audience(_) => RejectionReason::InvalidAudience,
            JwtError::Expired(_) => RejectionReason::Expired,
            JwtError::NotYetValid(_) => RejectionReason::NotYetValid,
        };
        let details = RejectionDetails::new(reason, error.for_sender());
        Self::from(RejectionDetails {
            compared: Some(ComparedValues::Jwt(error, hint)),
            ..details
        })
    }
}

impl fmt::Display for TokenRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for TokenRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRejection")
            .field("reason", &self.0.reason)
            .field("error", &self.chain().to_string())
            .finish_non_exhaustive()
    }
}

impl StdError for TokenRejection {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|error| error as _)
    }
}

/// Replaces characters that a quoted parameter must not contain ([RFC 6750 section 3]).
///
/// [RFC 6750 section 3]: https://www.rfc-editor.org/rfc/rfc6750#section-3
fn quotable(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(plain).collect()
}

/// Returns a challenge of the scheme `Bearer`.
pub(super) fn bearer_challenge(parameters: &[String]) -> String {
    let parameters = parameters.iter().map(|parameter| format!(", {parameter}"));
    format!(r#"Bearer realm=""{}"#, parameters.collect::<String>())
}

const NO_REPLAY_CHECK: &str =
    "the proof cannot be checked for replay now; retry later with a new proof";
/// The longest claims in a challenge, in bytes. A server limits the length of a header.
const MAX_CLAIMS_LENGTH: usize = 6 * 1024;
/// Delay for the client if the cause of a 503 response names none.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);
