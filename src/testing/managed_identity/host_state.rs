use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::assigned_identity::AssignedIdentity;
use super::host_kind::{HostKind, IdKind};
use super::key_folder::KeyFolder;
use super::rejection::HostRejection;
use super::token_query::TokenQuery;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::provider::{IdentityProvider, lock};
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::app_token::AppToken;
use crate::testing::token::format::ClientAuthMethod;
use crate::testing::traffic::Traffic;
use crate::time::unix_seconds;

/// The state of a `LocalManagedIdentity`, which its servers and its methods share.
///
/// No method holds two of the locks.
pub(crate) struct HostState {
    pub(crate) provider: Arc<IdentityProvider>,
    /// The tenant of the identities, by domain or id.
    pub(crate) tenant: String,
    pub(crate) identities: Mutex<Identities>,
    /// The tokens that the endpoints return again.
    tokens: Mutex<Vec<HostToken>>,
    pub(crate) secret: Mutex<String>,
    pub(crate) key_folder: KeyFolder,
    pub(crate) traffic: Mutex<Traffic>,
    pub(crate) is_dropped: AtomicBool,
}

/// The identities that are assigned to the host.
#[derive(Default)]
pub(crate) struct Identities {
    pub(crate) system: Option<AssignedIdentity>,
    pub(crate) user: Vec<AssignedIdentity>,
}

/// A token that an endpoint issued.
#[derive(Clone)]
pub(crate) struct HostToken {
    pub(crate) access_token: String,
    pub(crate) resource: String,
    pub(crate) identity: AssignedIdentity,
    /// Seconds since 1970 (UTC).
    pub(crate) issued_at: u64,
    pub(crate) expires_on: u64,
}

impl Identities {
    /// Returns the identity of a request. A request without an id means the system-assigned
    /// identity, or else the only user-assigned identity.
    fn select(&self, query: &TokenQuery) -> Result<&AssignedIdentity, HostRejection> {
        match (&query.id, &self.system, self.user.as_slice()) {
            (Some((_, kind, id)), ..) => {
                let mut user = self.user.iter();
                let found = user.find(|identity| identity.has(*kind, id));
                found.ok_or(HostRejection::IdentityNotFound)
            }
            (None, Some(system), _) => Ok(system),
            (None, None, [only]) => Ok(only),
            (None, None, []) => Err(HostRejection::IdentityNotFound),
            (None, None, _) => Err(HostRejection::SeveralIdentities),
        }
    }
}

impl HostState {
    pub(crate) fn new(
        provider: Arc<IdentityProvider>,
        tenant: String,
        key_folder: KeyFolder,
        secret: String,
    ) -> Self {
        Self {
            provider,
            tenant,
            identities: Mutex::default(),
            tokens: Mutex::default(),
            secret: Mutex::new(secret),
            key_folder,
            traffic: Mutex::default(),
            is_dropped: AtomicBool::new(false),
        }
    }

    /// Checks a request, and selects its identity.
    pub(crate) fn check(
        &self,
        kind: HostKind,
        request: &RecordedRequest,
    ) -> Result<(TokenQuery, AssignedIdentity), HostRejection> {
        let secret = lock(&self.secret).clone();
        let query = TokenQuery::check(kind, request, &secret)?;
        let identity = lock(&self.identities).select(&query)?.clone();
        Ok((query, identity))
    }

    /// Returns the cached token of an identity, or a new one.
    ///
    /// A cached token is returned until half of its lifetime is over, or until a request says that
    /// an API rejected it.
    pub(crate) fn token(
        &self,
        query: &TokenQuery,
        identity: AssignedIdentity,
    ) -> Result<HostToken, HostRejection> {
        let now = unix_seconds(self.provider.now());
        let mut tokens = lock(&self.tokens);
        tokens.retain(|token| {
            let is_of_request = token.identity.client_id() == identity.client_id()
                && token.resource == query.resource;
            let half = token.issued_at.midpoint(token.expires_on);
            !is_of_request || now < half && !is_rejected(token, query)
        });
        let mut known = tokens.iter();
        let known = known.find(|token| {
            token.identity.client_id() == identity.client_id() && token.resource == query.resource
        });
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let token = self.issue(query, identity, now)?;
        tokens.push(token.clone());
        Ok(token)
    }

    /// Signs a token, which no endpoint caches.
    pub(crate) fn issue(
        &self,
        query: &TokenQuery,
        identity: AssignedIdentity,
        now: u64,
    ) -> Result<HostToken, HostRejection> {
        let application = &identity.application;
        let resource = query.resource.as_str();
        let issued = self.provider.with_issuer(|directories, issuer, _| {
            let mut directories = directories.iter();
            let directory = directories.find(|directory| directory.is(&self.tenant));
            let Some(directory) = directory else {
                let tenant = &self.tenant;
                return Err(AadstsError::tenant_not_found("invalid_request", tenant));
            };
            let is_known =
                directory.has_resource(resource) || !application.roles_of(resource).is_empty();
            if !is_known {
                let tenant = &directory.name;
                return Err(AadstsError::resource_not_found(resource, tenant));
            }
            let token = AppToken {
                directory,
                application,
                auth_method: ClientAuthMethod::Assertion,
                resource,
                capabilities: &query.capabilities,
                claims: Map::from_iter([("xms_mirid".to_owned(), json!(identity.resource_id()))]),
            };
            let lifetime = token.lifetime();
            Ok((token.issue(issuer)?, lifetime))
        });
        let (access_token, lifetime) = issued.map_err(HostRejection::Entra)?;
        Ok(HostToken {
            access_token,
            resource: query.resource.clone(),
            identity,
            issued_at: now,
            expires_on: now.saturating_add(lifetime),
        })
    }
}

impl HostToken {
    pub(crate) fn id(&self, kind: IdKind) -> String {
        match kind {
            IdKind::Client => self.identity.client_id().to_owned(),
            IdKind::Object => self.identity.object_id(),
            IdKind::Resource => self.identity.resource_id().to_owned(),
        }
    }
}

/// Returns whether the request carries the hash of this token.
fn is_rejected(token: &HostToken, query: &TokenQuery) -> bool {
    let Some(rejected) = &query.rejected_token else {
        return false;
    };
    let digest = Sha256::digest(&token.access_token);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digest == *rejected
}
