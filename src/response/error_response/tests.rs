use super::super::mask::EXCERPT;
use super::super::tests::{NOW, Sent, parsed};
use super::*;
use crate::error::CredentialKind;

#[test]
fn an_error_response_is_parsed_whole() {
    let body = r#"{"error":"invalid_grant","error_description":"AADSTS53003: Blocked.\r\nTrace ID: x",
        "error_codes":[53003,"16000",null],"timestamp":"2026-11-21 03:00:00Z","trace_id":"trace",
        "correlation_id":"0a1b2c3d-0000-4000-8000-000000000001","error_uri":"https://x/53003","suberror":"message_only",
        "claims":"{\"access_token\":{}}"}"#;
    let error = parsed(400, &[], body.as_bytes()).unwrap_err();
    let Error::Server(server) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.status(), 400);
    assert_eq!(server.error(), "invalid_grant");
    assert_eq!(
        server.error_description(),
        Some("AADSTS53003: Blocked.\r\nTrace ID: x")
    );
    assert_eq!(server.error_codes(), [53003, 16000]);
    assert_eq!(server.suberror(), Some("message_only"));
    assert_eq!(error.claims_challenge(), Some(r#"{"access_token":{}}"#));
    assert_eq!(
        error.correlation_id(),
        Some("0a1b2c3d-0000-4000-8000-000000000001")
    );
    assert_eq!(server.trace_id(), Some("trace"));
    assert_eq!(server.timestamp(), Some("2026-11-21 03:00:00Z"));
    assert_eq!(server.error_uri(), Some("https://x/53003"));
    assert!(server.help().unwrap().contains("Conditional Access"));
}

#[test]
fn an_error_response_with_status_200_is_an_error() {
    let error = parsed(200, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
    assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
    let both = br#"{"error":"x","token_type":"Bearer","access_token":"a","expires_in":9}"#;
    parsed(200, &[], both).unwrap();
    let neither = parsed(200, &[], br#"{"error":"","id_token":"tokentok"}"#).unwrap_err();
    assert!(neither.to_string().contains("no 'token_type'"), "{neither}");
    assert!(!neither.to_string().contains("tokentok"), "{neither}");
}

#[test]
fn a_null_member_of_an_error_response_is_absent() {
    let body = r#"{"error":"invalid_grant","error_description":null,"error_codes":null,
        "suberror":null,"claims":null,"correlation_id":null,"trace_id":null,"timestamp":null,
        "error_uri":null}"#;
    let error = parsed(400, &[], body.as_bytes()).unwrap_err();
    let Error::Server(server) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.error_description(), None);
    assert!(server.error_codes().is_empty());
    assert_eq!(server.suberror(), None);
    assert_eq!(error.claims_challenge(), None);
    assert_eq!(error.correlation_id(), Some("our-id"));
    assert_eq!(server.trace_id(), None);
    assert_eq!(server.timestamp(), None);
    assert_eq!(server.error_uri(), None);
    let none = parsed(400, &[], br#"{"error":null,"error_description":"x"}"#).unwrap_err();
    assert!(matches!(none, Error::InvalidResponse(_)), "{none:?}");
}

#[test]
fn an_error_member_alone_is_an_oauth_error() {
    let error = parsed(400, &[], br#"{"error":"invalid_scope"}"#).unwrap_err();
    assert!(matches!(&error, Error::Server(server) if server.error() == "invalid_scope"));
    assert_eq!(error.correlation_id(), Some("our-id"));
}

#[test]
fn a_response_without_an_oauth_error_keeps_the_status_and_shows_an_excerpt() {
    for (status, body, shown) in [
        (
            503,
            "<h2>Our services aren't available</h2>",
            "(38 bytes, no content type): Our services aren't available",
        ),
        (
            404,
            "",
            "returned 404 without an OAuth error (0 bytes, no content type)",
        ),
        (
            400,
            r#"{"message":"no"}"#,
            "(16 bytes, no content type): no",
        ),
        (400, r#"{"no":"text"}"#, r#"{"no":"text"}"#),
        (400, r#"{"error":""}"#, r#"{"error":""}"#),
        (302, "moved", "returned 302"),
        (
            400,
            "you sent client_secret=hunter2 &, no",
            "client_secret=[redacted], no",
        ),
        (
            400,
            "you sent client_secret=hunter2+%26.",
            "client_secret=[redacted].",
        ),
        (400, "\u{1b}[31mred", "\\u{1b}[31mred"),
    ] {
        let error = parsed(status, &[], body.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert_eq!(error.status().unwrap(), status);
        assert!(error.to_string().contains(shown), "{body}: {error}");
    }
    let long = format!("{}hunter2 &", "x".repeat(EXCERPT - 3));
    let error = parsed(400, &[], long.as_bytes()).unwrap_err();
    assert!(!error.to_string().contains("hun"), "{error}");
}

#[test]
fn a_member_of_the_wrong_type_does_not_hide_the_error() {
    for odd in [
        r#""error_codes":7000215"#,
        r#""error_codes":["7000215","x",null]"#,
        r#""error_codes":[7000215],"claims":{"a":1},"error_description":7"#,
        r#""error_codes":[7000215],"error_codes":[7000215]"#,
        r#""error_codes":[7000215],"error_description":"Latin-1: ä""#,
    ] {
        let body = format!(r#"{{"error":"invalid_client",{odd}}}"#);
        let body: Vec<u8> = body.chars().map(|c| c as u8).collect();
        let error = parsed(401, &[], &body).unwrap_err();
        assert!(error.is_credential_rejected(), "{error:?}");
        let Error::Server(server) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(server.error_codes(), [7000215], "{odd}");
    }
    let long = format!("\"{}\"", "x".repeat(5000));
    for (claims, expected) in [
        (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
        ("null", None),
        (r#""you sent hunter2 &""#, None),
        (&long, None),
    ] {
        let body = format!(r#"{{"error":"invalid_grant","claims":{claims}}}"#);
        let error = parsed(400, &[], body.as_bytes()).unwrap_err();
        assert_eq!(error.claims_challenge(), expected);
    }
}

#[test]
fn a_correlation_id_that_is_not_a_guid_is_dropped() {
    let body = br#"{"error":"x","correlation_id":"\nFAKE LOG LINE"}"#;
    let error = parsed(400, &[], body).unwrap_err();
    assert_eq!(error.correlation_id(), Some("our-id"));
}

#[test]
fn an_error_response_that_repeats_the_secret_does_not_show_it() {
    for status in [400, 429] {
        for member in [
            "error_description",
            "suberror",
            "claims",
            "correlation_id",
            "trace_id",
            "timestamp",
            "error_uri",
        ] {
            let body = format!(r#"{{"error":"hunter2 &","{member}":"you sent hunter2+%26"}}"#);
            let error = parsed(status, &[], body.as_bytes()).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn a_wrong_clock_is_reported_from_the_date_header() {
    let body = br#"{"error":"invalid_client","error_codes":[700024]}"#;
    let headers = [("date", "Sat, 21 Nov 2020 03:00:00 GMT")];
    let error = parsed(401, &headers, body).unwrap_err();
    assert!(
        error.to_string().contains("s ahead of the identity"),
        "{error}"
    );
}

#[test]
fn a_request_to_wait_is_throttling_whatever_the_body() {
    let json = br#"{"error":"temporarily_unavailable","error_codes":[90055]}"#;
    for (status, headers, body, throttled) in [
        (429, &[][..], &b""[..], true),
        (429, &[("retry-after", "7")], b"Too Many Requests", true),
        (429, &[("retry-after", "7")], json, true),
        (503, &[("retry-after", "7")], b"<html>", true),
        (503, &[], b"<html>", false),
        (503, &[], json, false),
        (400, &[("retry-after", "7")], json, false),
        (500, &[("retry-after", "7")], json, false),
        (200, &[("retry-after", "7")], json, false),
    ] {
        let error = parsed(status, headers, body).unwrap_err();
        assert_eq!(matches!(error, Error::Throttled(_)), throttled, "{error:?}");
        assert_eq!(
            error.retry_after().is_some(),
            !headers.is_empty(),
            "{error:?}"
        );
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(error.correlation_id(), Some("our-id"));
        assert_eq!(error.status().unwrap(), status);
    }
    let json = br#"{"error":"temporarily_unavailable","claims":"{}"}"#;
    let error = parsed(429, &[], json).unwrap_err();
    assert!(error.to_string().contains("temporarily_unavailable"));
    assert_eq!(error.claims_challenge(), Some("{}"));
}

#[test]
fn an_excerpt_shows_no_token() {
    for body in [
        r#"{"data":{"access_token":"eyJhbGciOi"}}"#,
        r#"{"data":"{\"id_token\":\"abc\"}"}"#,
        "you got eyJhbGciOi",
    ] {
        let error = parsed(502, &[], body.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("[withheld: the text may hold a token]"),
            "{error}"
        );
    }
    let long = "x".repeat(300);
    let error = parsed(502, &[], long.as_bytes()).unwrap_err().to_string();
    assert_eq!(error.matches("xx").count(), EXCERPT / 2);
}

#[test]
fn an_error_member_that_is_not_a_string_is_no_oauth_error() {
    let nested = br#"{"error":{"code":0,"result":{"access_token":"tokentok"}}}"#;
    for status in [200, 400] {
        let error = parsed(status, &[], nested).unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("tokentok"), "{error:?}");
        assert_eq!(error.correlation_id(), Some("our-id"));
    }
}

/// Secrets that are ordinary words, or hard to find in a text.
const AWKWARD: [&str; 14] = [
    "client",
    "invalid",
    "s",
    "client-secret",
    "error",
    "invalid_client",
    "access_token",
    "AADSTS7000215",
    "7000215",
    "11111111-2222-3333-4444-555555555555",
    "0a1b2c3d-0000-4000-8000-000000000001",
    "consent_required",
    ".*[a-z]+(100%)\"\\'&<>",
    "%41%2541+ä",
];

/// docs/failures.md O3.
#[test]
fn a_secret_in_a_response_changes_no_decision() {
    let bodies = [
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. The client-secret of access_token is invalid. Trace ID: 0a1b2c3d-0000-4000-8000-000000000001","error_codes":[7000215],"correlation_id":"0a1b2c3d-0000-4000-8000-000000000002","trace_id":"0a1b2c3d-0000-4000-8000-000000000003"}"#,
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: s error client"}"#,
        r#"{"error":"invalid_grant","suberror":"consent_required","error_codes":[65001],"claims":"{\"access_token\":{\"error\":{\"essential\":true}}}"}"#,
        r#"{"error":"temporarily_unavailable"}"#,
        r#"{"error":"interaction_required","claims":"{\"access_token\":{}}"}"#,
    ];
    let decisions = |secret, status, body: &str| {
        let sent = Sent {
            secret,
            ..Sent::default()
        };
        let error = sent.parsed(status, &[], body.as_bytes()).unwrap_err();
        let server = error.server_error().unwrap();
        (
            (
                error.kind(),
                server.error().to_owned(),
                server.error_codes().to_vec(),
            ),
            (
                server.suberror().map(str::to_owned),
                server.help().map(str::to_owned),
            ),
            (error.is_credential_rejected(), error.is_transient()),
            (error.needs_user_interaction(), error.is_grant_used_up()),
            error.claims_challenge().map(str::to_owned),
            error.correlation_id().map(str::to_owned),
            server.trace_id().map(str::to_owned),
        )
    };
    for body in bodies {
        for status in [400, 401, 429, 503] {
            let unmasked = decisions("none of these words", status, body);
            for secret in AWKWARD {
                assert_eq!(
                    decisions(secret, status, body),
                    unmasked,
                    "{secret}: {body}"
                );
            }
        }
    }
}

/// docs/failures.md O3.
#[test]
fn a_description_is_not_withheld_because_of_an_ordinary_secret() {
    let body = br#"{"error":"invalid_client","error_description":"AADSTS7000215: the client secret of the app is invalid"}"#;
    for secret in AWKWARD {
        let sent = Sent {
            secret,
            ..Sent::default()
        };
        let error = sent.parsed(401, &[], body).unwrap_err().to_string();
        assert!(
            error.contains("the client secret of the app is invalid"),
            "{secret}: {error}"
        );
    }
}

/// docs/failures.md O3.
#[test]
fn an_id_is_not_masked_even_if_it_was_configured_as_the_secret() {
    let id = "11111111-2222-3333-4444-555555555555";
    let body = format!(r#"{{"error":"invalid_client","error_description":"no application {id}"}}"#);
    let sent = |client_id| Sent {
        secret: id,
        client_id,
        ..Sent::default()
    };
    let error = sent(id).parsed(401, &[], body.as_bytes()).unwrap_err();
    assert!(error.to_string().contains(id), "{error}");
    let error = sent("daemon")
        .parsed(401, &[], body.as_bytes())
        .unwrap_err();
    assert!(
        error.to_string().contains("no application [redacted]"),
        "{error}"
    );
}

#[test]
fn a_secret_of_eight_characters_is_in_no_part_of_an_error() {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
    use url::form_urlencoded::byte_serialize;

    let secrets = [
        "Zq9~Secret",
        "pass phrase &<\"",
        "100%+x\\y'z",
        "ÄÖÜ-äöü-ß",
        "s3cret-Value~1",
    ];
    for secret in secrets {
        let json = serde_json::to_string(secret).unwrap();
        let form: String = byte_serialize(secret.as_bytes()).collect();
        let html = secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;");
        let encoded = [
            secret.to_owned(),
            inside_quotes(&json).to_owned(),
            form.clone(),
            form.replace('+', "%20"),
            form.replace("%7E", "%7e").replace("%C3", "%c3"),
            html,
            BASE64_STANDARD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
        ];
        for echo in &encoded[..] {
            let text = serde_json::to_string(&format!("you sent '{echo}', no")).unwrap();
            let members = [
                "error",
                "error_description",
                "suberror",
                "claims",
                "correlation_id",
                "trace_id",
                "timestamp",
                "error_uri",
                "message",
                "errorSummary",
            ];
            let bodies = members.iter().map(|name| match *name {
                "error" => format!(r#"{{"error":{text}}}"#),
                name => format!(r#"{{"error":"x","{name}":{text}}}"#),
            });
            let others = [
                format!(r#"{{"errorSummary":{text}}}"#),
                format!(r#"{{"error":{{"message":{text}}}}}"#),
                format!("<html><title>{echo}</title><p>you sent {echo}</p>"),
                format!("you sent {echo}"),
                format!(r#"{{"token_type":{text},"access_token":"t"}}"#),
                format!(r#"{{"token_type":"Bearer","message":{text}}}"#),
            ];
            for body in bodies.chain(others) {
                for status in [200, 400, 401, 429, 503] {
                    let sent = Sent {
                        secret,
                        ..Sent::default()
                    };
                    let Err(error) = sent.parsed(status, &[], body.as_bytes()) else {
                        continue;
                    };
                    let shown = format!("{error} {error:?} {error:#?} {}", error.chain());
                    // Debug escapes quotes and backslashes.
                    for form in &encoded {
                        let debug = format!("{form:?}");
                        assert!(!shown.contains(form.as_str()), "{form} in {shown}");
                        assert!(!shown.contains(inside_quotes(&debug)), "{form} in {shown}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_code_that_is_written_as_text_is_not_lost() {
    for body in [
        r#"{"error":"invalid_client","error_codes":["AADSTS7000215"]}"#,
        r#"{"error":"invalid_client","error_codes":"aadsts7000215"}"#,
        r#"{"error":"invalid_client","error_description":"aadsts7000215: x"}"#,
        r#"{"error":"AADSTS7000215","error_description":"x"}"#,
        r#"{"error":"AADSTS7000215: x"}"#,
    ] {
        let error = parsed(401, &[], body.as_bytes()).unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error_codes(), [7000215], "{body}");
        assert!(server.help().unwrap().contains("secret ID"), "{body}");
    }
}

#[test]
fn utf_16_hides_neither_the_error_nor_the_secret_from_the_mask() {
    let text = r#"{"error":"invalid_client","error_description":"AADSTS7000215: hunter2 &"}"#;
    let page = "<html><title>No</title><p>you sent hunter2 &amp;, no</p></html>";
    for (mark, unit) in [
        (&b"\xff\xfe"[..], u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (b"\xfe\xff", u16::to_be_bytes),
        (b"", u16::to_le_bytes),
        (b"", u16::to_be_bytes),
    ] {
        let encode = |text: &str| {
            [
                mark,
                &text.encode_utf16().flat_map(unit).collect::<Vec<_>>(),
            ]
            .concat()
        };
        let error = parsed(401, &[], &encode(text)).unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error_codes(), [7000215]);
        assert_eq!(
            server.error_description(),
            Some("AADSTS7000215: [redacted]")
        );
        let error = parsed(401, &[], &encode(page)).unwrap_err().to_string();
        assert!(error.contains("No: you sent [redacted], no"), "{error}");
    }
}

#[test]
fn the_code_is_read_from_the_description_where_there_is_no_list() {
    for (members, codes) in [
        (
            r#""error_description":"AADSTS7000215: Invalid client secret.""#,
            &[7000215][..],
        ),
        (
            r#""error_description":"AADSTS70002: Error. AADSTS50012: Invalid. AADSTS70002""#,
            &[70002, 50012],
        ),
        (
            r#""error_description":"AADSTS7000215: x","error_codes":[]"#,
            &[7000215],
        ),
        (
            r#""error_description":"AADSTS7000215: x","error_codes":null"#,
            &[7000215],
        ),
        (
            r#""error_description":"AADSTS7000215: x","error_codes":[50012]"#,
            &[50012],
        ),
        (r#""message":"AADSTS90002: no tenant""#, &[90002]),
        (
            r#""error_description":"AADSTS and AADSTSx and AADSTS99999999999999999999""#,
            &[],
        ),
    ] {
        let body = format!(r#"{{"error":"invalid_client",{members}}}"#);
        let error = parsed(401, &[], body.as_bytes()).unwrap_err();
        assert_eq!(
            error.server_error().unwrap().error_codes(),
            codes,
            "{members}"
        );
        assert_eq!(error.aadsts(), codes.first().copied());
    }
}

#[test]
fn the_reason_of_a_refusal_is_read_where_the_server_wrote_it() {
    let challenge =
        r#"Bearer realm="x", error="invalid_client", error_description="no such client""#;
    for (status, headers, body, error, shown) in [
        (
            401,
            &[][..],
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id'."}"#,
            Some("invalid_client"),
            "Invalid value for 'client_id'.",
        ),
        (
            401,
            &[("www-authenticate", challenge)],
            "",
            Some("invalid_client"),
            "no such client",
        ),
        (
            401,
            &[("www-authenticate", challenge)],
            "<html>",
            Some("invalid_client"),
            "no such client",
        ),
        (
            400,
            &[],
            r#"{"ErrorCode":"invalid_client","Error":"ClientId is Invalid"}"#,
            Some("invalid_client"),
            "invalid_client: ClientId is Invalid",
        ),
        (
            401,
            &[],
            r#"{"error":"Unauthorized","message":"Bad credentials","path":"/token"}"#,
            Some("Unauthorized"),
            "Bad credentials",
        ),
        (
            400,
            &[],
            r#"{"error":{"code":"invalid_scope","message":"no such scope"}}"#,
            Some("invalid_scope"),
            "no such scope",
        ),
        (
            403,
            &[],
            r#"{"error":{"code":403,"message":"The API is not enabled."}}"#,
            None,
            "The API is not enabled.",
        ),
        (403, &[], r#"{"message":"Forbidden"}"#, None, "): Forbidden"),
        (
            400,
            &[],
            r#"{"errorCode":"E0000003","errorSummary":"The request body was not well-formed."}"#,
            None,
            "E0000003: The request body was not well-formed.",
        ),
        (
            400,
            &[],
            r#"{"type":"about:blank","title":"Bad Request","detail":"no grant_type","status":400}"#,
            None,
            "Bad Request: no grant_type",
        ),
        (
            400,
            &[],
            r#"{"fault":{"faultstring":"Invalid client identifier","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}"#,
            None,
            "Invalid client identifier",
        ),
        (
            400,
            &[],
            r#"{"errors":[{"code":"bad","message":"first"},{"message":"second"}]}"#,
            None,
            "bad: first",
        ),
        (
            400,
            &[],
            r#"{"errors":["only a text"]}"#,
            None,
            "only a text",
        ),
        (
            403,
            &[(
                "www-authenticate",
                r#"Basic realm="x", error_description="plain reason""#,
            )],
            "",
            None,
            "plain reason",
        ),
        (
            403,
            &[("content-type", "text/html")],
            "<html><head><title>Access Denied</title></head><body><p>Your request was <b>blocked</b> &amp; logged.</p></body></html>",
            None,
            "Access Denied: Your request was blocked & logged.",
        ),
        (
            429,
            &[],
            r#"{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests."}"#,
            None,
            "E0000047: API call exceeded rate limit",
        ),
        (
            429,
            &[],
            r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 20 seconds."}"#,
            None,
            "Rate limit is exceeded.",
        ),
        (
            200,
            &[],
            r#"{"error":"invalid_scope","access_token":null}"#,
            Some("invalid_scope"),
            "200 invalid_scope",
        ),
        (
            200,
            &[],
            r#"{"error":"invalid_scope","access_token":"","token_type":"Bearer"}"#,
            Some("invalid_scope"),
            "200 invalid_scope",
        ),
        (
            200,
            &[],
            r#"{"access_token":null,"token_type":"Bearer","message":"the client is locked"}"#,
            None,
            "the client is locked",
        ),
        (
            200,
            &[],
            r#"{"access_token":null,"errorMessage":"the client is locked"}"#,
            None,
            "the client is locked",
        ),
    ] {
        let parsed = parsed(status, headers, body.as_bytes()).unwrap_err();
        let server = parsed.server_error().map(|server| server.error());
        assert_eq!(server, error, "{body}: {parsed}");
        assert!(parsed.to_string().contains(shown), "{body}: {parsed}");
        assert!(!parsed.to_string().contains("<b>"), "{parsed}");
    }
    let okta = parsed(429, &[], br#"{"errorCode":"E0000047"}"#).unwrap_err();
    assert!(matches!(okta, Error::Throttled(_)), "{okta:?}");
}

#[test]
fn a_bare_401_rejects_the_credential_and_a_gateways_page_does_not() {
    for (status, body, rejects) in [
        (401, "", true),
        (401, " \r\n", true),
        (403, "", true),
        (
            401,
            r#"{"errorCode":"E0000004","errorSummary":"Authentication failed"}"#,
            true,
        ),
        (
            401,
            r#"{"error":"unauthorized","error_description":"Bad credentials"}"#,
            true,
        ),
        (
            400,
            r#"{"error":"invalid_client","error_codes":[99999999]}"#,
            true,
        ),
        (401, "<html>401 Authorization Required</html>", false),
        (403, "<html>blocked</html>", false),
        (403, r#"{"message":"Forbidden"}"#, false),
        (400, "", false),
        (407, "", false),
        (500, "", false),
        (401, r#"{"error":"invalid_grant"}"#, false),
    ] {
        let error = parsed(status, &[], body.as_bytes()).unwrap_err();
        assert_eq!(
            error.is_credential_rejected(),
            rejects,
            "{status} {body}: {error:?}"
        );
    }
}

#[test]
fn every_refusal_of_an_assertion_tells_the_difference_of_the_clocks() {
    let at = |seconds: i64| {
        let difference = std::time::Duration::from_secs(seconds.unsigned_abs());
        httpdate::fmt_http_date(match seconds < 0 {
            true => NOW.wall() - difference,
            false => NOW.wall() + difference,
        })
    };
    let refused = br#"{"error":"invalid_client","error_description":"Token is not active"}"#;
    for (body, kind, date, shown) in [
        (
            &refused[..],
            CredentialKind::Certificate,
            at(900),
            Some("s behind the identity"),
        ),
        (
            refused,
            CredentialKind::Assertion,
            at(-900),
            Some("s ahead of the identity"),
        ),
        (refused, CredentialKind::Secret, at(900), None),
        (refused, CredentialKind::Certificate, at(0), None),
        (
            b"",
            CredentialKind::Certificate,
            at(900),
            Some("s behind the identity"),
        ),
        (b"", CredentialKind::Secret, at(900), None),
    ] {
        let sent = Sent {
            kind,
            ..Sent::default()
        };
        let error = sent
            .parsed(401, &[("date", &date)], body)
            .unwrap_err()
            .to_string();
        match shown {
            Some(shown) => assert!(error.contains(shown), "{error}"),
            None => assert!(!error.contains("clock"), "{error}"),
        }
    }
    let foreign = Sent {
        kind: CredentialKind::Assertion,
        source: Some("federated token file /token"),
        ..Sent::default()
    };
    let body = br#"{"error":"invalid_client","error_codes":[700024]}"#;
    let error = foreign
        .parsed(401, &[("date", &at(1))], body)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("of the federated token file /token has expired"),
        "{error}"
    );
    assert!(!error.contains("NTP"), "{error}");
}

fn inside_quotes(text: &str) -> &str {
    let text = text.strip_prefix('"').unwrap();
    text.strip_suffix('"').unwrap()
}
