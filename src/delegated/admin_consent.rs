#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

use url::Url;

use crate::authority::Tenant;
use crate::delegated::redirect::{DuplicateParameter, RedirectQuery, check_redirect_uri};
use crate::error::{Error, Escaped, Failure};

/// The result of an admin consent request
/// ([`admin_consent_url`](crate::ConfidentialClient::admin_consent_url)).
///
/// The result is not proof of consent. Anyone can call the redirect URI with any parameters, and
/// the state proves only that this application sent the administrator to the consent page. To
/// verify the consent, acquire a token for the tenant with
/// [`force_refresh`](crate::TokenRequest::force_refresh). Without it, the client returns the
/// rejection from before the consent for up to a minute.
#[doc(alias = "adminconsent")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminConsent {
    /// The administrator consented.
    Granted {
        /// The tenant ID from Microsoft Entra ID. Store the ID with the customer's data.
        tenant_id: String,
    },
    /// The administrator declined or cancelled.
    Declined {
        /// The error description from Microsoft Entra ID.
        description: Option<String>,
    },
    /// The consent request failed.
    Failed {
        /// The error code ([RFC 6749 section 4.1.2.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1)).
        error: String,
        /// The error description from Microsoft Entra ID.
        description: Option<String>,
    },
}

impl AdminConsent {
    /// Parses the URL that the administrator was redirected to, or only the URL's query.
    ///
    /// `state` is the argument of `admin_consent_url` in the same session. Does no I/O.
    ///
    /// ```
    /// use confidential_client::delegated::AdminConsent;
    ///
    /// let back = "https://isv.example.org/consented?error=access_denied\
    ///             &error_description=AADSTS65004%3A+User+declined+to+consent.&state=x7Zq";
    /// assert!(matches!(AdminConsent::parse(back, "x7Zq")?, AdminConsent::Declined { .. }));
    ///
    /// let error = AdminConsent::parse(back, "of another session").unwrap_err();
    /// assert!(error.to_string().contains("state"));
    /// # Ok::<(), confidential_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidResponse`] if the state is missing or does not match, if a parameter
    ///   occurs twice, or if the URL has neither a consenting tenant nor an error.
    /// - [`Error::Config`] if `state` is empty.
    pub fn parse(redirected: impl AsRef<str>, state: impl AsRef<str>) -> Result<Self, Error> {
        let (redirected, state) = (redirected.as_ref(), state.as_ref());
        check_state(state)?;
        let query = &RedirectQuery::new(redirected);
        let Some(returned_state) = single_value(query, "state")? else {
            return Err(invalid_response(
                "it has no state; pass the whole URL or its query",
            ));
        };
        if returned_state != state {
            return Err(invalid_response(
                "its state is not the one that was sent, so the response may belong to another session; start the consent again",
            ));
        }
        let description =
            single_value(query, "error_description")?.map(|text| Escaped(&text).to_string());
        if let Some(error) = single_value(query, "error")? {
            return Ok(match DECLINED.contains(&&*error) {
                true => Self::Declined { description },
                false => Self::Failed {
                    error: Escaped(&error).to_string(),
                    description,
                },
            });
        }
        let granted = single_value(query, "admin_consent")?;
        if !granted.is_some_and(|granted| granted.eq_ignore_ascii_case("true")) {
            return Err(invalid_response(
                "it has neither 'admin_consent=True' nor an 'error'",
            ));
        }
        let is_tenant = |tenant: &String| {
            Tenant::parse(tenant).is_ok_and(|tenant| tenant.check_for_application().is_ok())
        };
        match single_value(query, "tenant")?.filter(is_tenant) {
            Some(tenant_id) => Ok(Self::Granted { tenant_id }),
            None => Err(invalid_response("it names no tenant")),
        }
    }
}

/// Builds the URL of the consent page for this application.
pub(crate) fn url(
    mut page: Url,
    client_id: &str,
    redirect_uri: &str,
    state: &str,
) -> Result<String, Error> {
    check_state(state)?;
    check_redirect_uri(redirect_uri)?;
    page.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("state", state);
    Ok(page.into())
}

fn check_state(state: &str) -> Result<(), Error> {
    match state {
        "" => Err(Error::config(
            "the state is empty; use a random value, and store the value in the administrator's session",
        )),
        _ => Ok(()),
    }
}

/// Returns the value of a parameter. Rejects a parameter that occurs twice.
fn single_value(query: &RedirectQuery<'_>, name: &str) -> Result<Option<String>, Error> {
    query
        .single_value(name)
        .map_err(|DuplicateParameter(reason)| invalid_response(&reason))
}

fn invalid_response(reason: &str) -> Error {
    let message = format!("the admin consent response cannot be used: {reason}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// The error codes of Microsoft Entra ID for a declined or cancelled consent.
const DECLINED: [&str; 2] = ["access_denied", "permission_denied"];
