use url::{Host, Url};

use crate::error::Error;

/// Parses a URL that a credential may be sent to, or that says where to send it: https, or http to
/// this machine, and nothing in it that could be read in two ways.
///
/// # Errors
///
/// [`Error::Config`], which shows neither a user name or password nor a query.
pub(crate) fn checked(what: &str, text: &str) -> Result<Url, Error> {
    if text.contains('@') {
        // The text is not repeated: it may hold a password.
        return Err(Error::config(format!(
            "{what} cannot be used: it holds an '@', as of a user name or password; leave that out"
        )));
    }
    let refused = |why: &str| Err(refusal(what, text, why));
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refused("it holds white space or a line break; trim what was read");
    }
    // Before the parser folds them: nobody is to read another path than the one that is used.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let folded = path.to_ascii_lowercase();
    let mut encoded = ["%2f", "%5c", "%2e"].iter();
    let host_is_encoded = path
        .split('/')
        .nth(2)
        .is_some_and(|host| host.contains('%'));
    if path.contains('\\') || host_is_encoded || encoded.any(|code| folded.contains(code)) {
        return refused(
            "it holds a backslash, or a host, slash or dot in percent-encoding; write it plainly",
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
    if !text.is_ascii() {
        // Letters of another alphabet can look like the ones of a host that everybody knows.
        return refused(&format!(
            "it holds a letter that is not ASCII; if the host is what was meant, write it as '{host}'"
        ));
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

/// The same for a host, with scheme and port if they are not the usual ones.
pub(crate) fn checked_host(what: &str, host: &str) -> Result<Url, Error> {
    let text = with_scheme(host);
    let url = checked(what, &text)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(refusal(
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
pub(crate) fn refusal(what: &str, text: &str, why: &str) -> Error {
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
