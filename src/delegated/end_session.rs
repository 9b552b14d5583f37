use std::borrow::Cow;
use std::fmt;

use super::redirect::check_redirect_uri;
use crate::error::Error;
use crate::request::parameters::{ParameterLocation, Parameters};
use crate::secret::Secret;

/// A sign-out at the identity provider, which [`end_session_url`] turns into the URL of the
/// provider's sign-out page ([OpenID Connect RP-Initiated Logout section 2]).
///
/// ```
/// use confidential_client::delegated::EndSessionRequest;
///
/// let sign_out = EndSessionRequest::new()
///     .post_logout_redirect_uri("https://app.example.org/signed-out")
///     .state("7");
/// # let _ = sign_out;
/// ```
///
/// [`end_session_url`]: crate::ConfidentialClient::end_session_url
/// [OpenID Connect RP-Initiated Logout section 2]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html#RPLogout
#[doc(alias = "logout")]
#[doc(alias = "EndSessionPopupRequest")]
#[derive(Clone, Default)]
#[must_use]
pub struct EndSessionRequest {
    id_token_hint: Option<Secret>,
    logout_hint: Option<String>,
    post_logout_redirect_uri: Option<String>,
    state: Option<String>,
    tenant: Option<String>,
    parameters: Parameters,
}

impl EndSessionRequest {
    /// Creates a request without hints. The provider may then ask the user who signs out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the ID token of the user who signs out (`id_token_hint`), which may have expired.
    ///
    /// [`AuthenticationResult::id_token`](super::AuthenticationResult::id_token) has the ID token.
    /// Many providers redirect the browser only with the hint. The URL then contains the ID token:
    /// do not log the URL.
    pub fn id_token_hint(mut self, id_token: impl Into<Secret>) -> Self {
        self.id_token_hint = Some(id_token.into());
        self
    }

    /// Sets the hint of the user who signs out (`logout_hint`).
    ///
    /// At Microsoft Entra ID the hint is the optional claim `login_hint` of the ID token
    /// ([`IdTokenClaims::login_hint`](super::IdTokenClaims::login_hint)), and the user is not
    /// asked.
    pub fn logout_hint(mut self, hint: impl Into<String>) -> Self {
        self.logout_hint = Some(hint.into());
        self
    }

    /// Sets the URI that the browser returns to after the sign-out, as registered at the provider.
    ///
    /// By default the browser stays at the provider.
    pub fn post_logout_redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.post_logout_redirect_uri = Some(uri.into());
        self
    }

    /// Sets the `state` that the browser returns with to the URI of
    /// [`post_logout_redirect_uri`](Self::post_logout_redirect_uri).
    pub fn state(mut self, state: impl Into<String>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// Sets the tenant of the sign-out page, in place of the client's tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Adds a query parameter, such as Amazon Cognito's `logout_uri`. A name may repeat.
    ///
    /// On use, the client rejects the parameters of the other methods, such as `id_token_hint`.
    pub fn query_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let location = ParameterLocation::Query;
        self.parameters.add(location, name.into(), value.into());
        self
    }

    pub(crate) fn requested_tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Checks the request without I/O, and returns the parameters of the URL.
    pub(crate) fn parameters<'a>(
        &'a self,
        client_id: &'a str,
    ) -> Result<Vec<(&'a str, Cow<'a, str>)>, Error> {
        if let Some(uri) = &self.post_logout_redirect_uri {
            check_redirect_uri(uri)?;
        } else if self.state.is_some() {
            return Err(Error::config(
                "state(..) needs post_logout_redirect_uri(..), to which the browser returns with the state; set both or neither",
            ));
        }
        let hint = self.id_token_hint.as_ref().map(Secret::expose);
        let is_jwt = |hint: &str| {
            let mut parts = hint.split('.');
            hint.matches('.').count() == 2 && parts.all(|part| !part.is_empty())
        };
        if !hint.is_none_or(is_jwt) {
            return Err(Error::config(
                "the id_token_hint is not a JWT; pass the ID token of the sign-in, not an access token or the account",
            ));
        }
        self.parameters.check()?;
        let own = [
            ("client_id", Some(client_id)),
            ("id_token_hint", hint),
            ("logout_hint", self.logout_hint.as_deref()),
            (
                "post_logout_redirect_uri",
                self.post_logout_redirect_uri.as_deref(),
            ),
            ("state", self.state.as_deref()),
        ];
        let extra = || self.parameters.of(ParameterLocation::Query);
        for (name, _) in extra() {
            // Microsoft's providers ignore the case of names.
            if let Some((own, _)) = own.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)) {
                return Err(Error::config(format!(
                    "the query parameter '{name}' is in the URL of the sign-out page by {own}(..) alone, which checks the value; call that method, and remove query_parameter({name:?}, ..)"
                )));
            }
        }
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let pairs = own.chain(extra());
        Ok(pairs.map(|(name, value)| (name, value.into())).collect())
    }
}

/// Hides the ID token and the hint of the user.
impl fmt::Debug for EndSessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndSessionRequest")
            .field("id_token_hint", &self.id_token_hint)
            .field("post_logout_redirect_uri", &self.post_logout_redirect_uri)
            .field("tenant", &self.tenant)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}
