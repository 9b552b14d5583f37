#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::crypto::{NoBackend, SigningAlgorithm};

mod checks;
mod claims_set;
mod error;
mod header;
mod issuer;
mod key;
mod key_set;
mod unsigned;

pub(crate) use checks::{Expected, time as numeric_date, time_claim};
pub(crate) use claims_set::{ClaimValue, ClaimsSet};
pub(crate) use error::{Compared, ComparedTime, JwtError, TokenText, listed};
use header::JwsHeader;
pub(crate) use issuer::{Issuer, is_guid};
pub(crate) use key::{PublishedKey, ec_point, rsa_public_key};
pub(crate) use key_set::IssuerKeys;
pub(crate) use unsigned::UnsignedJwt;

/// A parsed JWT in compact form ([RFC 7515 section 7.1]), not yet validated.
///
/// [`access_token`](Self::access_token) and [`id_token`](Self::id_token) verify the signature and
/// check the claims.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct SignedJwt<'a> {
    header: JwsHeader,
    claims: &'a str,
    /// Encoded header and claims, the bytes that the signature covers.
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> SignedJwt<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > LONGEST_TOKEN {
            return Err(JwtError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed(
                "it does not have three parts separated by dots",
            ));
        };
        match parts.count() {
            0 => {}
            2 => return Err(JwtError::Malformed("it is encrypted")),
            _ => {
                return Err(JwtError::Malformed(
                    "it does not have three parts separated by dots",
                ));
            }
        }
        let message_length = token
            .len()
            .saturating_sub(signature.len())
            .saturating_sub(1);
        let header = JwsHeader::parse(&decode(header)?)?;
        Ok(Self {
            header,
            claims,
            message: token.get(..message_length).unwrap_or_default(),
            signature: decode(signature)?,
        })
    }

    /// Returns the name of the signing key in the header, which is `kid` or else `x5t`.
    pub(crate) fn key_name(&self) -> Option<&str> {
        self.header.key_name.as_deref()
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.header.algorithm
    }

    /// Returns whether `typ` says that the token is an access token ([RFC 9068 section 2.1]).
    ///
    /// [RFC 9068 section 2.1]: https://www.rfc-editor.org/rfc/rfc9068#section-2.1
    pub(crate) fn is_access_token(&self) -> bool {
        self.token_type() == Some("at+jwt")
    }

    /// Returns the header's `typ` in lower case, without the prefix `application/`.
    pub(crate) fn token_type(&self) -> Option<&str> {
        self.header.typ
    }

    /// Returns the key that signed the token.
    pub(crate) fn verify<'k>(&self, keys: &'k IssuerKeys) -> Result<&'k PublishedKey, JwtError> {
        let signed_by = self.signed_by(keys);
        // The signature of a Graph token covers another header, so only Graph can verify it.
        signed_by.map_err(|error| match self.header.has_nonce {
            true => JwtError::ForGraph,
            false => error,
        })
    }

    /// Returns whether newer keys could verify the token that fails with `error`.
    ///
    /// A provider may replace a key and keep the name, or write no names at all.
    pub(crate) fn may_need_newer_keys(&self, error: &JwtError) -> bool {
        match error {
            JwtError::UnknownKey(_)
            | JwtError::UnnamedKey(_)
            | JwtError::UnfitKey { .. }
            | JwtError::Signature(_) => true,
            // The error for a signature that fails under a header with a nonce.
            JwtError::ForGraph => self.header.has_nonce,
            _ => false,
        }
    }

    fn signed_by<'k>(&self, keys: &'k IssuerKeys) -> Result<&'k PublishedKey, JwtError> {
        let name = self.key_name();
        let mut named = keys.named(name).peekable();
        if named.peek().is_none() {
            return Err(match name {
                Some(name) => JwtError::UnknownKey(Compared::new(name, keys.names())),
                None => JwtError::UnnamedKey(0),
            });
        }
        let mut allowed = named.filter(|key| key.allows(self.algorithm())).peekable();
        if allowed.peek().is_none() {
            return Err(match name {
                Some(name) => JwtError::UnfitKey {
                    found: self.algorithm(),
                    key: name.into(),
                },
                None => JwtError::UnnamedKey(0),
            });
        }
        if name.is_none() {
            let only = allowed.next();
            return match (only, allowed.next()) {
                (Some(only), None) if self.is_signed_by(only)? => Ok(only),
                (Some(_), None) => Err(JwtError::Signature(None)),
                (_, second) => {
                    let others = allowed.count().saturating_add(second.iter().count());
                    Err(JwtError::UnnamedKey(others.saturating_add(1)))
                }
            };
        }
        for key in allowed {
            if self.is_signed_by(key)? {
                return Ok(key);
            }
        }
        Err(JwtError::Signature(name.map(TokenText::from)))
    }

    fn is_signed_by(&self, key: &PublishedKey) -> Result<bool, NoBackend> {
        key.verify(self.algorithm(), self.message.as_bytes(), &self.signature)
    }

    /// Returns the claims of a token without any check. Returns `None` for any other token, such as
    /// an encrypted one.
    pub(crate) fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
        SignedJwt::parse(token).ok()?.decode_claims().ok()
    }

    /// Decodes the claims without checking them. A claim that is `null` is absent.
    fn decode_claims(&self) -> Result<Map<String, Value>, JwtError> {
        let mut claims: Map<String, Value> =
            self.parse_claims(|claims| serde_json::from_str(claims))?;
        claims.retain(|_, value| !value.is_null());
        Ok(claims)
    }

    fn parse_claims<T>(
        &self,
        parse: impl FnOnce(&str) -> serde_json::Result<T>,
    ) -> Result<T, JwtError> {
        let claims = decode(self.claims)?;
        // One check of the whole text is faster than serde_json's check of each string.
        let claims = std::str::from_utf8(&claims)
            .map_err(|_| JwtError::Malformed("its claims are not UTF-8"))?;
        // serde's error quotes the token, so the error is dropped.
        parse(claims).map_err(|_| JwtError::Malformed("its claims are not a JSON object"))
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| JwtError::Malformed("a part is not base64url without padding"))
}

/// Largest token, in bytes. Tokens that list a user's groups have about 20 KiB.
pub(crate) const LONGEST_TOKEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
