use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderValue, Method, Uri};
use tokio::runtime::Handle;
use tokio::time::timeout;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::nonce::NonceIssuer;
use super::rejection::TokenRejection;
use super::replay_cache::{Insertion, ReplayCache, UsedProofs};
use super::request::ResourceRequest;
use crate::authority::address::is_loopback;
use crate::crypto::{self, SigningAlgorithm};
use crate::dpop::{CheckedProof, ExpectedProof, ProofError, TargetUri, proof_of};
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::format_limit;
use crate::token::{Thumbprint, TokenHash};

/// The rules for tokens that are bound to a proof key by DPoP ([RFC 9449]).
///
/// A client sends such a token with the scheme `DPoP`, and with a proof in the header `DPoP`. The
/// client signs a proof for each request. The validator checks that the key of the token made the
/// proof, compares the proof with the method, the URI and the token of the request, and accepts a
/// proof once.
///
/// ```
/// use confidential_client::Authority;
/// use confidential_client::resource::{DpopPolicy, TokenValidator};
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// let validator = TokenValidator::builder(Authority::oidc("https://id.example/realms/shop"))
///     .audience("orders")
///     .single_tenant()
///     .dpop(DpopPolicy::new("https://api.example.com/orders"))
///     .build()?;
/// # let _ = validator;
/// # Ok(())
/// # }
/// ```
///
/// # Replay
///
/// The validator remembers each accepted proof until the proof is too old. The memory is that of
/// the process, unless [`replay_cache`](Self::replay_cache) is set. An entry takes about 50 bytes.
///
/// # Nonces
///
/// With [`require_nonce`](Self::require_nonce), a proof needs a nonce of the API. A client that has
/// none gets a 401 with `use_dpop_nonce` and a nonce in the header `DPoP-Nonce`, and retries. A
/// nonce limits the time for which a client, or an attacker in the client, can make proofs ahead.
/// Nonces need no memory.
///
/// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
#[doc(alias("sender-constrained", "proof of possession", "RFC9449"))]
#[derive(Clone)]
#[must_use]
pub struct DpopPolicy {
    external_urls: Vec<String>,
    algorithms: Option<Vec<SigningAlgorithm>>,
    window: Duration,
    max_replay_entries: usize,
    replay_cache: Option<Arc<dyn ReplayCache>>,
    nonces: Option<Option<Secret>>,
    nonce_period: Option<Duration>,
}

impl DpopPolicy {
    /// Creates rules with the URL of the API as clients see it.
    ///
    /// The URL has the scheme, the host and the port of the outermost proxy. Its path comes before
    /// the paths of the requests, for a proxy that removes a prefix. The validator does not read
    /// `Host` or `X-Forwarded-*`, because a client can choose these headers.
    pub fn new(external_url: impl Into<String>) -> Self {
        Self {
            external_urls: vec![external_url.into()],
            algorithms: None,
            window: DEFAULT_WINDOW,
            max_replay_entries: DEFAULT_MAX_ENTRIES,
            replay_cache: None,
            nonces: None,
            nonce_period: None,
        }
    }

    /// Adds another URL of the API, for an API with several names.
    pub fn external_url(mut self, external_url: impl Into<String>) -> Self {
        self.external_urls.push(external_url.into());
        self
    }

    /// Sets the accepted algorithms of proofs. The default is every algorithm of the backend.
    ///
    /// The clients learn the algorithms from the challenge (`algs`).
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = SigningAlgorithm>) -> Self {
        self.algorithms = Some(algorithms.into_iter().collect());
        self
    }

    /// Sets how far the time of a proof (`iat`) may be from the time of this machine, in the past
    /// and in the future.
    ///
    /// The default is one minute, the minimum is one second, and the maximum is ten minutes.
    pub fn proof_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets the largest number of remembered proofs. The default is a million.
    ///
    /// If that many proofs are still valid, requests with other proofs are rejected with 503. The
    /// number has no effect on a [`replay_cache`](Self::replay_cache).
    pub fn max_replay_entries(mut self, max_replay_entries: usize) -> Self {
        self.max_replay_entries = max_replay_entries;
        self
    }

    /// Sets a store of used proofs that several processes share, in place of the memory of this
    /// process.
    pub fn replay_cache(mut self, replay_cache: impl ReplayCache) -> Self {
        self.replay_cache = Some(Arc::new(replay_cache));
        self
    }

    /// Requires a nonce of the API in each proof ([RFC 9449 section 9]).
    ///
    /// The nonces are those of this process, unless [`nonce_key`](Self::nonce_key) is set.
    ///
    /// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
    pub fn require_nonce(mut self) -> Self {
        self.nonces.get_or_insert(None);
        self
    }

    /// Requires nonces, and sets the key that makes the nonces of several processes.
    ///
    /// The key has 32 random bytes or more. Without the same key, a client that is sent from one
    /// process to the other needs a new nonce each time.
    pub fn nonce_key(mut self, key: impl Into<Secret>) -> Self {
        self.nonces = Some(Some(key.into()));
        self
    }

    /// Sets how often the nonce changes. The default is five minutes.
    ///
    /// A nonce is accepted until the end of the next period. The minimum is ten seconds, and the
    /// maximum is a day. Processes with the same key need the same period.
    pub fn nonce_period(mut self, period: Duration) -> Self {
        self.nonce_period = Some(period);
        self
    }

    pub(super) fn build(self) -> Result<ProofChecker, Error> {
        crypto::check_backend().map_err(|error| Error::config(error.to_string()))?;
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&self.window) {
            return Err(Error::config(format!(
                "proof_window({:?}) must be from 1 second to {}",
                self.window,
                format_limit(MAX_WINDOW)
            )));
        }
        if self.max_replay_entries == 0 {
            return Err(Error::config(
                "max_replay_entries must be at least 1, because an accepted proof must be remembered",
            ));
        }
        let urls = self.external_urls.iter();
        let base_urls = urls.map(|url| base_url(url)).collect::<Result<_, _>>()?;
        let algorithms = checked_algorithms(self.algorithms)?;
        let names: Vec<_> = algorithms.iter().map(ToString::to_string).collect();
        Ok(ProofChecker {
            base_urls,
            challenge: names.join(" ").into(),
            algorithms,
            window: self.window,
            nonces: nonces(self.nonces, self.nonce_period)?,
            used: match self.replay_cache {
                Some(shared) => UsedProofsStore::Shared(shared),
                None => {
                    UsedProofsStore::Memory(UsedProofs::new(self.max_replay_entries, self.window))
                }
            },
        })
    }
}

/// Checks an external URL. Returns the URL without a slash at the end.
fn base_url(text: &str) -> Result<String, Error> {
    let invalid = |problem: &str| {
        let redacted = text.split(['?', '#']).next().unwrap_or_default();
        Error::config(format!(
            "the external URL {redacted:?} of DpopPolicy {problem}; pass the URL that clients send requests to, such as https://api.example.com"
        ))
    };
    let uri = TargetUri::of(text).map_err(|error| invalid(&format!("cannot be used: {error}")))?;
    if text.contains(['?', '#']) {
        return Err(invalid("has a query or a fragment"));
    }
    let is_this_machine =
        |url: &Url| is_loopback(url) || url.host() == Some(Host::Domain("localhost"));
    match Url::parse(uri.as_str()) {
        Ok(url) if url.scheme() == "https" || is_this_machine(&url) => {
            Ok(uri.as_str().trim_end_matches('/').to_owned())
        }
        _ => Err(invalid("is not https")),
    }
}

fn checked_algorithms(
    algorithms: Option<Vec<SigningAlgorithm>>,
) -> Result<Vec<SigningAlgorithm>, Error> {
    let Some(algorithms) = algorithms else {
        let all = ALGORITHMS.into_iter();
        return Ok(all
            .filter(|algorithm| crypto::supports(*algorithm))
            .collect());
    };
    let unsupported = algorithms
        .iter()
        .find(|algorithm| !crypto::supports(**algorithm));
    match unsupported {
        Some(algorithm) => Err(Error::config(format!(
            "algorithms(..) of DpopPolicy has {algorithm}, which the signing backend does not support; remove {algorithm}, or enable the feature 'aws-lc-rs' or 'ring'"
        ))),
        None if algorithms.is_empty() => Err(Error::config(
            "algorithms(..) of DpopPolicy got an empty list, and every proof would be rejected; list at least one algorithm",
        )),
        None => Ok(algorithms),
    }
}

fn nonces(
    nonces: Option<Option<Secret>>,
    period: Option<Duration>,
) -> Result<Option<NonceIssuer>, Error> {
    let Some(key) = nonces else {
        return match period {
            Some(_) => Err(Error::config(
                "nonce_period(..) is set, and proofs need no nonce; call require_nonce() or nonce_key(..), or remove nonce_period(..)",
            )),
            None => Ok(None),
        };
    };
    let period = period.unwrap_or(DEFAULT_NONCE_PERIOD);
    if !(MIN_NONCE_PERIOD..=MAX_NONCE_PERIOD).contains(&period) {
        return Err(Error::config(format!(
            "nonce_period({period:?}) must be from 10 seconds to a day"
        )));
    }
    let key = match key {
        Some(key) if key.expose().len() < 32 => {
            return Err(Error::config(
                "nonce_key(..) has fewer than 32 bytes, so nonces could be guessed; create a key with 'openssl rand -base64 32'",
            ));
        }
        Some(key) => Zeroizing::new(key.expose().as_bytes().to_vec()),
        None => NonceIssuer::random_key().ok_or_else(|| {
            Error::config(
                "the operating system returned no random numbers for the key of the nonces",
            )
        })?,
    };
    Ok(Some(NonceIssuer::new(key, period)))
}

/// The check of proofs, built from a [`DpopPolicy`].
pub(super) struct ProofChecker {
    /// The external URLs, each without a slash at the end.
    base_urls: Vec<String>,
    algorithms: Vec<SigningAlgorithm>,
    /// The names of the algorithms, as in a challenge.
    challenge: Arc<str>,
    window: Duration,
    nonces: Option<NonceIssuer>,
    used: UsedProofsStore,
}

enum UsedProofsStore {
    Memory(UsedProofs),
    Shared(Arc<dyn ReplayCache>),
}

impl ProofChecker {
    /// Returns the names of the accepted algorithms, separated by spaces.
    pub(super) fn algorithms(&self) -> &Arc<str> {
        &self.challenge
    }

    /// Returns the current nonce, if proofs need a nonce.
    pub(super) fn nonce(&self, now: SystemTime) -> Option<HeaderValue> {
        let nonce = self.nonces.as_ref()?.current(now)?;
        HeaderValue::try_from(nonce).ok()
    }

    /// Checks the proof of a request with a token that is bound to `key`.
    pub(super) async fn check(
        &self,
        request: &ResourceRequest<'_>,
        target: (&Method, &Uri),
        token: &str,
        key: Thumbprint,
        now: SystemTime,
    ) -> Result<(), TokenRejection> {
        let proof = proof_of(request.headers).map_err(TokenRejection::of_proof)?;
        let checked = self.check_proof(proof, target, token, key, now);
        let checked = checked.map_err(TokenRejection::of_proof)?;
        let is_new = match &self.used {
            UsedProofsStore::Memory(used) => {
                match used.insert(&checked.replay_key, checked.valid_until, now) {
                    Insertion::New => true,
                    Insertion::Replayed => false,
                    Insertion::Full => return Err(TokenRejection::replay_cache_full()),
                }
            }
            UsedProofsStore::Shared(shared) => {
                // In a box, so that the future of a validation without a shared store stays small.
                let inserted = Box::pin(insert_shared(&**shared, &checked, now)).await;
                inserted.map_err(TokenRejection::replay_cache_unavailable)?
            }
        };
        match is_new {
            true => Ok(()),
            false => Err(TokenRejection::of_proof(ProofError::Replayed)),
        }
    }

    fn check_proof(
        &self,
        proof: &str,
        (method, uri): (&Method, &Uri),
        token: &str,
        key: Thumbprint,
        now: SystemTime,
    ) -> Result<CheckedProof, ProofError> {
        let token = TokenHash::of(token);
        let is_current = |nonce: &str| {
            let nonces = self.nonces.as_ref();
            nonces.is_some_and(|nonces| nonces.is_current(nonce, now))
        };
        let mut error = ProofError::Missing;
        for base_url in &self.base_urls {
            let uri = TargetUri::of(&format!("{base_url}{}", path(uri)));
            let uri = uri.map_err(ProofError::RequestUri)?;
            let expected = ExpectedProof {
                algorithms: &self.algorithms,
                method: method.as_str(),
                uri: &uri,
                token: Some(token),
                key: Some(key),
                nonce: self.nonces.as_ref().map(|_| &is_current as _),
                now,
                window: self.window,
            };
            match expected.check(proof) {
                Err(other @ ProofError::Uri { .. }) => error = other,
                outcome => return outcome,
            }
        }
        Err(error)
    }
}

/// Returns the path of a request. The path of `OPTIONS *` is a slash.
fn path(uri: &Uri) -> &str {
    match uri.path() {
        path if path.starts_with('/') => path,
        _ => "/",
    }
}

/// Inserts a proof into a shared store. Waits for two seconds at most.
async fn insert_shared(
    shared: &dyn ReplayCache,
    proof: &CheckedProof,
    now: SystemTime,
) -> Result<bool, Error> {
    let id = BASE64_URL_SAFE_NO_PAD.encode(proof.replay_key);
    let lifetime = proof.valid_until.duration_since(now).unwrap_or_default();
    // A store that rounds to seconds must not forget a valid proof.
    let inserting = shared.insert(&id, lifetime.saturating_add(Duration::from_secs(1)));
    let inserted = match Handle::try_current() {
        Ok(_) => timeout(SHARED_TIMEOUT, inserting)
            .await
            .unwrap_or_else(|_| Err("the replay cache did not respond within two seconds".into())),
        Err(_) => inserting.await,
    };
    inserted.map_err(|error| {
        let failure = Failure::new("the replay cache of the API failed").source(error);
        Error::Transport(failure.into())
    })
}

impl fmt::Debug for DpopPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopPolicy")
            .field("external_urls", &self.external_urls)
            .field("algorithms", &self.algorithms)
            .field("proof_window", &self.window)
            .field("requires_nonce", &self.nonces.is_some())
            .finish_non_exhaustive()
    }
}

/// The algorithms in the order of the challenge.
const ALGORITHMS: [SigningAlgorithm; 5] = [
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
];
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const MIN_WINDOW: Duration = Duration::from_secs(1);
const MAX_WINDOW: Duration = Duration::from_secs(10 * 60);
const DEFAULT_MAX_ENTRIES: usize = 1_000_000;
const DEFAULT_NONCE_PERIOD: Duration = Duration::from_secs(5 * 60);
const MIN_NONCE_PERIOD: Duration = Duration::from_secs(10);
const MAX_NONCE_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// Time limit of a shared replay cache.
const SHARED_TIMEOUT: Duration = Duration::from_secs(2);
