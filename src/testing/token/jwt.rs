use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Header;
use serde::de::DeserializeOwned;

/// A parsed JWT ([RFC 7515 section 7.1]), with its signature not yet verified.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct ReceivedJwt<'a, C> {
    pub(crate) header: Header,
    pub(crate) claims: C,
    /// Encoded header and claims, the text that the signature covers.
    pub(crate) message: &'a str,
    pub(crate) signature: Vec<u8>,
}

impl<'a, C: DeserializeOwned> ReceivedJwt<'a, C> {
    pub(crate) fn parse(jwt: &'a str) -> Option<Self> {
        let (message, signature) = jwt.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Self {
            header: decode(header)?,
            claims: decode(claims)?,
            message,
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}
