//! Keys that stand alone, without a certificate.

use der::asn1::ObjectIdentifier;

use super::content::Content;
use super::pem::{self, PemKey};
use crate::crypto::asn1::{Asn1Error, Asn1Reader, BIT_STRING};
use crate::crypto::{EC, ED25519, HAS_ALL_CURVES, P256, P384, PrivateKeyDer, RSA};
use crate::error::Error;

/// Reads a private key from PEM: PKCS#8, PKCS#1 or SEC 1, without a password.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer, Error> {
    match read(pem)?.key {
        PemKey::Plain(key) => Ok(key),
        PemKey::Encrypted(_) | PemKey::OldEncrypted(_) => Err(Error::credential(
            "the private key is encrypted, and a password is not accepted here; decrypt the key with 'openssl pkey -in key.pem -out plain.pem'",
        )),
        PemKey::None(pem::TWO_KEYS) => Err(Error::credential(
            "the PEM holds two private keys; keep one",
        )),
        PemKey::None(_) => Err(Error::credential(
            "the PEM holds no private key ('-----BEGIN PRIVATE KEY-----'); create one with 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem'",
        )),
    }
}

/// Reads a public key from PEM ([RFC 7468 section 13]).
///
/// The result is PKCS#1 DER for RSA, an uncompressed point for P-256 and P-384, and 32 bytes for
/// Ed25519.
///
/// [RFC 7468 section 13]: https://www.rfc-editor.org/rfc/rfc7468#section-13
pub(crate) fn public_key(pem: &[u8]) -> Result<Vec<u8>, Error> {
    let der = match Content::unwrap(pem) {
        Content::Pem(text) => pem::public_key(&text)?,
        Content::Binary { .. } | Content::Other(_) => None,
    };
    let der = der.ok_or_else(|| {
        Error::credential(
            "this is no public key as PEM ('-----BEGIN PUBLIC KEY-----'); write one with 'openssl pkey -in key.pem -pubout'",
        )
    })?;
    let fields = || {
        let mut fields = Asn1Reader::new(&der).sequence()?;
        let mut algorithm = fields.sequence()?;
        let (kind, curve) = (algorithm.oid()?, algorithm.oid().ok());
        Ok::<_, Asn1Error>((kind, curve, fields.value(BIT_STRING)?.content()))
    };
    let unreadable = |_| Error::credential("the public key cannot be read: was it cut off?");
    match fields().map_err(unreadable)? {
        // The first octet is the number of unused bits. A point with both coordinates begins with 4.
        (RSA, _, [0, key @ ..]) => Ok(key.to_vec()),
        (ED25519, _, [0, key @ ..]) if HAS_ALL_CURVES => Ok(key.to_vec()),
        (EC, Some(curve), [0, point @ ..]) if is_supported(curve) => match point.first() {
            Some(4) => Ok(point.to_vec()),
            _ => Err(Error::credential(
                "the public key is a compressed point; write both coordinates with 'openssl ec -pubin -in key.pem -conv_form uncompressed'",
            )),
        },
        _ => Err(Error::credential(match HAS_ALL_CURVES {
            true => "the public key is neither an RSA key nor a P-256, P-384 or Ed25519 key",
            false => {
                "the public key is neither an RSA key nor a P-256 key, and the feature 'rust-crypto' supports no others"
            }
        })),
    }
}

fn is_supported(curve: ObjectIdentifier) -> bool {
    curve == P256 || curve == P384 && HAS_ALL_CURVES
}

fn read(pem: &[u8]) -> Result<pem::Pem, Error> {
    match Content::unwrap(pem) {
        Content::Pem(text) => pem::read(&text),
        Content::Binary { .. } | Content::Other(_) => Err(Error::credential(
            "this is no PEM: it contains no '-----BEGIN PRIVATE KEY-----'",
        )),
    }
}
