//! The second way to validate a token: the identity provider says whether the token is active.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::bearer::mistake_in_token;
use super::claims::Claims;
use super::rejection::{RejectionReason, TokenRejection};
use super::validator::{TokenValidator, ValidatorConfig};
use crate::cache::RequestLimit;
use crate::client::ConfidentialClient;
use crate::error::{Error, Failure};
use crate::jwt::{self, ClaimsSet, Expected, JwtError, LONGEST_TOKEN};
use crate::response::IntrospectionResponse;
use crate::secret::Secret;
use crate::time::jitter;

mod cache;
mod pause;
mod settings;

use cache::{IntrospectionCache, NewFlight, Outcome, Step, TokenDigest};
pub(super) use settings::IntrospectionSettings;

/// The introspection of tokens by one validator.
pub(super) struct Introspection {
    client: ConfidentialClient,
    /// The endpoint from the caller.
    endpoint: Option<Uri>,
    opaque_tokens_only: bool,
    cache: IntrospectionCache,
    limit: RequestLimit,
}

impl Introspection {
    /// Returns whether the token is introspected. Another token is a JWT to validate.
    pub(super) fn applies_to(&self, token: &str) -> bool {
        !(self.opaque_tokens_only && is_jwt(token))
    }
}

impl TokenValidator {
    /// Introspects a token, and checks the members of the response as the claims of a JWT.
    pub(super) async fn check_introspected(
        &self,
        introspection: &Introspection,
        token: &str,
    ) -> Result<Claims, TokenRejection> {
        check_text(token)?;
        let (active, until) = match self.introspected(introspection, token).await {
            Outcome::Active(active, until) => (active, until),
            Outcome::Inactive => {
                return Err(TokenRejection::new(
                    RejectionReason::Inactive,
                    "the token is not active: it is unknown to the identity provider, expired or revoked, or it is not for this API",
                ));
            }
            Outcome::Unavailable(error) => {
                return Err(TokenRejection::introspection_unavailable(error));
            }
        };
        let config = &*self.0;
        let expected = Expected {
            audiences: &config.audiences,
            now: config.clock.wall(),
            leeway: config.leeway,
        };
        expected.check_introspected(&active.members, config.endpoints.issuer())?;
        check_token_type(&active.members)?;
        Ok(Claims::introspected(
            &active,
            token,
            config.endpoints.rules(),
            until.wall(),
            &config.log,
        )?)
    }

    /// Returns what the identity provider says about the token: from the cache, or by one request
    /// that all callers with the token share.
    async fn introspected(&self, introspection: &Introspection, token: &str) -> Outcome {
        let digest = TokenDigest::of(token);
        let mut lost = 0;
        loop {
            let now = self.0.clock.now();
            let mut flight = match introspection.cache.next(digest, &now, LIMIT) {
                Step::Return(outcome) => return outcome,
                Step::Wait(flight) => flight,
                Step::Start(flight, new) => {
                    if let Err(error) = self.start(new, token) {
                        introspection.cache.forget(digest, &flight);
                        return Outcome::Unavailable(error);
                    }
                    flight
                }
            };
            if let Some(outcome) = flight.outcome().await {
                return outcome;
            }
            // The runtime of the flight has stopped.
            introspection.cache.forget(digest, &flight);
            lost += 1;
            if lost >= MOST_LOST {
                return Outcome::Unavailable(not_introspected(
                    "the task that introspects the token did not finish",
                ));
            }
        }
    }

    /// Sends the introspection request as a task, so that a cancelled caller does not cancel it for
    /// the others.
    fn start(&self, flight: NewFlight, token: &str) -> Result<(), Error> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::config(
                "the token must be introspected, and there is no tokio runtime; call from within a runtime, such as under #[tokio::main]",
            ));
        };
        let config = Arc::clone(&self.0);
        let token = Secret::from(token);
        runtime.spawn(async move {
            let Some(introspection) = &config.introspection else {
                return;
            };
            let outcome = introspection.request(&config, &token).await;
            let now = config.clock.now();
            introspection
                .cache
                .complete(flight, outcome, &now, jitter());
        });
        Ok(())
    }
}

impl Introspection {
    /// Sends the token to the identity provider.
    async fn request(&self, config: &ValidatorConfig, token: &Secret) -> Outcome {
        let deadline = Instant::now() + LIMIT;
        let Ok(_permit) = timeout_at(deadline, self.limit.acquire()).await else {
            return Outcome::Unavailable(not_introspected(
                "the token was not sent within 10 s, because too many other tokens are introspected at the moment",
            ));
        };
        // A response is as old as its request.
        let now = config.clock.now();
        let left = deadline.saturating_duration_since(Instant::now());
        let introspecting = self.client.introspect(token, self.endpoint.as_ref(), left);
        match introspecting.await {
            Ok(IntrospectionResponse::Active(active)) => {
                let until = self.cache.usable_until(&active, &now);
                Outcome::Active(Arc::new(active), until)
            }
            Ok(IntrospectionResponse::Inactive) => Outcome::Inactive,
            Err(error) => Outcome::Unavailable(error),
        }
    }
}

/// Rejects text that is no token, so that no request is sent for it.
fn check_text(token: &str) -> Result<(), TokenRejection> {
    if token.len() > LONGEST_TOKEN {
        return Err(JwtError::TooLong.into());
    }
    match mistake_in_token(token) {
        Some((_, message)) => Err(TokenRejection::new(RejectionReason::Malformed, message)),
        None if token.is_empty() => Err(TokenRejection::new(
            RejectionReason::Malformed,
            "the token is empty",
        )),
        None => Ok(()),
    }
}

/// Rejects a refresh token and an ID token, which may be active, too, and a bound token whose key
/// the response does not name.
fn check_token_type(members: &ClaimsSet) -> Result<(), TokenRejection> {
    for (name, accepted) in [("token_type", TOKEN_TYPES), ("token_use", TOKEN_USES)] {
        let Some(found) = members.get(name) else {
            continue;
        };
        let found = found.as_str();
        let is_accepted = |found: &str| {
            let mut accepted = accepted.iter();
            accepted.any(|accepted| accepted.eq_ignore_ascii_case(found))
        };
        if !found.is_some_and(is_accepted) {
            return Err(TokenRejection::compared(
                RejectionReason::NotAnAccessToken,
                "the token is of another type; send an access token",
                format!(
                    "the member '{name}' of the introspection response is {}, and accepted are {}",
                    jwt::listed(found),
                    jwt::listed(accepted)
                ),
            ));
        }
        let is = |bound: &&str| found.is_some_and(|found| bound.eq_ignore_ascii_case(found));
        if BOUND_TOKEN_TYPES.iter().any(is) && members.get("cnf").is_none() {
            return Err(TokenRejection::compared(
                RejectionReason::BoundToKey,
                "the token is bound to a key that the identity provider does not name",
                format!(
                    "the member '{name}' of the introspection response is {}, and there is no 'cnf'",
                    jwt::listed(found)
                ),
            ));
        }
    }
    Ok(())
}

fn not_introspected(message: &str) -> Error {
    let failure = Failure::new(message).retry_after(Some(Duration::from_secs(1)));
    Error::Transport(failure.not_sent().into())
}

/// Returns whether the text has the form of a signed JWT.
fn is_jwt(token: &str) -> bool {
    token.starts_with("eyJ") && token.split('.').count() == 3
}

/// The types of access tokens ([RFC 7662 section 2.2]).
///
/// [RFC 7662 section 2.2]: https://www.rfc-editor.org/rfc/rfc7662#section-2.2
const TOKEN_TYPES: &[&str] = &["Bearer", "DPoP", "mtls_pop", "pop", "access_token"];
/// The types of tokens that are bound to a key.
const BOUND_TOKEN_TYPES: &[&str] = &["DPoP", "mtls_pop", "pop"];
/// The uses of access tokens at Ory Hydra and Amazon Cognito.
const TOKEN_USES: &[&str] = &["access_token", "access"];
/// Time limit for the introspection of one token, with retries and discovery.
const LIMIT: Duration = Duration::from_secs(10);
/// The number of lost flights after which a caller gives up.
const MOST_LOST: u32 = 2;
