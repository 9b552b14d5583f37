use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::authority::Tenant;
use crate::error::Error;
use crate::scope::Scopes;
use crate::token::AccessToken;

pub(crate) mod anchor_mailbox;
mod assertion_claims;
pub(crate) mod claims;
mod extras;
mod headers;
mod http;
mod into_token_request;
pub(crate) mod parameters;
mod resolution;

pub(crate) use assertion_claims::AssertionClaimSet;
pub(crate) use headers::ExtraHeaders;
pub(crate) use http::{IntrospectionHttpRequest, PushedHttpRequest, SKU, TokenHttpRequest};
pub use into_token_request::IntoTokenRequest;
pub(crate) use into_token_request::Lent;
use parameters::{AUDIENCE, FMI_PATH, ParameterLocation, Parameters, RESOURCE};
use resolution::Resolution;

/// The scopes to request a token for, with an optional tenant and other options.
///
/// A plain value, cheap to clone and reusable for any number of calls. The client validates the
/// request on use, before the network. `&str`, `String` and arrays or slices of scopes convert into
/// a request.
///
/// ```
/// use confidential_client::TokenRequest;
///
/// // An ISV's daemon: one client, many customers' tenants.
/// let request = TokenRequest::new("https://graph.microsoft.com/.default").tenant("fabrikam.com");
/// # let _ = request;
/// ```
#[derive(Clone)]
#[doc(alias = "TokenRequestOptions")]
#[doc(alias = "TokenRequestContext")]
#[doc(alias = "AcquireTokenForClientParameterBuilder")]
pub struct TokenRequest(Arc<RequestFields>);

#[derive(Clone, Default)]
struct RequestFields {
    /// First, since a cache hit reads nothing else.
    resolution: Resolution,
    scopes: Scopes,
    tenant: Option<Result<Tenant, InvalidTenant>>,
    correlation_id: Option<Result<Uuid, Error>>,
    claims: Option<Result<Arc<str>, Error>>,
    rejected: Option<AccessToken>,
    force_refresh: bool,
    min_remaining: Duration,
    parameters: Parameters,
    headers: ExtraHeaders,
    /// The first parameter, header or claim of the client assertion that is not valid.
    invalid_parameter: Option<Error>,
}

/// A tenant that failed validation, as the caller wrote the name.
#[derive(Clone, Debug)]
struct InvalidTenant {
    text: String,
    error: Error,
}

impl TokenRequest {
    /// Creates a request for `scope`. Spaces separate several scopes.
    ///
    /// An application requests one scope: the resource's application ID URI followed by
    /// `/.default`.
    #[doc(alias = "scope")]
    pub fn new(scope: impl AsRef<str>) -> Self {
        Self::from_scopes([scope])
    }

    /// Adds scopes to the scope of [`new`](Self::new).
    ///
    /// The cache ignores order and repetition. Scopes are case-sensitive.
    pub fn scopes<S: AsRef<str>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.update(|fields| {
            for scope in scopes {
                fields.scopes.add(scope.as_ref());
            }
        })
    }

    /// Sets the tenant, by id or domain, in place of the client's tenant.
    ///
    /// Each tenant has its own token in the cache. An id and a domain of the same tenant count as
    /// two tenants, because the client does not resolve domains to ids.
    #[doc(alias = "tenant_id")]
    #[doc(alias = "WithTenantId")]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        let text = tenant.into();
        let tenant = Tenant::parse(&text).map_err(|error| InvalidTenant { text, error });
        self.update(|fields| fields.tenant = Some(tenant))
    }

    /// Sets the GUID to send as `client-request-id`, if this call sends a token request.
    ///
    /// By default the client generates a GUID. The id is unused if the token comes from the cache
    /// or if the call joins a token request in flight. The `correlation_id()` of the token or of
    /// the error returns the id that was sent.
    pub fn correlation_id(self, guid: impl Into<String>) -> Self {
        let guid = guid.into();
        let id = Uuid::try_parse(&guid)
            .map_err(|_| Error::config(format!("the correlation id {guid:?} is not a GUID")));
        self.update(|fields| fields.correlation_id = Some(id))
    }

    /// Passes on the claims of an API's challenge, as JSON ([OpenID Connect Core section 5.5]).
    ///
    /// The client does not return the cached token but requests a new token with the claims. Pass
    /// the token that the API rejected to [`rejected_token`](Self::rejected_token) as well.
    ///
    /// Callers with the same claims share one token request. A caller with other claims waits until
    /// that request ends.
    ///
    /// Refreshes after a rejection are limited, so that an API that rejects every token cannot
    /// flood the identity provider. Within 30 seconds, the same claims cause one token request.
    /// Claims, [`rejected_token`](Self::rejected_token) and
    /// [`invalidate`](crate::ConfidentialClient::invalidate) cause at most two together. Beyond the
    /// limit, the client returns the cached token.
    ///
    /// [OpenID Connect Core section 5.5]: https://openid.net/specs/openid-connect-core-1_0.html#ClaimsParameter
    #[doc(alias = "claims_challenge")]
    #[doc(alias = "WithClaims")]
    pub fn claims(self, json: impl Into<String>) -> Self {
        let claims = check_claims(json.into());
        self.update(|fields| fields.claims = Some(claims))
    }

    /// Requests a token other than `token`, because an API rejected `token`.
    ///
    /// If the cache already holds another token, the client returns the cached token. A thousand
    /// callers with one revoked token therefore cause one token request.
    ///
    /// Within 30 seconds, [`invalidate`](crate::ConfidentialClient::invalidate) and this method
    /// cause at most one refresh, and at most two together with [`claims`](Self::claims). Beyond
    /// the limit, the client returns the cached token. Compare the returned token with the rejected
    /// token before sending the returned token to the API.
    #[doc(alias = "access_token_sha256_to_refresh")]
    pub fn rejected_token(self, token: &AccessToken) -> Self {
        self.update(|fields| fields.rejected = Some(token.clone()))
    }

    /// Sends a token request even if the cache holds a valid token.
    ///
    /// Useful after the application got a new permission. The call joins a token request in flight.
    ///
    /// If the token request fails and the cached token is valid, the client returns the cached
    /// token and logs a warning. [`AccessToken::source`] is then [`TokenSource::Cache`].
    ///
    /// A remembered rejection does not stop the token request, because somebody may have mended
    /// the cause, such as a missing consent. For one cached token, this happens at most once in 30
    /// seconds, so that a loop cannot flood the identity provider. Beyond that limit, after a
    /// transient error, and after a `Retry-After`, the wait after the failure
    /// ([`Error::retry_after`](crate::Error::retry_after)) applies.
    ///
    /// For a managed identity, the host's endpoint has a cache of its own, and may return the same
    /// token for up to 24 hours.
    ///
    /// [`TokenSource::Cache`]: crate::TokenSource::Cache
    #[doc(alias = "WithForceRefresh")]
    pub fn force_refresh(self) -> Self {
        self.update(|fields| fields.force_refresh = true)
    }

    /// Sets the least remaining lifetime of the returned token, for example before a long upload.
    ///
    /// The default is zero. If the cached token expires sooner, the call waits for a refresh.
    ///
    /// A token that was just issued is returned even if the lifetime is too short. The client then
    /// sends no further token request for this reason during the first half of that token's
    /// lifetime. After a token that was long enough, the pause is the first tenth of the lifetime.
    ///
    /// If the refresh fails and the cached token is valid, the client returns the cached token and
    /// logs a warning.
    pub fn min_remaining(self, min_remaining: Duration) -> Self {
        self.update(|fields| fields.min_remaining = min_remaining)
    }

    /// Adds the name of an API that the token is for, as Auth0 requires for client credentials.
    ///
    /// The request carries the form parameter `audience`, and the URL of the sign-in page carries
    /// it where a user signs in. Call the method several times for several audiences. Each has to
    /// be the API's identifier at the provider, to the letter.
    ///
    /// The audiences are part of the cache key. On use, the client rejects the request for
    /// Microsoft Entra ID, Azure AD B2C and AD FS, whose scopes name the API.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let orders = TokenRequest::new("read:orders").audience("https://orders.example.com");
    /// # let _ = orders;
    /// ```
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.form_parameter(AUDIENCE, audience)
    }

    /// Adds the URI of an API that the token is for, a resource indicator ([RFC 8707 section 2]).
    ///
    /// The request carries the form parameter `resource`, and the URL of the sign-in page carries
    /// it where a user signs in. Call the method several times for several APIs. On use, the client
    /// rejects a text that is not an absolute URI, and a URI with a fragment.
    ///
    /// The resources are part of the cache key. On use, the client rejects the request for
    /// Microsoft Entra ID and Azure AD B2C, whose scopes name the API. AD FS accepts one resource.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let orders = TokenRequest::new("read").resource("https://orders.example.org");
    /// # let _ = orders;
    /// ```
    ///
    /// [RFC 8707 section 2]: https://www.rfc-editor.org/rfc/rfc8707#section-2
    pub fn resource(self, uri: impl Into<String>) -> Self {
        self.form_parameter(RESOURCE, uri)
    }

    /// Sets the path of a federated identity, for a token that is the assertion of that identity.
    ///
    /// Microsoft Entra ID issues such a token to the blueprint of an agent identity, with the agent
    /// identity's client ID as the path (Federated Managed Identity, FMI). The request carries the
    /// form parameter `fmi_path`. A second call replaces the path.
    /// [`ConfidentialClient::agent_identity`](crate::ConfidentialClient::agent_identity) sends
    /// these requests by itself.
    ///
    /// The path is part of the cache key. On use, the client rejects an empty path, a path with
    /// white space or invisible characters, and a path for another provider than Microsoft Entra
    /// ID.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let assertion = TokenRequest::new("api://AzureADTokenExchange/.default")
    ///     .fmi_path("f47ac10b-58cc-4372-a567-0e02b2c3d479");
    /// # let _ = assertion;
    /// ```
    #[doc(alias("WithFmiPath", "Federated Managed Identity", "agent"))]
    pub fn fmi_path(self, path: impl Into<String>) -> Self {
        let request = self.update(|fields| fields.parameters.remove(FMI_PATH));
        request.form_parameter(FMI_PATH, path)
    }

    /// Adds a form parameter, for providers that need more than the standard parameters.
    ///
    /// A name may repeat. The parameters of [`audience`](Self::audience),
    /// [`resource`](Self::resource) and [`fmi_path`](Self::fmi_path) are checked as the methods of
    /// these names check them.
    ///
    /// Parameters are part of the cache key, so another value gets another token. Do not put a
    /// secret into a parameter. On use, the client rejects parameters that the client sends itself,
    /// such as `scope`.
    ///
    /// ```
    /// use confidential_client::TokenRequest;
    ///
    /// let orders = TokenRequest::new("read").form_parameter("tenant_domain", "example.org");
    /// # let _ = orders;
    /// ```
    pub fn form_parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameter(ParameterLocation::Form, name.into(), value.into())
    }

    /// Adds a query parameter to the token endpoint's URL.
    ///
    /// The rules of [`form_parameter`](Self::form_parameter) apply.
    #[doc(alias = "WithExtraQueryParameters")]
    pub fn query_parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameter(ParameterLocation::Query, name.into(), value.into())
    }

    /// Returns the tenant as the caller gave the name to [`tenant`](Self::tenant), even if invalid.
    ///
    /// `None` if the request uses the client's tenant.
    pub fn tenant_id(&self) -> Option<&str> {
        match self.0.tenant.as_ref()? {
            Ok(tenant) => Some(tenant.as_str()),
            Err(invalid) => Some(&invalid.text),
        }
    }

    fn from_scopes(scopes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(Arc::new(RequestFields::default())).scopes(scopes)
    }

    fn invalid(self, error: Error) -> Self {
        self.update(|fields| {
            fields.invalid_parameter.get_or_insert(error);
        })
    }

    fn parameter(self, location: ParameterLocation, name: String, value: String) -> Self {
        match parameters::check_value(&name, &value) {
            Ok(()) => self.update(|fields| fields.parameters.add(location, name, value)),
            Err(error) => self.invalid(error),
        }
    }

    fn update(mut self, change: impl FnOnce(&mut RequestFields)) -> Self {
        let fields = Arc::make_mut(&mut self.0);
        fields.resolution = Resolution::default();
        change(fields);
        self
    }

    /// Calls `use_value` with what the client resolved this request to, if it did.
    #[inline]
    pub(crate) fn find_resolved<T: Any, R>(
        &self,
        client: u64,
        use_value: impl Fn(&T) -> Option<R>,
    ) -> Option<R> {
        self.0.resolution.find(client, use_value)
    }

    /// Remembers what the client resolved this request to.
    pub(crate) fn set_resolved<T: Any + Send + Sync>(&self, client: u64, value: Arc<T>) {
        self.0.resolution.set(client, value);
    }

    pub(crate) fn requested_scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    pub(crate) fn requested_tenant(&self) -> Result<Option<&Tenant>, Error> {
        let tenant = self.0.tenant.as_ref().map(Result::as_ref).transpose();
        tenant.map_err(|invalid| invalid.error.clone())
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

    pub(crate) fn is_force_refresh(&self) -> bool {
        self.0.force_refresh
    }

    pub(crate) fn extra_parameters(&self) -> Result<&Parameters, Error> {
        if let Some(error) = &self.0.invalid_parameter {
            return Err(error.clone());
        }
        let parameters = &self.0.parameters;
        parameters.check().map(|()| parameters)
    }

    pub(crate) fn extra_headers(&self) -> &ExtraHeaders {
        &self.0.headers
    }

    pub(crate) fn requested_min_remaining(&self) -> Duration {
        self.0.min_remaining
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestFields {
            resolution: _,
            scopes,
            tenant,
            correlation_id,
            claims,
            rejected,
            force_refresh,
            min_remaining,
            parameters,
            headers,
            invalid_parameter: _,
        } = &*self.0;
        f.debug_struct("TokenRequest")
            .field("scopes", scopes.as_requested())
            .field("tenant", tenant)
            .field("correlation_id", correlation_id)
            .field("claims", claims)
            .field("rejected", rejected)
            .field("force_refresh", force_refresh)
            .field("min_remaining", min_remaining)
            .field("parameters", parameters)
            .field("headers", headers)
            .finish()
    }
}

fn check_claims(json: String) -> Result<Arc<str>, Error> {
    match serde_json::from_str::<serde_json::Map<String, Value>>(&json) {
        Ok(_) => Ok(json.into()),
        Err(_) => Err(Error::config(
            "the claims are not a JSON object; a challenge's claims are encoded in base64, so decode them first",
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

/// Requests all the scopes, as MSAL's `scopes=[..]` does.
impl<const N: usize> From<[&str; N]> for TokenRequest {
    fn from(scopes: [&str; N]) -> Self {
        Self::from_scopes(scopes)
    }
}

/// Requests all the scopes, as MSAL's `scopes=[..]` does.
impl From<&[&str]> for TokenRequest {
    fn from(scopes: &[&str]) -> Self {
        Self::from_scopes(scopes)
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
    fn a_clone_of_a_request_is_independent() {
        let first = TokenRequest::new("a");
        let second = first.clone().scopes(["b"]).tenant("t");
        assert_eq!(&**first.requested_scopes().as_requested(), "a");
        assert!(first.requested_tenant().unwrap().is_none());
        assert_eq!(&**second.requested_scopes().as_requested(), "a b");

        assert_eq!((first.tenant_id(), second.tenant_id()), (None, Some("t")));
    }

    #[test]
    fn arrays_and_slices_of_scopes_convert() {
        let wire = |request: TokenRequest| request.requested_scopes().as_requested().to_string();
        assert_eq!(wire(["a/x", "a/y"].into()), "a/x a/y");
        let scopes = vec!["a/x", "a/y"];
        assert_eq!(wire(scopes.as_slice().into()), "a/x a/y");
        assert_eq!(wire(TokenRequest::from(["a/x"])), wire("a/x".into()));
        assert_eq!(wire(TokenRequest::from([])), "");
    }

    #[test]
    fn an_invalid_tenant_is_returned_as_given() {
        let request = TokenRequest::new("s").tenant("Fabrikam Inc.");
        assert_eq!(request.tenant_id(), Some("Fabrikam Inc."));
        assert!(request.requested_tenant().is_err());
    }

    #[test]
    fn a_correlation_id_is_a_guid_in_any_spelling() {
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
