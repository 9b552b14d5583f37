use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::authority::Tenant;
use crate::error::Error;
use crate::scope::Scopes;
use crate::token::AccessToken;

pub(crate) mod claims;
mod http;
pub(crate) mod parameters;

pub(crate) use http::TokenHttpRequest;
use parameters::{ParameterLocation, Parameters};

/// What to get a token for: a scope, and optionally a tenant other than the client's own.
///
/// A plain value, cheap to clone and made once: nothing in it is consumed by a call. It is checked
/// when it is used, before the network. `&str` and `String` convert into one.
///
/// ```
/// use confidential_client::TokenRequest;
///
/// // An ISV's daemon: one client, many customers' tenants.
/// let request = TokenRequest::new("https://graph.microsoft.com/.default").tenant("fabrikam.com");
/// # let _ = request;
/// ```
#[derive(Clone, Debug)]
pub struct TokenRequest(Arc<Parts>);

#[derive(Clone, Debug, Default)]
struct Parts {
    scopes: Scopes,
    tenant: Option<Result<Tenant, NoTenant>>,
    correlation_id: Option<Result<Uuid, Error>>,
    claims: Option<Result<Arc<str>, Error>>,
    rejected: Option<AccessToken>,
    force_refresh: bool,
    min_remaining: Duration,
    parameters: Parameters,
}

/// What was given for a tenant and is none, with what is wrong with it.
#[derive(Clone, Debug)]
struct NoTenant {
    text: String,
    error: Error,
}

impl TokenRequest {
    /// A request for `scope`; several may be given with spaces between them.
    ///
    /// For an application the one scope to ask for is a resource's application ID URI followed by
    /// `/.default`.
    pub fn new(scope: impl AsRef<str>) -> Self {
        Self(Arc::new(Parts::default())).with(|parts| parts.scopes.add(scope.as_ref()))
    }

    /// Adds scopes to the one given to [`new`](Self::new). Order and repetition do not matter to
    /// the cache; case does.
    pub fn scopes<S: AsRef<str>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.with(|parts| {
            for scope in scopes {
                parts.scopes.add(scope.as_ref());
            }
        })
    }

    /// Asks in this tenant (its id or one of its domains) instead of the client's own.
    ///
    /// Each tenant has its own token in the cache. An id and a domain of the same tenant are two
    /// tenants to the cache, since nobody looks up which belong together.
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        let text = tenant.into();
        let tenant = Tenant::parse(&text).map_err(|error| NoTenant { text, error });
        self.with(|parts| parts.tenant = Some(tenant))
    }

    /// The GUID to send as `client-request-id`, should this call make a request; a fresh one is
    /// sent where none is set.
    ///
    /// A call that is served from the cache or joins a request under way does not send it: look
    /// at the token's or the error's `correlation_id()` for the one that went out.
    pub fn correlation_id(self, guid: impl Into<String>) -> Self {
        let guid = guid.into();
        let id = Uuid::try_parse(&guid)
            .map_err(|_| Error::config(format!("the correlation id {guid:?} is not a GUID")));
        self.with(|parts| parts.correlation_id = Some(id))
    }

    /// Passes on the claims that an API's challenge asked for, as JSON: a token from memory does not
    /// do, and one is asked for with them ([OpenID Connect Core section 5.5]).
    ///
    /// Give the token that the API turned down, too, with [`rejected_token`](Self::rejected_token).
    /// However many callers come with the same claims, there is one request; other claims wait for
    /// its end. An API that takes no token does not cause a storm: in 30 seconds the same claims bring
    /// one token, and claims, [`rejected_token`](Self::rejected_token) and
    /// [`invalidate`](crate::ConfidentialClient::invalidate) two together. Beyond that the token in
    /// memory is returned.
    ///
    /// [OpenID Connect Core section 5.5]: https://openid.net/specs/openid-connect-core-1_0.html#ClaimsParameter
    pub fn claims(self, json: impl Into<String>) -> Self {
        let claims = check_claims(json.into());
        self.with(|parts| parts.claims = Some(claims))
    }

    /// Asks for another token than this one, which an API did not take.
    ///
    /// If memory holds another by now, that is returned; so a thousand callers whose token was
    /// revoked make one request. A second renewal for this reason, or by
    /// [`invalidate`](crate::ConfidentialClient::invalidate), within 30 seconds is not made (nor a
    /// third, where there were two with [`claims`](Self::claims)), and the token in memory is
    /// returned: compare it with the one that was turned down before using it again.
    pub fn rejected_token(self, token: &AccessToken) -> Self {
        self.with(|parts| parts.rejected = Some(token.clone()))
    }

    /// Asks the identity provider even if there is a good token in memory, as when the application
    /// was given another permission. A request under way is joined.
    ///
    /// If that fails and the token in memory is still good, it is returned with a warning in the
    /// log: [`source`](AccessToken::source) tells. The wait after a failure is not cut short.
    pub fn force_refresh(self) -> Self {
        self.with(|parts| parts.force_refresh = true)
    }

    /// Asks for a token that is good for this long at least, as before a long upload: one with less
    /// left is renewed first, and not in the background.
    ///
    /// A token that has just been issued is returned even if it is shorter; it is then not renewed
    /// for this reason in the first half of its life, and one that was long enough not in the first
    /// tenth. If renewing fails and the token in memory is
    /// still good, it is returned with a warning in the log.
    pub fn min_remaining(self, min_remaining: Duration) -> Self {
        self.with(|parts| parts.min_remaining = min_remaining)
    }

    /// Adds a parameter to the form, for providers that need one beyond the standard's, such as
    /// `audience`, or `resource` ([RFC 8707 section 2]). One name may be given several times.
    ///
    /// It is part of what the token is for: a request with another value has a token of its own in
    /// the cache. It is no place for a secret. A parameter that the library sends itself is refused
    /// when the request is used.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let orders = TokenRequest::new("read").form_parameter("resource", "https://orders.example.org");
    /// # let _ = orders;
    /// ```
    ///
    /// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
    pub fn form_parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|parts| {
            parts
                .parameters
                .add(ParameterLocation::Form, name.into(), value.into())
        })
    }

    /// Adds a parameter to the token endpoint's query, in the same way as
    /// [`form_parameter`](Self::form_parameter) adds one to the form.
    pub fn query_parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|parts| {
            parts
                .parameters
                .add(ParameterLocation::Query, name.into(), value.into())
        })
    }

    /// The tenant as it was given to [`tenant`](Self::tenant), be it one or not; `None` where the
    /// client's own is asked.
    pub fn tenant_id(&self) -> Option<&str> {
        match self.0.tenant.as_ref()? {
            Ok(tenant) => Some(tenant.as_str()),
            Err(wrong) => Some(&wrong.text),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn requested_scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    pub(crate) fn requested_tenant(&self) -> Result<Option<&Tenant>, Error> {
        let tenant = self.0.tenant.as_ref().map(Result::as_ref).transpose();
        tenant.map_err(|wrong| wrong.error.clone())
    }

    pub(crate) fn requested_correlation_id(&self) -> Result<Option<Uuid>, Error> {
        self.0.correlation_id.clone().transpose()
    }

    pub(crate) fn requested_claims(&self) -> Result<Option<Arc<str>>, Error> {
        self.0.claims.clone().transpose()
    }

    pub(crate) fn rejected(&self) -> Option<&AccessToken> {
        self.0.rejected.as_ref()
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.0.force_refresh
    }

    pub(crate) fn extra_parameters(&self) -> Result<&Parameters, Error> {
        let parameters = &self.0.parameters;
        parameters.check().map(|()| parameters)
    }

    pub(crate) fn wanted_remaining(&self) -> Duration {
        self.0.min_remaining
    }
}

fn check_claims(json: String) -> Result<Arc<str>, Error> {
    match serde_json::from_str::<serde_json::Map<String, Value>>(&json) {
        Ok(_) => Ok(json.into()),
        Err(_) => Err(Error::config(
            "the claims are not a JSON object; a challenge's claims are in base64, so decode them first",
        )),
    }
}

impl From<&str> for TokenRequest {
    fn from(scope: &str) -> Self {
        Self::new(scope)
    }
}

impl From<String> for TokenRequest {
    fn from(scope: String) -> Self {
        Self::new(scope)
    }
}

impl From<&TokenRequest> for TokenRequest {
    fn from(request: &TokenRequest) -> Self {
        request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_value_that_changes_for_nobody_else() {
        let first = TokenRequest::new("a");
        let second = first.clone().scopes(["b"]).tenant("t");
        assert_eq!(&**first.requested_scopes().wire(), "a");
        assert!(first.requested_tenant().unwrap().is_none());
        assert_eq!(&**second.requested_scopes().wire(), "a b");

        assert_eq!((first.tenant_id(), second.tenant_id()), (None, Some("t")));
    }

    #[test]
    fn what_is_no_tenant_is_known_as_it_was_given() {
        let request = TokenRequest::new("s").tenant("Fabrikam Inc.");
        assert_eq!(request.tenant_id(), Some("Fabrikam Inc."));
        assert!(request.requested_tenant().is_err());
    }

    #[test]
    fn a_correlation_id_is_a_guid_in_one_spelling() {
        let id = |text: &str| {
            TokenRequest::new("s")
                .correlation_id(text)
                .requested_correlation_id()
        };
        let spelt = id("{A1A2A3A4-B1B2-C1C2-D1D2-E1E2E3E4E5E6}")
            .unwrap()
            .unwrap();
        assert_eq!(spelt.to_string(), "a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6");
        let error = id("job 7").unwrap_err().to_string();
        assert!(error.contains("\"job 7\" is not a GUID"), "{error}");
    }
}
