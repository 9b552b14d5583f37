use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::crypto::PrivateKeyDer;
use crate::error::Error;

/// What a PEM text holds that a client assertion needs.
pub(super) struct Pem {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: PemKey,
    /// What to say should the certificate be missing.
    pub(super) no_certificate: &'static str,
}

pub(super) enum PemKey {
    /// And what to say of it.
    None(&'static str),
    Plain(PrivateKeyDer),
    /// `EncryptedPrivateKeyInfo` ([RFC 5958 section 3](https://www.rfc-editor.org/rfc/rfc5958#section-3)).
    Encrypted(Vec<u8>),
}

/// Reads certificates and at most one private key; text around them is skipped.
pub(super) fn read(text: &[u8]) -> Result<Pem, Error> {
    // Windows' editors put a byte order mark before the first line.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let holds = Labels(text);
    if !holds.any() {
        return Err(not_pem(text));
    }
    if holds.text("Proc-Type: 4,ENCRYPTED") {
        return Err(Error::credential(
            "the private key is encrypted in OpenSSL's old form ('Proc-Type: 4,ENCRYPTED'); write it anew with 'openssl pkcs8 -topk8 -in key.pem -out new.pem'",
        ));
    }
    let encrypted = holds.label("ENCRYPTED PRIVATE KEY");
    let plain = plain(text);
    let mut certificates = Vec::new();
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&plain) {
        let (kind, der) = section.map_err(|error| unreadable(error, &holds))?;
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
        (Some(_), false) => {
            PemKey::None("the PEM holds two private keys; leave the one that fits the certificate")
        }
        (None, _) => PemKey::None(holds.instead_of_a_key()),
    };
    Ok(Pem {
        certificates,
        key,
        no_certificate: holds.instead_of_a_certificate(),
    })
}

/// The text of a PEM, asked for what stands in it.
struct Labels<'a>(&'a [u8]);

impl Labels<'_> {
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

    fn instead_of_a_certificate(&self) -> &'static str {
        if self.label("PKCS7") {
            "the PEM holds its certificates as PKCS#7; write them out with 'openssl pkcs7 -print_certs -in chain.p7b'"
        } else if self.label("CERTIFICATE REQUEST") || self.label("NEW CERTIFICATE REQUEST") {
            "the PEM holds a certificate request (CSR) and no certificate; use the certificate that was issued for it"
        } else {
            "the PEM holds no certificate ('-----BEGIN CERTIFICATE-----'); give certificate and private key together"
        }
    }

    fn instead_of_a_key(&self) -> &'static str {
        if self.label("OPENSSH PRIVATE KEY") {
            "the private key is in OpenSSH's format; write it anew with 'ssh-keygen -p -m PKCS8 -f key.pem'"
        } else if self.label("PUBLIC KEY") || self.label("RSA PUBLIC KEY") {
            "the PEM holds a public key where the private key is needed ('-----BEGIN PRIVATE KEY-----')"
        } else {
            "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); give certificate and private key together"
        }
    }
}

/// A text that the library reads: without what stands before each line where a PEM was pasted into
/// YAML or a script, and an encrypted key under the label of a plain one, since it skips what it has
/// no name for.
fn plain(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A line of white space alone is nothing now, and not needed.
        let mut rest = line.trim_ascii_start();
        for boundary in [&b"-----BEGIN "[..], b"-----END "] {
            let label = rest.strip_prefix(boundary);
            let label = label.and_then(|label| label.strip_prefix(b"ENCRYPTED "));
            if let Some(label) = label.filter(|label| label.starts_with(b"PRIVATE KEY-----")) {
                plain.extend_from_slice(boundary);
                rest = label;
            }
        }
        plain.extend_from_slice(rest);
    }
    plain
}

/// Says what a text without any `-----BEGIN` is, as far as that can be told.
fn not_pem(text: &[u8]) -> Error {
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return Error::credential("the PEM is empty; was its file or variable written?");
    }
    if text.contains(&0) && !is_der(text) {
        return Error::credential(
            "the PEM is not in UTF-8, it seems to be UTF-16, as Windows' PowerShell writes files; save it as UTF-8",
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
            "this is the base64 of a binary file and not PEM, as key vaults hand out PKCS#12; decode it first and use from_pkcs12 (feature 'pkcs12')",
        );
    }
    Error::credential(
        "this is no PEM: there is no '-----BEGIN CERTIFICATE-----' in it, and nothing else that could be told",
    )
}

/// The library's error is not passed on: it may quote a line of the private key.
fn unreadable(error: pem::Error, holds: &Labels<'_>) -> Error {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } if !holds.text("-----END ") => {
            "a '-----BEGIN' line has no matching '-----END'; was the file cut off?"
        }
        pem::Error::Base64Decode(_) => "the text between BEGIN and END is not base64",
        _ => {
            "the lines '-----BEGIN' and '-----END' do not match; was the file cut off, or are its line breaks missing or written as '\\n'?"
        }
    };
    Error::credential(format!("the PEM cannot be read: {why}"))
}

/// Whether something longer than 127 bytes begins as DER does: a file of text may begin with the
/// same `0`.
pub(super) fn is_der(content: &[u8]) -> bool {
    matches!(content, [0x30, 0x80..=0x84, ..])
}
