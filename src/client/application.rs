//! The verbs of an application, which rustdoc shows first.

use http::HeaderMap;

use super::authorize::AuthorizeRequest;
use super::resolve::Subject;
use super::{ConfidentialClient, ConfidentialClientBuilder, TokenCache, TokenProvider, WarmUp};
use crate::authority::Tenant;
use crate::certificate::Certificate;
use crate::delegated::admin_consent;
use crate::error::Error;
use crate::request::IntoTokenRequest;
use crate::token::AccessToken;

impl ConfidentialClient {
    /// Returns a builder for the application (client) ID of an app registration.
    pub fn builder(client_id: impl Into<String>) -> ConfidentialClientBuilder {
        ConfidentialClientBuilder::new(client_id.into())
    }

    /// Builds a client from the environment variables of the Azure SDKs and of workload identity.
    ///
    /// | variable | content |
    /// |---|---|
    /// | `AZURE_TENANT_ID` | tenant ID or domain |
    /// | `AZURE_CLIENT_ID` | application (client) ID |
    /// | `AZURE_CLIENT_SECRET` | client secret |
    /// | `AZURE_CLIENT_CERTIFICATE_PATH` | path of a certificate with its private key: PEM, or PKCS#12 with the feature `pkcs12` |
    /// | `AZURE_CLIENT_CERTIFICATE_PASSWORD` | password of that file, if any |
    /// | `AZURE_CLIENT_SEND_CERTIFICATE_CHAIN` | `1` or `true` sends the certificate and its chain in each assertion, like [`send_x5c`](Certificate::send_x5c) |
    /// | `AZURE_FEDERATED_TOKEN_FILE` | path of a file with a client assertion, as Kubernetes mounts it |
    /// | `AZURE_MANAGED_IDENTITY_CLIENT_ID` | client ID of a user-assigned managed identity of the host, whose token is the client assertion |
    /// | `AZURE_KUBERNETES_TOKEN_PROXY` | URL of the token proxy of an AKS identity binding, used with `AZURE_FEDERATED_TOKEN_FILE` |
    /// | `AZURE_KUBERNETES_SNI_NAME`, `AZURE_KUBERNETES_CA_FILE`, `AZURE_KUBERNETES_CA_DATA` | server name and CA of that proxy |
    /// | `AZURE_AUTHORITY_HOST` | another cloud, such as `https://login.microsoftonline.us/`; always https |
    ///
    /// `AZURE_MANAGED_IDENTITY_CLIENT_ID` is a name of this crate, because `AZURE_CLIENT_ID` names
    /// the application. Azure's SDKs do not read the variable.
    ///
    /// Exactly one of the four credentials is required: secret, certificate, token file and managed
    /// identity. An information event in the log names the variable of the credential, and says
    /// whether an identity binding is used. An empty variable counts as unset. The
    /// certificate file or the token file is read at once, to find a bad file early, and again for
    /// token requests. [`ConfidentialClientBuilder::from_env`] returns the builder, for further
    /// settings.
    ///
    /// White space, quotation marks and, around a GUID, braces are removed from a tenant, a client
    /// id, a host and a path, with a warning in the log. A secret and a password are never changed,
    /// because quotation marks may belong to them. A placeholder such as `<your-client-id>`,
    /// `${VAR}` or a GUID of zeros is an error.
    ///
    /// # Errors
    ///
    /// The messages begin with "the environment cannot be used".
    ///
    /// - [`Error::Config`] names each variable that is missing, cannot be used or contradicts
    ///   another. It shows no value.
    /// - [`Error::Credential`]: the certificate file or the token file cannot be used.
    /// - The errors of [`build`](ConfidentialClientBuilder::build).
    ///
    /// A program whose host has a managed identity with its roles needs no application. See
    /// [`ManagedIdentityClient::from_env`](crate::ManagedIdentityClient::from_env).
    #[doc(alias = "EnvironmentCredential")]
    #[doc(alias = "DefaultAzureCredential")]
    pub fn from_env() -> Result<Self, Error> {
        ConfidentialClientBuilder::from_env()?.build()
    }

    /// Acquires a token for the application itself by the client-credentials grant
    /// ([RFC 6749 section 4.4]).
    ///
    /// Returns the cached token while the token is valid. Otherwise one token request is sent,
    /// however many callers wait for the same token, and all callers receive the same token or
    /// error. Dropping the returned future does not cancel the request for other callers.
    ///
    /// A token that is due for refresh is returned at once and refreshed in the background. If the
    /// refresh fails, the token is returned until its expiry. After a failure, further calls
    /// receive the same error without another request for the time of [`Error::retry_after`].
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::{ConfidentialClient, TokenRequest, TokenSource};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("the secret's value")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let graph = "https://graph.microsoft.com/.default";
    /// let token = client.acquire_token_for_client(graph).await?;
    /// assert_eq!(token.source(), TokenSource::IdentityProvider);
    /// let token = client.acquire_token_for_client(graph).await?;
    /// assert_eq!(token.source(), TokenSource::Cache);
    ///
    /// // A customer's tenant has its own token in the cache.
    /// let request = TokenRequest::new(graph).tenant("fabrikam.com");
    /// let token = client.acquire_token_for_client(&request).await?;
    /// assert_eq!(token.tenant_id(), Some("fabrikam.com"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Before the network:
    ///
    /// - [`Error::Config`]: a scope that is not one resource's `/.default`, a tenant such as
    ///   `common`, a correlation ID that is no GUID, or no tokio runtime.
    /// - [`Error::Credential`]: a certificate outside its validity; a source, signer or assertion
    ///   provider that failed or took more than ten seconds.
    ///
    /// After it, the errors of the identity provider: see [`Error`].
    ///
    /// [RFC 6749 section 4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
    #[doc(alias = "get_token")]
    pub async fn acquire_token_for_client(
        &self,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        self.acquirer.acquire_for_application(request).await
    }

    /// Returns a [`TokenProvider`] for repeated calls with the same request: the fastest path.
    ///
    /// Does no I/O, and requests no token yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that
    /// [`acquire_token_for_client`](Self::acquire_token_for_client) rejects. Also for one with a
    /// correlation ID, claims, a rejected token or a forced refresh, which belong to a single call.
    #[doc(alias = "get_bearer_token_provider")]
    pub fn token_provider(&self, request: impl IntoTokenRequest) -> Result<TokenProvider, Error> {
        let request = request.into_token_request();
        let request = self.fetcher.resolve(request, Subject::Application)?;
        self.acquirer.bind(request)
    }

    /// Attaches a token of this client to an outgoing request.
    ///
    /// Sets the `Authorization` header, and the header `DPoP` for a token of the scheme
    /// [`Dpop`](crate::TokenScheme::Dpop). For a caller that holds an [`AccessToken`], such as a
    /// user's. [`TokenProvider::authorize`] acquires the token, too.
    ///
    /// A proof is valid for one request, with its method and URI. Call this method for each
    /// request, and again before a request is sent a second time. A key in memory does no I/O.
    ///
    /// ```
    /// use confidential_client::credential::DpopKey;
    /// use confidential_client::{Authority, ConfidentialClient};
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .client_secret("the secret's value")
    ///     .dpop(DpopKey::generate()?)
    /// #   .transport(|request: Request<Bytes>| async move {
    /// #       let body = match request.uri().path() {
    /// #           "/token" => r#"{"token_type":"DPoP","expires_in":3599,"access_token":"abc"}"#,
    /// #           _ => r#"{"issuer":"https://id.example.org",
    /// #               "token_endpoint":"https://id.example.org/token"}"#,
    /// #       };
    /// #       Ok(Response::new(Bytes::from(body)))
    /// #   })
    ///     .build()?;
    /// let token = client.acquire_token_for_client("orders.read").await?;
    ///
    /// let mut request = http::Request::get("https://orders.example.org/v1/orders").body(())?;
    /// client.authorize(&token, &mut request).await?;
    /// assert_eq!(request.headers()["authorization"], "DPoP abc");
    /// assert!(request.headers().contains_key("dpop"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The request is then unchanged.
    ///
    /// - [`Error::Config`] for a token that needs a proof, if only the headers are given, or if the
    ///   URI has no scheme and host. Also for a token that is bound to another client's key.
    /// - [`Error::Credential`] if the proof key cannot sign.
    pub async fn authorize<R: AuthorizeRequest>(
        &self,
        token: &AccessToken,
        request: &mut R,
    ) -> Result<(), Error> {
        self.acquirer.authorize(token, request).await
    }

    /// Stores the nonce of an API's response (`DPoP-Nonce`) for the next proofs to its origin
    /// ([RFC 9449 section 9]).
    ///
    /// For a client with a [proof key](ConfidentialClientBuilder::dpop) whose requests do not go
    /// through an adapter. Call this method with the URI of the request and the headers of every
    /// response, also of good ones. Does no I/O. A client without a proof key ignores the call.
    ///
    /// Returns `true` if the API rejected the proof for its nonce or its time, so that the request
    /// may succeed with another proof. Repeat the request once then, after
    /// [`authorize`](Self::authorize). The access token is still valid.
    ///
    /// ```
    /// # use confidential_client::credential::DpopKey;
    /// # use confidential_client::{Authority, ConfidentialClient};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("daemon")
    /// #     .authority(Authority::oidc("https://id.example.org"))
    /// #     .client_secret("the secret's value")
    /// #     .dpop(DpopKey::generate()?)
    /// #     .build()?;
    /// let response = http::Response::builder()
    ///     .status(401)
    ///     .header("www-authenticate", r#"DPoP error="use_dpop_nonce""#)
    ///     .header("dpop-nonce", "eyJ7S_zG.eyJH0-Z.HX4w-7v")
    ///     .body(())?;
    /// let uri = "https://orders.example.org/v1/orders";
    /// assert!(client.record_nonce(uri, response.headers()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
    #[doc(alias = "DPoP-Nonce")]
    pub fn record_nonce(&self, uri: impl AsRef<str>, response_headers: &HeaderMap) -> bool {
        self.acquirer.record_nonce(uri.as_ref(), response_headers)
    }

    /// Removes a token from the cache that an API rejected, so that the next call acquires another.
    ///
    /// For a 401 whose challenge has no claims. Does no I/O. A token that was refreshed since then
    /// stays cached, so a thousand callers may report the same token. Within 30 seconds after a
    /// token was replaced for this reason the next one stays cached, too: an API that rejects every
    /// token does not cause a storm of token requests.
    pub fn invalidate(&self, token: &AccessToken) {
        self.acquirer.invalidate(token);
    }

    /// Acquires the tokens of many requests, a bounded number at a time, and reports each outcome.
    ///
    /// For the start of a daemon that works in thousands of tenants. Sends nothing until
    /// [`WarmUp::next`] is called.
    ///
    /// Each request is served as by [`acquire_token_for_client`](Self::acquire_token_for_client). A
    /// failed request does not stop other requests, and is retried only by the
    /// [`RetryPolicy`](crate::RetryPolicy). While the identity provider is down, requests fail at
    /// once. A daemon whose first outcomes are [transient](Error::is_transient) failures may drop
    /// the [`WarmUp`], and acquire each token on demand.
    ///
    /// The cache must have room for all tokens: 10,000, unless
    /// [`max_entries`](crate::CacheOptions::max_entries) says otherwise.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::{ConfidentialClient, TokenRequest};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("the secret's value")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let customers = ["fabrikam.com", "common", "adatum.com"];
    /// let graph = TokenRequest::new("https://graph.microsoft.com/.default");
    /// let requests = customers.map(|tenant| graph.clone().tenant(tenant));
    ///
    /// let mut failed = Vec::new();
    /// let mut warm_up = client.warm_up(requests).max_concurrent(8);
    /// while let Some((request, result)) = warm_up.next().await {
    ///     if let Err(error) = result {
    ///         failed.push((request, error));
    ///     }
    /// }
    ///
    /// // Two tokens are cached. `common` is no tenant that an application has a token in.
    /// assert_eq!(client.cache().len(), 2);
    /// let (request, error) = &failed[0];
    /// assert_eq!(request.tenant_id(), Some("common"));
    /// assert!(error.to_string().contains("an application cannot get a token in 'common'"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn warm_up<R: IntoTokenRequest>(&self, requests: impl IntoIterator<Item = R>) -> WarmUp {
        let requests = requests.into_iter().map(R::into_token_request).collect();
        WarmUp::new(self.clone(), requests)
    }

    /// Returns the URL of the page where a tenant's administrator consents to the permissions of
    /// this application's registration.
    ///
    /// For an ISV with a new customer. Only Microsoft Entra ID has such a page. Does no I/O.
    ///
    /// `tenant` is the customer's tenant ID or domain, or `organizations` if the customer's tenant
    /// is not known yet. `redirect_uri` is one of the registration's. Entra sends the administrator
    /// back there, and [`AdminConsent::parse`](crate::delegated::AdminConsent::parse) reads the
    /// URL. `state` comes back unchanged: use a random value from the administrator's session,
    /// which protects against forged redirects.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::AdminConsent;
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let page =
    ///     client.admin_consent_url("organizations", "https://isv.example.org/consented", "x7Zq")?;
    /// assert_eq!(
    ///     page,
    ///     "https://login.microsoftonline.com/organizations/adminconsent\
    ///      ?client_id=11111111-2222-3333-4444-555555555555\
    ///      &redirect_uri=https%3A%2F%2Fisv.example.org%2Fconsented&state=x7Zq"
    /// );
    ///
    /// let back = "https://isv.example.org/consented?admin_consent=True&tenant=fabrikam.com&state=x7Zq";
    /// let consent = AdminConsent::parse(back, "x7Zq")?;
    /// assert!(matches!(consent, AdminConsent::Granted { tenant_id } if tenant_id == "fabrikam.com"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: the authority is not Microsoft Entra ID; the tenant is invalid; the
    /// redirect URI is neither https nor http to this machine, or has a fragment; the state is
    /// empty.
    pub fn admin_consent_url(
        &self,
        tenant: impl AsRef<str>,
        redirect_uri: impl AsRef<str>,
        state: impl AsRef<str>,
    ) -> Result<String, Error> {
        let tenant = Tenant::parse(tenant.as_ref())?;
        let page = self.fetcher.endpoints.admin_consent(&tenant)?;
        let client_id = &self.fetcher.client_id;
        admin_consent::url(page, client_id, redirect_uri.as_ref(), state.as_ref())
    }

    /// Returns the certificate that the client authenticates with, for a health check.
    ///
    /// With a certificate source, that is the last certificate of the source. Returns `None` before
    /// the source was first used, and for a client with another credential. Does no I/O.
    pub fn certificate(&self) -> Option<Certificate> {
        self.fetcher.credential.certificate()
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        TokenCache::new(&self.acquirer)
    }
}
