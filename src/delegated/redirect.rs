//! The query of a redirect from the identity provider.

use std::borrow::Cow;

use url::Url;
use url::form_urlencoded::parse;

use crate::authority::address::is_loopback;
use crate::error::{Error, Escaped};

/// The query of a redirect.
///
/// The source is a URL, a path with a query, a query, or the body of a posted form.
pub(crate) struct RedirectQuery<'a>(&'a str);

impl<'a> RedirectQuery<'a> {
    /// Finds the query in a redirect. The fragment is no part of the query.
    pub(crate) fn new(redirected: &'a str) -> Self {
        let redirected = redirected.split('#').next().unwrap_or_default();
        // A query without a URL can contain a question mark in a value.
        let is_query_only = !redirected.contains("://") && !redirected.starts_with(['/', '?']);
        Self(match redirected.split_once('?') {
            Some((_, query)) if !is_query_only => query,
            _ => redirected,
        })
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

/// Checks that a redirect arrived at `redirect_uri` ([RFC 9700 section 4.4.2.2]).
///
/// Compares scheme, host, port and path of a whole URL, and the query that the redirect URI may
/// have. Any other redirect, such as a query, does not tell where it arrived, and passes.
///
/// # Errors
///
/// The reason for an error message, without the code.
///
/// [RFC 9700 section 4.4.2.2]: https://www.rfc-editor.org/rfc/rfc9700#section-4.4.2.2
pub(crate) fn check_arrival(redirected: &str, redirect_uri: &str) -> Result<(), String> {
    let redirected = redirected.trim_start();
    let scheme = redirected.split_once("://").map(|(scheme, _)| scheme);
    let is_whole = |scheme: &str| {
        ["http", "https"]
            .iter()
            .any(|s| s.eq_ignore_ascii_case(scheme))
    };
    if !scheme.is_some_and(is_whole) {
        return Ok(());
    }
    let (Ok(arrived), Ok(expected)) = (Url::parse(redirected), Url::parse(redirect_uri)) else {
        return Err("its URL cannot be parsed".to_owned());
    };
    let place = |url: &Url| {
        let port = url.port_or_known_default();
        let (scheme, host) = (
            url.scheme().to_owned(),
            url.host_str().map(ToOwned::to_owned),
        );
        (scheme, host, port, url.path().to_owned())
    };
    // A second value of a parameter could be the one that the application reads.
    let values = |url: &Url, name: &str| -> Vec<String> {
        let pairs = url.query_pairs().filter(|(other, _)| other == name);
        pairs.map(|(_, value)| value.into_owned()).collect()
    };
    let has_pair =
        |(name, _): (Cow<'_, str>, _)| values(&arrived, &name) == values(&expected, &name);
    if place(&arrived) == place(&expected) && expected.query_pairs().all(has_pair) {
        return Ok(());
    }
    let arrived = redirected.split(['?', '#']).next().unwrap_or_default();
    let arrived: String = Escaped(arrived).to_string().chars().take(200).collect();
    Err(format!(
        "it arrived at '{arrived}', and the redirect URI of the sign-in is '{}'; pass the query alone if a reverse proxy changes the URL",
        redirect_uri.split('?').next().unwrap_or_default()
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A server never receives the fragment, so nobody checked it.
    #[test]
    fn a_fragment_is_not_read_as_the_query() {
        for redirected in [
            "https://app.example.org/back#code=c",
            "https://app.example.org/back#?code=c",
            "https://app.example.org/back#/two?code=c",
            "https://app.example.org/back?x=1#code=c",
            "/back#?code=c",
            "x=1#code=c",
            "#code=c",
            "#?code=c",
        ] {
            let query = RedirectQuery::new(redirected);
            let code = query.single_value("code").unwrap_or_default();
            assert_eq!(code, None, "{redirected}");
        }
    }

    /// RFC 9700 section 4.4: the response of one provider must not pass for another's.
    #[test]
    fn a_redirect_to_another_uri_is_not_accepted() {
        let plain = "https://app.example.org/back";
        let queried = "https://app.example.org/back?idp=one&x=1";
        for (redirect_uri, redirected, is_accepted) in [
            (plain, "https://app.example.org/back?code=c&state=s", true),
            (plain, "HTTPS://APP.example.org:443/back?code=c", true),
            (plain, " https://app.example.org/back?code=c", true),
            (plain, "https://app.example.org/back?code=c#_=_", true),
            (plain, "code=c&state=s", true),
            (plain, "?code=c&iss=https://id.example", true),
            (plain, "code=c&iss=https://id.example", true),
            (plain, "/back?code=c", true),
            (plain, "https://evil.example/back?code=c", false),
            (plain, " https://evil.example/back?code=c", false),
            (
                plain,
                "https://app.example.org@evil.example/back?code=c",
                false,
            ),
            (plain, "http://app.example.org/back?code=c", false),
            (plain, "https://app.example.org:8443/back?code=c", false),
            (plain, "https://app.example.org/back/?code=c", false),
            (plain, "https://app.example.org/Back?code=c", false),
            (plain, "https://app.example.org/back/two?code=c", false),
            (plain, "https://app.example.org/?code=c", false),
            (plain, "https://?code=c", false),
            (
                queried,
                "https://app.example.org/back?idp=one&x=1&code=c",
                true,
            ),
            (
                queried,
                "https://app.example.org/back?code=c&x=1&idp=one",
                true,
            ),
            (
                queried,
                "https://app.example.org/back?idp=two&x=1&code=c",
                false,
            ),
            (
                queried,
                "https://app.example.org/back?idp=one&code=c",
                false,
            ),
            (
                queried,
                "https://app.example.org/back?idp=two&x=1&idp=one&code=c",
                false,
            ),
            (
                queried,
                "https://app.example.org/back?idp=one&x=1&idp=one&code=c",
                false,
            ),
            (queried, "https://app.example.org/back?code=c", false),
            (
                "http://localhost:8080/",
                "http://localhost:8080?code=c",
                true,
            ),
            (
                "http://localhost:8080/",
                "http://localhost:8081/?code=c",
                false,
            ),
        ] {
            let outcome = check_arrival(redirected, redirect_uri);
            assert_eq!(outcome.is_ok(), is_accepted, "{redirect_uri}: {redirected}");
            if let Err(reason) = outcome {
                assert!(!reason.contains("code=c"), "{reason}");
            }
        }
    }
}
