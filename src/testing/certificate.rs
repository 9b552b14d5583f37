use std::time::{Duration, SystemTime};

use der::DateTime;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

use crate::error::{Error, Failure};

/// Generates a self-signed certificate and its private key as one PEM.
///
/// Pass the PEM to [`Certificate::from_pem`](crate::Certificate::from_pem). The key is an RSA key
/// of 2048 bits in PKCS#8. Generating the key takes a good part of a second of computing.
///
/// # Errors
///
/// [`Error::Credential`] if the key or the certificate cannot be generated.
pub fn self_signed_certificate(common_name: &str) -> Result<String, Error> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
    let key = key.map_err(cannot_generate)?;
    let params =
        with_name_and_validity(CertificateParams::default(), common_name, SystemTime::now());
    let certificate = params.self_signed(&key).map_err(cannot_generate)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// Sets the common name and a validity of one year, from the day before `now`.
///
/// Some verifiers reject a longer validity.
pub(crate) fn with_name_and_validity(
    mut params: CertificateParams,
    common_name: &str,
    now: SystemTime,
) -> CertificateParams {
    let date = |time| {
        let date = DateTime::from_system_time(time).ok()?;
        Some(date_time_ymd(date.year().into(), date.month(), date.day()))
    };
    if let (Some(yesterday), Some(next_year)) = (date(now - DAY), date(now + 365 * DAY)) {
        params.not_before = yesterday;
        params.not_after = next_year;
    }
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

pub(crate) fn cannot_generate(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Credential(
        Failure::new("the test certificate cannot be generated")
            .source(Box::new(error))
            .into(),
    )
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
