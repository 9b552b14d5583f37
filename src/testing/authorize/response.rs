use url::Url;
use uuid::Uuid;

use super::request::RedirectTarget;
use crate::testing::aadsts::AadstsError;
use crate::testing::http::response as answer;

/// What the browser takes to the client ([RFC 6749 section 4.1.2]).
///
/// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
pub(crate) struct AuthorizationResponse {
    pub(crate) redirect_uri: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// As a form that is posted, else in the URL.
    pub(crate) is_form: bool,
}

impl AuthorizationResponse {
    pub(crate) fn code(back: &RedirectTarget, code: String) -> Self {
        let session = Uuid::new_v4().to_string();
        Self::new(back, vec![("code", code), ("session_state", session)])
    }

    pub(crate) fn refused(back: &RedirectTarget, refusal: &AadstsError) -> Self {
        let id = Uuid::new_v4().to_string();
        let code = refusal.code;
        let fields = vec![
            ("error", refusal.error.to_owned()),
            ("error_description", answer::description(refusal, &id)),
            ("error_uri", answer::error_uri(code)),
        ];
        Self::new(back, fields)
    }

    fn new(back: &RedirectTarget, mut fields: Vec<(&'static str, String)>) -> Self {
        fields.extend(back.state.clone().map(|state| ("state", state)));
        Self {
            redirect_uri: back.redirect_uri.clone(),
            fields,
            is_form: back.is_form,
        }
    }

    /// The redirect URI with the fields as its query, beside what it has of its own.
    pub(crate) fn url(&self) -> String {
        match Url::parse(&self.redirect_uri) {
            Ok(mut url) => {
                url.query_pairs_mut().extend_pairs(&self.fields);
                url.into()
            }
            Err(_) => self.redirect_uri.clone(),
        }
    }
}
