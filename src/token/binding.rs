use std::fmt;

use base64::Engine;
use base64::display::Base64Display;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderValue;
use sha2::{Digest, Sha256};

/// The scheme of the `Authorization` header that carries an access token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenScheme {
    /// A bearer token ([RFC 6750]), or a certificate-bound token ([RFC 8705]), which an API accepts
    /// only over a connection with the same client certificate.
    ///
    /// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1
    /// [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    #[default]
    Bearer,
    /// A token that is bound to a proof key ([RFC 9449]). Each request needs a proof of its own.
    ///
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449#section-7.1
    Dpop,
    /// A certificate-bound token of Entra's preview.
    MtlsPop,
    /// No scheme: a token exchange issued another token than an access token
    /// ([RFC 8693 section 2.2.1]).
    ///
    /// The token must not be sent in an `Authorization` header.
    ///
    /// [RFC 8693 section 2.2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    NotApplicable,
}

impl TokenScheme {
    /// Returns the scheme as in the header: `Bearer`, `DPoP` or `mtls_pop`. Returns `N_A` without a
    /// scheme.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
            Self::MtlsPop => "mtls_pop",
            Self::NotApplicable => "N_A",
        }
    }

    /// Returns the scheme of a header that [`IssuedToken`](super::IssuedToken) made.
    ///
    /// The first letter tells, so that a cached token needs no field for its scheme.
    #[inline]
    pub(super) fn of_header(authorization: &HeaderValue) -> Self {
        match authorization.as_bytes().first() {
            Some(b'D') => Self::Dpop,
            Some(b'm') => Self::MtlsPop,
            Some(b'N') => Self::NotApplicable,
            _ => Self::Bearer,
        }
    }
}

/// The key that an access token is bound to.
#[allow(dead_code, reason = "the client does not ask for bound tokens yet")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TokenBinding {
    /// The token is a bearer token.
    #[default]
    Unbound,
    /// The proof key of DPoP ([RFC 9449 section 6]), by its JWK thumbprint.
    ///
    /// [RFC 9449 section 6]: https://www.rfc-editor.org/rfc/rfc9449#section-6
    ProofKey(Thumbprint),
    /// The client certificate of the connection ([RFC 8705 section 3]).
    ///
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    Certificate(Thumbprint),
    /// The client certificate of the connection, in Entra's preview.
    EntraCertificate(Thumbprint),
}

impl TokenBinding {
    /// Returns the scheme of a token with this binding.
    pub(crate) const fn scheme(self) -> TokenScheme {
        match self {
            Self::Unbound | Self::Certificate(_) => TokenScheme::Bearer,
            Self::ProofKey(_) => TokenScheme::Dpop,
            Self::EntraCertificate(_) => TokenScheme::MtlsPop,
        }
    }

    /// Returns the thumbprint of the client certificate.
    pub(crate) const fn certificate(self) -> Option<Thumbprint> {
        match self {
            Self::Unbound | Self::ProofKey(_) => None,
            Self::Certificate(thumbprint) | Self::EntraCertificate(thumbprint) => Some(thumbprint),
        }
    }

    /// Returns the kind as a number, and the thumbprint of the key. `None` for a bearer token.
    ///
    /// Both are a part of the names of records in a shared cache, so a number never changes.
    pub(crate) fn to_name_part(self) -> Option<(u8, [u8; 32])> {
        match self {
            Self::Unbound => None,
            Self::ProofKey(Thumbprint(hash)) => Some((1, hash)),
            Self::Certificate(Thumbprint(hash)) => Some((2, hash)),
            Self::EntraCertificate(Thumbprint(hash)) => Some((3, hash)),
        }
    }
}

/// A SHA-256 thumbprint: of a JWK ([RFC 7638]), or of a certificate in DER (`x5t#S256`).
///
/// [RFC 7638]: https://www.rfc-editor.org/rfc/rfc7638
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Thumbprint(pub(crate) [u8; 32]);

impl Thumbprint {
    /// Returns the thumbprint of a certificate in DER, or of the canonical text of a JWK.
    pub(crate) fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }

    /// Reads the base64url form without padding.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let octets = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        octets.try_into().ok().map(Self)
    }
}

/// The thumbprint in base64url without padding, as in tokens. Not a secret.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.0, &BASE64_URL_SAFE_NO_PAD).fmt(f)
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_read_as_it_is_written() {
        let thumbprint = Thumbprint::of(b"abc");
        let text = "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(thumbprint.to_string(), text);
        assert_eq!(Thumbprint::parse(text), Some(thumbprint));
        for other in [
            "",
            "ungWv48B",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa1",
        ] {
            assert_eq!(Thumbprint::parse(other), None, "{other}");
        }
    }

    #[test]
    fn every_scheme_is_told_by_the_header() {
        for scheme in [
            TokenScheme::Bearer,
            TokenScheme::Dpop,
            TokenScheme::MtlsPop,
            TokenScheme::NotApplicable,
        ] {
            let header = format!("{} token", scheme.as_str()).parse().unwrap();
            assert_eq!(TokenScheme::of_header(&header), scheme);
        }
    }
}
