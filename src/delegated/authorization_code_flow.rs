#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::fmt;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::delegated::redirect::{DuplicateParameter, RedirectQuery};
use crate::error::{Error, ErrorResponse, Escaped, Failure};
use crate::grant::Grant;
use crate::request::TokenRequest;
use crate::secret::Secret;

/// A sign-in that was begun: what to keep until the user comes back, to see that it is they who do.
///
/// It serialises, to be kept in the user's session. The code verifier in it is a secret: keep it on
/// the server, or in a cookie that is encrypted. Each is good for one sign-in; forget it afterwards.
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
    /// What comes back as `state`: the name to keep the flow under where a user may sign in in two
    /// windows at once.
    pub fn state(&self) -> &str {
        &self.state
    }

    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The request that it was begun for.
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

    /// The code that a user came back with ([RFC 6749 section 4.1.2]), if it is an answer to this.
    /// `issuer` is the authority's, where its answers name it ([RFC 9207]).
    ///
    /// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    pub(crate) fn code(&self, redirected: &str, issuer: Option<&str>) -> Result<Secret, Error> {
        let query = RedirectQuery::new(redirected);
        let one = |name: &str| {
            query
                .one(name)
                .map_err(|DuplicateParameter(why)| unreadable(&why))
        };
        // An empty state is nobody's, be it the flow's own by a mistake of the session store.
        let state = one("state")?.filter(|state| !state.is_empty());
        if state.as_deref() != Some(&*self.state) {
            return Err(unreadable(
                "its state is not the one that was sent, so it may be somebody else's answer; begin again",
            ));
        }
        if let (Some(named), Some(issuer)) = (one("iss")?, issuer)
            && named != issuer
        {
            return Err(unreadable(
                "it names another issuer than the one that was asked; begin again",
            ));
        }
        if let Some(error) = one("error")? {
            return Err(refused(error, one("error_description")?));
        }
        match one("code")?.filter(|code| !code.is_empty()) {
            Some(code) => Ok(Secret::from(code)),
            None => Err(unreadable("it has neither a 'code' nor an 'error'")),
        }
    }

    /// What the code is redeemed with.
    pub(crate) fn verifier(&self) -> Secret {
        Secret::from(&self.code_verifier)
    }

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

/// The provider sent the user back without a code.
fn refused(error: String, description: Option<String>) -> Error {
    let mut message = format!(
        "the user came back without a code: {}",
        Escaped(&shortened(&error))
    );
    if let Some(description) = &description {
        message.push_str(": ");
        message.push_str(&Escaped(&shortened(description)).to_string());
    }
    let mut answer = ErrorResponse::new(StatusCode::FOUND, shortened(&error));
    answer.error_description = description.as_deref().map(shortened);
    let failure = Failure::new(message).server(Some(answer.into()));
    Error::InteractionRequired(failure.into())
}

fn unreadable(why: &str) -> Error {
    let message = format!("what the user came back with cannot be used: {why}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// Anybody can send a browser here, with a text of any length.
fn shortened(text: &str) -> String {
    text.chars().take(500).collect()
}
