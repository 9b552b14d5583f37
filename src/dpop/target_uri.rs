use std::fmt;

use serde::{Serialize, Serializer};
use url::Url;

/// The target URI of a request as `htu` names it ([RFC 9449 section 4.2]).
///
/// The URI has no query and no fragment, and is normalized ([RFC 3986 sections 6.2.2 and 6.2.3]):
/// the case of scheme, host and encoded octets, unreserved characters that are percent-encoded,
/// dot segments, an empty path, and the default port of the scheme.
///
/// [RFC 9449 section 4.2]: https://www.rfc-editor.org/rfc/rfc9449#section-4.2
/// [RFC 3986 sections 6.2.2 and 6.2.3]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetUri(String);

/// The reason why a text is not the target URI of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetUriError {
    #[error("the URI has white space, a backslash or characters beyond ASCII")]
    Characters,
    #[error("the URI is not an absolute URI with a host")]
    NotAbsolute,
    #[error("the scheme of the URI is neither https nor http")]
    Scheme,
    #[error("the URI has a user name or a password")]
    UserInformation,
}

impl TargetUri {
    /// Normalizes an absolute URI.
    pub(crate) fn of(uri: &str) -> Result<Self, TargetUriError> {
        let url = parse(uri)?;
        let mut text = url.origin().ascii_serialization();
        push_path(&mut text, url.path());
        Ok(Self(text))
    }

    /// Returns the URI for a proof, with the percent-encoding of the request. A server that does
    /// not normalize URIs finds the path that the server received.
    pub(crate) fn to_prove(uri: &str) -> Result<Self, TargetUriError> {
        let url = parse(uri)?;
        Ok(Self(url.origin().ascii_serialization() + url.path()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a URI for an error, without the parts that may have a secret: user information,
    /// query and fragment.
    pub(crate) fn shown(uri: &str) -> String {
        let uri = uri.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = match uri.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), uri),
        };
        let authority = rest.split(['/', '\\']).next().unwrap_or_default();
        let without = match authority.rfind('@') {
            Some(at) => rest.get(at..).unwrap_or_default().trim_start_matches('@'),
            None => rest,
        };
        scheme + without
    }
}

/// Parses the absolute URI of an HTTP request.
fn parse(uri: &str) -> Result<Url, TargetUriError> {
    // The parser of URLs drops or replaces these characters, and would accept another URI.
    if !uri
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    {
        return Err(TargetUriError::Characters);
    }
    // The parser also accepts `https:host` and `https:///host`.
    let authority = uri.split_once("://").map(|(_, authority)| authority);
    if authority.is_none_or(|authority| authority.starts_with(['/', '?', '#'])) {
        return Err(TargetUriError::NotAbsolute);
    }
    let url = Url::parse(uri).map_err(|_| TargetUriError::NotAbsolute)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(TargetUriError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetUriError::UserInformation);
    }
    Ok(url)
}

/// Appends a path. Decodes unreserved characters, and writes other percent-encoded octets in upper
/// case ([RFC 3986 section 6.2.2]).
///
/// [RFC 3986 section 6.2.2]: https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2
fn push_path(text: &mut String, path: &str) {
    let mut parts = path.split('%');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let encoded = part.split_at_checked(2).and_then(|(digits, rest)| {
            let digits_only = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let octet = u8::from_str_radix(digits, 16).ok()?;
            digits_only.then_some((char::from(octet), digits, rest))
        });
        match encoded {
            Some((c, _, rest)) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                text.push(c);
                text.push_str(rest);
            }
            Some((_, digits, rest)) => {
                text.push('%');
                text.extend(digits.chars().map(|digit| digit.to_ascii_uppercase()));
                text.push_str(rest);
            }
            None => {
                text.push('%');
                text.push_str(part);
            }
        }
    }
}

impl Serialize for TargetUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for TargetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_normalized_and_loses_its_query_and_its_fragment() {
        for (uri, expected) in [
            ("https://api.example/files", "https://api.example/files"),
            (
                "https://api.example/files?a=b#c",
                "https://api.example/files",
            ),
            (
                "https://api.example/files#c?a=b",
                "https://api.example/files",
            ),
            ("HTTPS://API.Example/Files", "https://api.example/Files"),
            ("https://api.example", "https://api.example/"),
            ("https://api.example?a", "https://api.example/"),
            ("https://api.example:443/", "https://api.example/"),
            ("http://api.example:80/", "http://api.example/"),
            ("https://api.example:/", "https://api.example/"),
            ("https://api.example:8443/", "https://api.example:8443/"),
            ("http://api.example:443/", "http://api.example:443/"),
            ("http://[::1]:80/a", "http://[::1]/a"),
            ("http://[0:0:0:0:0:0:0:1]/a", "http://[::1]/a"),
            ("https://h/a/./b/../c", "https://h/a/c"),
            ("https://h/a/%2e%2E/c", "https://h/c"),
            ("https://h/%7euser/%41%2d", "https://h/~user/A-"),
            ("https://h/a%2fb%3f", "https://h/a%2Fb%3F"),
            ("https://h/%252e", "https://h/%252e"),
            ("https://h/a%", "https://h/a%"),
            ("https://h/a%g1%+1", "https://h/a%g1%+1"),
            ("https://h//a/", "https://h//a/"),
        ] {
            assert_eq!(TargetUri::of(uri).unwrap().as_str(), expected, "{uri}");
        }
    }

    #[test]
    fn a_normalized_uri_stays_as_it_is() {
        for uri in [
            "https://h/a%2fb/%7e?x",
            "http://[::1]:81/a|b%c3%a9",
            "https://h/%25",
        ] {
            let normalized = TargetUri::of(uri).unwrap();
            assert_eq!(TargetUri::of(normalized.as_str()), Ok(normalized));
        }
    }

    #[test]
    fn the_uri_of_a_proof_has_the_encoding_of_the_request() {
        for (uri, expected) in [
            ("HTTPS://H:443/a%2fb/%7e?x#y", "https://h/a%2fb/%7e"),
            ("https://h", "https://h/"),
        ] {
            let proven = TargetUri::to_prove(uri).unwrap();
            assert_eq!(proven.as_str(), expected);
            assert_eq!(TargetUri::of(expected), TargetUri::of(uri));
        }
    }

    #[test]
    fn the_shown_uri_has_no_user_information_query_or_fragment() {
        for (uri, expected) in [
            ("https://h:81/a?key=hunter2", "https://h:81/a"),
            ("https://h/a#hunter2", "https://h/a"),
            ("https://adele:hunter2@h/a@b", "https://h/a@b"),
            ("https://adele:hunter2@x@h", "https://h"),
            ("https://adele:hunter2@h\\a", "https://h\\a"),
            ("https:adele:hunter2@h/a", "h/a"),
            ("/a@b?hunter2", "/a@b"),
            ("", ""),
        ] {
            assert_eq!(TargetUri::shown(uri), expected, "{uri}");
        }
    }

    #[test]
    fn a_text_that_is_not_the_uri_of_a_request_is_rejected() {
        for (uri, expected) in [
            ("", TargetUriError::NotAbsolute),
            ("/files", TargetUriError::NotAbsolute),
            ("api.example/files", TargetUriError::NotAbsolute),
            ("https:api.example", TargetUriError::NotAbsolute),
            ("https:///api.example", TargetUriError::NotAbsolute),
            ("https://?a", TargetUriError::NotAbsolute),
            ("https://:443/", TargetUriError::NotAbsolute),
            ("https://h:99999/", TargetUriError::NotAbsolute),
            ("ftp://h/", TargetUriError::Scheme),
            ("file://h/", TargetUriError::Scheme),
            ("https://user@h/", TargetUriError::UserInformation),
            ("https://:word@h/", TargetUriError::UserInformation),
            (" https://h/", TargetUriError::Characters),
            ("https://h/a b", TargetUriError::Characters),
            ("https://h/a\tb", TargetUriError::Characters),
            ("https://h\\a", TargetUriError::Characters),
            ("https://h/é", TargetUriError::Characters),
        ] {
            assert_eq!(TargetUri::of(uri), Err(expected), "{uri}");
        }
    }
}
