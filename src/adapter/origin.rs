use crate::authority::address::checked_host;
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
        let url = checked_host("the origin", text)?;
        let port = url.port_or_known_default();
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: port.unwrap_or_default(),
        })
    }

    pub(super) fn is_of(&self, target: &Target<'_>) -> bool {
        self.scheme == target.scheme
            && Some(self.port) == target.port
            && self.host.eq_ignore_ascii_case(target.host)
    }
}

/// Where a request goes.
pub(super) struct Target<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

#[cfg(feature = "tower")]
impl<'a> From<&'a http::Uri> for Target<'a> {
    fn from(uri: &'a http::Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or_default();
        Self {
            scheme,
            host: uri.host().unwrap_or_default(),
            port: uri.port_u16().or(match scheme {
                "https" => Some(443),
                "http" => Some(80),
                _ => None,
            }),
        }
    }
}

#[cfg(feature = "reqwest-middleware")]
impl<'a> From<&'a reqwest::Url> for Target<'a> {
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
            .is_ok_and(|uri| origin.is_of(&Target::from(&uri)))
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
            ("/v1.0/users", false),
            ("ftp://graph.microsoft.com/", false),
        ] {
            assert_eq!(is_of(&graph, uri), expected, "{uri}");
        }
        let here = Origin::parse("http://127.0.0.1:8080/").unwrap();
        assert!(is_of(&here, "http://127.0.0.1:8080/x"));
        assert!(!is_of(&here, "http://127.0.0.1/x"));
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
}
