use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::origin::{Origin, RequestOrigin};
use crate::challenge::Challenge;
use crate::client::{Proof, ProofRepetitions, TokenProvider, check_attachable, rejection_code};
use crate::dpop::PROOF;
use crate::error::Error;
use crate::token::{AccessToken, TokenScheme};

/// A middleware that attaches tokens to the calls of named origins.
///
/// With the feature `reqwest-middleware`, add a `BearerAuth` to a client of reqwest-middleware.
/// With the feature `tower`, pass a `BearerAuth` to [`BearerAuthLayer`](super::BearerAuthLayer).
/// Clones are cheap.
///
/// ```
/// use confidential_client::ConfidentialClient;
/// use confidential_client::adapter::BearerAuth;
/// # use bytes::Bytes;
/// # use http::{Extensions, Response};
/// # use reqwest::{Request, ResponseBuilderExt};
/// # use reqwest_middleware::{Middleware, Next, Result};
/// # use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
/// #
/// # /// An API that rejects the first token.
/// # struct Api;
/// # #[async_trait::async_trait]
/// # impl Middleware for Api {
/// #     async fn handle(&self, call: Request, _: &mut Extensions, _: Next<'_>) -> Result<reqwest::Response> {
/// #         let token = call.headers()["authorization"].clone();
/// #         let response = Response::builder().url(call.url().clone());
/// #         let response = match token == "Bearer token-1" {
/// #             true => response.status(401).header("www-authenticate", r#"Bearer error="invalid_token""#),
/// #             false => response,
/// #         };
/// #         Ok(response.body(token.to_str().unwrap().to_owned()).unwrap().into())
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
/// # let tokens = AtomicUsize::new(1);
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("the secret's value")
/// #   .transport(move |_: http::Request<Bytes>| {
/// #       let number = tokens.fetch_add(1, SeqCst);
/// #       let body = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"token-{number}"}}"#);
/// #       async { Ok(Response::new(Bytes::from(body))) }
/// #   })
///     .build()?;
/// let graph = client.token_provider("https://graph.microsoft.com/.default")?;
/// let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
///     .with(BearerAuth::new(graph, ["https://graph.microsoft.com"])?)
/// #   .with(Api)
///     .build();
///
/// // The API rejects the first token, so the call is retried with a fresh token.
/// let response = http.get("https://graph.microsoft.com/v1.0/users").send().await?;
/// assert_eq!(response.status(), 200);
/// # assert_eq!(response.text().await?, "Bearer token-2");
/// # Ok(())
/// # }
/// ```
///
/// # Origins
///
/// An origin is a scheme, a host and a port, such as `https://graph.microsoft.com`. A request is
/// sent without the token in these cases:
///
/// - The URL has another origin, for example after a redirect.
/// - The `Host` header names another origin.
/// - The request has an `Authorization` header already. The header is sent unchanged.
///
/// The log has one warning for the first request to another origin.
///
/// One `BearerAuth` serves one scope. A second `BearerAuth` in the same chain serves a second API.
///
/// # Retries
///
/// A call is retried once, whatever the method, if the response is a 401 with one of these `Bearer`
/// challenges:
///
/// - `insufficient_claims` with claims. The client acquires a token with the claims.
/// - `invalid_token`. The client removes the rejected token from the cache and acquires another.
///
/// A token of the scheme [`Dpop`](crate::TokenScheme::Dpop) gets a proof for every request and for
/// every retry. The challenges then have the scheme `DPoP`. A call is also repeated once with the
/// same token in these cases:
///
/// - `use_dpop_nonce` with a `DPoP-Nonce`. The next proof has the nonce ([RFC 9449 section 9]).
/// - `invalid_dpop_proof`, if the `Date` of the response differs from this machine's clock.
///
/// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
///
/// The caller receives every other response, such as a 403. The caller receives the 401 response,
/// too, if no other token is available or the body of the request cannot be sent twice. After a
/// body that cannot be sent twice, the next call carries the fresh token.
///
/// All callers share one limit of refreshes after a 401, so an API that rejects every token causes
/// no storm of token requests.
///
/// # reqwest-middleware
///
/// Add `BearerAuth` last. A middleware that retries calls then gets a token for each attempt.
///
/// - If no token is available, nothing is sent. The error is
///   `reqwest_middleware::Error::Middleware`, and `downcast_ref::<confidential_client::Error>()`
///   returns the [`Error`].
/// - reqwest follows redirects below the middleware, and removes the token from a request to
///   another origin. A redirected call is not retried, because the first request may have had an
///   effect. A proof names the first URL, so an API rejects a redirected call with a proof. Turn
///   redirects off for such an API, and call its final URL.
/// - The retry has the method, the URL, the version, the headers, the timeout and the body of the
///   request. A body of at most 4 KiB is copied before the request is sent. A longer body is
///   shared.
/// - A test API at `http://127.0.0.1` is called through the proxy of the environment, and the proxy
///   reads the token. Call `no_proxy()` of `reqwest::ClientBuilder` for such tests.
#[doc(alias(
    "BearerTokenCredentialPolicy",
    "BearerTokenAuthenticationPolicy",
    "BearerTokenAuthorizationPolicy",
    "AuthorizationHeaderProvider",
    "DelegatingHandler"
))]
#[derive(Clone)]
pub struct BearerAuth(Arc<Settings>);

struct Settings {
    provider: TokenProvider,
    origins: Vec<Origin>,
    /// True after the first warning about a request to another origin.
    has_warned: AtomicBool,
}

impl BearerAuth {
    /// Creates a `BearerAuth` that attaches the provider's tokens to requests to `origins`.
    ///
    /// Does no I/O.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] in these cases:
    ///
    /// - `origins` is empty.
    /// - An origin is not a valid URL of a scheme, a host and an optional port.
    /// - The scheme is not https. Only a loopback address, such as `127.0.0.1`, may use http.
    /// - No request can have the origin, such as `https://*.example.com` or a URL with port 0. There
    ///   are no wildcards, and each host is named in full.
    pub fn new<O: AsRef<str>>(
        provider: TokenProvider,
        origins: impl IntoIterator<Item = O>,
    ) -> Result<Self, Error> {
        let origins = origins
            .into_iter()
            .map(|origin| Origin::parse(origin.as_ref()));
        let origins = origins.collect::<Result<Vec<Origin>, Error>>()?;
        if origins.is_empty() {
            return Err(Error::config(
                "no origin is named, and no request would carry the token; pass the API's origin, such as 'https://graph.microsoft.com'",
            ));
        }
        Ok(Self(Arc::new(Settings {
            provider,
            origins,
            has_warned: AtomicBool::new(false),
        })))
    }

    /// Returns whether a request to `origin` gets the token.
    ///
    /// A request that has an `Authorization` header is sent unchanged.
    pub(super) fn may_attach(&self, origin: &RequestOrigin<'_>, headers: &HeaderMap) -> bool {
        if headers.contains_key(AUTHORIZATION) {
            return false;
        }
        let origins = self.0.origins.iter();
        let mut named = origins.filter(|named| named.matches(origin)).peekable();
        let is_named = named.peek().is_some();
        let attaches = named.any(|named| named.matches_host_headers(headers));
        if !attaches {
            self.warn_once(origin, is_named);
        }
        attaches
    }

    /// Logs the first request that gets no token because of its origin.
    #[cold]
    fn warn_once(&self, origin: &RequestOrigin<'_>, is_named: bool) {
        // The adapter for tower warns about a request without a host.
        if origin.is_unknown() || self.0.has_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        if is_named {
            tracing::warn!(
                "a request to '{origin}' was sent without a token, because its Host header names another origin"
            );
            return;
        }
        let named: Vec<String> = self.0.origins.iter().map(Origin::as_uri).collect();
        tracing::warn!(
            "a request to '{origin}' was sent without a token, because BearerAuth::new(..) names only '{}'; add the origin, unless another BearerAuth attaches the token or the request must not have a token",
            named.join("', '")
        );
    }

    /// Parses an origin, which must be one of the named origins.
    #[cfg(feature = "tower")]
    pub(super) fn named_origin(&self, origin: &str) -> Result<Origin, Error> {
        let parsed = Origin::parse(origin)?;
        match self.0.origins.contains(&parsed) {
            true => Ok(parsed),
            false => Err(Error::config(format!(
                "default_origin({origin:?}) is not an origin of the BearerAuth, so no request would carry the token; pass the origin to BearerAuth::new(..), too"
            ))),
        }
    }

    /// Acquires the token of a request.
    pub(super) async fn token(&self) -> Result<AccessToken, Error> {
        let token = self.0.provider.token().await?;
        check_attachable(&token)?;
        Ok(token)
    }

    /// Returns the cached token, unless the token has expired or is due for a refresh.
    #[cfg(feature = "tower")]
    #[inline]
    pub(super) fn fresh_token(&self) -> Option<AccessToken> {
        let fresh = self.0.provider.fresh();
        fresh.filter(|token| token.scheme() != TokenScheme::NotApplicable)
    }

    /// Attaches a token and a proof to a request with this method and URI.
    pub(super) async fn prove(
        &self,
        token: &AccessToken,
        method: &Method,
        uri: &str,
        headers: &mut HeaderMap,
    ) -> Result<Proof, Error> {
        let proof = self.0.provider.prove(token, method, uri).await?;
        headers.insert(PROOF, proof.header.clone());
        headers.insert(AUTHORIZATION, token.authorization_header());
        Ok(proof)
    }

    /// Reads the response to a request with a proof, and returns the token of the next request if
    /// the request may be sent again.
    pub(super) async fn token_after(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        sent: SentProof,
        attempts: &mut ProofAttempts,
    ) -> Option<AccessToken> {
        let proofs = self.0.provider.proofs()?;
        let SentProof { token, proof } = sent;
        proofs.learn(&proof, headers);
        if !is_rejection(status, headers) {
            return None;
        }
        let rejection =
            rejection_code(headers).and_then(|code| proofs.rejection(&proof, &code, headers));
        if let Some(rejection) = rejection
            && attempts.repetitions.allow(rejection)
        {
            return Some(token);
        }
        match std::mem::replace(&mut attempts.has_replaced_token, true) {
            true => None,
            false => self.token_for_retry(headers, &token).await,
        }
    }

    /// Acquires a token for the retry after a [rejection](is_rejection), if the response challenges
    /// the rejected token.
    ///
    /// Returns `None` if a retry does not help. The caller then receives the response.
    pub(super) async fn token_for_retry(
        &self,
        headers: &HeaderMap,
        rejected: &AccessToken,
    ) -> Option<AccessToken> {
        let provider = &self.0.provider;
        let challenges = Challenge::from_headers(headers);
        let find = |code: &str| {
            challenges.iter().find(|challenge| {
                let error = challenge.error().unwrap_or_default();
                let is_for_token = match rejected.scheme() {
                    TokenScheme::Dpop => challenge.is_dpop(),
                    TokenScheme::Bearer | TokenScheme::MtlsPop | TokenScheme::NotApplicable => {
                        challenge.is_bearer()
                    }
                };
                is_for_token && error.eq_ignore_ascii_case(code)
            })
        };
        let outcome = match find("insufficient_claims").and_then(Challenge::claims) {
            Some(claims) => provider.token_with_claims(claims, rejected).await,
            None if is_unauthenticated(headers) || find("invalid_token").is_some() => {
                provider.invalidate(rejected);
                provider.token().await
            }
            None => return None,
        };
        let outcome = outcome.inspect_err(|error| {
            let key = rejected.issued().key();
            tracing::warn!(
                tenant = key.tenant_name(),
                resource = key.resource(),
                error = %error.chain(),
                correlation_id = error.correlation_id(),
                "an API rejected a token, and acquiring another token failed"
            );
        });
        // The client limits refreshes, and returns the rejected token when the limit is reached.
        outcome
            .ok()
            .filter(|token| token.secret() != rejected.secret())
    }
}

/// A request with a proof that was sent.
pub(super) struct SentProof {
    pub(super) token: AccessToken,
    pub(super) proof: Proof,
}

/// The reasons for which a request with a proof was sent again. Each reason counts once.
#[derive(Default)]
pub(super) struct ProofAttempts {
    repetitions: ProofRepetitions,
    has_replaced_token: bool,
}

/// Returns whether a response may reject the token: a 401, or the status of gRPC for one.
#[inline]
pub(super) fn is_rejection(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED || is_unauthenticated(headers)
}

/// Returns whether a gRPC service answered with the status `UNAUTHENTICATED` and without messages.
fn is_unauthenticated(headers: &HeaderMap) -> bool {
    let has = |name: &HeaderName, matches: fn(&[u8]) -> bool| {
        headers
            .get(name)
            .is_some_and(|value| matches(value.as_bytes()))
    };
    has(&CONTENT_TYPE, |kind| kind.starts_with(b"application/grpc"))
        && has(&GRPC_STATUS, |status| status == b"16")
}

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl fmt::Debug for BearerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("provider", &self.0.provider)
            .field("origins", &self.0.origins)
            .finish()
    }
}
