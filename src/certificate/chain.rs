use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use x509_cert::der::{DateTime, Decode, Reader, SliceReader};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};

use crate::error::{Error, Escaped, Failure};

/// A parsed certificate without private key.
pub(super) struct X509 {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

/// What kind of key a certificate is for.
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

    /// The public key as it stands there: PKCS#1 DER, or the point of an elliptic curve.
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
                "the RSA key of the certificate of '{}' has {bits} bits; under 2048 bits is not safe, so make a new key and certificate and register it with the application",
                self.subject()
            ))),
            Some(kind) => Ok(kind),
            None => Err(Error::credential(format!(
                "the certificate of '{}' is for a key that is neither RSA nor P-256; Microsoft Entra ID takes RSA alone, of 2048 bits or more",
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

    /// As `x5c` holds it: base64, and not base64url.
    pub(super) fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.der)
    }

    /// Whether `self` can have issued `other`, by name and, where both tell, by key.
    fn issued(&self, other: &Self) -> bool {
        let (issuer, subject) = (
            self.parsed.tbs_certificate(),
            other.parsed.tbs_certificate(),
        );
        let is_self_signed = subject.issuer() == subject.subject();
        if is_self_signed || issuer.subject() != subject.issuer() {
            return false;
        }
        let own = issuer
            .get_extension::<SubjectKeyIdentifier>()
            .ok()
            .flatten();
        let named = subject
            .get_extension::<AuthorityKeyIdentifier>()
            .ok()
            .flatten();
        match (own, named.and_then(|(_, named)| named.key_identifier)) {
            (Some((_, own)), Some(named)) => own.0 == named,
            _ => true,
        }
    }
}

fn date(time: DateTime) -> SystemTime {
    time.to_system_time()
}

/// The size of an RSA key that stands there as PKCS#1.
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

/// Puts the certificates that lead from the one for `public_key` to its root in this order, and
/// leaves out the others. Of several for the key, as after a renewal, the one that is valid the
/// longest is taken, of those that are valid `now` if there are any.
pub(super) fn leading_from(
    public_key: &[u8],
    certificates: Vec<X509>,
    now: SystemTime,
) -> Option<Vec<X509>> {
    let fitting = certificates
        .iter()
        .enumerate()
        .filter(|(_, certificate)| certificate.public_key() == public_key);
    let (leaf, _) = fitting.max_by_key(|(_, certificate)| {
        let is_valid = certificate.not_before() <= now && now <= certificate.not_after();
        (is_valid, certificate.not_after())
    })?;
    Some(from_leaf(leaf, certificates))
}

/// The same where the key is not at hand: the leaf is the certificate that issued none of the
/// others.
pub(super) fn leading_from_leaf(
    certificates: Vec<X509>,
    now: SystemTime,
) -> Result<Vec<X509>, Error> {
    let is_leaf = |certificate: &&X509| !certificates.iter().any(|other| certificate.issued(other));
    let leaves: Vec<&X509> = certificates.iter().filter(is_leaf).collect();
    let Some(first) = leaves.first() else {
        if certificates.is_empty() {
            return Err(Error::credential(
                "there is no certificate ('-----BEGIN CERTIFICATE-----'); give the one whose key signs",
            ));
        }
        return Err(Error::credential(
            "each of the certificates was issued by another of them; leave the one whose key signs, and those that lead from it to its root",
        ));
    };
    if leaves
        .iter()
        .any(|leaf| leaf.public_key() != first.public_key())
    {
        return Err(Error::credential(format!(
            "the certificates are of {} that issued none of the others; leave the one whose key signs, and those that lead from it to its root",
            leaves
                .iter()
                .map(|leaf| format!("'{}'", leaf.subject()))
                .collect::<Vec<_>>()
                .join(" and ")
        )));
    }
    let public_key = first.public_key().to_vec();
    // There is one: the first.
    Ok(leading_from(&public_key, certificates, now).unwrap_or_default())
}

fn from_leaf(leaf: usize, mut certificates: Vec<X509>) -> Vec<X509> {
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
