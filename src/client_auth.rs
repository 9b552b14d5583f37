use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::authority::Rules;
use crate::crypto::SigningAlgorithm;
use crate::error::Error;
use crate::secret::Secret;

/// A method of client authentication, with its name from [RFC 7591 section 2].
///
/// [RFC 7591 section 2]: https://www.rfc-editor.org/rfc/rfc7591#section-2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenEndpointAuthMethod {
    /// The client secret in the form body, as MSAL sends the secret.
    #[default]
    ClientSecretPost,
    /// The client id and the client secret in the `Authorization` header, each percent-encoded
    /// first ([RFC 6749 section 2.3.1](https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1)).
    ClientSecretBasic,
    /// A client assertion, signed with the certificate's key or supplied by a provider
    /// ([OpenID Connect Core section 9]).
    ///
    /// Every credential other than a secret uses this method, unless the certificate authenticates
    /// the connection.
    ///
    /// [OpenID Connect Core section 9]: https://openid.net/specs/openid-connect-core-1_0.html#ClientAuthentication
    PrivateKeyJwt,
    /// The client certificate of the connection, issued by a CA, with a registered subject
    /// ([RFC 8705 section 2.1]).
    ///
    /// [RFC 8705 section 2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    TlsClientAuth,
    /// The client certificate of the connection, which is registered itself ([RFC 8705 section
    /// 2.2]).
    ///
    /// [RFC 8705 section 2.2]: https://www.rfc-editor.org/rfc/rfc8705#section-2.2
    SelfSignedTlsClientAuth,
}

impl TokenEndpointAuthMethod {
    /// Returns the registered name of the method.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
        }
    }

    /// Returns whether the certificate of the connection authenticates the client.
    pub(crate) fn is_mutual_tls(self) -> bool {
        matches!(self, Self::TlsClientAuth | Self::SelfSignedTlsClientAuth)
    }
}

/// The client authentication of one token request.
pub(crate) enum ClientAuthentication {
    /// A secret for the form body.
    Secret(Secret),
    /// A secret and the encoded credentials for the `Authorization` header.
    Basic { secret: Secret, credentials: Secret },
    /// A signed JWT ([RFC 7523 section 2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
    Assertion(Secret),
    /// The certificate of the connection. The request names the client alone ([RFC 8705 section
    /// 2]).
    ///
    /// [RFC 8705 section 2]: https://www.rfc-editor.org/rfc/rfc8705#section-2
    Connection,
}

impl ClientAuthentication {
    /// Encodes client id and secret for `client_secret_basic`.
    pub(crate) fn basic(client_id: &str, secret: Secret) -> Self {
        // RFC 6749 section 2.3.1 asks for form encoding. A space is `%20` and not `+`, because
        // providers that only percent-decode read `+` as a plus sign.
        let encode = |text: &str| -> String {
            let encoded: String = byte_serialize(text.as_bytes()).collect();
            encoded.replace('+', "%20")
        };
        let encoded_secret = Zeroizing::new(encode(secret.expose()));
        let pair = Zeroizing::new(format!("{}:{}", encode(client_id), *encoded_secret));
        Self::Basic {
            secret,
            credentials: BASE64_STANDARD.encode(pair.as_bytes()).into(),
        }
    }

    /// Returns every form of the secret, for masking in errors.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (first, second) = match self {
            Self::Secret(secret) | Self::Assertion(secret) => (Some(secret), None),
            Self::Basic {
                secret,
                credentials,
            } => (Some(credentials), Some(secret)),
            Self::Connection => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// The time claims and the type of the client assertions that the client signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AssertionForm {
    /// `nbf` one minute before now and `exp` ten minutes after `nbf`, as Microsoft Entra ID
    /// recommends. No `iat`.
    Microsoft,
    /// `iat` of now, `nbf` one minute before now, and `exp` this long after `iat`.
    OpenId {
        lifetime: Duration,
        /// True for the explicit type.
        is_typed: bool,
    },
}

impl AssertionForm {
    /// Returns the form for an OpenID provider, with the caller's lifetime or the default.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the lifetime is out of bounds.
    pub(crate) fn for_openid(lifetime: Option<Duration>, is_typed: bool) -> Result<Self, Error> {
        let lifetime = lifetime.unwrap_or(OPENID_LIFETIME);
        match (SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&lifetime) {
            true => Ok(Self::OpenId { lifetime, is_typed }),
            false => Err(Error::config(format!(
                "client_assertion_lifetime(..) of {lifetime:?} is not from 10 seconds to 1 hour; most providers accept at most five minutes"
            ))),
        }
    }

    /// Returns the `typ` of the assertion's header.
    pub(crate) fn header_type(self) -> &'static str {
        match self {
            // RFC 7523bis section 4.
            Self::OpenId { is_typed: true, .. } => "client-authentication+jwt",
            Self::Microsoft | Self::OpenId { .. } => "JWT",
        }
    }
}

/// The client authentication that a token endpoint supports.
#[derive(Clone, Debug)]
pub(crate) struct SupportedAuthMethods {
    secret: Option<TokenEndpointAuthMethod>,
    assertion: bool,
    /// The methods by the certificate of the connection. `None` if nothing is known.
    mutual_tls: Option<Vec<TokenEndpointAuthMethod>>,
    /// Signing algorithms, in order of preference.
    algorithms: Cow<'static, [SigningAlgorithm]>,
}

impl SupportedAuthMethods {
    /// Returns the methods of an authority without provider metadata.
    pub(crate) fn for_rules(rules: Rules) -> Self {
        Self {
            secret: Some(TokenEndpointAuthMethod::default()),
            assertion: true,
            mutual_tls: None,
            algorithms: Cow::Borrowed(match rules.signs_with_pss() {
                true => &[SigningAlgorithm::PS256],
                false => &[
                    SigningAlgorithm::RS256,
                    SigningAlgorithm::ES256,
                    SigningAlgorithm::ES384,
                    SigningAlgorithm::EdDSA,
                ],
            }),
        }
    }

    /// Reads the methods from provider metadata ([OpenID Connect Discovery section 3]). An absent
    /// list has the standard's default. FAPI 2.0 allows fewer algorithms.
    ///
    /// [OpenID Connect Discovery section 3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
    pub(crate) fn from_metadata(metadata: &Map<String, Value>, is_fapi2: bool) -> Self {
        let list = |name: &str| {
            let list = metadata.get(name)?.as_array()?;
            let texts = list.iter().filter_map(Value::as_str);
            Some(texts.map(ToOwned::to_owned).collect::<Vec<String>>())
        };
        let algorithms = match list("token_endpoint_auth_signing_alg_values_supported") {
            None if is_fapi2 => Cow::Borrowed(SigningAlgorithm::OF_FAPI2.as_slice()),
            None => Self::for_rules(Rules::OpenId).algorithms,
            Some(supported) => PREFERRED_ALGORITHMS
                .iter()
                .filter(|algorithm| supported.iter().any(|name| name == algorithm.name()))
                .filter(|algorithm| !is_fapi2 || algorithm.is_in_fapi2())
                .copied()
                .collect(),
        };
        let Some(methods) = list("token_endpoint_auth_methods_supported") else {
            return Self {
                secret: Some(TokenEndpointAuthMethod::ClientSecretBasic),
                assertion: true,
                mutual_tls: None,
                algorithms,
            };
        };
        let supported = |method: TokenEndpointAuthMethod| {
            methods
                .iter()
                .any(|name| name == method.name())
                .then_some(method)
        };
        let mutual_tls = [
            TokenEndpointAuthMethod::TlsClientAuth,
            TokenEndpointAuthMethod::SelfSignedTlsClientAuth,
        ];
        Self {
            mutual_tls: Some(mutual_tls.into_iter().filter_map(supported).collect()),
            secret: supported(TokenEndpointAuthMethod::ClientSecretPost)
                .or_else(|| supported(TokenEndpointAuthMethod::ClientSecretBasic)),
            assertion: supported(TokenEndpointAuthMethod::PrivateKeyJwt).is_some(),
            algorithms,
        }
    }

    /// Returns the method for a client secret.
    pub(crate) fn for_secret(&self) -> Result<TokenEndpointAuthMethod, Error> {
        self.secret.ok_or_else(|| {
            unsupported(
                "secret",
                "neither client_secret_post nor client_secret_basic",
            )
        })
    }

    /// Returns the method for a client assertion.
    pub(crate) fn for_assertion(&self) -> Result<TokenEndpointAuthMethod, Error> {
        match self.assertion {
            true => Ok(TokenEndpointAuthMethod::PrivateKeyJwt),
            false => Err(unsupported("assertion", "no private_key_jwt")),
        }
    }

    /// Checks a method by the certificate of the connection.
    pub(crate) fn check_mutual_tls(&self, method: TokenEndpointAuthMethod) -> Result<(), Error> {
        let Some(supported) = &self.mutual_tls else {
            return Ok(());
        };
        if supported.contains(&method) {
            return Ok(());
        }
        let advice = match supported.first() {
            Some(other) => format!("lists {}; use that method", other.name()),
            None => "lists neither tls_client_auth nor self_signed_tls_client_auth; use another credential".to_owned(),
        };
        Err(Error::config(format!(
            "the OpenID provider does not accept {}: its token_endpoint_auth_methods_supported {advice}",
            method.name()
        )))
    }

    /// Returns the algorithms that may sign a client assertion, in order of preference.
    pub(crate) fn algorithms(&self) -> &[SigningAlgorithm] {
        &self.algorithms
    }
}

fn unsupported(credential: &str, listed: &str) -> Error {
    Error::config(format!(
        "the OpenID provider accepts no client {credential} (its token_endpoint_auth_methods_supported has {listed}); use another credential, or choose the method with token_endpoint_auth_method(..)"
    ))
}

/// Time from `iat` to `exp` for OpenID providers.
///
/// Auth0 accepts at most five minutes, and `nbf` is one minute before `iat`.
const OPENID_LIFETIME: Duration = Duration::from_secs(4 * 60);
const SHORTEST_LIFETIME: Duration = Duration::from_secs(10);
const LONGEST_LIFETIME: Duration = Duration::from_secs(60 * 60);

const PREFERRED_ALGORITHMS: [SigningAlgorithm; 5] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_method_by_the_connection_is_one_that_the_metadata_list() {
        use TokenEndpointAuthMethod::{SelfSignedTlsClientAuth, TlsClientAuth};

        let secret = "client_secret_post";
        let both = json!([secret, "tls_client_auth", "self_signed_tls_client_auth"]);
        for (listed, method, reason) in [
            (json!(null), TlsClientAuth, None),
            (both.clone(), TlsClientAuth, None),
            (both, SelfSignedTlsClientAuth, None),
            (
                json!([secret, "self_signed_tls_client_auth"]),
                TlsClientAuth,
                Some("lists self_signed_tls_client_auth; use that method"),
            ),
            (
                json!([secret]),
                SelfSignedTlsClientAuth,
                Some("lists neither"),
            ),
            (json!([]), TlsClientAuth, Some("lists neither")),
        ] {
            let metadata = json!({ "token_endpoint_auth_methods_supported": listed });
            let methods = SupportedAuthMethods::from_metadata(metadata.as_object().unwrap(), false);
            match (methods.check_mutual_tls(method), reason) {
                (Ok(()), None) => {}
                (Err(error), Some(reason)) => {
                    assert!(error.to_string().contains(reason), "{error}");
                }
                (result, _) => panic!("{metadata} {method:?}: {result:?}"),
            }
        }
    }
}
