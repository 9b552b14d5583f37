use http::Uri;

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

    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        let scheme = uri.scheme_str().unwrap_or_default();
        let port = uri.port_u16().or(match scheme {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        });
        self.scheme == scheme
            && port == Some(self.port)
            && uri
                .host()
                .is_some_and(|host| self.host.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(graph.is_of(&uri.parse().unwrap()), expected, "{uri}");
        }
        let here = Origin::parse("http://127.0.0.1:8080/").unwrap();
        assert!(here.is_of(&"http://127.0.0.1:8080/x".parse().unwrap()));
        assert!(!here.is_of(&"http://127.0.0.1/x".parse().unwrap()));
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
                Ok(origin) => assert!(!origin.is_of(&"https://a.microsoft.com".parse().unwrap())),
            }
        }
    }
}
