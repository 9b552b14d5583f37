//! Expiry over real HTTP, with one clock for `LocalAuthority` and client.

use std::time::{Duration, SystemTime};

use confidential_client::delegated::{AuthorizationRequest, UserAssertion};
use confidential_client::resource::{RejectionReason, TokenValidator};
use confidential_client::testing::{Application, Fault, LocalAuthority, ManualClock, User};
use confidential_client::time::Clock;
use confidential_client::{Certificate, Error, TokenSource};

use crate::support::{CLIENT_ID, PEM, SCOPE, SECRET, TENANT, claims_of, client_of};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn local_at(clock: &ManualClock) -> LocalAuthority {
    let local = LocalAuthority::builder().clock(clock.clone()).start().await;
    let local = local.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    local
}

fn seconds(clock: &ManualClock) -> u64 {
    let since = clock.wall().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

fn codes(error: &Error) -> &[u64] {
    error.server_error().unwrap().error_codes()
}

#[tokio::test]
async fn a_token_does_not_outlive_the_authoritys_clock() {
    let clock = ManualClock::new();
    let local = local_at(&clock).await;
    let api = local
        .protected_api("https://graph.microsoft.com")
        .await
        .unwrap();
    let client = client_of(&local)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience("https://graph.microsoft.com")
        .single_tenant()
        .clock(clock.clone())
        .build()
        .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = async |token: &str| {
        let sent = http.get(api.base_url()).bearer_auth(token).send().await;
        sent.unwrap().status().as_u16()
    };
    clock.advance(1000 * DAY);
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let claims = claims_of(token.secret());
    assert_eq!(claims["iat"], seconds(&clock));
    assert_eq!(call(token.secret()).await, 200);
    validator.validate(token.secret()).await.unwrap();

    clock.advance(2 * HOUR);
    assert_eq!(call(token.secret()).await, 401);
    let rejection = validator.validate(token.secret()).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::Expired);
    let renewed = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(renewed.source(), TokenSource::IdentityProvider);
    assert_eq!(call(renewed.secret()).await, 200);
    assert_eq!(local.token_requests().len(), 2);
}

/// The client measures its clock by this header, and so may another client.
#[tokio::test]
async fn the_date_of_a_response_is_not_the_machines() {
    let clock = ManualClock::new();
    clock.advance(50 * DAY);
    let local = local_at(&clock).await;
    let api = local.protected_api("api://a").await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = local.base_url();
    for url in [
        format!("{base}/{TENANT}/discovery/v2.0/keys"),
        format!("{base}/{TENANT}/v2.0/.well-known/openid-configuration"),
        format!("{base}/nowhere/v2.0/.well-known/openid-configuration"),
        format!("{base}/{TENANT}/oauth2/v2.0/authorize"),
        format!("{base}/no/such/page"),
        api.base_url().to_owned(),
    ] {
        let response = http.get(&url).send().await.unwrap();
        let dates: Vec<_> = response.headers().get_all("date").iter().collect();
        assert_eq!(dates.len(), 1, "{url}");
        let date = httpdate::parse_http_date(dates[0].to_str().unwrap()).unwrap();
        let date = date.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(date.as_secs(), seconds(&clock), "{url}");
    }
    let error = client_of(&local)
        .client_secret("wrong")
        .clock(clock.clone())
        .build()
        .unwrap()
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    let timestamp = error.server_error().unwrap().timestamp().unwrap();
    let now = x509_cert::der::DateTime::from_system_time(clock.wall()).unwrap();
    assert_eq!(timestamp, now.to_string().replace('T', " "));
}

#[tokio::test]
async fn an_assertion_and_its_certificate_do_not_outlive_the_clock() {
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let authority_clock = ManualClock::new();
    let client_clock = ManualClock::new();
    let local = local_at(&authority_clock).await;
    local.register(
        TENANT,
        Application::new(CLIENT_ID).certificate(&certificate),
    );
    let client = client_of(&local)
        .certificate(certificate)
        .clock(client_clock.clone())
        .build()
        .unwrap();
    client
        .acquire_token_for_client("api://0/.default")
        .await
        .unwrap();

    authority_clock.advance(HOUR);
    let error = client.acquire_token_for_client("api://1/.default").await;
    let error = error.unwrap_err();
    assert_eq!(codes(&error), [700024]);
    let help = error.server_error().unwrap().help().unwrap();
    assert!(help.contains("this machine's clock is 3"), "{help}");
    assert!(help.contains("s behind"), "{help}");

    authority_clock.advance(366 * DAY);
    let error = client.acquire_token_for_client("api://2/.default").await;
    assert_eq!(codes(&error.unwrap_err()), [1000502]);
}

#[tokio::test]
async fn a_code_does_not_outlive_the_clock() {
    let clock = ManualClock::new();
    let local = local_at(&clock).await;
    let redirect = "https://web.example.org/signed-in";
    let web = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(redirect);
    local.register(TENANT, web);
    local.register_user(TENANT, User::new("adele@contoso.com"));
    let client = client_of(&local)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    clock.advance(DAY);
    for (wait, accepted) in [(599, true), (601, false)] {
        let request = AuthorizationRequest::new(redirect, "User.Read");
        let (url, flow) = client.authorization_request_url(&request).await.unwrap();
        let redirected = local.sign_in(url, "adele@contoso.com").await.unwrap();
        clock.advance(Duration::from_secs(wait));
        let result = client
            .acquire_token_by_authorization_code(flow, redirected)
            .await;
        match accepted {
            true => assert!(result.is_ok(), "{result:?}"),
            false => assert_eq!(codes(&result.unwrap_err()), [70008]),
        }
    }
}

#[tokio::test]
async fn a_users_token_does_not_outlive_the_clock() {
    let clock = ManualClock::new();
    let local = local_at(&clock).await;
    local.register(TENANT, Application::new("web"));
    local.register_user(TENANT, User::new("adele@contoso.com"));
    local.consent(
        TENANT,
        "web",
        "adele@contoso.com",
        format!("{CLIENT_ID}/Files.Read"),
    );
    local.consent(TENANT, CLIENT_ID, "adele@contoso.com", "api://drive/Read");
    clock.advance(100 * DAY);
    let token = local
        .user_token(
            TENANT,
            "web",
            "adele@contoso.com",
            format!("{CLIENT_ID}/Files.Read"),
        )
        .unwrap();
    assert_eq!(claims_of(&token)["iat"], seconds(&clock));
    let client = client_of(&local)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let user = UserAssertion::new(token);
    client
        .acquire_token_on_behalf_of(&user, "api://drive/Read")
        .await
        .unwrap();
}

/// TLS of the client has the machine's clock, so the authority's is set back.
#[tokio::test]
async fn a_certificate_of_tls_is_not_valid_for_ever() {
    for (back, is_valid) in [(Duration::ZERO, true), (2 * 365 * DAY, false)] {
        let clock = ManualClock::new();
        clock.turn_wall_back(back);
        let local = LocalAuthority::builder().clock(clock).tls().start().await;
        let local = local.unwrap();
        local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
        let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes());
        let trusting = reqwest::Client::builder().tls_certs_merge([ca.unwrap()]);
        let client = client_of(&local)
            .client_secret(SECRET)
            .reqwest(trusting)
            .build()
            .unwrap();
        let result = client.acquire_token_for_client(SCOPE).await;
        match is_valid {
            true => assert!(result.is_ok(), "{result:?}"),
            false => {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Transport(_)), "{error:?}");
                let text = error.chain().to_string().to_lowercase();
                assert!(text.contains("expired"), "{text}");
            }
        }
    }
}

/// The validator caches the keys for a day by the same clock.
#[tokio::test]
async fn a_retired_key_is_not_trusted_after_a_day() {
    let clock = ManualClock::new();
    let local = local_at(&clock).await;
    let lifetime = 3 * DAY;
    let application = Application::new(CLIENT_ID).secret(SECRET);
    local.register(TENANT, application.token_lifetime(lifetime));
    let client = client_of(&local)
        .client_secret(SECRET)
        .clock(clock.clone())
        .build()
        .unwrap();
    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience("https://graph.microsoft.com")
        .single_tenant()
        .clock(clock.clone())
        .build()
        .unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    validator.validate(token.secret()).await.unwrap();
    local.roll_key().unwrap();
    local.retire_old_keys();
    validator.validate(token.secret()).await.unwrap();

    clock.advance(DAY + HOUR);
    let rejection = loop {
        // The first use after a day refreshes the keys in the background.
        match validator.validate(token.secret()).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(rejection) => break rejection,
        }
    };
    assert_eq!(rejection.reason(), RejectionReason::NoMatchingKey);
}

#[tokio::test]
async fn an_outage_ends_by_the_authoritys_clock() {
    let clock = ManualClock::new();
    let local = local_at(&clock).await;
    let client = client_of(&local).client_secret(SECRET).clock(clock.clone());
    let client = client.build().unwrap();
    local.begin_outage_for(Fault::aadsts(7000215), HOUR);
    for advance in [Duration::ZERO, HOUR - Duration::from_secs(1)] {
        clock.advance(advance);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert_eq!(codes(&error), [7000215]);
    }
    assert_eq!(local.token_requests().len(), 2);
    clock.advance(Duration::from_secs(1));
    // The failure of the first scope is remembered.
    let other = "https://storage.azure.com/.default";
    client.acquire_token_for_client(other).await.unwrap();
}
