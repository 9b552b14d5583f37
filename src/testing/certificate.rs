use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

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
    let failed = |error: rcgen::Error| {
        let failure = Failure::new("no certificate could be made for the test");
        Error::Credential(failure.source(Box::new(error)).into())
    };
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}
