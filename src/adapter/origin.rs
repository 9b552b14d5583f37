use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::authority::address::parse_host_url;
use crate::error::Error;

/// Scheme, host and port of an API ([RFC 6454 section 4](https://www.rfc-editor.org/rfc/rfc6454#section-4)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// # Errors
    ///
    /// It is no origin, or neither https nor this machine's.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let url = parse_host_url("the origin", text)?;
        let port = url.port_or_known_default();
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: port.unwrap_or_default(),
        })
    }

    pub(super) fn is_of(&self, target: &RequestOrigin<'_>) -> bool {
        self.scheme == target.scheme
            && Some(self.port) == target.port
            && self.host.eq_ignore_ascii_case(target.host)
    }

    /// Whether no `Host` header says otherwise: what stands at the address may go by it, and pass
    /// the request on.
    pub(super) fn is_of_host(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HOST).iter().all(|host| {
            let authority = Authority::try_from(HeaderValue::as_bytes(host));
            authority.is_ok_and(|host| self.is_of(&RequestOrigin::new(&self.scheme, &host)))
        })
    }
}

/// Where a request goes.
pub(super) struct RequestOrigin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> RequestOrigin<'a> {
    fn new(scheme: &'a str, authority: &'a Authority) -> Self {
        let host = authority.host();
        let port = match (authority.port_u16(), scheme) {
            // Behind a colon stands what is no port, and somebody may read it as a part of the host.
            (None, _) if !authority.as_str().ends_with(host) => None,
            (None, "https") => Some(443),
            (None, "http") => Some(80),
            (port, _) => port,
        };
        Self { scheme, host, port }
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

    fn is_of(origin: &Origin, uri: &str) -> bool {
        uri.parse::<Uri>()
            .is_ok_and(|uri| origin.is_of(&RequestOrigin::from(&uri)))
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
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
            assert_eq!(is_of(&graph, uri), expected, "{uri}");
        }
        let here = Origin::parse("http://127.0.0.1:8080/").unwrap();
        assert!(is_of(&here, "http://127.0.0.1:8080/x"));
        assert!(!is_of(&here, "http://127.0.0.1/x"));
        assert!(!is_of(&here, "http://127.1:8080/x"));
        let here = Origin::parse("http://127.0.0.1").unwrap();
        assert!(is_of(&here, "http://127.0.0.1/x"));
        assert!(!is_of(&here, "http://127.0.0.1:443/x"));
        let here = Origin::parse("http://[::1]").unwrap();
        assert!(is_of(&here, "http://[::1]:80/"));
        assert!(!is_of(&here, "http://[::1]:8080/"));
        assert!(!is_of(&here, "http://[::1]:/"));
        assert!(!is_of(&here, "http://[0:0:0:0:0:0:0:1]/"));
        for (text, why) in [
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
                Err(error) => assert!(error.to_string().contains(why), "{text}: {error}"),
                // A star is a host like any other, of no request.
                Ok(origin) => assert!(!is_of(&origin, "https://a.microsoft.com")),
            }
        }
    }

    #[test]
    fn a_host_header_of_another_origin_is_none_of_this() {
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
            assert_eq!(graph.is_of_host(&headers), expected, "{hosts:?}");
        }
    }
}
