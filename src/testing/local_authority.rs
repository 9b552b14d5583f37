use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::authority::{Authority, Cloud};
use crate::error::{Error, Failure};
use crate::testing::certificate::LocalTls;
use crate::testing::directory::application::Application;
use crate::testing::directory::tenant::Directory;
use crate::testing::fault::Fault;
use crate::testing::http::connection::{ConnectionCut, Connections};
use crate::testing::http::server::{IdentityProvider, lock};
use crate::testing::protected_api::ProtectedApi;
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::sessions::Sessions;
use crate::testing::token::signing_key::TokenSigningKey;

mod sign_in;
mod users;

/// An identity provider on loopback that answers as Microsoft Entra ID does, for tests.
///
/// It runs on the tokio runtime that started it, on a port of its own, until it is dropped. Its
/// signing key, its address and its CA are new at every start. Applications are those that were
/// [registered](Self::register), and so are [users](Self::register_user), who let applications act
/// for them by [`consent`](Self::consent).
///
/// | endpoint | answers |
/// |---|---|
/// | `/{tenant}/oauth2/v2.0/token` | tokens by client credentials, authorization code, refresh token, and on behalf of a user |
/// | `/{tenant}/oauth2/v2.0/authorize` | the pages on which users sign in and consent |
/// | `/{tenant}/discovery/v2.0/keys` | the keys that verify them |
/// | `/{tenant}/v2.0/.well-known/openid-configuration` | the metadata of a tenant |
/// | `/common/discovery/instance` | which hosts are one cloud |
///
/// It verifies for real: secrets in constant time; of an assertion the signature against the
/// registered certificate, `aud`, `iss`, `sub`, `nbf` and `exp`; of a token that vouches for an
/// application the same against its
/// [federated credentials](Application::federated_credential). Refusals are Entra's, in body,
/// status and headers: 90002 (tenant), 700016 (application), 7000215 and 7000222 (secret), 7000216
/// (no credential), 700027, 700021, 700024 and 50027 (assertion), 700211, 700212, 700213 and
/// 7000274 (federated credential), 1002012 and 70011 (scope), 500011 (resource), 900144 and 70003
/// (form), 50049 (instance). In a user's name: 65001 (consent), 28000 (scopes of two resources),
/// 50034 (user), 7000218 (no credential), 9002313, 70000, 70008 and 50173 (refresh token), 54005,
/// 500112 and 501481 (authorization code, beside 9002313, 70000 and 70008), 50027, 50013, 500133,
/// 500131, 240002 and 7000114 (the token that a web API was called with). Others, and whatever else
/// can happen on a network, by [`script`](Self::script). What Entra says to an assertion of another
/// tenant, to a scope that its API does not publish and to a `plain` challenge is not known here, and
/// said in this server's own way. The text of one refusal is a single line,
/// as Entra writes it today, that of the next is broken into lines, as it was until 2023: nobody
/// should depend on either.
pub struct LocalAuthority {
    server: Arc<IdentityProvider>,
    ca_pem: Option<String>,
    /// Dropped with the authority, which ends the server.
    _stop: oneshot::Sender<()>,
}

/// How a [`LocalAuthority`] is started, where [`LocalAuthority::start`] will not do.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LocalAuthorityBuilder {
    port: u16,
    tls: bool,
    strict_rotation: bool,
}

impl LocalAuthorityBuilder {
    /// Listens on this port; on a free one where none is set. The port of an authority that was
    /// dropped is free again once the runtime has run its tasks, not at once.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Serves https, with a certificate for 127.0.0.1 and `localhost` by a CA made on the spot:
    /// see [`LocalAuthority::ca_pem`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Takes a refresh token once only, as strict providers do: when it is used again, it and all
    /// that go back to the same sign-in are refused with 70008. Entra takes one again and again.
    pub fn strict_rotation(mut self) -> Self {
        self.strict_rotation = true;
        self
    }

    /// Starts the server on 127.0.0.1 and makes its signing key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the port cannot be listened on.
    pub async fn start(self) -> Result<LocalAuthority, Error> {
        let no_port = |error: std::io::Error| {
            let message = match self.port {
                0 => "no port of 127.0.0.1 can be listened on".to_owned(),
                port => format!("port {port} of 127.0.0.1 cannot be listened on"),
            };
            Error::Config(Failure::new(message).source(Box::new(error)).into())
        };
        let tls = self.tls.then(LocalTls::generate).transpose()?;
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .await
            .map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let (ca_pem, acceptor) = tls.map(|tls| (tls.ca_pem, tls.acceptor)).unzip();
        let scheme = if self.tls { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let sessions = Sessions::new(self.strict_rotation);
        let server = Arc::new(IdentityProvider::new(
            base,
            TokenSigningKey::generate()?,
            sessions,
        ));
        let connections = Connections::start(listener, acceptor).map_err(no_port)?;
        let router = Arc::clone(&server).router();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(
            connections,
            router.into_make_service_with_connect_info::<ConnectionCut>(),
        )
        .with_graceful_shutdown(async {
            // An error says that the sender is gone, which is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(serve.into_future());
        tracing::warn!(
            base = server.base,
            "a LocalAuthority is up: it is for tests alone"
        );
        Ok(LocalAuthority {
            server,
            ca_pem,
            _stop: stop,
        })
    }
}

impl LocalAuthority {
    /// Starts the server, without TLS, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where no port can be listened on.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// For a given port, or TLS.
    pub fn builder() -> LocalAuthorityBuilder {
        LocalAuthorityBuilder::default()
    }

    /// Adds an application to a tenant, which is made if there is none of that name; an
    /// application of the same client id is replaced. The tenant is named by a domain or a GUID.
    pub fn register(&self, tenant: impl AsRef<str>, application: Application) {
        self.in_directory(tenant.as_ref(), |known| known.register(application));
    }

    /// Adds a resource to a tenant, by its application ID URI. A tenant to which none was added
    /// knows every resource; from the first on it knows those added and those that roles were
    /// granted for, and refuses the others with 500011.
    pub fn register_resource(&self, tenant: impl AsRef<str>, resource: impl AsRef<str>) {
        self.in_directory(tenant.as_ref(), |known| {
            known.register_resource(resource.as_ref());
        });
    }

    /// The authority to build a client with.
    pub fn authority(&self, tenant: impl Into<String>) -> Authority {
        Authority::entra(Cloud::Custom(self.server.base.clone()), tenant)
    }

    /// Scheme, host and port, such as `http://127.0.0.1:49152`: the start of every URL here.
    pub fn base_url(&self) -> &str {
        &self.server.base
    }

    /// The certificate of the CA that a client has to trust, as PEM; `None` without TLS.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::builder().tls().start().await?;
    /// local.register("contoso.com", Application::new("client").secret("s3cret"));
    ///
    /// let ca = local.ca_pem().expect("started with tls()");
    /// let ca = reqwest::Certificate::from_pem(ca.as_bytes())?;
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("s3cret")
    ///     .reqwest(reqwest::Client::builder().tls_certs_merge([ca]))
    ///     .build()?;
    /// client.acquire_token_for_client("api://orders/.default").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The public halves of the signing keys, as published at `/{tenant}/discovery/v2.0/keys`: a
    /// JWK Set ([RFC 7517 section 5]) as JSON.
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub fn keys(&self) -> String {
        self.server.jwks()
    }

    /// Signs with a new key from now on. The older keys stay published until
    /// [`retire_old_keys`](Self::retire_old_keys).
    ///
    /// # Errors
    ///
    /// [`Error::Credential`] should the machine not come up with a key.
    pub fn roll_key(&self) -> Result<(), Error> {
        let key = TokenSigningKey::generate()?;
        lock(&self.server.keys).push(key);
        Ok(())
    }

    /// Publishes the key that signs and no other: what older keys signed is no longer verified.
    pub fn retire_old_keys(&self) {
        let mut keys = lock(&self.server.keys);
        let old = keys.len().saturating_sub(1);
        keys.drain(..old);
    }

    /// Takes back the tokens that an application has in a tenant: a [`ProtectedApi`] no longer takes
    /// those that were issued so far, if the client declared `cp1` when it asked for them.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::adapter::BearerAuth;
    /// use confidential_client::testing::{Application, LocalAuthority};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// local.register("contoso.com", Application::new("client").secret("s3cret"));
    /// let api = local.protected_api("https://graph.microsoft.com").await?;
    ///
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("s3cret")
    ///     .client_capabilities(["cp1"])
    ///     .build()?;
    /// let provider = client.token_provider("https://graph.microsoft.com/.default")?;
    /// let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
    ///     .with(BearerAuth::new(provider, [api.base_url()])?)
    ///     .build();
    ///
    /// assert_eq!(http.get(api.base_url()).send().await?.status(), 200);
    /// local.revoke_tokens("contoso.com", "client");
    /// assert_eq!(http.get(api.base_url()).send().await?.status(), 200); // with another token
    /// assert_eq!(local.token_requests().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_tokens(&self, tenant: impl AsRef<str>, client_id: impl AsRef<str>) {
        self.server.revoke(tenant.as_ref(), client_id.as_ref());
    }

    /// Starts a web API that takes this authority's tokens for `audience`, such as
    /// `https://graph.microsoft.com`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where no port can be listened on.
    pub async fn protected_api(&self, audience: impl Into<String>) -> Result<ProtectedApi, Error> {
        ProtectedApi::start(Arc::clone(&self.server), audience.into()).await
    }

    /// The issuer (`iss`) of the tokens of a tenant, by its domain or id; `None` where nothing is
    /// registered in it.
    pub fn issuer(&self, tenant: impl AsRef<str>) -> Option<String> {
        let directories = lock(&self.server.directories);
        let directory = directories.iter().find(|known| known.is(tenant.as_ref()))?;
        Some(directory.issuer(&self.server.base))
    }

    /// What the next token requests get instead of their answers, one each, after what was
    /// scripted before.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.server.traffic).script.extend(faults);
    }

    /// What every token request gets from now on, once the script has ended, until
    /// [`end_outage`](Self::end_outage).
    pub fn begin_outage(&self, fault: Fault) {
        lock(&self.server.traffic).outage = Some(fault);
    }

    /// Answers again.
    pub fn end_outage(&self) {
        lock(&self.server.traffic).outage = None;
    }

    /// Every token request that came in, in order, those that got a fault among them.
    pub fn token_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.server.traffic).requests.clone()
    }

    /// Changes a tenant, which is made if there is none of that name.
    fn in_directory(&self, tenant: &str, change: impl FnOnce(&mut Directory)) {
        let mut directories = lock(&self.server.directories);
        match directories.iter_mut().find(|known| known.is(tenant)) {
            Some(directory) => change(directory),
            None => {
                let mut directory = Directory::new(tenant);
                change(&mut directory);
                directories.push(directory);
            }
        }
    }
}

impl Drop for LocalAuthority {
    fn drop(&mut self) {
        self.server.is_gone.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority")
            .field("base_url", &self.server.base)
            .field("token_requests", &self.token_requests().len())
            .finish_non_exhaustive()
    }
}
