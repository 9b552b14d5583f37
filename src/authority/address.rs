use url::{Host, Url};

#[cfg(feature = "testing")]
use super::preferred_host;
use crate::error::Error;

/// The hosts that http is allowed for: loopback addresses, and one host that a test named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HttpHosts {
    /// Set by [`Authority::allow_insecure_http`](crate::Authority::allow_insecure_http) alone.
    named: Option<String>,
}

impl HttpHosts {
    /// Allows http for the host of `url`, unless the host belongs to a known cloud.
    #[cfg(feature = "testing")]
    pub(crate) fn of(url: &str) -> Self {
        let host = Url::parse(url).ok().and_then(|url| {
            let host = url.host_str()?;
            let is_microsofts = preferred_host(host).is_some()
                || [".ciamlogin.com", ".b2clogin.com"]
                    .iter()
                    .any(|at| host.ends_with(at));
            (!is_microsofts).then(|| host.to_owned())
        });
        Self { named: host }
    }

    /// Returns whether http may be used for the URL's host.
    fn allow(&self, url: &Url) -> bool {
        is_loopback(url) || self.named.is_some() && self.named.as_deref() == url.host_str()
    }

    /// Returns the host that a test named.
    pub(crate) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Parses a host into a URL, by the rules of [`parse_url`](Self::parse_url).
    ///
    /// The scheme defaults to https, and the port to the scheme's. Paths and queries are rejected.
    pub(crate) fn parse_host_url(&self, label: &str, host: &str) -> Result<Url, Error> {
        let text = with_scheme(host);
        let url = self.parse_url(label, &text)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(invalid_url(
                label,
                &text,
                "give scheme, host and port alone, without a path or query",
            ));
        }
        Ok(url)
    }

    /// Parses the URL of a server that receives a credential, or of metadata that names such a
    /// server.
    ///
    /// The URL must be https, or http to one of these hosts. A URL that two parsers could read
    /// differently is rejected. `label` names the URL in error messages.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`]. The message contains no user name, password or query.
    pub(crate) fn parse_url(&self, label: &str, text: &str) -> Result<Url, Error> {
        let url = parse(label, text)?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.allow(&url) => Ok(url),
            "http" => Err(invalid_url(label, text, HTTP)),
            _ => Err(invalid_url(label, text, "the scheme must be https")),
        }
    }
}

/// Parses a URL that is https, or http to a loopback address: see [`HttpHosts::parse_url`].
pub(crate) fn parse_url(label: &str, text: &str) -> Result<Url, Error> {
    HttpHosts::default().parse_url(label, text)
}

/// Parses a host that is https, or http to a loopback address: see [`HttpHosts::parse_host_url`].
pub(crate) fn parse_host_url(label: &str, host: &str) -> Result<Url, Error> {
    HttpHosts::default().parse_host_url(label, host)
}

/// Parses a URL that all parsers read alike, of any scheme.
pub(crate) fn parse(label: &str, text: &str) -> Result<Url, Error> {
    let folded = text.to_ascii_lowercase();
    if text.contains('@') || folded.contains("%40") {
        // The message omits the text, which may contain a password.
        return Err(Error::config(format!(
            "{label} cannot be used: it contains '@' (or '%40'), which ends a user name or password; remove the user name or password"
        )));
    }
    let invalid = |reason: &str| Err(invalid_url(label, text, reason));
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return invalid("it contains white space or a line break; trim the value");
    }
    // `Url::parse` resolves these silently, so a reader of the configuration would see another path
    // than the path of the request.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let mut encoded = ["%2f", "%5c", "%2e"].iter();
    if path.contains('\\') || encoded.any(|code| path.to_ascii_lowercase().contains(code)) {
        return invalid(
            "its path contains a backslash, or a slash or dot in percent-encoding; use plain slashes and dots",
        );
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return invalid("its path contains '.' or '..' as a segment; write the resolved path");
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(_) if text.is_empty() => return invalid("it is empty"),
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            return invalid("it is no URL: nothing like 'https://' stands in front");
        }
        Err(error) => return invalid(&error.to_string()),
    };
    if url.fragment().is_some() {
        return invalid("it has a fragment; remove the fragment");
    }
    let host = url.host_str().unwrap_or_default();
    if host.ends_with('.') {
        return invalid("its host ends in a dot; remove the dot");
    }
    // Letters of another alphabet can imitate a well-known host. A number can hide an IP address.
    if host_as_written(&folded) != Some(host) {
        return invalid(&format!(
            "its host is read as '{host}'; if that host is correct, write '{host}' after '://'"
        ));
    }
    if !text.is_ascii() {
        return invalid("it contains a letter that is not ASCII; percent-encode the letter");
    }
    if matches!(host, "http" | "https") {
        return invalid(&format!(
            "its host is '{host}', which is a scheme; is there a colon or a slash missing?"
        ));
    }
    Ok(url)
}

/// Returns the host as written in the URL. An IPv6 address keeps the brackets.
fn host_as_written(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    match authority.find(']') {
        Some(end) => authority.get(..=end),
        None => authority.split(':').next(),
    }
}

/// Prepends `https://` if the text has no scheme.
pub(super) fn with_scheme(text: &str) -> String {
    match text.contains("://") {
        true => text.to_owned(),
        false => format!("https://{text}"),
    }
}

/// Builds the error for an invalid URL. The message omits the query, which may contain a key.
pub(crate) fn invalid_url(label: &str, text: &str, reason: &str) -> Error {
    let redacted = text.split(['?', '#']).next().unwrap_or_default();
    Error::config(format!("{label} {redacted:?} cannot be used: {reason}"))
}

/// Returns `true` for a literal loopback address.
///
/// `localhost` does not count, because a resolver can map the name to any address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

const HTTP: &str = "http would send the credential in the clear; use https, or a loopback address such as 127.0.0.1 (not a host name) for this machine";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_url_is_not_explained_in_the_words_of_a_parser() {
        for (text, reason) in [
            ("", "it is empty"),
            ("id.example", "nothing like 'https://' stands in front"),
            ("\"https://id.example\"", "it is no URL"),
            ("${ISSUER}", "it is no URL"),
        ] {
            let error = parse_url("the issuer", text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
