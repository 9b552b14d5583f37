use std::sync::{Arc, OnceLock};
#[cfg(test)]
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use once_cell::race::OnceBox;
use uuid::Uuid;

use super::copies::Copies;
use super::{CacheKey, Lifetime, TokenBinding, TokenHash, TokenScheme};
use crate::authority::Tenant;
use crate::secret::Secret;
use crate::time::Now;

/// A token as the identity provider issued it. The cache keeps one copy for all callers.
// In the order of a cache hit, which reads the first two fields and then the header.
#[repr(C)]
pub(crate) struct IssuedToken {
    /// The key of the token request, compared with the caller's key before the token is returned.
    key: Arc<CacheKey>,
    pub(crate) lifetime: Lifetime,
    /// `Bearer ` and the token, as the only copy of the token's bytes.
    authorization: HeaderValue,
    correlation_id: Uuid,
    /// The parts of the token that a cache hit does not read.
    details: OnceBox<Details>,
}

#[derive(Default)]
struct Details {
    /// Scopes and tenant, if their text differs from the key's.
    as_requested: Option<AsRequested>,
    /// The text of the correlation id, made when it is first read.
    correlation_id: OnceLock<Box<str>>,
    /// The key that the token is bound to.
    binding: TokenBinding,
    /// What few responses have.
    response: Option<Box<ResponseDetails>>,
    /// The hash of a token in proofs (`ath`), made for the first proof.
    proof_hash: OnceLock<Box<TokenHash>>,
    copies: OnceLock<Box<Copies>>,
}

impl Details {
    fn copy(&self) -> Self {
        Self {
            as_requested: self.as_requested.clone(),
            correlation_id: self.correlation_id.clone(),
            binding: self.binding,
            response: self.response.clone(),
            proof_hash: self.proof_hash.clone(),
            copies: OnceLock::new(),
        }
    }
}

/// The parts of a token that few token responses have.
#[derive(Clone, Default)]
struct ResponseDetails {
    exchange: Option<ExchangeDetails>,
    /// The members of the response that the client does not know, as a JSON object. A provider may
    /// send secrets.
    additional: Option<Arc<Secret>>,
}

/// The facts that a token exchange adds to a token.
#[derive(Clone)]
struct ExchangeDetails {
    issued_token_type: Option<Arc<str>>,
    /// The text of a token that is not for the `Authorization` header. The header's value does not
    /// have the text.
    text: Option<HeaderValue>,
}

/// The scopes that the response granted, and the tenant as the caller spelled the name.
#[derive(Clone)]
struct AsRequested {
    scopes: Arc<str>,
    /// `None` if the caller spelled the name as the key does.
    tenant: Option<Box<Tenant>>,
}

impl IssuedToken {
    /// Returns `None` if the token cannot be a header value.
    pub(crate) fn new(
        key: Arc<CacheKey>,
        token: &str,
        lifetime: Lifetime,
        scopes: Arc<str>,
        tenant: Option<&Tenant>,
        correlation_id: &str,
        binding: TokenBinding,
    ) -> Option<Self> {
        let credentials = Bytes::from([binding.scheme().as_str(), " ", token].concat());
        let mut authorization = HeaderValue::from_maybe_shared(credentials).ok()?;
        authorization.set_sensitive(true);
        let in_key = key.tenant.as_ref().map(Tenant::as_str);
        let tenant = tenant.filter(|tenant| Some(tenant.as_str()) != in_key);
        let as_in_key = *scopes == *key.scopes.as_str() && tenant.is_none();
        let id = Uuid::try_parse(correlation_id);
        let details = Details {
            as_requested: (!as_in_key).then(|| AsRequested {
                scopes,
                tenant: tenant.cloned().map(Box::new),
            }),
            correlation_id: match id {
                Ok(_) => OnceLock::new(),
                Err(_) => OnceLock::from(Box::<str>::from(correlation_id)),
            },
            binding,
            response: None,
            proof_hash: OnceLock::new(),
            copies: OnceLock::new(),
        };
        let has_details = details.as_requested.is_some()
            || id.is_err()
            || details.binding != TokenBinding::Unbound;
        Some(Self {
            key,
            authorization,
            lifetime,
            correlation_id: id.unwrap_or_default(),
            details: match has_details {
                true => OnceBox::with_value(Box::new(details)),
                false => OnceBox::new(),
            },
        })
    }

    /// Adds the type of the token, from the response to a token exchange
    /// ([RFC 8693 section 2.2.1]).
    ///
    /// Without `is_attachable` the token has the type `N_A`, and the value of the `Authorization`
    /// header has no token.
    ///
    /// [RFC 8693 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    pub(crate) fn exchanged(
        mut self,
        issued_token_type: Option<&str>,
        is_attachable: bool,
    ) -> Self {
        let mut text = None;
        if !is_attachable {
            let token = Bytes::copy_from_slice(self.secret().as_bytes());
            // A part of a header value is one, too.
            if let Ok(mut token) = HeaderValue::from_maybe_shared(token) {
                token.set_sensitive(true);
                text = Some(token);
            }
            let scheme = TokenScheme::NotApplicable.as_str();
            self.authorization = HeaderValue::from_static(scheme);
        }
        let exchange = ExchangeDetails {
            issued_token_type: issued_token_type.map(Arc::from),
            text,
        };
        self.with_response_details(|details| details.exchange = Some(exchange))
    }

    /// Adds the members of the response that the client does not know, as a JSON object.
    pub(crate) fn with_additional_parameters(self, json: Option<String>) -> Self {
        match json {
            None => self,
            Some(json) => {
                let json = Arc::new(Secret::from(json));
                self.with_response_details(|details| details.additional = Some(json))
            }
        }
    }

    fn with_response_details(self, change: impl FnOnce(&mut ResponseDetails)) -> Self {
        let mut details = self.details.get().map(Details::copy).unwrap_or_default();
        change(details.response.get_or_insert_default());
        Self {
            details: OnceBox::with_value(Box::new(details)),
            ..self
        }
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
            correlation_id: self.correlation_id,
            details: match self.details.get() {
                Some(details) => OnceBox::with_value(Box::new(details.copy())),
                None => OnceBox::new(),
            },
        }
    }

    /// Returns a copy that is due for a refresh.
    pub(crate) fn due(&self, now: Now) -> Self {
        Self {
            lifetime: self.lifetime.due(now),
            ..self.copy()
        }
    }

    /// Replaces the key, for a sign-in, whose response names the user.
    pub(crate) fn belonging_to(mut self, key: Arc<CacheKey>) -> Self {
        if key.tenant != self.key.tenant
            && let Some(mut details) = self.details.get().map(Details::copy)
            && let Some(as_requested) = &mut details.as_requested
        {
            as_requested.tenant = None;
            self.details = OnceBox::with_value(Box::new(details));
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
        let details = self.details.get_or_init(Box::default);
        let text = || self.correlation_id.hyphenated().to_string().into();
        details.correlation_id.get_or_init(text)
    }

    /// Returns whether both hold the same token text, even from two responses.
    pub(crate) fn is_same_token(&self, other: &Self) -> bool {
        self.authorization == other.authorization && self.text() == other.text()
    }

    /// Returns the text of a token that is not for the `Authorization` header.
    fn text(&self) -> Option<&HeaderValue> {
        self.exchange()?.text.as_ref()
    }

    fn exchange(&self) -> Option<&ExchangeDetails> {
        self.response()?.exchange.as_ref()
    }

    fn response(&self) -> Option<&ResponseDetails> {
        self.details.get()?.response.as_deref()
    }

    /// Returns the members of the response that the client does not know, as a JSON object.
    pub(crate) fn additional_parameters(&self) -> Option<&str> {
        let additional = self.response()?.additional.as_ref()?;
        Some(additional.expose())
    }

    pub(crate) fn issued_token_type(&self) -> Option<&str> {
        self.exchange()?.issued_token_type.as_deref()
    }

    /// Returns whether the token may be sent in an `Authorization` header.
    pub(crate) fn is_attachable(&self) -> bool {
        self.scheme() != TokenScheme::NotApplicable
    }

    pub(crate) fn secret(&self) -> &str {
        let scheme = self.scheme();
        if scheme == TokenScheme::NotApplicable {
            let text = self.text().and_then(|text| text.to_str().ok());
            return text.unwrap_or_default();
        }
        let scheme = scheme.as_str();
        // The header is the scheme, a space and a `&str`, so neither default is ever used.
        std::str::from_utf8(self.authorization.as_bytes())
            .ok()
            .and_then(|credentials| credentials.get(scheme.len() + 1..))
            .unwrap_or_default()
    }

    #[inline]
    pub(super) fn scheme(&self) -> TokenScheme {
        TokenScheme::of_header(&self.authorization)
    }

    /// Returns the key that the token is bound to.
    pub(crate) fn binding(&self) -> TokenBinding {
        self.details
            .get()
            .map_or(TokenBinding::Unbound, |details| details.binding)
    }

    /// Returns the hash of the token for proofs ([RFC 9449 section 4.2]), made once for each token.
    ///
    /// [RFC 9449 section 4.2]: https://www.rfc-editor.org/rfc/rfc9449#section-4.2
    pub(crate) fn proof_hash(&self) -> TokenHash {
        let details = self.details.get_or_init(Box::default);
        **details.proof_hash.get_or_init(|| Box::new(self.hash()))
    }

    pub(super) fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    #[inline]
    pub(super) fn copies(&self) -> Option<&Copies> {
        self.details.get()?.copies.get().map(|copies| &**copies)
    }

    pub(super) fn set_copies(&self, copies: Copies) -> &Copies {
        let details = self.details.get_or_init(Box::default);
        details.copies.get_or_init(|| Box::new(copies))
    }

    fn as_requested(&self) -> Option<&AsRequested> {
        self.details.get()?.as_requested.as_ref()
    }

    pub(crate) fn scopes(&self) -> &str {
        match self.as_requested() {
            Some(as_requested) => &as_requested.scopes,
            None => self.key.scopes.as_str(),
        }
    }

    pub(super) fn tenant(&self) -> Option<&str> {
        let as_requested = self.as_requested();
        let tenant = as_requested.and_then(|as_requested| as_requested.tenant.as_deref());
        tenant.or(self.key.tenant.as_ref()).map(Tenant::as_str)
    }
}

#[cfg(test)]
impl IssuedToken {
    /// Returns a token for `tenant` that lives `seconds` from `now`.
    pub(crate) fn sample(tenant: &str, token: &str, seconds: u64, now: Now) -> Self {
        let key = CacheKey::sample(tenant);
        let lifetime = Lifetime::new(Duration::from_secs(seconds), None, now, 0.0);
        Self::new(
            key,
            token,
            lifetime,
            "s".into(),
            None,
            "c",
            TokenBinding::Unbound,
        )
        .expect("a plain token")
    }

    pub(super) fn shared_key(&self) -> &Arc<CacheKey> {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    #[test]
    fn a_token_that_cannot_be_a_header_value_is_no_token() {
        let now = TimeSource::System.now();
        let sample = IssuedToken::sample("t", "a", 60, now);
        assert!(
            IssuedToken::new(
                sample.key,
                "a\nb",
                sample.lifetime,
                "s".into(),
                None,
                "c",
                TokenBinding::Unbound
            )
            .is_none()
        );
    }

    #[test]
    fn a_token_has_the_tenant_as_the_caller_spelled_the_name() {
        let now = TimeSource::System.now();
        let issued = |spelled: &str| {
            let sample = IssuedToken::sample("contoso.com", "a", 60, now);
            let tenant = Tenant::parse(spelled).unwrap();
            IssuedToken::new(
                sample.key,
                "a",
                sample.lifetime,
                "".into(),
                Some(&tenant),
                "11111111-2222-3333-4444-555555555555",
                TokenBinding::Unbound,
            )
            .unwrap()
        };
        let as_in_key = issued("contoso.com");
        assert_eq!(as_in_key.tenant(), Some("contoso.com"));
        assert!(as_in_key.details.get().is_none());
        let otherwise = issued("Contoso.com");
        assert_eq!(otherwise.tenant(), Some("Contoso.com"));
        assert_eq!(otherwise.copy().tenant(), Some("Contoso.com"));
        let same = otherwise.belonging_to(CacheKey::sample("contoso.com"));
        assert_eq!(same.tenant(), Some("Contoso.com"));
        let other = same.belonging_to(CacheKey::sample("fabrikam.com"));
        assert_eq!(other.tenant(), Some("fabrikam.com"));
    }

    #[test]
    fn a_copy_keeps_the_unknown_members_of_the_response() {
        let now = TimeSource::System.now();
        let sample = IssuedToken::sample("t", "a", 60, now);
        assert_eq!(sample.due(now).additional_parameters(), None);
        let members = r#"{"a":1}"#;
        let issued = sample.with_additional_parameters(Some(members.to_owned()));
        assert_eq!(issued.due(now).additional_parameters(), Some(members));
        assert_eq!(issued.copy().issued_token_type(), None);
        let exchanged = issued.exchanged(Some("urn:b"), true);
        assert_eq!(exchanged.additional_parameters(), Some(members));
        assert_eq!(exchanged.copy().issued_token_type(), Some("urn:b"));
    }
}
