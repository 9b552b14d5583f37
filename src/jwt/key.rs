use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use x509_cert::der::Encode;
use x509_cert::der::asn1::UintRef;

use super::header::algorithm;
use super::issuer::Issuer;
use crate::crypto::{self, NoBackend, SigningAlgorithm};

/// A key that an identity provider publishes for its signatures ([RFC 7517 section 4]).
///
/// [RFC 7517 section 4]: https://www.rfc-editor.org/rfc/rfc7517#section-4
pub(crate) struct PublishedKey {
    kid: Option<String>,
    x5t: Option<String>,
    kind: Kind,
    /// The only one it is for, where it says so.
    algorithm: Option<SigningAlgorithm>,
    /// Where it is not everybody's: Microsoft Entra ID has keys for some issuers alone.
    pub(crate) issuer: Option<Issuer>,
    /// As the backends take it: PKCS#1 DER, or a point uncompressed.
    public_key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
}

impl PublishedKey {
    /// `None` for a key that is not for signatures, or for none that is taken here: a provider may
    /// publish such keys beside the others ([RFC 7517 section 5]).
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub(crate) fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| match jwk.get(name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text.as_str())),
            Some(_) => None,
        };
        let owned = |name: &str| Some(text(name)?.map(ToOwned::to_owned));
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)??).ok();
        if text("use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(jwk) {
            return None;
        }
        let (kind, public_key) = match text("kty")?? {
            "RSA" => (Kind::Rsa, rsa(&number("n")?, &number("e")?)?),
            "EC" if text("crv")?? == "P-256" => (Kind::P256, point(&number("x")?, &number("y")?)?),
            _ => return None,
        };
        let algorithm = match text("alg")? {
            Some(name) => Some(algorithm(name)?),
            None => None,
        };
        let key = Self {
            kid: owned("kid")?,
            x5t: owned("x5t")?,
            kind,
            algorithm,
            issuer: owned("issuer")?.map(Issuer::new),
            public_key,
        };
        algorithm.is_none_or(|own| key.fits(own)).then_some(key)
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        let mut names = [&self.kid, &self.x5t].into_iter();
        names.any(|own| own.as_deref() == Some(name))
    }

    /// Whether it is a key for `algorithm`: a token has no say in what a key is used for.
    pub(super) fn fits(&self, algorithm: SigningAlgorithm) -> bool {
        let kind = match algorithm.is_rsa() {
            true => Kind::Rsa,
            false => Kind::P256,
        };
        kind == self.kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    pub(super) fn verifies(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, NoBackend> {
        crypto::verify(&self.public_key, algorithm, message, signature)
    }
}

fn may_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops") {
        None => true,
        Some(operations) => {
            let operations = operations.as_array();
            operations.is_some_and(|list| list.iter().any(|operation| operation == "verify"))
        }
    }
}

/// A key of 2048 bits or more.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let modulus = UintRef::new(modulus).ok()?;
    let bytes = modulus.as_bytes();
    let unused = bytes.first()?.leading_zeros();
    let bits = bytes.len().checked_mul(8)?.checked_sub(unused as usize)?;
    if !(SMALLEST..=LARGEST).contains(&bits) {
        return None;
    }
    let exponent = UintRef::new(exponent).ok()?;
    // With 1, any message would be its own signature.
    if matches!(exponent.as_bytes(), [] | [0..=2]) {
        return None;
    }
    vec![modulus, exponent].to_der().ok()
}

fn point(x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    let is_whole = x.len() == P256 && y.len() == P256;
    is_whole.then(|| [&[UNCOMPRESSED], x, y].concat())
}

/// In bits; the backends take no others.
const SMALLEST: usize = 2048;
const LARGEST: usize = 8192;
/// In bytes ([RFC 7518 section 6.2.1.2](https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1.2)).
const P256: usize = 32;
const UNCOMPRESSED: u8 = 4;
