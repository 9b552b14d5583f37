use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use x509_cert::der::DateTime;

use crate::error::{Error, Failure};

/// A fresh self-signed certificate (RSA, 2048 bits) and its private key (PKCS#8) in one PEM: what
/// a test gives to [`Certificate::from_pem`](crate::Certificate::from_pem).
///
/// Makes a key, which takes a good part of a second of computing.
///
/// # Errors
///
/// [`Error::Credential`] should the machine not come up with a key.
pub fn self_signed_certificate(common_name: &str) -> Result<String, Error> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let params = named(CertificateParams::default(), common_name);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// TLS for 127.0.0.1 and `localhost`, with a certificate by a CA made on the spot.
pub(crate) struct LocalTls {
    pub(crate) ca_pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

impl LocalTls {
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut ca = named(CertificateParams::default(), "LocalAuthority CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate().map_err(failed)?;
        let ca = CertifiedIssuer::self_signed(ca, ca_key).map_err(failed)?;

        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let mut server = CertificateParams::new(names).map_err(failed)?;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = named(server, "LocalAuthority")
            .signed_by(&key, &ca)
            .map_err(failed)?;

        // The provider is named: a process-wide default may be missing, or another's.
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .map_err(failed)?;
        Ok(Self {
            ca_pem: ca.as_ref().pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }
}

/// Valid from yesterday on and for a year: some verifiers refuse what is valid for longer.
fn named(mut params: CertificateParams, common_name: &str) -> CertificateParams {
    let date = |time| {
        let date = DateTime::from_system_time(time).ok()?;
        Some(date_time_ymd(date.year().into(), date.month(), date.day()))
    };
    let now = SystemTime::now();
    if let (Some(yesterday), Some(next_year)) = (date(now - DAY), date(now + 365 * DAY)) {
        params.not_before = yesterday;
        params.not_after = next_year;
    }
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Credential(
        Failure::new("no certificate could be made for the test")
            .source(Box::new(error))
            .into(),
    )
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
