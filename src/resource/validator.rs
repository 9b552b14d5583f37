use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::bearer::bearer_token;
use super::builder::TokenValidatorBuilder;
use super::claims::Claims;
use super::rejection::{RejectionReason, TokenRejection};
use super::tenants::Tenants;
use crate::authority::{Authority, Tenant};
use crate::endpoint::{Endpoints, Lookup};
use crate::error::{Error, Failure};
use crate::jwt::{Expected, IssuerKeys, SignedJwt};
use crate::time::TimeSource;
use crate::transport::Transport;

/// Checks the access tokens that a web API is sent: signature, issuer, tenant, audience, times.
///
/// Cheap to clone, and made once per process: it keeps the identity provider's keys. The first
/// token makes it look them up, once for all who come meanwhile; so does the first after a day, and
/// one that is signed with a key it does not know, the latter at most once in five minutes. While the
/// provider is down, the keys that are known go on to serve. Nothing else does I/O, and a look-up
/// needs a tokio runtime.
///
/// A token is signed by RS256, PS256 or ES256, never by an algorithm whose key is a secret, and no
/// longer than 64 KiB. Tokens of Microsoft Entra ID are taken in both of their versions.
///
/// What a token lets its client do is asked of the [`Claims`]; see the [module](super) for how.
#[derive(Clone)]
pub struct TokenValidator(Arc<Parts>);

pub(super) struct Parts {
    pub(super) endpoints: Endpoints,
    /// Whose keys are looked up, where that is not the authority's own tenant.
    pub(super) keys_of: Option<Tenant>,
    pub(super) tenants: Tenants,
    pub(super) audiences: Vec<String>,
    pub(super) leeway: Duration,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: TimeSource,
}

impl TokenValidator {
    /// Starts a validator of the tokens that `authority` issues.
    pub fn builder(authority: Authority) -> TokenValidatorBuilder {
        TokenValidatorBuilder::new(authority)
    }

    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Checks a token, and gives what it says.
    ///
    /// # Errors
    ///
    /// Which check it failed: 401 in an answer, or 503 where the keys could not be had.
    pub async fn validate(&self, token: &str) -> Result<Claims, TokenRejection> {
        let claims = self.checked(token).await;
        if let Err(refusal) = &claims {
            refusal.record();
        }
        claims
    }

    /// Checks the token in the one `Authorization: Bearer` header of a request ([RFC 6750 section
    /// 2.1]).
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate); without a token a 401 that says no more, and with two
    /// headers a 400.
    ///
    /// [RFC 6750 section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    pub async fn validate_headers(&self, headers: &HeaderMap) -> Result<Claims, TokenRejection> {
        self.validate(bearer_token(headers)?).await
    }

    async fn checked(&self, token: &str) -> Result<Claims, TokenRejection> {
        let Parts {
            audiences,
            leeway,
            clock,
            endpoints,
            ..
        } = &*self.0;
        let jwt = SignedJwt::parse(token)?;
        let keys = self.issuer_keys(jwt.key_name()).await;
        let keys = keys.map_err(TokenRejection::keys_unavailable)?;
        let expected = Expected {
            audiences,
            now: clock.now().wall,
            leeway: *leeway,
        };
        let claims = jwt.access_token(&keys, &expected)?;
        self.check_tenant(&keys, &claims)?;
        let claims = Claims::new(claims, token, endpoints.rules(), &keys)?;
        match jwt.is_access_token() || claims.are_of_an_access_token() {
            true => Ok(claims),
            false => Err(TokenRejection::new(
                RejectionReason::NotAnAccessToken,
                "the token is an ID token, which is for the client alone; send an access token",
            )),
        }
    }

    fn check_tenant(
        &self,
        keys: &IssuerKeys,
        claims: &Map<String, Value>,
    ) -> Result<(), TokenRejection> {
        let tenant = claims.get("tid").and_then(Value::as_str);
        match self.0.tenants.takes(tenant, keys.issuer.is_template()) {
            true => Ok(()),
            false => Err(TokenRejection::new(
                RejectionReason::Tenant,
                "the token is of a tenant that is not let in here",
            )),
        }
    }

    async fn issuer_keys(&self, name: Option<&str>) -> Result<Arc<IssuerKeys>, Error> {
        let parts = &*self.0;
        let now = parts.clock.now();
        let known = parts
            .endpoints
            .cached_issuer_keys(parts.keys_of.as_ref(), name, &now);
        if let Some(keys) = known {
            return Ok(keys);
        }
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::config(
                "the identity provider's keys are needed and there is no tokio runtime to fetch them; call from within one, as under #[tokio::main]",
            ));
        };
        // A task of its own: whoever hangs up takes nothing away from those who wait as well.
        let parts = Arc::clone(&self.0);
        let name = name.map(ToOwned::to_owned);
        let look_up = async move { parts.look_up(name.as_deref()).await };
        runtime.spawn(look_up).await.unwrap_or_else(|ended| {
            let failure = Failure::new("the identity provider's keys were not fetched to the end");
            Err(Error::Transport(failure.source(Box::new(ended)).into()))
        })
    }
}

impl Parts {
    async fn look_up(&self, name: Option<&str>) -> Result<Arc<IssuerKeys>, Error> {
        let lookup = Lookup {
            transport: &*self.transport,
            clock: &self.clock,
            correlation_id: &Uuid::new_v4().to_string(),
            limit: LOOK_UP_TIMEOUT,
        };
        let tenant = self.keys_of.as_ref();
        self.endpoints.issuer_keys(tenant, name, &lookup).await
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

/// For both documents together.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
