use std::time::SystemTime;

use uuid::Uuid;

use super::request::{RequestedPrompt, SignInError, SignInRequest, is_open, open_to};
use super::response::AuthorizationResponse;
use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::consent::{self, Consent};
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::testing::token::code::AuthorizationCode;
use crate::testing::token::sessions::Sessions;

/// What the browser shows next.
pub(crate) enum SignInStep {
    /// Who is it?
    User {
        pending: String,
        back_to: String,
        /// Object id, display name and principal name; the one that was hinted at is first.
        users: Vec<(Uuid, String, String)>,
    },
    /// May the client do this?
    Consent {
        pending: String,
        back_to: String,
        client_id: String,
        user: String,
        scopes: Vec<String>,
    },
    Done(AuthorizationResponse),
}

/// An authorization request that waits for its user: each page's form names one, once.
pub(crate) struct PendingSignIn {
    request: SignInRequest,
    /// Who was chosen, by object id.
    user: Option<Uuid>,
}

/// Checks an authorization request and shows who can sign in. A refusal is shown on a page.
pub(crate) fn begin(
    query: &[(String, String)],
    tenant: &str,
    directories: &[Directory],
    sessions: &mut Sessions,
) -> Result<SignInStep, AadstsError> {
    let request = match SignInRequest::check(query, tenant, directories) {
        Ok(request) => request,
        Err(SignInError::Here(refusal)) => return Err(refusal),
        Err(SignInError::There(reply)) => return Ok(SignInStep::Done(reply)),
    };
    let hint = request.login_hint.as_deref().unwrap_or_default();
    if request.prompt == RequestedPrompt::None {
        let hinted = open_to(tenant, directories).find_map(|known| known.user(hint));
        return match hinted.map(User::id) {
            Some(user) => decide(&request, user, directories, sessions),
            None => Ok(refused(&request, &AadstsError::login_required())),
        };
    }
    let known = open_to(tenant, directories).flat_map(|known| &known.users);
    let mut users: Vec<_> = known.collect();
    users.sort_by_key(|user| !user.is(hint));
    let users = users.into_iter().map(|user| {
        (
            user.id(),
            user.display_name().to_owned(),
            user.principal_name().to_owned(),
        )
    });
    Ok(SignInStep::User {
        users: users.collect(),
        back_to: request.back.redirect_uri.clone(),
        pending: sessions.wait(PendingSignIn {
            request,
            user: None,
        }),
    })
}

/// Takes the user's choice; goes on to consent, or back to the client.
pub(crate) fn choose_user(
    pending: &str,
    user: &str,
    directories: &[Directory],
    sessions: &mut Sessions,
) -> Result<SignInStep, AadstsError> {
    let Some(PendingSignIn {
        request,
        user: None,
    }) = sessions.resume(pending)
    else {
        return Err(AadstsError::unknown_sign_in_page());
    };
    let chosen = open_to(&request.tenant, directories).find_map(|known| known.user(user));
    match chosen {
        Some(user) => decide(&request, user.id(), directories, sessions),
        None => Err(AadstsError::user_not_found(user, &request.tenant)),
    }
}

/// Takes the user's answer, and goes back to the client.
pub(crate) fn answer_consent(
    pending: &str,
    is_accepted: bool,
    directories: &mut [Directory],
    sessions: &mut Sessions,
) -> Result<SignInStep, AadstsError> {
    let Some(PendingSignIn {
        request,
        user: Some(user),
    }) = sessions.resume(pending)
    else {
        return Err(AadstsError::unknown_sign_in_page());
    };
    if !is_accepted {
        return Ok(refused(&request, &AadstsError::consent_declined()));
    }
    let name = user.to_string();
    let mut known = directories.iter_mut();
    let is_chosen =
        |known: &&mut Directory| is_open(&request.tenant, known) && known.user(&name).is_some();
    if let Some(directory) = known.find(is_chosen) {
        let client_id = &request.client_id;
        let consents = Consent::to(client_id, Some(&name), &request.scopes);
        directory.consents.extend(consents);
        return Ok(issue(&request, directory, user, sessions));
    }
    Err(AadstsError::user_not_found(&name, &request.tenant))
}

/// Decides for a user: refused, consent first, or a code.
fn decide(
    request: &SignInRequest,
    user: Uuid,
    directories: &[Directory],
    sessions: &mut Sessions,
) -> Result<SignInStep, AadstsError> {
    let name = user.to_string();
    let found =
        open_to(&request.tenant, directories).find_map(|known| Some((known, known.user(&name)?)));
    let Some((directory, known)) = found else {
        return Err(AadstsError::user_not_found(&name, &request.tenant));
    };
    let client_id = &request.client_id;
    let Some(client) = directory.application(client_id) else {
        let refusal = AadstsError::application_not_found(client_id, &directory.name);
        return Ok(refused(request, &refusal));
    };
    // Of `organizations`, another tenant's registration may have been looked at before.
    if !client.redirects_to(&request.back.redirect_uri) {
        let uri = &request.back.redirect_uri;
        return Err(AadstsError::unknown_redirect_uri(uri, client_id));
    }
    if let Err(refusal) = check_resources(directory, client_id, &request.scopes) {
        return Ok(refused(request, &refusal));
    }
    let missing = missing(directory, client, known, request);
    match (missing.is_empty(), request.prompt) {
        (true, _) => Ok(issue(request, directory, user, sessions)),
        (false, RequestedPrompt::None) => Ok(refused(
            request,
            &AadstsError::silent_consent_required(client_id),
        )),
        (false, _) => Ok(SignInStep::Consent {
            back_to: request.back.redirect_uri.clone(),
            client_id: client_id.clone(),
            user: known.principal_name().to_owned(),
            scopes: missing,
            pending: sessions.wait(PendingSignIn {
                request: request.clone(),
                user: Some(user),
            }),
        }),
    }
}

fn check_resources(
    directory: &Directory,
    client_id: &str,
    scopes: &ScopeParameter,
) -> Result<(), AadstsError> {
    for asked in &scopes.resources {
        if !directory.knows(&asked.resource) {
            let refusal = AadstsError::resource_not_found(&asked.resource, &directory.name);
            return Err(refusal);
        }
        if let Some(unknown) = directory.unpublished(asked) {
            let resource = &asked.resource;
            return Err(AadstsError::unpublished_scope(client_id, unknown, resource));
        }
    }
    Ok(())
}

/// What the consent page lists, if it is shown: what was not granted yet, or with `prompt=consent`
/// all that is asked for; and where a page is shown at all, the scopes of OpenID Connect with it.
fn missing(
    directory: &Directory,
    client: &Application,
    user: &User,
    request: &SignInRequest,
) -> Vec<String> {
    let ScopeParameter { resources, .. } = &request.scopes;
    let mut listed = Vec::new();
    for asked in resources {
        let with_prefix = |scope: String| format!("{}{scope}", asked.prefix);
        let missing = match request.prompt {
            RequestedPrompt::Consent => consent::needed(directory, client, asked),
            _ => match consent::granted(directory, client, user, asked) {
                Ok(_) => Vec::new(),
                Err(missing) => missing,
            },
        };
        listed.extend(missing.into_iter().map(with_prefix));
    }
    let is_own = |asked: &RequestedScopes| client.is_resource(&asked.resource);
    let is_first = resources.is_empty() && !consent::is_known(directory, client, user);
    let is_asked_again =
        request.prompt == RequestedPrompt::Consent && !resources.iter().any(is_own);
    if !listed.is_empty() || is_first || is_asked_again {
        let scopes = &request.scopes;
        listed.extend(scopes.of_openid().map(ToOwned::to_owned));
        listed.extend(scopes.offline_access.then(|| "offline_access".to_owned()));
    }
    listed
}

fn issue(
    request: &SignInRequest,
    directory: &Directory,
    user: Uuid,
    sessions: &mut Sessions,
) -> SignInStep {
    let code = sessions.codes.issue(AuthorizationCode {
        tenant: directory.id,
        client_id: request.client_id.clone(),
        redirect_uri: request.back.redirect_uri.clone(),
        user,
        scope: request.scope.clone(),
        nonce: request.nonce.clone(),
        challenge: request.challenge.clone(),
        family: Uuid::new_v4(),
        issued: SystemTime::now(),
        is_redeemed: false,
    });
    SignInStep::Done(AuthorizationResponse::code(&request.back, code))
}

fn refused(request: &SignInRequest, refusal: &AadstsError) -> SignInStep {
    SignInStep::Done(AuthorizationResponse::refused(&request.back, refusal))
}
