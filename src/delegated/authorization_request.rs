use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::authorization_code_flow::AuthorizationCodeFlow;
use crate::delegated::redirect::check_redirect_uri;
use crate::error::Error;
use crate::request::parameters::ParameterLocation;
use crate::request::{IntoTokenRequest, TokenRequest};

/// A sign-in request, which [`authorization_request_url`] turns into the URL of the sign-in page.
///
/// ```
/// use confidential_client::delegated::{AuthorizationRequest, Prompt};
///
/// let sign_in = AuthorizationRequest::new("https://app.example.org/signed-in", "api://drive/Files.Read")
///     .login_hint("adele@contoso.com")
///     .prompt(Prompt::SelectAccount);
/// # let _ = sign_in;
/// ```
///
/// [`authorization_request_url`]: crate::ConfidentialClient::authorization_request_url
#[doc(alias = "get_authorization_request_url")]
#[doc(alias = "GetAuthorizationRequestUrl")]
#[doc(alias = "AuthorizationUrlRequest")]
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    redirect_uri: String,
    request: TokenRequest,
    prompt: Option<Prompt>,
    login_hint: Option<String>,
    domain_hint: Option<String>,
    form_post: bool,
    max_age: Option<Duration>,
    without_id_token: bool,
}

/// The page that the provider must show, even to a user with a session
/// ([OpenID Connect Core section 3.1.2.1]).
///
/// [OpenID Connect Core section 3.1.2.1]: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// No page. The user is redirected at once, with a code or an error.
    None,
    /// The sign-in page.
    Login,
    /// The account selection page.
    SelectAccount,
    /// The consent page. Some providers require consent for `offline_access`, and so for a refresh
    /// token.
    Consent,
}

impl Prompt {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Login => "login",
            Self::SelectAccount => "select_account",
            Self::Consent => "consent",
        }
    }
}

impl AuthorizationRequest {
    /// Creates a sign-in request with a token request.
    ///
    /// The provider redirects the user to `redirect_uri`, which must be a redirect URI of the
    /// application's registration. The sign-in request includes the scopes, tenant, claims and
    /// query parameters of `request`.
    pub fn new(redirect_uri: impl Into<String>, request: impl IntoTokenRequest) -> Self {
        Self {
            redirect_uri: redirect_uri.into(),
            request: request.into_token_request(),
            prompt: None,
            login_hint: None,
            domain_hint: None,
            form_post: false,
            max_age: None,
            without_id_token: false,
        }
    }

    /// Sets the page that the provider must show. By default the provider decides.
    #[must_use]
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.prompt = Some(prompt);
        self
    }

    /// Sets the user name that the sign-in page suggests, such as `adele@contoso.com`.
    #[must_use]
    pub fn login_hint(mut self, username: impl Into<String>) -> Self {
        self.login_hint = Some(username.into());
        self
    }

    /// Sets the user's domain, such as `contoso.com`, for federated sign-in at Microsoft Entra ID.
    #[must_use]
    pub fn domain_hint(mut self, domain: impl Into<String>) -> Self {
        self.domain_hint = Some(domain.into());
        self
    }

    /// Sends the code in a form that the browser posts to the redirect URI, and not in the URL.
    ///
    /// Pass the body of the posted form to [`acquire_token_by_authorization_code`][by-code]. The
    /// browser sends the session cookie with the post only if the cookie has `SameSite=None`.
    ///
    /// [by-code]: crate::ConfidentialClient::acquire_token_by_authorization_code
    #[doc(alias = "response_mode")]
    #[must_use]
    pub fn form_post(mut self) -> Self {
        self.form_post = true;
        self
    }

    /// Sets the longest accepted time since the user authenticated at the provider
    /// ([OpenID Connect Core section 3.1.2.1]).
    ///
    /// The default is no limit. The provider lets the user authenticate again if more time has
    /// passed. The unit is the second, and fractions are cut. The client rejects an ID token
    /// without `auth_time`, and an ID token whose `auth_time` is more than `max_age` and five
    /// minutes ago. Microsoft Entra ID sends `auth_time` only as an optional claim of the app
    /// registration.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::delegated::AuthorizationRequest;
    ///
    /// let transfer = AuthorizationRequest::new("https://app.example.org/signed-in", "api://bank/Pay")
    ///     .max_age(Duration::from_secs(5 * 60));
    /// # let _ = transfer;
    /// ```
    ///
    /// [OpenID Connect Core section 3.1.2.1]: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Requests no ID token, for a server that issues none ([RFC 6749] without OpenID Connect).
    ///
    /// The scopes are sent as they are, without `openid`, `profile` and `offline_access`. The
    /// sign-in yields an access token and no [`Account`](super::Account). Pass the flow to
    /// [`acquire_access_token_by_authorization_code`][by-code].
    ///
    /// [RFC 6749]: https://www.rfc-editor.org/rfc/rfc6749
    /// [by-code]: crate::ConfidentialClient::acquire_access_token_by_authorization_code
    #[must_use]
    pub fn without_id_token(mut self) -> Self {
        self.without_id_token = true;
        self
    }

    pub(crate) fn is_without_id_token(&self) -> bool {
        self.without_id_token
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Starts a sign-in with a new state, nonce and code verifier.
    ///
    /// The flow remembers the client and the URL of the client's authority.
    pub(crate) fn begin(
        &self,
        client_id: &str,
        authority: String,
    ) -> Result<AuthorizationCodeFlow, Error> {
        check_redirect_uri(&self.redirect_uri)?;
        self.scopes_to_send()?;
        if self.without_id_token && self.max_age.is_some() {
            return Err(Error::config(
                "max_age(..) needs an ID token, and without_id_token() requests none; leave one of the two out",
            ));
        }
        let request = &self.request;
        let parameters = request.extra_parameters()?;
        let pairs_at = |location| {
            let pairs = parameters.of(location);
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        Ok(AuthorizationCodeFlow {
            state: random(),
            nonce: random(),
            code_verifier: random(),
            redirect_uri: self.redirect_uri.clone(),
            client_id: Some(client_id.to_owned()),
            authority: Some(authority),
            scopes: request.requested_scopes().as_requested().to_string(),
            tenant: request.tenant_id().map(ToOwned::to_owned),
            claims: request.requested_claims()?.map(|claims| claims.to_string()),
            form_parameters: pairs_at(ParameterLocation::Form),
            query_parameters: pairs_at(ParameterLocation::Query),
            max_age: self.max_age.map(|max_age| max_age.as_secs()),
            without_id_token: self.without_id_token,
        })
    }

    fn scopes_to_send(&self) -> Result<&Arc<str>, Error> {
        let scopes = self.request.requested_scopes();
        match self.without_id_token {
            true => scopes.without_openid(),
            false => Ok(&scopes.for_user()?.to_send),
        }
    }

    /// Returns the URL of the sign-in page ([RFC 6749 section 4.1.1], [RFC 7636 section 4.3]).
    ///
    /// [RFC 6749 section 4.1.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1
    /// [RFC 7636 section 4.3]: https://www.rfc-editor.org/rfc/rfc7636#section-4.3
    pub(crate) fn url(
        &self,
        mut page: Url,
        client_id: &str,
        flow: &AuthorizationCodeFlow,
        claims: Option<&str>,
    ) -> Result<String, Error> {
        let scopes = self.scopes_to_send()?;
        let max_age = self.max_age.map(|max_age| max_age.as_secs().to_string());
        let challenge = Sha256::digest(flow.code_verifier.as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        let mut query = page.query_pairs_mut();
        let parameters = [
            ("client_id", Some(client_id)),
            ("response_type", Some("code")),
            ("redirect_uri", Some(&*self.redirect_uri)),
            ("scope", Some(&**scopes).filter(|scopes| !scopes.is_empty())),
            ("state", Some(&*flow.state)),
            ("nonce", (!self.without_id_token).then_some(&*flow.nonce)),
            ("code_challenge", Some(&*challenge)),
            ("code_challenge_method", Some("S256")),
            ("max_age", max_age.as_deref()),
            ("prompt", self.prompt.map(Prompt::as_str)),
            ("login_hint", self.login_hint.as_deref()),
            ("domain_hint", self.domain_hint.as_deref()),
            ("response_mode", self.form_post.then_some("form_post")),
            ("claims", claims),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(
            self.request
                .extra_parameters()?
                .of(ParameterLocation::Query),
        );
        drop(query);
        Ok(page.into())
    }
}

/// Returns 366 random bits of the operating system's generator, in characters of a code verifier
/// ([RFC 7636 section 4.1](https://www.rfc-editor.org/rfc/rfc7636#section-4.1)).
fn random() -> String {
    let mut random = String::with_capacity(96);
    for _ in 0..3 {
        let mut part = Uuid::encode_buffer();
        random.push_str(Uuid::new_v4().simple().encode_lower(&mut part));
    }
    random
}
