use std::borrow::Cow;

use uuid::Uuid;

use super::pending::{PendingSignIn, PendingSignIns};
use super::request::{RequestedPrompt, SignInError, SignInRequest, SignInSettings};
use super::response::AuthorizationResponse;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::consent::Consent;
use crate::testing::directory::permissions;
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::directory::tenant::{Directory, accepts_sign_in, sign_in_tenants};
use crate::testing::directory::user::User;
use crate::testing::token::code::{AuthorizationCode, CODE_LIFETIME, FAPI2_CODE_LIFETIME};
use crate::testing::token::sessions::Sessions;

/// The sign-in of a user: the choice of the user, the consent, the code.
///
/// An error of a step is shown on a page.
pub(crate) struct SignInFlow<'a> {
    pub(crate) directories: &'a mut [Directory],
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) pending: &'a mut PendingSignIns,
    pub(crate) settings: SignInSettings<'a>,
}

/// The next page or redirect of a sign-in.
pub(crate) enum SignInStep {
    /// The page with the users to choose from.
    ChooseUser {
        pending: String,
        redirect_uri: String,
        /// The user of the `login_hint` is first.
        users: Vec<UserChoice>,
    },
    /// The page with the requested permissions.
    Consent {
        pending: String,
        redirect_uri: String,
        client_id: String,
        user: String,
        scopes: Vec<String>,
    },
    Done(AuthorizationResponse),
}

/// A user on the sign-in page.
pub(crate) struct UserChoice {
    pub(crate) id: Uuid,
    pub(crate) display_name: String,
    pub(crate) principal_name: String,
}

impl UserChoice {
    fn of(user: &User) -> Self {
        Self {
            id: user.id(),
            display_name: user.display_name().to_owned(),
            principal_name: user.principal_name().to_owned(),
        }
    }
}

impl SignInFlow<'_> {
    /// Checks an authorization request and returns the users who can sign in.
    pub(crate) fn begin(
        &mut self,
        query: &[(String, String)],
        tenant: &str,
    ) -> Result<SignInStep, AadstsError> {
        let query = self.parameters(query, tenant)?;
        let request = match SignInRequest::check(&query, tenant, self.directories, self.settings) {
            Ok(request) => request,
            Err(SignInError::Page(error)) => return Err(error),
            Err(SignInError::Redirect(rejected)) => {
                let (target, error) = *rejected;
                let now = self.settings.now;
                let response = AuthorizationResponse::error(&target, &error, now);
                return Ok(SignInStep::Done(response));
            }
        };
        let hint = request.login_hint.as_deref().unwrap_or_default();
        if request.prompt == RequestedPrompt::None {
            return match self.find_user(tenant, hint) {
                Some(user) => self.decide(&request, user),
                None => Ok(self.rejected(&request, &AadstsError::login_required())),
            };
        }
        let tenants = sign_in_tenants(tenant, self.directories);
        let mut users: Vec<_> = tenants.flat_map(|directory| &directory.users).collect();
        users.sort_by_key(|user| !user.is(hint));
        Ok(SignInStep::ChooseUser {
            users: users.into_iter().map(UserChoice::of).collect(),
            redirect_uri: request.target.redirect_uri.clone(),
            pending: self.pending.add(PendingSignIn {
                request,
                user: None,
            }),
        })
    }

    /// Returns the parameters of an authorization request. Those of a pushed request replace the
    /// query ([RFC 9126 section 4]).
    ///
    /// [RFC 9126 section 4]: https://www.rfc-editor.org/rfc/rfc9126#section-4
    fn parameters<'q>(
        &mut self,
        query: &'q [(String, String)],
        tenant: &str,
    ) -> Result<Cow<'q, [(String, String)]>, AadstsError> {
        let SignInSettings { rules, now, .. } = self.settings;
        let request_uri = query.iter().find(|(name, _)| name == "request_uri");
        match request_uri.filter(|_| rules.is_openid()) {
            Some((_, request_uri)) => {
                let mut directories = self.directories.iter();
                let directory = directories.find(|directory| directory.is(tenant));
                let pushed = &mut self.pending.pushed;
                pushed
                    .take(request_uri, query, directory, now)
                    .map(Cow::Owned)
            }
            None if rules.requires_pushed() => Err(AadstsError::request_not_pushed()),
            None => Ok(Cow::Borrowed(query)),
        }
    }

    /// Processes the choice of the user.
    pub(crate) fn choose_user(
        &mut self,
        pending: &str,
        user: &str,
    ) -> Result<SignInStep, AadstsError> {
        let Some(PendingSignIn {
            request,
            user: None,
        }) = self.pending.take(pending)
        else {
            return Err(AadstsError::unknown_sign_in_page());
        };
        match self.find_user(&request.tenant, user) {
            Some(user) => self.decide(&request, user),
            None => Err(AadstsError::user_not_found(user, &request.tenant)),
        }
    }

    /// Processes the user's decision on the consent page.
    pub(crate) fn submit_consent(
        &mut self,
        pending: &str,
        is_accepted: bool,
    ) -> Result<SignInStep, AadstsError> {
        let Some(PendingSignIn {
            request,
            user: Some(user),
        }) = self.pending.take(pending)
        else {
            return Err(AadstsError::unknown_sign_in_page());
        };
        if !is_accepted {
            return Ok(self.rejected(&request, &AadstsError::consent_declined()));
        }
        let user_id = user.to_string();
        let mut directories = self.directories.iter_mut();
        let is_of_user = |directory: &&mut Directory| {
            accepts_sign_in(&request.tenant, directory) && directory.user(&user_id).is_some()
        };
        match directories.find(is_of_user) {
            Some(directory) => {
                let consents = Consent::to(&request.client_id, Some(&user_id), &request.scopes);
                directory.consents.extend(consents);
                let tenant = directory.id;
                Ok(self.issue_code(&request, tenant, user))
            }
            None => Err(AadstsError::user_not_found(&user_id, &request.tenant)),
        }
    }

    /// Returns the object id of a user who may sign in to a tenant of this name.
    fn find_user(&self, tenant: &str, name: &str) -> Option<Uuid> {
        let mut tenants = sign_in_tenants(tenant, self.directories);
        let user = tenants.find_map(|directory| directory.user(name));
        user.map(User::id)
    }

    /// Rejects the request, requests consent, or issues a code.
    fn decide(&mut self, request: &SignInRequest, user: Uuid) -> Result<SignInStep, AadstsError> {
        let user_id = user.to_string();
        let found = sign_in_tenants(&request.tenant, self.directories)
            .find_map(|directory| Some((directory, directory.user(&user_id)?)));
        let Some((directory, known_user)) = found else {
            return Err(AadstsError::user_not_found(&user_id, &request.tenant));
        };
        let client_id = &request.client_id;
        let Some(client) = directory.application(client_id) else {
            let error = AadstsError::application_not_found(client_id, &directory.name);
            return Ok(self.rejected(request, &error));
        };
        // For `organizations`, the first check may have used another tenant's registration.
        let redirect_uri = &request.target.redirect_uri;
        if !client.has_redirect_uri(redirect_uri) {
            return Err(AadstsError::unknown_redirect_uri(redirect_uri, client_id));
        }
        if let Err(error) = check_resources(directory, client_id, &request.scopes) {
            return Ok(self.rejected(request, &error));
        }
        let scopes = scopes_to_consent(directory, client, known_user, request);
        match (scopes.is_empty(), request.prompt) {
            (true, _) => {
                let tenant = directory.id;
                Ok(self.issue_code(request, tenant, user))
            }
            (false, RequestedPrompt::None) => {
                let error = AadstsError::silent_consent_required(client_id);
                Ok(self.rejected(request, &error))
            }
            (false, _) => Ok(SignInStep::Consent {
                redirect_uri: redirect_uri.clone(),
                client_id: client_id.clone(),
                user: known_user.principal_name().to_owned(),
                scopes,
                pending: self.pending.add(PendingSignIn {
                    request: request.clone(),
                    user: Some(user),
                }),
            }),
        }
    }

    fn rejected(&self, request: &SignInRequest, error: &AadstsError) -> SignInStep {
        SignInStep::Done(AuthorizationResponse::error(
            &request.target,
            error,
            self.settings.now,
        ))
    }

    fn issue_code(&mut self, request: &SignInRequest, tenant: Uuid, user: Uuid) -> SignInStep {
        let code = self.sessions.codes.issue(AuthorizationCode {
            tenant,
            client_id: request.client_id.clone(),
            redirect_uri: request.target.redirect_uri.clone(),
            user,
            scope: request.scope.clone(),
            nonce: request.nonce.clone(),
            challenge: request.challenge.clone(),
            proof_key: request.proof_key.clone(),
            family: Uuid::new_v4(),
            issued: self.settings.now,
            lifetime: match self.settings.rules.is_fapi2() {
                true => FAPI2_CODE_LIFETIME,
                false => CODE_LIFETIME,
            },
            is_redeemed: false,
        });
        SignInStep::Done(AuthorizationResponse::code(&request.target, code))
    }
}

fn check_resources(
    directory: &Directory,
    client_id: &str,
    scopes: &ScopeParameter,
) -> Result<(), AadstsError> {
    for requested in &scopes.resources {
        let resource = &requested.resource;
        if !directory.has_resource(resource) {
            return Err(AadstsError::resource_not_found(resource, &directory.name));
        }
        if let Some(scope) = directory.first_unpublished_scope(requested) {
            return Err(AadstsError::unpublished_scope(client_id, scope, resource));
        }
    }
    Ok(())
}

/// Returns the scopes for the consent page, or none if the page is not needed.
///
/// The page lists the scopes that are not yet granted. With `prompt=consent`, the page lists all
/// requested scopes. The page also lists the requested OpenID Connect scopes.
fn scopes_to_consent(
    directory: &Directory,
    client: &Application,
    user: &User,
    request: &SignInRequest,
) -> Vec<String> {
    let ScopeParameter { resources, .. } = &request.scopes;
    let is_consent_prompt = request.prompt == RequestedPrompt::Consent;
    let mut listed = Vec::new();
    for requested in resources {
        let scopes = match is_consent_prompt {
            true => permissions::scopes_needing_consent(directory, client, requested),
            false => match permissions::granted_scopes(directory, client, user, requested) {
                Ok(_) => Vec::new(),
                Err(missing) => missing,
            },
        };
        let prefix = &requested.prefix;
        listed.extend(scopes.iter().map(|scope| format!("{prefix}{scope}")));
    }
    let is_own_resource = |requested: &RequestedScopes| client.is_resource(&requested.resource);
    let is_first_sign_in =
        resources.is_empty() && !permissions::has_consented(directory, client, user);
    let is_repeated = is_consent_prompt && !resources.iter().any(is_own_resource);
    if !listed.is_empty() || is_first_sign_in || is_repeated {
        let scopes = &request.scopes;
        listed.extend(scopes.openid_scopes().map(ToOwned::to_owned));
        listed.extend(scopes.offline_access.then(|| "offline_access".to_owned()));
    }
    listed
}
