use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::accepted_tenants::AcceptedTenants;
use super::access_token::{check_access_token, names_id_token};
use super::bearer::{mistake_in_token, presented_token};
use super::builder::TokenValidatorBuilder;
use super::claims::{Claims, HolderRule};
use super::confirmation::{AcceptedSchemes, Bindings, Presented};
use super::introspection::Introspection;
use super::rejection::{RejectionReason, TokenRejection};
use super::rejection_log::RejectionLog;
use super::request::ResourceRequest;
use crate::authority::{Authority, Tenant};
use crate::client::ConfidentialClient;
use crate::crypto::SigningAlgorithm;
use crate::endpoint::Endpoints;
use crate::jwt::{self, ClaimsSet, Expected, IssuerKeys, SignedJwt, TokenText};
use crate::time::TimeSource;
use crate::token::TokenScheme;
use crate::transport::Transport;

/// A validator of the access tokens that clients send to a web API.
///
/// The validator checks the signature, the issuer, the tenant, the audience and the validity
/// period. The [`Claims`] then check the permissions of the client and of the user. See the
/// [module documentation](super).
///
/// Create one validator per process. Clones are cheap and share the cached signing keys.
///
/// # Signing keys
///
/// The first token makes the validator fetch the identity provider's keys. Concurrent callers share
/// one fetch. The keys are fetched again in three cases:
///
/// - The cached keys are as old as the identity provider allows with `Cache-Control: max-age`. The
///   shortest time is 5 minutes. The longest time is 24 hours, which is also the time without
///   `max-age`. `no-store` and `no-cache` mean 5 minutes.
/// - No cached key verifies a token's signature, because the key is unknown or was replaced. This
///   happens at most once in 5 minutes.
/// - The application calls [`refresh_keys`](Self::refresh_keys).
///
/// If the identity provider is down, the validator continues with the cached keys for
/// [`max_key_age`](TokenValidatorBuilder::max_key_age), a week by default. The log has a warning
/// once a day. Later tokens are rejected with 503. Validation does no other I/O. Fetching keys
/// requires a tokio runtime.
///
/// # Limits
///
/// - Tokens that are bound to a key are rejected, unless the builder accepts them
///   ([`dpop`](TokenValidatorBuilder::dpop),
///   [`certificate_bound`](TokenValidatorBuilder::certificate_bound)).
/// - A token must be signed with RS256, PS256, ES256, ES384 or EdDSA. HMAC algorithms are rejected.
/// - A token must not be longer than 64 KiB.
/// - Version 1 and version 2 tokens of Microsoft Entra ID are accepted.
#[doc(alias("JwtBearer", "AddMicrosoftIdentityWebApi", "verify", "decode"))]
#[derive(Clone)]
pub struct TokenValidator(pub(super) Arc<ValidatorConfig>);

pub(super) struct ValidatorConfig {
    pub(super) endpoints: Endpoints,
    /// The tenant whose keys are fetched, if that is not the authority's tenant.
    pub(super) keys_tenant: Option<Tenant>,
    pub(super) tenants: AcceptedTenants,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<SigningAlgorithm>,
    /// The required `typ` of the header, in lower case.
    pub(super) token_type: Option<String>,
    /// The accepted user flows of Azure AD B2C. An empty list accepts every user flow.
    pub(super) policies: Vec<String>,
    pub(super) holder: Option<Box<HolderRule>>,
    pub(super) leeway: Duration,
    /// The introspection of tokens, if the validator introspects tokens.
    pub(super) introspection: Option<Introspection>,
    pub(super) bindings: Bindings,
    /// The accepted schemes, if the API accepts bound tokens.
    pub(super) schemes: Option<Arc<AcceptedSchemes>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: TimeSource,
    pub(super) log: Arc<RejectionLog>,
}

impl TokenValidator {
    /// Creates a builder for a validator of the tokens that `authority` issues.
    pub fn builder(authority: Authority) -> TokenValidatorBuilder {
        TokenValidatorBuilder::new(authority)
    }

    /// Creates a builder for a validator that sends tokens to the identity provider's introspection
    /// endpoint ([RFC 7662]), for opaque tokens or to notice that a token was revoked.
    ///
    /// `client` authenticates at the endpoint, with any credential. Its authority must be an OpenID
    /// provider, and its metadata name the endpoint. The provider decides by the client whether it
    /// says anything about a token, so use the client of the API's own registration.
    ///
    /// The members of the response pass the checks of a JWT's claims. The audience is required. The
    /// issuer (`iss`), the expiry (`exp`) and the start (`nbf`) are checked if the response has
    /// them. A refresh token is rejected. A token that is bound to a key (`cnf`) gets the checks of
    /// a bound JWT. A signed response ([RFC 9701]) is not supported.
    ///
    /// A response about an active token is used for
    /// [a minute](TokenValidatorBuilder::introspection_cache), and never after the token's expiry.
    /// A token that is not active is remembered for ten seconds. The cache has the SHA-256 of up to
    /// 10,000 active tokens and as many others, and evicts the oldest. Callers with one token share
    /// one request. At most 32 requests are sent at a time.
    ///
    /// A failure of the endpoint is not a rejection of the token: the response is a 503 with
    /// [`RejectionReason::IntrospectionUnavailable`]. After three failures in a row, or at once if
    /// the provider throttles or rejects the client, no token is sent for the time of
    /// [`TokenRejection::retry_after`], one second at first and at most a minute.
    ///
    /// ```
    /// # use confidential_client::testing::{Application, LocalAuthority, ProviderRules};
    /// use confidential_client::resource::{RejectionReason, TokenValidator};
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let rules = ProviderRules::openid();
    /// # let local = LocalAuthority::builder().rules(rules).start().await?;
    /// # local.register("contoso.com", Application::new("orders").secret("the secret's value"));
    /// # let issuer = local.issuer("contoso.com").unwrap();
    /// let client = ConfidentialClient::builder("orders")
    ///     .authority(Authority::oidc(issuer))
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let validator = TokenValidator::introspecting(&client)
    ///     .audience("orders")
    ///     .single_tenant()
    ///     .build()?;
    /// let rejection = validator.validate("unknown-token").await.unwrap_err();
    /// assert_eq!(rejection.reason(), RejectionReason::Inactive);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662
    /// [RFC 9701]: https://www.rfc-editor.org/rfc/rfc9701
    #[doc(alias("opaque token", "reference token", "OAuth2Introspection"))]
    pub fn introspecting(client: &ConfidentialClient) -> TokenValidatorBuilder {
        TokenValidatorBuilder::introspecting(client)
    }

    pub(super) fn new(config: ValidatorConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Returns whether the two are clones of one validator.
    #[cfg(feature = "axum")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Validates a token and returns the claims.
    ///
    /// A token that is bound to a key is rejected, because the request is not known.
    ///
    /// # Errors
    ///
    /// Returns a [`TokenRejection`] with the check that failed. The status of the response is 401,
    /// or 503 if the signing keys are unavailable.
    pub async fn validate(&self, token: &str) -> Result<Claims, TokenRejection> {
        let presented = Presented {
            scheme: TokenScheme::Bearer,
            token,
            request: None,
        };
        let claims = self.check_presented(&presented).await;
        let claims = claims.map_err(|rejection| match mistake(token, &rejection) {
            // There is no header, so the text is no token.
            Some((_, message)) => TokenRejection::new(RejectionReason::Malformed, message),
            None => rejection,
        });
        claims.inspect_err(|rejection| self.0.log.token(rejection))
    }

    /// Validates the token in the `Authorization: Bearer` header of a request ([RFC 6750 section
    /// 2.1]).
    ///
    /// A token that is bound to a key is rejected, unless a header has the certificate of the token
    /// ([`CertificateSource`](super::CertificateSource)). Call
    /// [`validate_request`](Self::validate_request) for an API that accepts bound tokens.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`validate`](Self::validate). A request without a token gets a 401
    /// rejection without an error code. A request with two `Authorization` headers, with two
    /// credentials in one header, or with another mistake in the header's syntax gets a 400
    /// rejection.
    ///
    /// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    pub async fn validate_headers(&self, headers: &HeaderMap) -> Result<Claims, TokenRejection> {
        let request = ResourceRequest::of_headers(headers);
        self.validate_request(request).await
    }

    /// Validates the token of a request, which may be bound to a key.
    ///
    /// The schemes `DPoP` and `mtls_pop` are accepted if
    /// [`dpop`](TokenValidatorBuilder::dpop) and
    /// [`certificate_bound`](TokenValidatorBuilder::certificate_bound) are set. Validate a request
    /// with a proof once, because a proof is accepted once.
    ///
    /// ```
    /// use confidential_client::resource::{Claims, ResourceRequest, TokenRejection, TokenValidator};
    ///
    /// async fn claims(
    ///     validator: &TokenValidator,
    ///     request: &http::request::Parts,
    /// ) -> Result<Claims, TokenRejection> {
    ///     validator.validate_request(ResourceRequest::from(request)).await
    /// }
    /// # let _ = claims;
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`validate_headers`](Self::validate_headers), and a 401 rejection if
    /// the request does not show that the client has the key of the token. The status is 503 if a
    /// proof cannot be checked for replay.
    pub async fn validate_request(
        &self,
        request: ResourceRequest<'_>,
    ) -> Result<Claims, TokenRejection> {
        let schemes = self.0.schemes.as_deref();
        let (claims, used) = match presented_token(request.headers, schemes) {
            Err(rejection) => (Err(rejection), TokenScheme::Bearer),
            Ok((scheme, token)) => {
                let presented = Presented {
                    scheme,
                    token,
                    request: Some(request),
                };
                let claims = self.check_presented(&presented).await;
                let claims = claims.map_err(|rejection| match mistake(token, &rejection) {
                    Some((reason, message)) => TokenRejection::new(reason, message),
                    None => rejection,
                });
                (claims, scheme)
            }
        };
        let claims = claims.map_err(|rejection| match &self.0.schemes {
            Some(schemes) => rejection.with_schemes(schemes, used, self.dpop_nonce()),
            None => rejection,
        });
        claims.inspect_err(|rejection| self.0.log.token(rejection))
    }

    /// Returns the current nonce for proofs, to send with any response in the header `DPoP-Nonce`
    /// ([RFC 9449 section 9]).
    ///
    /// A client that gets a new nonce with a successful response needs no retry when the nonce
    /// changes. A rejection has the nonce already. Returns `None` unless the validator
    /// [requires nonces](super::DpopPolicy::require_nonce).
    ///
    /// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
    pub fn dpop_nonce(&self) -> Option<HeaderValue> {
        self.0.bindings.nonce(self.0.clock.wall())
    }

    /// Validates a token, and checks that the sender has the key that the token is bound to.
    async fn check_presented(&self, presented: &Presented<'_>) -> Result<Claims, TokenRejection> {
        let config = &*self.0;
        let mut claims = self.check(presented.token).await?;
        let now = || config.clock.wall();
        config
            .bindings
            .confirm(claims.all(), presented, now)
            .await?;
        if let Some(schemes) = &config.schemes {
            claims.set_schemes(schemes, presented.scheme);
        }
        Ok(claims)
    }

    async fn check(&self, token: &str) -> Result<Claims, TokenRejection> {
        let introspection = self.0.introspection.as_ref();
        let (mut claims, is_typed) = match introspection.filter(|way| way.applies_to(token)) {
            Some(introspection) => {
                let claims = self.check_introspected(introspection, token).await?;
                let is_typed = !names_id_token(&claims);
                (claims, is_typed)
            }
            None => self.check_jwt(token).await?,
        };
        check_access_token(&claims, is_typed)?;
        self.check_policy(&claims)?;
        if let Some(rule) = &self.0.holder {
            claims.decide_holder(rule);
        }
        Ok(claims)
    }

    /// Validates a JWT. Returns the claims, and whether the header says that the JWT is an access
    /// token.
    async fn check_jwt(&self, token: &str) -> Result<(Claims, bool), TokenRejection> {
        let ValidatorConfig {
            audiences,
            leeway,
            clock,
            endpoints,
            log,
            ..
        } = &*self.0;
        let jwt = SignedJwt::parse(token)?;
        self.check_header(&jwt)?;
        let expected = Expected {
            audiences,
            now: clock.wall(),
            leeway: *leeway,
        };
        let check = |keys: &IssuerKeys| jwt.access_token(keys, &expected);
        let (claims, keys) = self.check_with_keys(&jwt, check).await?;
        self.check_tenant(&keys, &claims)?;
        let claims = Claims::new(claims, token, endpoints.rules(), &keys, log)?;
        Ok((claims, jwt.is_access_token()))
    }

    fn check_header(&self, jwt: &SignedJwt<'_>) -> Result<(), TokenRejection> {
        let config = &*self.0;
        if !config.algorithms.contains(&jwt.algorithm()) {
            let accepted = config.algorithms.iter().map(ToString::to_string);
            return Err(TokenRejection::compared(
                RejectionReason::UnsupportedAlgorithm,
                format!(
                    "the token is signed with '{}', which this API does not accept",
                    jwt.algorithm()
                ),
                format!("the accepted algorithms are {}", jwt::listed(accepted)),
            ));
        }
        match &config.token_type {
            Some(required) if jwt.token_type() != Some(required) => Err(TokenRejection::compared(
                RejectionReason::NotAnAccessToken,
                format!("the token's 'typ' is not '{required}', which this API requires"),
                found("'typ'", jwt.token_type()),
            )),
            _ => Ok(()),
        }
    }

    /// Checks the user flow of a token of Azure AD B2C.
    fn check_policy(&self, claims: &Claims) -> Result<(), TokenRejection> {
        let accepted = &self.0.policies;
        // Tokens name the user flow in `tfp`, or in `acr` with an older setting.
        let policy = claims.string("tfp").or_else(|| claims.string("acr"));
        let is_accepted = policy.is_some_and(|policy| {
            accepted
                .iter()
                .any(|accepted| accepted.eq_ignore_ascii_case(policy))
        });
        match accepted.is_empty() || is_accepted {
            true => Ok(()),
            false => Err(TokenRejection::compared(
                RejectionReason::PolicyNotAccepted,
                "the token's user flow is not accepted by this API",
                format!(
                    "{}, and the accepted user flows are {}",
                    found("user flow (tfp or acr)", policy),
                    jwt::listed(accepted)
                ),
            )),
        }
    }

    fn check_tenant(&self, keys: &IssuerKeys, claims: &ClaimsSet) -> Result<(), TokenRejection> {
        let tenant = claims.string("tid");
        match self.0.tenants.accepts(tenant, keys.issuer.is_template()) {
            true => Ok(()),
            false => Err(TokenRejection::compared(
                RejectionReason::TenantNotAccepted,
                "the token's tenant is not accepted by this API",
                format!(
                    "{}, and {}",
                    found("tenant (tid)", tenant),
                    self.0.tenants.description()
                ),
            )),
        }
    }
}

/// Returns the mistake of the client that made the token unreadable, if the mistake is known.
fn mistake(token: &str, rejection: &TokenRejection) -> Option<(RejectionReason, &'static str)> {
    let is_malformed = rejection.reason() == RejectionReason::Malformed;
    is_malformed.then(|| mistake_in_token(token)).flatten()
}

/// Describes a text from a token for the operator.
fn found(name: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("the token's {name} is '{}'", TokenText::from(text)),
        None => format!("the token has no {name}"),
    }
}

impl fmt::Debug for TokenValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenValidator")
            .field("authority", &self.0.endpoints.to_string())
            .field("audiences", &self.0.audiences)
            .field("tenants", &self.0.tenants)
            .finish_non_exhaustive()
    }
}
