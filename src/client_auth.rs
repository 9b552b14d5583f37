use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// How a client proves its identity at the token endpoint, by its name in [RFC 7591 section 2].
///
/// [RFC 7591 section 2]: https://www.rfc-editor.org/rfc/rfc7591#section-2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenEndpointAuthMethod {
    /// In the form, as MSAL sends it.
    #[default]
    ClientSecretPost,
    /// In the `Authorization` header, client id and secret each percent-encoded first
    /// ([RFC 6749 section 2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1)).
    ClientSecretBasic,
    /// No secret, but an assertion that is signed with a certificate's key or made elsewhere
    /// ([OpenID Connect Core section 9]): what a credential other than a secret is sent by.
    ///
    /// [OpenID Connect Core section 9]: https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication
    PrivateKeyJwt,
}

impl TokenEndpointAuthMethod {
    /// As it is registered.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// How the client proves who it is, ready to be sent.
pub(crate) enum ClientAuthentication {
    /// A secret in the form.
    Secret(Secret),
    /// A secret, and the credentials that stand in the `Authorization` header for it.
    Basic { secret: Secret, credentials: Secret },
    /// A signed JWT ([RFC 7523 section 2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
    Assertion(Secret),
}

impl ClientAuthentication {
    /// By `client_secret_basic`: client id and secret encoded as a form is, and then in base64.
    pub(crate) fn basic(client_id: &str, secret: Secret) -> Self {
        let encoded = |text: &str| -> String { byte_serialize(text.as_bytes()).collect() };
        let encoded_secret = Zeroizing::new(encoded(secret.expose()));
        let both = Zeroizing::new(format!("{}:{}", encoded(client_id), *encoded_secret));
        Self::Basic {
            secret,
            credentials: BASE64_STANDARD.encode(both.as_bytes()).into(),
        }
    }

    /// What nobody else may read, in each of its forms.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (first, second) = match self {
            Self::Secret(secret) | Self::Assertion(secret) => (secret, None),
            Self::Basic {
                secret,
                credentials,
            } => (credentials, Some(secret)),
        };
        [first].into_iter().chain(second)
    }
}
