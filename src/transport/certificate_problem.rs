use std::time::{Duration, SystemTime};

use rustls::CertificateError;
use rustls::pki_types::UnixTime;

/// Returns the reason why a server's certificate is not accepted, and what to do.
///
/// `trust` says how to trust a further CA.
pub(super) fn certificate_problem(error: &CertificateError, trust: &str) -> String {
    #[allow(deprecated, reason = "older verifiers return the variants without details")]
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate, or a CA certificate above it, expired on {}, and this machine's clock says {}; renew the certificate on the server, or set the clock",
            date(*not_after),
            date(*time)
        ),
        CertificateError::Expired => "the certificate, or a CA certificate above it, is expired; renew the certificate on the server, or set this machine's clock".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate, or a CA certificate above it, is not valid before {}, and this machine's clock says {}; set the clock, or replace the certificate",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidYet => "the certificate, or a CA certificate above it, is not valid yet; set this machine's clock, or replace the certificate".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<_> = presented.iter().map(|name| shown_name(name)).collect();
            match names.is_empty() {
                true => format!(
                    "the certificate has no subject alternative name, and a common name alone does not count; issue a certificate for '{}'",
                    expected.to_str()
                ),
                false => format!(
                    "the certificate is for {}, not for '{}'; use a name of the certificate in the authority's URL, or issue a certificate for that name",
                    names.join(", "),
                    expected.to_str()
                ),
            }
        }
        CertificateError::NotValidForName => {
            "the certificate is for another name; use a name of the certificate in the authority's URL".to_owned()
        }
        CertificateError::UnknownIssuer => format!(
            "no trusted CA issued the certificate, because it is self-signed, a private CA issued it, or the server does not send an intermediate certificate; if a private CA issued it, {trust}; if an intermediate certificate is missing, configure the server to send the whole chain"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            NO_SERVER_USAGE.to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithm => weak_signature(None),
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id,
            ..
        }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            ..
        } => weak_signature(Some(signature_algorithm_id)),
        CertificateError::BadSignature => format!(
            "a signature in the certificate's chain is wrong, because a trusted CA of the same name has another key, such as a private CA or a self-signed certificate that was recreated; {trust}"
        ),
        CertificateError::Revoked => "the certificate is revoked; replace the certificate on the server".to_owned(),
        CertificateError::BadEncoding => "the certificate is not valid X.509; replace the certificate on the server".to_owned(),
        CertificateError::Other(other) => match other.0.to_string().as_str() {
            "CaUsedAsEndEntity" => "the certificate is a CA certificate, or is self-signed as one (CA:TRUE), which is no server certificate even if it is trusted; issue a certificate for the server (CA:FALSE)".to_owned(),
            "EndEntityUsedAsCa" => "the certificate was issued by a certificate that is not a CA certificate; issue a certificate by a CA".to_owned(),
            "UnsupportedCertVersion" => "the certificate is an X.509 certificate of version 1; issue a certificate of version 3, with a subject alternative name".to_owned(),
            // The platform's verifier replaces the error about the purpose.
            "certificate had invalid extensions" => NO_SERVER_USAGE.to_owned(),
            _ => OTHER_PROBLEM.to_owned(),
        },
        _ => OTHER_PROBLEM.to_owned(),
    }
}

/// Returns a time as the date of an HTTP header.
fn date(time: UnixTime) -> String {
    // A later year than 9999 cannot be written as an HTTP date.
    let seconds = time.as_secs().min(LAST_HTTP_DATE);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns `'name'` for `DnsName("name")` and `IpAddress(name)`.
fn shown_name(name: &str) -> String {
    let inside = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    format!("'{}'", inside.unwrap_or(name).trim_matches('"'))
}

fn weak_signature(algorithm: Option<&Vec<u8>>) -> String {
    let contains =
        |oid: &[u8]| algorithm.is_some_and(|id| id.windows(oid.len()).any(|window| window == oid));
    let name = match () {
        () if contains(SHA1_WITH_RSA) || contains(ECDSA_WITH_SHA1) => {
            "with SHA-1, which is not secure"
        }
        () if contains(MD5_WITH_RSA) => "with MD5, which is not secure",
        () => "by an algorithm that is not accepted",
    };
    format!(
        "the certificate, or a CA certificate above it, is signed {name}; issue a certificate that is signed with SHA-256"
    )
}

const NO_SERVER_USAGE: &str = "the certificate's extended key usage does not name servers (serverAuth), as in a certificate for clients or for signing; issue a certificate for servers";
const OTHER_PROBLEM: &str = "the certificate or its chain breaks a rule of X.509";
/// 1.2.840.113549.1.1.5, 1.2.840.113549.1.1.4 and 1.2.840.10045.4.1 in DER.
const SHA1_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
const MD5_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
const ECDSA_WITH_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
const LAST_HTTP_DATE: u64 = 253_402_300_799;
