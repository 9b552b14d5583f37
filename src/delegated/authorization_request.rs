use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::authorization_code_flow::AuthorizationCodeFlow;
use crate::delegated::redirect::check_redirect_uri;
use crate::error::Error;
use crate::request::parameters::{ParameterLocation, Parameters};
use crate::request::{AssertionClaimSet, IntoTokenRequest, TokenRequest};
use crate::token::Thumbprint;

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
    pushed: bool,
    /// Query parameters of the sign-in page alone.
    parameters: Parameters,
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
    /// application's registration. The sign-in request includes the scopes, tenant, claims,
    /// audiences, resources and query parameters of `request`. The token request after the sign-in
    /// includes all parts of `request`.
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
            pushed: false,
            parameters: Parameters::default(),
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

    /// Adds a query parameter to the URL of the sign-in page, such as Google's `access_type`.
    ///
    /// The parameter is neither sent with the token request nor a part of the cache key, unlike a
    /// [`TokenRequest::query_parameter`]. A name may repeat. On use, the client rejects parameters
    /// that the client sends itself, such as `scope`.
    ///
    /// ```
    /// use confidential_client::delegated::{AuthorizationRequest, Prompt};
    ///
    /// // Google issues a refresh token for these two parameters.
    /// let calendar = "https://www.googleapis.com/auth/calendar.readonly";
    /// let sign_in = AuthorizationRequest::new("https://app.example.org/signed-in", calendar)
    ///     .query_parameter("access_type", "offline")
    ///     .prompt(Prompt::Consent);
    /// # let _ = sign_in;
    /// ```
    #[doc(alias = "WithExtraQueryParameters")]
    #[must_use]
    pub fn query_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let location = ParameterLocation::Query;
        self.parameters.add(location, name.into(), value.into());
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

    /// Pushes the parameters of the request to the OpenID provider ([RFC 9126]).
    ///
    /// The client sends the parameters to the provider with client authentication, and the URL of
    /// the sign-in page has a reference in their place. The browser then neither sees nor changes
    /// the parameters, and their length is not limited by the URL. Providers accept the reference
    /// once and for a short time, often one minute, so redirect the browser at once.
    ///
    /// By default the client pushes the parameters only if the provider's metadata have
    /// `require_pushed_authorization_requests`, or if the authority is [`fapi2`]. Microsoft's
    /// authorities accept no pushed requests.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// use confidential_client::delegated::AuthorizationRequest;
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConfidentialClient::builder("web")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .client_secret("the secret's value")
    /// #   .transport(|request: Request<Bytes>| async move {
    /// #       let (status, body) = match request.uri().path() {
    /// #           "/par" => (201, r#"{"request_uri":"urn:example:1","expires_in":60}"#),
    /// #           _ => (200, r#"{"issuer":"https://id.example.org",
    /// #               "token_endpoint":"https://id.example.org/token",
    /// #               "pushed_authorization_request_endpoint":"https://id.example.org/par",
    /// #               "jwks_uri":"https://id.example.org/keys",
    /// #               "authorization_endpoint":"https://id.example.org/authorize"}"#),
    /// #       };
    /// #       Ok(Response::builder().status(status).body(Bytes::from(body))?)
    /// #   })
    ///     .build()?;
    /// let sign_in = AuthorizationRequest::new("https://app.example.org/back", "orders.read").pushed();
    /// let (page, flow) = client.authorization_request_url(&sign_in).await?;
    /// assert_eq!(
    ///     page,
    ///     "https://id.example.org/authorize?client_id=web&request_uri=urn%3Aexample%3A1"
    /// );
    /// # let _ = flow;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 9126]: https://www.rfc-editor.org/rfc/rfc9126
    /// [`fapi2`]: crate::Authority::fapi2
    #[doc(alias = "PAR")]
    #[doc(alias = "pushed_authorization_request")]
    #[must_use]
    pub fn pushed(mut self) -> Self {
        self.pushed = true;
        self
    }

    pub(crate) fn is_without_id_token(&self) -> bool {
        self.without_id_token
    }

    pub(crate) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    pub(crate) fn is_pushed(&self) -> bool {
        self.pushed
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
        self.parameters.check()?;
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
        let flow = AuthorizationCodeFlow {
            state: random(3),
            // FAPI 2.0 section 5.3.3.2: providers may reject a nonce of over 64 characters.
            nonce: random(2),
            code_verifier: random(3),
            redirect_uri: self.redirect_uri.clone(),
            client_id: Some(client_id.to_owned()),
            authority: Some(authority),
            scopes: request.requested_scopes().as_requested().to_string(),
            tenant: request.tenant_id().map(ToOwned::to_owned),
            claims: request.requested_claims()?.map(|claims| claims.to_string()),
            form_parameters: pairs_at(ParameterLocation::Form),
            query_parameters: pairs_at(ParameterLocation::Query),
            headers: request.extra_headers().to_pairs(),
            assertion_claims: AssertionClaimSet::of(parameters).to_json(),
            cache_partition: parameters.partition().map(ToOwned::to_owned),
            login_hint: self.login_hint.clone(),
            left_out_scopes: Vec::new(),
            max_age: self.max_age.map(|max_age| max_age.as_secs()),
            without_id_token: self.without_id_token,
        };
        flow.scopes_to_send(request.requested_scopes())?;
        Ok(flow)
    }

    /// Returns the parameters of the request ([RFC 6749 section 4.1.1], [RFC 7636 section 4.3]).
    ///
    /// `proof_key` is the thumbprint of the key that the code is bound to ([RFC 9449 section 10]).
    ///
    /// [RFC 6749 section 4.1.1]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.1
    /// [RFC 7636 section 4.3]: https://www.rfc-editor.org/rfc/rfc7636#section-4.3
    /// [RFC 9449 section 10]: https://www.rfc-editor.org/rfc/rfc9449#section-10
    pub(crate) fn parameters<'a>(
        &'a self,
        client_id: &'a str,
        flow: &'a AuthorizationCodeFlow,
        claims: Option<&'a str>,
        proof_key: Option<Thumbprint>,
    ) -> Result<Vec<(&'a str, Cow<'a, str>)>, Error> {
        let scopes = flow.scopes_to_send(self.request.requested_scopes())?;
        let max_age = self.max_age.map(|max_age| max_age.as_secs().to_string());
        let challenge = Sha256::digest(flow.code_verifier.as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        let text = |text: &'a str| Some(Cow::Borrowed(text));
        let parameters = [
            ("client_id", text(client_id)),
            ("response_type", text("code")),
            ("redirect_uri", text(&self.redirect_uri)),
            (
                "scope",
                (!scopes.is_empty()).then(|| scopes.to_string().into()),
            ),
            ("state", text(&flow.state)),
            (
                "nonce",
                text(&flow.nonce).filter(|_| !self.without_id_token),
            ),
            ("code_challenge", Some(challenge.into())),
            ("code_challenge_method", text("S256")),
            (
                "dpop_jkt",
                proof_key.map(|thumbprint| thumbprint.to_string().into()),
            ),
            ("max_age", max_age.map(Cow::Owned)),
            ("prompt", self.prompt.map(Prompt::as_str).and_then(text)),
            ("login_hint", self.login_hint.as_deref().and_then(text)),
            ("domain_hint", self.domain_hint.as_deref().and_then(text)),
            (
                "response_mode",
                text("form_post").filter(|_| self.form_post),
            ),
            ("claims", claims.and_then(text)),
        ];
        let own = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let own: Vec<_> = own.collect();
        let of_page = || self.parameters.of(ParameterLocation::Query);
        let extra = self.request.extra_parameters()?;
        let in_query = || extra.of(ParameterLocation::Query);
        // Microsoft's providers ignore the case of names.
        let is_own = |name: &str| own.iter().any(|own| own.0.eq_ignore_ascii_case(name));
        if let Some((name, _)) = of_page().chain(in_query()).find(|(name, _)| is_own(name)) {
            return Err(Error::config(format!(
                "the query parameter '{name}' is in the URL of the sign-in page already; remove query_parameter({name:?}, ..)"
            )));
        }
        // The code is for the APIs that the user consented to (RFC 8707 section 2.1).
        let indicators = extra.resource_indicators();
        let indicators = indicators.filter(|pair| !in_query().any(|known| known == *pair));
        let extra = indicators.chain(in_query()).chain(of_page());
        Ok(own
            .into_iter()
            .chain(extra.map(|(name, value)| (name, Cow::Borrowed(value))))
            .collect())
    }
}

/// Returns 122 random bits of the operating system's generator in each part of 32 characters, which
/// are characters of a code verifier
/// ([RFC 7636 section 4.1](https://www.rfc-editor.org/rfc/rfc7636#section-4.1)).
fn random(parts: usize) -> String {
    let mut random = String::with_capacity(96);
    for _ in 0..parts {
        let mut part = Uuid::encode_buffer();
        random.push_str(Uuid::new_v4().simple().encode_lower(&mut part));
    }
    random
}
