use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::accepted_tenants::AcceptedTenants;
use super::access_token::check_access_token;
use super::bearer::{bearer_token, mistake_in_token};
use super::builder::TokenValidatorBuilder;
use super::claims::{Claims, HolderRule};
use super::rejection::{RejectionReason, TokenRejection};
use super::rejection_log::RejectionLog;
use crate::authority::{Authority, Tenant};
use crate::crypto::SigningAlgorithm;
use crate::endpoint::Endpoints;
use crate::jwt::{self, ClaimsSet, Expected, IssuerKeys, SignedJwt, TokenText};
use crate::time::TimeSource;
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
/// - A token must be signed with RS256, PS256 or ES256. HMAC algorithms are rejected.
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
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: TimeSource,
    pub(super) log: Arc<RejectionLog>,
}

impl TokenValidator {
    /// Creates a builder for a validator of the tokens that `authority` issues.
    pub fn builder(authority: Authority) -> TokenValidatorBuilder {
        TokenValidatorBuilder::new(authority)
    }

    pub(super) fn new(config: ValidatorConfig) -> Self {
        Self(Arc::new(config))
    }

    /// Validates a token and returns the claims.
    ///
    /// # Errors
    ///
    /// Returns a [`TokenRejection`] with the check that failed. The status of the response is 401,
    /// or 503 if the signing keys are unavailable.
    pub async fn validate(&self, token: &str) -> Result<Claims, TokenRejection> {
        let claims = self.check(token).await;
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
    /// # Errors
    ///
    /// Returns the errors of [`validate`](Self::validate). A request without a token gets a 401
    /// rejection without an error code. A request with two `Authorization` headers, with two
    /// credentials in one header, or with another mistake in the header's syntax gets a 400
    /// rejection.
    ///
    /// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    pub async fn validate_headers(&self, headers: &HeaderMap) -> Result<Claims, TokenRejection> {
        let claims = self.check_headers(headers).await;
        claims.inspect_err(|rejection| self.0.log.token(rejection))
    }

    async fn check_headers(&self, headers: &HeaderMap) -> Result<Claims, TokenRejection> {
        let token = bearer_token(headers)?;
        let claims = self.check(token).await;
        claims.map_err(|rejection| match mistake(token, &rejection) {
            Some((reason, message)) => TokenRejection::new(reason, message),
            None => rejection,
        })
    }

    async fn check(&self, token: &str) -> Result<Claims, TokenRejection> {
        let ValidatorConfig {
            audiences,
            leeway,
            clock,
            endpoints,
            holder,
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
        let mut claims = Claims::new(claims, token, endpoints.rules(), &keys, log)?;
        check_access_token(&claims, jwt.is_access_token())?;
        self.check_policy(&claims)?;
        if let Some(rule) = holder {
            claims.decide_holder(rule);
        }
        Ok(claims)
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
