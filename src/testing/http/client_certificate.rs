use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::certificate::Certificate;
use crate::crypto::SigningAlgorithm;

/// The certificate that a client presented on a TLS connection, with its chain.
///
/// The handshake proved that the client has the private key, and nothing more.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate {
    chain: Arc<[CertificateDer<'static>]>,
}

impl ClientCertificate {
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let chain: Arc<[_]> = chain.iter().map(|one| one.clone().into_owned()).collect();
        (!chain.is_empty()).then_some(Self { chain })
    }

    /// Returns the SHA-256 thumbprint of the certificate's DER.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        let leaf = self.chain.first().map_or(&[][..], |leaf| leaf);
        Sha256::digest(leaf).into()
    }

    /// Returns the thumbprint as in `cnf` ([RFC 8705 section 3.1]).
    ///
    /// [RFC 8705 section 3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
    pub(crate) fn x5t_s256(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.sha256())
    }

    /// Returns the distinguished name of the subject, such as `CN=daemon`.
    pub(crate) fn subject(&self) -> Option<String> {
        let leaf = self.chain.first()?;
        let no_key = |_: SigningAlgorithm, _: Vec<u8>| async { Err("no key".into()) };
        let certificate = Certificate::from_signer(leaf, no_key).ok()?;
        Some(certificate.subject().to_owned())
    }

    /// Returns whether the subject alternative names have the DNS name.
    pub(crate) fn has_dns_name(&self, name: &str) -> bool {
        let parsed = self.chain.first().map(ParsedCertificate::try_from);
        match (parsed, ServerName::try_from(name)) {
            (Some(Ok(parsed)), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            _ => false,
        }
    }

    /// Returns whether a CA of the PEM issued the certificate, and whether the chain is valid now.
    pub(crate) fn is_issued_by(&self, ca_pem: &str, now: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(ca_pem.as_bytes()).flatten() {
            let _ = roots.add(root);
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since.unwrap_or_default());
        match (verifier, self.chain.split_first()) {
            (Ok(verifier), Some((leaf, rest))) => {
                verifier.verify_client_cert(leaf, rest, now).is_ok()
            }
            _ => false,
        }
    }
}

/// A verifier that accepts every client certificate, and clients without one.
///
/// The client proves that it has the private key. The registration of the application decides later
/// which certificate is accepted, and the response says why.
#[derive(Debug)]
pub(super) struct AnyClientCertificate(Arc<CryptoProvider>);

impl Default for AnyClientCertificate {
    fn default() -> Self {
        Self(provider())
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
