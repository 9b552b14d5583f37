use std::time::SystemTime;

use url::Url;
use uuid::Uuid;

use crate::testing::aadsts::body;
use crate::testing::aadsts::error::AadstsError;

/// An authorization response, which the browser takes to the client ([RFC 6749 section 4.1.2]).
///
/// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
pub(crate) struct AuthorizationResponse {
    pub(crate) redirect_uri: String,
    pub(crate) fields: Vec<(&'static str, String)>,
    /// True for `response_mode=form_post`. Otherwise, the fields are in the URL.
    pub(crate) is_form_post: bool,
}

/// The destination of an authorization response.
#[derive(Clone)]
pub(crate) struct RedirectTarget {
    /// The issuer that the response names ([RFC 9207]).
    ///
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    pub(crate) issuer: Option<String>,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    pub(crate) is_form_post: bool,
}

impl AuthorizationResponse {
    pub(crate) fn code(target: &RedirectTarget, code: String) -> Self {
        let session = Uuid::new_v4().to_string();
        Self::new(target, vec![("code", code), ("session_state", session)])
    }

    pub(crate) fn error(target: &RedirectTarget, error: &AadstsError, now: SystemTime) -> Self {
        let correlation_id = Uuid::new_v4().to_string();
        let fields = vec![
            ("error", error.error.to_owned()),
            (
                "error_description",
                body::description(error, &correlation_id, now),
            ),
            ("error_uri", body::error_uri(error.code)),
        ];
        Self::new(target, fields)
    }

    /// Builds the response to an administrator's consent.
    pub(crate) fn admin_consent(target: &RedirectTarget, tenant: Uuid) -> Self {
        let tenant = tenant.to_string();
        let granted = "True".to_owned();
        Self::new(target, vec![("admin_consent", granted), ("tenant", tenant)])
    }

    fn new(target: &RedirectTarget, mut fields: Vec<(&'static str, String)>) -> Self {
        fields.extend(target.state.clone().map(|state| ("state", state)));
        fields.extend(target.issuer.clone().map(|issuer| ("iss", issuer)));
        Self {
            redirect_uri: target.redirect_uri.clone(),
            fields,
            is_form_post: target.is_form_post,
        }
    }

    /// Returns the redirect URI with the fields added to its query.
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
