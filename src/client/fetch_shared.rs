//! The token request of a client with a shared cache: one request for all processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::fetch::{Fetch, TokenFetcher};
use super::fetch_for_user::{FlightGrant, RenewableGrant, interaction_required};
use crate::cache::{FlightOutcome, LockOwner, UserSession};
use crate::delegated::TokenExchange;
use crate::error::Error;
use crate::shared_cache::{
    Locked, SessionRecord, SharedLevel, StoreFailed, TokenRecord, Versioned,
};
use crate::time::TimeSource;
use crate::token::{IssuedToken, TokenSource, UserKey};

mod outcome;
mod poll;
mod redemption;
mod session;
mod sign_in;
mod unstored;

use poll::Poll;
use session::Attempt;
pub(super) use sign_in::{import_session, store_sign_in};

/// One token request and its way to the shared cache.
pub(super) struct SharedFetch {
    pub(super) level: Arc<SharedLevel>,
    pub(super) fetcher: Arc<TokenFetcher>,
    pub(super) fetch: Fetch,
    pub(super) deadline: Instant,
}

impl SharedFetch {
    /// Fetches a token from the shared cache, or else from the identity provider.
    ///
    /// Reports the acquisition once, from whichever source.
    pub(super) async fn fetch(&self, grant: FlightGrant) -> FlightOutcome {
        let session = match &grant {
            FlightGrant::User(user) => user.session.clone(),
            FlightGrant::Application | FlightGrant::Exchange(_) => None,
        };
        let fetching = async {
            // The names of the records contain the certificate's thumbprint.
            self.fetcher.identity(&self.fetch).await?;
            match self.fetch_by_grant(grant).await {
                Ok(fetched) => Ok(fetched),
                Err(error) => self.stored_despite(error, session.as_deref()).await,
            }
        };
        self.fetcher.report(&self.fetch, fetching).await
    }

    async fn fetch_by_grant(&self, grant: FlightGrant) -> FlightOutcome {
        let user = match grant {
            FlightGrant::User(user) => user,
            FlightGrant::Application => {
                let grant = ReusableGrant::Application;
                return self.fetch_with_reusable_grant(grant).await;
            }
            FlightGrant::Exchange(exchange) => {
                let grant = ReusableGrant::Exchange(&exchange);
                return self.fetch_with_reusable_grant(grant).await;
            }
        };
        let has_assertion = user.renewable.is_some();
        let rejection = match &user.session {
            None => None,
            Some(session) => match self.fetch_by_refresh_token(session, has_assertion).await {
                Attempt::Ended(outcome) => return outcome,
                Attempt::NoGrant(rejection) => rejection,
            },
        };
        match &user.renewable {
            Some(renewable) => {
                let grant = ReusableGrant::User(renewable);
                self.fetch_with_reusable_grant(grant).await
            }
            None => Err(until_sign_in(rejection.unwrap_or_else(|| {
                interaction_required(self.fetch.key.user.as_deref(), self.claims())
            }))),
        }
    }

    /// Returns the stored token in place of the error of a caller who required another token.
    ///
    /// A valid token is never withheld, except after a rejection. If the cache in memory has one,
    /// the caller receives that token.
    async fn stored_despite(&self, error: Error, session: Option<&UserSession>) -> FlightOutcome {
        let Fetch {
            requirements,
            claims,
            rejected,
            has_token,
            ..
        } = &self.fetch;
        if *has_token || requirements.is_none() || claims.is_some() || rejected.is_some() {
            return Err(error);
        }
        match self.stored_token(session).await {
            Some(issued) => self.count(Ok((issued, TokenSource::SharedCache))),
            None => Err(error),
        }
    }

    /// Returns the valid token of the record, whatever this token request requires.
    async fn stored_token(&self, session: Option<&UserSession>) -> Option<Arc<IssuedToken>> {
        let name = self
            .level
            .token_name(&self.fetch.key, self.fetch.binding())
            .ok()?;
        let token = self.level.get_token(&name).await.ok()?;
        let content = token.content.as_ref()?;
        if let Some(session) = session {
            let name = self.level.session_name(session.user()).ok()?;
            let found = self.level.get_session(&name).await.ok()?;
            let issued = self.acceptable_token(content, true, session::family_of(&found));
            // The token of an assertion may have no session.
            if issued.is_some()
                || matches!(
                    session.user(),
                    UserKey::Account(_) | UserKey::LongRunning(_)
                )
            {
                return issued;
            }
        }
        self.acceptable_token(content, true, None)
    }

    /// Fetches a token of the application, of a user's renewable grant, or of a token exchange.
    ///
    /// The process that holds the lock sends the token request, and the others wait for its record.
    /// If the store does not respond, the token request is sent without a lock.
    async fn fetch_with_reusable_grant(&self, grant: ReusableGrant<'_>) -> FlightOutcome {
        let name = self
            .level
            .token_name(&self.fetch.key, self.fetch.binding())?;
        let owner = LockOwner::random();
        // Most processes find a token, and need no lock.
        let Ok(record) = self.level.get_token(&name).await else {
            return self.request_alone(grant).await;
        };
        let first = record.generation;
        if let Some(outcome) = self.outcome_of(&record, first, None) {
            return self.count(outcome);
        }
        let mut poll = Poll::new(self);
        loop {
            let (record, is_holder) = match self.level.lock_token(&name, &owner).await {
                Ok(Locked::Acquired(record)) => (record, true),
                Ok(Locked::Held(record)) => (record, false),
                Err(StoreFailed) => return self.request_alone(grant).await,
            };
            if let Some(outcome) = self.outcome_of(&record, first, None) {
                if is_holder {
                    self.unlock_later(name, owner);
                }
                return self.count(outcome);
            }
            if is_holder {
                return self.request_as_holder(name, owner, record, grant).await;
            }
            if let Err(error) = poll.wait().await {
                return self.count(Err(error));
            }
        }
    }

    /// Sends the token request without the store.
    async fn request_alone(&self, grant: ReusableGrant<'_>) -> FlightOutcome {
        self.fetch.progress().shared_cache_failed = true;
        Ok(self.request(grant).await?.into_outcome())
    }

    /// Sends the token request, and stores its outcome for the other processes.
    async fn request_as_holder(
        &self,
        name: String,
        owner: LockOwner,
        found: Versioned<TokenRecord>,
        grant: ReusableGrant<'_>,
    ) -> FlightOutcome {
        let requesting = self.request(grant);
        let requested = self.level.while_extending(&name, &owner, requesting).await;
        let generation = found.generation;
        let (outcome, record) = self.record_of(requested, found, None);
        let record = record.map(|record| (name.clone(), generation, record));
        self.store(record, name, owner).await;
        outcome
    }

    /// Stores a record in place of a generation, then releases a lock.
    ///
    /// Waits a short time, because a program may end, or leave its runtime, as soon as it has the
    /// token. A slow store goes on in the background.
    async fn store(
        &self,
        record: Option<(String, u64, TokenRecord)>,
        locked: String,
        owner: LockOwner,
    ) {
        let level = Arc::clone(&self.level);
        let storing = tokio::spawn(async move {
            if let Some((name, replaced, record)) = record {
                let generation = replaced.saturating_add(1);
                let _ = level.put_newest_token(&name, generation, record).await;
            }
            level.unlock(&locked, &owner).await;
        });
        let _ = timeout(STORE_PATIENCE, storing).await;
    }

    /// Sends the token request with the grant.
    async fn request(&self, grant: ReusableGrant<'_>) -> Result<Requested, Error> {
        let (fetcher, fetch) = (&self.fetcher, &self.fetch);
        let alone = match grant {
            ReusableGrant::User(renewable) => return self.redeem_renewable(renewable).await,
            ReusableGrant::Application => FlightGrant::Application,
            ReusableGrant::Exchange(exchange) => FlightGrant::Exchange(exchange.clone()),
        };
        let issued = fetcher.fetch(fetch, alone, self.deadline).await?;
        Ok(Requested::new(issued, None))
    }

    /// Sends the token request with a user's grant.
    async fn redeem_renewable(&self, grant: &RenewableGrant) -> Result<Requested, Error> {
        let (fetcher, fetch) = (&self.fetcher, &self.fetch);
        let redeeming = fetcher.redeem_renewable(fetch, grant, self.deadline);
        let redeemed =
            fetcher.with_deadline_and_count(&self.level, fetch, self.deadline, redeeming);
        let redeemed = redeemed.await?;
        let family = match redeemed.refresh_token {
            None => None,
            Some(refresh_token) => match &fetch.key.user {
                None => None,
                Some(user) => {
                    let record = SessionRecord::new(refresh_token, redeemed.identity);
                    let name = self.level.session_name(user)?;
                    // Without the refresh token, the next request uses the grant again.
                    let created = self.level.create_session(&name, &record).await;
                    created.is_ok_and(|stored| stored).then_some(record.family)
                }
            },
        };
        Ok(Requested::new(redeemed.issued, family))
    }

    /// Counts an outcome that another process caused.
    fn count(&self, outcome: FlightOutcome) -> FlightOutcome {
        let counters = &self.level.counters;
        match outcome {
            Ok(_) => counters.tokens.add(1),
            Err(_) => counters.errors.add(1),
        }
        self.fetch.progress().is_shared = true;
        outcome
    }

    /// Releases a lock in the background.
    fn unlock_later(&self, name: String, owner: LockOwner) {
        let level = Arc::clone(&self.level);
        tokio::spawn(async move { level.unlock(&name, &owner).await });
    }

    fn claims(&self) -> Option<Arc<str>> {
        self.fetch.claims.clone()
    }

    fn clock(&self) -> &TimeSource {
        self.level.clock()
    }
}

/// Returns an error that the cache in memory does not repeat.
///
/// The user may sign in to another process at any time. Until then, a request reads the store
/// alone.
fn until_sign_in(error: Error) -> Error {
    match error.needs_user_interaction() {
        true => error.with_retry_after(Duration::ZERO),
        false => error,
    }
}

/// A grant that any process may use at any time, and more than once.
#[derive(Clone, Copy)]
enum ReusableGrant<'a> {
    Application,
    User(&'a RenewableGrant),
    Exchange(&'a TokenExchange),
}

/// A token that this process requested.
struct Requested {
    issued: Arc<IssuedToken>,
    /// The session of the user that the token belongs to.
    family: Option<String>,
}

impl Requested {
    fn new(issued: IssuedToken, family: Option<String>) -> Self {
        let issued = Arc::new(issued);
        Self { issued, family }
    }

    fn into_outcome(self) -> (Arc<IssuedToken>, TokenSource) {
        (self.issued, TokenSource::IdentityProvider)
    }
}

/// The longest time for which a caller waits until its token is stored. Redis nearby takes a
/// fraction of a millisecond.
const STORE_PATIENCE: Duration = Duration::from_millis(100);
