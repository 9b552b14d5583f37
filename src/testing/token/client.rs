use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use serde_json::Value;
use url::form_urlencoded;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::access::DelegatedAccess;
use crate::testing::token::client_assertion::{self, Assertion};
use crate::testing::token::federated_assertion;
use crate::testing::token::issuer::TokenIssuer;

/// A token request whose client has proved its identity.
pub(crate) struct AuthenticatedClient<'a> {
    pub(crate) request: &'a RecordedRequest,
    pub(crate) directory: &'a Directory,
    pub(crate) application: &'a Application,
    /// How it did so: the `azpacr` claim.
    pub(crate) method: &'static str,
}

impl<'a> AuthenticatedClient<'a> {
    /// Checks the client, then its credential. `tenant` is what the request names the directory.
    pub(crate) fn authenticate(
        request: &'a RecordedRequest,
        tenant: &str,
        directory: &'a Directory,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Self, AadstsError> {
        let basic = basic(request);
        let client_id = match &basic {
            Some((client_id, _)) => client_id.as_str(),
            None => required(request, "client_id")?,
        };
        let Some(application) = directory.application(client_id) else {
            return Err(AadstsError::application_not_found(
                client_id,
                &directory.name,
            ));
        };
        let secret = match &basic {
            Some((_, secret)) => Some(secret.as_str()),
            None => request.field("client_secret"),
        };
        let method = match secret {
            Some(secret) => check_secret(secret, application)?,
            None => {
                let base = issuer.base;
                let names = [tenant, &directory.name, &directory.id.to_string()];
                let audiences = names.map(|name| format!("{base}/{name}/oauth2/v2.0/token"));
                check_assertion(request, application, &audiences, issuer)?
            }
        };
        Ok(Self {
            request,
            directory,
            application,
            method,
        })
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, AadstsError> {
        required(self.request, name)
    }

    /// An empty one is none.
    pub(crate) fn scope(&self) -> Option<&'a str> {
        let scope = self.request.field("scope");
        scope.filter(|scope| !scope.is_empty())
    }

    /// The user of the directory who is meant.
    pub(crate) fn user(&self, name: &str) -> Result<&'a User, AadstsError> {
        let user = self.directory.user(name);
        user.ok_or_else(|| AadstsError::user_not_found(name, &self.directory.name))
    }

    /// What this client may have in the name of `user`.
    pub(crate) fn access(
        &self,
        user: &'a User,
        scopes: &'a ScopeParameter,
    ) -> Result<DelegatedAccess<'a>, AadstsError> {
        let client = (self.application, self.method);
        DelegatedAccess::decide(self.directory, client, user, scopes, self.capabilities())
    }

    /// Whether it asks who the user is, as MSAL does.
    pub(crate) fn wants_client_info(&self) -> bool {
        self.request.field("client_info") == Some("1")
    }

    /// What the client declares in its `claims` (`xms_cc`), as with `cp1`.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let claims = self.request.field("claims").unwrap_or_default();
        let claims = serde_json::from_str::<Value>(claims).unwrap_or_default();
        let values = claims.pointer("/access_token/xms_cc/values");
        let values = values.and_then(Value::as_array).into_iter().flatten();
        let texts = values.filter_map(Value::as_str);
        texts.map(ToOwned::to_owned).collect()
    }
}

pub(crate) fn required<'a>(
    request: &'a RecordedRequest,
    name: &str,
) -> Result<&'a str, AadstsError> {
    match request.field(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(AadstsError::missing_parameter(name)),
    }
}

/// The `azpacr` claim of a client with a secret.
fn check_secret(secret: &str, application: &Application) -> Result<&'static str, AadstsError> {
    if application.accepts_secret(secret) {
        Ok("1")
    } else if application.knows_as_expired(secret) {
        Err(AadstsError::expired_secret(application.client_id()))
    } else {
        Err(AadstsError::wrong_secret(application.client_id()))
    }
}

/// The `azpacr` claim of a client with an assertion, be it its own or one that vouches for it.
fn check_assertion(
    request: &RecordedRequest,
    application: &Application,
    audiences: &[String],
    issuer: &TokenIssuer<'_>,
) -> Result<&'static str, AadstsError> {
    let jwt = match request.field("client_assertion_type") {
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") => {
            request.field("client_assertion")
        }
        _ => None,
    };
    let Some(jwt) = jwt else {
        return Err(match request.field("grant_type") {
            Some("client_credentials") => AadstsError::missing_credential(),
            _ => AadstsError::missing_credential_for_user_grant(),
        });
    };
    let assertion = Assertion::parse(jwt)?;
    let is_own = assertion.claims.iss == application.client_id();
    let now = SystemTime::now();
    match is_own || assertion.thumbprint().is_some() {
        true => client_assertion::check(&assertion, application, audiences, now)?,
        false => federated_assertion::check(&assertion, application, issuer.keys, now)?,
    }
    Ok("2")
}

/// Client id and secret by `client_secret_basic` ([RFC 6749 section 2.3.1]): both are encoded as a
/// form is, and then as Basic asks.
///
/// [RFC 6749 section 2.3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
fn basic(request: &RecordedRequest) -> Option<(String, String)> {
    let value = request.header(AUTHORIZATION.as_str())?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = Some(credentials).filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let decoded = BASE64_STANDARD.decode(credentials).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (client_id, secret) = decoded.split_once(':')?;
    let decode = |text: &str| {
        let form = format!("={}", text.replace('&', "%26"));
        let mut pairs = form_urlencoded::parse(form.as_bytes());
        pairs.next().map(|(_, value)| Cow::into_owned(value))
    };
    Some((decode(client_id)?, decode(secret)?))
}
