use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::aadsts::error::AadstsError;
use super::authorize::end_session;
use super::authorize::flow::SignInFlow;
use super::authorize::pending::PendingSignIns;
use super::authorize::request::SignInSettings;
use super::directory::tenant::Directory;
use super::provider_rules::ProviderRules;
use super::recorded_request::RecordedRequest;
use super::token::endpoint;
use super::token::introspection;
use super::token::issued_tokens::IssuedTokens;
use super::token::issuer::TokenIssuer;
use super::token::proof::ReceivedProofs;
use super::token::sessions::Sessions;
use super::token::signing_key::TokenSigningKey;
use super::traffic::Traffic;
use crate::time::{Now, TimeSource, unix_seconds};

/// The state of a `LocalAuthority`, which its server and its methods share.
///
/// Methods that need several locks acquire them in the order of the fields.
pub(crate) struct IdentityProvider {
    pub(crate) base: String,
    pub(crate) rules: ProviderRules,
    /// The server of TLS connections with client certificates.
    pub(crate) mutual_tls: Option<MutualTlsListener>,
    clock: TimeSource,
    /// The last key of the tenants or of an application signs. The older keys only verify.
    pub(crate) keys: Mutex<Vec<TokenSigningKey>>,
    pub(crate) directories: Mutex<Vec<Directory>>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) proofs: Mutex<ReceivedProofs>,
    /// Access tokens that are opaque or revoked.
    pub(crate) issued_tokens: Mutex<IssuedTokens>,
    pending: Mutex<PendingSignIns>,
    pub(crate) traffic: Mutex<Traffic>,
    pub(crate) error_count: AtomicUsize,
    /// Number of issued tokens, which is the number of the next token. The `uti` starts with it.
    issued: AtomicU64,
    /// By tenant id and client id.
    revocations: Mutex<HashMap<(String, String), Revocation>>,
    pub(crate) is_dropped: AtomicBool,
}

/// A server of TLS connections with client certificates.
pub(crate) struct MutualTlsListener {
    pub(crate) base: String,
    pub(crate) acceptor: TlsAcceptor,
}

/// A revocation of all tokens of a client up to a number.
struct Revocation {
    up_to: u64,
    /// Seconds since 1970 (UTC).
    not_before: u64,
}

impl IdentityProvider {
    pub(crate) fn new(
        base: String,
        rules: ProviderRules,
        clock: TimeSource,
        key: TokenSigningKey,
        sessions: Sessions,
    ) -> Self {
        Self {
            base,
            rules,
            mutual_tls: None,
            clock,
            keys: Mutex::new(vec![key]),
            directories: Mutex::default(),
            sessions: Mutex::new(sessions),
            proofs: Mutex::default(),
            issued_tokens: Mutex::default(),
            pending: Mutex::default(),
            traffic: Mutex::default(),
            error_count: AtomicUsize::new(0),
            issued: AtomicU64::new(0),
            revocations: Mutex::default(),
            is_dropped: AtomicBool::new(false),
        }
    }

    /// Sets the server of TLS connections with client certificates.
    pub(crate) fn with_mutual_tls(mut self, listener: Option<MutualTlsListener>) -> Self {
        self.mutual_tls = listener;
        self
    }

    /// Returns the time of day by this authority's clock.
    pub(crate) fn now(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Reads both of this authority's clocks.
    pub(crate) fn clocks(&self) -> Now {
        self.clock.now()
    }

    /// Returns the public keys of an application as a JWK Set, or the keys of the tenants for an
    /// application without its own key.
    pub(crate) fn jwks(&self, application: Option<&str>) -> String {
        let keys = lock(&self.keys);
        let application = application.filter(|id| keys.iter().any(|key| key.is_of(Some(id))));
        let keys = keys.iter().filter(|key| key.is_of(application));
        let algorithm = self.rules.token_algorithm();
        let keys = keys.filter_map(|key| key.to_jwk(algorithm)).collect();
        json!(JwkSet { keys }).to_string()
    }

    /// Processes a token request without faults.
    pub(crate) fn token_response(
        &self,
        request: &RecordedRequest,
        tenant: &str,
    ) -> Result<Value, AadstsError> {
        self.with_issuer(|directories, issuer, sessions| {
            let mut proofs = lock(&self.proofs);
            endpoint::respond(request, tenant, directories, issuer, sessions, &mut proofs)
        })
    }

    /// Processes a pushed authorization request.
    pub(crate) fn pushed_response(
        &self,
        request: &RecordedRequest,
        tenant: &str,
    ) -> Result<Value, AadstsError> {
        if !self.rules.is_openid() {
            return Err(AadstsError::of_status(StatusCode::NOT_FOUND));
        }
        self.with_issuer(|directories, issuer, _| {
            let pushed = &mut lock(&self.pending).pushed;
            let mut proofs = lock(&self.proofs);
            pushed.push(request, tenant, directories, issuer, &mut proofs)
        })
    }

    /// Processes an introspection request.
    pub(crate) fn introspection_response(
        &self,
        request: &RecordedRequest,
        tenant: &str,
    ) -> Result<Value, AadstsError> {
        if !self.rules.is_openid() {
            return Err(AadstsError::of_status(StatusCode::NOT_FOUND));
        }
        self.with_issuer(|directories, issuer, _| {
            introspection::respond(request, tenant, directories, issuer)
        })
    }

    /// Processes a sign-out. Returns the URL that the browser returns to.
    pub(crate) fn end_session(
        &self,
        query: &[(String, String)],
        tenant: &str,
    ) -> Result<Option<String>, AadstsError> {
        self.with_issuer(|directories, issuer, _| {
            end_session::respond(query, tenant, directories, issuer)
        })
    }

    /// Issues a token while all state is locked.
    pub(crate) fn with_issuer<T>(
        &self,
        issue: impl FnOnce(&[Directory], &TokenIssuer<'_>, &mut Sessions) -> T,
    ) -> T {
        let keys = lock(&self.keys);
        let directories = lock(&self.directories);
        let mut sessions = lock(&self.sessions);
        let issuer = TokenIssuer {
            base: &self.base,
            now: self.now(),
            keys: &keys,
            rules: &self.rules,
            number: self.issued.fetch_add(1, Ordering::SeqCst),
            issued: &self.issued_tokens,
        };
        issue(&directories, &issuer, &mut sessions)
    }

    /// Runs steps of a sign-in while all state is locked.
    pub(crate) fn sign_in<T>(&self, steps: impl FnOnce(SignInFlow<'_>) -> T) -> T {
        let mut directories = lock(&self.directories);
        let mut sessions = lock(&self.sessions);
        let mut pending = lock(&self.pending);
        steps(SignInFlow {
            directories: &mut directories,
            sessions: &mut sessions,
            pending: &mut pending,
            settings: SignInSettings {
                base: &self.base,
                rules: &self.rules,
                now: self.now(),
            },
        })
    }

    /// Revokes the tokens that a client has in a tenant.
    pub(crate) fn revoke(&self, tenant: &str, client_id: &str) {
        let directories = lock(&self.directories);
        let Some(directory) = directories.iter().find(|directory| directory.is(tenant)) else {
            return;
        };
        let client = (directory.id.to_string(), client_id.to_ascii_lowercase());
        let mut revocations = lock(&self.revocations);
        let now = unix_seconds(self.now());
        // Each challenge must differ from the previous one, even within one second.
        let last = revocations.get(&client).map_or(0, |last| last.not_before);
        let revocation = Revocation {
            up_to: self.issued.load(Ordering::SeqCst),
            not_before: now.max(last.saturating_add(1)),
        };
        revocations.insert(client, revocation);
    }

    /// Returns the earliest issue time that is still accepted, if this token was revoked.
    ///
    /// The parameters are the token's `tid`, `azp` and `uti`.
    pub(crate) fn revoked(&self, tenant_id: &str, client_id: &str, uti: &str) -> Option<u64> {
        let client = (tenant_id.to_owned(), client_id.to_ascii_lowercase());
        let number = u64::from_str_radix(uti.get(..16)?, 16).ok()?;
        let revocations = lock(&self.revocations);
        let revocation = revocations.get(&client)?;
        (number < revocation.up_to).then_some(revocation.not_before)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
