//! What a browser brings back from a page of the identity provider, in a query.

use std::borrow::Cow;

use url::Url;
use url::form_urlencoded::parse;

use crate::authority::address::is_loopback;
use crate::error::Error;

/// The query of the URL that somebody came back with: of a whole URL, a path, or the query alone,
/// which may also be the body of a form.
pub(crate) struct RedirectQuery<'a>(&'a str);

impl<'a> RedirectQuery<'a> {
    pub(crate) fn new(redirected: &'a str) -> Self {
        // A query alone may hold a question mark of its own.
        let is_alone = !redirected.contains("://") && !redirected.starts_with(['/', '?']);
        let query = match redirected.split_once('?') {
            Some((_, query)) if !is_alone => query,
            _ => redirected,
        };
        Self(query.split('#').next().unwrap_or_default())
    }

    /// The value of a parameter that is there once. A second one could be read by somebody else.
    pub(crate) fn one(&self, name: &str) -> Result<Option<String>, DuplicateParameter> {
        let mut values = parse(self.0.as_bytes()).filter(|(key, _)| key == name);
        let first = values.next().map(|(_, value)| Cow::into_owned(value));
        match values.next() {
            None => Ok(first),
            Some(_) => Err(DuplicateParameter(format!("it has '{name}' twice"))),
        }
    }
}

/// A parameter that is there twice, in words.
pub(crate) struct DuplicateParameter(pub(crate) String);

/// Checks that a provider may send a browser there: https, or to this machine.
pub(crate) fn check_redirect_uri(redirect_uri: &str) -> Result<(), Error> {
    let refused = |why: &str| {
        Err(Error::config(format!(
            "the redirect URI {:?} cannot be used: {why}; use one of the registration's",
            redirect_uri.split('?').next().unwrap_or_default()
        )))
    };
    if redirect_uri.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused("it holds white space or a line break");
    }
    let url = match Url::parse(redirect_uri) {
        Ok(url) => url,
        Err(error) => return refused(&error.to_string()),
    };
    let is_here = is_loopback(&url) || url.host_str() == Some("localhost");
    match url.scheme() {
        _ if url.fragment().is_some() => refused("it has a fragment"),
        "https" => Ok(()),
        "http" if is_here => Ok(()),
        _ => refused("it is neither https nor http to this machine"),
    }
}
