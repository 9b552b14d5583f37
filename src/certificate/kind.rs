use super::x509::X509;
use crate::crypto::PrivateKeyDer;
use crate::crypto::asn1::{
    Asn1Error, Asn1Reader, Asn1Value, BIT_STRING, CONSTRUCTED, INTEGER, OBJECT_IDENTIFIER,
    OCTET_STRING, SEQUENCE,
};

/// The kind of a file, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Empty,
    Pkcs12,
    Certificate,
    PrivateKey,
    EncryptedPrivateKey,
    PublicKey,
    Pkcs7,
    CertificateRequest,
    RevocationList,
    /// DER that ends too early.
    CutOffDer,
    OtherDer,
    JavaKeystore,
    BouncyCastleKeystore,
    Zip,
    Compressed,
    Database,
    /// A binary file whose bytes were replaced because a program read it as text.
    DestroyedBinary,
    OtherBinary,
    Utf16,
    PuttyKey,
    SshPublicKey,
    XmlKey,
    JsonWebKey,
    Html,
    /// PEM whose lines BEGIN and END have other dashes.
    MisspelledPem,
    OtherText,
}

impl FileKind {
    pub(super) fn of(content: &[u8]) -> Self {
        let text = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
        let text = text.trim_ascii();
        if text.is_empty() {
            return Self::Empty;
        }
        if is_der(content) {
            return Self::of_der(content);
        }
        if let Some((_, kind)) = SIGNATURES
            .iter()
            .find(|(signature, _)| content.starts_with(signature))
        {
            return *kind;
        }
        if is_utf16(content) {
            return Self::Utf16;
        }
        let begins = |part: &str| {
            let start = text.get(..part.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(part.as_bytes()))
        };
        let text_kinds = [
            ("PuTTY-User-Key-File-", Self::PuttyKey),
            ("ssh-", Self::SshPublicKey),
            ("ecdsa-sha2-", Self::SshPublicKey),
            ("---- BEGIN SSH2 PUBLIC KEY", Self::SshPublicKey),
            ("<RSAKeyValue", Self::XmlKey),
            ("<!DOCTYPE html", Self::Html),
            ("<html", Self::Html),
        ];
        if let Some((_, kind)) = text_kinds.into_iter().find(|(part, _)| begins(part)) {
            return kind;
        }
        let letters = text.iter().filter(|byte| byte.is_ascii_alphabetic());
        let letters: Vec<u8> = letters.map(u8::to_ascii_uppercase).collect();
        if contains(&letters, b"BEGINCERTIFICATE") || contains(text, b"PRIVATE KEY") {
            return Self::MisspelledPem;
        }
        if contains(text, b"\xef\xbf\xbd") && text.first() == Some(&SEQUENCE) {
            return Self::DestroyedBinary;
        }
        if begins("{") && contains(text, b"\"kty\"") {
            return Self::JsonWebKey;
        }
        match text.iter().any(|byte| *byte < 9) {
            true => Self::OtherBinary,
            false => Self::OtherText,
        }
    }

    fn of_der(content: &[u8]) -> Self {
        let value = match Asn1Reader::new(content).value(SEQUENCE) {
            Ok(value) => value,
            Err(Asn1Error::Truncated) => return Self::CutOffDer,
            Err(Asn1Error::Malformed) => return Self::OtherDer,
        };
        let values = |value: Asn1Value<'_>| -> Vec<u8> {
            let mut reader = value.reader();
            let values = std::iter::from_fn(|| reader.any().ok());
            values.take(8).map(|value| value.tag()).collect()
        };
        let first = || value.reader().any().ok();
        let tags = values(value);
        match &*tags {
            [INTEGER, SEQUENCE] | [INTEGER, SEQUENCE, SEQUENCE]
                if first().is_some_and(|version| version.content() == [3]) =>
            {
                Self::Pkcs12
            }
            [INTEGER, INTEGER] => Self::PublicKey,
            [INTEGER, ..] if PrivateKeyDer::detect(content).is_some() => Self::PrivateKey,
            [OBJECT_IDENTIFIER, ..] => Self::Pkcs7,
            [SEQUENCE, OCTET_STRING] => Self::EncryptedPrivateKey,
            [SEQUENCE, BIT_STRING] => Self::PublicKey,
            [SEQUENCE, SEQUENCE, BIT_STRING] if X509::parse(content).is_ok() => Self::Certificate,
            [SEQUENCE, SEQUENCE, BIT_STRING] => match first().map(values).as_deref() {
                Some([INTEGER, SEQUENCE, SEQUENCE, rest @ ..])
                    if rest.first().is_none_or(|tag| tag & CONSTRUCTED != 0) =>
                {
                    Self::CertificateRequest
                }
                Some([INTEGER, SEQUENCE, SEQUENCE, ..] | [SEQUENCE, SEQUENCE, 0x17 | 0x18, ..]) => {
                    Self::RevocationList
                }
                _ => Self::OtherDer,
            },
            _ => Self::OtherDer,
        }
    }

    /// Returns the name of the kind with an article.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Pkcs12 => "a PKCS#12 file",
            Self::Certificate => "one certificate in DER, without private key",
            Self::PrivateKey => "a private key in DER, without certificate",
            Self::EncryptedPrivateKey => "an encrypted private key in DER, without certificate",
            Self::PublicKey => "a public key in DER",
            Self::Pkcs7 => "PKCS#7, which holds certificates without private key",
            Self::CertificateRequest => "a certificate request (CSR) in DER",
            Self::RevocationList => "a certificate revocation list (CRL)",
            Self::CutOffDer => "DER that is cut off",
            Self::OtherDer => "DER of an unknown kind, or damaged",
            Self::JavaKeystore => "a Java keystore (JKS or JCEKS)",
            Self::BouncyCastleKeystore => "a keystore of Bouncy Castle (BKS or UBER)",
            Self::Zip => "a ZIP archive",
            Self::Compressed => "a compressed archive",
            Self::Database => "a database, such as cert9.db or key4.db of NSS",
            Self::DestroyedBinary => "a binary file that a program saved as text",
            Self::OtherBinary => "a binary file of an unknown kind",
            Self::Utf16 => "UTF-16, which Windows PowerShell writes",
            Self::PuttyKey => "a private key of PuTTY",
            Self::SshPublicKey => "a public key of SSH",
            Self::XmlKey => "a key in XML",
            Self::JsonWebKey => "a JSON Web Key",
            Self::Html => "an HTML page, which a download gave in the place of the file",
            Self::MisspelledPem => {
                "PEM whose lines '-----BEGIN CERTIFICATE-----' and '-----END CERTIFICATE-----' are misspelled"
            }
            Self::OtherText => "text of an unknown kind",
        }
    }

    /// Returns the advice for a file of this kind in the place of a certificate and its key.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Empty => "was its file or variable written?",
            Self::Pkcs12 => "use from_pkcs12 (feature 'pkcs12')",
            Self::Certificate | Self::PrivateKey | Self::EncryptedPrivateKey => {
                "use PEM or PKCS#12 with both, or from_der"
            }
            Self::PublicKey | Self::SshPublicKey => {
                "use the certificate and its private key, as PEM or PKCS#12"
            }
            Self::Pkcs7 => {
                "convert the certificates with 'openssl pkcs7 -print_certs -in chain.p7b' (with '-inform DER' for a binary file), and add the private key"
            }
            Self::CertificateRequest => "use the certificate that was issued for the request",
            Self::RevocationList => "use the certificate and its private key",
            Self::CutOffDer => "copy the file again, as a binary file",
            Self::OtherDer | Self::OtherBinary | Self::OtherText => {
                "use PEM with certificate and private key, or PKCS#12"
            }
            Self::JavaKeystore => {
                "convert it with 'keytool -importkeystore -srckeystore old.jks -destkeystore new.p12 -deststoretype pkcs12'"
            }
            Self::BouncyCastleKeystore => {
                "convert it to PKCS#12 with 'keytool -importkeystore' and the provider of Bouncy Castle"
            }
            Self::Zip | Self::Compressed => "unpack it and use the PEM or PKCS#12 file inside",
            Self::Database => "export the certificate with 'pk12util -o new.p12 -n NAME -d FOLDER'",
            Self::DestroyedBinary => "copy the file again, as a binary file, or as base64",
            Self::Utf16 => "save it as UTF-8",
            Self::PuttyKey => {
                "export the key in PuTTYgen (Conversions, Export OpenSSH key), and convert it with 'ssh-keygen -p -m PKCS8 -f key.pem'"
            }
            Self::XmlKey | Self::JsonWebKey => "convert the key to PEM, and add the certificate",
            Self::Html => "download the file again, after a sign-in",
            Self::MisspelledPem => "each side has five hyphens ('-----')",
        }
    }
}

/// Returns whether the content begins like DER.
///
/// DER of less than 128 bytes begins like a text with `0`. The next byte must then be the control
/// character of a key's version or of a key's algorithm.
pub(super) fn is_der(content: &[u8]) -> bool {
    matches!(
        content,
        [SEQUENCE, 0x80..=0x84, ..]
            | [SEQUENCE, _, INTEGER, ..]
            | [SEQUENCE, _, SEQUENCE, _, OBJECT_IDENTIFIER, ..]
    )
}

/// Returns whether the content has a byte order mark of UTF-16, or ASCII with a zero byte beside
/// each character.
fn is_utf16(content: &[u8]) -> bool {
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return true;
    }
    let start = content.get(..content.len().min(32)).unwrap_or_default();
    let pairs = || start.chunks_exact(2);
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    start.len() >= 2
        && (pairs().all(|pair| matches!(pair, [byte, 0] if is_text(*byte)))
            || pairs().all(|pair| matches!(pair, [0, byte] if is_text(*byte))))
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

/// Returns the index of the first `part`.
pub(super) fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// First bytes of binary files.
const SIGNATURES: [(&[u8], FileKind); 11] = [
    (b"\xfe\xed\xfe\xed", FileKind::JavaKeystore),
    (b"\xce\xce\xce\xce", FileKind::JavaKeystore),
    (b"\0\0\0\x01\0\0\0\x14", FileKind::BouncyCastleKeystore),
    (b"\0\0\0\x02\0\0\0\x14", FileKind::BouncyCastleKeystore),
    (b"PK\x03\x04", FileKind::Zip),
    (b"PK\x05\x06", FileKind::Zip),
    (b"7z\xbc\xaf\x27\x1c", FileKind::Compressed),
    (b"\x1f\x8b", FileKind::Compressed),
    (b"BZh", FileKind::Compressed),
    (b"\xfd7zXZ", FileKind::Compressed),
    (b"SQLite format 3\0", FileKind::Database),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        for (content, kind) in [
            (&b"\xef\xbb\xbf \r\n"[..], FileKind::Empty),
            (b"\xfe\xed\xfe\xed\0\0\0\x02", FileKind::JavaKeystore),
            (b"\xce\xce\xce\xce\0\0\0\x02", FileKind::JavaKeystore),
            (b"\0\0\0\x02\0\0\0\x14abc", FileKind::BouncyCastleKeystore),
            (b"PK\x03\x04abc\0", FileKind::Zip),
            (b"\x1f\x8b\x08\0\0", FileKind::Compressed),
            (b"SQLite format 3\0", FileKind::Database),
            (b"\xff\xfe-\0-\0", FileKind::Utf16),
            (b"\xfe\xff\0-\0-", FileKind::Utf16),
            (b"-\0-\0-\0", FileKind::Utf16),
            (b"\0-\0-\0-", FileKind::Utf16),
            (b"\0\x01\0\x02abcdefgh", FileKind::OtherBinary),
            (b"abc\0def", FileKind::OtherBinary),
            (b"PuTTY-User-Key-File-3: ssh-rsa", FileKind::PuttyKey),
            (b"ssh-rsa AAAA", FileKind::SshPublicKey),
            (b"<RSAKeyValue><Modulus>", FileKind::XmlKey),
            (b"{\"kty\":\"RSA\"}", FileKind::JsonWebKey),
            (b"<!doctype html><html>", FileKind::Html),
            (b"----BEGIN CERTIFICATE----", FileKind::MisspelledPem),
            (
                "\u{2014}BEGIN PRIVATE KEY\u{2014}".as_bytes(),
                FileKind::MisspelledPem,
            ),
            (
                "0\u{fffd}\u{5}\u{fffd}".as_bytes(),
                FileKind::DestroyedBinary,
            ),
            (b"0\x82\x01\x00\x02", FileKind::CutOffDer),
            (b"0\x80\x04\x01a\0\0", FileKind::OtherDer),
            (b"secret?", FileKind::OtherText),
        ] {
            assert_eq!(FileKind::of(content), kind, "{content:02x?}");
        }
    }
}
