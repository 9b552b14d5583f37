use serde::Serialize;

/// The header of a client assertion ([RFC 7515 section 4.1]).
///
/// [RFC 7515 section 4.1]: https://www.rfc-editor.org/rfc/rfc7515#section-4.1
#[derive(PartialEq, Eq, Serialize)]
pub(crate) struct AssertionHeader<'a> {
    pub(super) typ: &'static str,
    pub(super) alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x5c: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    pub(super) x5t_s256: String,
}
