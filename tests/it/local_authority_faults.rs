//! Faults of an identity provider: each caller gets a typed error or a token.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use confidential_client::testing::{Application, Fault, LocalAuthority};
use confidential_client::{ConfidentialClient, Error, TokenSource};
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, client_of};

async fn authority() -> LocalAuthority {
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    local
}

/// A client without a memory of what others met.
fn client(local: &LocalAuthority) -> ConfidentialClient {
    client_of(local).client_secret(SECRET).build().unwrap()
}

/// The variant, the status and whether time may cure it.
fn kind(error: &Error) -> (String, Option<u16>, bool) {
    let variant = format!("{:?}", error.kind());
    let status = error.status().map(|status| status.as_u16());
    (variant, status, error.is_transient())
}

#[tokio::test]
async fn every_fault_has_its_error() {
    let local = authority().await;
    let gzip = HeaderValue::from_static("gzip");
    let json = HeaderValue::from_static("application/json");
    let ten_megabytes = vec![b'x'; 10_000_000];
    for (fault, variant, status, transient) in [
        (Fault::status(500), "Server", Some(500), true),
        (Fault::status(503), "Server", Some(503), true),
        (
            Fault::status(503).retry_after(2),
            "Throttled",
            Some(503),
            true,
        ),
        (Fault::status(429), "Throttled", Some(429), true),
        (Fault::status(429).body(""), "Throttled", Some(429), true),
        (Fault::status(400), "Server", Some(400), false),
        (Fault::status(401), "Server", Some(401), false),
        (
            Fault::status(408).body(""),
            "InvalidResponse",
            Some(408),
            true,
        ),
        (
            Fault::status(502).body("<html>"),
            "InvalidResponse",
            Some(502),
            true,
        ),
        (
            Fault::status(404).body("<html>"),
            "InvalidResponse",
            Some(404),
            false,
        ),
        (
            Fault::status(500).body(&ten_megabytes),
            "InvalidResponse",
            Some(500),
            true,
        ),
        (
            Fault::status(200).body(&ten_megabytes),
            "InvalidResponse",
            Some(200),
            false,
        ),
        (
            Fault::status(200).body("<html>sign in</html>"),
            "InvalidResponse",
            Some(200),
            false,
        ),
        (
            Fault::status(200).body(""),
            "InvalidResponse",
            Some(200),
            false,
        ),
        (
            Fault::status(400)
                .body(b"\x1f\x8b\x08\x00junk")
                .header(CONTENT_ENCODING, gzip),
            "InvalidResponse",
            Some(400),
            false,
        ),
        (
            Fault::status(400)
                .body(b"{\"error\":\"invalid_scope\",\"error_description\":\"\xe4\"}")
                .header(CONTENT_TYPE, json),
            "Server",
            Some(400),
            false,
        ),
        (Fault::truncated(), "InvalidResponse", Some(200), false),
        (Fault::dropped(), "Transport", None, true),
        (Fault::dropped_in_body(), "Transport", None, true),
    ] {
        let before = local.token_requests().len();
        local.script([fault.clone()]);
        let error = client(&local)
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap_err();
        let expected = (variant.to_owned(), status, transient);
        assert_eq!(kind(&error), expected, "{error:?}");
        assert_eq!(
            error.source().is_some(),
            variant == "Transport",
            "{error:?}"
        );
        assert_eq!(local.token_requests().len() - before, 1, "{fault:?}");
        client(&local)
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_refusal_comes_as_entra_sends_it() {
    let local = authority().await;
    for (code, status, error, help) in [
        (7000215, 401, "invalid_client", true),
        (7000216, 401, "invalid_client", true),
        (7000222, 401, "invalid_client", true),
        (700016, 400, "unauthorized_client", true),
        (90002, 400, "invalid_request", true),
        (700027, 401, "invalid_client", true),
        (700024, 401, "invalid_client", true),
        (70011, 400, "invalid_scope", true),
        (1002012, 400, "invalid_scope", true),
        (500011, 400, "invalid_resource", true),
        (50049, 400, "invalid_instance", true),
        (53003, 400, "invalid_grant", true),
        (65001, 400, "invalid_grant", true),
        (90033, 503, "temporarily_unavailable", true),
        (90055, 429, "temporarily_unavailable", true),
        (50196, 400, "invalid_request", true),
        (9999999, 400, "invalid_request", false),
    ] {
        local.script([Fault::aadsts(code)]);
        let refused = client(&local)
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap_err();
        assert_eq!(refused.status().unwrap(), status, "{code}");
        let text = refused.to_string();
        assert!(
            text.contains(&format!("{status} {error}: AADSTS{code}: ")),
            "{text}"
        );
        assert_eq!(text.contains("(help: "), help, "{text}");
        assert_eq!(refused.needs_user_interaction(), code == 65001, "{code}");
        assert_eq!(
            refused.claims_challenge().is_some(),
            code == 53003,
            "{code}"
        );
    }
}

#[tokio::test]
async fn the_text_of_a_refusal_comes_in_both_styles() {
    let local = authority().await;
    let mut styles = Vec::new();
    for _ in 0..2 {
        local.script([Fault::aadsts(500011)]);
        let error = client(&local)
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap_err();
        let Error::Server(server) = &error else {
            panic!("{error:?}");
        };
        styles.push(server.error_description().unwrap().contains("\r\n"));
        assert!(!error.to_string().contains('\r'), "shown on one line");
    }
    assert_eq!(styles, [false, true]);
}

#[tokio::test]
async fn retry_after_comes_in_both_forms() {
    let local = authority().await;
    local.script([Fault::status(429).retry_after(120)]);
    let error = client(&local)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));

    let date = SystemTime::now() + Duration::from_secs(1000);
    local.script([Fault::status(429).retry_after_date(date)]);
    let error = client(&local)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    let wait = error.retry_after().unwrap();
    assert!(
        (500..=1000).contains(&wait.as_secs()),
        "a date in the future: {wait:?}"
    );
}

#[tokio::test]
async fn a_delayed_answer_is_an_answer() {
    let local = authority().await;
    local.script([Fault::delayed(Duration::from_millis(20))]);
    client(&local)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
    assert_eq!(local.token_requests().len(), 1);
}

#[tokio::test]
async fn an_outage_lasts_until_it_is_ended() {
    let local = authority().await;
    local.begin_outage(Fault::status(503));
    local.script([Fault::status(400)]);
    for status in [400, 503, 503, 503] {
        let error = client(&local)
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap_err();
        assert_eq!(error.status().unwrap(), status, "the script comes first");
    }
    local.end_outage();
    client(&local)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
}

#[tokio::test]
async fn tokens_follow_the_settings_of_the_application() {
    let local = authority().await;
    let application = || Application::new(CLIENT_ID).secret(SECRET);
    let hour = Duration::from_secs(3600);
    for (application, lifetime, refresh) in [
        (application(), 3599, 3299),
        (application().numeric_strings(), 3599, 3299),
        (
            application().token_lifetime(Duration::from_secs(60)),
            60,
            30,
        ),
        (
            application()
                .token_lifetime(24 * hour)
                .refresh_in(12 * hour),
            86_400,
            43_200,
        ),
        (
            application()
                .token_lifetime(24 * hour)
                .refresh_in(6 * hour)
                .numeric_strings(),
            86_400,
            21_600,
        ),
    ] {
        local.register(TENANT, application);
        let client = client(&local);
        let asked = SystemTime::now();
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        let lives = token.expires_on().duration_since(asked).unwrap().as_secs();
        // What the machine took to ask comes on top.
        assert!(
            (lifetime..lifetime + 10).contains(&lives),
            "{lifetime}: {lives}"
        );
        // The jitter is at most five minutes, or a tenth of the lifetime.
        let due = token.refresh_on().duration_since(asked).unwrap().as_secs();
        let jitter = (lifetime / 10).min(300);
        assert!(
            (refresh - jitter..refresh + 10).contains(&due),
            "{refresh}: {due}"
        );
    }
}

#[tokio::test]
async fn a_token_past_refresh_in_is_served_and_renewed() {
    let local = authority().await;
    let hour = Duration::from_secs(3600);
    let application = Application::new(CLIENT_ID).secret(SECRET);
    let application = application
        .token_lifetime(hour)
        .refresh_in(Duration::from_secs(1));
    local.register(TENANT, application);
    let client = client(&local);
    let first = client.acquire_token_for_client(SCOPE).await.unwrap();
    // It is due within the second.
    let renewed = loop {
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(token.source(), TokenSource::Cache, "never waited for");
        if token.secret() != first.secret() {
            break token;
        }
        tokio::task::yield_now().await;
    };
    assert!(renewed.expires_on() >= first.expires_on());
}

#[tokio::test]
async fn an_expired_secret_and_an_unknown_resource_are_told_apart() {
    let local = authority().await;
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .expired_secret("last year's");
    local.register(TENANT, application.role("api://granted", "Reader"));
    let code = async |secret: &str, scope: &str| {
        let client = client_of(&local).client_secret(secret).build().unwrap();
        match client.acquire_token_for_client(scope).await {
            Ok(_) => None,
            Err(Error::Server(server)) => server.error_codes().first().copied(),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(code("last year's", SCOPE).await, Some(7000222));
    assert_eq!(code("never", SCOPE).await, Some(7000215));
    assert_eq!(
        code(SECRET, "api://typo/.default").await,
        None,
        "any resource will do"
    );

    local.register_resource(TENANT, "https://graph.microsoft.com");
    assert_eq!(code(SECRET, "api://typo/.default").await, Some(500011));
    assert_eq!(code(SECRET, SCOPE).await, None);
    assert_eq!(
        code(SECRET, "https://graph.microsoft.com//.default").await,
        None
    );
    assert_eq!(code(SECRET, "api://granted/.default").await, None);
}

#[tokio::test]
async fn it_serves_tls_with_a_ca_of_its_own() {
    let local = LocalAuthority::builder().tls().start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    assert!(local.base_url().starts_with("https://127.0.0.1:"));
    let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap();
    let trusting = client_of(&local)
        .client_secret(SECRET)
        .reqwest(reqwest::Client::builder().tls_certs_merge([ca]))
        .build()
        .unwrap();
    trusting.acquire_token_for_client(SCOPE).await.unwrap();

    let error = client(&local)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push_str(&format!("\n{error}"));
        cause = error.source();
    }
    assert!(
        chain.contains("certificate"),
        "the chain says what is wrong: {chain}"
    );
    assert_eq!(
        local.token_requests().len(),
        1,
        "nothing was sent to a stranger"
    );
}

#[tokio::test]
async fn a_port_may_be_chosen_and_must_be_free() {
    let first = LocalAuthority::start().await.unwrap();
    let port = first
        .base_url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let taken = LocalAuthority::builder().port(port);
    let error = taken.clone().start().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("port {port} of 127.0.0.1")),
        "{error}"
    );
}

#[tokio::test]
async fn metadata_has_the_form_of_entras() {
    let local = authority().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answer = http
            .get(format!("{}{path}", local.base_url()))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let base = local.base_url();
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    let (status, metadata) = get(&path).await;
    assert_eq!(status, 200);
    assert_eq!(metadata["issuer"], local.issuer(TENANT).unwrap());
    assert_eq!(
        metadata["token_endpoint"],
        format!("{base}/{TENANT}/oauth2/v2.0/token")
    );
    assert_eq!(
        metadata["jwks_uri"],
        format!("{base}/{TENANT}/discovery/v2.0/keys")
    );

    let (status, refused) = get("/fabrikam.com/v2.0/.well-known/openid-configuration").await;
    assert_eq!((status, &refused["error"]), (400, &"invalid_tenant".into()));
    assert_eq!(refused["error_codes"][0], 90002);

    let instance = "/common/discovery/instance?api-version=1.1&authorization_endpoint=";
    for (host, expected) in [
        (base, 200),
        ("https://login.microsoftonline.com", 200),
        ("https://login.example.org", 400),
        ("nonsense", 400),
    ] {
        let (status, answer) = get(&format!("{instance}{host}/t/oauth2/v2.0/authorize")).await;
        assert_eq!(status, expected, "{host}");
        if status == 200 {
            let endpoint = format!("{base}/t/v2.0/.well-known/openid-configuration");
            assert_eq!(answer["tenant_discovery_endpoint"], endpoint);
            assert!(answer["metadata"][1]["aliases"].as_array().unwrap().len() == 4);
        } else {
            assert_eq!(answer["error"], "invalid_instance");
            assert_eq!(answer["error_codes"][0], 50049);
        }
    }
}
