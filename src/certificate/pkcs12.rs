//! PKCS#12 ([RFC 7292](https://www.rfc-editor.org/rfc/rfc7292)).

use der::asn1::ObjectIdentifier;
use zeroize::Zeroizing;

use super::protected::{NOT_PKCS12, Pkcs12Contents, hint, refusal};
use crate::crypto::PrivateKeyDer;
use crate::crypto::asn1::{Asn1Error, Asn1Reader, CONSTRUCTED, INTEGER, SEQUENCE, context};
use crate::crypto::password_based::{DecryptionError, Mac, Password, WorkLimit, decrypt};
use crate::error::Error;

/// Reads the certificates and the private key of a PKCS#12 file.
pub(super) fn read(pfx: &[u8], password: &str) -> Result<Pkcs12Contents, Error> {
    let file = parse(pfx).map_err(|problem| problem.into_error(password))?;
    let mut contents = Contents {
        certificates: Vec::new(),
        keys: Vec::new(),
        passwords: Password::encodings(password),
        limit: WorkLimit::new(),
        is_authentic: false,
        values: 0,
    };
    let read = contents.read(&file);
    read.map_err(|problem| problem.into_error(password))?;
    let mut keys = contents.keys.into_iter();
    let Some(key) = keys.next() else {
        return Err(Error::credential(
            "the PKCS#12 file holds no private key; export the certificate with its private key",
        ));
    };
    if keys.any(|other| other != key) {
        return Err(Error::credential(
            "the PKCS#12 file holds two private keys; keep only the one that matches the certificate",
        ));
    }
    let Some(key) = PrivateKeyDer::detect(&key) else {
        return Err(Problem::DamagedContents.into_error(password));
    };
    Ok(Pkcs12Contents {
        certificates: contents.certificates,
        key,
    })
}

/// The outer structure of a file.
struct Pfx {
    /// `AuthenticatedSafe`, encoded.
    safe: Zeroizing<Vec<u8>>,
    mac: Option<Mac>,
}

fn parse(pfx: &[u8]) -> Result<Pfx, Problem> {
    let outer = |error| match error {
        Asn1Error::Truncated if begins_like_pkcs12(pfx) => Problem::CutOff,
        Asn1Error::Truncated | Asn1Error::Malformed => Problem::NotPkcs12,
    };
    let outer = Asn1Reader::new(pfx).sequence().map_err(outer);
    let mut pfx = outer?;
    if pfx.unsigned() != Ok(3) {
        return Err(Problem::NotPkcs12);
    }
    let mut safe = pfx.sequence()?;
    match safe.oid()? {
        DATA => {}
        SIGNED_DATA => return Err(Problem::PublicKey),
        _ => return Err(Problem::Damaged),
    }
    let safe = safe.value(context(0))?.reader().octets()?;
    let mac = match pfx.is_empty() {
        true => None,
        false => Some(Mac::parse(pfx.sequence()?).map_err(Problem::Mac)?),
    };
    Ok(Pfx { safe, mac })
}

/// Returns whether the first bytes are those of a sequence that begins with a version, or fewer.
fn begins_like_pkcs12(pfx: &[u8]) -> bool {
    let [SEQUENCE, rest @ ..] = pfx else {
        return false;
    };
    let length_bytes = match rest {
        [first @ 0x81..=0x88, ..] => usize::from(first & 0x7f).saturating_add(1),
        _ => 1,
    };
    rest.get(length_bytes).is_none_or(|first| *first == INTEGER)
}

/// The certificates and keys that were read so far.
struct Contents<'a> {
    certificates: Vec<Vec<u8>>,
    /// Decrypted private keys in PKCS#8.
    keys: Vec<Zeroizing<Vec<u8>>>,
    /// The encodings of the password. One of a file without MAC is right for each encrypted part.
    passwords: Vec<Password<'a>>,
    limit: WorkLimit,
    /// True if a MAC confirmed the password.
    is_authentic: bool,
    values: usize,
}

impl Contents<'_> {
    fn read(&mut self, file: &Pfx) -> Result<(), Problem> {
        if let Some(mac) = &file.mac {
            self.authenticate(mac, &file.safe)?;
        }
        let mut parts = Asn1Reader::new(&file.safe).sequence()?;
        while !parts.is_empty() {
            let mut part = parts.sequence()?;
            self.count()?;
            match part.oid()? {
                DATA => {
                    let bags = part.value(context(0))?.reader().octets()?;
                    self.read_bags(Asn1Reader::new(&bags).sequence()?, 0)?;
                }
                ENCRYPTED_DATA => {
                    let mut data = part.value(context(0))?.reader().sequence()?;
                    data.unsigned()?;
                    let mut content = data.sequence()?;
                    content.oid()?;
                    let algorithm = content.sequence()?;
                    let encrypted = content.any()?;
                    if encrypted.tag() & !CONSTRUCTED != context(0) & !CONSTRUCTED {
                        return Err(Problem::Damaged);
                    }
                    let is_bags = |plain: &[u8]| Asn1Reader::new(plain).sequence().is_ok();
                    let bags = self.decrypt(algorithm, &encrypted.octets()?, is_bags)?;
                    self.read_bags(Asn1Reader::new(&bags).sequence()?, 0)?;
                }
                ENVELOPED_DATA => return Err(Problem::PublicKey),
                _ => return Err(Problem::Damaged),
            }
        }
        Ok(())
    }

    /// Moves the encoding of the password that the MAC confirms to the front.
    fn authenticate(&mut self, mac: &Mac, safe: &[u8]) -> Result<(), Problem> {
        for index in 0..self.passwords.len() {
            let Some(password) = self.passwords.get(index) else {
                break;
            };
            let verified = mac.verify(safe, password, &mut self.limit);
            if verified.map_err(Problem::Mac)? {
                self.passwords.swap(0, index);
                self.is_authentic = true;
                return Ok(());
            }
        }
        Err(Problem::WrongPassword)
    }

    fn read_bags(&mut self, mut bags: Asn1Reader<'_>, depth: usize) -> Result<(), Problem> {
        while !bags.is_empty() {
            self.count()?;
            let mut bag = bags.sequence()?;
            let kind = bag.oid()?;
            let mut value = bag.value(context(0))?.reader();
            match kind {
                KEY_BAG => {
                    let key = value.any()?.encoded();
                    self.keys.push(Zeroizing::new(key.to_vec()));
                }
                SHROUDED_KEY_BAG => {
                    let mut key = value.sequence()?;
                    let algorithm = key.sequence()?;
                    let is_key = |plain: &[u8]| PrivateKeyDer::detect(plain).is_some();
                    let key = self.decrypt(algorithm, &key.octets()?, is_key)?;
                    self.keys.push(key);
                }
                CERTIFICATE_BAG => {
                    let mut certificate = value.sequence()?;
                    if certificate.oid()? == X509_CERTIFICATE {
                        let der = certificate.value(context(0))?.reader().octets()?;
                        self.certificates.push(der.to_vec());
                    }
                }
                SAFE_CONTENTS_BAG if depth < DEEPEST => {
                    self.read_bags(value.sequence()?, depth.saturating_add(1))?;
                }
                SAFE_CONTENTS_BAG => return Err(Problem::Damaged),
                // Revocation lists and secrets of other applications.
                _ => {}
            }
        }
        Ok(())
    }

    /// Decrypts a part with the first encoding of the password that gives what `is_plain` accepts.
    fn decrypt(
        &mut self,
        algorithm: Asn1Reader<'_>,
        data: &[u8],
        is_plain: impl Fn(&[u8]) -> bool,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        for password in &self.passwords {
            match decrypt(algorithm, data, password, &mut self.limit) {
                Ok(plain) if is_plain(&plain) => return Ok(plain),
                Ok(_) | Err(DecryptionError::Padding) => {}
                Err(error) => return Err(Problem::Encryption(error)),
            }
        }
        Err(match self.is_authentic {
            true => Problem::DamagedContents,
            false => Problem::WrongPassword,
        })
    }

    /// Limits the number of parts and bags.
    fn count(&mut self) -> Result<(), Problem> {
        self.values = self.values.saturating_add(1);
        match self.values > MOST_VALUES {
            true => Err(Problem::TooLarge),
            false => Ok(()),
        }
    }
}

/// The reason why a file cannot be read.
enum Problem {
    NotPkcs12,
    CutOff,
    Damaged,
    /// The password is right, and something does not decrypt.
    DamagedContents,
    TooLarge,
    /// Public keys in the place of a password.
    PublicKey,
    WrongPassword,
    Encryption(DecryptionError),
    Mac(DecryptionError),
}

impl From<Asn1Error> for Problem {
    fn from(_: Asn1Error) -> Self {
        Self::Damaged
    }
}

impl Problem {
    fn into_error(self, password: &str) -> Error {
        let message = match self {
            Self::NotPkcs12 => NOT_PKCS12,
            Self::CutOff => "the PKCS#12 file is cut off; copy the file again, as a binary file",
            Self::Damaged
            | Self::Encryption(DecryptionError::Malformed)
            | Self::Mac(DecryptionError::Malformed) => {
                "the PKCS#12 file is damaged: its structure cannot be read; copy the file again as a binary file, or export it again"
            }
            Self::DamagedContents => {
                "the password of the PKCS#12 file is right, but the contents are damaged or have another password; export the file again"
            }
            Self::TooLarge => {
                "the PKCS#12 file holds more than 1000 entries; export only the certificate, its chain and its private key"
            }
            Self::PublicKey => {
                "the PKCS#12 file is protected by a public key, which is not supported; export it again with a password"
            }
            Self::WrongPassword if password.is_empty() => {
                "the PKCS#12 file has a password and no password was given; pass the password to from_pkcs12 or CertificateFile::password, or set AZURE_CLIENT_CERTIFICATE_PASSWORD"
            }
            Self::WrongPassword => {
                return Error::credential(format!(
                    "the PKCS#12 file cannot be decrypted: the password is wrong, or the file is damaged{}",
                    hint(password)
                ));
            }
            Self::Encryption(error) | Self::Mac(error) => {
                return refusal("the PKCS#12 file", &error, CONVERT);
            }
        };
        Error::credential(message)
    }
}

/// Commands that convert a file with old or rare encryption.
const CONVERT: &str = "'openssl pkcs12 -legacy -in old.pfx -nodes -out new.pem' and 'openssl pkcs12 -export -in new.pem -out new.pfx'";

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
const ENVELOPED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.3");
const ENCRYPTED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.6");
const KEY_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.1");
const SHROUDED_KEY_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.2");
const CERTIFICATE_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.3");
const SAFE_CONTENTS_BAG: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.6");
const X509_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.9.22.1");

/// Deepest nesting of bags.
const DEEPEST: usize = 8;
/// Largest number of parts and bags of a file.
const MOST_VALUES: usize = 1000;
