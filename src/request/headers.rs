use std::fmt;
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Error;
use crate::secret::Secret;

/// Extra headers of a token request. Empty for nearly all requests.
///
/// The headers are no part of the cache key.
#[derive(Clone, Default)]
pub(crate) struct ExtraHeaders(Option<Arc<HeaderMap>>);

impl ExtraHeaders {
    /// Sets a header, in place of an earlier value.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a name or a value that no header can have, and for a header that the
    /// client sends itself.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(Error::config(format!(
                "{name:?} is not the name of a header (RFC 9110 section 5.1); pass a name such as 'x-gateway-key'"
            )));
        };
        if is_reserved(&name) {
            return Err(Error::config(format!(
                "the header '{name}' is reserved, because the client or its connection sends the header; remove it, and use the methods of the builder or of the request"
            )));
        }
        let value = HeaderValue::from_str(value).ok();
        let Some(mut value) = value.filter(|value| value.to_str().is_ok()) else {
            return Err(Error::config(format!(
                "the value of the header '{name}' contains a character that no header can have; a value from a file usually ends in a newline, so trim the value"
            )));
        };
        value.set_sensitive(true);
        Arc::make_mut(self.0.get_or_insert_default()).insert(name, value);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds the headers to those of an HTTP request.
    pub(crate) fn append_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Returns the names and the values.
    pub(crate) fn to_pairs(&self) -> Vec<(String, String)> {
        let pairs = self.iter().filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        pairs.collect()
    }

    /// Returns the values, for masking in errors.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let values = self.to_pairs().into_iter();
        values.map(|(_, value)| Secret::from(value)).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().flat_map(|headers| headers.iter())
    }
}

/// Shows the names alone, because a value may be a secret.
impl fmt::Debug for ExtraHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.iter().map(|(name, _)| name.as_str());
        f.debug_list().entries(names).finish()
    }
}

/// Returns whether the client or its connection sends the header.
fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(name) || RESERVED_NAMES.contains(&name.as_str())
}

const RESERVED: [HeaderName; 14] = [
    ACCEPT,
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
const RESERVED_NAMES: [&str; 9] = [
    "client-request-id",
    "dpop",
    "keep-alive",
    "proxy-connection",
    "return-client-request-id",
    "x-client-os",
    "x-client-sku",
    "x-client-ver",
    "x-ms-lib-capability",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_client_and_an_impossible_header_are_rejected() {
        for (name, value, expected) in [
            ("X-Gateway-Key", "k", None),
            ("x-anchormailbox", "oid:a@b", None),
            ("user-agent", "nightly/1", None),
            (
                "Authorization",
                "v4lue",
                Some("'authorization' is reserved"),
            ),
            ("HOST", "v4lue", Some("'host' is reserved")),
            ("Content-Type", "v4lue", Some("'content-type' is reserved")),
            (
                "content-length",
                "v4lue",
                Some("'content-length' is reserved"),
            ),
            ("Transfer-Encoding", "v4lue", Some("is reserved")),
            ("Connection", "v4lue", Some("is reserved")),
            ("DPoP", "v4lue", Some("'dpop' is reserved")),
            ("client-request-id", "v4lue", Some("is reserved")),
            ("x-client-SKU", "v4lue", Some("is reserved")),
            ("", "v4lue", Some("\"\" is not the name of a header")),
            ("x gateway", "v4lue", Some("\"x gateway\" is not the name")),
            ("x\r\nhost", "v4lue", Some("is not the name of a header")),
            ("x-gateway-key", "v4lue\n", Some("'x-gateway-key' contains")),
            ("x-gateway-key", "v4l\u{fc}e", Some("contains")),
            (
                "x-gateway-key",
                "v4lue\r\nhost: b",
                Some("contains a character"),
            ),
        ] {
            let mut headers = ExtraHeaders::default();
            match (headers.set(name, value), expected) {
                (Ok(()), None) => assert_eq!(headers.to_pairs().len(), 1),
                (Err(error), Some(text)) => {
                    let error = error.to_string();
                    assert!(error.contains(text), "{error}");
                    assert!(!error.contains("v4lue"), "{error}");
                }
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_is_hidden() {
        let mut headers = ExtraHeaders::default();
        headers.set("x-key", "first").unwrap();
        headers.set("X-Key", "second").unwrap();
        let mut sent = HeaderMap::new();
        headers.append_to(&mut sent);
        let values: Vec<_> = sent.get_all("x-key").iter().collect();
        assert_eq!(values, ["second"]);
        assert!(values[0].is_sensitive());
        assert_eq!(format!("{headers:?}"), r#"["x-key"]"#);
    }
}
