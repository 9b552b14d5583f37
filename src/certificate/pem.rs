use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::crypto::PrivateKeyDer;
use crate::error::Error;

/// The certificates and the private key of a PEM text.
pub(super) struct Pem {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: PemKey,
    /// Error message for a missing certificate.
    pub(super) no_certificate: &'static str,
}

/// The private key of a PEM text.
pub(super) enum PemKey {
    /// No usable key, with the error message.
    None(&'static str),
    Plain(PrivateKeyDer),
    /// `EncryptedPrivateKeyInfo` ([RFC 5958 section 3](https://www.rfc-editor.org/rfc/rfc5958#section-3)).
    Encrypted(Vec<u8>),
}

/// Reads the certificates and at most one private key. Text around the blocks is skipped.
pub(super) fn read(text: &[u8]) -> Result<Pem, Error> {
    // Windows' editors put a byte order mark before the first line.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let labels = PemLabels(text);
    if !labels.any() {
        return Err(not_pem(text));
    }
    if labels.text("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::credential(
            "the private key is encrypted in OpenSSL's old form ('Proc-Type: 4,ENCRYPTED'); write it again with 'openssl pkcs8 -topk8 -in key.pem -out new.pem'",
        ));
    }
    let encrypted = labels.label("ENCRYPTED PRIVATE KEY");
    let normalized = normalize(text);
    let mut certificates = Vec::new();
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&normalized) {
        let (kind, der) = section.map_err(|error| unreadable(error, &labels))?;
        match kind {
            SectionKind::Certificate => certificates.push(der),
            SectionKind::PrivateKey if encrypted => keys.push(PemKey::Encrypted(der)),
            SectionKind::PrivateKey => {
                keys.push(PemKey::Plain(PrivateKeyDer::Pkcs8(Zeroizing::new(der))));
            }
            SectionKind::RsaPrivateKey => {
                keys.push(PemKey::Plain(PrivateKeyDer::Pkcs1(Zeroizing::new(der))));
            }
            SectionKind::EcPrivateKey => {
                keys.push(PemKey::Plain(PrivateKeyDer::Sec1(Zeroizing::new(der))));
            }
            _ => {}
        }
    }
    let key = match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => key,
        (Some(_), false) => PemKey::None(
            "the PEM holds two private keys; keep only the one that matches the certificate",
        ),
        (None, _) => PemKey::None(labels.missing_key()),
    };
    Ok(Pem {
        certificates,
        key,
        no_certificate: labels.missing_certificate(),
    })
}

/// Returns whether the text contains a block.
pub(super) fn is_pem(text: &[u8]) -> bool {
    PemLabels(text).any()
}

/// A search for labels in a PEM text.
struct PemLabels<'a>(&'a [u8]);

impl PemLabels<'_> {
    fn any(&self) -> bool {
        self.text("-----BEGIN ")
    }

    fn label(&self, label: &str) -> bool {
        self.text(&format!("-----BEGIN {label}-----"))
    }

    fn text(&self, text: &str) -> bool {
        self.0
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    }

    /// Returns the error message for a text without certificate.
    fn missing_certificate(&self) -> &'static str {
        if self.label("PKCS7") {
            "the PEM holds its certificates as PKCS#7; convert them with 'openssl pkcs7 -print_certs -in chain.p7b'"
        } else if self.label("CERTIFICATE REQUEST") || self.label("NEW CERTIFICATE REQUEST") {
            "the PEM holds a certificate request (CSR) and no certificate; use the certificate that was issued for the request"
        } else {
            "the PEM holds no certificate ('-----BEGIN CERTIFICATE-----'); pass certificate and private key together"
        }
    }

    /// Returns the error message for a text without private key.
    fn missing_key(&self) -> &'static str {
        if self.label("OPENSSH PRIVATE KEY") {
            "the private key is in OpenSSH's format; convert it with 'ssh-keygen -p -m PKCS8 -f key.pem'"
        } else if self.label("PUBLIC KEY") || self.label("RSA PUBLIC KEY") {
            "the PEM holds a public key where the private key is needed ('-----BEGIN PRIVATE KEY-----')"
        } else {
            "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); pass certificate and private key together"
        }
    }
}

/// Prepares a text for the PEM library.
///
/// Removes the indentation of a PEM in YAML or in a script. Gives an encrypted key the label of a
/// plain key, because the library skips unknown labels.
fn normalize(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut normalized = Zeroizing::new(Vec::with_capacity(text.len()));
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A line of white space becomes empty, which is harmless.
        let mut rest = line.trim_ascii_start();
        for boundary in [&b"-----BEGIN "[..], b"-----END "] {
            let label = rest.strip_prefix(boundary);
            let label = label.and_then(|label| label.strip_prefix(b"ENCRYPTED "));
            if let Some(label) = label.filter(|label| label.starts_with(b"PRIVATE KEY-----")) {
                normalized.extend_from_slice(boundary);
                rest = label;
            }
        }
        normalized.extend_from_slice(rest);
    }
    normalized
}

/// Returns the error for a text without `-----BEGIN`, with the likely format of the text.
fn not_pem(text: &[u8]) -> Error {
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return Error::credential("the PEM is empty; was its file or variable written?");
    }
    if text.contains(&0) && !is_der(text) {
        return Error::credential(
            "the PEM is not UTF-8 but probably UTF-16, which Windows PowerShell writes; save it as UTF-8",
        );
    }
    if is_der(text) {
        return Error::credential(
            "this is a binary file and not PEM: for PKCS#12 ('.pfx', '.p12') use from_pkcs12 (feature 'pkcs12'), for DER from_der",
        );
    }
    let base64: Vec<u8> = trimmed
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if let Ok(decoded) = BASE64_STANDARD.decode(Zeroizing::new(base64))
        && is_der(&Zeroizing::new(decoded))
    {
        return Error::credential(
            "this is the base64 of a binary file and not PEM, probably PKCS#12 from a key vault; decode the base64 and use from_pkcs12 (feature 'pkcs12')",
        );
    }
    Error::credential(
        "this is not PEM: it contains no '-----BEGIN CERTIFICATE-----' and has no known format",
    )
}

/// Returns the error for a broken PEM.
///
/// The library's error is dropped, because the error may quote a line of the private key.
fn unreadable(error: pem::Error, labels: &PemLabels<'_>) -> Error {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } if !labels.text("-----END ") => {
            "a '-----BEGIN' line has no matching '-----END'; was the file cut off?"
        }
        pem::Error::Base64Decode(_) => "the text between BEGIN and END is not base64",
        _ => {
            "the lines '-----BEGIN' and '-----END' do not match; was the file cut off, or are its line breaks missing or written as '\\n'?"
        }
    };
    Error::credential(format!("the PEM cannot be read: {why}"))
}

/// Returns whether the content begins like DER of more than 127 bytes. Shorter DER would look like
/// a text that begins with `0`.
pub(super) fn is_der(content: &[u8]) -> bool {
    matches!(content, [0x30, 0x80..=0x84, ..])
}
