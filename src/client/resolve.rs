//! A token request, checked against the client before the network.

use std::sync::Arc;

use uuid::Uuid;

use super::agent::{Agent, AgentSubject};
use super::fetch::TokenFetcher;
use super::user_fic::FederatedUser;
use crate::authority::{Rules, Tenant};
use crate::cache::{Requirements, SpecialRequirements};
use crate::delegated::{Account, SessionKey, TokenExchange, UserAssertion};
use crate::error::Error;
use crate::managed_identity::Resource;
use crate::request::TokenRequest;
use crate::request::parameters::Parameters;
use crate::scope::Scopes;
use crate::token::{AccessToken, CacheKey, UserKey};

impl TokenFetcher {
    /// Checks everything that can be known before the network.
    #[inline]
    pub(super) fn resolve(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<ResolvedRequest, Error> {
        let tenant = self.resolve_tenant(&request, &subject)?;
        let scopes = request.requested_scopes();
        let scopes = match &subject {
            Subject::Federated(user) => {
                self.check_user_fic(user)?;
                self.check_user_scopes(scopes)?;
                &scopes.for_user()?.set
            }
            Subject::Agent(agent) if agent.acts_for_a_user() => {
                self.check_agent(agent, &request)?;
                self.check_user_scopes(scopes)?;
                &scopes.for_user()?.set
            }
            Subject::OnBehalfOf(_) | Subject::Account(_) | Subject::LongRunning(_) => {
                self.check_user_scopes(scopes)?;
                &scopes.for_user()?.set
            }
            Subject::Application | Subject::Agent(_) => {
                if let Subject::Agent(agent) = &subject {
                    self.check_agent(agent, &request)?;
                }
                if let Some(tenant) = tenant {
                    tenant.check_for_application()?;
                }
                match self.endpoints.rules().requires_default_scope() {
                    true => scopes.check_for_application()?,
                    false => scopes.check_characters()?,
                }
                scopes.set()
            }
            Subject::Exchange(_) => {
                self.check_token_exchange()?;
                scopes.check_characters()?;
                scopes.set()
            }
        };
        self.check_parameters(&request)?;
        let key = CacheKey {
            tenant: tenant.cloned(),
            scopes: scopes.clone(),
            user: subject.user().cloned(),
            parameters: request.extra_parameters()?.clone(),
        };
        ResolvedRequest::new(key, request, subject)
    }

    /// Checks that a user's scopes are of Entra's form, unless another provider may define others.
    #[inline]
    pub(super) fn check_user_scopes(&self, scopes: &Scopes) -> Result<(), Error> {
        match self.endpoints.rules() {
            Rules::OpenId | Rules::Adfs => Ok(()),
            Rules::Entra | Rules::B2c => scopes.check_form(),
        }
    }

    /// Checks that the provider may have token exchange ([RFC 8693]).
    ///
    /// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
    fn check_token_exchange(&self) -> Result<(), Error> {
        let rules = self.endpoints.rules();
        let instead = match rules {
            Rules::OpenId => return Ok(()),
            Rules::Entra | Rules::Adfs => {
                "to act for the user of a token at another API, call acquire_token_on_behalf_of(..) with a UserAssertion"
            }
            Rules::B2c => {
                "nor does it have an on-behalf-of flow: to act for a signed-in user, call acquire_token_silent(..)"
            }
        };
        Err(Error::config(format!(
            "exchange_token(..) cannot be used: {} has no token exchange (RFC 8693); {instead}",
            rules.name()
        )))
    }

    /// Checks that the client and the provider have what the request adds.
    #[inline]
    pub(super) fn check_parameters(&self, request: &TokenRequest) -> Result<(), Error> {
        let parameters = request.extra_parameters()?;
        if parameters.is_empty() {
            return Ok(());
        }
        if parameters.has_assertion_claims() {
            self.credential.check_assertion_claims()?;
        }
        let rules = self.endpoints.rules();
        match parameters.fmi_path() {
            Some(path) if rules != Rules::Entra => Err(no_fmi_path(path, rules)),
            _ => check_resource_indicators(parameters, rules),
        }
    }

    /// Returns the scopes of the token request. A kept ID token is refreshed with the user's
    /// tokens.
    pub(super) fn scopes_to_send(&self, request: &ResolvedRequest) -> Arc<str> {
        let scopes = request.scopes_to_send(self.endpoints.rules());
        let is_kept = self.keeps_id_tokens && matches!(request.subject, Subject::Account(_));
        match is_kept && !scopes.split(' ').any(|scope| scope == "openid") {
            true => [scopes, " openid"].concat().into(),
            false => Arc::clone(scopes),
        }
    }

    /// Returns the request's tenant, or the client's own. A multi-tenant client uses the tenant
    /// that the user is from.
    pub(super) fn resolve_tenant<'a>(
        &'a self,
        request: &'a TokenRequest,
        subject: &'a Subject,
    ) -> Result<Option<&'a Tenant>, Error> {
        let endpoints = &self.endpoints;
        match (request.requested_tenant()?, endpoints.tenant()) {
            (Some(tenant), Some(_)) => Ok(Some(tenant)),
            (None, Some(own)) if own.is_multi_tenant() => Ok(Some(subject.tenant().unwrap_or(own))),
            (None, own) => Ok(own),
            (Some(tenant), None) => Err(Error::config(format!(
                "the tenant '{}' cannot be used: the authority '{endpoints}' has no tenants; leave tenant(..) out",
                tenant.as_str()
            ))),
        }
    }
}

/// A token request that was checked against a client, with everything that a call needs.
#[derive(Clone)]
pub(crate) struct ResolvedRequest {
    /// Holds the tenant that was resolved, as it was spelled.
    pub(super) key: CacheKey,
    pub(super) request: TokenRequest,
    pub(super) subject: Subject,
    pub(super) requirements: Requirements,
    pub(super) correlation_id: Option<Uuid>,
}

impl ResolvedRequest {
    /// Resolves a request of a client that has the tokens of one resource in one tenant.
    ///
    /// The key has the resource's `/.default` scope, even if the request has the resource alone.
    /// `no_tenant` and `no_parameters` say why a request cannot have these.
    pub(super) fn of_resource(
        request: TokenRequest,
        no_tenant: &str,
        no_parameters: &str,
    ) -> Result<Self, Error> {
        if let Some(tenant) = request.requested_tenant()? {
            return Err(Error::config(format!(
                "the tenant '{}' cannot be used: {no_tenant}",
                tenant.as_str()
            )));
        }
        let parameters = request.extra_parameters()?;
        let unusable = match () {
            () if parameters.are_sent() => Some("an extra parameter"),
            () if parameters.has_assertion_claims() => Some("a claim of a client assertion"),
            () if !request.extra_headers().is_empty() => Some("an extra header"),
            () => None,
        };
        if let Some(unusable) = unusable {
            return Err(Error::config(format!(
                "{unusable} cannot be used: {no_parameters}"
            )));
        }
        let scopes = request.requested_scopes();
        let resource = Resource::of_scopes(scopes.as_requested())?;
        let key = CacheKey {
            tenant: None,
            scopes: scopes.of_resource(resource.as_str()),
            user: None,
            parameters: parameters.clone(),
        };
        Self::new(key, request, Subject::Application)
    }

    /// Checks the parts of a request that are the same for all kinds of clients.
    #[inline]
    pub(super) fn new(
        key: CacheKey,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<Self, Error> {
        Ok(Self {
            requirements: requirements(&request, &key)?,
            correlation_id: request.requested_correlation_id()?,
            key,
            request,
            subject,
        })
    }

    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.key.tenant.as_ref()
    }

    pub(super) fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    pub(super) fn request(&self) -> &TokenRequest {
        &self.request
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn scopes_to_send(&self, rules: Rules) -> &Arc<str> {
        let scopes = self.request.requested_scopes();
        let for_user = match &self.subject {
            Subject::Application => None,
            Subject::Agent(agent) if !agent.acts_for_a_user() => None,
            // A refresh must not request scopes that were never granted (RFC 6749 section 6), and
            // not every provider names the granted scopes of OpenID Connect. A strict provider
            // rejects the scopes of OpenID Connect with an assertion.
            _ if rules == Rules::OpenId => None,
            Subject::Exchange(_) => None,
            Subject::OnBehalfOf(_)
            | Subject::Account(_)
            | Subject::LongRunning(_)
            | Subject::Federated(_)
            | Subject::Agent(_) => scopes.for_user().ok(),
        };
        for_user.map_or(scopes.as_requested(), |scopes| &scopes.to_send)
    }

    pub(super) fn check_for_provider(&self) -> Result<(), Error> {
        let single_use = match () {
            () if self.correlation_id.is_some() => "a correlation id",
            () if self.requirements.claims().is_some() => "claims",
            () if self.request.rejected().is_some() => "a rejected token",
            () if self.request.is_force_refresh() => "a forced refresh",
            () => return Ok(()),
        };
        Err(Error::config(format!(
            "a token provider serves many calls and cannot have {single_use}; pass such a request to the client's acquire_token method instead"
        )))
    }
}

/// The owner of a token: the application itself, a user, the subject of a token exchange, or an
/// agent identity with its users.
#[derive(Clone)]
pub(crate) enum Subject {
    Application,
    OnBehalfOf(UserAssertion),
    Account(Account),
    LongRunning(SessionKey),
    Exchange(TokenExchange),
    /// A user whom the application names, with the application's credential for the user.
    Federated(FederatedUser),
    /// An agent identity of this application.
    Agent(AgentSubject),
}

impl Subject {
    pub(super) fn user(&self) -> Option<&Arc<UserKey>> {
        match self {
            Self::Application => None,
            Self::OnBehalfOf(assertion) => Some(assertion.user()),
            Self::Account(account) => Some(account.user()),
            Self::LongRunning(key) => Some(key.user()),
            Self::Exchange(exchange) => Some(exchange.user()),
            Self::Federated(user) => Some(user.user.user()),
            Self::Agent(agent) => Some(agent.key()),
        }
    }

    /// Returns the agent identity that requests the token in the place of the application.
    pub(super) fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Agent(subject) => Some(&subject.agent),
            Self::Application
            | Self::OnBehalfOf(_)
            | Self::Account(_)
            | Self::LongRunning(_)
            | Self::Exchange(_)
            | Self::Federated(_) => None,
        }
    }

    /// Checks the tokens of the subject before a token request.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::OnBehalfOf(assertion) => assertion.check(),
            Self::Exchange(exchange) => exchange.check(),
            Self::Federated(user) => user.user.name().map(drop),
            Self::Agent(agent) => agent.check(),
            Self::Application | Self::Account(_) | Self::LongRunning(_) => Ok(()),
        }
    }

    /// Returns the tenant that a user is from.
    fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Application | Self::Exchange(_) | Self::Federated(_) => None,
            Self::Agent(agent) => agent.tenant(),
            Self::OnBehalfOf(assertion) => assertion.tenant(),
            Self::Account(account) => account.tenant(),
            Self::LongRunning(key) => key.tenant(),
        }
    }
}

/// Checks that the provider has the parameters that name an API. Microsoft's providers name the API
/// in the scope.
fn check_resource_indicators(parameters: &Parameters, rules: Rules) -> Result<(), Error> {
    if rules == Rules::OpenId {
        return Ok(());
    }
    let accepts = |name: &str| rules == Rules::Adfs && name.eq_ignore_ascii_case("resource");
    match parameters
        .resource_indicators()
        .find(|(name, _)| !accepts(name))
    {
        None => Ok(()),
        Some((name, value)) => Err(Error::config(format!(
            "the parameter '{name}' cannot be used: {} has no such parameter, because the scope names the API; remove {name}({value:?}), and request a scope such as '{value}/.default'",
            rules.name()
        ))),
    }
}

fn no_fmi_path(path: &str, rules: Rules) -> Error {
    Error::config(format!(
        "the fmi_path {path:?} cannot be used: {} has no federated identities, which are of Microsoft Entra ID alone; leave fmi_path(..) out, or use an authority of Microsoft Entra ID",
        rules.name()
    ))
}

fn requirements(request: &TokenRequest, key: &CacheKey) -> Result<Requirements, Error> {
    let rejected = request.rejected().map(AccessToken::issued);
    if rejected.is_some_and(|rejected| rejected.key() != key) {
        return Err(Error::config(
            "the rejected token is for another tenant, scope, user or parameter than the request; pass the token that this request returned",
        ));
    }
    Ok(Requirements::new(SpecialRequirements {
        claims: request.requested_claims()?,
        rejected: rejected.cloned(),
        force_refresh: request.is_force_refresh(),
        min_remaining: request.requested_min_remaining(),
    }))
}
