use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::response::RedirectTarget;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::tenant::{Directory, is_multi_tenant, sign_in_tenants};
use crate::testing::provider_rules::ProviderRules;

/// A checked authorization request ([RFC 6749 section 4.1.1]).
///
/// [RFC 6749 section 4.1.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1
#[derive(Clone)]
pub(crate) struct SignInRequest {
    /// The name in the URL, which can be `organizations`.
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) target: RedirectTarget,
    pub(crate) scope: String,
    pub(crate) scopes: ScopeParameter,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<String>,
    pub(crate) proof_key: Option<String>,
    pub(crate) prompt: RequestedPrompt,
    pub(crate) login_hint: Option<String>,
}

/// The `prompt` parameter.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RequestedPrompt {
    /// Shows the sign-in page, and the consent page if a scope is missing.
    AsNeeded,
    None,
    Consent,
}

/// An authorization request that is rejected.
pub(crate) enum SignInError {
    /// An error page. The redirect URI is not registered, so the browser must not be redirected
    /// ([RFC 6749 section 4.1.2.1]).
    ///
    /// [RFC 6749 section 4.1.2.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1
    Page(AadstsError),
    /// A redirect to the client with an error.
    Redirect(Box<(RedirectTarget, AadstsError)>),
}

/// The authority of a sign-in, its rules, and the time of the request.
#[derive(Clone, Copy)]
pub(crate) struct SignInSettings<'a> {
    pub(crate) base: &'a str,
    pub(crate) rules: &'a ProviderRules,
    pub(crate) now: SystemTime,
}

impl SignInRequest {
    pub(crate) fn check(
        query: &[(String, String)],
        tenant: &str,
        directories: &[Directory],
        settings: SignInSettings<'_>,
    ) -> Result<Self, SignInError> {
        let field = |name: &str| {
            let field = query.iter().find(|(known, _)| known == name);
            field.map(|(_, value)| value.as_str())
        };
        let (client_id, target) =
            check_client(query, tenant, directories, settings, field).map_err(SignInError::Page)?;
        let rejected =
            |error: AadstsError| SignInError::Redirect(Box::new((target.clone(), error)));
        match field("response_type") {
            Some("code") => {}
            Some(other) => return Err(rejected(AadstsError::unsupported_response_type(other))),
            None => return Err(rejected(AadstsError::missing_parameter("response_type"))),
        }
        if !matches!(field("response_mode"), None | Some("query" | "form_post")) {
            return Err(rejected(AadstsError::unsupported_response_mode()));
        }
        let challenge = check_challenge(field("code_challenge"), field("code_challenge_method"))
            .map_err(rejected)?;
        if challenge.is_none() && settings.rules.is_fapi2() {
            return Err(rejected(AadstsError::missing_parameter("code_challenge")));
        }
        let prompt = match field("prompt") {
            None | Some("" | "login" | "select_account") => RequestedPrompt::AsNeeded,
            Some("none") => RequestedPrompt::None,
            Some("consent") => RequestedPrompt::Consent,
            Some(_) => return Err(rejected(AadstsError::unsupported_prompt())),
        };
        let Some(scope) = field("scope").filter(|scope| !scope.is_empty()) else {
            return Err(rejected(AadstsError::missing_parameter("scope")));
        };
        let mut scopes = ScopeParameter::parse(scope).map_err(rejected)?;
        if settings.rules.rejects_scopes(scope) {
            let reason = "There is no scope 'offline_access'.";
            return Err(rejected(AadstsError::invalid_scope(scope, reason)));
        }
        // The code remembers the scope.
        let scope = match settings.rules.is_offline(field("access_type")) {
            true => format!("{scope} offline_access"),
            false => scope.to_owned(),
        };
        scopes.offline_access |= settings.rules.is_offline(field("access_type"));
        let text = |name: &str| field(name).map(ToOwned::to_owned);
        Ok(Self {
            tenant: tenant.to_owned(),
            client_id,
            scope,
            scopes,
            nonce: text("nonce"),
            challenge,
            proof_key: text("dpop_jkt"),
            prompt,
            login_hint: text("login_hint"),
            target,
        })
    }
}

/// Checks the tenant, the client and the redirect URI.
///
/// An error here must not be sent to the redirect URI.
fn check_client<'a>(
    query: &[(String, String)],
    tenant: &str,
    directories: &[Directory],
    settings: SignInSettings<'_>,
    field: impl Fn(&str) -> Option<&'a str>,
) -> Result<(String, RedirectTarget), AadstsError> {
    reject_duplicates(query)?;
    let mut tenants = sign_in_tenants(tenant, directories).peekable();
    if !is_multi_tenant(tenant) && tenants.peek().is_none() {
        return Err(AadstsError::tenant_not_found("invalid_request", tenant));
    }
    let missing = AadstsError::missing_parameter;
    let client_id = field("client_id").ok_or_else(|| missing("client_id"))?;
    let mut applications = tenants
        .filter_map(|directory| directory.application(client_id))
        .peekable();
    if applications.peek().is_none() {
        return Err(AadstsError::application_not_found(client_id, tenant));
    }
    let redirect_uri = field("redirect_uri").ok_or_else(AadstsError::missing_redirect_uri)?;
    if !applications.any(|application| application.has_redirect_uri(redirect_uri)) {
        return Err(AadstsError::unknown_redirect_uri(redirect_uri, client_id));
    }
    if settings.rules.is_fapi2() && !redirect_uri.starts_with("https:") {
        return Err(AadstsError::insecure_redirect_uri(redirect_uri));
    }
    let directory = directories.iter().find(|directory| directory.is(tenant));
    let issuer = directory.map(|directory| directory.issuer(settings.base));
    let target = RedirectTarget {
        issuer: issuer.filter(|_| settings.rules.is_openid()),
        redirect_uri: redirect_uri.to_owned(),
        state: field("state").map(ToOwned::to_owned),
        is_form_post: field("response_mode") == Some("form_post"),
    };
    Ok((client_id.to_owned(), target))
}

/// Rejects a parameter that occurs twice.
pub(super) fn reject_duplicates(query: &[(String, String)]) -> Result<(), AadstsError> {
    for (index, (name, _)) in query.iter().enumerate() {
        let mut rest = query.iter().skip(index + 1);
        if rest.any(|(other, _)| other == name) {
            return Err(AadstsError::duplicate_parameter(name));
        }
    }
    Ok(())
}

/// Checks that a code challenge uses S256.
///
/// `plain` is rejected, because the URL would show the verifier. A missing method means `plain`.
fn check_challenge(
    challenge: Option<&str>,
    method: Option<&str>,
) -> Result<Option<String>, AadstsError> {
    let Some(challenge) = challenge else {
        return match method {
            None => Ok(None),
            Some(_) => Err(AadstsError::missing_parameter("code_challenge")),
        };
    };
    if method != Some("S256") {
        return Err(AadstsError::unsupported_challenge_method());
    }
    match BASE64_URL_SAFE_NO_PAD.decode(challenge) {
        Ok(hash) if hash.len() == SHA256_LENGTH => Ok(Some(challenge.to_owned())),
        _ => Err(AadstsError::invalid_challenge_size()),
    }
}

const SHA256_LENGTH: usize = 32;
