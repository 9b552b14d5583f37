use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::authority::address::parse_host_url;
use crate::error::Error;

/// The scheme, host and port of an API ([RFC 6454 section 4]).
///
/// [RFC 6454 section 4]: https://www.rfc-editor.org/rfc/rfc6454#section-4
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses an origin, such as `https://graph.microsoft.com`.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if `text` is not an origin, or is neither https nor loopback.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let url = parse_host_url("the origin", text)?;
        let port = url.port_or_known_default();
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: port.unwrap_or_default(),
        })
    }

    pub(super) fn matches(&self, request: &RequestOrigin<'_>) -> bool {
        self.scheme == request.scheme
            && Some(self.port) == request.port
            && self.host.eq_ignore_ascii_case(request.host)
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

/// The scheme, host and port that a request is sent to.
pub(super) struct RequestOrigin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// `None` matches no origin.
    port: Option<u16>,
}

impl<'a> RequestOrigin<'a> {
    fn new(scheme: &'a str, authority: &'a Authority) -> Self {
        let host = authority.host();
        let port = match (authority.port_u16(), scheme) {
            // Text after the colon that is not a port. Another parser may count it as the host.
            (None, _) if !authority.as_str().ends_with(host) => None,
            (None, "https") => Some(443),
            (None, "http") => Some(80),
            (port, _) => port,
        };
        Self { scheme, host, port }
    }
}

#[cfg(feature = "tower")]
impl<'a> From<&'a Origin> for RequestOrigin<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self {
            scheme: &origin.scheme,
            host: &origin.host,
            port: Some(origin.port),
        }
    }
}

#[cfg(feature = "tower")]
impl<'a> From<&'a http::Uri> for RequestOrigin<'a> {
    fn from(uri: &'a http::Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or_default();
        match uri.authority() {
            Some(authority) => Self::new(scheme, authority),
            None => Self {
                scheme,
                host: "",
                port: None,
            },
        }
    }
}

#[cfg(feature = "reqwest-middleware")]
impl<'a> From<&'a reqwest::Url> for RequestOrigin<'a> {
    fn from(url: &'a reqwest::Url) -> Self {
        Self {
            scheme: url.scheme(),
            host: url.host_str().unwrap_or_default(),
            port: url.port_or_known_default(),
        }
    }
}

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
        for (text, expected) in [
            ("http://graph.microsoft.com", "in the clear"),
            (
                "https://graph.microsoft.com/v1.0",
                "scheme, host and port alone",
            ),
            (
                "https://u:hunter2@graph.microsoft.com",
                "user name or password",
            ),
            ("https://gr\u{e4}ph.microsoft.com", "is read as"),
            ("https://graph.microsoft.com.", "ends in a dot"),
            ("http://localhost", "in the clear"),
            ("https://*.microsoft.com", ""),
            ("", "empty host"),
        ] {
            match Origin::parse(text) {
                Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
                // A star is not a wildcard, and matches no request.
                Ok(origin) => assert!(!matches(&origin, "https://a.microsoft.com")),
            }
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
