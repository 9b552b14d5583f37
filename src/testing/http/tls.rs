use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::client_certificate::AnyClientCertificate;
use crate::error::Error;
use crate::testing::certificate::{cannot_generate, with_name_and_validity};

/// TLS for 127.0.0.1, `localhost` and the names of the builder, with a certificate of a new CA.
pub(crate) struct LocalTls {
    pub(crate) ca_pem: String,
    pub(crate) acceptor: TlsAcceptor,
    /// Requests client certificates, and accepts every certificate.
    pub(crate) mutual_tls_acceptor: TlsAcceptor,
}

impl LocalTls {
    /// Generates the certificates, which are valid for a year from the day before `now`.
    ///
    /// `names` are further host names and addresses of the server.
    pub(crate) fn generate(now: SystemTime, names: &[String]) -> Result<Self, Error> {
        let ca = CertificateParams::default();
        let mut ca = with_name_and_validity(ca, "LocalAuthority CA", now);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate().map_err(cannot_generate)?;
        let ca = CertifiedIssuer::self_signed(ca, ca_key).map_err(cannot_generate)?;

        let mut all_names = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
        all_names.extend_from_slice(names);
        let mtlsauth = names.iter().filter_map(|name| name.strip_prefix("login."));
        all_names.extend(mtlsauth.map(|domain| format!("{MTLSAUTH}{domain}")));
        all_names.dedup();
        let mut server = CertificateParams::new(all_names).map_err(cannot_generate)?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(cannot_generate)?;
        let certificate = with_name_and_validity(server, "LocalAuthority", now)
            .signed_by(&key, &ca)
            .map_err(cannot_generate)?;

        Ok(Self {
            ca_pem: ca.as_ref().pem(),
            acceptor: acceptor(certificate.der(), &key, false)?,
            mutual_tls_acceptor: acceptor(certificate.der(), &key, true)?,
        })
    }
}

/// The TLS of one listener.
#[derive(Clone)]
pub(crate) struct ServerTls {
    acceptor: TlsAcceptor,
    /// Requests client certificates, for the host names of Entra's preview.
    for_mtlsauth: Option<TlsAcceptor>,
}

impl From<TlsAcceptor> for ServerTls {
    fn from(acceptor: TlsAcceptor) -> Self {
        Self {
            acceptor,
            for_mtlsauth: None,
        }
    }
}

impl ServerTls {
    /// Requests client certificates under host names that begin with `mtlsauth.`, as Entra does.
    pub(crate) fn with_mtlsauth(mut self, acceptor: TlsAcceptor) -> Self {
        self.for_mtlsauth = Some(acceptor);
        self
    }

    /// Opens a connection, after a look at the name that the client asks for.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = start.client_hello();
        let is_mtlsauth = hello
            .server_name()
            .is_some_and(|name| name.starts_with(MTLSAUTH));
        let acceptor = match &self.for_mtlsauth {
            Some(acceptor) if is_mtlsauth => acceptor,
            _ => &self.acceptor,
        };
        start.into_stream(Arc::clone(acceptor.config())).await
    }
}

/// A self-signed certificate for 127.0.0.1, such as the certificate of a Service Fabric cluster.
pub(crate) struct SelfSignedTls {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) acceptor: TlsAcceptor,
}

impl SelfSignedTls {
    pub(crate) fn generate(common_name: &str, now: SystemTime) -> Result<Self, Error> {
        let names = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
        let params = CertificateParams::new(names).map_err(cannot_generate)?;
        let params = with_name_and_validity(params, common_name, now);
        let key = KeyPair::generate().map_err(cannot_generate)?;
        let certificate = params.self_signed(&key).map_err(cannot_generate)?;
        Ok(Self {
            acceptor: acceptor(certificate.der(), &key, false)?,
            certificate: certificate.der().clone(),
        })
    }
}

fn acceptor(
    certificate: &CertificateDer<'static>,
    key: &KeyPair,
    requests_certificates: bool,
) -> Result<TlsAcceptor, Error> {
    // The process-wide default provider may be missing or a custom one.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(cannot_generate)?;
    let config = match requests_certificates {
        true => config.with_client_cert_verifier(Arc::new(AnyClientCertificate::default())),
        false => config.with_no_client_auth(),
    };
    let config = config
        .with_single_cert(
            vec![certificate.clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .map_err(cannot_generate)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The beginning of the host names of Entra's preview.
const MTLSAUTH: &str = "mtlsauth.";
