use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::access::DelegatedAccess;
use super::agent;
use super::client_assertion::ReceivedAssertion;
use super::federated_assertion;
use super::format::ClientAuthMethod;
use super::issuer::TokenIssuer;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::testing::recorded_request::RecordedRequest;
use crate::token::Thumbprint;

/// An authenticated client and its token request.
pub(crate) struct AuthenticatedClient<'a> {
    pub(crate) request: &'a RecordedRequest,
    pub(crate) directory: &'a Directory,
    pub(crate) application: &'a Application,
    pub(crate) auth_method: ClientAuthMethod,
    /// The thumbprint of the key in the request's proof.
    pub(crate) proof_key: Option<Thumbprint>,
}

impl<'a> AuthenticatedClient<'a> {
    /// Checks the client, then its credential.
    ///
    /// `tenant` is the name of the directory in the request's URL.
    pub(crate) fn authenticate(
        request: &'a RecordedRequest,
        tenant: &str,
        directory: &'a Directory,
        issuer: &TokenIssuer<'_>,
    ) -> Result<Self, AadstsError> {
        let basic = basic_credentials(request);
        // RFC 7521 section 4.2: the client id is optional beside an assertion. Entra demands it.
        let subject = match issuer.rules.is_openid() && request.field("client_id").is_none() {
            true => assertion_subject(request),
            false => None,
        };
        let client_id = match (&basic, &subject) {
            (Some((client_id, _)), _) | (None, Some(client_id)) => client_id.as_str(),
            (None, None) => required(request, "client_id")?,
        };
        let Some(application) = directory.application(client_id) else {
            let tenant = &directory.name;
            return Err(AadstsError::application_not_found(client_id, tenant));
        };
        let secret = match &basic {
            Some((_, secret)) => Some(secret.as_str()),
            None => request.field("client_secret"),
        };
        let auth_method = match secret {
            Some(_) if issuer.rules.is_fapi2() => {
                return Err(AadstsError::assertion_required());
            }
            Some(secret) => {
                check_secret(secret, application)?;
                ClientAuthMethod::Secret
            }
            None if is_mtls_pop(request) => {
                check_mtls_pop(request, application)?;
                ClientAuthMethod::Assertion
            }
            None if is_by_connection(request, application) => {
                check_connection(request, application, issuer)?;
                ClientAuthMethod::Assertion
            }
            None => {
                let base = issuer.base;
                let names = [tenant, &directory.name, &directory.id.to_string()];
                let mut audiences = Vec::new();
                if issuer.rules.is_openid() {
                    audiences.push(directory.issuer(base));
                }
                if !issuer.rules.requires_issuer() {
                    let endpoint = |name| format!("{base}/{name}/oauth2/v2.0/token");
                    audiences.extend(names.map(endpoint));
                }
                if issuer.rules.is_openid() && !issuer.rules.requires_issuer() {
                    audiences.push(format!("{base}/{tenant}/oauth2/v2.0/par"));
                }
                check_assertion(request, application, directory, &audiences, issuer)?;
                ClientAuthMethod::Assertion
            }
        };
        Ok(Self {
            request,
            directory,
            application,
            auth_method,
            proof_key: None,
        })
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, AadstsError> {
        required(self.request, name)
    }

    /// Returns the requested scope. An empty scope is treated as absent.
    pub(crate) fn scope(&self) -> Option<&'a str> {
        let scope = self.request.field("scope");
        scope.filter(|scope| !scope.is_empty())
    }

    /// Returns the user with this principal name or object id.
    pub(crate) fn user(&self, name: &str) -> Result<&'a User, AadstsError> {
        let user = self.directory.user(name);
        user.ok_or_else(|| AadstsError::user_not_found(name, &self.directory.name))
    }

    /// Checks the access of this client for `user`.
    pub(crate) fn access(
        &self,
        user: &'a User,
        scopes: &'a ScopeParameter,
    ) -> Result<DelegatedAccess<'a>, AadstsError> {
        DelegatedAccess::check(
            self.directory,
            self.application,
            self.auth_method,
            user,
            scopes,
            self.capabilities(),
        )
        .map(|access| access.confirmed_by(self.confirmation()))
    }

    /// Returns the claim `cnf` of the client's tokens, for the proof key or else for the client
    /// certificate.
    pub(crate) fn confirmation(&self) -> Option<Value> {
        match self.proof_key {
            Some(key) => Some(json!({ "jkt": key.to_string() })),
            None => self.request.confirmation(),
        }
    }

    /// Returns whether the client requests `client_info`, as MSAL does.
    pub(crate) fn wants_client_info(&self) -> bool {
        self.request.field("client_info") == Some("1")
    }

    /// Returns the capabilities of the request's `claims` (`xms_cc`), such as `cp1`.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let claims = self.request.field("claims").unwrap_or_default();
        let claims = serde_json::from_str::<Value>(claims).unwrap_or_default();
        let values = claims.pointer("/access_token/xms_cc/values");
        let values = values.and_then(Value::as_array).into_iter().flatten();
        let texts = values.filter_map(Value::as_str);
        texts.map(ToOwned::to_owned).collect()
    }
}

/// Returns a parameter that must be present and not empty.
pub(crate) fn required<'a>(
    request: &'a RecordedRequest,
    name: &str,
) -> Result<&'a str, AadstsError> {
    match request.field(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(AadstsError::missing_parameter(name)),
    }
}

fn check_secret(secret: &str, application: &Application) -> Result<(), AadstsError> {
    if application.accepts_secret(secret) {
        Ok(())
    } else if application.has_expired_secret(secret) {
        Err(AadstsError::expired_secret(application.client_id()))
    } else {
        Err(AadstsError::wrong_secret(application.client_id()))
    }
}

/// Returns whether the request is of Entra's preview of certificate-bound tokens.
pub(crate) fn is_mtls_pop(request: &RecordedRequest) -> bool {
    request.field("token_type") == Some("mtls_pop")
}

/// Checks a request of Entra's preview.
fn check_mtls_pop(request: &RecordedRequest, application: &Application) -> Result<(), AadstsError> {
    if !application.is_enabled_for_mtls_pop() {
        return Err(AadstsError::preview_not_enabled(application.client_id()));
    }
    match request.client_certificate() {
        None => Err(AadstsError::no_client_certificate()),
        Some(certificate) if application.accepts_for_mtls_pop(certificate) => Ok(()),
        Some(certificate) => Err(AadstsError::unregistered_client_certificate(
            &certificate.x5t_s256(),
        )),
    }
}

/// Returns whether the certificate of the connection has to authenticate the application.
fn is_by_connection(request: &RecordedRequest, application: &Application) -> bool {
    application.uses_mutual_tls() && request.field("client_assertion").is_none()
}

/// Checks the client certificate of the connection ([RFC 8705 section 2]).
///
/// [RFC 8705 section 2]: https://www.rfc-editor.org/rfc/rfc8705#section-2
fn check_connection(
    request: &RecordedRequest,
    application: &Application,
    issuer: &TokenIssuer<'_>,
) -> Result<(), AadstsError> {
    match request.client_certificate() {
        None => Err(AadstsError::no_client_certificate()),
        Some(certificate) if application.accepts_connection(certificate, issuer.now) => Ok(()),
        Some(certificate) => Err(AadstsError::unregistered_client_certificate(
            &certificate.x5t_s256(),
        )),
    }
}

/// Checks an assertion that the application signed, a token of a trusted issuer, or the token of a
/// blueprint for its agent identity.
fn check_assertion(
    request: &RecordedRequest,
    application: &Application,
    directory: &Directory,
    audiences: &[String],
    issuer: &TokenIssuer<'_>,
) -> Result<(), AadstsError> {
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
    let assertion = ReceivedAssertion::parse(jwt)?;
    if let Some(blueprint_id) = application.blueprint_id() {
        let check = agent::check_blueprint_token;
        return check(&assertion, application, blueprint_id, directory, issuer);
    }
    let is_self_issued = assertion.claims().iss == application.client_id();
    let now = issuer.now;
    match is_self_issued || assertion.thumbprint().is_some() {
        true => assertion.check(application, audiences, issuer.rules, now),
        false => federated_assertion::check(&assertion, application, issuer.keys, now),
    }
}

/// Returns the client that an assertion names. Nothing is verified.
fn assertion_subject(request: &RecordedRequest) -> Option<String> {
    let claims: Value = serde_json::from_str(&request.assertion_claims()?).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

/// Returns client id and secret of `client_secret_basic` ([RFC 6749 section 2.3.1]).
///
/// The client first form-encodes both values, then encodes the pair as HTTP Basic.
///
/// [RFC 6749 section 2.3.1]: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
fn basic_credentials(request: &RecordedRequest) -> Option<(String, String)> {
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
