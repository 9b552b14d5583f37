use std::time::SystemTime;

use uuid::Uuid;

use super::request::{AuthorizationRequest, Prompt, Rejection, is_open, open_to};
use super::response::Reply;
use crate::testing::aadsts::Refusal;
use crate::testing::directory::application::Application;
use crate::testing::directory::consent::{self, Consent};
use crate::testing::directory::scopes::{Asked, Scopes};
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::testing::token::code::Code;
use crate::testing::token::sessions::Sessions;

/// What the browser shows next.
pub(crate) enum Step {
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
    Done(Reply),
}

/// An authorization request that waits for its user: each page's form names one, once.
pub(crate) struct Pending {
    request: AuthorizationRequest,
    /// Who was chosen, by object id.
    user: Option<Uuid>,
}

/// Checks an authorization request and shows who can sign in. A refusal is shown on a page.
pub(crate) fn begin(
    query: &[(String, String)],
    tenant: &str,
    directories: &[Directory],
    sessions: &mut Sessions,
) -> Result<Step, Refusal> {
    let request = match AuthorizationRequest::check(query, tenant, directories) {
        Ok(request) => request,
        Err(Rejection::Here(refusal)) => return Err(refusal),
        Err(Rejection::There(reply)) => return Ok(Step::Done(reply)),
    };
    let hint = request.login_hint.as_deref().unwrap_or_default();
    if request.prompt == Prompt::None {
        let hinted = open_to(tenant, directories).find_map(|known| known.user(hint));
        return match hinted.map(User::id) {
            Some(user) => decide(&request, user, directories, sessions),
            None => Ok(refused(&request, &Refusal::login_required())),
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
    Ok(Step::User {
        users: users.collect(),
        back_to: request.back.redirect_uri.clone(),
        pending: sessions.wait(Pending {
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
) -> Result<Step, Refusal> {
    let Some(Pending {
        request,
        user: None,
    }) = sessions.resume(pending)
    else {
        return Err(Refusal::other_request());
    };
    let chosen = open_to(&request.tenant, directories).find_map(|known| known.user(user));
    match chosen {
        Some(user) => decide(&request, user.id(), directories, sessions),
        None => Err(Refusal::user_not_found(user, &request.tenant)),
    }
}

/// Takes the user's answer, and goes back to the client.
pub(crate) fn answer_consent(
    pending: &str,
    is_accepted: bool,
    directories: &mut [Directory],
    sessions: &mut Sessions,
) -> Result<Step, Refusal> {
    let Some(Pending {
        request,
        user: Some(user),
    }) = sessions.resume(pending)
    else {
        return Err(Refusal::other_request());
    };
    if !is_accepted {
        return Ok(refused(&request, &Refusal::consent_declined()));
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
    Err(Refusal::user_not_found(&name, &request.tenant))
}

/// Decides for a user: refused, consent first, or a code.
fn decide(
    request: &AuthorizationRequest,
    user: Uuid,
    directories: &[Directory],
    sessions: &mut Sessions,
) -> Result<Step, Refusal> {
    let name = user.to_string();
    let found =
        open_to(&request.tenant, directories).find_map(|known| Some((known, known.user(&name)?)));
    let Some((directory, known)) = found else {
        return Err(Refusal::user_not_found(&name, &request.tenant));
    };
    let client_id = &request.client_id;
    let Some(client) = directory.application(client_id) else {
        let refusal = Refusal::application_not_found(client_id, &directory.name);
        return Ok(refused(request, &refusal));
    };
    // Of `organizations`, another tenant's registration may have been looked at before.
    if !client.redirects_to(&request.back.redirect_uri) {
        let uri = &request.back.redirect_uri;
        return Err(Refusal::unknown_redirect_uri(uri, client_id));
    }
    if let Err(refusal) = check_resources(directory, client_id, &request.scopes) {
        return Ok(refused(request, &refusal));
    }
    let missing = missing(directory, client, known, request);
    match (missing.is_empty(), request.prompt) {
        (true, _) => Ok(issue(request, directory, user, sessions)),
        (false, Prompt::None) => Ok(refused(request, &Refusal::consent_first(client_id))),
        (false, _) => Ok(Step::Consent {
            back_to: request.back.redirect_uri.clone(),
            client_id: client_id.clone(),
            user: known.principal_name().to_owned(),
            scopes: missing,
            pending: sessions.wait(Pending {
                request: request.clone(),
                user: Some(user),
            }),
        }),
    }
}

fn check_resources(directory: &Directory, client_id: &str, scopes: &Scopes) -> Result<(), Refusal> {
    for asked in &scopes.resources {
        if !directory.knows(&asked.resource) {
            let refusal = Refusal::resource_not_found(&asked.resource, &directory.name);
            return Err(refusal);
        }
        if let Some(unknown) = directory.unpublished(asked) {
            let resource = &asked.resource;
            return Err(Refusal::unpublished_scope(client_id, unknown, resource));
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
    request: &AuthorizationRequest,
) -> Vec<String> {
    let Scopes { resources, .. } = &request.scopes;
    let mut listed = Vec::new();
    for asked in resources {
        let with_prefix = |scope: String| format!("{}{scope}", asked.prefix);
        let missing = match request.prompt {
            Prompt::Consent => consent::needed(directory, client, asked),
            _ => match consent::granted(directory, client, user, asked) {
                Ok(_) => Vec::new(),
                Err(missing) => missing,
            },
        };
        listed.extend(missing.into_iter().map(with_prefix));
    }
    let is_own = |asked: &Asked| client.is_resource(&asked.resource);
    let is_first = resources.is_empty() && !consent::is_known(directory, client, user);
    let is_asked_again = request.prompt == Prompt::Consent && !resources.iter().any(is_own);
    if !listed.is_empty() || is_first || is_asked_again {
        let scopes = &request.scopes;
        listed.extend(scopes.of_openid().map(ToOwned::to_owned));
        listed.extend(scopes.offline_access.then(|| "offline_access".to_owned()));
    }
    listed
}

fn issue(
    request: &AuthorizationRequest,
    directory: &Directory,
    user: Uuid,
    sessions: &mut Sessions,
) -> Step {
    let code = sessions.codes.issue(Code {
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
    Step::Done(Reply::code(&request.back, code))
}

fn refused(request: &AuthorizationRequest, refusal: &Refusal) -> Step {
    Step::Done(Reply::refused(&request.back, refusal))
}
