//! The query of a redirect from the identity provider.

use std::borrow::Cow;

use url::Url;
use url::form_urlencoded::parse;

use crate::authority::address::is_loopback;
use crate::error::Error;

/// The query of a redirect.
///
/// The source is a URL, a path with a query, a query, or the body of a posted form.
pub(crate) struct RedirectQuery<'a>(&'a str);

impl<'a> RedirectQuery<'a> {
    /// Finds the query in a redirect.
    pub(crate) fn new(redirected: &'a str) -> Self {
        // A query without a URL can contain a question mark in a value.
        let is_query_only = !redirected.contains("://") && !redirected.starts_with(['/', '?']);
        let query = match redirected.split_once('?') {
            Some((_, query)) if !is_query_only => query,
            _ => redirected,
        };
        Self(query.split('#').next().unwrap_or_default())
    }

    /// Returns the value of a parameter.
    ///
    /// A duplicate parameter is an error, because another parser could use the second value.
    pub(crate) fn single_value(&self, name: &str) -> Result<Option<String>, DuplicateParameter> {
        let mut values = parse(self.0.as_bytes()).filter(|(key, _)| key == name);
        let first = values.next().map(|(_, value)| Cow::into_owned(value));
        match values.next() {
            None => Ok(first),
            Some(_) => Err(DuplicateParameter(format!("it has '{name}' twice"))),
        }
    }
}

/// A parameter that occurs twice, with the reason for an error message.
pub(crate) struct DuplicateParameter(pub(crate) String);

/// Checks that a redirect URI is https, or http to this machine.
pub(crate) fn check_redirect_uri(redirect_uri: &str) -> Result<(), Error> {
    let invalid = |reason: &str| {
        Err(Error::config(format!(
            "the redirect URI {:?} cannot be used: {reason}; use a redirect URI of the application's registration",
            redirect_uri.split('?').next().unwrap_or_default()
        )))
    };
    if redirect_uri.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return invalid("it contains white space or a line break");
    }
    let url = match Url::parse(redirect_uri) {
        Ok(url) => url,
        Err(error) => return invalid(&error.to_string()),
    };
    let is_this_machine = is_loopback(&url) || url.host_str() == Some("localhost");
    match url.scheme() {
        _ if url.fragment().is_some() => invalid("it has a fragment"),
        "https" => Ok(()),
        "http" if is_this_machine => Ok(()),
        _ => invalid("it is neither https nor http to this machine"),
    }
}
