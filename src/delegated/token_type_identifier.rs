use std::borrow::Cow;
use std::fmt;

use url::Url;

use crate::error::Error;

/// The type of a token in a token exchange, a URI ([RFC 8693 section 3]).
///
/// A provider may define further types, such as the types of an Auth0 tenant.
/// [`custom`](Self::custom) creates one.
///
/// ```
/// use confidential_client::delegated::TokenTypeIdentifier;
///
/// let jwt = TokenTypeIdentifier::JWT;
/// assert_eq!(jwt.as_str(), "urn:ietf:params:oauth:token-type:jwt");
/// let legacy = TokenTypeIdentifier::custom("urn:acme:legacy-system-token");
/// assert_ne!(legacy, jwt);
/// ```
///
/// [RFC 8693 section 3]: https://www.rfc-editor.org/rfc/rfc8693#section-3
#[doc(alias("subject_token_type", "issued_token_type", "requested_token_type"))]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenTypeIdentifier(Cow<'static, str>);

impl TokenTypeIdentifier {
    /// An OAuth 2.0 access token that the identity provider issued. The token may be opaque.
    pub const ACCESS_TOKEN: Self = Self(Cow::Borrowed(
        "urn:ietf:params:oauth:token-type:access_token",
    ));
    /// An OAuth 2.0 refresh token that the identity provider issued.
    pub const REFRESH_TOKEN: Self = Self(Cow::Borrowed(
        "urn:ietf:params:oauth:token-type:refresh_token",
    ));
    /// An ID token of OpenID Connect.
    pub const ID_TOKEN: Self = Self(Cow::Borrowed("urn:ietf:params:oauth:token-type:id_token"));
    /// A JWT, such as the access token of another identity provider.
    pub const JWT: Self = Self(Cow::Borrowed("urn:ietf:params:oauth:token-type:jwt"));
    /// A SAML 1.1 assertion in base64url.
    pub const SAML1: Self = Self(Cow::Borrowed("urn:ietf:params:oauth:token-type:saml1"));
    /// A SAML 2.0 assertion in base64url.
    pub const SAML2: Self = Self(Cow::Borrowed("urn:ietf:params:oauth:token-type:saml2"));

    /// Creates a type of a provider's own. The identifier is checked when a call uses it.
    pub fn custom(uri: impl Into<String>) -> Self {
        Self(Cow::Owned(uri.into()))
    }

    /// Returns the URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that the identifier is a URI.
    pub(super) fn check(&self) -> Result<(), Error> {
        match Url::parse(&self.0) {
            Ok(_) if !self.0.contains(char::is_whitespace) => Ok(()),
            _ => Err(Error::config(format!(
                "the token type {:?} is not a URI (RFC 8693 section 3); use a constant of TokenTypeIdentifier, such as TokenTypeIdentifier::ACCESS_TOKEN, or the URI that the identity provider defines",
                self.0
            ))),
        }
    }
}

impl fmt::Display for TokenTypeIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_type_is_a_uri() {
        for (identifier, is_uri) in [
            (TokenTypeIdentifier::ACCESS_TOKEN, true),
            (TokenTypeIdentifier::REFRESH_TOKEN, true),
            (TokenTypeIdentifier::ID_TOKEN, true),
            (TokenTypeIdentifier::JWT, true),
            (TokenTypeIdentifier::SAML1, true),
            (TokenTypeIdentifier::SAML2, true),
            (TokenTypeIdentifier::custom("https://acme.example/t"), true),
            (TokenTypeIdentifier::custom("urn:acme:token"), true),
            (TokenTypeIdentifier::custom("access_token"), false),
            (TokenTypeIdentifier::custom(""), false),
            (TokenTypeIdentifier::custom("urn:acme:token "), false),
        ] {
            assert_eq!(identifier.check().is_ok(), is_uri, "{identifier}");
        }
    }
}
