use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;

/// A JWS in compact form ([RFC 7515 section 7.1]) without its signature.
///
/// `jsonwebtoken::encode` is not used. That function needs a process-wide provider, which panics if
/// the program enables both backends of jsonwebtoken, or none.
///
/// [RFC 7515 section 7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct UnsignedJwt(String);

impl UnsignedJwt {
    pub(crate) fn new(
        header: &impl Serialize,
        claims: &impl Serialize,
    ) -> serde_json::Result<Self> {
        let header = serde_json::to_vec(header)?;
        let claims = serde_json::to_vec(claims)?;
        let encode = |part: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(part);
        Ok(Self(format!("{}.{}", encode(header), encode(claims))))
    }

    /// Creates a JWS with a header that [`encoded_header`](Self::encoded_header) returned.
    pub(crate) fn with_header(
        encoded_header: &str,
        claims: &impl Serialize,
    ) -> serde_json::Result<Self> {
        let claims = serde_json::to_vec(claims)?;
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        Ok(Self(format!("{encoded_header}.{claims}")))
    }

    /// Encodes a header that several tokens share.
    pub(crate) fn encoded_header(header: &impl Serialize) -> serde_json::Result<String> {
        Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(header)?))
    }

    /// Returns the bytes to sign.
    pub(crate) fn message(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Appends the signature.
    pub(crate) fn signed(mut self, signature: &[u8]) -> String {
        self.0.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut self.0);
        self.0
    }
}
