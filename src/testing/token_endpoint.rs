use std::time::SystemTime;

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Refusal;
use super::application::Application;
use super::assertion;
use super::recorded::RecordedRequest;
use super::signing_key::SigningKey;
use crate::assertion::unix_seconds;

/// A tenant: its domain or id as it was registered, its id, and its app registrations.
pub(super) struct Directory {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) applications: Vec<Application>,
}

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v4()),
            applications: Vec::new(),
        }
    }

    /// A tenant answers to its domain and to its id.
    pub(super) fn is(&self, tenant: &str) -> bool {
        self.name.eq_ignore_ascii_case(tenant)
            || Uuid::try_parse(tenant).is_ok_and(|id| id == self.id)
    }
}

/// Decides a token request in `tenant`, in Entra's order: the tenant, the application, its
/// credential, the scope.
pub(super) fn answer(
    request: &RecordedRequest,
    tenant: &str,
    directories: &[Directory],
    key: &SigningKey,
    base: &str,
) -> Result<Value, Refusal> {
    let directory = directories.iter().find(|directory| directory.is(tenant)).ok_or_else(|| {
        Refusal::bad_request(
            "invalid_request",
            90002,
            format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
        )
    })?;
    if required(request, "grant_type")? != "client_credentials" {
        return Err(Refusal::bad_request(
            "unsupported_grant_type",
            70003,
            "The app requested an unsupported grant type.",
        ));
    }
    let client_id = required(request, "client_id")?;
    let application = directory
        .applications
        .iter()
        .find(|application| application.client_id() == client_id)
        .ok_or_else(|| {
            Refusal::bad_request(
                "unauthorized_client",
                700016,
                format!("Application with identifier '{client_id}' was not found in the directory '{}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", directory.name),
            )
        })?;
    let method = authenticate(request, application, directory, tenant, base)?;
    let scope = required(request, "scope")?;
    let resource = resource(scope)?;

    let now = unix_seconds(SystemTime::now());
    let tenant_id = directory.id.to_string();
    let object_id = application.object_id().to_string();
    let claims = json!({
        "aud": resource,
        "iss": format!("{base}/{tenant_id}/v2.0"),
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME,
        "azp": client_id,
        "azpacr": method,
        "idtyp": "app",
        "oid": object_id,
        "sub": object_id,
        "roles": application.roles_of(resource),
        "tid": tenant_id,
        "uti": Uuid::new_v4().simple().to_string(),
        "ver": "2.0",
    });
    match key.sign(&claims) {
        Ok(token) => Ok(json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": token,
        })),
        Err(error) => Err(Refusal {
            status: http::StatusCode::INTERNAL_SERVER_ERROR,
            ..Refusal::bad_request("server_error", 90014, error.to_string())
        }),
    }
}

/// Checks the credential; the result is the `azpacr` claim: 1 for a secret, 2 for a certificate.
fn authenticate(
    request: &RecordedRequest,
    application: &Application,
    directory: &Directory,
    tenant: &str,
    base: &str,
) -> Result<&'static str, Refusal> {
    let client_id = application.client_id();
    if let Some(secret) = request.field("client_secret") {
        if application.accepts_secret(secret) {
            return Ok("1");
        }
        return Err(Refusal::invalid_client(
            7000215,
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
            ),
        ));
    }
    match (
        request.field("client_assertion_type"),
        request.field("client_assertion"),
    ) {
        (Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), Some(jwt)) => {
            let names = [tenant, &directory.name, &directory.id.to_string()];
            let audiences = names.map(|name| format!("{base}/{name}/oauth2/v2.0/token"));
            assertion::check(jwt, application, &audiences, SystemTime::now())?;
            Ok("2")
        }
        _ => Err(Refusal::invalid_client(
            7000216,
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        )),
    }
}

/// The resource whose `/.default` is asked for.
fn resource(scope: &str) -> Result<&str, Refusal> {
    let mut scopes = scope.split_ascii_whitespace();
    let invalid = |code, text: &str| {
        let text = format!("The provided value for scope {scope} is not valid. {text}");
        Err(Refusal::bad_request("invalid_scope", code, text))
    };
    match scopes.next().map(|first| first.strip_suffix("/.default")) {
        Some(Some("")) | None => invalid(70011, "It names no resource."),
        Some(Some(_)) if scopes.next().is_some() => {
            invalid(70011, "It asks for more than one resource's /.default.")
        }
        Some(Some(resource)) => Ok(resource),
        Some(None) => invalid(
            1002012,
            "Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
        ),
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

/// Of a token, in seconds: what Entra gives.
const LIFETIME: u64 = 3599;
