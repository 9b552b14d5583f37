use url::{Host, Url};

use crate::error::Error;

/// Parses a URL that a credential may be sent to, or that says where to send it: https, or http to
/// this machine, and nothing in it that could be read in two ways.
///
/// # Errors
///
/// [`Error::Config`], which shows neither a user name or password nor a query.
pub(crate) fn parse_url(what: &str, text: &str) -> Result<Url, Error> {
    let folded = text.to_ascii_lowercase();
    if text.contains('@') || folded.contains("%40") {
        // The text is not repeated: it may hold a password.
        return Err(Error::config(format!(
            "{what} cannot be used: it holds an '@', as of a user name or password; leave that out"
        )));
    }
    let refused = |why: &str| Err(invalid_url(what, text, why));
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused("it holds white space or a line break; trim what was read");
    }
    // Before the parser folds them: nobody is to read another path than the one that is used.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let mut hidden = ["%2f", "%5c", "%2e"].iter();
    if path.contains('\\') || hidden.any(|code| path.to_ascii_lowercase().contains(code)) {
        return refused(
            "it holds a backslash, or a slash or dot in percent-encoding; write it plainly",
        );
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return refused("it holds '.' or '..' as a part of its path; write the path that is meant");
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return refused(&error.to_string()),
    };
    if url.fragment().is_some() {
        return refused("it has a fragment; leave that out");
    }
    let host = url.host_str().unwrap_or_default();
    if host.ends_with('.') {
        return refused("its host ends in a dot; leave that out");
    }
    // Letters of another alphabet can look like a host that everybody knows, and a number like none.
    if host_as_written(&folded) != Some(host) {
        return refused(&format!(
            "its host is read as '{host}'; if that is what was meant, write it so, after '://'"
        ));
    }
    if !text.is_ascii() {
        return refused("it holds a letter that is not ASCII; write that in percent-encoding");
    }
    if matches!(host, "http" | "https") {
        return refused("its host is a scheme; is there a colon or a slash missing?");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => refused(
            "the credential could cross the network in the clear; use https, or for this machine itself an address such as 127.0.0.1 instead of a name",
        ),
        _ => refused("the scheme must be https"),
    }
}

/// The host of a URL as it stands there, in brackets if it is an IPv6 address.
fn host_as_written(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    match authority.find(']') {
        Some(end) => authority.get(..=end),
        None => authority.split(':').next(),
    }
}

/// The same for a host, with scheme and port if they are not the usual ones.
pub(crate) fn parse_host_url(what: &str, host: &str) -> Result<Url, Error> {
    let text = with_scheme(host);
    let url = parse_url(what, &text)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(invalid_url(
            what,
            &text,
            "give scheme, host and port alone; the rest has arguments of its own",
        ));
    }
    Ok(url)
}

/// `https://` before what has no scheme.
pub(super) fn with_scheme(text: &str) -> String {
    match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    }
}

/// Without the query, which may hold a key.
pub(crate) fn invalid_url(what: &str, text: &str, why: &str) -> Error {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    Error::config(format!("{what} {shown:?} cannot be used: {why}"))
}

/// Only a literal address counts: `localhost` is whatever a resolver says.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}
