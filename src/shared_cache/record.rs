//! The content of records, before encryption.
//!
//! All durations are in milliseconds and relative to the time at which the record was stored.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::delegated::UserIdentity;
use crate::error::{Error, SharedFailure};
use crate::secret::Secret;
use crate::time::Now;
use crate::token::{IssuedToken, Lifetime, TokenHash};

/// The record of one access token: the token, the last failure, and rejected tokens.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// The lifetime with which the record was stored.
    lifetime_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<StoredToken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<StoredFailure>,
    /// Tokens that an API rejected, and that were replaced or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RejectedToken>,
}

/// An access token in a record.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredToken {
    access_token: String,
    /// The lifetime at the issue.
    issued_for_ms: u64,
    expires_in_ms: u64,
    refresh_in_ms: u64,
    pub(crate) scopes: String,
    pub(crate) correlation_id: String,
    /// The hash of the claims that the token request had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claims: Option<TokenHash>,
    /// The session that the token belongs to. After a sign-out the token counts as absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<String>,
    /// The type that a token exchange named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued_token_type: Option<String>,
    /// `true` if the token is not for an `Authorization` header.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) is_not_applicable: bool,
    /// The members of the response that the client does not know, as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) additional_parameters: Option<String>,
}

/// The failure of the last token request in a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredFailure {
    failure: SharedFailure,
    /// The wait until the next token request.
    wait_ms: u64,
    /// The number of failures in a row.
    pub(crate) failures: u32,
    /// `true` if a forced refresh may ignore the failure.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) yields_to_force: bool,
    /// The session whose refresh token the token request redeemed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<String>,
}

impl StoredFailure {
    pub(crate) fn new(failure: SharedFailure, wait: Duration, failures: u32) -> Self {
        Self {
            failure,
            wait_ms: milliseconds(wait),
            failures,
            yields_to_force: false,
            family: None,
        }
    }

    /// Sets whether a forced refresh may ignore the failure.
    pub(crate) fn yielding_to_force(mut self, yields: bool) -> Self {
        self.yields_to_force = yields;
        self
    }

    /// Sets the session that the failure says something about.
    pub(crate) fn of_session(mut self, family: Option<String>) -> Self {
        self.family = family;
        self
    }

    /// Returns `true` if the next token request may be sent.
    pub(crate) fn is_over(&self) -> bool {
        self.wait_ms == 0
    }

    /// Returns the error with the rest of the wait.
    pub(crate) fn to_error(&self) -> Error {
        self.failure.to_error(Duration::from_millis(self.wait_ms))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RejectedToken {
    hash: TokenHash,
    /// The time since the rejection.
    age_ms: u64,
}

impl StoredToken {
    /// Returns the record of a token that was requested with claims, or without, for a session.
    pub(crate) fn new(
        issued: &IssuedToken,
        claims: Option<TokenHash>,
        family: Option<String>,
        now: &Now,
    ) -> Self {
        Self {
            access_token: issued.secret().to_owned(),
            issued_for_ms: milliseconds(issued.lifetime.issued_for()),
            expires_in_ms: milliseconds(issued.lifetime.expires_in(now)),
            refresh_in_ms: milliseconds(issued.lifetime.refresh_in(now)),
            scopes: issued.scopes().to_owned(),
            correlation_id: issued.correlation_id().to_owned(),
            claims,
            family,
            issued_token_type: issued.issued_token_type().map(str::to_owned),
            is_not_applicable: !issued.is_attachable(),
            additional_parameters: issued.additional_parameters().map(str::to_owned),
        }
    }

    /// Returns the lifetime of the token in this process.
    ///
    /// A refresh is due a little later than in the process that acquired the token, so that the
    /// processes do not read the store all at once. `jitter` is from 0 to 1.
    pub(crate) fn lifetime(&self, jitter: f64, now: Now) -> Lifetime {
        let issued_for = Duration::from_millis(self.issued_for_ms);
        let mut refresh_in = Duration::from_millis(self.refresh_in_ms);
        if !refresh_in.is_zero() {
            let spread = LONGEST_SPREAD.min(issued_for / 20);
            refresh_in += spread.mul_f64(jitter.clamp(0.0, 1.0));
        }
        let expires_in = Duration::from_millis(self.expires_in_ms);
        Lifetime::restored(issued_for, expires_in, refresh_in, now)
    }

    pub(crate) fn access_token(&self) -> &str {
        &self.access_token
    }
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredToken(..)")
    }
}

impl Drop for StoredToken {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.access_token);
        zeroize::Zeroize::zeroize(&mut self.additional_parameters);
    }
}

impl TokenRecord {
    pub(crate) fn new(token: StoredToken) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }

    /// Returns the time since the record was stored, by the clock of the store.
    pub(super) fn age(&self, remaining: Duration) -> Duration {
        Duration::from_millis(self.lifetime_ms).saturating_sub(remaining)
    }

    /// Moves all times of the record by its age, and removes what has expired.
    pub(super) fn aged(mut self, age: Duration) -> Self {
        let age = milliseconds(age);
        let later = |time: u64| time.saturating_sub(age);
        self.token = self.token.take().and_then(|mut token| {
            token.expires_in_ms = later(token.expires_in_ms);
            token.refresh_in_ms = later(token.refresh_in_ms);
            (token.expires_in_ms > 0).then_some(token)
        });
        if let Some(failure) = &mut self.failure {
            failure.wait_ms = later(failure.wait_ms);
        }
        for rejected in &mut self.rejected {
            rejected.age_ms = rejected.age_ms.saturating_add(age);
        }
        self.rejected
            .retain(|rejected| rejected.age_ms < milliseconds(REMEMBER_REJECTED));
        self
    }

    /// Returns the time for which the record is worth keeping.
    fn lifetime(&self) -> Duration {
        let token = self.token.as_ref().map_or(0, |token| token.expires_in_ms);
        // A failure is remembered past its wait, so that the next wait is longer.
        let failure = self.failure.as_ref();
        let failure = failure.map_or(0, |failure| failure.wait_ms.saturating_mul(2));
        let rejected = self
            .rejected
            .iter()
            .map(|rejected| milliseconds(REMEMBER_REJECTED).saturating_sub(rejected.age_ms));
        let longest = rejected.max().unwrap_or(0).max(token).max(failure);
        Duration::from_millis(longest.max(1))
    }

    /// Returns `true` if the record has a token that no API rejected.
    pub(super) fn has_valid_token(&self) -> bool {
        self.token.is_some() && !self.has_rejected_token()
    }

    /// Returns `true` if the record has this token.
    pub(super) fn has_token(&self, hash: TokenHash) -> bool {
        self.token_hash() == Some(hash)
    }

    /// Returns `true` if the record's token is one that an API rejected.
    pub(crate) fn has_rejected_token(&self) -> bool {
        // Nearly always, no token was rejected, and none is hashed.
        if self.rejected.is_empty() {
            return false;
        }
        let hash = self.token_hash();
        hash.is_some_and(|hash| self.rejected.iter().any(|rejected| rejected.hash == hash))
    }

    fn token_hash(&self) -> Option<TokenHash> {
        let token = self.token.as_ref()?;
        Some(TokenHash::of(&token.access_token))
    }

    /// Returns `true` if a rejected token was replaced less than 30 seconds ago.
    pub(crate) fn has_recent_rejection(&self) -> bool {
        let recent = milliseconds(REJECTION_PERIOD);
        self.rejected
            .iter()
            .any(|rejected| rejected.age_ms < recent)
    }

    /// Adds a token that an API rejected.
    pub(crate) fn reject(&mut self, hash: TokenHash) {
        self.rejected.retain(|rejected| rejected.hash != hash);
        self.rejected.insert(0, RejectedToken { hash, age_ms: 0 });
        self.rejected.truncate(MAX_REJECTED);
    }

    /// Returns the JSON of the record, and the time to keep the record.
    pub(super) fn encode(mut self) -> (Zeroizing<Vec<u8>>, Duration) {
        let lifetime = self.lifetime();
        self.lifetime_ms = milliseconds(lifetime);
        (encode(&self), lifetime)
    }
}

/// The content of a session's record. Empty after a sign-out.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSession {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<SessionRecord>,
}

/// A user's session, with the refresh token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// A random identifier of the sign-in, which all later refresh tokens have.
    pub(crate) family: String,
    #[serde(with = "secret")]
    pub(crate) refresh_token: Secret,
    /// The user that the responses so far named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<UserIdentity>,
    /// The latest ID token, if the client keeps ID tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_secret"
    )]
    pub(crate) id_token: Option<Secret>,
    /// `true` if a token request with the refresh token may have reached the provider, and ended
    /// without a clear response.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) is_in_doubt: bool,
}

impl SessionRecord {
    /// Returns the record of a new sign-in.
    pub(crate) fn new(refresh_token: Secret, identity: Option<UserIdentity>) -> Self {
        Self {
            family: Uuid::new_v4().simple().to_string(),
            refresh_token,
            identity,
            id_token: None,
            is_in_doubt: false,
        }
    }
}

impl StoredSession {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        encode(self)
    }
}

pub(super) fn decode<T: for<'a> Deserialize<'a>>(content: &[u8]) -> Option<T> {
    serde_json::from_slice(content).ok()
}

pub(super) fn encode(record: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Room for most records, so that growing leaves no copy of a token in freed memory.
    let mut json = Zeroizing::new(Vec::with_capacity(16 * 1024));
    // Strings and numbers always serialize.
    let _ = serde_json::to_writer(&mut *json, record);
    json
}

fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

mod secret {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::secret::Secret;

    pub(super) fn serialize<S: Serializer>(
        secret: &Secret,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::from)
    }
}

mod optional_secret {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::secret::Secret;

    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        let secret = Option::<String>::deserialize(deserializer)?;
        Ok(secret.map(Secret::from))
    }
}

/// The time for which a record names a rejected token.
const REMEMBER_REJECTED: Duration = Duration::from_secs(5 * 60);
/// An API that rejects every token causes one token request in this time, for all processes.
const REJECTION_PERIOD: Duration = Duration::from_secs(30);
const MAX_REJECTED: usize = 4;
const LONGEST_SPREAD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
