#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::delegated::redirect::{DuplicateParameter, RedirectQuery, check_arrival};
use crate::error::{Error, ErrorResponse, Escaped, Failure};
use crate::grant::{Grant, SingleUseGrant};
use crate::request::TokenRequest;
use crate::request::anchor_mailbox::AnchorMailbox;
use crate::scope::Scopes;
use crate::secret::Secret;

/// State of a sign-in in progress. Store it in the user's session until the redirect arrives.
///
/// The state proves that the same user returns from the sign-in page. The flow contains a secret,
/// the code verifier, so store the serialized flow on the server or in an encrypted cookie. A flow
/// is valid for one sign-in. Delete the flow afterwards.
///
/// The flow remembers the client and the authority of the sign-in. Another client rejects the flow.
/// A flow that an earlier version of this crate serialized has neither, and is accepted without
/// that check.
#[doc(alias = "initiate_auth_code_flow")]
#[doc(alias = "auth_code_flow")]
#[doc(alias = "PKCE")]
#[derive(Clone, Serialize, Deserialize)]
pub struct AuthorizationCodeFlow {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) code_verifier: String,
    pub(super) redirect_uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    /// The authority's URL, which is the issuer of an OpenID provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authority: Option<String>,
    pub(super) scopes: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) form_parameters: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) query_parameters: Vec<(String, String)>,
    /// Extra headers of the requests to the provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) headers: Vec<(String, String)>,
    /// The extra claims of the client assertion, as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) assertion_claims: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cache_partition: Option<String>,
    /// The name of the user, if the sign-in named the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) login_hint: Option<String>,
    /// The OpenID Connect scopes that the provider does not have, and that are not sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out_scopes: Vec<String>,
    /// The longest time since the user authenticated, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_id_token: bool,
}

/// The redirect that ends a sign-in, with a code or an error.
pub(crate) struct SignInResponse {
    issuer: Option<String>,
    code: Result<SingleUseGrant, Error>,
}

impl AuthorizationCodeFlow {
    /// Returns the `state` parameter of the redirect.
    ///
    /// Use the state as the flow's key in the session, so that a user can sign in from two windows
    /// at the same time.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Returns the nonce that the ID token must contain.
    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Returns the longest time since the user authenticated.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.max_age.map(Duration::from_secs)
    }

    /// Returns the user that the sign-in named.
    pub(crate) fn anchor_mailbox(&self) -> Option<AnchorMailbox<'_>> {
        AnchorMailbox::of_login_hint(self.login_hint.as_deref()?)
    }

    /// Leaves the scopes out that the client adds and that the provider does not have.
    pub(crate) fn leave_out_scopes(&mut self, scopes: Vec<String>) {
        self.left_out_scopes = scopes;
    }

    /// Returns the scopes to send to the sign-in page and with the code.
    pub(crate) fn scopes_to_send(&self, scopes: &Scopes) -> Result<Arc<str>, Error> {
        match self.without_id_token {
            true => scopes.without_openid().cloned(),
            false => scopes.for_user_without(&self.left_out_scopes),
        }
    }

    /// Returns `true` if the sign-in requested no ID token.
    pub(crate) fn is_without_id_token(&self) -> bool {
        self.without_id_token
    }

    /// Checks that this client began the sign-in. `authority` is the URL of the client's authority.
    pub(crate) fn check_client(&self, client_id: &str, authority: &str) -> Result<(), Error> {
        let is_other =
            |known: &Option<String>, own: &str| known.as_deref().is_some_and(|known| known != own);
        if !is_other(&self.client_id, client_id) && !is_other(&self.authority, authority) {
            return Ok(());
        }
        Err(invalid_response(&format!(
            "the client '{}' began the sign-in at '{}', and this is the client '{client_id}' at '{authority}'; redeem the code with the client that began the sign-in",
            Escaped(self.client_id.as_deref().unwrap_or_default()),
            Escaped(self.authority.as_deref().unwrap_or_default()),
        )))
    }

    /// Returns the token request of the sign-in.
    pub(crate) fn request(&self) -> TokenRequest {
        let mut request = TokenRequest::new(&self.scopes);
        if let Some(tenant) = &self.tenant {
            request = request.tenant(tenant);
        }
        if let Some(claims) = &self.claims {
            request = request.claims(claims);
        }
        for (name, value) in &self.form_parameters {
            request = request.form_parameter(name, value);
        }
        for (name, value) in &self.query_parameters {
            request = request.query_parameter(name, value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(claims) = &self.assertion_claims {
            request = request.client_assertion_claims(claims);
        }
        if let Some(partition) = &self.cache_partition {
            request = request.cache_partition(partition);
        }
        request
    }

    /// Returns the response in a redirect ([RFC 6749 section 4.1.2]).
    ///
    /// Rejects a redirect of another sign-in. The caller checks the issuer.
    ///
    /// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
    pub(crate) fn response(&self, redirected: &str) -> Result<SignInResponse, Error> {
        let query = RedirectQuery::new(redirected);
        let single_value = |name: &str| {
            query
                .single_value(name)
                .map_err(|DuplicateParameter(reason)| invalid_response(&reason))
        };
        // An empty state never matches, even if the session store lost the flow's state.
        let Some(state) = single_value("state")? else {
            return Err(invalid_response(
                "it has no state; pass the whole URL or its query, and not the code alone",
            ));
        };
        let state = Some(state).filter(|state| !state.is_empty());
        if state.as_deref() != Some(&*self.state) {
            return Err(invalid_response(
                "its state is not the one that was sent, so the response may belong to another sign-in; start the sign-in again",
            ));
        }
        check_arrival(redirected, &self.redirect_uri)
            .map_err(|reason| invalid_response(&reason))?;
        let issuer = single_value("iss")?;
        let code = match (single_value("error")?, single_value("code")?) {
            (Some(error), _) => Err(sign_in_failed(error, single_value("error_description")?)),
            (None, Some(code)) if !code.is_empty() => Ok(SingleUseGrant::new(Secret::from(code))),
            (None, _) => return Err(invalid_response("it has neither a 'code' nor an 'error'")),
        };
        Ok(SignInResponse { issuer, code })
    }

    /// Returns the code verifier ([RFC 7636 section 4.1](https://www.rfc-editor.org/rfc/rfc7636#section-4.1)).
    pub(crate) fn verifier(&self) -> Secret {
        Secret::from(&self.code_verifier)
    }

    /// Returns the grant that redeems the code.
    pub(crate) fn grant<'a>(&'a self, code: &'a SingleUseGrant, verifier: &'a Secret) -> Grant<'a> {
        Grant::AuthorizationCode {
            code,
            redirect_uri: &self.redirect_uri,
            verifier,
        }
    }
}

impl SignInResponse {
    /// Returns the `iss` parameter ([RFC 9207 section 2](https://www.rfc-editor.org/rfc/rfc9207#section-2)).
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns the authorization code, or the error of the sign-in.
    pub(crate) fn code(&self) -> Result<&SingleUseGrant, Error> {
        self.code.as_ref().map_err(Error::clone)
    }
}

impl fmt::Debug for AuthorizationCodeFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationCodeFlow")
            .field("redirect_uri", &self.redirect_uri)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Builds the error for a redirect with an error instead of a code.
fn sign_in_failed(error: String, description: Option<String>) -> Error {
    let mut message = format!("the sign-in failed: {}", Escaped(&truncated(&error)));
    if let Some(description) = &description {
        message.push_str(": ");
        message.push_str(&Escaped(&truncated(description)).to_string());
    }
    let mut response = ErrorResponse::new(StatusCode::FOUND, truncated(&error));
    response.error_description = description.as_deref().map(truncated);
    let failure = Failure::new(message).server(Some(response.into()));
    Error::InteractionRequired(failure.into())
}

pub(crate) fn invalid_response(reason: &str) -> Error {
    let message = format!("the authorization response cannot be used: {reason}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// Truncates a text of the redirect. Anyone can send a browser here with a text of any length.
fn truncated(text: &str) -> String {
    text.chars().take(500).collect()
}
