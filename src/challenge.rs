#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use serde_json::{Map, Value};
use url::Url;

mod header;

use header::HeaderParser;

/// One challenge of an API that did not take a request: what it says in `WWW-Authenticate`
/// ([RFC 9110 section 11.6.1]).
///
/// It is read leniently, as APIs write it: an unquoted URL and a missing comma do no harm. What cannot
/// be read is left out, and nothing in it is trusted: it says what somebody wants, and not that
/// they may have it.
///
/// ```
/// use confidential_client::Challenge;
///
/// let challenges = Challenge::parse(
///     r#"Bearer authorization="https://login.windows.net/contoso.com", resource="https://vault.azure.net""#,
/// );
/// assert_eq!(challenges[0].scheme(), "Bearer");
/// assert_eq!(challenges[0].tenant_id().as_deref(), Some("contoso.com"));
/// assert_eq!(challenges[0].resource(), Some("https://vault.azure.net"));
/// ```
///
/// [RFC 9110 section 11.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    token68: Option<String>,
    /// As they came, with their names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Reads the value of one `WWW-Authenticate` header, which may hold several challenges. Does no
    /// I/O.
    pub fn parse(value: &str) -> Vec<Self> {
        HeaderParser(value).challenges()
    }

    /// Reads every `WWW-Authenticate` header of an answer, in their order.
    pub fn from_headers(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        values
            .flat_map(|value| Self::parse(&String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    /// The scheme, such as `Bearer`, as it was written; schemes are compared without case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether it asks for a bearer token ([RFC 6750 section 3](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Bearer")
    }

    /// What stands in place of parameters, as with `Negotiate`.
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// A parameter by its name, in any case; the first of several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Why the request was not taken, such as `invalid_token` or `insufficient_claims`.
    pub fn error(&self) -> Option<&str> {
        self.parameter("error")
    }

    /// The scope that would be needed.
    pub fn scope(&self) -> Option<&str> {
        self.parameter("scope")
    }

    /// The claims that a token has to be asked for with, as JSON for
    /// [`TokenRequest::claims`](crate::TokenRequest::claims), from base64, base64url or plain text.
    /// `None` as well for what is not a JSON object, or longer than 8 KB.
    pub fn claims(&self) -> Option<String> {
        let text = self.parameter("claims")?.trim();
        if text.len() > LONGEST_CLAIMS {
            return None;
        }
        let json = match text.starts_with('{') {
            true => text.to_owned(),
            false => String::from_utf8(decoded(text)?).ok()?,
        };
        let is_object = serde_json::from_str::<Map<String, Value>>(&json).is_ok();
        is_object.then_some(json)
    }

    /// Where a user would sign in: `authorization_uri`, or `authorization` with Key Vault.
    pub fn authorization_uri(&self) -> Option<&str> {
        self.parameter("authorization_uri")
            .or_else(|| self.parameter("authorization"))
    }

    /// The tenant in that URI; `None` as well where it is `common` or another that stands for many.
    pub fn tenant_id(&self) -> Option<String> {
        let url = Url::parse(self.authorization_uri()?).ok()?;
        let tenant = url.path_segments()?.find(|part| !part.is_empty())?;
        let stands_for_many = ["common", "organizations", "consumers"];
        (!stands_for_many.contains(&tenant)).then(|| tenant.to_owned())
    }

    /// The resource to ask a token for: `resource`, or `resource_id`.
    pub fn resource(&self) -> Option<&str> {
        self.parameter("resource")
            .or_else(|| self.parameter("resource_id"))
    }

    /// A nonce to prove possession with.
    pub fn nonce(&self) -> Option<&str> {
        self.parameter("nonce")
    }
}

/// The names of the parameters without their values, of which nobody knows what they are.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parameters.iter().map(|(name, _)| name);
        f.debug_struct("Challenge")
            .field("scheme", &self.scheme)
            .field("error", &self.error())
            .field("parameters", &names.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Base64 in either alphabet, padded or not.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let standard = text.replace('-', "+").replace('_', "/");
    LENIENT.decode(standard).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const LONGEST_CLAIMS: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_known_apis_send_is_understood() {
        let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"cp1"}}}"#;
        let common = Some("https://login.microsoftonline.com/common/oauth2/authorize");
        for (name, value, uri, tenant, error, resource) in [
            (
                "Microsoft Graph",
                r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsiYWNycyI6eyJlc3NlbnRpYWwiOnRydWUsInZhbHVlIjoiY3AxIn19fQ==""#,
                common,
                None,
                Some("insufficient_claims"),
                None,
            ),
            (
                "Key Vault",
                r#"Bearer authorization="https://login.windows.net/contoso.com", resource="https://vault.azure.net""#,
                Some("https://login.windows.net/contoso.com"),
                Some("contoso.com"),
                None,
                Some("https://vault.azure.net"),
            ),
            (
                "Azure Storage",
                r#"Bearer authorization_uri=https://login.microsoftonline.com/contoso.com/oauth2/authorize resource_id=https://storage.azure.com"#,
                Some("https://login.microsoftonline.com/contoso.com/oauth2/authorize"),
                Some("contoso.com"),
                None,
                Some("https://storage.azure.com"),
            ),
            (
                "SharePoint",
                r#"Bearer realm="contoso",client_id="00000003-0000-0ff1-ce00-000000000000",trusted_issuers="00000001-0000-0000-c000-000000000000@*",authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize""#,
                common,
                None,
                None,
                None,
            ),
            (
                "Azure DevOps",
                r#"Bearer authorization_uri=https://login.windows.net/contoso.com, Basic realm="https://dev.azure.com/", TFS-Federated"#,
                Some("https://login.windows.net/contoso.com"),
                Some("contoso.com"),
                None,
                None,
            ),
            (
                "Azure Resource Manager",
                r#"Bearer authorization_uri="https://login.windows.net/contoso.com", error="invalid_token", error_description="The access token is invalid.""#,
                Some("https://login.windows.net/contoso.com"),
                Some("contoso.com"),
                Some("invalid_token"),
                None,
            ),
            (
                "Exchange",
                r#"Bearer client_id="00000002-0000-0ff1-ce00-000000000000", trusted_issuers="00000001-0000-0000-c000-000000000000@*", token_types="app_asserted_user_v1 service_asserted_app_v1", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="invalid_token",Basic Realm="""#,
                common,
                None,
                Some("invalid_token"),
                None,
            ),
        ] {
            let challenges = Challenge::parse(value);
            let bearer = challenges
                .iter()
                .find(|challenge| challenge.is_bearer())
                .unwrap();
            assert_eq!(bearer.authorization_uri(), uri, "{name}");
            assert_eq!(bearer.tenant_id().as_deref(), tenant, "{name}");
            assert_eq!(bearer.error(), error, "{name}");
            assert_eq!(bearer.resource(), resource, "{name}");
            let asked = (name == "Microsoft Graph").then(|| claims.to_owned());
            assert_eq!(bearer.claims(), asked, "{name}");
        }
    }

    #[test]
    fn a_uri_without_a_tenant_of_its_own_names_none() {
        for path in ["", "/", "/common", "/organizations/oauth2", "/consumers/"] {
            let header = format!("Bearer authorization_uri=https://login.windows.net{path}");
            assert_eq!(Challenge::parse(&header)[0].tenant_id(), None, "{path}");
        }
    }

    #[test]
    fn claims_are_taken_in_any_base64_or_plain_and_as_an_object_alone() {
        let claims =
            |text: &str| Challenge::parse(&format!("Bearer claims=\"{text}\""))[0].claims();
        let slashes = Some(r#"{"a":"???"}"#.to_owned());
        for text in ["eyJhIjoiPz8/In0=", "eyJhIjoiPz8_In0"] {
            assert_eq!(claims(text), slashes, "{text}");
        }
        let sure = Some(r#"{"a":"??>>~"}"#.to_owned());
        for text in [
            "eyJhIjoiPz8+Pn4ifQ==",
            "eyJhIjoiPz8+Pn4ifQ",
            "eyJhIjoiPz8-Pn4ifQ==",
            "eyJhIjoiPz8-Pn4ifQ",
            " eyJhIjoiPz8-Pn4ifQ ",
            r#"{\"a\":\"??>>~\"}"#,
        ] {
            assert_eq!(claims(text), sure, "{text}");
        }
        let long = format!("{{\\\"a\\\":\\\"{}\\\"}}", "x".repeat(8192));
        for text in [
            "",
            "not base64!",
            "W10=",
            "bnVsbA==",
            "[]",
            "{",
            "/w==",
            &long,
        ] {
            assert_eq!(claims(text), None, "{text}");
        }
    }

    #[test]
    fn every_header_of_an_answer_is_read() {
        let mut headers = HeaderMap::new();
        for value in [&b"Negotiate"[..], b"Bearer a=\"\xe4\", b=1, b=2"] {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            headers.append(WWW_AUTHENTICATE, value);
        }
        let challenges = Challenge::from_headers(&headers);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[1].parameter("B"), Some("1"));
        assert!(
            !format!("{challenges:?}").contains('\u{fffd}'),
            "no value is shown"
        );
    }
}
