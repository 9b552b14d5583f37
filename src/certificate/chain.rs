use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::{DateTime, Decode, Reader, SliceReader};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

use crate::error::{Error, Escaped, Failure};

/// A parsed X.509 certificate without private key.
pub(super) struct X509 {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa { bits: usize },
    P256,
}

impl X509 {
    pub(super) fn parse(der: Vec<u8>) -> Result<Self, Error> {
        match x509_cert::Certificate::from_der(&der) {
            Ok(parsed) => Ok(Self { der, parsed }),
            Err(error) => Err(Error::Credential(
                Failure::new(
                    "a certificate cannot be read: it is not the DER of an X.509 certificate",
                )
                .source(Box::new(error))
                .into(),
            )),
        }
    }

    pub(super) fn subject(&self) -> String {
        let subject = self.parsed.tbs_certificate().subject().to_string();
        Escaped(&subject).to_string()
    }

    /// Returns the public key, PKCS#1 DER for RSA and a point for an elliptic curve.
    pub(super) fn public_key(&self) -> &[u8] {
        let spki = self.parsed.tbs_certificate().subject_public_key_info();
        spki.subject_public_key.raw_bytes()
    }

    pub(super) fn key_kind(&self) -> Result<KeyKind, Error> {
        let spki = self.parsed.tbs_certificate().subject_public_key_info();
        let curve = || {
            let parameters = AnyRef::from(spki.algorithm.parameters.as_ref()?);
            parameters.decode_as::<ObjectIdentifier>().ok()
        };
        let kind = match spki.algorithm.oid {
            RSA => modulus_bits(self.public_key()).map(|bits| KeyKind::Rsa { bits }),
            EC if curve() == Some(P256) => Some(KeyKind::P256),
            _ => None,
        };
        match kind {
            Some(KeyKind::Rsa { bits }) if bits < 2048 => Err(Error::credential(format!(
                "the RSA key of the certificate of '{}' has {bits} bits, and under 2048 bits is not safe; create a new key and certificate and register the certificate with the application",
                self.subject()
            ))),
            Some(kind) => Ok(kind),
            None => Err(Error::credential(format!(
                "the certificate of '{}' is for a key that is neither RSA nor P-256; Microsoft Entra ID accepts only RSA keys of 2048 bits or more",
                self.subject()
            ))),
        }
    }

    pub(super) fn not_before(&self) -> SystemTime {
        let validity = self.parsed.tbs_certificate().validity();
        date(validity.not_before.to_date_time())
    }

    pub(super) fn not_after(&self) -> SystemTime {
        let validity = self.parsed.tbs_certificate().validity();
        date(validity.not_after.to_date_time())
    }

    pub(super) fn sha1(&self) -> [u8; 20] {
        Sha1::digest(&self.der).into()
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Returns the certificate for `x5c`, in base64 and not base64url.
    pub(super) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.der)
    }

    /// Returns whether `self` can be the issuer of `other`.
    ///
    /// The names must match, and the key identifiers too if both certificates have one.
    fn issued(&self, other: &Self) -> bool {
        let (issuer, subject) = (
            self.parsed.tbs_certificate(),
            other.parsed.tbs_certificate(),
        );
        let is_self_signed = subject.issuer() == subject.subject();
        if is_self_signed || issuer.subject() != subject.issuer() {
            return false;
        }
        let issuer_key = issuer
            .get_extension::<SubjectKeyIdentifier>()
            .ok()
            .flatten();
        let authority_key = subject
            .get_extension::<AuthorityKeyIdentifier>()
            .ok()
            .flatten();
        match (
            issuer_key,
            authority_key.and_then(|(_, key)| key.key_identifier),
        ) {
            (Some((_, issuer_key)), Some(named)) => issuer_key.0 == named,
            _ => true,
        }
    }
}

fn date(time: DateTime) -> SystemTime {
    time.to_system_time()
}

/// Returns the size of a PKCS#1 RSA key in bits.
fn modulus_bits(public_key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(public_key).ok()?;
    let bits = reader.sequence(|reader: &mut SliceReader<'_>| {
        let modulus: UintRef<'_> = reader.decode()?;
        let _exponent: UintRef<'_> = reader.decode()?;
        let bytes = modulus.as_bytes();
        let unused = bytes.first().map_or(0, |byte| byte.leading_zeros());
        let bits = bytes.len().saturating_mul(8);
        Ok::<_, x509_cert::der::Error>(bits.saturating_sub(unused as usize))
    });
    bits.ok()
}

/// Returns the chain from the certificate of `public_key` up to its root, without other
/// certificates.
///
/// A renewed certificate has the same key. Of several certificates for the key, those that are
/// valid `now` come first, and then the one that expires last.
pub(super) fn chain_for_key(
    public_key: &[u8],
    certificates: Vec<X509>,
    now: SystemTime,
) -> Option<Vec<X509>> {
    let matching = certificates
        .iter()
        .enumerate()
        .filter(|(_, certificate)| certificate.public_key() == public_key);
    let (leaf, _) = matching.max_by_key(|(_, certificate)| {
        let is_valid = certificate.not_before() <= now && now <= certificate.not_after();
        (is_valid, certificate.not_after())
    })?;
    Some(chain_from(leaf, certificates))
}

/// Returns the chain from the leaf up to its root, without other certificates.
///
/// The leaf is the certificate that issued none of the others.
pub(super) fn chain_for_leaf(certificates: Vec<X509>, now: SystemTime) -> Result<Vec<X509>, Error> {
    let is_leaf = |certificate: &&X509| !certificates.iter().any(|other| certificate.issued(other));
    let leaves: Vec<&X509> = certificates.iter().filter(is_leaf).collect();
    let Some(first) = leaves.first() else {
        if certificates.is_empty() {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----'); pass the certificate of the signer's key",
            ));
        }
        return Err(Error::credential(
            "each of the certificates was issued by another of them; pass only the certificate of the signer's key and its chain",
        ));
    };
    if leaves
        .iter()
        .any(|leaf| leaf.public_key() != first.public_key())
    {
        return Err(Error::credential(format!(
            "the certificates are of {} that issued none of the others; pass only the certificate of the signer's key and its chain",
            leaves
                .iter()
                .map(|leaf| format!("'{}'", leaf.subject()))
                .collect::<Vec<_>>()
                .join(" and ")
        )));
    }
    let public_key = first.public_key().to_vec();
    // The first leaf has this key, so a chain exists.
    Ok(chain_for_key(&public_key, certificates, now).unwrap_or_default())
}

/// Follows the issuers from the certificate at index `leaf`.
fn chain_from(leaf: usize, mut certificates: Vec<X509>) -> Vec<X509> {
    let mut chain = vec![certificates.swap_remove(leaf)];
    while let Some(last) = chain.last() {
        let issuers = certificates
            .iter()
            .enumerate()
            .filter(|(_, issuer)| issuer.issued(last));
        let Some((issuer, _)) = issuers.max_by_key(|(_, issuer)| issuer.not_after()) else {
            break;
        };
        chain.push(certificates.swap_remove(issuer));
    }
    chain
}

/// `rsaEncryption` ([RFC 8017 appendix C](https://www.rfc-editor.org/rfc/rfc8017#appendix-C)).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` and `secp256r1` ([RFC 5480 section 2.1.1](https://www.rfc-editor.org/rfc/rfc5480#section-2.1.1)).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
