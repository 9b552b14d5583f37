use url::form_urlencoded::Serializer;

use crate::secret::Secret;

mod single_use;

pub(crate) use single_use::SingleUseGrant;

/// The authorization grant of a token request ([RFC 6749 section 1.3]).
///
/// [RFC 6749 section 1.3]: https://www.rfc-editor.org/rfc/rfc6749#section-1.3
#[derive(Clone, Copy)]
pub(crate) enum Grant<'a> {
    /// The application's own identity ([RFC 6749 section 4.4]).
    ///
    /// [RFC 6749 section 4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
    ClientCredentials,
    /// The access token of the calling user ([RFC 7523 section 2.1], Entra's on-behalf-of flow).
    ///
    /// [RFC 7523 section 2.1]: https://www.rfc-editor.org/rfc/rfc7523#section-2.1
    OnBehalfOf { assertion: &'a Secret },
    /// A token that is exchanged for another ([RFC 8693 section 2.1]).
    ///
    /// [RFC 8693 section 2.1]: https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    TokenExchange {
        subject: TypedToken<'a>,
        actor: Option<TypedToken<'a>>,
        requested_token_type: Option<&'a str>,
    },
    /// The token by which an application acts as a user (Entra's user federated identity
    /// credential).
    UserFic {
        user: UserName<'a>,
        credential: &'a Secret,
    },
    /// The code of a user's sign-in ([RFC 6749 section 4.1.3]), with the PKCE verifier
    /// ([RFC 7636 section 4.5]).
    ///
    /// [RFC 6749 section 4.1.3]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3
    /// [RFC 7636 section 4.5]: https://www.rfc-editor.org/rfc/rfc7636#section-4.5
    AuthorizationCode {
        code: &'a SingleUseGrant,
        redirect_uri: &'a str,
        verifier: &'a Secret,
    },
    /// The refresh token of an earlier response ([RFC 6749 section 6]).
    ///
    /// [RFC 6749 section 6]: https://www.rfc-editor.org/rfc/rfc6749#section-6
    RefreshToken(&'a SingleUseGrant),
}

/// A user whom the application names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserName<'a> {
    /// A GUID with hyphens.
    ObjectId(&'a str),
    Username(&'a str),
}

/// A token of a token exchange, and the URI of the token's type.
#[derive(Clone, Copy)]
pub(crate) struct TypedToken<'a> {
    pub(crate) token: &'a Secret,
    pub(crate) token_type: &'a str,
}

impl<'a> Grant<'a> {
    /// Returns whether the grant yields a user's token.
    pub(crate) fn is_of_a_user(self) -> bool {
        !matches!(self, Self::ClientCredentials)
    }

    /// Returns whether the token may be another than an access token.
    pub(crate) fn is_token_exchange(self) -> bool {
        matches!(self, Self::TokenExchange { .. })
    }

    /// Returns whether a new sign-in can replace the grant.
    pub(crate) fn is_interactive(self) -> bool {
        matches!(self, Self::AuthorizationCode { .. } | Self::RefreshToken(_))
    }

    /// Returns the grant that a strict provider accepts once.
    pub(crate) fn single_use(self) -> Option<&'a SingleUseGrant> {
        match self {
            Self::ClientCredentials
            | Self::OnBehalfOf { .. }
            | Self::TokenExchange { .. }
            | Self::UserFic { .. } => None,
            Self::AuthorizationCode { code, .. } => Some(code),
            Self::RefreshToken(refresh_token) => Some(refresh_token),
        }
    }

    /// Returns whether a token request with the grant may be sent. False for a code or a refresh
    /// token that an earlier request may have presented.
    pub(crate) fn can_be_presented(self) -> bool {
        self.single_use().is_none_or(|grant| !grant.is_in_doubt())
    }

    /// Appends the form parameters of the grant.
    pub(crate) fn append_to(self, form: &mut Serializer<'_, String>) {
        match self {
            Self::ClientCredentials => {
                form.append_pair("grant_type", "client_credentials");
            }
            Self::OnBehalfOf { assertion } => {
                form.append_pair("grant_type", JWT_BEARER);
                form.append_pair("assertion", assertion.expose());
                form.append_pair("requested_token_use", "on_behalf_of");
            }
            Self::TokenExchange {
                subject,
                actor,
                requested_token_type,
            } => {
                form.append_pair("grant_type", TOKEN_EXCHANGE);
                form.append_pair("subject_token", subject.token.expose());
                form.append_pair("subject_token_type", subject.token_type);
                if let Some(actor) = actor {
                    form.append_pair("actor_token", actor.token.expose());
                    form.append_pair("actor_token_type", actor.token_type);
                }
                if let Some(requested) = requested_token_type {
                    form.append_pair("requested_token_type", requested);
                }
            }
            Self::UserFic { user, credential } => {
                form.append_pair("grant_type", "user_fic");
                form.append_pair("user_federated_identity_credential", credential.expose());
                match user {
                    UserName::ObjectId(id) => form.append_pair("user_id", id),
                    UserName::Username(name) => form.append_pair("username", name),
                };
            }
            Self::AuthorizationCode {
                code,
                redirect_uri,
                verifier,
            } => {
                form.append_pair("grant_type", "authorization_code");
                form.append_pair("code", code.secret().expose());
                form.append_pair("redirect_uri", redirect_uri);
                form.append_pair("code_verifier", verifier.expose());
            }
            Self::RefreshToken(refresh_token) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", refresh_token.secret().expose());
            }
        }
    }

    /// Returns the secrets of the grant, for masking.
    pub(crate) fn secrets(self) -> impl Iterator<Item = &'a Secret> {
        let (first, second) = match self {
            Self::ClientCredentials => (None, None),
            Self::OnBehalfOf { assertion } => (Some(assertion), None),
            Self::UserFic { credential, .. } => (Some(credential), None),
            Self::TokenExchange { subject, actor, .. } => {
                (Some(subject.token), actor.map(|actor| actor.token))
            }
            Self::AuthorizationCode { code, verifier, .. } => (Some(code.secret()), Some(verifier)),
            Self::RefreshToken(refresh_token) => (Some(refresh_token.secret()), None),
        };
        first.into_iter().chain(second)
    }
}

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
