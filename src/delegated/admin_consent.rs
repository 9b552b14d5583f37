#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use url::Url;

use crate::authority::Tenant;
use crate::delegated::redirect::{DuplicateParameter, RedirectQuery, check_redirect_uri};
use crate::error::{Error, Escaped, Failure};

/// What an administrator brought back from the page of
/// [`admin_consent_url`](crate::ConfidentialClient::admin_consent_url).
///
/// Anybody can call the redirect URI with any answer: the state shows that this application sent
/// them, and not what they did. A tenant has consented for certain when a token for it can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminConsent {
    /// The administrator consented.
    Granted {
        /// The tenant's id, as Microsoft Entra ID names it: keep it with the customer.
        tenant_id: String,
    },
    /// The administrator said no, or gave up.
    Declined {
        /// What Microsoft Entra ID says about it.
        description: Option<String>,
    },
    /// It could not be asked for.
    Failed {
        /// The error's code ([RFC 6749 section 4.1.2.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1)).
        error: String,
        /// What Microsoft Entra ID says about it.
        description: Option<String>,
    },
}

impl AdminConsent {
    /// Reads the URL that the administrator came back with, or its query alone. `state` is what
    /// was given to `admin_consent_url` in the same session. Does no I/O.
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
    /// [`Error::InvalidResponse`]: the state is missing or another, a parameter is there twice, or
    /// there is neither a tenant that consented nor an error. [`Error::Config`]: `state` is empty.
    pub fn parse(redirected: impl AsRef<str>, state: impl AsRef<str>) -> Result<Self, Error> {
        let (redirected, state) = (redirected.as_ref(), state.as_ref());
        check_state(state)?;
        let query = &RedirectQuery::new(redirected);
        if one(query, "state")?.as_deref() != Some(state) {
            return Err(unreadable(
                "its state is not the one that was sent, so it may be somebody else's answer; begin again",
            ));
        }
        let description = one(query, "error_description")?.map(|text| Escaped(&text).to_string());
        if let Some(error) = one(query, "error")? {
            return Ok(match DECLINED.contains(&&*error) {
                true => Self::Declined { description },
                false => Self::Failed {
                    error: Escaped(&error).to_string(),
                    description,
                },
            });
        }
        let granted = one(query, "admin_consent")?;
        if !granted.is_some_and(|granted| granted.eq_ignore_ascii_case("true")) {
            return Err(unreadable(
                "it has neither 'admin_consent=True' nor an 'error'",
            ));
        }
        let is_one = |tenant: &String| {
            Tenant::parse(tenant).is_ok_and(|tenant| tenant.check_for_application().is_ok())
        };
        match one(query, "tenant")?.filter(is_one) {
            Some(tenant_id) => Ok(Self::Granted { tenant_id }),
            None => Err(unreadable("it names no tenant")),
        }
    }
}

/// The page, with the application's own part of it.
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
            "the state is empty; use something random, and keep it in the session of whoever is sent",
        )),
        _ => Ok(()),
    }
}

/// The value of a parameter that is there once.
fn one(redirected: &RedirectQuery<'_>, name: &str) -> Result<Option<String>, Error> {
    redirected
        .one(name)
        .map_err(|DuplicateParameter(why)| unreadable(&why))
}

fn unreadable(why: &str) -> Error {
    let message =
        format!("the answer to the request for an administrator's consent cannot be used: {why}");
    Error::InvalidResponse(Failure::new(message).into())
}

/// What Microsoft Entra ID says where somebody was asked and did not consent.
const DECLINED: [&str; 2] = ["access_denied", "permission_denied"];
