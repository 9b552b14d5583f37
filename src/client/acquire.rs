//! The path of one call, from the request to the access token.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::fetch::Fetch;
use super::fetch_for_user::{UserGrant, in_doubt, interaction_required};
use super::{ConfidentialClient, TokenProvider};
use crate::authority::{Rules, Tenant};
use crate::cache::{
    CacheSlot, Cached, HeldSlot, RefreshTokenStatus, Requirements, SpecialRequirements,
};
use crate::delegated::{Account, UserAssertion};
use crate::error::{Error, Failure};
use crate::request::{IntoTokenRequest, Lent, TokenRequest};
use crate::scope::Scopes;
use crate::token::{AccessToken, CacheKey, IssuedToken, TokenSource, UserKey};

impl ConfidentialClient {
    /// Looks an application's request up: the fastest path to a cached token.
    ///
    /// A request that was resolved before is not resolved again, and a scope that was parsed before
    /// is not parsed again.
    #[inline]
    pub(super) fn look_up(&self, request: &impl IntoTokenRequest) -> LookUp {
        let known = |request: &TokenRequest| match self.remembered(request) {
            Some(token) => LookUp::Token(token),
            None => LookUp::Request(request.clone()),
        };
        match request.lend().0 {
            Lent::Request(request) => known(request),
            Lent::Scope(scope) => {
                let found = self.0.requests.find(scope, known);
                found.unwrap_or_else(|| LookUp::NewScope(scope.into()))
            }
            Lent::Nothing => LookUp::Nothing,
        }
    }

    /// Returns the fresh token of the slot that a request remembers.
    #[inline]
    pub(super) fn remembered(&self, request: &TokenRequest) -> Option<AccessToken> {
        request.find_resolved(self.0.id, |slot: &CacheSlot| {
            slot.mark_used();
            self.fresh(slot, &Requirements::NONE)
        })
    }

    /// Keeps the parsed request of a scope, now that there is a token for it.
    pub(super) fn keep(&self, scope: &str, request: &TokenRequest, token: &AccessToken) {
        let requests = &self.0.requests;
        // Beyond the maximum, a cache hit does not pay for the search of a request to replace.
        if token.source() == TokenSource::IdentityProvider || !requests.is_full() {
            let now = self.0.fetcher.clock.coarse_now();
            let has_token = |slot: &CacheSlot| slot.has_token(&now).then_some(());
            let in_use =
                |request: &TokenRequest| request.find_resolved(self.0.id, has_token).is_some();
            requests.insert(scope, request, in_use);
        }
    }

    /// Acquires a token: from the cache, or from the identity provider.
    pub(super) async fn acquire(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<AccessToken, Error> {
        let request = self.resolve(request, subject)?;
        let fresh = |slot: &Arc<CacheSlot>| {
            self.remember(&request, slot);
            self.fresh(slot, &request.requirements)
        };
        if let Some(token) = self.0.cache.with_slot(&request.key, fresh) {
            return Ok(token);
        }
        let slot = self.0.cache.slot(&request.key);
        self.remember(&request, slot.shared());
        self.acquire_from(&slot, &request).await
    }

    /// Lets a request remember its slot, if the request alone determines the slot and the token.
    fn remember(&self, request: &ResolvedRequest, slot: &Arc<CacheSlot>) {
        let is_plain =
            matches!(request.subject, Subject::Application) && request.requirements.is_none();
        let is_same = |known: &CacheSlot| std::ptr::eq(known, &**slot).then_some(());
        let ResolvedRequest { request, .. } = request;
        if is_plain && request.find_resolved(self.0.id, is_same).is_none() {
            request.set_resolved(self.0.id, Arc::clone(slot));
        }
    }

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
            Subject::OnBehalfOf(_) | Subject::Account(_) => {
                self.check_user_scopes(scopes)?;
                &scopes.for_user()?.set
            }
            Subject::Application => {
                if let Some(tenant) = tenant {
                    tenant.check_for_application()?;
                }
                match self.0.fetcher.endpoints.rules().requires_default_scope() {
                    true => scopes.check_for_application()?,
                    false => scopes.check_characters()?,
                }
                scopes.set()
            }
        };
        let key = CacheKey {
            tenant: tenant.cloned(),
            scopes: scopes.clone(),
            user: subject.user().cloned(),
            parameters: request.extra_parameters()?.clone(),
        };
        Ok(ResolvedRequest {
            requirements: requirements(&request, &key)?,
            correlation_id: request.requested_correlation_id()?,
            key,
            request,
            subject,
        })
    }

    /// Checks that a user's scopes are of Entra's form, unless another provider may define others.
    #[inline]
    pub(super) fn check_user_scopes(&self, scopes: &Scopes) -> Result<(), Error> {
        match self.0.fetcher.endpoints.rules() {
            Rules::OpenId | Rules::Adfs => Ok(()),
            Rules::Entra | Rules::B2c => scopes.check_form(),
        }
    }

    /// Returns the request's tenant, or the client's own. A multi-tenant client uses the tenant
    /// that the user is from.
    pub(super) fn resolve_tenant<'a>(
        &'a self,
        request: &'a TokenRequest,
        subject: &'a Subject,
    ) -> Result<Option<&'a Tenant>, Error> {
        let endpoints = &self.0.fetcher.endpoints;
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

    /// Acquires a token from a slot, or through the slot from the identity provider.
    ///
    /// A cache hit neither waits nor allocates. The rest is boxed, to keep the future small.
    pub(super) async fn acquire_from(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        match slot.get(&self.0.fetcher.clock.coarse_now(), &request.requirements) {
            Cached::Fresh(issued) => to_access_token(issued, slot, TokenSource::Cache),
            Cached::Stale(issued) => {
                if self.check_grant(request).is_ok() {
                    let fetch = |deadline| self.fetch(slot, request, true, deadline);
                    self.0.cache.refresh(slot, fetch);
                }
                to_access_token(issued, slot, TokenSource::Cache)
            }
            Cached::Miss => Box::pin(self.acquire_on_miss(slot, request)).await,
        }
    }

    async fn acquire_on_miss(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        let requirements = &request.requirements;
        if let Subject::OnBehalfOf(assertion) = &request.subject {
            assertion.check()?;
        }
        self.check_grant(request)?;
        let fetch = |deadline| self.fetch(slot, request, false, deadline);
        let (issued, source) = self.0.cache.fetch(slot, requirements, fetch).await?;
        to_access_token(issued, slot, source)
    }

    /// Checks that a token request has a grant. A signed-in user may have no refresh token, or one
    /// that must not be sent again.
    fn check_grant(&self, request: &ResolvedRequest) -> Result<(), Error> {
        let Subject::Account(account) = &request.subject else {
            return Ok(());
        };
        let session = self.0.cache.existing_session(account.user());
        let status = session.map(|session| session.refresh_token_status());
        let claims = || request.requirements.claims().cloned();
        match status.unwrap_or(RefreshTokenStatus::Missing) {
            RefreshTokenStatus::Available => Ok(()),
            RefreshTokenStatus::InDoubt if self.0.fetcher.refresh_token_rotation => {
                Err(in_doubt(claims()))
            }
            RefreshTokenStatus::InDoubt => Ok(()),
            RefreshTokenStatus::Missing => Err(interaction_required(claims())),
        }
    }

    /// Returns the future of a flight, which sends the token request.
    ///
    /// A background refresh sends no claims, since no caller waits for the claims to be met.
    fn fetch(
        &self,
        slot: &CacheSlot,
        request: &ResolvedRequest,
        is_refresh: bool,
        deadline: Instant,
    ) -> impl Future<Output = Result<IssuedToken, Error>> + use<> {
        let fetcher = Arc::clone(&self.0.fetcher);
        let claims = request.requirements.claims().filter(|_| !is_refresh);
        let fetch = Fetch {
            key: Arc::clone(slot.key()),
            tenant: request.key.tenant.clone(),
            scopes: Arc::clone(request.scopes_to_send(fetcher.endpoints.rules())),
            claims: claims.cloned(),
            correlation_id: request
                .correlation_id
                .unwrap_or_else(Uuid::new_v4)
                .to_string(),
            is_refresh,
            progress: Default::default(),
        };
        let user = self.user_grant(&request.subject);
        let span = fetch.span();
        async move { fetcher.fetch(&fetch, user, deadline).await }.instrument(span)
    }

    fn user_grant(&self, subject: &Subject) -> Option<UserGrant> {
        match subject {
            Subject::Application => None,
            Subject::OnBehalfOf(assertion) => Some(UserGrant {
                session: Some(self.0.cache.session(assertion.user())),
                assertion: Some(assertion.clone()),
            }),
            Subject::Account(account) => Some(UserGrant {
                session: self.0.cache.existing_session(account.user()),
                assertion: None,
            }),
        }
    }

    /// Binds a request to its slot.
    pub(super) fn bind(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<TokenProvider, Error> {
        let request = self.resolve(request, subject)?;
        request.check_for_provider()?;
        let (slot, binding) = self.0.cache.bind(&request.key);
        Ok(TokenProvider::new(self.clone(), slot, binding, request))
    }

    /// Returns the slot's token if the token is valid and meets the requirements.
    ///
    /// Does not wait, and starts no refresh.
    #[inline]
    pub(super) fn cached(
        &self,
        slot: &CacheSlot,
        requirements: &Requirements,
    ) -> Option<AccessToken> {
        match slot.get(&self.0.fetcher.clock.coarse_now(), requirements) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                to_access_token(issued, slot, TokenSource::Cache).ok()
            }
            Cached::Miss => None,
        }
    }

    /// Returns the slot's token if no refresh is due.
    #[inline]
    pub(super) fn fresh(
        &self,
        slot: &CacheSlot,
        requirements: &Requirements,
    ) -> Option<AccessToken> {
        match slot.get(&self.0.fetcher.clock.coarse_now(), requirements) {
            Cached::Fresh(issued) => to_access_token(issued, slot, TokenSource::Cache).ok(),
            Cached::Stale(_) | Cached::Miss => None,
        }
    }
}

/// The result of [`ConfidentialClient::look_up`].
pub(super) enum LookUp {
    Token(AccessToken),
    /// The request is known, and there is no fresh token.
    Request(TokenRequest),
    /// The scope was not parsed before.
    NewScope(Box<str>),
    /// The request cannot be looked up.
    Nothing,
}

/// A token request that was checked against a client, with everything that a call needs.
#[derive(Clone)]
pub(crate) struct ResolvedRequest {
    /// Holds the tenant that was resolved, as it was spelled.
    key: CacheKey,
    request: TokenRequest,
    subject: Subject,
    requirements: Requirements,
    correlation_id: Option<Uuid>,
}

impl ResolvedRequest {
    pub(super) fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(super) fn request(&self) -> &TokenRequest {
        &self.request
    }

    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    fn scopes_to_send(&self, rules: Rules) -> &Arc<str> {
        let scopes = self.request.requested_scopes();
        let for_user = match self.subject {
            Subject::Application => None,
            // A refresh must not request scopes that were never granted (RFC 6749 section 6), and
            // not every provider names the granted scopes of OpenID Connect. A strict provider
            // rejects the scopes of OpenID Connect with an assertion.
            Subject::OnBehalfOf(_) | Subject::Account(_) if rules == Rules::OpenId => None,
            Subject::OnBehalfOf(_) | Subject::Account(_) => scopes.for_user().ok(),
        };
        for_user.map_or(scopes.as_requested(), |scopes| &scopes.to_send)
    }

    fn check_for_provider(&self) -> Result<(), Error> {
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

/// The owner of a token: the application itself, or a user.
#[derive(Clone)]
pub(crate) enum Subject {
    Application,
    OnBehalfOf(UserAssertion),
    Account(Account),
}

impl Subject {
    fn user(&self) -> Option<&Arc<UserKey>> {
        match self {
            Self::Application => None,
            Self::OnBehalfOf(assertion) => Some(assertion.user()),
            Self::Account(account) => Some(account.user()),
        }
    }

    /// Returns the tenant that a user is from.
    fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Application => None,
            Self::OnBehalfOf(assertion) => assertion.tenant(),
            Self::Account(account) => account.tenant(),
        }
    }
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

#[inline]
pub(super) fn to_access_token(
    issued: Arc<IssuedToken>,
    slot: &CacheSlot,
    source: TokenSource,
) -> Result<AccessToken, Error> {
    AccessToken::from_cache(issued, slot.key(), source).ok_or_else(|| {
        let message = "the cache held a token for another request and did not return it; please report this as a bug";
        Error::InvalidResponse(Failure::new(message).into())
    })
}
