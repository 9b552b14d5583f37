use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::token_type_identifier::TokenTypeIdentifier;
use crate::error::Error;
use crate::grant::{Grant, TypedToken};
use crate::request::TokenRequest;
use crate::request::parameters::ParameterLocation;
use crate::secret::Secret;
use crate::token::{AccessToken, UserKey};

/// A token to exchange, and the token to get for it ([RFC 8693]), for [`exchange_token`].
///
/// A plain value, cheap to clone. The tokens and the settings are checked when a call uses them.
/// `Debug` hides the tokens.
///
/// The client does not validate the subject token. An API must validate a token that it received,
/// for example with [`TokenValidator`](crate::resource::TokenValidator). The identity provider
/// validates the token again.
///
/// ```
/// use confidential_client::delegated::{TokenExchange, TokenTypeIdentifier};
///
/// # let received_token = "eyJ";
/// let orders = TokenExchange::new(received_token, TokenTypeIdentifier::ACCESS_TOKEN)
///     .audience("orders")
///     .scopes(["read"]);
/// # let _ = orders;
/// ```
///
/// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
/// [`exchange_token`]: crate::ConfidentialClient::exchange_token
#[doc(alias("subject_token", "impersonation", "delegation", "RFC 8693"))]
#[derive(Clone)]
pub struct TokenExchange {
    tokens: Arc<ExchangedTokens>,
    request: TokenRequest,
}

/// The tokens to exchange and their types, with the key of the cache.
#[derive(Clone)]
struct ExchangedTokens {
    subject: (Secret, TokenTypeIdentifier),
    actor: Option<(Secret, TokenTypeIdentifier)>,
    requested: Option<TokenTypeIdentifier>,
    user: OnceLock<Arc<UserKey>>,
}

impl TokenExchange {
    /// Creates an exchange of `subject_token`, which names the user or the application to act for.
    ///
    /// The text has no prefix `Bearer`.
    pub fn new(subject_token: impl Into<Secret>, subject_token_type: TokenTypeIdentifier) -> Self {
        Self {
            tokens: Arc::new(ExchangedTokens {
                subject: (subject_token.into(), subject_token_type),
                actor: None,
                requested: None,
                user: OnceLock::new(),
            }),
            request: TokenRequest::from([]),
        }
    }

    /// Adds the token of the party that acts for the subject.
    ///
    /// By default the identity provider treats the client as the actor, or issues a token without
    /// an actor. Keycloak and Auth0 accept no actor token.
    pub fn actor_token(
        self,
        actor_token: impl Into<Secret>,
        actor_token_type: TokenTypeIdentifier,
    ) -> Self {
        let actor = (actor_token.into(), actor_token_type);
        self.update(|tokens| tokens.actor = Some(actor))
    }

    /// Sets the type of the token to get. By default the identity provider decides, and nearly
    /// always issues an access token.
    ///
    /// A token of another type is not for the `Authorization` header of an API call:
    /// [`AccessToken::scheme`] is then
    /// [`NotApplicable`](crate::TokenScheme::NotApplicable), and the token's text is in
    /// [`AccessToken::secret`] alone.
    pub fn requested_token_type(self, token_type: TokenTypeIdentifier) -> Self {
        self.update(|tokens| tokens.requested = Some(token_type))
    }

    /// Adds the name of a service that the token is for, such as the client id of an API at
    /// Keycloak. See [`TokenRequest::audience`].
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.update_request(|request| request.audience(audience))
    }

    /// Adds the URI of a service that the token is for. See [`TokenRequest::resource`].
    pub fn resource(self, uri: impl Into<String>) -> Self {
        self.update_request(|request| request.resource(uri))
    }

    /// Adds scopes. By default the identity provider decides.
    pub fn scopes<S: AsRef<str>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.update_request(|request| request.scopes(scopes))
    }

    /// Adds a form parameter, such as Keycloak's `subject_issuer`. See
    /// [`TokenRequest::form_parameter`].
    pub fn form_parameter(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.update_request(|request| request.form_parameter(name, value))
    }

    /// Sets an extra header. See [`TokenRequest::header`].
    pub fn header(self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.update_request(|request| request.header(name, value))
    }

    /// Adds claims to the client assertion. See [`TokenRequest::client_assertion_claims`].
    pub fn client_assertion_claims(self, json: impl AsRef<str>) -> Self {
        self.update_request(|request| request.client_assertion_claims(json))
    }

    /// Separates the cached tokens of this exchange from those of other partitions. See
    /// [`TokenRequest::cache_partition`].
    pub fn cache_partition(self, partition: impl Into<String>) -> Self {
        self.update_request(|request| request.cache_partition(partition))
    }

    /// Sets the GUID to send as `client-request-id`. See [`TokenRequest::correlation_id`].
    pub fn correlation_id(self, guid: impl Into<String>) -> Self {
        self.update_request(|request| request.correlation_id(guid))
    }

    /// Requests a token other than `token`, because an API rejected `token`. See
    /// [`TokenRequest::rejected_token`].
    pub fn rejected_token(self, token: &AccessToken) -> Self {
        self.update_request(|request| request.rejected_token(token))
    }

    /// Exchanges the token even if the cache holds a valid token. See
    /// [`TokenRequest::force_refresh`].
    pub fn force_refresh(self) -> Self {
        self.update_request(TokenRequest::force_refresh)
    }

    fn update(mut self, change: impl FnOnce(&mut ExchangedTokens)) -> Self {
        let tokens = Arc::make_mut(&mut self.tokens);
        tokens.user = OnceLock::new();
        change(tokens);
        self
    }

    fn update_request(self, change: impl FnOnce(TokenRequest) -> TokenRequest) -> Self {
        Self {
            request: change(self.request),
            ..self
        }
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Returns the key of the exchanged tokens in the cache.
    pub(crate) fn user(&self) -> &Arc<UserKey> {
        let tokens = &self.tokens;
        let key = || Arc::new(UserKey::Exchange(tokens.hash()));
        tokens.user.get_or_init(key)
    }

    pub(crate) fn grant(&self) -> Grant<'_> {
        let ExchangedTokens {
            subject,
            actor,
            requested,
            user: _,
        } = &*self.tokens;
        Grant::TokenExchange {
            subject: typed(subject),
            actor: actor.as_ref().map(typed),
            requested_token_type: requested.as_ref().map(TokenTypeIdentifier::as_str),
        }
    }

    /// Rejects text that is no token, and a type that is no URI.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let tokens = &*self.tokens;
        check_token("subject", &tokens.subject)?;
        if let Some(actor) = &tokens.actor {
            check_token("actor", actor)?;
        }
        if let Some(requested) = &tokens.requested {
            requested.check()?;
        }
        let parameters = self.request.extra_parameters()?;
        match parameters
            .of(ParameterLocation::Form)
            .chain(parameters.of(ParameterLocation::Query))
            .any(|(name, _)| name.eq_ignore_ascii_case("requested_token_type"))
        {
            true => Err(Error::config(
                "the parameter 'requested_token_type' is reserved in a token exchange; remove it, and call requested_token_type(..)",
            )),
            false => Ok(()),
        }
    }
}

impl ExchangedTokens {
    /// Hashes the tokens and the types, each with its length.
    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |text: Option<&str>| match text {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(text);
            }
        };
        for token in [Some(&self.subject), self.actor.as_ref()] {
            add(token.map(|(token, _)| token.expose()));
            add(token.map(|(_, token_type)| token_type.as_str()));
        }
        add(self.requested.as_ref().map(TokenTypeIdentifier::as_str));
        hash.finalize().into()
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = &*self.tokens;
        f.debug_struct("TokenExchange")
            .field("subject_token_type", &tokens.subject.1)
            .field(
                "actor_token_type",
                &tokens.actor.as_ref().map(|(_, kind)| kind),
            )
            .field("requested_token_type", &tokens.requested)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

fn typed((token, token_type): &(Secret, TokenTypeIdentifier)) -> TypedToken<'_> {
    TypedToken {
        token,
        token_type: token_type.as_str(),
    }
}

fn check_token(
    party: &str,
    (token, token_type): &(Secret, TokenTypeIdentifier),
) -> Result<(), Error> {
    let token = token.expose();
    if token.trim().is_empty() {
        return Err(Error::config(format!(
            "the {party} token of the token exchange is empty; pass the token to exchange"
        )));
    }
    if token.contains(char::is_whitespace) {
        return Err(Error::config(format!(
            "the {party} token of the token exchange contains white space; pass the token alone, without 'Bearer' before the token, and a SAML assertion in base64url"
        )));
    }
    token_type.check()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(token: &str) -> TokenExchange {
        TokenExchange::new(token, TokenTypeIdentifier::ACCESS_TOKEN)
    }

    #[test]
    fn the_key_is_a_hash_of_every_token_and_type() {
        use TokenTypeIdentifier as Type;

        let all = [
            exchange("a"),
            exchange("b"),
            TokenExchange::new("a", Type::JWT),
            exchange("a").actor_token("b", Type::JWT),
            exchange("a").actor_token("c", Type::JWT),
            exchange("a").actor_token("b", Type::ID_TOKEN),
            exchange("a").requested_token_type(Type::JWT),
            exchange("a").requested_token_type(Type::ID_TOKEN),
        ];
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(
                    one.user() == other.user(),
                    at == other_at,
                    "{one:?} {other:?}"
                );
            }
        }
        // The key that was read before a change is not the key afterwards.
        let one = exchange("a");
        let before = Arc::clone(one.user());
        assert_ne!(&before, one.requested_token_type(Type::JWT).user());
    }

    #[test]
    fn text_that_is_no_token_and_types_that_are_no_uri_are_rejected() {
        let custom = TokenTypeIdentifier::custom;
        for (exchange, text) in [
            (
                exchange(""),
                "the subject token of the token exchange is empty",
            ),
            (exchange("Bearer a"), "without 'Bearer'"),
            (
                exchange("a").actor_token(" ", TokenTypeIdentifier::JWT),
                "the actor token of the token exchange is empty",
            ),
            (
                TokenExchange::new("a", custom("jwt")),
                "\"jwt\" is not a URI",
            ),
            (
                exchange("a").actor_token("b", custom("id")),
                "\"id\" is not a URI",
            ),
            (
                exchange("a").requested_token_type(custom("access")),
                "\"access\" is not a URI",
            ),
            (
                exchange("a").form_parameter("requested_token_type", "urn:x"),
                "call requested_token_type(..)",
            ),
            (
                exchange("a").form_parameter("subject_token", "b"),
                "'subject_token' is reserved",
            ),
        ] {
            let error = exchange.check().unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
        exchange("a").check().unwrap();
    }

    #[test]
    fn debug_hides_the_tokens() {
        let exchange =
            exchange("subject-token").actor_token("actor-token", TokenTypeIdentifier::JWT);
        let debug = format!("{exchange:?}{:?}", exchange.user());
        assert!(
            !debug.contains("subject-token") && !debug.contains("actor-token"),
            "{debug}"
        );
        assert!(debug.contains("token-type:jwt"), "{debug}");
    }
}
