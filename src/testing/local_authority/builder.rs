use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::LocalAuthority;
use crate::authority::address::parse_host_url;
use crate::error::{Error, Failure};
use crate::testing::http::connection::{ClientConnection, Connections};
use crate::testing::http::server;
use crate::testing::http::tls::{LocalTls, ServerTls};
use crate::testing::provider::{IdentityProvider, MutualTlsListener};
use crate::testing::provider_rules::ProviderRules;
use crate::testing::token::sessions::Sessions;
use crate::testing::token::signing_key::TokenSigningKey;
use crate::time::{Clock, TimeSource};

/// A builder for a [`LocalAuthority`] with a clock, an address, TLS or strict rotation.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LocalAuthorityBuilder {
    /// The default is 127.0.0.1.
    address: Option<IpAddr>,
    port: u16,
    host: Option<String>,
    tls: bool,
    mutual_tls: bool,
    strict_rotation: bool,
    rules: ProviderRules,
    clock: TimeSource,
}

impl LocalAuthorityBuilder {
    /// Sets the port. The default is a free port.
    ///
    /// After a `LocalAuthority` is dropped, the runtime frees the port with a short delay.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the address to listen on. The default is 127.0.0.1.
    ///
    /// `0.0.0.0` listens on all addresses of the machine, for clients in other containers. Everyone
    /// who reaches the address can then get tokens that this authority's keys sign. The clients use
    /// the name or the address of [`host`](Self::host).
    pub fn bind(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets the host in the URLs and in the issuer, such as the name of a container.
    ///
    /// The default is the address of [`bind`](Self::bind), or loopback if that is `0.0.0.0`. With
    /// [`tls`](Self::tls), the certificate contains the host.
    ///
    /// Without TLS, the clients use http. [`LocalAuthority::authority`] then returns an authority
    /// that allows http. A client in another container builds the authority itself and calls
    /// [`allow_insecure_http`](crate::Authority::allow_insecure_http).
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// use confidential_client::testing::LocalAuthority;
    /// use confidential_client::{Authority, Cloud, ConfidentialClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // In the container `identity`:
    /// let local = LocalAuthority::builder()
    ///     .bind(Ipv4Addr::UNSPECIFIED)
    ///     .host("identity")
    ///     .start()
    ///     .await?;
    /// assert!(local.base_url().starts_with("http://identity:"));
    ///
    /// // In another container of the network:
    /// let identity = Cloud::Custom("http://identity:8080".to_owned());
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::entra(identity, "contoso.com").allow_insecure_http())
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the clock of the server. The default is the machine's clock.
    ///
    /// The times in tokens, the expiry of tokens, codes, assertions and certificates, and the
    /// `Date` header follow this clock. With [`tls`](Self::tls), the server's certificate is valid
    /// for one year from the day before the start by this clock. The client's TLS uses the
    /// machine's clock, so a clock that is two years slow gives an expired certificate.
    ///
    /// A [`ManualClock`](crate::testing::ManualClock) for the authority and for the client tests
    /// expiry over HTTP:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::testing::{Application, LocalAuthority, ManualClock};
    /// use confidential_client::{ConfidentialClient, TokenSource};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = ManualClock::new();
    /// let local = LocalAuthority::builder().clock(clock.clone()).start().await?;
    /// local.register("contoso.com", Application::new("client").secret("the secret's value"));
    /// let client = ConfidentialClient::builder("client")
    ///     .authority(local.authority("contoso.com"))
    ///     .client_secret("the secret's value")
    ///     .clock(clock.clone())
    ///     .build()?;
    ///
    /// let first = client.acquire_token_for_client("api://orders/.default").await?;
    /// clock.advance(Duration::from_secs(2 * 3600));
    /// let second = client.acquire_token_for_client("api://orders/.default").await?;
    /// assert_eq!(second.source(), TokenSource::IdentityProvider);
    /// let between = second.expires_on().duration_since(first.expires_on())?;
    /// assert_eq!(between.as_secs(), 2 * 3600);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Serves https, with a certificate for 127.0.0.1, `localhost`, and the address and the host of
    /// this builder.
    ///
    /// A new CA issues the certificate; see [`LocalAuthority::ca_pem`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Requests client certificates on a second port, and serves https as [`tls`](Self::tls) does.
    ///
    /// The metadata of each tenant name the second port in `mtls_endpoint_aliases` ([RFC 8705
    /// section 5]), so a client of [`Authority::oidc`](crate::Authority::oidc) with the
    /// [`issuer`](LocalAuthority::issuer) of the tenant uses the port. A client without a
    /// certificate can use the port, too.
    ///
    /// - An application is registered with
    ///   [`tls_client_auth`](crate::testing::Application::tls_client_auth) or
    ///   [`self_signed_tls_client_auth`](crate::testing::Application::self_signed_tls_client_auth).
    /// - For Entra's preview, the first port requests certificates under a name that begins with
    ///   `mtlsauth.`, if the [`host`](Self::host) begins with `login.`.
    /// - Every token of a connection with a certificate is bound to the certificate (`cnf`).
    /// - A [`protected_api`](LocalAuthority::protected_api) uses https, too, and accepts bound
    ///   tokens only over connections with the same certificate.
    ///
    /// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    pub fn mutual_tls(mut self) -> Self {
        self.mutual_tls = true;
        self.tls()
    }

    /// Accepts each refresh token only once, as strict providers do.
    ///
    /// If a refresh token is used again, all refresh tokens of that sign-in are rejected with
    /// 70008. Without this setting, a refresh token can be used repeatedly, as with Entra.
    pub fn strict_rotation(mut self) -> Self {
        self.strict_rotation = true;
        self
    }

    /// Sets the rules of the authority. The default is those of Microsoft Entra ID.
    pub fn rules(mut self, rules: ProviderRules) -> Self {
        self.rules = rules;
        self
    }

    /// Generates the signing key and starts the server.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the server cannot listen on the address and port, or if the host is
    /// not valid.
    pub async fn start(self) -> Result<LocalAuthority, Error> {
        let asked = SocketAddr::new(self.address(), self.port);
        let cannot_listen = |error| cannot_listen(asked, error);
        let host = self.public_host()?;
        let tls = match self.tls {
            true => Some(LocalTls::generate(self.clock.wall(), &self.names(&host))?),
            false => None,
        };
        let listener = TcpListener::bind(asked).await.map_err(cannot_listen)?;
        let port = listener.local_addr().map_err(cannot_listen)?.port();
        let (mutual_tls, listener_with_certificates) = match &tls {
            Some(tls) if self.mutual_tls => {
                let asked = SocketAddr::new(self.address(), 0);
                let listener = TcpListener::bind(asked).await.map_err(cannot_listen)?;
                let port = listener.local_addr().map_err(cannot_listen)?.port();
                let of = MutualTlsListener {
                    base: format!("https://{host}:{port}"),
                    acceptor: tls.mutual_tls_acceptor.clone(),
                };
                let acceptor = ServerTls::from(tls.mutual_tls_acceptor.clone());
                (Some(of), Some((listener, acceptor)))
            }
            _ => (None, None),
        };
        let requests_certificates = self.mutual_tls;
        let (ca_pem, acceptor) = tls
            .map(|tls| {
                let acceptor = ServerTls::from(tls.acceptor);
                let acceptor = match requests_certificates {
                    true => acceptor.with_mtlsauth(tls.mutual_tls_acceptor),
                    false => acceptor,
                };
                (tls.ca_pem, acceptor)
            })
            .unzip();
        let scheme = if self.tls { "https" } else { "http" };
        let provider = IdentityProvider::new(
            format!("{scheme}://{host}:{port}"),
            self.rules,
            self.clock,
            TokenSigningKey::generate()?,
            Sessions::new(self.strict_rotation),
        );
        let provider = Arc::new(provider.with_mutual_tls(mutual_tls));
        let (stop, stopped) = watch::channel(());
        let listeners = [(listener, acceptor)].into_iter();
        let with_certificates =
            listener_with_certificates.map(|(listener, acceptor)| (listener, Some(acceptor)));
        for (listener, acceptor) in listeners.chain(with_certificates) {
            let connections = Connections::start(listener, acceptor).map_err(cannot_listen)?;
            let router = server::router(Arc::clone(&provider));
            let mut stopped = stopped.clone();
            let serve = axum::serve(
                connections,
                router.into_make_service_with_connect_info::<ClientConnection>(),
            )
            .with_graceful_shutdown(async move {
                // The sender is never used. Dropping it ends the wait with an error.
                let _ = stopped.changed().await;
            });
            tokio::spawn(serve.into_future());
        }
        tracing::warn!(
            base = provider.base,
            "a LocalAuthority has started; use it for tests only"
        );
        Ok(LocalAuthority {
            provider,
            ca_pem,
            _stop: stop,
        })
    }

    fn address(&self) -> IpAddr {
        self.address.unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Returns the host of the URLs. An IPv6 address has brackets.
    fn public_host(&self) -> Result<String, Error> {
        let Some(host) = &self.host else {
            return Ok(match self.address() {
                IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
                IpAddr::V6(address) if address.is_unspecified() => {
                    format!("[{}]", Ipv6Addr::LOCALHOST)
                }
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            });
        };
        let url = parse_host_url("the host of the LocalAuthority", &format!("https://{host}"))?;
        match url.host_str() {
            Some(parsed) if url.port().is_none() => Ok(parsed.to_owned()),
            _ => Err(Error::config(format!(
                "the host {host:?} of the LocalAuthority has a port; set the port with port(..)"
            ))),
        }
    }

    /// Returns the names of the TLS certificate beside the loopback names.
    fn names(&self, host: &str) -> Vec<String> {
        let mut names = vec![host.trim_matches(['[', ']']).to_owned()];
        if !self.address().is_unspecified() {
            names.push(self.address().to_string());
        }
        names
    }
}

fn cannot_listen(asked: SocketAddr, error: io::Error) -> Error {
    let address = asked.ip();
    let message = match asked.port() {
        0 => format!("cannot listen on a free port of {address}"),
        port => format!("cannot listen on port {port} of {address}; choose another port"),
    };
    Error::Config(Failure::new(message).source(Box::new(error)).into())
}
