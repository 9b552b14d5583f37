use crate::error::Error;

/// The audience (`aud`) of the client assertions for an OpenID provider.
///
/// The audience is always one text and never an array. A text converts into a
/// [`Custom`](Self::Custom) audience.
///
/// ```
/// use confidential_client::Authority;
/// use confidential_client::credential::AssertionAudience;
///
/// let issuer = "https://id.example.org";
/// let for_the_issuer = Authority::oidc(issuer);
/// let for_the_endpoint =
///     Authority::oidc(issuer).client_assertion_audience(AssertionAudience::TokenEndpoint);
/// let for_a_name = Authority::oidc(issuer).client_assertion_audience("https://legacy.example.org");
/// # let _ = (for_the_issuer, for_the_endpoint, for_a_name);
/// ```
#[doc(alias = "aud")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssertionAudience {
    /// The issuer of the provider, which is the default.
    ///
    /// [RFC 7523bis section 4] and the [FAPI 2.0 Security Profile] demand the issuer. A malicious
    /// provider cannot use such an assertion at another provider.
    ///
    /// [RFC 7523bis section 4]: https://datatracker.ietf.org/doc/html/draft-ietf-oauth-rfc7523bis#section-4
    /// [FAPI 2.0 Security Profile]: https://openid.net/specs/fapi-security-profile-2_0-final.html#section-5.3.3.1
    #[default]
    Issuer,
    /// The URL of the token endpoint, for providers that accept only the URL.
    ///
    /// Pushed authorization requests have the same audience. The provider's metadata must be
    /// trusted. A malicious provider could publish another provider's token endpoint. The client
    /// would then sign an assertion that is valid at the other provider.
    TokenEndpoint,
    /// A text of the provider's documentation.
    Custom(String),
}

impl AssertionAudience {
    /// Checks a text of the caller.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Custom(text) if text.is_empty() || text.contains(char::is_whitespace) => {
                Err(Error::config(format!(
                    "the audience {text:?} of client assertions is empty or has white space; pass the text that the provider documents to client_assertion_audience(..), or AssertionAudience::Issuer"
                )))
            }
            Self::Issuer | Self::TokenEndpoint | Self::Custom(_) => Ok(()),
        }
    }
}

impl From<&str> for AssertionAudience {
    fn from(text: &str) -> Self {
        Self::Custom(text.to_owned())
    }
}

impl From<String> for AssertionAudience {
    fn from(text: String) -> Self {
        Self::Custom(text)
    }
}

impl From<&String> for AssertionAudience {
    fn from(text: &String) -> Self {
        Self::Custom(text.clone())
    }
}
