use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::LocalAuthority;
use crate::error::{Error, Failure};
use crate::testing::http::connection::{ConnectionCut, Connections};
use crate::testing::http::server;
use crate::testing::http::tls::LocalTls;
use crate::testing::provider::IdentityProvider;
use crate::testing::token::sessions::Sessions;
use crate::testing::token::signing_key::TokenSigningKey;

/// A builder for a [`LocalAuthority`] with a fixed port, TLS or strict rotation.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LocalAuthorityBuilder {
    port: u16,
    tls: bool,
    strict_rotation: bool,
}

impl LocalAuthorityBuilder {
    /// Sets the port. The default is a free port.
    ///
    /// After a `LocalAuthority` is dropped, the runtime frees the port with a short delay.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Serves https, with a certificate for 127.0.0.1 and `localhost`.
    ///
    /// A new CA issues the certificate; see [`LocalAuthority::ca_pem`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Accepts each refresh token only once, as strict providers do.
    ///
    /// If a refresh token is used again, all refresh tokens of that sign-in are rejected with
    /// 70008. Without this setting, a refresh token can be used repeatedly, as with Entra.
    pub fn strict_rotation(mut self) -> Self {
        self.strict_rotation = true;
        self
    }

    /// Generates the signing key and starts the server on 127.0.0.1.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the server cannot listen on the port.
    pub async fn start(self) -> Result<LocalAuthority, Error> {
        let cannot_listen = |error| cannot_listen(self.port, error);
        let tls = self.tls.then(LocalTls::generate).transpose()?;
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (ca_pem, acceptor) = tls.map(|tls| (tls.ca_pem, tls.acceptor)).unzip();
        let scheme = if self.tls { "https" } else { "http" };
        let provider = Arc::new(IdentityProvider::new(
            format!("{scheme}://{address}"),
            TokenSigningKey::generate()?,
            Sessions::new(self.strict_rotation),
        ));
        let connections = Connections::start(listener, acceptor).map_err(cannot_listen)?;
        let router = server::router(Arc::clone(&provider));
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(
            connections,
            router.into_make_service_with_connect_info::<ConnectionCut>(),
        )
        .with_graceful_shutdown(async {
            // The sender is never used. Dropping it ends the wait with an error.
            let _ = stopped.await;
        });
        tokio::spawn(serve.into_future());
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
}

fn cannot_listen(port: u16, error: io::Error) -> Error {
    let message = match port {
        0 => "cannot listen on a free port of 127.0.0.1".to_owned(),
        port => format!("cannot listen on port {port} of 127.0.0.1; choose another port"),
    };
    Error::Config(Failure::new(message).source(Box::new(error)).into())
}
