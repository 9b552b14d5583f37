#![warn(clippy::arithmetic_side_effects, reason = "it parses untrusted input")]

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

/// A challenge in the `WWW-Authenticate` header of an API that rejected a request
/// ([RFC 9110 section 11.6.1]).
///
/// The parser accepts common mistakes, such as an unquoted URL or a missing comma, and skips
/// invalid text. A challenge is untrusted input. It says which token the API wants and grants no
/// access.
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
#[doc(alias = "WwwAuthenticateParameters")]
#[doc(alias = "WWW-Authenticate")]
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    token68: Option<String>,
    /// Parameters in the order of the header. The names are in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Parses the value of one `WWW-Authenticate` header, which can contain several challenges.
    ///
    /// Does no I/O.
    pub fn parse(value: &str) -> Vec<Self> {
        HeaderParser(value).challenges()
    }

    /// Parses every `WWW-Authenticate` header of a response, in order.
    pub fn from_headers(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        values
            .flat_map(|value| Self::parse(&String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    /// Returns the scheme as written, such as `Bearer`. Compare schemes without case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns `true` for the scheme `Bearer`, in any case ([RFC 6750 section 3](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Bearer")
    }

    /// Returns `true` for the scheme `DPoP`, in any case ([RFC 9449 section 7.1](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)).
    pub fn is_dpop(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("DPoP")
    }

    /// Returns the `token68` that replaces the parameters in some schemes, such as `Negotiate`.
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// Returns the parameter `name`, in any case. Returns the first of several.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the error code, such as `invalid_token` or `insufficient_claims`.
    pub fn error(&self) -> Option<&str> {
        self.parameter("error")
    }

    /// Returns the scope that the API needs.
    pub fn scope(&self) -> Option<&str> {
        self.parameter("scope")
    }

    /// Returns the claims for the next token request, as JSON for
    /// [`TokenRequest::claims`](crate::TokenRequest::claims).
    ///
    /// The parameter can be base64, base64url or plain text. Returns `None` for text that is not a
    /// JSON object or is longer than 8 KB.
    #[doc(alias = "WithClaims")]
    #[doc(alias = "claims_challenge")]
    pub fn claims(&self) -> Option<String> {
        let text = self.parameter("claims")?.trim();
        if text.len() > MAX_CLAIMS_LENGTH {
            return None;
        }
        let json = match text.starts_with('{') {
            true => text.to_owned(),
            false => String::from_utf8(decode_base64(text)?).ok()?,
        };
        let is_object = serde_json::from_str::<Map<String, Value>>(&json).is_ok();
        is_object.then_some(json)
    }

    /// Returns the URL of the authorization endpoint.
    ///
    /// The parameter is `authorization_uri`, or `authorization` in Key Vault's challenges.
    pub fn authorization_uri(&self) -> Option<&str> {
        self.parameter("authorization_uri")
            .or_else(|| self.parameter("authorization"))
    }

    /// Returns the tenant in the authorization endpoint's URL.
    ///
    /// Returns `None` for `common`, `organizations` and `consumers`.
    pub fn tenant_id(&self) -> Option<String> {
        let url = Url::parse(self.authorization_uri()?).ok()?;
        let tenant = url.path_segments()?.find(|part| !part.is_empty())?;
        let multi_tenant_names = ["common", "organizations", "consumers"];
        (!multi_tenant_names.contains(&tenant)).then(|| tenant.to_owned())
    }

    /// Returns the resource to request a token for, from `resource` or `resource_id`.
    pub fn resource(&self) -> Option<&str> {
        self.parameter("resource")
            .or_else(|| self.parameter("resource_id"))
    }

    /// Returns the nonce for a proof of possession.
    pub fn nonce(&self) -> Option<&str> {
        self.parameter("nonce")
    }
}

/// Writes the names of the parameters without the values, because a value may be secret.
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

/// Decodes base64 or base64url, with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let standard = text.replace('-', "+").replace('_', "/");
    LENIENT.decode(standard).ok()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const MAX_CLAIMS_LENGTH: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_known_apis_are_parsed() {
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
            let expected_claims = (name == "Microsoft Graph").then(|| claims.to_owned());
            assert_eq!(bearer.claims(), expected_claims, "{name}");
        }
    }

    #[test]
    fn a_multi_tenant_uri_has_no_tenant_id() {
        for path in ["", "/", "/common", "/organizations/oauth2", "/consumers/"] {
            let header = format!("Bearer authorization_uri=https://login.windows.net{path}");
            assert_eq!(Challenge::parse(&header)[0].tenant_id(), None, "{path}");
        }
    }

    #[test]
    fn claims_can_be_base64_or_plain_and_must_be_an_object() {
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
    fn every_header_of_a_response_is_parsed() {
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
