//! The names of records in the store.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::crypto::aead;
use crate::error::Error;
use crate::request::parameters::{ParameterLocation, Parameters};
use crate::secret::Secret;
use crate::token::{CacheKey, TokenBinding, UserKey};

/// Builds the names of one client's records.
///
/// A name is the prefix and a keyed hash of the client and the cache key. The name key does not
/// rotate, and the name has no format version: in the middle of a rotation or of an upgrade, all
/// processes use the same record and the same lock.
pub(super) struct RecordNames {
    prefix: String,
    name_key: Secret,
    /// The authority and the client id, with their lengths.
    client: Vec<u8>,
    /// The client capabilities, as a part of the names of tokens.
    capabilities: Vec<u8>,
}

/// The kind of a record, as part of the hashed text.
#[derive(Clone, Copy)]
enum RecordKind {
    Token = 1,
    Session = 2,
}

impl RecordNames {
    pub(super) fn new(prefix: String, name_key: Secret, authority: &str, client_id: &str) -> Self {
        let mut client = Vec::new();
        push(&mut client, authority.as_bytes());
        push(&mut client, client_id.as_bytes());
        Self {
            prefix,
            name_key,
            client,
            capabilities: Vec::new(),
        }
    }

    /// Adds the client capabilities, which shape a token: a client with `cp1` receives tokens that
    /// live longer, and that an API may reject with claims.
    ///
    /// A session has the same name whatever the capabilities, because its refresh token must not be
    /// in two records.
    pub(super) fn capabilities(mut self, names: &[String]) -> Self {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            push(&mut self.capabilities, name.as_bytes());
        }
        self
    }

    /// Returns the name of an access token's record.
    ///
    /// A token that is bound to a key is worthless to a process that has another key, so the name
    /// contains the key's thumbprint.
    pub(super) fn of_token(&self, key: &CacheKey, binding: TokenBinding) -> Result<String, Error> {
        let mut text = Vec::new();
        // Tenants are case-insensitive.
        let tenant = key.tenant_name().map(str::to_ascii_lowercase);
        push_optional(&mut text, tenant.as_deref().map(str::as_bytes));
        push(&mut text, key.scopes.as_str().as_bytes());
        match &key.user {
            Some(user) => push_user(&mut text, user),
            None => text.push(0),
        }
        for location in [ParameterLocation::Form, ParameterLocation::Query] {
            let parameters: Vec<_> = key.parameters.of(location).collect();
            push_length(&mut text, parameters.len());
            for (name, value) in parameters {
                push(&mut text, name.as_bytes());
                push(&mut text, value.as_bytes());
            }
        }
        text.extend_from_slice(&self.capabilities);
        push_rest(&mut text, &key.parameters);
        if let Some((kind, thumbprint)) = binding.to_name_part() {
            // No capability has this length.
            text.extend_from_slice(&u64::MAX.to_be_bytes());
            text.push(kind);
            text.extend_from_slice(&thumbprint);
        }
        self.hash(RecordKind::Token, &text)
    }

    /// Returns the name of a user's session.
    pub(super) fn of_session(&self, user: &UserKey) -> Result<String, Error> {
        let mut text = Vec::new();
        push_user(&mut text, user);
        self.hash(RecordKind::Session, &text)
    }

    fn hash(&self, kind: RecordKind, text: &[u8]) -> Result<String, Error> {
        let parts = [&[kind as u8], &*self.client, text];
        let hash = aead::hmac_sha256(self.name_key.expose().as_bytes(), &parts);
        let hash = hash.ok_or_else(|| Error::config(crate::crypto::NoBackend.to_string()))?;
        let encoded = BASE64_URL_SAFE_NO_PAD.encode(hash);
        Ok(format!("{}:{encoded}", self.prefix))
    }
}

fn push_user(text: &mut Vec<u8>, user: &UserKey) {
    match user {
        UserKey::Assertion(hash) => {
            text.push(1);
            push(text, hash);
        }
        UserKey::LongRunning(hash) => {
            text.push(3);
            push(text, hash);
        }
        UserKey::Exchange(hash) => {
            text.push(4);
            push(text, hash);
        }
        UserKey::Account(id) => {
            text.push(2);
            push(text, id.as_bytes());
        }
        UserKey::Federated(name) => {
            text.push(5);
            push(text, name.as_bytes());
        }
        UserKey::Agent { agent, user } => {
            text.push(6);
            push(text, agent.as_bytes());
            match user {
                Some(user) => push_user(text, user),
                None => text.push(0),
            }
        }
    }
}

/// Appends the claims of the client assertion and the partition.
///
/// A token with neither has the name that the first release of the format gave it.
fn push_rest(text: &mut Vec<u8>, parameters: &Parameters) {
    let claims: Vec<_> = parameters.of(ParameterLocation::AssertionClaim).collect();
    let partition = parameters.partition();
    if claims.is_empty() && partition.is_none() {
        return;
    }
    // No capability has this length.
    text.extend_from_slice(&(u64::MAX - 1).to_be_bytes());
    push_length(text, claims.len());
    for (name, value) in claims {
        push(text, name.as_bytes());
        push(text, value.as_bytes());
    }
    push_optional(text, partition.map(str::as_bytes));
}

fn push_optional(text: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => text.push(0),
        Some(part) => {
            text.push(1);
            push(text, part);
        }
    }
}

/// Appends a part with its length, so that two lists of parts never give the same text.
fn push(text: &mut Vec<u8>, part: &[u8]) {
    push_length(text, part.len());
    text.extend_from_slice(part);
}

fn push_length(text: &mut Vec<u8>, length: usize) {
    text.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
mod tests;
