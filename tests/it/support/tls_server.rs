//! A TLS server with any certificate, which counts its connections and answers nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, ServerConfig};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

/// A chain of certificates and the key of the first one.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

pub struct TlsServer {
    base: String,
    connections: Arc<AtomicUsize>,
}

impl TlsServer {
    pub async fn start(identity: Identity) -> Self {
        Self::with_client_auth(identity, Arc::new(NoClientAuth)).await
    }

    pub async fn with_client_auth(
        identity: Identity,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(identity.key);
        // The certificate is not checked here, because it is wrong on purpose.
        let identity = CertifiedKey::new(identity.chain, key.unwrap());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                });
            }
        });
        Self { base, connections }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

/// Returns the parameters of a certificate for 127.0.0.1 and `localhost`.
pub fn for_loopback() -> CertificateParams {
    CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap()
}
