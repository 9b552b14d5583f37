use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::kind::find;
use super::pem_text::clean;
use crate::crypto::PrivateKeyDer;
use crate::error::Error;

/// The certificates and the private key of a PEM text.
pub(super) struct Pem {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) key: PemKey,
    /// Error message for a missing certificate.
    pub(super) no_certificate: &'static str,
}

impl Pem {
    pub(super) fn empty() -> Self {
        let labels = PemLabels(Vec::new());
        Self {
            certificates: Vec::new(),
            key: PemKey::None(labels.missing_key()),
            no_certificate: labels.missing_certificate(),
        }
    }
}

/// The private key of a PEM text.
#[derive(PartialEq)]
pub(super) enum PemKey {
    /// No usable key, with the error message.
    None(&'static str),
    Plain(PrivateKeyDer),
    /// `EncryptedPrivateKeyInfo` ([RFC 5958 section 3](https://www.rfc-editor.org/rfc/rfc5958#section-3)).
    Encrypted(Vec<u8>),
    /// The headers and the base64 of OpenSSL's old encryption ([RFC 1421 section 4.6.1]).
    ///
    /// [RFC 1421 section 4.6.1]: https://www.rfc-editor.org/rfc/rfc1421#section-4.6.1
    OldEncrypted(String),
}

/// Reads the certificates and at most one private key. Text around the blocks is skipped.
pub(super) fn read(text: &[u8]) -> Result<Pem, Error> {
    let text = clean(text);
    let mut certificates = Vec::new();
    let mut keys = Vec::new();
    let mut labels = Vec::new();
    let mut rest = &**text;
    while let Some(block) = Block::next(&mut rest)? {
        match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                certificates.push(block.decode()?);
            }
            "PRIVATE KEY"
            | "RSA PRIVATE KEY"
            | "EC PRIVATE KEY"
            | "ANY PRIVATE KEY"
            | "ENCRYPTED PRIVATE KEY" => {
                let key = block.key()?;
                // A file that was appended to itself has one key.
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            label => labels.push(label),
        }
    }
    let labels = PemLabels(labels);
    if labels.any(PKCS7) && !certificates.is_empty() {
        return Err(Error::credential(PARTLY_PKCS7));
    }
    let key = match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => key,
        (Some(_), false) => PemKey::None(TWO_KEYS),
        (None, _) => PemKey::None(labels.missing_key()),
    };
    Ok(Pem {
        certificates,
        key,
        no_certificate: labels.missing_certificate(),
    })
}

/// Reads the first public key (`SubjectPublicKeyInfo`). `None` for a text without one.
pub(super) fn public_key(text: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let text = clean(text);
    let mut rest = &**text;
    while let Some(block) = Block::next(&mut rest)? {
        if block.label == "PUBLIC KEY" {
            return block.decode().map(Some);
        }
    }
    Ok(None)
}

/// Returns whether the text contains a block.
pub(super) fn is_pem(text: &[u8]) -> bool {
    find(text, BEGIN).is_some()
}

/// The text between `-----BEGIN` and `-----END`.
///
/// Line breaks have no meaning, so that a text without them is read, too.
struct Block<'a> {
    label: &'a str,
    body: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the next block, `None` for the rest of the text.
    fn next(text: &mut &'a [u8]) -> Result<Option<Self>, Error> {
        let Some(at) = find(text, BEGIN) else {
            check_outside(text)?;
            return Ok(None);
        };
        let (outside, block) = text.split_at_checked(at).unwrap_or_default();
        check_outside(outside)?;
        let label = block.get(BEGIN.len()..).unwrap_or_default();
        let (label, behind) = split(label, DASHES)
            .and_then(|(label, behind)| Some((label_of(label)?, behind)))
            .ok_or_else(|| unreadable(MISSPELLED))?;
        let behind = trim_dashes(behind);
        let (body, end) = split(behind, DASHES).ok_or_else(|| unreadable(NO_END))?;
        let end = trim_dashes(end);
        let end = end
            .strip_prefix(b"END ")
            .ok_or_else(|| unreadable(NO_END))?;
        let (end_label, behind) = split(end, DASHES).ok_or_else(|| unreadable(NO_END))?;
        if label_of(end_label) != Some(label) {
            return Err(unreadable(OTHER_END));
        }
        // Further hyphens may be those of the next block.
        *text = behind;
        Ok(Some(Self { label, body }))
    }

    fn decode(&self) -> Result<Vec<u8>, Error> {
        decode(self.body).ok_or_else(|| unreadable(NOT_BASE64))
    }

    fn key(&self) -> Result<PemKey, Error> {
        if find(self.body, b"Proc-Type:").is_some() || find(self.body, b"DEK-Info:").is_some() {
            let text = std::str::from_utf8(self.body);
            let text = text.map_err(|_| unreadable(NOT_BASE64))?;
            return Ok(PemKey::OldEncrypted(text.to_owned()));
        }
        let der = Zeroizing::new(self.decode()?);
        // The content decides, since programs write some labels for other formats.
        match PrivateKeyDer::detect(&der) {
            Some(key) => Ok(PemKey::Plain(key)),
            None if self.label == "ENCRYPTED PRIVATE KEY" || is_encrypted(&der) => {
                Ok(PemKey::Encrypted(der.to_vec()))
            }
            None => Err(Error::credential(
                "the private key cannot be read: its block is not the DER of a PKCS#8, PKCS#1 or SEC 1 key, or is cut off",
            )),
        }
    }
}

fn is_encrypted(der: &[u8]) -> bool {
    super::kind::FileKind::of(der) == super::kind::FileKind::EncryptedPrivateKey
}

/// Checks that the text between blocks holds no part of a block, which would get lost.
fn check_outside(text: &[u8]) -> Result<(), Error> {
    let mut rest = text;
    while let Some((before, behind)) = ["BEGIN ", "END "]
        .iter()
        .filter_map(|word| split(rest, word.as_bytes()))
        .min_by_key(|(before, _)| before.len())
    {
        let before = before.trim_ascii_end();
        // Hyphens, and the dashes that word processors put in their place.
        let is_boundary = before.ends_with(b"-")
            || [0x90, 0x91, 0x92, 0x93, 0x94, 0x95]
                .iter()
                .any(|last| before.ends_with(&[0xe2, 0x80, *last]));
        let label = behind.get(..behind.len().min(24)).unwrap_or_default();
        if is_boundary
            && (find(label, b"CERTIFICATE").is_some() || find(label, b"PRIVATE KEY").is_some())
        {
            return Err(unreadable(MISSPELLED));
        }
        rest = behind;
    }
    // Whatever the lines around it are, this is a certificate or a key.
    let mut words =
        text.split(|byte| !BASE64_BYTES.contains(byte) && !byte.is_ascii_alphanumeric());
    match words.any(|word| word.len() >= SHORTEST_LINE && word.starts_with(b"MII")) {
        true => Err(unreadable(MISSPELLED)),
        false => Ok(()),
    }
}

/// Decodes base64 or base64url, with or without padding, line breaks, quotes and marks of a
/// citation.
pub(super) fn decode(body: &[u8]) -> Option<Vec<u8>> {
    let is_separator = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`>|,;".contains(byte);
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    // A plus sign alone joins the strings of source code.
    for part in body.split(is_separator).filter(|part| *part != b"+") {
        text.extend(part.iter().map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        }));
    }
    while text.last() == Some(&b'=') {
        text.pop();
    }
    BASE64.decode(&*text).ok()
}

/// Returns the text before and behind the first `part`.
fn split<'a>(text: &'a [u8], part: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = find(text, part)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(part.len()..)?))
}

fn trim_dashes(mut text: &[u8]) -> &[u8] {
    while let [b'-', rest @ ..] = text {
        text = rest;
    }
    text
}

fn label_of(label: &[u8]) -> Option<&str> {
    let label = std::str::from_utf8(label.trim_ascii()).ok()?;
    let is_label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " #".contains(c);
    (label.len() <= 40 && label.chars().all(is_label)).then_some(label)
}

/// The labels of blocks that are neither a certificate nor a private key.
struct PemLabels<'a>(Vec<&'a str>);

impl PemLabels<'_> {
    fn any(&self, labels: &[&str]) -> bool {
        self.0.iter().any(|label| labels.contains(label))
    }

    /// Returns the error message for a text without certificate.
    fn missing_certificate(&self) -> &'static str {
        if self.any(PKCS7) {
            "the PEM holds its certificates as PKCS#7; convert them with 'openssl pkcs7 -print_certs -in chain.p7b'"
        } else if self.any(&["PKCS12"]) {
            "the PEM holds a PKCS#12 file, as GnuTLS writes it; create the file again with 'certtool --to-p12 --outder', or use the base64 between the lines BEGIN and END with from_pkcs12"
        } else if self.any(&["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]) {
            "the PEM holds a certificate request (CSR) and no certificate; use the certificate that was issued for the request"
        } else {
            "the PEM holds no certificate ('-----BEGIN CERTIFICATE-----'); pass certificate and private key together"
        }
    }

    /// Returns the error message for a text without private key.
    fn missing_key(&self) -> &'static str {
        if self.any(&["OPENSSH PRIVATE KEY"]) {
            "the private key is in OpenSSH's format; convert it with 'ssh-keygen -p -m PKCS8 -f key.pem'"
        } else if self.any(&["DSA PRIVATE KEY"]) {
            "the private key is for DSA; Microsoft Entra ID accepts only RSA keys of 2048 bits or more"
        } else if self.any(&["PGP PRIVATE KEY BLOCK"]) {
            "the private key is for PGP; use the key of the certificate ('-----BEGIN PRIVATE KEY-----')"
        } else if self.any(&["PUBLIC KEY", "RSA PUBLIC KEY"]) {
            "the PEM holds a public key where the private key is needed ('-----BEGIN PRIVATE KEY-----')"
        } else {
            "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); pass certificate and private key together"
        }
    }
}

/// Returns the error for a broken PEM, which never quotes a line of the private key.
fn unreadable(why: &str) -> Error {
    Error::credential(format!("the PEM cannot be read: {why}"))
}

pub(super) const TWO_KEYS: &str =
    "the PEM holds two private keys; keep only the one that matches the certificate";

const PARTLY_PKCS7: &str = "the PEM holds a part of its certificates as PKCS#7; convert them with 'openssl pkcs7 -print_certs -in chain.p7b'";

const PKCS7: &[&str] = &["PKCS7", "PKCS #7 SIGNED DATA", "CMS"];
/// Bytes of base64 and base64url beside letters and digits.
const BASE64_BYTES: &[u8] = b"+/-_=";
/// Shortest line of base64 that programs write, except the last.
const SHORTEST_LINE: usize = 60;

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

const NO_END: &str = "a '-----BEGIN' line has no matching '-----END'; was the file cut off?";
const OTHER_END: &str = "the lines '-----BEGIN' and '-----END' do not match; was the file cut off?";
const NOT_BASE64: &str = "the text between BEGIN and END is not base64";
const MISSPELLED: &str = "a line '-----BEGIN' or '-----END' is misspelled or alone; each side has five hyphens ('-----')";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);
