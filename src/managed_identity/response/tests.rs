use std::collections::HashMap;

use super::*;
use crate::managed_identity::ManagedIdentity;
use crate::managed_identity::environment::{self, HostEnvironment};
use crate::managed_identity::request::tests::with_values;
use crate::managed_identity::source::SourceKind;
use crate::time::TimeSource;

const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "99999999-2222-3333-4444-555555555555";

fn environment_of(kind: SourceKind) -> HostEnvironment {
    let thumbprint = "00112233445566778899AABBCCDDEEFF00112233";
    let variables: &[(&str, &str)] = match kind {
        SourceKind::ServiceFabric => &[
            (
                environment::IDENTITY_ENDPOINT,
                "https://localhost:2377/token",
            ),
            (environment::IDENTITY_HEADER, "hunter2-secret"),
            (environment::IDENTITY_SERVER_THUMBPRINT, thumbprint),
        ],
        SourceKind::AppService => &[
            (environment::IDENTITY_ENDPOINT, "http://127.0.0.1/token"),
            (environment::IDENTITY_HEADER, "hunter2-secret"),
        ],
        SourceKind::AzureMl => &[
            (environment::MSI_ENDPOINT, "http://127.0.0.1/token"),
            (environment::MSI_SECRET, "hunter2-secret"),
        ],
        SourceKind::CloudShell => &[(environment::MSI_ENDPOINT, "http://127.0.0.1/token")],
        SourceKind::AzureArc => &[
            (environment::IDENTITY_ENDPOINT, "http://127.0.0.1/token"),
            (environment::IMDS_ENDPOINT, "http://127.0.0.1/"),
        ],
        SourceKind::Imds => &[],
    };
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    HostEnvironment::from_variables(variables)
}

fn parsed(
    kind: SourceKind,
    identity: &ManagedIdentity,
    response: &Response<Bytes>,
) -> Result<IdentityToken, Error> {
    let environment = environment_of(kind);
    let source = Source::read(kind, &environment, identity).unwrap();
    let evidence = Evidence::of(kind, &environment);
    let now = TimeSource::System.now();
    let secrets: Vec<&Secret> = source.secret().into_iter().collect();
    with_values(identity, |values| {
        let context = ResponseContext {
            source: &source,
            evidence: &evidence,
            values,
            secrets: &secrets,
            requested_at: now,
            received: httpdate::parse_http_date("Sun, 20 Dec 2026 03:58:20 GMT").unwrap(),
        };
        parse(response, &context)
    })
}

fn response(status: u16, body: &str) -> Response<Bytes> {
    let response = Response::builder().status(status);
    response
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

#[test]
fn the_lifetime_is_read_from_every_hosts_response() {
    let system = ManagedIdentity::system_assigned();
    // 2026-12-20T04:58:20Z, an hour after the responses.
    for (kind, body, expected) in [
        (
            SourceKind::Imds,
            r#"{"access_token":"a","refresh_token":"","expires_in":"3599","expires_on":"1797742700","not_before":"1797739100","resource":"https://vault.azure.net","token_type":"Bearer","client_id":"c"}"#,
            3599,
        ),
        (
            SourceKind::AppService,
            r#"{"access_token":"a","expires_on":"1797742700","resource":"r","token_type":"Bearer","client_id":"c"}"#,
            3600,
        ),
        (
            SourceKind::AppService,
            r#"{"access_token":"a","expires_on":"2026-12-20T04:58:20Z","token_type":"Bearer"}"#,
            3600,
        ),
        (
            SourceKind::ServiceFabric,
            r#"{"token_type":"Bearer","access_token":"a","expires_on":1797742700,"resource":"r"}"#,
            3600,
        ),
        (
            SourceKind::AzureMl,
            r#"{"access_token":"a","expires_on":"12/20/2026 4:58:20 AM +00:00","resource":"r","token_type":"Bearer"}"#,
            3600,
        ),
        (
            SourceKind::CloudShell,
            r#"{"access_token":"a","expires_in":60}"#,
            60,
        ),
        (
            SourceKind::Imds,
            r#"{"access_token":"a","expires_in":"","expires_on":"1797742700"}"#,
            3600,
        ),
        (
            SourceKind::Imds,
            r#"{"access_token":"a","expires_in":"86399","expires_on":"1797742700"}"#,
            3600,
        ),
        (
            SourceKind::Imds,
            r#"{"access_token":"a","expires_in":"60","expires_on":"soon"}"#,
            60,
        ),
        (
            SourceKind::Imds,
            r#"{"access_token":"a","expires_in":0,"expires_on":1797742700}"#,
            3600,
        ),
    ] {
        let token = parsed(kind, &system, &response(200, body)).unwrap();
        assert_eq!(token.secret.expose(), "a");
        assert_eq!(token.expires_in.as_secs(), expected, "{body}");
        assert_eq!(token.refresh_in, None, "{body}");
    }
}

#[test]
fn expires_on_counts_by_the_servers_clock() {
    let body = r#"{"access_token":"a","expires_on":"1797742700","refresh_in":"1200"}"#;
    let mut response = response(200, body);
    let date = HeaderValue::from_static("Sun, 20 Dec 2026 04:28:20 GMT");
    response.headers_mut().insert("date", date);
    let system = ManagedIdentity::system_assigned();
    let token = parsed(SourceKind::Imds, &system, &response).unwrap();
    assert_eq!(token.expires_in.as_secs(), 1800);
    assert_eq!(token.refresh_in, Some(Duration::from_secs(1200)));
}

#[test]
fn a_success_without_a_usable_token_is_invalid_and_says_why() {
    let system = ManagedIdentity::system_assigned();
    for (body, reason) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (
            "<html><title>Sign in to the Wi-Fi</title>",
            ": Sign in to the Wi-Fi",
        ),
        (r#"{"expires_on":1797742700}"#, "no 'access_token'"),
        (
            r#"{"access_token":" ","expires_on":1797742700}"#,
            "no 'access_token'",
        ),
        (
            r#"{"error":{"code":"X","message":"not today"}}"#,
            ": X: not today",
        ),
        (
            r#"{"access_token":"a"}"#,
            "no 'expires_on' that is a time, and no positive 'expires_in'",
        ),
        (
            r#"{"access_token":"a","expires_in":0}"#,
            "no positive 'expires_in'",
        ),
        (
            r#"{"access_token":"a","expires_on":1797739100}"#,
            "expired on 2026-12-20T03:58:20Z, and the time is 2026-12-20T03:58:20Z",
        ),
        (
            r#"{"access_token":"a","expires_on":1797742700,"token_type":"PoP"}"#,
            "'token_type' is not Bearer",
        ),
        (
            "{\"access_token\":\"hunter2-token\\n\",\"expires_on\":1797742700}",
            "cannot be sent in a header",
        ),
    ] {
        let error = parsed(SourceKind::Imds, &system, &response(200, body)).unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("the response of the managed identity endpoint of the instance metadata service (IMDS) (selected because IDENTITY_ENDPOINT, "), "{text}");
        assert!(text.contains(reason), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(error.correlation_id(), Some("our-id"));
        assert!(!error.is_transient());
    }
}

#[test]
fn the_token_of_another_identity_is_rejected() {
    let client = || ManagedIdentity::user_assigned_client_id(CLIENT);
    let object = || ManagedIdentity::user_assigned_object_id(CLIENT);
    let resource = || ManagedIdentity::user_assigned_resource_id("/subscriptions/A");
    for (kind, identity, members, expected) in [
        (
            SourceKind::Imds,
            client(),
            format!(r#","client_id":"{CLIENT}""#),
            None,
        ),
        (
            SourceKind::Imds,
            client(),
            format!(r#","client_id":"{}""#, CLIENT.to_uppercase()),
            None,
        ),
        (SourceKind::Imds, client(), String::new(), None),
        (
            SourceKind::Imds,
            client(),
            format!(r#","client_id":"{OTHER}""#),
            Some("belongs to the identity with the client id '9999"),
        ),
        (
            SourceKind::AppService,
            client(),
            format!(r#","client_id":"{OTHER}""#),
            Some("belongs to the identity"),
        ),
        (
            SourceKind::Imds,
            object(),
            format!(r#","client_id":"{OTHER}""#),
            None,
        ),
        (
            SourceKind::Imds,
            object(),
            format!(r#","object_id":"{OTHER}""#),
            Some("with the object id '9999"),
        ),
        (
            SourceKind::Imds,
            resource(),
            r#","msi_res_id":"/subscriptions/a""#.to_owned(),
            None,
        ),
        (
            SourceKind::AppService,
            resource(),
            r#","mi_res_id":"/subscriptions/b""#.to_owned(),
            Some("with the resource id '/subscriptions/b'"),
        ),
        (
            SourceKind::AzureArc,
            client(),
            format!(r#","client_id":"{CLIENT}""#),
            None,
        ),
        (
            SourceKind::AzureArc,
            client(),
            String::new(),
            Some("may have ignored the client id"),
        ),
        (
            SourceKind::AzureArc,
            client(),
            r#","client_id":"""#.to_owned(),
            Some("may have ignored the client id"),
        ),
        (
            SourceKind::AzureArc,
            client(),
            format!(r#","client_id":"{OTHER}""#),
            Some("belongs to the identity"),
        ),
        (
            SourceKind::AzureArc,
            object(),
            format!(r#","client_id":"{OTHER}""#),
            Some("may have ignored the object id"),
        ),
        (
            SourceKind::AzureArc,
            ManagedIdentity::system_assigned(),
            format!(r#","client_id":"{OTHER}""#),
            None,
        ),
    ] {
        let body = format!(r#"{{"access_token":"a","expires_in":60{members}}}"#);
        match (parsed(kind, &identity, &response(200, &body)), expected) {
            (Ok(_), None) => {}
            (Err(error @ Error::InvalidResponse(_)), Some(text)) => {
                assert!(error.to_string().contains(text), "{error}");
            }
            (other, _) => panic!("{kind:?} {identity} {members}: {other:?}"),
        }
    }
}

#[test]
fn a_rejection_has_the_hosts_code_and_says_what_to_do() {
    let system = ManagedIdentity::system_assigned;
    let client = || ManagedIdentity::user_assigned_client_id(CLIENT);
    let object = || ManagedIdentity::user_assigned_object_id(CLIENT);
    for (kind, identity, status, body, code, help) in [
        (
            SourceKind::Imds,
            system(),
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            "invalid_request",
            "no system-assigned identity is assigned to this machine",
        ),
        (
            SourceKind::Imds,
            client(),
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            "invalid_request",
            "the user-assigned identity with the client id '11111111-2222-3333-4444-555555555555' is not assigned to this machine",
        ),
        (
            SourceKind::Imds,
            system(),
            400,
            r#"{"error":"invalid_request","error_description":"Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"}"#,
            "invalid_request",
            "name one of them",
        ),
        (
            SourceKind::Imds,
            system(),
            400,
            r#"{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal was not found."}"#,
            "invalid_resource",
            "'https://vault.azure.net' is not known",
        ),
        (
            SourceKind::Imds,
            system(),
            400,
            r#"{"error":"bad_request_102","error_description":"Required metadata header not specified"}"#,
            "bad_request_102",
            "removes the header 'Metadata'",
        ),
        (
            SourceKind::Imds,
            system(),
            401,
            r#"{"error":"unknown_source","error_description":"Unknown Source /metadata"}"#,
            "unknown_source",
            "does not recognise this machine",
        ),
        (
            SourceKind::Imds,
            system(),
            403,
            r#"{"error":"forbidden"}"#,
            "forbidden",
            "allow 169.254.169.254",
        ),
        (
            SourceKind::Imds,
            system(),
            410,
            r#"{"error":"gone"}"#,
            "gone",
            "up to 70 seconds",
        ),
        (
            SourceKind::AppService,
            client(),
            400,
            r#"{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.","correlationId":"3f2504e0-4f89-11d3-9a0c-0305e82c3301"}"#,
            "managed_identity_request_failed",
            "is not assigned to this app",
        ),
        (
            SourceKind::AppService,
            system(),
            400,
            r#"{"statusCode":400,"message":"Unable to load the proper Managed Identity."}"#,
            "managed_identity_request_failed",
            "no system-assigned identity is assigned to this app",
        ),
        (
            SourceKind::AppService,
            system(),
            403,
            r#"{"statusCode":403,"message":"forbidden"}"#,
            "managed_identity_request_failed",
            "rejects the value of IDENTITY_HEADER",
        ),
        (
            SourceKind::ServiceFabric,
            object(),
            404,
            r#"{"error":{"correlationId":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","code":"ManagedIdentityNotFound","message":"gone"}}"#,
            "ManagedIdentityNotFound",
            "with the object id '11111111-2222-3333-4444-555555555555' is not assigned to this application",
        ),
        (
            SourceKind::ServiceFabric,
            system(),
            400,
            r#"{"error":{"code":"SecretHeaderNotFound","message":"Secret is not found in the request headers."}}"#,
            "SecretHeaderNotFound",
            "removes the header 'secret'",
        ),
        (
            SourceKind::ServiceFabric,
            system(),
            400,
            r#"{"error":{"code":"ArgumentNullOrEmpty","message":"The parameter 'Resource' should not be null or empty."}}"#,
            "ArgumentNullOrEmpty",
            "set a scope",
        ),
        (
            SourceKind::ServiceFabric,
            system(),
            400,
            r#"{"error":{"code":"InvalidApiVersion","message":"no"}}"#,
            "InvalidApiVersion",
            "update the runtime",
        ),
        (
            SourceKind::CloudShell,
            system(),
            400,
            r#"{"error":{"code":"AudienceNotSupported","message":"Audience is not a supported MSI token audience"}}"#,
            "AudienceNotSupported",
            "Cloud Shell issues no tokens for 'https://vault.azure.net'",
        ),
        (
            SourceKind::AzureArc,
            client(),
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            "invalid_request",
            "is not assigned to this server",
        ),
        (
            SourceKind::AzureArc,
            system(),
            401,
            r#"{"error":"unauthorized_client"}"#,
            "unauthorized_client",
            "rejected the key",
        ),
        (
            SourceKind::AzureMl,
            client(),
            400,
            r#"{"message":"Identity not found"}"#,
            "managed_identity_request_failed",
            "is not assigned to this compute",
        ),
        (
            SourceKind::AzureMl,
            client(),
            403,
            r#"{"message":"no"}"#,
            "managed_identity_request_failed",
            "MSI_SECRET",
        ),
    ] {
        let error = parsed(kind, &identity, &response(status, body)).unwrap_err();
        let Error::Server(server) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(server.status(), status);
        assert_eq!(server.error(), code, "{body}");
        let shown = server.help().unwrap_or_default();
        assert!(shown.contains(help), "{body}: {shown}");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!(
                "the managed identity endpoint of {} (selected because ",
                kind.name()
            )),
            "{text}"
        );
        let id = match body.contains("orrelationId") {
            true => "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            false => "our-id",
        };
        assert_eq!(error.correlation_id(), Some(id));
    }
}

#[test]
fn the_codes_of_entra_in_a_rejection_are_read() {
    let body = r#"{"error":"unauthorized_client","error_description":"AADSTS7000112: Application is disabled."}"#;
    let system = ManagedIdentity::system_assigned();
    let error = parsed(SourceKind::CloudShell, &system, &response(400, body)).unwrap_err();
    let server = error.server_error().unwrap();
    assert_eq!(server.error_codes(), [7000112]);
    assert!(server.help().unwrap().contains("disabled"));
}

#[test]
fn the_text_of_a_rejection_shows_no_secret() {
    let body = r#"{"statusCode":403,"message":"bad header hunter2-secret"}"#;
    let system = ManagedIdentity::system_assigned();
    let page = "<h1>403</h1><p>hunter2-secret is wrong";
    for body in [body, page] {
        let error = parsed(SourceKind::AppService, &system, &response(403, body)).unwrap_err();
        assert!(
            !format!("{error} {error:?} {error:#?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[test]
fn a_response_without_a_reason_keeps_its_status_and_its_page() {
    let system = ManagedIdentity::system_assigned();
    let page = response(502, "<h1>502 Bad Gateway</h1><p>squid");
    let error = parsed(SourceKind::Imds, &system, &page).unwrap_err();
    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
    assert!(error.is_transient());
    assert!(
        error.to_string().ends_with(": 502 Bad Gateway: squid"),
        "{error}"
    );
    let gone = parsed(SourceKind::Imds, &system, &response(410, "")).unwrap_err();
    assert!(
        gone.to_string().contains("(help: IMDS is being updated"),
        "{gone}"
    );
    let mut moved = response(302, "");
    moved
        .headers_mut()
        .insert("location", HeaderValue::from_static("http://proxy/login"));
    let error = parsed(SourceKind::Imds, &system, &moved).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("redirect to 'proxy', which is not followed"),
        "{error}"
    );
}

#[test]
fn a_request_to_wait_is_throttling() {
    let system = ManagedIdentity::system_assigned();
    for (status, body, wait) in [
        (429, r#"{"error":"too_many_requests"}"#, Some("7")),
        (429, "", None),
        (503, "", Some("7")),
    ] {
        let mut response = response(status, body);
        if let Some(wait) = wait {
            response
                .headers_mut()
                .insert("retry-after", HeaderValue::from_static(wait));
        }
        let error = parsed(SourceKind::Imds, &system, &response).unwrap_err();
        assert!(matches!(error, Error::Throttled(_)), "{error:?}");
        let wait = wait.map(|_| Duration::from_secs(7));
        assert_eq!(error.retry_after(), wait, "{status}");
        assert_eq!(error.server_error().is_some(), !body.is_empty());
    }
}
