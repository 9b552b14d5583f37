//! The path of one call, from the request to the access token.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::TokenProvider;
use super::issuer::Issuer;
use super::proofs::Proofs;
use super::requests_by_text::RequestsByText;
use super::resolve::{ResolvedRequest, Subject};
use crate::cache::{
    Cache, CacheOptions, CacheSlot, CacheStats, Cached, HeldSlot, Requirements, current_runtime,
};
use crate::error::{Error, Failure};
use crate::request::{IntoTokenRequest, Lent, TokenRequest};
use crate::shared_cache::SharedLevel;
use crate::time::TimeSource;
#[cfg(feature = "azure-core")]
use crate::token::TokenScheme;
use crate::token::{AccessToken, IssuedToken, Thumbprint, TokenSource};
use crate::transport::{MutualTls, RotationListener};

mod flight;

/// The part of a client that all kinds of clients share: the token cache and the path to a token.
///
/// A cache hit is the same for every kind. The issuer is needed for a token request only.
#[derive(Clone)]
pub(crate) struct TokenAcquirer(pub(super) Arc<Shared>);

/// A [`TokenAcquirer`] that does not keep the client alive, for flights.
#[derive(Clone)]
pub(super) struct WeakAcquirer(Weak<Shared>);

impl WeakAcquirer {
    pub(super) fn upgrade(&self) -> Option<TokenAcquirer> {
        self.0.upgrade().map(TokenAcquirer)
    }
}

pub(super) struct Shared {
    /// Tells the clients of a process apart, in what requests remember.
    id: u64,
    requests: RequestsByText,
    pub(super) cache: Cache,
    clock: TimeSource,
    pub(super) issuer: Issuer,
}

impl TokenAcquirer {
    /// Creates an empty cache. A token request of the issuer ends within `limit`.
    pub(super) fn new(
        options: &CacheOptions,
        limit: Duration,
        clock: TimeSource,
        issuer: Issuer,
    ) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let counts_requests = issuer.shared().is_none();
        Self(Arc::new(Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            requests: RequestsByText::default(),
            cache: Cache::new(options, limit, clock.clone(), counts_requests),
            clock,
            issuer,
        }))
    }

    /// Listens to rotations of the client certificate, as long as the client lives.
    pub(super) fn follow_rotations(&self, mutual_tls: &MutualTls) {
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        mutual_tls.listen(shared);
    }

    pub(super) fn tokens(&self) -> &Cache {
        &self.0.cache
    }

    pub(super) fn downgrade(&self) -> WeakAcquirer {
        WeakAcquirer(Arc::downgrade(&self.0))
    }

    /// Returns the scope of the tokens that are exchanged in the client's cloud.
    pub(super) fn exchange_scope(&self) -> &'static str {
        self.0.issuer.exchange_scope()
    }

    /// Returns the cache that the client shares with other processes.
    pub(super) fn shared(&self) -> Option<&Arc<SharedLevel>> {
        self.0.issuer.shared()
    }

    /// Returns the proofs of a client with a proof key.
    pub(super) fn proofs(&self) -> Option<&Arc<Proofs>> {
        self.0.issuer.proofs()
    }

    /// Returns the scheme of the client's tokens.
    #[cfg(feature = "azure-core")]
    pub(crate) fn scheme(&self) -> TokenScheme {
        self.0.issuer.token_scheme()
    }

    /// Returns the counters of the cache in memory and of the shared cache.
    pub(super) fn stats(&self) -> CacheStats {
        let shared = self.0.issuer.shared();
        self.0.cache.stats(shared.map(|level| &*level.counters))
    }

    /// Removes every token, every failure and the issuer's metadata.
    pub(super) fn clear(&self) {
        self.0.cache.clear();
        self.0.issuer.force_refresh(&self.0.clock);
    }

    /// Removes a token that an API rejected.
    pub(super) fn invalidate(&self, token: &AccessToken) {
        self.invalidate_on(token, current_runtime);
    }

    /// Removes a token that an API rejected. `runtime` returns the runtime that tells the other
    /// processes.
    pub(crate) fn invalidate_on(
        &self,
        token: &AccessToken,
        runtime: impl FnOnce() -> Option<Handle>,
    ) {
        let rejected = token.issued();
        let is_removed = self.0.cache.invalidate(rejected);
        // Outside a runtime the next token request tells the other processes.
        if let (true, Some(level)) = (is_removed, self.shared())
            && let Ok(name) = level.token_name(rejected.key(), rejected.binding())
            && let Some(runtime) = runtime()
        {
            let (level, hash) = (Arc::clone(level), rejected.hash());
            runtime.spawn(async move { level.reject_token(&name, hash).await });
        }
    }

    /// Acquires a token for the application itself.
    #[inline]
    pub(super) async fn acquire_for_application(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let (request, scope) = match self.look_up(&request) {
            LookUp::Token(token) => {
                self.count_hit();
                return Ok(token);
            }
            LookUp::Request(request) => (request, None),
            LookUp::NewScope(scope) => (TokenRequest::new(&scope), Some(scope)),
            LookUp::Nothing => (request.into_token_request(), None),
        };
        let resolved = self.resolve(request.clone(), Subject::Application)?;
        let token = self.acquire(resolved).await?;
        if let Some(scope) = scope {
            self.keep(&scope, &request, &token);
        }
        Ok(token)
    }

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
    fn remembered(&self, request: &TokenRequest) -> Option<AccessToken> {
        request.find_resolved(self.0.id, |slot: &CacheSlot| {
            slot.mark_used();
            self.fresh(slot, &Requirements::NONE)
        })
    }

    /// Keeps the parsed request of a scope, now that there is a token for it.
    pub(super) fn keep(&self, scope: &str, request: &TokenRequest, token: &AccessToken) {
        let requests = &self.0.requests;
        // Beyond the maximum, a cache hit does not pay for the search of a request to replace.
        if token.source() != TokenSource::Cache || !requests.is_full() {
            let now = self.0.clock.coarse_now();
            let has_token = |slot: &CacheSlot| slot.has_token(&now).then_some(());
            let in_use =
                |request: &TokenRequest| request.find_resolved(self.0.id, has_token).is_some();
            requests.insert(scope, request, in_use);
        }
    }

    /// Acquires a token: from the cache, or from the identity provider.
    pub(crate) async fn acquire(&self, request: ResolvedRequest) -> Result<AccessToken, Error> {
        if let Some(token) = self.fresh_token(&request) {
            return Ok(token);
        }
        let slot = self.slot(&request);
        self.acquire_from(&slot, &request).await
    }

    /// Returns the cached token of a request if no refresh is due. The request remembers its slot.
    #[inline]
    pub(super) fn fresh_token(&self, request: &ResolvedRequest) -> Option<AccessToken> {
        let token = self.0.cache.with_slot(&request.key, |slot| {
            self.remember(request, slot);
            self.fresh(slot, &request.requirements)
        });
        if token.is_some() {
            self.count_hit();
        }
        token
    }

    /// Returns the slot of a request, which the request remembers.
    pub(super) fn slot(&self, request: &ResolvedRequest) -> HeldSlot {
        let slot = self.0.cache.slot(&request.key);
        self.remember(request, slot.shared());
        slot
    }

    /// Checks everything that can be known about a request before the network.
    pub(crate) fn resolve(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<ResolvedRequest, Error> {
        self.0.issuer.resolve(request, subject)
    }

    /// Acquires a token for a request that is not resolved yet, whatever the kind of the client.
    pub(crate) async fn resolve_and_acquire(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<AccessToken, Error> {
        let request = self.resolve(request, subject)?;
        self.acquire(request).await
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

    /// Acquires a token from a slot, or through the slot from the identity provider.
    ///
    /// A cache hit neither waits nor allocates.
    pub(super) async fn acquire_from(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        // Returned at once, because a value that lives in an arm beside an `await` is copied twice.
        if let Some(cached) = self.cached_or_refreshed(slot, request, current_runtime) {
            return cached;
        }
        self.missed(slot, request).await
    }

    /// Acquires a token from the identity provider, for a slot without one.
    ///
    /// Boxed out of the way, to keep the future and the stack of a cache hit small.
    #[cold]
    pub(super) fn missed<'a>(
        &'a self,
        slot: &'a HeldSlot,
        request: &'a ResolvedRequest,
    ) -> Pin<Box<impl Future<Output = Result<AccessToken, Error>>>> {
        Box::pin(self.acquire_on_miss(slot, request))
    }

    /// Refreshes the slot's token in the background, on the runtime that `runtime` returns.
    // Few hits come here.
    #[inline(never)]
    pub(super) fn refresh(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
        runtime: impl FnOnce() -> Option<Handle>,
    ) {
        if self.check_grant(request).is_ok() {
            let fetch = |deadline| self.fetch(slot, request, true, deadline);
            self.0.cache.refresh(slot, runtime, fetch);
        }
    }

    async fn acquire_on_miss(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
    ) -> Result<AccessToken, Error> {
        let requirements = &request.requirements;
        request.subject.check()?;
        self.check_grant(request)?;
        let fetch = |deadline| self.fetch(slot, request, false, deadline);
        let fetched = match &request.subject {
            Subject::Agent(_) => {
                let prepare = self.prepare(request);
                let cache = &self.0.cache;
                cache.fetch_after(prepare, slot, requirements, fetch).await
            }
            _ => self.0.cache.fetch(slot, requirements, fetch).await,
        };
        let (issued, source) = fetched?;
        to_access_token(issued, slot, source)
    }

    /// Acquires a token that a flight needs, such as the client assertion of an agent identity.
    ///
    /// The flight that waits has a permit, and sends nothing meanwhile. So a token request for this
    /// token needs no permit of its own.
    pub(super) async fn acquire_in_flight(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<AccessToken, Error> {
        let request = self.0.issuer.resolve(request, subject)?;
        let slot = self.0.cache.slot(&request.key);
        if let Some(token) = self.cached(&slot, &request.requirements) {
            return Ok(token);
        }
        let fetch = |deadline| self.fetch(&slot, &request, false, deadline);
        let fetching = (self.0.cache).fetch_in_flight(&slot, &request.requirements, fetch);
        let (issued, source) = Box::pin(fetching).await?;
        to_access_token(issued, &slot, source)
    }

    /// Binds a request to its slot.
    pub(super) fn bind(&self, request: ResolvedRequest) -> Result<TokenProvider, Error> {
        request.check_for_provider()?;
        let (slot, binding) = self.0.cache.bind(&request.key);
        Ok(TokenProvider::new(self.clone(), slot, binding, request))
    }

    /// Returns the slot's token if the token is valid and meets the requirements.
    ///
    /// Does not wait, starts no refresh and counts no hit.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(super) fn cached(
        &self,
        slot: &CacheSlot,
        requirements: &Requirements,
    ) -> Option<AccessToken> {
        match slot.get(&self.0.clock.coarse_now(), requirements) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                to_access_token(issued, slot, TokenSource::Cache).ok()
            }
            Cached::Miss => None,
        }
    }

    /// Returns the slot's token like [`cached`](Self::cached), and refreshes a token that is due.
    /// Counts a hit.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(super) fn cached_or_refreshed(
        &self,
        slot: &HeldSlot,
        request: &ResolvedRequest,
        runtime: impl FnOnce() -> Option<Handle>,
    ) -> Option<Result<AccessToken, Error>> {
        let issued = match slot.get(&self.0.clock.coarse_now(), &request.requirements) {
            Cached::Fresh(issued) => issued,
            Cached::Stale(issued) => {
                self.refresh(slot, request, runtime);
                issued
            }
            Cached::Miss => return None,
        };
        self.count_hit();
        Some(to_access_token(issued, slot, TokenSource::Cache))
    }

    /// Returns the slot's token if no refresh is due. Counts no hit.
    // A plain `inline` leaves a call in every hit.
    #[inline(always)]
    pub(super) fn fresh(
        &self,
        slot: &CacheSlot,
        requirements: &Requirements,
    ) -> Option<AccessToken> {
        match slot.get(&self.0.clock.coarse_now(), requirements) {
            Cached::Fresh(issued) => to_access_token(issued, slot, TokenSource::Cache).ok(),
            Cached::Stale(_) | Cached::Miss => None,
        }
    }

    /// Counts a cache hit, if the program wants the number.
    #[inline]
    pub(super) fn count_hit(&self) {
        self.0.cache.count_hit();
    }
}

/// Lets the cached tokens follow a rotation of the client certificate.
impl RotationListener for Shared {
    fn rotated(&self, current: Thumbprint, previous: Option<Thumbprint>) {
        self.cache.follow_rotation(current, previous);
    }
}

/// Shows the client that the cache belongs to.
impl fmt::Debug for TokenAcquirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.issuer.fmt(f)
    }
}

/// The result of [`TokenAcquirer::look_up`].
pub(super) enum LookUp {
    Token(AccessToken),
    /// The request is known, and there is no fresh token.
    Request(TokenRequest),
    /// The scope was not parsed before.
    NewScope(Box<str>),
    /// The request cannot be looked up.
    Nothing,
}

#[inline]
pub(super) fn to_access_token(
    issued: Arc<IssuedToken>,
    slot: &CacheSlot,
    source: TokenSource,
) -> Result<AccessToken, Error> {
    AccessToken::from_cache(issued, slot.key(), source).ok_or_else(token_of_another_key)
}

#[cold]
fn token_of_another_key() -> Error {
    let message = "the cache held a token for another request and did not return it; please report this as a bug";
    Error::InvalidResponse(Failure::new(message).into())
}
