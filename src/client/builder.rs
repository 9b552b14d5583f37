use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::proofs::Proofs;
use super::{ConfidentialClient, TokenFetcher, fapi2};
use crate::authority::{Authority, Cloud, Rules};
use crate::cache::{CacheOptions, SharedCache, SharedCacheOptions};
use crate::certificate::Certificate;
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{
    ClientAssertionProvider, CredentialConfig, CredentialSource, CredentialStore, DpopKey,
    ProviderSettings, Rotating,
};
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::identity_binding::IdentityBindingProxy;
use crate::metrics::{Acquisition, Observer};
use crate::request::claims::Capabilities;
use crate::response::ASSUMED_LIFETIME;
use crate::retry::{RetryBudget, RetryPolicy};
use crate::secret::Secret;
use crate::shared_cache::SharedLevel;
use crate::time::{Clock, TimeSource};
use crate::transport::{MutualTls, TokenTransport, Transport, TransportConfig, zero_timeout};

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

    /// Sets whether the identity provider may treat a second use of a refresh token as theft, as
    /// providers that rotate refresh tokens do ([RFC 9700 section 4.14.2]).
    ///
    /// A request with a refresh token is sent once, and [`RetryPolicy`] does not apply. After a
    /// timeout, a lost connection, 408, 425, 429, 5xx, or a success that cannot be read, the
    /// refresh token is *in doubt*, because the provider may have redeemed the refresh token. The
    /// refresh token is also in doubt after the request's task was dropped. A connection that could
    /// not be opened, a redirect, and any other 4xx leave no doubt.
    ///
    /// | authority | default | a refresh token in doubt |
    /// |---|---|---|
    /// | [`entra`](Authority::entra), [`external_id`](Authority::external_id) | `false` | is sent again with the next request |
    /// | [`b2c`](Authority::b2c) | `false` | is sent again with the next request |
    /// | [`adfs`](Authority::adfs) | `false` | is sent again with the next request |
    /// | [`oidc`](Authority::oidc) | `true` | is not sent again, and the user signs in again |
    /// | [`oidc`](Authority::oidc) with [`fapi2`](Authority::fapi2) | `false` | is sent again with the next request |
    ///
    /// Where the user has to sign in again, the client returns cached access tokens until they
    /// expire, and then [`Error::InteractionRequired`]. An on-behalf-of request falls back to the
    /// user assertion, which is valid more than once. An authorization code in doubt is never sent
    /// again.
    ///
    /// [RFC 9700 section 4.14.2]: https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2
    pub fn refresh_token_rotation(mut self, rotates: bool) -> Self {
        self.refresh_token_rotation = Some(rotates);
        self
    }

    /// Adds audiences that an ID token may have besides the client ID. The default is none.
    ///
    /// A sign-in rejects an ID token with any other audience ([OpenID Connect Core section
    /// 3.1.3.7]). Some providers add all clients of a project.
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub fn id_token_audiences<A: Into<String>>(
        mut self,
        audiences: impl IntoIterator<Item = A>,
    ) -> Self {
        let audiences = audiences.into_iter().map(Into::into);
        self.id_token_audiences.extend(audiences);
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
    pub fn client_assertion(mut self, provider: impl ClientAssertionProvider) -> Self {
        self.credentials
            .push(CredentialConfig::Assertion(Arc::new(provider)));
        self
    }

    /// Authenticates with the client certificate of the connection, issued by a CA, whose subject
    /// is registered with the OpenID provider ([RFC 8705 section 2.1]).
    ///
    /// The argument is a [`Certificate`](crate::Certificate), a
    /// [`CertificateFile`](crate::credential::CertificateFile) or a [`MutualTls`]. Set private CAs
    /// and a proxy on the `MutualTls`. The token request contains the client ID, and neither a
    /// secret nor an assertion. The request goes to the provider's alias for mutual TLS if the
    /// metadata has one ([RFC 8705 section 5]). Requests for metadata and keys carry no
    /// certificate.
    ///
    /// The client's tokens count as bound to the certificate ([RFC 8705 section 3]). Call the API
    /// with the HTTP client of [`MutualTls::client_for`].
    ///
    /// Needs the feature `rustls` or `ring`, and an authority of [`Authority::oidc`]. A custom
    /// transport is an error of [`build`](Self::build), because the client cannot know which
    /// certificate its connections carry.
    ///
    /// ```
    /// use confidential_client::{Authority, Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .tls_client_auth(Certificate::from_pem(pem)?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 8705 section 2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    /// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    #[doc(alias = "mTLS")]
    pub fn tls_client_auth(self, certificate: impl Into<MutualTls>) -> Self {
        self.authenticate_by_tls(certificate.into(), TokenEndpointAuthMethod::TlsClientAuth)
    }

    /// Authenticates with the client certificate of the connection, which is registered with the
    /// OpenID provider itself, such as by a JWK Set ([RFC 8705 section 2.2]).
    ///
    /// No CA is needed. Everything else is as for [`tls_client_auth`](Self::tls_client_auth).
    ///
    /// [RFC 8705 section 2.2]: https://www.rfc-editor.org/rfc/rfc8705#section-2.2
    #[doc(alias = "mTLS")]
    pub fn self_signed_tls_client_auth(self, certificate: impl Into<MutualTls>) -> Self {
        let method = TokenEndpointAuthMethod::SelfSignedTlsClientAuth;
        self.authenticate_by_tls(certificate.into(), method)
    }

    /// Binds the client's tokens to the client certificate of the connection, whatever the client
    /// authenticates with ([RFC 8705 section 3]).
    ///
    /// For a client with a secret or an assertion. Token requests go over connections with the
    /// certificate, and to the provider's alias for mutual TLS. A provider whose metadata does not
    /// announce certificate-bound tokens is an error of the token request. Everything else is as
    /// for [`tls_client_auth`](Self::tls_client_auth), which binds tokens itself.
    ///
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    #[doc(alias = "mTLS")]
    #[doc(alias = "sender-constrained")]
    pub fn certificate_bound_tokens(mut self, certificate: impl Into<MutualTls>) -> Self {
        self.mutual_tls
            .push((certificate.into(), CertificateUse::Binding));
        self
    }

    /// Acquires certificate-bound tokens of Microsoft Entra ID by the client certificate of the
    /// connection: a **preview** of Entra's, which may change or end.
    ///
    /// Entra enables single applications, most of them Microsoft's own. Other applications get the
    /// error AADSTS51000. Token requests go to `mtlsauth.microsoft.com`, or to the host of the
    /// cloud that begins with `mtlsauth.`, with `token_type=mtls_pop` and without an assertion. The
    /// authority is [`Authority::entra`] with one tenant.
    ///
    /// The tokens have the scheme [`MtlsPop`](crate::TokenScheme::MtlsPop). Call the API with the
    /// HTTP client of [`MutualTls::client_for`]. Everything else is as for
    /// [`tls_client_auth`](Self::tls_client_auth).
    ///
    /// ```
    /// use confidential_client::{Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .entra_mtls_pop_preview(Certificate::from_pem(pem)?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "mtls_pop")]
    #[doc(alias = "WithMtlsProofOfPossession")]
    pub fn entra_mtls_pop_preview(mut self, certificate: impl Into<MutualTls>) -> Self {
        let mutual_tls = certificate.into();
        let method = TokenEndpointAuthMethod::TlsClientAuth;
        let credential = CredentialConfig::Tls(mutual_tls.tls_certificate().clone(), method);
        self.credentials.push(credential);
        self.mutual_tls
            .push((mutual_tls, CertificateUse::EntraPreview));
        self
    }

    fn authenticate_by_tls(
        mut self,
        mutual_tls: MutualTls,
        method: TokenEndpointAuthMethod,
    ) -> Self {
        let certificate = mutual_tls.tls_certificate().clone();
        self.credentials
            .push(CredentialConfig::Tls(certificate, method));
        self.mutual_tls
            .push((mutual_tls, CertificateUse::Authentication(method)));
        self
    }

    /// Binds every token of the client to a proof key (DPoP, [RFC 9449]).
    ///
    /// A stolen bearer token works for everyone. A bound token works only together with a *proof*,
    /// a short signed text that names the method and the URI of one request.
    ///
    /// - Every token request carries a proof, and the client discards a token that is not bound.
    /// - Every request to an API needs a proof of its own. The adapters and
    ///   [`TokenProvider::authorize`](crate::TokenProvider::authorize) make it. The `Authorization`
    ///   header alone is not enough.
    /// - Nonces of servers are remembered by origin, for 100 origins, from every response that the
    ///   client or an adapter sees. A request that is rejected for its nonce is repeated once.
    /// - If a server rejects a proof and its `Date` differs from this machine's clock, the next
    ///   proofs to that origin have the server's time, up to a day of difference.
    ///
    /// ```
    /// use confidential_client::credential::DpopKey;
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .client_secret("the secret's value")
    ///     .dpop(DpopKey::generate()?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The provider must be an OpenID provider ([`Authority::oidc`]). Microsoft Entra ID, AD FS and
    /// Azure AD B2C issue no such tokens. [`ManagedIdentityClient`] and [`CredentialChainClient`]
    /// have no proof key, and return bearer tokens. Refresh tokens are bound to the client's
    /// credential and not to the proof key ([RFC 9449 section 5]), so another process with another
    /// key may redeem them.
    ///
    /// [`CredentialChainClient`]: crate::CredentialChainClient
    /// [`ManagedIdentityClient`]: crate::ManagedIdentityClient
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
    /// [RFC 9449 section 5]: https://www.rfc-editor.org/rfc/rfc9449#section-5
    #[doc(alias("proof-of-possession", "sender-constrained"))]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.proof_key = Some(key);
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

    /// Checks all settings, and builds the client.
    ///
    /// Does no network I/O, and does not read credential sources. Whether the identity provider
    /// accepts the credential is known after the first token request.
    ///
    /// aws-lc collects entropy for some 30 milliseconds, once per process, before the first TLS
    /// handshake or signature. `build()` starts this work on a short thread of its own. A program
    /// that builds its client 30 milliseconds before its first token does not wait. A client that
    /// uses http and a secret starts no such thread, and neither does a program without aws-lc
    /// (feature `ring`).
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: an empty client ID; no tenant, or two that differ; a tenant that is
    ///   neither ID nor domain; an authority that is not https (loopback addresses excepted); a URL
    ///   given to [`Authority::parse`] that is no authority; no credential, or two; an empty
    ///   secret, or one with white space around it; no transport, or https without TLS compiled in;
    ///   a proxy variable that is no proxy; a machine without CA certificates; a proof key for an
    ///   authority of Microsoft's, or a generated one with a shared cache. The message says what to
    ///   do.
    /// - [`Error::Credential`]: a certificate outside its validity, with an algorithm that does not
    ///   fit its key, or with another key than RSA for Microsoft Entra ID.
    pub fn build(self) -> Result<ConfidentialClient, Error> {
        check_client_id(&self.client_id)?;
        let authority = authority(self.tenant, self.authority)?;
        let mut endpoints = Endpoints::of(&authority)?;
        self.cache.check()?;
        let settings = ProviderSettings {
            clock: self.clock.clone(),
        };
        let config = one_credential(self.credentials)?.prepare(&settings)?;
        self.retry.check()?;
        let now = self.clock.wall();
        let credential =
            CredentialStore::new(config, endpoints.rules(), self.retry.step_limit(), now)?;
        check_auth_method(self.auth_method, &credential)?;
        let mutual_tls = one_certificate(self.mutual_tls)?;
        if let Some((mutual_tls, usage)) = &mutual_tls {
            mutual_tls.tls_certificate().check(now)?;
            match usage {
                CertificateUse::EntraPreview => endpoints.use_mtls_pop(&authority)?,
                usage => {
                    usage.check(endpoints.rules())?;
                    endpoints.use_mutual_tls();
                }
            }
        }
        if authority.is_fapi2 {
            let mutual_tls = mutual_tls.as_ref().map(|(mutual_tls, _)| mutual_tls);
            let proof_key = self.proof_key.as_ref();
            fapi2::check_settings(&authority, &credential, mutual_tls, proof_key)?;
        }
        check_capabilities(&self.capabilities)?;
        if let Some(key) = &self.proof_key {
            check_proof_key(key, endpoints.rules(), self.shared_cache.is_some())?;
            if mutual_tls.is_some() && credential.tls_method().is_none() {
                return Err(Error::config(
                    "dpop(..) and certificate_bound_tokens(..) were called, and a token is bound to one key; leave one of the two out",
                ));
            }
        }
        if self.attempt_timeout.is_zero() {
            return Err(zero_timeout("attempt_timeout"));
        }
        if self.assumed_lifetime.is_zero() || self.assumed_lifetime > MAX_ASSUMED_LIFETIME {
            return Err(Error::config(format!(
                "assumed_token_lifetime must be greater than zero and at most 24 hours, but is {:?}",
                self.assumed_lifetime
            )));
        }
        #[cfg(feature = "aws-lc-rs")]
        if credential.signs() {
            crate::crypto::random::draw_ahead();
        }
        let (mutual_tls, config) = match mutual_tls {
            Some((mutual_tls, _)) => {
                let origin = endpoints.token_origin();
                let (transport, config) = TokenTransport::new(mutual_tls, self.transport, origin)?;
                (Some(transport), config)
            }
            None => (None, self.transport),
        };
        let transport = match self.identity_binding {
            Some(proxy) if config.is_default() => {
                Arc::new(proxy.connect_timeout(config.connect_timeout)?)
            }
            _ => config.transport(endpoints.origin())?,
        };
        let shared = match self.shared_cache {
            None => None,
            Some((store, options)) => {
                let level = SharedLevel::new(
                    store,
                    options,
                    &endpoints.identity(),
                    &self.client_id,
                    &self.capabilities,
                    self.clock.clone(),
                );
                Some(Arc::new(level?))
            }
        };
        let proofs = self.proof_key.map(|key| {
            let limit = self.retry.step_limit();
            Arc::new(Proofs::new(key, self.clock.clone(), limit))
        });
        // FAPI 2.0 section 5.3.2.1: a client may retry with the refresh token that was sent before.
        let rotates = endpoints.rules().may_rotate_refresh_tokens() && !authority.is_fapi2;
        let fetcher = TokenFetcher {
            client_id: self.client_id,
            endpoints,
            credential,
            auth_method: self.auth_method,
            capabilities: Capabilities::new(&self.capabilities),
            refresh_token_rotation: self.refresh_token_rotation.unwrap_or(rotates),
            id_token_audiences: self.id_token_audiences,
            retry: self.retry,
            budget: RetryBudget::default(),
            attempt_timeout: self.attempt_timeout,
            assumed_lifetime: self.assumed_lifetime,
            observer: self.observer,
            transport,
            mutual_tls,
            proofs,
            shared,
            clock: self.clock,
            assumed_a_lifetime: Default::default(),
        };
        Ok(ConfidentialClient::new(&self.cache, fetcher))
    }
}

fn check_client_id(client_id: &str) -> Result<(), Error> {
    if client_id.trim().is_empty() {
        return Err(Error::config(
            "the client id is empty; use the application (client) id of the app registration",
        ));
    }
    if client_id.trim() != client_id {
        return Err(Error::config(format!(
            "the client id {client_id:?} begins or ends with white space; trim it"
        )));
    }
    Ok(())
}

pub(super) fn check_capabilities(capabilities: &[String]) -> Result<(), Error> {
    match capabilities.iter().any(|name| name.trim().is_empty()) {
        true => Err(Error::config(
            "a client capability has no name; declare one such as 'cp1', or leave client_capabilities(..) out",
        )),
        false => Ok(()),
    }
}

/// Combines tenant and authority.
fn authority(tenant: Option<String>, authority: Option<Authority>) -> Result<Authority, Error> {
    match (tenant, authority) {
        (None, None) => Err(Error::config(
            "no tenant; call tenant(..) with the directory's id or domain, or authority(..)",
        )),
        (Some(tenant), None) => Ok(Authority::entra(Cloud::Public, tenant)),
        // `Endpoints::of` returns the reason.
        (Some(_), Some(authority)) if authority.is_invalid() => Ok(authority),
        (Some(tenant), Some(mut authority)) => match authority.tenant_mut() {
            // The authority was a cloud without a tenant.
            Some(named) if named.is_empty() => {
                *named = tenant;
                Ok(authority)
            }
            Some(named) if tenant.eq_ignore_ascii_case(named) => Ok(authority),
            Some(named) => Err(Error::config(format!(
                "two tenants were given, {tenant:?} by tenant(..) and {named:?} by authority(..); give one"
            ))),
            None => Err(Error::config(format!(
                "the tenant {tenant:?} cannot be used: the authority '{authority}' has no tenants; leave tenant(..) out"
            ))),
        },
        (None, Some(authority)) => Ok(authority),
    }
}

fn check_auth_method(
    method: Option<TokenEndpointAuthMethod>,
    credential: &CredentialStore,
) -> Result<(), Error> {
    let is_secret = credential.is_secret();
    match method {
        Some(method) if method.is_mutual_tls() && credential.tls_method() != Some(method) => {
            let name = method.name();
            Err(Error::config(format!(
                "{name} authenticates by the client certificate of the connection; call {name}(..) of the builder with the certificate, and leave token_endpoint_auth_method(..) out"
            )))
        }
        Some(TokenEndpointAuthMethod::PrivateKeyJwt) if credential.tls_method().is_some() => {
            Err(Error::config(
                "private_key_jwt sends an assertion and the credential is a certificate of the connection; use certificate(..) and certificate_bound_tokens(..), or leave token_endpoint_auth_method(..) out",
            ))
        }
        Some(TokenEndpointAuthMethod::PrivateKeyJwt) if is_secret => Err(Error::config(
            "private_key_jwt sends an assertion and the credential is a secret; use certificate(..) or client_assertion(..), or leave token_endpoint_auth_method(..) out",
        )),
        Some(
            TokenEndpointAuthMethod::ClientSecretPost | TokenEndpointAuthMethod::ClientSecretBasic,
        ) if !is_secret => Err(Error::config(
            "token_endpoint_auth_method(..) applies to a secret and the credential is not a secret; leave token_endpoint_auth_method(..) out",
        )),
        _ => Ok(()),
    }
}

/// The use of the client certificate of the connections.
#[derive(Clone, Copy)]
enum CertificateUse {
    Authentication(TokenEndpointAuthMethod),
    /// Another credential authenticates the client.
    Binding,
    EntraPreview,
}

impl CertificateUse {
    /// Checks that the identity provider follows RFC 8705.
    fn check(self, rules: Rules) -> Result<(), Error> {
        let name = rules.name();
        match self {
            _ if rules == Rules::OpenId => Ok(()),
            Self::Authentication(method) => Err(Error::config(format!(
                "{name} does not accept {}; use certificate(..), or Authority::oidc(..) for another provider",
                method.name()
            ))),
            Self::Binding | Self::EntraPreview => Err(Error::config(format!(
                "{name} does not bind tokens to client certificates as RFC 8705 says; leave certificate_bound_tokens(..) out, or use Authority::oidc(..) for another provider"
            ))),
        }
    }
}

/// Returns the client certificate of the connections.
fn one_certificate(
    certificates: Vec<(MutualTls, CertificateUse)>,
) -> Result<Option<(MutualTls, CertificateUse)>, Error> {
    let count = certificates.len();
    let mut certificates = certificates.into_iter();
    match certificates.next() {
        Some(_) if count > 1 => Err(Error::config(format!(
            "{count} client certificates for connections were given; a client that authenticates by the certificate of the connection has bound tokens already, so leave certificate_bound_tokens(..) out, or give one certificate"
        ))),
        certificate => Ok(certificate),
    }
}

/// Checks that the tokens of a client can be bound to its proof key.
fn check_proof_key(key: &DpopKey, rules: Rules, is_shared: bool) -> Result<(), Error> {
    if rules != Rules::OpenId {
        return Err(Error::config(format!(
            "{} issues no DPoP tokens, and dpop(..) was called; leave dpop(..) out (Microsoft Entra ID binds tokens to the certificate of mutual TLS, in a preview)",
            rules.name()
        )));
    }
    if key.is_generated() && is_shared {
        return Err(Error::config(
            "the proof key of dpop(..) was generated in this process, and shared_cache(..) was called; no other process could use a token that is bound to this key, so share a key with DpopKey::from_pem(..), or leave shared_cache(..) out",
        ));
    }
    Ok(())
}

fn one_credential(credentials: Vec<CredentialConfig>) -> Result<CredentialConfig, Error> {
    let count = credentials.len();
    let mut credentials = credentials.into_iter();
    match credentials.next() {
        Some(credential) if count == 1 => Ok(credential),
        Some(_) => Err(Error::config(format!(
            "{count} credentials were given; a client authenticates with one, so leave the others out"
        ))),
        None => Err(Error::config(
            "no credential; call client_secret(..), certificate(..) or client_assertion(..)",
        )),
    }
}

pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_ASSUMED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

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
