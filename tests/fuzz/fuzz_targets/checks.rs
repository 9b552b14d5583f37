//! Checks for the result of every reader of certificates.

use std::error::Error as _;
use std::iter;
use std::time::{SystemTime, UNIX_EPOCH};

use confidential_client::credential::SigningAlgorithm;
use confidential_client::{Certificate, Error};

/// Password of the encrypted seeds.
pub const PASSWORD: &str = "hunter2";

/// Checks the certificate, or that no 20 characters of base64 from `private` are in the error.
pub fn check(read: Result<Certificate, Error>, private: &[Vec<u8>]) {
    match read {
        Ok(certificate) => check_certificate(&certificate),
        Err(error) => check_error(&error, private),
    }
}

pub fn check_certificate(certificate: &Certificate) {
    let text = format!("{certificate:?}");
    assert!(!has_control(&text), "{text:?}");
    assert!(!has_control(certificate.subject()), "{text}");
    for (thumbprint, length) in [
        (certificate.thumbprint_sha1(), 40),
        (certificate.thumbprint_sha256(), 64),
    ] {
        assert_eq!(thumbprint.len(), length, "{thumbprint}");
        let digit = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        assert!(thumbprint.chars().all(digit), "{thumbprint}");
    }
    assert!(certificate.not_before() >= UNIX_EPOCH, "{text}");
    let expired = certificate.not_after() < SystemTime::now();
    assert_eq!(certificate.days_left() < 0, expired, "{text}");
    assert_ne!(certificate.algorithm(), SigningAlgorithm::RS256);
}

fn check_error(error: &Error, private: &[Vec<u8>]) {
    assert!(
        matches!(error, Error::Credential(_) | Error::Config(_)),
        "{error:?}"
    );
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let texts = iter::once(error.to_string())
        .chain([format!("{error:?}")])
        .chain(causes.map(|cause| format!("{cause} {cause:?}")));
    for text in texts {
        assert!(!has_control(&text), "{text:?}");
        for run in text.as_bytes().windows(20) {
            let holds = |private: &Vec<u8>| private.windows(run.len()).any(|part| part == run);
            // An error shows a binary name in hexadecimal, which the fuzzer copies into keys.
            let is_name = run.iter().all(u8::is_ascii_hexdigit);
            let leaks = !is_name && run.iter().all(is_base64) && private.iter().any(holds);
            assert!(!leaks, "{text}");
        }
    }
    assert!(!error.is_transient() && error.status().is_none());
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

pub fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(byte)
}
