use std::fmt;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use url::Host;

use crate::authority::address::{invalid_url, parse_host_url};
use crate::error::Error;

/// The scheme, host and port of an API ([RFC 6454 section 4]).
///
/// [RFC 6454 section 4]: https://www.rfc-editor.org/rfc/rfc6454#section-4
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
    /// The host and the port as nearly every URI has them: without the scheme's own port.
    authority: String,
}

impl Origin {
    /// Parses an origin, such as `https://graph.microsoft.com`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if `text` is not an origin, is neither https nor loopback, or cannot
    /// be the origin of a request.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let url = parse_host_url(LABEL, text)?;
        if let Some(Host::Domain(host)) = url.host() {
            check_host(host).map_err(|reason| invalid_url(LABEL, text, reason))?;
        }
        // No request can be sent to port 0.
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) if port != 0 => Ok(Self {
                scheme: url.scheme().to_owned(),
                host: host.to_owned(),
                port,
                authority: match url.port() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                },
            }),
            _ => Err(invalid_url(
                LABEL,
                text,
                "its port is 0; name the API's port, or leave out the port for 443",
            )),
        }
    }

    pub(super) fn as_uri(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    pub(super) fn matches(&self, request: &RequestOrigin<'_>) -> bool {
        let matches =
            |host: &str, port| Some(self.port) == port && self.host.eq_ignore_ascii_case(host);
        let scheme = request.scheme;
        self.scheme == scheme
            && match request.address {
                Address::Parsed { host, port } => matches(host, port),
                // Parsing the text costs more than the rest of a match.
                Address::Text(text) => {
                    text.as_str() == self.authority || matches(text.host(), port_of(scheme, text))
                }
            }
    }

    /// Returns whether every `Host` header names this origin.
    ///
    /// A server may route a request by the header, and forward the token to another host.
    pub(super) fn matches_host_headers(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HOST).iter().all(|host| {
            let authority = Authority::try_from(HeaderValue::as_bytes(host));
            authority.is_ok_and(|host| self.matches(&RequestOrigin::new(&self.scheme, &host)))
        })
    }
}

/// Checks that a request can have this host name ([RFC 1035 section 2.3.4]).
///
/// The underscore is no letter of a host name, and internal names have underscores.
///
/// [RFC 1035 section 2.3.4]: https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4
fn check_host(host: &str) -> Result<(), &'static str> {
    if host.contains('*') {
        return Err("a star is not a wildcard here; name each host");
    }
    if host.starts_with('.') {
        return Err(
            "its host begins with a dot, and subdomains are not matched; name each host in full",
        );
    }
    if host.contains(['{', '}', '$', '(', ')']) {
        return Err("its host contains a placeholder; write the host itself");
    }
    if host.contains([',', ';']) {
        return Err("its host contains a separator; pass each origin on its own");
    }
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !host.chars().all(is_letter) {
        return Err("its host contains a character that no host name contains");
    }
    let has_labels = host
        .split('.')
        .all(|label| (1..=LONGEST_LABEL).contains(&label.len()));
    match has_labels && host.len() <= LONGEST_HOST {
        true => Ok(()),
        false => Err(
            "its host is not a host name; each part between dots has 1 to 63 characters, and all have 253 at most",
        ),
    }
}

/// The scheme, host and port that a request is sent to.
pub(super) struct RequestOrigin<'a> {
    scheme: &'a str,
    address: Address<'a>,
}

/// The host and the port that a request is sent to.
enum Address<'a> {
    Text(&'a Authority),
    Parsed {
        host: &'a str,
        /// `None` matches no origin.
        port: Option<u16>,
    },
}

impl<'a> RequestOrigin<'a> {
    fn new(scheme: &'a str, authority: &'a Authority) -> Self {
        Self {
            scheme,
            address: Address::Text(authority),
        }
    }

    /// Returns whether the request names no host, as a request to `/v1.0/users`.
    pub(super) fn is_unknown(&self) -> bool {
        match self.address {
            Address::Text(authority) => authority.host().is_empty(),
            Address::Parsed { host, .. } => host.is_empty(),
        }
    }

    fn parsed(scheme: &'a str, host: &'a str, port: Option<u16>) -> Self {
        Self {
            scheme,
            address: Address::Parsed { host, port },
        }
    }
}

/// Shows scheme, host and port, without a user name, a password, a path or a query.
impl fmt::Display for RequestOrigin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = match self.address {
            Address::Text(authority) => (authority.host(), authority.port_u16()),
            Address::Parsed { host, port } => (host, port),
        };
        write!(f, "{}://{host}", self.scheme)?;
        match (self.scheme, port) {
            ("https", Some(443)) | ("http", Some(80)) | (_, None) => Ok(()),
            (_, Some(port)) => write!(f, ":{port}"),
        }
    }
}

/// Returns the port of an authority, or the port of the scheme. `None` matches no origin.
fn port_of(scheme: &str, authority: &Authority) -> Option<u16> {
    match (authority.port_u16(), scheme) {
        // Text after the colon that is not a port. Another parser may count it as the host.
        (None, _) if !authority.as_str().ends_with(authority.host()) => None,
        (None, "https") => Some(443),
        (None, "http") => Some(80),
        (port, _) => port,
    }
}

#[cfg(feature = "tower")]
impl<'a> From<&'a Origin> for RequestOrigin<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self::parsed(&origin.scheme, &origin.host, Some(origin.port))
    }
}

#[cfg(feature = "tower")]
impl<'a> From<&'a http::Uri> for RequestOrigin<'a> {
    fn from(uri: &'a http::Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or_default();
        match uri.authority() {
            Some(authority) => Self::new(scheme, authority),
            None => Self::parsed(scheme, "", None),
        }
    }
}

#[cfg(feature = "reqwest-middleware")]
impl<'a> From<&'a reqwest::Url> for RequestOrigin<'a> {
    fn from(url: &'a reqwest::Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        Self::parsed(url.scheme(), host, url.port_or_known_default())
    }
}

const LABEL: &str = "the origin";
const LONGEST_LABEL: usize = 63;
const LONGEST_HOST: usize = 253;

#[cfg(all(test, feature = "tower"))]
mod tests {
    use http::Uri;

    use super::*;

    fn matches(origin: &Origin, uri: &str) -> bool {
        uri.parse::<Uri>()
            .is_ok_and(|uri| origin.matches(&RequestOrigin::from(&uri)))
    }

    #[test]
    fn an_origin_matches_by_scheme_host_and_port() {
        let graph = Origin::parse("https://graph.microsoft.com").unwrap();
        for (uri, expected) in [
            ("https://graph.microsoft.com/v1.0/users?a=b", true),
            ("https://GRAPH.microsoft.com:443/", true),
            ("http://graph.microsoft.com/", false),
            ("https://graph.microsoft.com:8443/", false),
            ("https://graph.microsoft.com.evil.example/", false),
            ("https://evil.example/graph.microsoft.com", false),
            ("https://graph.microsoft.com@evil.example/", false),
            ("https://microsoft.com/", false),
            ("https://graph.microsoft.com.:443/", false),
            ("https://graph.microsoft.com:443.evil.example/", false),
            ("https://graph.microsoft.com:!/", false),
            ("https://graph.microsoft.com:65979/", false),
            ("https://u:p@graph.microsoft.com/", true),
            ("graph.microsoft.com:443", false),
            ("/v1.0/users", false),
            ("ftp://graph.microsoft.com/", false),
        ] {
            assert_eq!(matches(&graph, uri), expected, "{uri}");
        }
        let loopback = Origin::parse("http://127.0.0.1:8080/").unwrap();
        assert!(matches(&loopback, "http://127.0.0.1:8080/x"));
        assert!(!matches(&loopback, "http://127.0.0.1/x"));
        assert!(!matches(&loopback, "http://127.1:8080/x"));
        let loopback = Origin::parse("http://127.0.0.1").unwrap();
        assert!(matches(&loopback, "http://127.0.0.1/x"));
        assert!(!matches(&loopback, "http://127.0.0.1:443/x"));
        let loopback = Origin::parse("http://[::1]").unwrap();
        assert!(matches(&loopback, "http://[::1]:80/"));
        assert!(!matches(&loopback, "http://[::1]:8080/"));
        assert!(!matches(&loopback, "http://[::1]:/"));
        assert!(!matches(&loopback, "http://[0:0:0:0:0:0:0:1]/"));
    }

    #[test]
    fn an_origin_that_can_never_match_is_not_accepted() {
        let long_label = format!("https://{}.example", "a".repeat(64));
        let long_host = format!("https://{}example", "a.".repeat(124));
        for (text, expected) in [
            ("http://graph.microsoft.com", "in the clear"),
            ("http://localhost", "in the clear"),
            ("http://10.0.0.1", "in the clear"),
            (
                "https://graph.microsoft.com/v1.0",
                "scheme, host and port alone",
            ),
            ("graph.microsoft.com/v1.0", "scheme, host and port alone"),
            (
                "https://graph.microsoft.com//",
                "scheme, host and port alone",
            ),
            (
                "https://graph.microsoft.com/.default",
                "scheme, host and port alone",
            ),
            ("https://graph.microsoft.com/./", "resolved path"),
            ("https://graph.microsoft.com?a=b", "without a path or query"),
            ("https://graph.microsoft.com/?", "without a path or query"),
            ("https://graph.microsoft.com#part", "a fragment"),
            ("https://graph.microsoft.com/#", "a fragment"),
            (
                "https://u:hunter2@graph.microsoft.com",
                "user name or password",
            ),
            ("https://u%40graph.microsoft.com", "user name or password"),
            (
                "https://gr\u{e4}ph.microsoft.com",
                "write 'xn--grph-moa.microsoft.com'",
            ),
            ("https://\u{ff47}raph.microsoft.com", "is read as"),
            ("https://graph.microsoft.com.", "ends in a dot"),
            (" https://graph.microsoft.com", "white space"),
            ("https://graph.microsoft.com\n", "white space"),
            ("https://*.microsoft.com", "a star is not a wildcard"),
            ("https://graph.*", "a star is not a wildcard"),
            ("*", "a star is not a wildcard"),
            ("https://.microsoft.com", "begins with a dot"),
            ("https://graph..microsoft.com", "is not a host name"),
            ("https://{tenant}.sharepoint.com", "a placeholder"),
            ("https://$API_HOST", "a placeholder"),
            ("https://a.example,b.example", "each origin on its own"),
            ("https://a.example;b.example", "each origin on its own"),
            (
                "https://a.example,https://b.example",
                "scheme, host and port alone",
            ),
            ("https://graph!microsoft.com", "no host name contains"),
            ("https://graph.microsoft.com:0", "its port is 0"),
            ("http://127.0.0.1:0", "its port is 0"),
            ("https://[::1]:0", "its port is 0"),
            ("https://graph.microsoft.com:65536", "invalid port"),
            ("https://graph.microsoft.com:https", "invalid port"),
            ("https://graph.microsoft.com:*", "invalid port"),
            ("https://127.1", "is read as"),
            ("https://0x7f000001", "is read as"),
            ("https://[0:0:0:0:0:0:0:1]", "is read as"),
            ("https://[::1", "invalid IPv6"),
            ("https:///graph.microsoft.com", "is read as"),
            ("https:graph.microsoft.com", "invalid port"),
            ("ftp://graph.microsoft.com", "must be https"),
            ("wss://graph.microsoft.com", "must be https"),
            ("api://drive", "must be https"),
            ("file:///etc/hosts", "must be https"),
            ("https://https://graph.microsoft.com", "which is a scheme"),
            ("https://", "empty host"),
            ("", "empty host"),
            (&long_label, "is not a host name"),
            (&long_host, "is not a host name"),
        ] {
            let error = Origin::parse(text).expect_err(text);
            assert!(matches!(error, Error::Config(_)), "{text}: {error:?}");
            let error = error.to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn an_origin_that_can_match_is_not_rejected() {
        for (text, uri) in [
            (
                "https://graph.microsoft.com/",
                "https://graph.microsoft.com/v1.0",
            ),
            (
                "HTTPS://Graph.Microsoft.com:443",
                "https://graph.microsoft.com/",
            ),
            ("graph.microsoft.com", "https://graph.microsoft.com/"),
            ("https://api_1.internal", "https://api_1.internal/"),
            (
                "https://xn--grph-moa.example",
                "https://xn--grph-moa.example/",
            ),
            ("https://api", "https://api/"),
            ("https://localhost:8443", "https://localhost:8443/"),
            ("https://10.0.0.1", "https://10.0.0.1/"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"),
            ("http://127.0.0.2:1", "http://127.0.0.2:1/"),
            ("http://[::1]:65535", "http://[::1]:65535/"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert!(matches(&origin, uri), "{text} and {uri}");
        }
    }

    #[test]
    fn a_host_header_of_another_origin_does_not_match() {
        let graph = Origin::parse("https://graph.microsoft.com").unwrap();
        for (hosts, expected) in [
            (&[][..], true),
            (&["graph.microsoft.com"], true),
            (&["Graph.Microsoft.com:443"], true),
            (&["evil.example"], false),
            (&["graph.microsoft.com:8443"], false),
            (&["graph.microsoft.com", "evil.example"], false),
            (&["graph.microsoft.com, evil.example"], false),
            (&[""], false),
            (&["\u{e4}"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            assert_eq!(graph.matches_host_headers(&headers), expected, "{hosts:?}");
        }
    }
}
