#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::crypto::{NoBackend, SigningAlgorithm};

mod checks;
mod error;
mod header;
mod issuer;
mod key;
mod unsigned;

pub(crate) use checks::{Expected, time};
pub(crate) use error::JwtError;
use header::Header;
pub(crate) use issuer::{Issuer, IssuerKeys, is_guid};
pub(crate) use key::PublishedKey;
pub(crate) use unsigned::UnsignedJwt;

/// A signed JWT in its compact form ([RFC 7515 section 7.1]), taken apart. Nothing in it is to be
/// believed: [`verify`](Self::verify) and the checks of [`Expected`] say when.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct SignedJwt<'a> {
    header: Header,
    claims: &'a str,
    /// What is signed: both parts, as they came.
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> SignedJwt<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > LONGEST {
            return Err(JwtError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed("it does not have three parts"));
        };
        match parts.count() {
            0 => {}
            2 => return Err(JwtError::Malformed("it is encrypted")),
            _ => return Err(JwtError::Malformed("it does not have three parts")),
        }
        let (message, _) = token.rsplit_once('.').unwrap_or_default();
        let header = Header::parse(&decoded(header)?)?;
        Ok(Self {
            header,
            claims,
            message,
            signature: decoded(signature)?,
        })
    }

    /// What its header calls the key that it is signed with: `kid`, or the thumbprint of a
    /// certificate.
    pub(crate) fn key_name(&self) -> Option<&str> {
        self.header.key_name()
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.header.algorithm
    }

    /// Whether it calls itself an access token ([RFC 9068 section 2.1]).
    ///
    /// [RFC 9068 section 2.1]: https://www.rfc-editor.org/rfc/rfc9068#section-2.1
    pub(crate) fn is_access_token(&self) -> bool {
        self.header.typ.as_deref() == Some("at+jwt")
    }

    /// The key of `keys` that signed it.
    pub(crate) fn verify<'k>(&self, keys: &'k IssuerKeys) -> Result<&'k PublishedKey, JwtError> {
        let signed_by = self.signed_by(keys);
        // Its header is not signed as it is sent, so that whoever is not Graph cannot use it.
        signed_by.map_err(|error| match self.header.has_nonce {
            true => JwtError::ForGraph,
            false => error,
        })
    }

    fn signed_by<'k>(&self, keys: &'k IssuerKeys) -> Result<&'k PublishedKey, JwtError> {
        let name = self.key_name();
        let mut named = keys
            .keys
            .iter()
            .filter(|key| name.is_none_or(|name| key.is_named(name)))
            .peekable();
        if named.peek().is_none() {
            return Err(JwtError::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.fits(self.algorithm())).peekable();
        if fitting.peek().is_none() {
            return Err(JwtError::UnfitKey);
        }
        if name.is_none() {
            let only = fitting.next();
            return match (only, fitting.next()) {
                (Some(only), None) if self.is_signed_by(only)? => Ok(only),
                (Some(_), None) => Err(JwtError::Signature),
                _ => Err(JwtError::UnnamedKey),
            };
        }
        for key in fitting {
            if self.is_signed_by(key)? {
                return Ok(key);
            }
        }
        Err(JwtError::Signature)
    }

    fn is_signed_by(&self, key: &PublishedKey) -> Result<bool, NoBackend> {
        key.verifies(self.algorithm(), self.message.as_bytes(), &self.signature)
    }

    /// The claims, as yet unchecked.
    fn claims(&self) -> Result<Map<String, Value>, JwtError> {
        let claims = decoded(self.claims)?;
        // At once: serde_json would check each string by itself.
        let claims = std::str::from_utf8(&claims).ok();
        // What serde says is not passed on: it quotes the token.
        let claims = claims.and_then(|claims| serde_json::from_str(claims).ok());
        claims.ok_or(JwtError::Malformed("its claims are no JSON object"))
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, JwtError> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| JwtError::Malformed("a part of it is not base64url without padding"))
}

/// Tokens that list a user's groups have some 20 KiB.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests;
