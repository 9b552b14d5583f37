use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use super::*;
use crate::error::CredentialKind;
use crate::secret::Secret;
use crate::time::TimeSource;
use crate::token::{AccessToken, Thumbprint, TokenSource};

/// Time of every response in these tests.
pub(super) static NOW: LazyLock<Now> = LazyLock::new(|| TimeSource::System.now());

pub(super) fn parsed(
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<AccessToken, Error> {
    parse_with_jitter(status, headers, body, 0.0)
}

fn parse_with_jitter(
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    jitter: f64,
) -> Result<AccessToken, Error> {
    let request = Sent {
        jitter,
        ..Sent::default()
    };
    request.parsed(status, headers, body)
}

/// The parts of a token request that differ between tests.
pub(super) struct Sent {
    pub(super) secret: &'static str,
    pub(super) kind: CredentialKind,
    pub(super) source: Option<&'static str>,
    pub(super) rules: Rules,
    pub(super) client_id: &'static str,
    pub(super) jitter: f64,
    pub(super) binding: TokenBinding,
    pub(super) is_token_exchange: bool,
    pub(super) longest_lifetime: Option<Duration>,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            secret: "hunter2 &",
            kind: CredentialKind::Secret,
            source: None,
            rules: Rules::Entra,
            client_id: "client",
            jitter: 0.0,
            binding: TokenBinding::Unbound,
            is_token_exchange: false,
            longest_lifetime: None,
        }
    }
}

impl Sent {
    /// Parses the response to the request.
    pub(super) fn parsed(
        &self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<AccessToken, Error> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Bytes::copy_from_slice(body)).unwrap();
        let now = *NOW;
        let key = CacheKey::sample("t");
        let context = ResponseContext {
            key: &key,
            tenant: key.tenant.as_ref(),
            scopes: &"asked/.default".into(),
            correlation_id: "our-id",
            client_id: self.client_id,
            rules: self.rules,
            assumed_lifetime: ASSUMED_LIFETIME,
            origin: &CredentialOrigin {
                kind: self.kind,
                source: self.source.map(str::to_owned),
            },
            received: now.wall(),
            secrets: &[&Secret::from(self.secret)],
            is_interactive: false,
            is_token_exchange: self.is_token_exchange,
            binding: self.binding,
            endpoint: "the token endpoint",
            longest_lifetime: self.longest_lifetime,
        };
        let issued = Arc::new(parse(&response, context, now, self.jitter)?.issued);
        Ok(AccessToken::from_cache(issued, &key, TokenSource::IdentityProvider).unwrap())
    }
}

/// Returns the seconds until the token expires and until its refresh is due.
fn times(token: &AccessToken) -> (u64, u64) {
    let left = |time: SystemTime| time.duration_since(NOW.wall()).unwrap().as_secs();
    (left(token.expires_on()), left(token.refresh_on()))
}

#[test]
fn a_success_is_parsed() {
    for (name, body, expected) in [
        (
            "numbers",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"ext_expires_in":3599}"#,
            (3599, 3299),
        ),
        (
            "numeric strings",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":"3599","refresh_in":"1800"}"#,
            (3599, 1800),
        ),
        (
            "bearer without regard to case",
            r#"{"token_type":"bEARER","access_token":"a","expires_in":3599}"#,
            (3599, 3299),
        ),
        (
            "refresh_in",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":86399,"refresh_in":43199}"#,
            (86_399, 43_199),
        ),
        (
            "a fraction",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":3599.9}"#,
            (3599, 3299),
        ),
        (
            "a fraction in a string",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":"3599.0"}"#,
            (3599, 3299),
        ),
        (
            "optional members of the wrong type",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"refresh_in":"soon","scope":["x"]}"#,
            (3599, 3299),
        ),
        (
            "a byte order mark",
            "\u{feff}{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"expires_in\":3599}",
            (3599, 3299),
        ),
        (
            "null is absent",
            r#"{"token_type":"Bearer","access_token":"a","expires_in":3599,"refresh_in":null,"scope":null}"#,
            (3599, 3299),
        ),
    ] {
        let token = parsed(200, &[], body.as_bytes()).unwrap();
        assert_eq!(times(&token), expected, "{name}");
        assert_eq!(token.secret(), "a");
        assert_eq!(token.scopes(), "asked/.default");
        assert_eq!(token.tenant_id(), Some("t"));
        assert_eq!(token.correlation_id(), "our-id");
    }
    let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":9,"scope":"granted"}"#;
    assert_eq!(
        parsed(200, &[], body.as_bytes()).unwrap().scopes(),
        "granted"
    );
    let body = r#"{"token_type":"Bearer","access_token":"a","expires_in":" 9 ","scope":" "}"#;
    let token = parsed(200, &[], body.as_bytes()).unwrap();
    assert_eq!(token.scopes(), "asked/.default");
}

/// docs/failures.md F5 (no expiry) and M13 (no token).
#[test]
fn an_unreadable_success_is_an_invalid_response() {
    let mut accepted = Vec::new();
    for (body, why) in [
        ("", "not a JSON object"),
        ("<html>sign in</html>", "not a JSON object"),
        (r#"{"access_token":"tokentok"#, "not a JSON object"),
        ("[]", "not a JSON object"),
        (
            r#"{"token_type":"Bearer","access_token":7,"expires_in":3599}"#,
            "no 'access_token'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"inf"}"#,
            "no 'expires_in'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"soon"}"#,
            "no 'expires_in'",
        ),
        (
            r#"{"access_token":"tokentok","expires_in":3599}"#,
            "no 'token_type'",
        ),
        (
            r#"{"token_type":"pop","access_token":"tokentok","expires_in":3599}"#,
            "is not Bearer",
        ),
        (
            r#"{"token_type":"","access_token":"tokentok","expires_in":3599}"#,
            "is not Bearer",
        ),
        (
            r#"{"token_type":"Bearer","expires_in":3599}"#,
            "no 'access_token'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"","expires_in":3599}"#,
            "no 'access_token'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":" ","expires_in":3599}"#,
            "no 'access_token'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok"}"#,
            "no 'expires_in'",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":0}"#,
            "not positive",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":-1}"#,
            "not positive",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"0"}"#,
            "not positive",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tokentok","expires_in":"-5"}"#,
            "not positive",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"tok\nentok","expires_in":9}"#,
            "in a header",
        ),
    ] {
        let error = match parsed(200, &[("content-type", "text/html")], body.as_bytes()) {
            Err(error) => error,
            Ok(_) => {
                accepted.push(body);
                continue;
            }
        };
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{body}: {error:?}"
        );
        assert_eq!(error.status().unwrap(), 200);
        let text = error.to_string();
        assert!(text.contains(why), "{body}: {text}");
        assert!(text.contains("text/html"), "{text}");
        assert!(!format!("{error:?}{error}").contains("entok"), "{error:?}");
    }
    assert!(accepted.is_empty(), "accepted as a success: {accepted:#?}");
}

#[test]
fn a_null_member_of_a_token_response_is_absent() {
    let with = |member: &str| {
        let mut body = serde_json::json!({
            "token_type": "Bearer", "access_token": "tokentok", "expires_in": 3599,
            "refresh_in": 1800, "scope": "granted", "ext_expires_in": 3599, "error": "x",
        });
        body[member] = Value::Null;
        parsed(200, &[], body.to_string().as_bytes())
    };
    for optional in ["refresh_in", "scope", "ext_expires_in", "error", "id_token"] {
        with(optional).unwrap();
    }
    assert_eq!(with("scope").unwrap().scopes(), "asked/.default");
    for (required, why) in [
        ("token_type", "no 'token_type'"),
        ("expires_in", "no 'expires_in'"),
    ] {
        let error = with(required).unwrap_err();
        assert!(error.to_string().contains(why), "{required}: {error}");
    }
    // Without a token, the error of the same response counts.
    let error = with("access_token").unwrap_err();
    assert!(matches!(&error, Error::Server(server) if server.error() == "x"));
    let none = br#"{"token_type":"Bearer","access_token":null,"expires_in":9,"error":null}"#;
    let error = parsed(200, &[], none).unwrap_err();
    assert!(error.to_string().contains("no 'access_token'"), "{error}");
}

#[test]
fn a_body_beyond_the_limit_is_rejected_and_the_status_is_kept() {
    let token = br#"{"token_type":"Bearer","access_token":"a","expires_in":9}"#;
    let mut largest = token.to_vec();
    largest.resize(LARGEST_BODY, b' ');
    parsed(200, &[], &largest).unwrap();
    let body = vec![b' '; LARGEST_BODY + 1];
    let error = parsed(200, &[], &body).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert_eq!(parsed(500, &[], &body).unwrap_err().status().unwrap(), 500);
}

#[test]
fn the_jitter_makes_the_refresh_earlier() {
    let body = br#"{"token_type":"Bearer","access_token":"a","expires_in":3599}"#;
    let token = parse_with_jitter(200, &[], body, 1.0).unwrap();
    assert_eq!(times(&token), (3599, 2999));
}

#[test]
fn a_content_type_is_shown_on_one_line_and_without_the_credential() {
    let headers = [("content-type", "x; hunter2 &")];
    let error = parsed(200, &headers, b"").unwrap_err().to_string();
    assert!(error.contains("x; [redacted]"), "{error}");
    let headers = [("content-type", "text/html;\tx")];
    let error = parsed(400, &headers, b"").unwrap_err().to_string();
    assert!(error.contains("text/html;\\tx"), "{error}");
}

#[test]
fn a_page_with_status_200_is_not_passed_over_in_silence() {
    for (page, shown) in [
        (
            "<!DOCTYPE html><title>Guest Wi-Fi</title><p>Please accept the <b>terms</b>.</p>",
            "text/html): Guest Wi-Fi: Please accept the terms.",
        ),
        (
            "<title>you sent hunter2 &amp;</title>",
            ": you sent [redacted]",
        ),
        ("<p>{\"access_token\":\"tokentok\"}</p>", "may hold a token"),
    ] {
        let error = parsed(200, &[("content-type", "text/html")], page.as_bytes());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(shown), "{error}");
        assert!(!error.contains("tokentok"), "{error}");
    }
}

#[test]
fn white_space_does_not_make_another_token_type() {
    let body = br#"{"token_type":" bearer\n","access_token":"tokentok","expires_in":9}"#;
    parsed(200, &[], body).unwrap();
}

#[test]
fn a_missing_lifetime_is_assumed_for_an_openid_provider_alone() {
    let body = |expires_in: &str| {
        format!(
            r#"{{"token_type":"Bearer","access_token":"a","issued_at":"1278448384422"{expires_in}}}"#
        )
    };
    for (rules, expires_in, lifetime) in [
        (Rules::OpenId, "", Some(300)),
        (Rules::OpenId, r#","expires_in":null"#, Some(300)),
        (Rules::OpenId, r#","expires_in":60"#, Some(60)),
        (Rules::OpenId, r#","expires_in":0"#, None),
        (Rules::OpenId, r#","expires_in":-1"#, None),
        (Rules::OpenId, r#","expires_in":"soon""#, None),
        (Rules::OpenId, r#","expires_in":{}"#, None),
        (Rules::Entra, "", None),
        (Rules::Entra, r#","expires_in":null"#, None),
        (Rules::B2c, "", None),
        (Rules::Adfs, "", None),
    ] {
        let sent = Sent {
            rules,
            ..Sent::default()
        };
        let result = sent.parsed(200, &[], body(expires_in).as_bytes());
        let shown = result.as_ref().ok().map(|token| times(token).0);
        assert_eq!(shown, lifetime, "{rules:?} {expires_in}: {result:?}");
    }
}

#[test]
fn another_token_type_is_shown_and_a_long_one_is_not() {
    for (token_type, shown) in [
        ("BearerToken", "is not Bearer but 'BearerToken'; configure"),
        ("mac\\u001b[2J", "'mac\\u{1b}[2J'"),
        ("hunter2 &", "'[redacted]'"),
        ("eyJhbGciOi", "'[withheld: the text may hold a token]'"),
        (
            "0123456789abcdef0123456789abcdefX",
            "'token_type' is not Bearer (",
        ),
        (" ", "'token_type' is not Bearer ("),
    ] {
        let body =
            format!(r#"{{"token_type":"{token_type}","access_token":"tokentok","expires_in":9}}"#);
        let error = parsed(200, &[], body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(shown), "{error}");
        assert!(!error.contains("tokentok"), "{error}");
    }
}

#[test]
fn a_token_has_the_scheme_that_was_requested() {
    use TokenBinding::{Certificate, EntraCertificate, ProofKey, Unbound};

    let key = Thumbprint([7; 32]);
    for (binding, token_type, expected) in [
        (Unbound, "bearer", Ok("Bearer t")),
        (
            Unbound,
            "DPoP",
            Err("'token_type' is not Bearer but 'DPoP'"),
        ),
        (ProofKey(key), "dpop", Ok("DPoP t")),
        (
            ProofKey(key),
            "Bearer",
            Err("is not bound to the client's key"),
        ),
        (Certificate(key), "Bearer", Ok("Bearer t")),
        (EntraCertificate(key), "mtls_pop", Ok("mtls_pop t")),
        (
            EntraCertificate(key),
            "Bearer",
            Err("is not bound to the client's certificate"),
        ),
    ] {
        let sent = Sent {
            binding,
            ..Sent::default()
        };
        let body = format!(r#"{{"token_type":"{token_type}","access_token":"t","expires_in":60}}"#);
        let parsed = sent.parsed(200, &[], body.as_bytes());
        match (parsed, expected) {
            (Ok(token), Ok(header)) => {
                assert_eq!(token.authorization_header(), header);
                assert_eq!(token.secret(), "t");
                assert_eq!(token.token_type(), token.scheme().as_str());
                assert_eq!(token.issued().binding(), binding);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (parsed, expected) => panic!("{binding:?}: {parsed:?} and not {expected:?}"),
        }
    }
}

#[test]
fn a_token_exchange_says_what_it_issued() {
    let exchange = Sent {
        rules: Rules::OpenId,
        is_token_exchange: true,
        ..Sent::default()
    };
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for (members, expected) in [
        (
            r#""token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
            Ok((TokenScheme::Bearer, Some(jwt))),
        ),
        (r#""token_type":"Bearer""#, Ok((TokenScheme::Bearer, None))),
        (
            r#""token_type":"n_a","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
            Ok((TokenScheme::NotApplicable, Some(jwt))),
        ),
        (r#""token_type":"N_A""#, Err("has no 'issued_token_type'")),
        (
            r#""token_type":"N_A","issued_token_type":null"#,
            Err("has no 'issued_token_type'"),
        ),
        (
            r#""token_type":"Bearer","issued_token_type":7"#,
            Err("'issued_token_type' is not a text"),
        ),
        (
            r#""token_type":"Bearer","issued_token_type":" ""#,
            Err("'issued_token_type' is not a text"),
        ),
        (
            r#""issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
            Err("has no 'token_type'"),
        ),
        (
            r#""token_type":"mac","issued_token_type":"urn:ietf:params:oauth:token-type:jwt""#,
            Err("'token_type' is not Bearer but 'mac'"),
        ),
    ] {
        let body = format!(r#"{{"access_token":"tok.en","expires_in":60,{members}}}"#);
        match (exchange.parsed(200, &[], body.as_bytes()), expected) {
            (Ok(token), Ok((scheme, issued_token_type))) => {
                assert_eq!(token.scheme(), scheme, "{members}");
                assert_eq!(token.issued_token_type(), issued_token_type, "{members}");
                assert_eq!(token.secret(), "tok.en", "{members}");
                let header = match scheme {
                    TokenScheme::NotApplicable => "N_A",
                    _ => "Bearer tok.en",
                };
                assert_eq!(token.authorization_header(), header, "{members}");
                assert!(!format!("{token:?}").contains("tok.en"));
            }
            (Err(error), Err(part)) => {
                assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
                assert!(error.to_string().contains(part), "{error}");
            }
            (parsed, _) => panic!("{members}: {parsed:?}"),
        }
    }
    // The type has no meaning in the response to another grant.
    let other =
        r#"{"access_token":"a","expires_in":60,"token_type":"Bearer","issued_token_type":7}"#;
    let token = Sent::default().parsed(200, &[], other.as_bytes()).unwrap();
    assert_eq!(token.issued_token_type(), None);
    let other =
        r#"{"access_token":"a","expires_in":60,"token_type":"N_A","issued_token_type":"urn:x:y"}"#;
    Sent::default()
        .parsed(200, &[], other.as_bytes())
        .unwrap_err();
}
