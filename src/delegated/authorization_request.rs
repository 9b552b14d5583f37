use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::authorization_code_flow::AuthorizationCodeFlow;
use crate::delegated::redirect::check_redirect_uri;
use crate::error::Error;
use crate::request::TokenRequest;
use crate::request::parameters::ParameterLocation;

/// How a user is asked to sign in: what [`authorization_request_url`] makes a URL of.
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
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    redirect_uri: String,
    request: TokenRequest,
    prompt: Option<Prompt>,
    login_hint: Option<String>,
    domain_hint: Option<String>,
    form_post: bool,
}

/// What a user is shown who could do without ([OpenID Connect Core section 3.1.2.1]).
///
/// [OpenID Connect Core section 3.1.2.1]: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// Nothing: they come back at once, with a code or with an error.
    None,
    /// The page to sign in.
    Login,
    /// The page to choose who they are.
    SelectAccount,
    /// The page to consent. Some providers want it for `offline_access`, and so for a refresh token.
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
    /// A sign-in that ends at `redirect_uri`, one of the registration's, with a token for the scopes
    /// of `request`. Its tenant, claims and query parameters are sent along.
    pub fn new(redirect_uri: impl Into<String>, request: impl Into<TokenRequest>) -> Self {
        Self {
            redirect_uri: redirect_uri.into(),
            request: request.into(),
            prompt: None,
            login_hint: None,
            domain_hint: None,
            form_post: false,
        }
    }

    /// Says what the user is to be shown; the provider decides, unless set.
    #[must_use]
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.prompt = Some(prompt);
        self
    }

    /// Who is expected, such as `adele@contoso.com`.
    #[must_use]
    pub fn login_hint(mut self, username: impl Into<String>) -> Self {
        self.login_hint = Some(username.into());
        self
    }

    /// From where they are expected, such as `contoso.com`, where a provider federates (Microsoft's).
    #[must_use]
    pub fn domain_hint(mut self, domain: impl Into<String>) -> Self {
        self.domain_hint = Some(domain.into());
        self
    }

    /// Has the browser post the code to the redirect URI, instead of putting it into the URL. The
    /// body of that form is what
    /// [`acquire_token_by_authorization_code`](crate::ConfidentialClient::acquire_token_by_authorization_code)
    /// takes then. The session's cookie comes with such a post only if it is `SameSite=None`.
    #[must_use]
    pub fn form_post(mut self) -> Self {
        self.form_post = true;
        self
    }

    pub(crate) fn request(&self) -> &TokenRequest {
        &self.request
    }

    /// Begins a sign-in. Each has its own state, nonce and verifier.
    pub(crate) fn begin(&self) -> Result<AuthorizationCodeFlow, Error> {
        check_redirect_uri(&self.redirect_uri)?;
        let request = &self.request;
        let parameters = request.extra_parameters()?;
        let of = |place| {
            let pairs = parameters.of(place);
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        Ok(AuthorizationCodeFlow {
            state: random(),
            nonce: random(),
            code_verifier: random(),
            redirect_uri: self.redirect_uri.clone(),
            scopes: request.requested_scopes().as_requested().to_string(),
            tenant: request.tenant_id().map(ToOwned::to_owned),
            claims: request.requested_claims()?.map(|claims| claims.to_string()),
            form_parameters: of(ParameterLocation::Form),
            query_parameters: of(ParameterLocation::Query),
        })
    }

    /// The page to send the browser to ([RFC 6749 section 4.1.1], [RFC 7636 section 4.3]).
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
        let scopes = &self.request.requested_scopes().for_user()?.to_send;
        let challenge = Sha256::digest(flow.code_verifier.as_bytes());
        let mut query = page.query_pairs_mut();
        query
            .append_pair("client_id", client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", scopes)
            .append_pair("state", &flow.state)
            .append_pair("nonce", &flow.nonce)
            .append_pair("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256");
        let given = [
            ("prompt", self.prompt.map(Prompt::as_str)),
            ("login_hint", self.login_hint.as_deref()),
            ("domain_hint", self.domain_hint.as_deref()),
            ("response_mode", self.form_post.then_some("form_post")),
            ("claims", claims),
        ];
        for (name, value) in given {
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

/// 366 bits by the operating system's generator, in characters that a code verifier may have
/// ([RFC 7636 section 4.1](https://www.rfc-editor.org/rfc/rfc7636#section-4.1)).
fn random() -> String {
    let mut random = String::with_capacity(96);
    for _ in 0..3 {
        let mut part = Uuid::encode_buffer();
        random.push_str(Uuid::new_v4().simple().encode_lower(&mut part));
    }
    random
}
