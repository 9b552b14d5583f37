use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::response::AuthorizationResponse;
use crate::testing::aadsts::AadstsError;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::tenant::Directory;

/// A checked authorization request ([RFC 6749 section 4.1.1]).
///
/// [RFC 6749 section 4.1.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1
#[derive(Clone)]
pub(crate) struct SignInRequest {
    /// As the URL names it.
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) back: RedirectTarget,
    pub(crate) scope: String,
    pub(crate) scopes: ScopeParameter,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<String>,
    pub(crate) prompt: RequestedPrompt,
    pub(crate) login_hint: Option<String>,
}

/// Where the browser goes in the end, and how.
#[derive(Clone)]
pub(crate) struct RedirectTarget {
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    pub(crate) is_form: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RequestedPrompt {
    /// The sign-in page, and the consent page where something is missing.
    AsNeeded,
    None,
    Consent,
}

/// How a request is refused.
pub(crate) enum SignInError {
    /// On a page of our own: nobody is sent to an address that is not known to be the client's
    /// ([RFC 6749 section 4.1.2.1]).
    ///
    /// [RFC 6749 section 4.1.2.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1
    Here(AadstsError),
    /// At the client.
    There(AuthorizationResponse),
}

impl SignInRequest {
    pub(crate) fn check(
        query: &[(String, String)],
        tenant: &str,
        directories: &[Directory],
    ) -> Result<Self, SignInError> {
        let field = |name: &str| {
            let field = query.iter().find(|(known, _)| known == name);
            field.map(|(_, value)| value.as_str())
        };
        let (client_id, back) =
            client(query, tenant, directories, field).map_err(SignInError::Here)?;
        let refused = |refusal: AadstsError| {
            SignInError::There(AuthorizationResponse::refused(&back, &refusal))
        };
        match field("response_type") {
            Some("code") => {}
            Some(other) => return Err(refused(AadstsError::unsupported_response_type(other))),
            None => return Err(refused(AadstsError::missing_parameter("response_type"))),
        }
        if !matches!(field("response_mode"), None | Some("query" | "form_post")) {
            return Err(refused(AadstsError::unsupported_response_mode()));
        }
        let challenge =
            challenge(field("code_challenge"), field("code_challenge_method")).map_err(refused)?;
        let prompt = match field("prompt") {
            None | Some("" | "login" | "select_account") => RequestedPrompt::AsNeeded,
            Some("none") => RequestedPrompt::None,
            Some("consent") => RequestedPrompt::Consent,
            Some(_) => return Err(refused(AadstsError::unsupported_prompt())),
        };
        let Some(scope) = field("scope").filter(|scope| !scope.is_empty()) else {
            return Err(refused(AadstsError::missing_parameter("scope")));
        };
        let scopes = ScopeParameter::parse(scope).map_err(refused)?;
        let text = |name: &str| field(name).map(ToOwned::to_owned);
        Ok(Self {
            tenant: tenant.to_owned(),
            client_id,
            scope: scope.to_owned(),
            scopes,
            nonce: text("nonce"),
            challenge,
            prompt,
            login_hint: text("login_hint"),
            back,
        })
    }
}

/// The tenants whose users may sign in.
pub(crate) fn open_to<'a>(
    tenant: &str,
    directories: &'a [Directory],
) -> impl Iterator<Item = &'a Directory> {
    let known = directories.iter();
    known.filter(move |directory| is_open(tenant, directory))
}

pub(crate) fn is_open(tenant: &str, directory: &Directory) -> bool {
    is_any_tenant(tenant) || directory.is(tenant)
}

/// The names that stand for every tenant of organisations.
pub(crate) fn is_any_tenant(tenant: &str) -> bool {
    let names = ["organizations", "common"];
    names.iter().any(|name| tenant.eq_ignore_ascii_case(name))
}

/// The client and where it wants the browser back: what must be right before anything is sent
/// there.
fn client<'a>(
    query: &[(String, String)],
    tenant: &str,
    directories: &[Directory],
    field: impl Fn(&str) -> Option<&'a str>,
) -> Result<(String, RedirectTarget), AadstsError> {
    for (at, (name, _)) in query.iter().enumerate() {
        if query.iter().skip(at + 1).any(|(other, _)| other == name) {
            return Err(AadstsError::duplicate_parameter(name));
        }
    }
    if !is_any_tenant(tenant) && open_to(tenant, directories).next().is_none() {
        return Err(AadstsError::tenant_not_found("invalid_request", tenant));
    }
    let client_id =
        field("client_id").ok_or_else(|| AadstsError::missing_parameter("client_id"))?;
    let known = open_to(tenant, directories);
    let mut applications = known
        .filter_map(|known| known.application(client_id))
        .peekable();
    if applications.peek().is_none() {
        return Err(AadstsError::application_not_found(client_id, tenant));
    }
    let redirect_uri = field("redirect_uri").ok_or_else(AadstsError::missing_redirect_uri)?;
    if !applications.any(|known| known.redirects_to(redirect_uri)) {
        return Err(AadstsError::unknown_redirect_uri(redirect_uri, client_id));
    }
    let back = RedirectTarget {
        redirect_uri: redirect_uri.to_owned(),
        state: field("state").map(ToOwned::to_owned),
        is_form: field("response_mode") == Some("form_post"),
    };
    Ok((client_id.to_owned(), back))
}

/// A challenge by S256 alone: `plain`, which is also what no method stands for, shows the verifier
/// to whoever sees the URL.
fn challenge(challenge: Option<&str>, method: Option<&str>) -> Result<Option<String>, AadstsError> {
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
        Ok(hash) if hash.len() == SHA_256 => Ok(Some(challenge.to_owned())),
        _ => Err(AadstsError::invalid_challenge_size()),
    }
}

const SHA_256: usize = 32;
