use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use super::ConfidentialClient;
use crate::authority::Authority;
use crate::cache::{CacheOptions, SharedCache, SharedCacheOptions};
use crate::certificate::Certificate;
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{
    ClientAssertionProvider, CredentialConfig, CredentialSource, DpopKey, Rotating,
};
#[cfg(doc)]
use crate::error::Error;
use crate::identity_binding::IdentityBindingProxy;
use crate::metrics::{Acquisition, Observer};
use crate::response::ASSUMED_LIFETIME;
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::time::{Clock, TimeSource};
use crate::transport::{MutualTls, Transport, TransportConfig};

mod bound_tokens;
mod build;
mod users;

use bound_tokens::CertificateUse;
pub(super) use build::check_capabilities;

/// A builder of a [`ConfidentialClient`]: a tenant or an authority, one credential, and settings.
///
/// No method fails. [`build`](Self::build) checks everything.
#[must_use]
pub struct ConfidentialClientBuilder {
    client_id: String,
    tenant: Option<String>,
    authority: Option<Authority>,
    credentials: Vec<CredentialConfig>,
    auth_method: Option<TokenEndpointAuthMethod>,
    proof_key: Option<DpopKey>,
    capabilities: Vec<String>,
    refresh_token_rotation: Option<bool>,
    id_token_audiences: Vec<String>,
    keeps_id_tokens: bool,
    cache: CacheOptions,
    shared_cache: Option<(Arc<dyn SharedCache>, SharedCacheOptions)>,
    retry: RetryPolicy,
    attempt_timeout: Duration,
    assumed_lifetime: Duration,
    observer: Observer,
    pub(super) transport: TransportConfig,
    /// The client certificates of the connections, of which one is allowed.
    mutual_tls: Vec<(MutualTls, CertificateUse)>,
    /// The proxy in the place of the default transport.
    pub(super) identity_binding: Option<IdentityBindingProxy>,
    pub(super) clock: TimeSource,
}

impl ConfidentialClientBuilder {
    pub(crate) fn new(client_id: String) -> Self {
        Self {
            client_id,
            tenant: None,
            authority: None,
            credentials: Vec::new(),
            auth_method: None,
            proof_key: None,
            capabilities: Vec::new(),
            refresh_token_rotation: None,
            id_token_audiences: Vec::new(),
            keeps_id_tokens: false,
            cache: CacheOptions::default(),
            shared_cache: None,
            retry: RetryPolicy::default(),
            attempt_timeout: ATTEMPT_TIMEOUT,
            assumed_lifetime: ASSUMED_LIFETIME,
            observer: Observer::default(),
            transport: TransportConfig::of("ConfidentialClientBuilder"),
            mutual_tls: Vec::new(),
            identity_binding: None,
            clock: TimeSource::default(),
        }
    }

    /// Sets the tenant, by ID (a GUID) or domain, in the worldwide cloud.
    ///
    /// Use [`authority`](Self::authority) for another cloud.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the identity provider and its tenant.
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Authenticates with a client secret.
    ///
    /// Pass the secret's *value*, which the Azure portal shows once, and not its ID.
    pub fn client_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.credentials
            .push(CredentialConfig::Secret(secret.into()));
        self
    }

    /// Authenticates with a secret that may be replaced while the program runs.
    ///
    /// [`SecretFile`](crate::credential::SecretFile) reads one from a file. A closure may fetch one
    /// from a vault.
    pub fn client_secret_source(mut self, source: impl CredentialSource<Secret>) -> Self {
        let source = Rotating::new(source);
        self.credentials
            .push(CredentialConfig::SecretSource(source));
        self
    }

    /// Sets the client authentication method of the token endpoint.
    ///
    /// The default for an OpenID provider follows its metadata: of the two ways to send a secret,
    /// the form is preferred to the header. The default for all other authorities is the form.
    /// Microsoft Entra ID accepts both.
    pub fn token_endpoint_auth_method(mut self, method: TokenEndpointAuthMethod) -> Self {
        self.auth_method = Some(method);
        self
    }

    /// Declares capabilities of the client beyond the standard ones (`xms_cc`).
    ///
    /// `cp1` declares that the client handles claims challenges. Microsoft Entra ID then issues
    /// tokens of up to 24 hours, which an API such as Microsoft Graph may revoke at any time
    /// (continuous access evaluation). Each token request carries the capabilities in its `claims`.
    ///
    /// Declare `cp1` only if every call to such an API answers challenges, as the adapters do: see
    /// [`TokenRequest::claims`](crate::TokenRequest::claims).
    pub fn client_capabilities<C: Into<String>>(
        mut self,
        capabilities: impl IntoIterator<Item = C>,
    ) -> Self {
        self.capabilities = capabilities.into_iter().map(Into::into).collect();
        self
    }

    /// Authenticates with a certificate that is registered with the application.
    ///
    /// Each token request carries an assertion signed with the private key. The key itself is never
    /// sent.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.credentials
            .push(CredentialConfig::Certificate(certificate));
        self
    }

    /// Authenticates with a certificate that may be replaced while the program runs.
    ///
    /// [`CertificateFile`](crate::credential::CertificateFile) reads one from a file. A closure may
    /// fetch one from a vault.
    pub fn certificate_source(mut self, source: impl CredentialSource<Certificate>) -> Self {
        let source = Rotating::new(source);
        self.credentials
            .push(CredentialConfig::CertificateSource(source));
        self
    }

    /// Authenticates with client assertions from a provider.
    ///
    /// A workload's platform may write them
    /// ([`FederatedTokenFile`](crate::credential::FederatedTokenFile)), a signing service may sign
    /// them, or another application may authenticate with its own token.
    ///
    /// A user-assigned [`ManagedIdentity`](crate::credential::ManagedIdentity) of the host needs no
    /// secret at all. The app registration has a federated credential with the identity's object ID
    /// as the subject.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::credential::ManagedIdentity;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let identity =
    ///     ManagedIdentity::user_assigned_client_id("33333333-2222-3333-4444-555555555555");
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_assertion(identity)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A closure names the type of its argument.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::credential::AssertionContext;
    ///
    /// # async fn sign(_: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    /// #     Ok("e30.e30.c2ln".to_owned())
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_assertion(|context: AssertionContext| async move {
    ///         // Call a signing service here.
    ///         sign(context.audience()).await
    ///     })
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_assertion(mut self, provider: impl ClientAssertionProvider) -> Self {
        self.credentials
            .push(CredentialConfig::Assertion(Arc::new(provider)));
        self
    }

    /// Sets the limits of the token cache and of concurrent token requests.
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Shares tokens with other processes through a store, such as Redis.
    ///
    /// The store is read if the cache in memory has no token, or if a refresh is due. A cache hit
    /// does not read the store. One process sends a token request, and the others wait for its
    /// token or its error. While the store is down, the client works as without a shared cache.
    ///
    /// The module [`cache`](crate::cache) describes the guarantees.
    pub fn shared_cache(mut self, store: impl SharedCache, options: SharedCacheOptions) -> Self {
        self.shared_cache = Some((Arc::new(store), options));
        self
    }

    /// Sets the retry policy of token requests: see [`RetryPolicy`].
    ///
    /// [`RetryPolicy::none()`] turns retries off.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets the time limit of one attempt, from the connection to the last byte of the response.
    ///
    /// The default is 15 seconds. The limit of all attempts, [`RetryPolicy::deadline`], applies as
    /// well. Both apply to every transport.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets the lifetime of a token if the OpenID provider's response has no `expires_in`.
    ///
    /// The default is 5 minutes, and the maximum is 24 hours. The first such response logs a
    /// warning. Salesforce sends no `expires_in`, and its tokens expire after a session timeout of
    /// 15 minutes to 24 hours. Set a lifetime below the timeout of your organization. A response
    /// of Microsoft Entra ID without `expires_in` is [`Error::InvalidResponse`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let salesforce = Authority::oidc("https://contoso.my.salesforce.com")
    ///     .token_endpoint("https://contoso.my.salesforce.com/services/oauth2/token");
    /// let client = ConfidentialClient::builder("3MVG9daemon")
    ///     .authority(salesforce)
    ///     .client_secret("the secret's value")
    ///     .assumed_token_lifetime(Duration::from_secs(60 * 60))
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn assumed_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = lifetime;
        self
    }

    /// Sets the time limit of reqwest for connecting, TLS included. The default is 5 seconds.
    ///
    /// Another transport has its own limits.
    #[cfg(feature = "reqwest")]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.transport.connect_timeout = Some(timeout);
        self
    }

    /// Sends token requests by this transport instead of reqwest.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport.transport = Some(Arc::new(transport));
        self
    }

    /// Sets the reqwest builder of the HTTP client for token requests: a proxy, a private CA, a
    /// local address.
    ///
    /// Redirects and reqwest's own retries are turned off, and
    /// [`connect_timeout`](Self::connect_timeout) is applied. A loopback authority is never reached
    /// through a proxy. The proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`) are used, unless
    /// the builder says otherwise. `build()` returns an error if reqwest cannot read the variable.
    ///
    /// With the feature `ring` and without `rustls`, the TLS settings of the builder need a TLS
    /// provider of the process. Call `rustls::crypto::ring::default_provider().install_default()`
    /// when the program starts. Without a provider, `build()` returns an error, and reqwest prints
    /// the message of a panic (a program with `panic = "abort"` ends). A builder with
    /// `tls_backend_preconfigured(..)` needs no provider, but reqwest then ignores its other TLS
    /// settings, such as `tls_certs_merge(..)` and `identity(..)`.
    ///
    /// Connections are kept and reused. A current-thread tokio runtime drives connections only
    /// during `block_on`. Requests from such a runtime are therefore sent by one thread of the
    /// client, which starts with the first such request and ends with the client.
    #[cfg(feature = "reqwest")]
    pub fn reqwest(mut self, builder: reqwest::ClientBuilder) -> Self {
        self.transport.reqwest = Some(builder);
        self
    }

    /// Sets an observer of token requests, for metrics.
    ///
    /// The client calls the observer on the tokio runtime, once for each token request, and once
    /// for each answer of a [shared cache](Self::shared_cache). The observer must not block.
    /// [`TokenCache::stats`](crate::TokenCache::stats) has counts without an observer.
    ///
    /// With the `metrics` crate:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use confidential_client::ConfidentialClient;
    /// # use confidential_client::metrics::Acquisition;
    /// # struct Handle;
    /// # impl Handle { fn increment(&self, _: u64) {} fn record(&self, _: Duration) {} }
    /// # macro_rules! counter { ($($any:tt)*) => { Handle } }
    /// # macro_rules! histogram { ($($any:tt)*) => { Handle } }
    /// let builder = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .observer(|acquisition: Acquisition| {
    ///         let outcome = acquisition.outcome.as_str();
    ///         let source = acquisition.source.as_str();
    ///         counter!("acquisitions_total", "outcome" => outcome, "source" => source).increment(1);
    ///         histogram!("token_request_seconds").record(acquisition.duration);
    ///     });
    /// # let _ = builder;
    /// ```
    pub fn observer(mut self, observer: impl Fn(Acquisition) + Send + Sync + 'static) -> Self {
        self.observer.set(observer);
        self
    }

    /// Adds the tenant and the resource to each [`Acquisition`](crate::metrics::Acquisition).
    ///
    /// By default an observer receives neither. As labels of a metric, a thousand tenants are a
    /// thousand time series. Logs and spans always have both.
    pub fn observe_tenants(mut self) -> Self {
        self.observer.name_tenants();
        self
    }

    /// Sets the clock that replaces the operating system's, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }
}

pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

impl fmt::Debug for ConfidentialClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfidentialClientBuilder")
            .field("client_id", &self.client_id)
            .field("tenant", &self.tenant)
            .field("authority", &self.authority)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ConfidentialClient;
    use crate::error::Error;

    fn built() -> Result<ConfidentialClient, Error> {
        ConfidentialClientBuilder::new("client".to_owned())
            .tenant("contoso.com")
            .client_secret("s3cret")
            .build()
    }

    #[test]
    #[cfg(not(feature = "reqwest"))]
    fn without_reqwest_a_transport_is_asked_for() {
        let error = built().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().starts_with("no transport"), "{error}");
    }

    #[test]
    #[cfg(all(
        feature = "reqwest",
        not(any(feature = "ring", feature = "rustls", feature = "native-tls"))
    ))]
    fn without_tls_https_is_refused() {
        let error = built().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(
            error.to_string().contains("TLS is not compiled in"),
            "{error}"
        );
    }

    #[test]
    #[cfg(not(all(feature = "reqwest", any(feature = "ring", feature = "rustls"))))]
    fn without_rustls_a_client_certificate_is_refused_with_the_feature_to_enable() {
        let certificate = MutualTls::from_source(|| async { Err("unused".into()) });
        let error = ConfidentialClientBuilder::new("client".to_owned())
            .authority(Authority::oidc("https://id.example"))
            .tls_client_auth(certificate)
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains("'rustls'"), "{error}");
    }

    #[test]
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    fn with_the_default_features_nothing_more_is_needed() {
        built().unwrap();
    }

    #[test]
    #[cfg(all(feature = "rustls", feature = "testing"))]
    fn random_numbers_are_drawn_ahead_where_a_handshake_or_a_signature_needs_them() {
        use crate::authority::Cloud;
        use crate::crypto::random::tests::CALLS;

        let builder = || ConfidentialClientBuilder::new("client".to_owned());
        let over_https = || builder().tenant("contoso.com");
        let over_http = || {
            let cloud = Cloud::Custom("http://127.0.0.1:1".to_owned());
            builder().authority(Authority::entra(cloud, "contoso.com"))
        };
        let pem = crate::testing::self_signed_certificate("daemon").unwrap();
        let certificate = || Certificate::from_pem(&pem).unwrap();
        let signer = |_: crate::crypto::SigningAlgorithm, _: Vec<u8>| async { Err("none".into()) };
        let signed_elsewhere = Certificate::from_signer(&pem, signer).unwrap();
        let source = || async { Err("none".into()) };
        for (name, builder, draws) in [
            ("https", over_https().client_secret("s3cret"), 1),
            ("http", over_http().client_secret("s3cret"), 0),
            ("a key", over_http().certificate(certificate()), 1),
            ("a source", over_http().certificate_source(source), 1),
            ("a signer", over_http().certificate(signed_elsewhere), 0),
        ] {
            let before = CALLS.get();
            builder.build().unwrap();
            assert_eq!(CALLS.get() - before, draws, "{name}");
        }
    }
}
