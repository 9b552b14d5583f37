//! Tracing events: enough to notice trouble, and no secrets.

use std::time::Duration;

use confidential_client::credential::{CertificateFile, SecretFile};
use confidential_client::testing::{Application, LocalAuthority, ManualClock};
use confidential_client::{
    Authority, Certificate, ConfidentialClient, ConfidentialClientBuilder, TokenSource,
};

use crate::support::log_capture::Log;
use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of, in_memory, let_others_run, scope,
};

#[test]
fn a_secret_that_looks_like_its_id_is_warned_about() {
    let warned = |secret: &str| {
        let log = Log::start();
        let provider = Provider::open();
        let builder = ConfidentialClient::builder(CLIENT_ID).tenant(TENANT);
        builder
            .client_secret(secret)
            .transport(provider.transport())
            .build()
            .unwrap();
        let text = log.text();
        assert!(!text.contains(secret), "{text}");
        text.contains("probably the secret's id")
    };
    assert!(warned("b9d4b5ec-5c2e-4ef5-9c3b-0a6d1f8f7a21"));
    assert!(warned("\"b9d4b5ec-5c2e-4ef5-9c3b-0a6d1f8f7a21\""));
    assert!(warned("{B9D4B5EC-5C2E-4EF5-9C3B-0A6D1F8F7A21}"));
    assert!(!warned(SECRET));
}

/// The client of a `LocalAuthority`, of every other authority of Entra's, and of no other provider.
#[tokio::test]
async fn a_secrets_id_is_not_built_without_a_warning() {
    let local = LocalAuthority::start().await.unwrap();
    for (authority, is_warned) in [
        (local.authority(TENANT), true),
        (
            Authority::external_id("contoso.ciamlogin.com", TENANT),
            true,
        ),
        (
            Authority::b2c("contoso.b2clogin.com", TENANT, "B2C_1_a"),
            true,
        ),
        (Authority::adfs("fs.contoso.com"), false),
        (Authority::oidc("https://id.example.org"), false),
    ] {
        let log = Log::start();
        let builder = ConfidentialClient::builder(CLIENT_ID).authority(authority);
        let secret = "b9d4b5ec-5c2e-4ef5-9c3b-0a6d1f8f7a21";
        builder.client_secret(secret).build().unwrap();
        let text = log.text();
        assert_eq!(
            text.contains("probably the secret's id"),
            is_warned,
            "{text}"
        );
    }
}

#[test]
fn a_secret_that_is_too_short_to_be_masked_is_warned_about() {
    let warned = |secret: &str| {
        let log = Log::start();
        let provider = Provider::open();
        let builder = in_memory(&provider).client_secret(secret);
        builder.build().unwrap();
        let text = log.text();
        assert!(!text.contains(secret), "{text}");
        text.contains("fewer than 8 characters")
    };
    assert!(warned("hunter2"));
    assert!(!warned("hunter22"));
}

#[test]
fn a_secret_in_quotation_marks_is_warned_about() {
    for (secret, is_warned) in [
        ("\"hunter2-hunter2\"", true),
        ("'hunter2-hunter2'", true),
        ("hunter2-hunter2\"", false),
        ("hunter2\"-\"hunter2", false),
    ] {
        let log = Log::start();
        let provider = Provider::open();
        let builder = in_memory(&provider).client_secret(secret);
        builder.build().unwrap();
        let text = log.text();
        assert!(!text.contains("hunter2"), "{text}");
        let says = text.contains("begins and ends with a quotation mark");
        assert_eq!(says, is_warned, "{text}");
    }
}

#[tokio::test]
async fn a_failed_request_is_logged_once_and_nothing_secret_is() {
    let log = Log::start();
    let local = LocalAuthority::start().await.unwrap();
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .certificate(&certificate);
    local.register(TENANT, application);

    let by_secret = client_of(&local).client_secret(SECRET).build().unwrap();
    let token = by_secret.acquire_token_for_client(SCOPE).await.unwrap();
    let by_certificate = client_of(&local).certificate(certificate).build().unwrap();
    by_certificate
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
    let wrong = client_of(&local)
        .client_secret("wrong-s3cret")
        .build()
        .unwrap();
    let error = wrong.acquire_token_for_client(SCOPE).await.unwrap_err();
    wrong.acquire_token_for_client(SCOPE).await.unwrap_err();

    let text = log.text();
    let assertion = local.token_requests()[1]
        .field("client_assertion")
        .unwrap()
        .to_owned();
    for hidden in [SECRET, "wrong-s3cret", token.secret(), &assertion, SCOPE] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    assert_eq!(text.matches("a token request failed").count(), 1, "{text}");
    assert!(text.contains("still_served=false"), "{text}");
    assert!(text.contains("AADSTS7000215"), "{text}");
    assert!(text.contains(error.correlation_id().unwrap()), "{text}");
}

/// failures.md O8: an operator of many tenants must see which of them fails.
#[tokio::test]
async fn the_failures_of_two_tenants_do_not_give_the_same_warning() {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let client = provider.client_at(&clock);
    let requests = ["contoso.com", "Fabrikam.com"].map(|tenant| {
        let scope = "https://vault.azure.net/.default";
        (
            tenant,
            confidential_client::TokenRequest::new(scope).tenant(tenant),
        )
    });
    for (_, request) in &requests {
        client.acquire_token_for_client(request).await.unwrap();
    }
    clock.advance(Duration::from_secs(3400));
    for (tenant, request) in &requests {
        // A forced refresh obeys the wait, too.
        let rejected = http::Response::builder().status(400);
        let rejected = rejected.header("retry-after", 60);
        provider.answer_with(
            rejected
                .body(r#"{"error":"invalid_grant"}"#.into())
                .unwrap(),
        );
        let log = Log::start();
        let stale = client.acquire_token_for_client(request).await;
        assert_eq!(stale.unwrap().source(), TokenSource::Cache);
        let_others_run().await;
        let forced = client.acquire_token_for_client(request.clone().force_refresh());
        forced.await.unwrap();
        let text = log.text();
        let warnings = text.lines().filter(|line| line.contains(" WARN "));
        let warnings: Vec<_> = warnings.collect();
        assert_eq!(warnings.len(), 2, "{text}");
        let span = text
            .lines()
            .find(|line| line.contains("acquire_token{"))
            .unwrap();
        assert!(
            span.contains(&format!("acquire_token{{tenant=\"{tenant}\" resource=")),
            "{span}"
        );
        for warning in warnings {
            assert!(
                warning.contains(&format!("tenant=\"{tenant}\"")),
                "{warning}"
            );
            assert!(
                warning.contains("resource=\"https://vault.azure.net\""),
                "{warning}"
            );
        }
    }
}

/// Once a day from 30 days on; by a certificate that was there at the start and by one that came.
#[tokio::test]
async fn a_certificate_that_ends_soon_is_warned_about_once_a_day() {
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let of_source = certificate.clone();
    for (name, with) in [
        (
            "fixed",
            Box::new(move |builder: ConfidentialClientBuilder| {
                builder.certificate(certificate.clone())
            }) as Box<dyn Fn(_) -> _>,
        ),
        (
            "source",
            Box::new(move |builder: ConfidentialClientBuilder| {
                let certificate = of_source.clone();
                builder.certificate_source(move || {
                    let certificate = certificate.clone();
                    async move { Ok(certificate) }
                })
            }),
        ),
    ] {
        let log = Log::start();
        let provider = Provider::open();
        let clock = ManualClock::new();
        let builder = ConfidentialClient::builder(CLIENT_ID)
            .tenant(TENANT)
            .clock(clock.clone())
            .transport(provider.transport());
        let client = with(builder).build().unwrap();
        let left = u32::try_from(
            client
                .certificate()
                .map_or(364, |certificate| certificate.days_left()),
        )
        .unwrap();
        let mut request = 0;
        let mut warned_after = async |days: u32| {
            clock.advance_wall(days * day);
            request += 1;
            let scope = format!("api://{request}/.default");
            client.acquire_token_for_client(scope).await.unwrap();
            log.text()
                .matches("the client certificate expires soon")
                .count()
        };
        assert_eq!(warned_after(left - 30).await, 0, "{name}: 30 days");
        assert_eq!(warned_after(1).await, 1, "{name}: 29 days");
        assert_eq!(warned_after(0).await, 1, "{name}: the same day");
        assert_eq!(warned_after(1).await, 2, "{name}: 28 days");
        assert!(log.text().contains("days_left=28"), "{}", log.text());
    }
}

#[tokio::test]
async fn a_source_that_fails_is_warned_about_and_what_comes_from_it_is_told() {
    let log = Log::start();
    let path = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::write(&path, "first-s3cret").unwrap();
    let provider = Provider::open();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret_source(SecretFile::new(&path))
        .transport(provider.transport())
        .build()
        .unwrap();
    client
        .acquire_token_for_client("api://1/.default")
        .await
        .unwrap();
    client
        .acquire_token_for_client("api://2/.default")
        .await
        .unwrap();
    assert_eq!(log.text().matches("a new credential is used").count(), 1);
    assert!(!log.text().contains("probably the secret's id"));
    std::fs::remove_file(&path).unwrap();
    client
        .acquire_token_for_client("api://3/.default")
        .await
        .unwrap();
    let text = log.text();
    assert!(text.contains("the last valid credential is used"), "{text}");
    assert!(text.contains("cannot be read: No such file"), "{text}");
    assert!(!text.contains("first-s3cret"), "{text}");
}

#[test]
fn a_password_for_a_key_that_is_not_encrypted_is_warned_about() {
    let log = Log::start();
    Certificate::from_encrypted_pem(&*PEM, "hunter2").unwrap();
    let text = log.text();
    assert!(
        text.contains("for a private key that is not encrypted"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn an_id_in_the_place_of_a_secret_is_warned_about_once_it_comes() {
    let log = Log::start();
    let provider = Provider::open();
    let id = "b9d4b5ec-5c2e-4ef5-9c3b-0a6d1f8f7a21";
    let client = in_memory(&provider)
        .client_secret_source(move || async move { Ok(id.into()) })
        .build()
        .unwrap();
    for number in 0..3 {
        let scope = scope(number);
        client.acquire_token_for_client(scope).await.unwrap();
    }
    assert_eq!(log.text().matches("probably the secret's id").count(), 1);
}

/// Its content is parsed when it has changed.
#[test]
fn a_file_that_has_not_changed_is_not_parsed_again() {
    let log = Log::start();
    let path = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::write(&path, &*PEM).unwrap();
    let file = CertificateFile::new(&path).password("hunter2");
    for _ in 0..3 {
        file.read().unwrap();
    }
    std::fs::remove_file(path).unwrap();
    assert_eq!(log.text().matches("is not encrypted").count(), 1);
}
