#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::delegated::redirect::{DuplicateParameter, RedirectQuery};
use crate::error::{Error, ErrorResponse, Escaped, Failure};
use crate::grant::Grant;
use crate::request::TokenRequest;
use crate::secret::Secret;

/// State of a sign-in in progress. Store it in the user's session until the redirect arrives.
///
/// The state proves that the same user returns from the sign-in page. The flow contains a secret,
/// the code verifier, so store the serialized flow on the server or in an encrypted cookie. A flow
/// is valid for one sign-in. Delete the flow afterwards.
#[doc(alias = "initiate_auth_code_flow")]
#[doc(alias = "auth_code_flow")]
#[doc(alias = "PKCE")]
#[derive(Clone, Serialize, Deserialize)]
pub struct AuthorizationCodeFlow {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) code_verifier: String,
    pub(super) redirect_uri: String,
    pub(super) scopes: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) form_parameters: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) query_parameters: Vec<(String, String)>,
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
        request
    }

    /// Returns the authorization code of a redirect ([RFC 6749 section 4.1.2]).
    ///
    /// Rejects a redirect of another sign-in. `issuer` is the authority's issuer, if the
    /// authority's redirects name the issuer ([RFC 9207]).
    ///
    /// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    pub(crate) fn code(&self, redirected: &str, issuer: Option<&str>) -> Result<Secret, Error> {
        let query = RedirectQuery::new(redirected);
        let single_value = |name: &str| {
            query
                .single_value(name)
                .map_err(|DuplicateParameter(reason)| invalid_response(&reason))
        };
        // An empty state never matches, even if the session store lost the flow's state.
        let state = single_value("state")?.filter(|state| !state.is_empty());
        if state.as_deref() != Some(&*self.state) {
            return Err(invalid_response(
                "its state is not the one that was sent, so the response may belong to another sign-in; start the sign-in again",
            ));
        }
        if let (Some(named), Some(issuer)) = (single_value("iss")?, issuer)
            && named != issuer
        {
            return Err(invalid_response(
                "it names another issuer than the issuer of the authority; start the sign-in again",
            ));
        }
        if let Some(error) = single_value("error")? {
            return Err(sign_in_failed(error, single_value("error_description")?));
        }
        match single_value("code")?.filter(|code| !code.is_empty()) {
            Some(code) => Ok(Secret::from(code)),
            None => Err(invalid_response("it has neither a 'code' nor an 'error'")),
        }
    }

    /// Returns the code verifier ([RFC 7636 section 4.1](https://www.rfc-editor.org/rfc/rfc7636#section-4.1)).
    pub(crate) fn verifier(&self) -> Secret {
        Secret::from(&self.code_verifier)
    }

    /// Returns the grant that redeems the code.
    pub(crate) fn grant<'a>(&'a self, code: &'a Secret, verifier: &'a Secret) -> Grant<'a> {
        Grant::AuthorizationCode {
            code,
            redirect_uri: &self.redirect_uri,
            verifier,
        }
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

fn invalid_response(reason: &str) -> Error {
    let message = format!("the authorization response cannot be used: {reason}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// Truncates a text of the redirect. Anyone can send a browser here with a text of any length.
fn truncated(text: &str) -> String {
    text.chars().take(500).collect()
}
