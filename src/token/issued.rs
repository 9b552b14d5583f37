use std::sync::Arc;
#[cfg(test)]
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::copies::Copies;
use super::{CacheKey, Lifetime};
use crate::authority::Tenant;
#[cfg(test)]
use crate::time::Now;

/// A token as the identity provider issued it. The cache keeps one copy for all callers.
pub(crate) struct IssuedToken {
    /// The key of the token request, compared with the caller's key before the token is returned.
    key: Arc<CacheKey>,
    /// `Bearer ` and the token, as the only copy of the token's bytes.
    authorization: HeaderValue,
    pub(crate) lifetime: Lifetime,
    copies: Copies,
    /// Scopes and tenant, if their text differs from the key's.
    as_requested: Option<Arc<AsRequested>>,
    correlation_id: CorrelationId,
}

/// A correlation id, without an allocation of its own. A shorter text than a GUID ends in zeros.
#[derive(Clone, Copy)]
struct CorrelationId([u8; 36]);

impl CorrelationId {
    fn new(text: &str) -> Self {
        let mut id = [0; 36];
        id.iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
        Self(id)
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0)
            .unwrap_or_default()
            .trim_end_matches('\0')
    }
}

/// The scopes that the response granted, and the tenant as the caller spelled the name.
#[derive(Clone)]
struct AsRequested {
    scopes: Arc<str>,
    tenant: Option<Arc<str>>,
}

impl IssuedToken {
    /// Returns `None` if the token cannot be a header value.
    pub(crate) fn new(
        key: Arc<CacheKey>,
        token: &str,
        lifetime: Lifetime,
        scopes: Arc<str>,
        tenant: Option<Arc<str>>,
        correlation_id: &str,
    ) -> Option<Self> {
        let credentials = Bytes::from([SCHEME, token].concat());
        let mut authorization = HeaderValue::from_maybe_shared(credentials).ok()?;
        authorization.set_sensitive(true);
        let as_in_key = *scopes == *key.scopes.as_str()
            && tenant.as_deref() == key.tenant.as_ref().map(Tenant::as_str);
        Some(Self {
            as_requested: (!as_in_key).then(|| Arc::new(AsRequested { scopes, tenant })),
            key,
            authorization,
            lifetime,
            copies: Copies::default(),
            correlation_id: CorrelationId::new(correlation_id),
        })
    }

    /// Returns the token, or a copy for this thread if several threads use the token.
    #[inline]
    pub(crate) fn own(self: &Arc<Self>) -> Arc<Self> {
        self.copies.own(self)
    }

    /// Returns a copy that shares the token's text, but no count of references.
    pub(super) fn copy(&self) -> Self {
        let text = Bytes::from_owner(self.authorization.clone());
        // The text was a header value before, so the default is never used.
        let mut authorization =
            HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| self.authorization.clone());
        authorization.set_sensitive(true);
        Self {
            key: Arc::clone(&self.key),
            authorization,
            lifetime: self.lifetime,
            copies: Copies::default(),
            as_requested: self.as_requested.clone(),
            correlation_id: self.correlation_id,
        }
    }

    /// Replaces the key, for a sign-in, whose response names the user.
    pub(crate) fn belonging_to(mut self, key: Arc<CacheKey>) -> Self {
        if let Some(as_requested) = &mut self.as_requested
            && key.tenant != self.key.tenant
        {
            Arc::make_mut(as_requested).tenant =
                key.tenant.as_ref().map(Tenant::as_requested).cloned();
        }
        self.key = key;
        self
    }

    /// Returns whether the token was issued for `key`.
    #[inline]
    pub(super) fn is_for(&self, key: &Arc<CacheKey>) -> bool {
        // Nearly always the same allocation, which saves comparing the fields.
        Arc::ptr_eq(&self.key, key) || self.key == *key
    }

    pub(crate) fn key(&self) -> &CacheKey {
        &self.key
    }

    pub(crate) fn correlation_id(&self) -> &str {
        self.correlation_id.as_str()
    }

    /// Returns whether both hold the same token text, even from two responses.
    pub(crate) fn is_same_token(&self, other: &Self) -> bool {
        self.authorization == other.authorization
    }

    pub(crate) fn secret(&self) -> &str {
        // The header is SCHEME and a `&str`, so neither default is ever used.
        std::str::from_utf8(self.authorization.as_bytes())
            .ok()
            .and_then(|credentials| credentials.get(SCHEME.len()..))
            .unwrap_or_default()
    }

    pub(super) fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    pub(super) fn scopes(&self) -> &str {
        match &self.as_requested {
            Some(as_requested) => &as_requested.scopes,
            None => self.key.scopes.as_str(),
        }
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        match &self.as_requested {
            Some(as_requested) => as_requested.tenant.as_deref(),
            None => self.key.tenant.as_ref().map(Tenant::as_str),
        }
    }
}

#[cfg(test)]
impl IssuedToken {
    /// Returns a token for `tenant` that lives `seconds` from `now`.
    pub(crate) fn sample(tenant: &str, token: &str, seconds: u64, now: Now) -> Self {
        let key = CacheKey::sample(tenant);
        let tenant = key.tenant.as_ref().map(Tenant::as_requested).cloned();
        let lifetime = Lifetime::new(Duration::from_secs(seconds), None, now, 0.0);
        Self::new(key, token, lifetime, "s".into(), tenant, "c").expect("a plain token")
    }

    pub(super) fn shared_key(&self) -> &Arc<CacheKey> {
        &self.key
    }
}

pub(super) const SCHEME: &str = "Bearer ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn a_token_that_cannot_be_a_header_value_is_no_token() {
        let now = TimeSource::System.now();
        let sample = IssuedToken::sample("t", "a", 60, now);
        assert!(
            IssuedToken::new(sample.key, "a\nb", sample.lifetime, "s".into(), None, "c").is_none()
        );
    }
}
