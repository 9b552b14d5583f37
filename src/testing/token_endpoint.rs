use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use super::application::{Application, Tokens};
use super::assertion::{self, Assertion};
use super::directory::Directory;
use super::federated;
use super::recorded::RecordedRequest;
use super::refusal::Refusal;
use super::signing_key::SigningKey;
use crate::assertion::unix_seconds;

/// Decides a token request in `tenant`, in Entra's order: the tenant, the application, its
/// credential, the scope.
pub(super) fn answer(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    keys: &[SigningKey],
    base: &str,
    number: u64,
) -> Result<Value, Refusal> {
    let mut directories = directories.iter();
    let Some(directory) = directories.find(|directory| directory.is(tenant)) else {
        return Err(Refusal::tenant_not_found("invalid_request", tenant));
    };
    if required(request, "grant_type")? != "client_credentials" {
        return Err(Refusal::bad_request(
            "unsupported_grant_type",
            70003,
            "The app requested an unsupported grant type.",
        ));
    }
    let basic = basic(request);
    let client_id = match &basic {
        Some((client_id, _)) => client_id.as_str(),
        None => required(request, "client_id")?,
    };
    let Some(application) = directory.application(client_id) else {
        return Err(Refusal::application_not_found(client_id, &directory.name));
    };
    let secret = match &basic {
        Some((_, secret)) => Some(secret.as_str()),
        None => request.field("client_secret"),
    };
    let method = match secret {
        Some(secret) => check_secret(secret, application)?,
        None => {
            let names = [tenant, &directory.name, &directory.id.to_string()];
            let audiences = names.map(|name| format!("{base}/{name}/oauth2/v2.0/token"));
            check_assertion(request, application, &audiences, keys)?
        }
    };
    let resource = resource(required(request, "scope")?)?;
    if !directory.knows(resource) {
        return Err(Refusal::resource_not_found(resource, &directory.name));
    }

    let now = unix_seconds(SystemTime::now());
    let capabilities = capabilities(request);
    let lifetime = application.tokens.lifetime(&capabilities).as_secs();
    let object_id = application.subject();
    let mut claims = json!({
        "aud": resource,
        "iss": directory.issuer(base),
        "iat": now,
        "nbf": now,
        "exp": now.saturating_add(lifetime),
        "azp": client_id,
        "azpacr": method,
        "idtyp": "app",
        "oid": object_id,
        "sub": object_id,
        "roles": application.roles_of(resource),
        "tid": directory.id.to_string(),
        "uti": format!("{number:016x}{}", Uuid::new_v4().simple()),
        "ver": "2.0",
    });
    if let (Some(members), false) = (claims.as_object_mut(), capabilities.is_empty()) {
        members.insert("xms_cc".to_owned(), json!(capabilities));
    }
    let Some(key) = keys.last() else {
        return Err(Refusal::of_status(StatusCode::INTERNAL_SERVER_ERROR));
    };
    match key.sign(&claims) {
        Ok(token) => Ok(success(token, &application.tokens, lifetime)),
        Err(error) => Err(Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Refusal::bad_request("server_error", 90014, error.to_string())
        }),
    }
}

fn success(token: String, tokens: &Tokens, lifetime: u64) -> Value {
    let time = |seconds: u64| match tokens.numeric_strings {
        true => Value::from(seconds.to_string()),
        false => Value::from(seconds),
    };
    let lifetime = time(lifetime);
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": token,
    });
    if let (Some(members), Some(refresh_in)) = (body.as_object_mut(), tokens.refresh_in) {
        members.insert("refresh_in".to_owned(), time(refresh_in.as_secs()));
    }
    body
}

/// What the client declares in its `claims` (`xms_cc`), as with `cp1`.
fn capabilities(request: &RecordedRequest) -> Vec<String> {
    let claims = request.field("claims").unwrap_or_default();
    let claims = serde_json::from_str::<Value>(claims).unwrap_or_default();
    let values = claims.pointer("/access_token/xms_cc/values");
    let values = values.and_then(Value::as_array).into_iter().flatten();
    let texts = values.filter_map(Value::as_str);
    texts.map(ToOwned::to_owned).collect()
}

/// The `azpacr` claim of a client with a secret.
fn check_secret(secret: &str, application: &Application) -> Result<&'static str, Refusal> {
    if application.accepts_secret(secret) {
        Ok("1")
    } else if application.knows_as_expired(secret) {
        Err(Refusal::expired_secret(application.client_id()))
    } else {
        Err(Refusal::wrong_secret(application.client_id()))
    }
}

/// The `azpacr` claim of a client with an assertion, be it its own or one that vouches for it.
fn check_assertion(
    request: &RecordedRequest,
    application: &Application,
    audiences: &[String],
    keys: &[SigningKey],
) -> Result<&'static str, Refusal> {
    let jwt = match request.field("client_assertion_type") {
        Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") => {
            request.field("client_assertion")
        }
        _ => None,
    };
    let Some(jwt) = jwt else {
        return Err(Refusal::no_credential());
    };
    let assertion = Assertion::parse(jwt)?;
    let is_own = assertion.claims.iss == application.client_id();
    let now = SystemTime::now();
    match is_own || assertion.thumbprint().is_some() {
        true => assertion::check(&assertion, application, audiences, now)?,
        false => federated::check(&assertion, application, keys, now)?,
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

/// The resource whose `/.default` is asked for. The scopes of OpenID Connect are tolerated beside
/// it, as Go's MSAL sends them.
fn resource(scope: &str) -> Result<&str, Refusal> {
    let reserved = |scope: &&str| !matches!(*scope, "openid" | "profile" | "offline_access");
    let mut scopes = scope.split_ascii_whitespace().filter(reserved);
    match scopes.next().map(|first| first.strip_suffix("/.default")) {
        Some(Some("")) | None => Err(Refusal::invalid_scope(scope, "It names no resource.")),
        Some(Some(_)) if scopes.next().is_some() => Err(Refusal::invalid_scope(
            scope,
            "It asks for more than one resource's /.default.",
        )),
        Some(Some(resource)) => Ok(resource),
        Some(None) => Err(Refusal::not_default(scope)),
    }
}

fn required<'a>(request: &'a RecordedRequest, name: &str) -> Result<&'a str, Refusal> {
    match request.field(name) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Refusal::bad_request(
            "invalid_request",
            900144,
            format!("The request body must contain the following parameter: '{name}'."),
        )),
    }
}
