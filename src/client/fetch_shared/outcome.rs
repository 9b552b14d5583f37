//! The outcome of a token request as a record, and the record as an outcome.

use std::sync::Arc;

use super::{Requested, SharedFetch};
use crate::cache::{FlightOutcome, cool_down_length, yields_to_force};
use crate::error::{Error, SharedFailure};
use crate::shared_cache::{StoredFailure, StoredToken, TokenRecord, Versioned};
use crate::time::{Now, jitter};
use crate::token::{IssuedToken, Stage, TokenHash, TokenSource};

impl SharedFetch {
    /// Returns the record of an outcome, and a failure with the wait that all processes obey.
    ///
    /// `family` is the session whose refresh token the token request redeemed.
    pub(super) fn record_of(
        &self,
        requested: Result<Requested, Error>,
        found: Versioned<TokenRecord>,
        family: Option<String>,
    ) -> (FlightOutcome, Option<TokenRecord>) {
        let now = self.clock().instant();
        let mut record = found.aged_content(now).unwrap_or_default();
        match requested {
            Ok(requested) => {
                if let Some(rejected) = self.fetch.rejected {
                    record.reject(rejected);
                }
                record.token = Some(self.stored(&requested));
                record.failure = None;
                (Ok(requested.into_outcome()), Some(record))
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
                    let failure = StoredFailure::new(failure, wait, failures)
                        .yielding_to_force(yields_to_force(&error));
                    record.failure = Some(failure.of_session(family));
                    (Err(error.with_retry_after(wait)), Some(record))
                }
            },
        }
    }

    fn stored(&self, requested: &Requested) -> StoredToken {
        let now = self.clock().now();
        let claims = self.fetch.claims.as_deref().map(TokenHash::of);
        StoredToken::new(&requested.issued, claims, requested.family.clone(), &now)
    }

    /// Returns the outcome that a record has for this token request, if it has one.
    ///
    /// `first` is the generation at the first look: a later generation is the outcome of a token
    /// request that ran at the same time as this one. `family` is the session of the user.
    pub(super) fn outcome_of(
        &self,
        record: &Versioned<TokenRecord>,
        first: u64,
        family: Option<&str>,
    ) -> Option<FlightOutcome> {
        let content = record.content.as_ref()?;
        let is_concurrent = record.generation > first;
        if let Some(issued) = self.acceptable_token(content, is_concurrent, family) {
            return Some(Ok((issued, TokenSource::SharedCache)));
        }
        let failure = content.failure.as_ref()?;
        // The claims of one caller say nothing about other requests.
        if failure.is_over() || self.fetch.claims.is_some() {
            return None;
        }
        // The slot rations the forced refreshes of this process.
        let is_forced = self.fetch.requirements.force_refresh();
        if is_forced && failure.yields_to_force && !is_concurrent {
            return None;
        }
        // The failure of an earlier session says nothing about the user's new sign-in.
        if failure.family.as_deref() != family {
            return None;
        }
        Some(Err(failure.to_error()))
    }

    /// Returns the token of a record if this token request may end with the token.
    pub(super) fn acceptable_token(
        &self,
        content: &TokenRecord,
        is_concurrent: bool,
        family: Option<&str>,
    ) -> Option<Arc<IssuedToken>> {
        let token = content.token.as_ref()?;
        // A token of a session that was signed out, or replaced by another sign-in.
        let is_of_session = token.family.as_deref() == family;
        // An assertion belongs to no session, and its token request may create one.
        let is_new_session = is_concurrent && family.is_none();
        if !is_of_session && !is_new_session {
            return None;
        }
        let now = self.clock().now();
        let issued = Arc::new(self.restore(token, now)?);
        let stage = issued.lifetime.stage(&now);
        if stage == Stage::Expired || (self.fetch.is_refresh && stage == Stage::Due) {
            return None;
        }
        let is_rejected = |rejected| rejected == issued.hash();
        if self.fetch.rejected.is_some_and(is_rejected) {
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
    ///
    /// A token whose refresh is due at `now` is due for the caller, which compares with `now`.
    fn restore(&self, token: &StoredToken, now: Now) -> Option<IssuedToken> {
        let issued = IssuedToken::new(
            Arc::clone(&self.fetch.key),
            token.access_token(),
            token.lifetime(jitter(), now),
            token.scopes.as_str().into(),
            self.fetch.tenant.as_ref(),
            &token.correlation_id,
            self.fetch.binding(),
        )?;
        let (issued_token_type, is_attachable) =
            (token.issued_token_type.as_deref(), !token.is_not_applicable);
        let issued = match issued_token_type.is_none() && is_attachable {
            true => issued,
            false => issued.exchanged(issued_token_type, is_attachable),
        };
        Some(issued.with_additional_parameters(token.additional_parameters.clone()))
    }
}
