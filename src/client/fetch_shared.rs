//! The token request of a client with a shared cache: one request for all processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::fetch::{Fetch, Phase, TokenFetcher};
use super::fetch_for_user::UserGrant;
use crate::cache::{FlightOutcome, LockOwner, cool_down_length};
use crate::error::{Error, SharedFailure};
use crate::shared_cache::{
    Locked, SharedLevel, StoreFailed, StoredFailure, StoredToken, TokenHash, TokenRecord, Versioned,
};
use crate::time::{TimeSource, jitter};
use crate::token::{IssuedToken, Stage, TokenSource};

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
    /// Reports the acquisition once, whoever answered.
    pub(super) async fn fetch(&self, user: Option<UserGrant>) -> FlightOutcome {
        let fetching = async {
            match user {
                None => self.fetch_for_application().await,
                // Not shared yet.
                Some(user) => self.request(Some(user)).await,
            }
        };
        self.fetcher.report(&self.fetch, fetching).await
    }

    /// Fetches an application's token.
    ///
    /// The process that holds the lock sends the token request, and the others wait for its record.
    /// If the store does not respond, the token request is sent without a lock.
    async fn fetch_for_application(&self) -> FlightOutcome {
        let name = self.level.token_name(&self.fetch.key)?;
        let owner = LockOwner::random();
        let mut poll = Poll::new(self);
        loop {
            let (record, is_holder) = match self.level.lock_token(&name, &owner).await {
                Ok(Locked::Acquired(record)) => (record, true),
                Ok(Locked::Held(record)) => (record, false),
                Err(StoreFailed) => {
                    self.fetch.progress().shared_cache_failed = true;
                    return self.request(None).await;
                }
            };
            let first = poll.first_generation(record.generation);
            if let Some(outcome) = self.outcome_of(&record, first) {
                if is_holder {
                    self.unlock_later(name, owner);
                }
                return self.count(outcome);
            }
            if is_holder {
                return self.request_as_holder(name, owner, record).await;
            }
            if let Err(error) = poll.wait().await {
                return self.count(Err(error));
            }
        }
    }

    /// Sends the token request, and stores its outcome for the other processes.
    async fn request_as_holder(
        &self,
        name: String,
        owner: LockOwner,
        found: Versioned<TokenRecord>,
    ) -> FlightOutcome {
        let requesting = self.request(None);
        let outcome = self.level.while_extending(&name, &owner, requesting).await;
        let (outcome, record) = self.record_of(outcome, found.content);
        // Behind the caller's back: the store may be slow.
        let level = Arc::clone(&self.level);
        let generation = found.generation.saturating_add(1);
        tokio::spawn(async move {
            if let Some(record) = record {
                let _ = level.put_newest_token(&name, generation, record).await;
            }
            level.unlock(&name, &owner).await;
        });
        outcome
    }

    /// Returns the record of an outcome, and a failure with the wait that all processes obey.
    fn record_of(
        &self,
        outcome: FlightOutcome,
        found: Option<TokenRecord>,
    ) -> (FlightOutcome, Option<TokenRecord>) {
        let mut record = found.unwrap_or_default();
        match outcome {
            Ok((issued, source)) => {
                if let Some(rejected) = &self.fetch.rejected {
                    record.reject(TokenHash::of(rejected.secret()));
                }
                record.token = Some(self.stored(&issued));
                record.failure = None;
                (Ok((issued, source)), Some(record))
            }
            // The claims of one caller say nothing about other requests.
            Err(error) if self.fetch.claims.is_some() => (Err(error), None),
            Err(error) => match SharedFailure::of(&error) {
                None => (Err(error), None),
                Some(failure) => {
                    let before = record.failure.map_or(0, |failure| failure.failures);
                    let failures = match failure.is_without_response() {
                        // The network of this process may be the cause.
                        true => 1,
                        false => before.saturating_add(1),
                    };
                    let wait = cool_down_length(&error, failures, jitter());
                    record.failure = Some(StoredFailure::new(failure, wait, failures));
                    (Err(error.with_retry_after(wait)), Some(record))
                }
            },
        }
    }

    fn stored(&self, issued: &IssuedToken) -> StoredToken {
        let now = self.clock().now();
        let claims = self.fetch.claims.as_deref().map(TokenHash::of);
        StoredToken::new(issued, claims, &now)
    }

    /// Returns the outcome that a record has for this token request, if it has one.
    ///
    /// `first` is the generation at the first look: a later generation is the outcome of a token
    /// request that ran at the same time as this one.
    fn outcome_of(&self, record: &Versioned<TokenRecord>, first: u64) -> Option<FlightOutcome> {
        let content = record.content.as_ref()?;
        if let Some(issued) = self.acceptable_token(content, record.generation > first) {
            return Some(Ok((issued, TokenSource::SharedCache)));
        }
        let failure = content.failure.as_ref()?;
        // The claims of one caller say nothing about other requests.
        if failure.is_over() || self.fetch.claims.is_some() {
            return None;
        }
        Some(Err(failure.to_error()))
    }

    /// Returns the token of a record if this token request may end with the token.
    pub(super) fn acceptable_token(
        &self,
        content: &TokenRecord,
        is_concurrent: bool,
    ) -> Option<Arc<IssuedToken>> {
        let token = content.token.as_ref()?;
        let now = self.clock().now();
        let issued = Arc::new(self.restore(token)?);
        let stage = issued.lifetime.stage(&now);
        if stage == Stage::Expired || (self.fetch.is_refresh && stage == Stage::Due) {
            return None;
        }
        if self.fetch.requirements.reject(&issued) {
            // An API that rejects every token must not cause a storm of token requests.
            return content.has_recent_rejection().then_some(issued);
        }
        if content.has_rejected_token() {
            return None;
        }
        let claims = self.fetch.claims.as_deref().map(TokenHash::of);
        let is_meant = is_concurrent && (claims.is_none() || claims == token.claims);
        (is_meant || self.fetch.requirements.are_met_by(&issued, &now)).then_some(issued)
    }

    /// Restores a token of the record for this request's key.
    fn restore(&self, token: &StoredToken) -> Option<IssuedToken> {
        let now = self.clock().now();
        let tenant = self.fetch.tenant.as_ref();
        IssuedToken::new(
            Arc::clone(&self.fetch.key),
            token.access_token(),
            token.lifetime(jitter(), now),
            token.scopes.as_str().into(),
            tenant.map(|tenant| Arc::clone(tenant.as_requested())),
            &token.correlation_id,
        )
    }

    /// Sends the token request.
    async fn request(&self, user: Option<UserGrant>) -> FlightOutcome {
        let issued = self.fetcher.fetch(&self.fetch, user, self.deadline).await?;
        Ok((Arc::new(issued), TokenSource::IdentityProvider))
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

    fn unlock_later(&self, name: String, owner: LockOwner) {
        let level = Arc::clone(&self.level);
        tokio::spawn(async move { level.unlock(&name, &owner).await });
    }

    fn clock(&self) -> &TimeSource {
        self.level.clock()
    }
}

/// The wait of one token request for another process.
struct Poll<'a> {
    shared: &'a SharedFetch,
    first_generation: Option<u64>,
    interval: Option<Duration>,
    began: Option<std::time::Instant>,
}

impl<'a> Poll<'a> {
    fn new(shared: &'a SharedFetch) -> Self {
        Self {
            shared,
            first_generation: None,
            interval: None,
            began: None,
        }
    }

    /// Returns the generation of the record at the first look.
    fn first_generation(&mut self, generation: u64) -> u64 {
        *self.first_generation.get_or_insert(generation)
    }

    /// Waits until the next look: 50 milliseconds at first, then twice as long up to half a second,
    /// each with a jitter.
    async fn wait(&mut self) -> Result<(), Error> {
        let interval = match self.interval {
            None => {
                self.shared.level.counters.waits.add(1);
                self.shared.fetch.enter(Phase::OtherProcess);
                FIRST_POLL
            }
            Some(interval) => (2 * interval).min(LONGEST_POLL),
        };
        self.interval = Some(interval);
        let wait = interval.mul_f64(0.5 + jitter());
        let clock = self.shared.clock();
        let began = *self.began.get_or_insert_with(|| clock.instant());
        let waited = timeout_at(self.shared.deadline, sleep(wait)).await;
        let lock_wait = clock.instant().saturating_duration_since(began);
        self.shared.fetch.progress().lock_wait = Some(lock_wait);
        match waited {
            Ok(()) => Ok(()),
            Err(_) => {
                let limit = self.shared.fetcher.retry.total_timeout();
                Err(self.shared.fetch.timeout_error(limit))
            }
        }
    }
}

const FIRST_POLL: Duration = Duration::from_millis(50);
const LONGEST_POLL: Duration = Duration::from_millis(500);
