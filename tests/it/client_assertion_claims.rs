//! The claims and the header of the assertions that the client signs, by provider.

use std::time::{Duration, SystemTime};

use confidential_client::credential::{
    AssertionAudience, CertificateFile, TokenEndpointAuthMethod,
};
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::testing::{Application, LocalAuthority, ManualClock, ProviderRules};
use confidential_client::time::Clock;
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
};
use serde_json::Value;

use crate::support::{CLIENT_ID, PEM, Provider, TENANT, claims_of, header_of};

const ISSUER: &str = "https://id.example.org/realms/daemons";

fn openid() -> Authority {
    Authority::oidc(ISSUER).token_endpoint("https://id.example.org/token")
}

fn certificate() -> Certificate {
    Certificate::from_pem(&*PEM).unwrap()
}

fn builder(provider: &Provider, authority: Authority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .transport(provider.transport())
}

/// The assertion of one token request, and the time of the request in seconds.
async fn sent(authority: Authority, certificate: Certificate) -> (String, u64) {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let client = builder(&provider, authority)
        .certificate(certificate)
        .clock(clock.clone())
        .build()
        .unwrap();
    client
        .acquire_token_for_client("api://orders/.default")
        .await
        .unwrap();
    let now = clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let assertion = provider.field(0, "client_assertion").unwrap();
    (assertion, now.as_secs())
}

/// As Keycloak 26.2 checks an assertion.
fn keycloak_accepts(claims: &Value, now: u64) -> bool {
    let exp = claims["exp"].as_u64().unwrap();
    let is_now = match claims["iat"].as_u64() {
        Some(iat) => iat - 15 <= now && now <= iat + 60,
        None => exp <= now + 60,
    };
    is_now && claims["nbf"].as_u64().unwrap_or(0) <= now && now < exp
}

#[tokio::test]
async fn an_assertion_for_an_openid_provider_is_not_issued_a_minute_ago() {
    let (assertion, now) = sent(openid(), certificate()).await;
    let claims = claims_of(&assertion);
    assert_eq!(claims["iat"], now);
    assert_eq!(claims["nbf"], now - 60);
    for server in [now - 15, now, now + 60] {
        assert!(keycloak_accepts(&claims, server), "{server}");
    }
    let mut set_back = claims.clone();
    set_back["iat"] = (now - 61).into();
    assert!(!keycloak_accepts(&set_back, now), "the judge");
    let mut without = claims;
    without.as_object_mut().unwrap().remove("iat");
    assert!(!keycloak_accepts(&without, now), "the judge");
}

/// Auth0 rejects more than five minutes, and may measure from `nbf`.
#[tokio::test]
async fn an_assertion_for_an_openid_provider_does_not_live_more_than_five_minutes() {
    let (assertion, now) = sent(openid(), certificate()).await;
    let claims = claims_of(&assertion);
    assert_eq!(claims["exp"], now + 240);
    let nbf = claims["nbf"].as_u64().unwrap();
    assert!(claims["exp"].as_u64().unwrap() - nbf <= 300, "{claims}");

    for (lifetime, seconds) in [(10, 10), (60, 60), (300, 300), (3600, 3600)] {
        let authority = openid().client_assertion_lifetime(Duration::from_secs(lifetime));
        let (assertion, now) = sent(authority, certificate()).await;
        assert_eq!(claims_of(&assertion)["exp"], now + seconds);
        assert_eq!(claims_of(&assertion)["iat"], now);
    }
}

#[tokio::test]
async fn assertions_for_microsoft_do_not_change() {
    for authority in [
        Authority::entra(Cloud::Public, TENANT),
        Authority::external_id("contoso.ciamlogin.com", TENANT),
        Authority::b2c("contoso.b2clogin.com", TENANT, "B2C_1_a"),
        Authority::adfs("fs.contoso.com"),
    ] {
        let (assertion, now) = sent(authority, certificate()).await;
        let claims = claims_of(&assertion);
        assert_eq!(claims.get("iat"), None);
        assert_eq!(claims["nbf"], now - 60);
        assert_eq!(claims["exp"], now + 540);
        assert_eq!(header_of(&assertion).get("kid"), None);
    }
}

#[test]
fn a_lifetime_that_no_provider_accepts_is_not_built() {
    let provider = Provider::open();
    for lifetime in [
        Duration::ZERO,
        Duration::from_millis(9_999),
        Duration::from_secs(3601),
        Duration::MAX,
    ] {
        let error = builder(&provider, openid().client_assertion_lifetime(lifetime))
            .certificate(certificate())
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("client_assertion_lifetime(..)"), "{text}");
        assert!(text.contains("10 seconds to 1 hour"), "{text}");
    }
    let entra =
        Authority::entra(Cloud::Public, TENANT).client_assertion_lifetime(Duration::from_secs(60));
    let error = builder(&provider, entra)
        .certificate(certificate())
        .build()
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("client_assertion_lifetime(..)"), "{text}");
    assert!(text.contains("follow from the authority"), "{text}");
}

#[tokio::test]
async fn a_key_id_of_the_caller_is_in_the_header_and_no_other_is() {
    let (assertion, _) = sent(openid(), certificate()).await;
    assert_eq!(header_of(&assertion).get("kid"), None);
    let named = certificate().key_id("daemon-2026");
    assert!(format!("{named:?}").contains("daemon-2026"));
    let (assertion, _) = sent(openid(), named.clone()).await;
    let header = header_of(&assertion);
    assert_eq!(header["kid"], "daemon-2026");
    assert!(header["x5t#S256"].is_string(), "{header}");

    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("daemon.pem");
    std::fs::write(&path, &*PEM).unwrap();
    let file = CertificateFile::new(&path).key_id("of-the-file");
    let (assertion, _) = sent(openid(), file.read().unwrap()).await;
    assert_eq!(header_of(&assertion)["kid"], "of-the-file");
    std::fs::remove_dir_all(&folder).unwrap();

    let provider = Provider::open();
    for key_id in ["", " ", "daemon\n", " daemon"] {
        let error = builder(&provider, openid())
            .certificate(certificate().key_id(key_id))
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains("key_id(..)"), "{error}");
    }
}

/// One decoder is for forms, and the other percent-decodes only.
#[tokio::test]
async fn a_space_in_a_basic_credential_does_not_become_a_plus_sign() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    let (id, secret) = ("a daemon+1", " inner space + plus%20 ".trim());
    let provider = Provider::open();
    let client = ConfidentialClient::builder(id)
        .authority(openid())
        .client_secret(secret)
        .token_endpoint_auth_method(TokenEndpointAuthMethod::ClientSecretBasic)
        .transport(provider.transport())
        .build()
        .unwrap();
    client.acquire_token_for_client("a").await.unwrap();
    let header = provider.header(0, "authorization").unwrap();
    let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap();
    assert_eq!(pair, "a%20daemon%2B1:inner%20space%20%2B%20plus%2520");
    let (sent_id, sent_secret) = pair.split_once(':').unwrap();
    for (sent, original) in [(sent_id, id), (sent_secret, secret)] {
        let as_a_form = format!("={sent}");
        let mut pairs = url::form_urlencoded::parse(as_a_form.as_bytes());
        assert_eq!(pairs.next().unwrap().1, original);
        assert_eq!(percent_decoded(sent), original);
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        match code.and_then(|code| std::str::from_utf8(code).ok()) {
            Some(code) => {
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// RFC 7523bis: `client-authentication+jwt` is registered, and the audience is one text.
#[tokio::test]
async fn the_type_and_the_audience_of_an_assertion_are_the_callers_choice() {
    let endpoint = "https://id.example.org/token";
    for (authority, typ, audience) in [
        (openid(), "JWT", ISSUER),
        (
            openid().typed_client_assertions(),
            "client-authentication+jwt",
            ISSUER,
        ),
        (
            openid().client_assertion_audience(AssertionAudience::Issuer),
            "JWT",
            ISSUER,
        ),
        (
            openid().client_assertion_audience(AssertionAudience::TokenEndpoint),
            "JWT",
            endpoint,
        ),
        (
            openid()
                .client_assertion_audience("https://legacy.example")
                .typed_client_assertions(),
            "client-authentication+jwt",
            "https://legacy.example",
        ),
    ] {
        let (assertion, _) = sent(authority, certificate()).await;
        assert_eq!(header_of(&assertion)["typ"], typ);
        assert_eq!(claims_of(&assertion)["aud"], audience);
    }
    // Microsoft's providers never get the type.
    let (assertion, _) = sent(Authority::entra(Cloud::Public, TENANT), certificate()).await;
    assert_eq!(header_of(&assertion)["typ"], "JWT");
    for (authority, part) in [
        (
            Authority::entra(Cloud::Public, TENANT).typed_client_assertions(),
            "remove token_endpoint(..), client_assertion_audience(..), client_assertion_lifetime(..) and typed_client_assertions()",
        ),
        (
            Authority::adfs("fs.contoso.com").typed_client_assertions(),
            "typed_client_assertions()",
        ),
        (openid().client_assertion_audience(""), "is empty"),
        (openid().client_assertion_audience("a b"), "\"a b\""),
    ] {
        let client = builder(&Provider::open(), authority).certificate(certificate());
        let error = client.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// The published token endpoint, also for a pushed request.
#[tokio::test]
async fn a_strict_provider_accepts_only_its_audience_and_type() {
    let openid = ProviderRules::openid;
    let issuer_alone = || openid().require_issuer_audience();
    let for_endpoint = AssertionAudience::TokenEndpoint;
    for (name, rules, audience, is_typed, accepted) in [
        ("issuer", openid(), AssertionAudience::Issuer, false, true),
        ("endpoint", openid(), for_endpoint.clone(), true, true),
        ("custom", openid(), "https://x.example".into(), false, false),
        (
            "issuer",
            issuer_alone(),
            AssertionAudience::Issuer,
            false,
            true,
        ),
        (
            "endpoint",
            issuer_alone(),
            for_endpoint.clone(),
            false,
            false,
        ),
        (
            "typed",
            openid().require_typed_assertions(),
            AssertionAudience::Issuer,
            true,
            true,
        ),
        (
            "untyped",
            openid().require_typed_assertions(),
            AssertionAudience::Issuer,
            false,
            false,
        ),
        (
            "Entra",
            ProviderRules::entra(),
            AssertionAudience::Issuer,
            false,
            false,
        ),
        ("Entra", ProviderRules::entra(), for_endpoint, false, true),
    ] {
        let is_openid = name != "Entra";
        let local = LocalAuthority::builder()
            .rules(rules)
            .start()
            .await
            .unwrap();
        let back = "https://app.example.org/back";
        let app = Application::new(CLIENT_ID).redirect_uri(back);
        local.register(TENANT, app.certificate(certificate()));
        let mut authority = Authority::oidc(local.issuer(TENANT).unwrap());
        authority = authority.client_assertion_audience(audience);
        if is_typed {
            authority = authority.typed_client_assertions();
        }
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(authority)
            .certificate(certificate())
            .build()
            .unwrap();
        let scope = "api://orders/.default";
        let token = client.acquire_token_for_client(scope).await;
        assert_eq!(token.is_ok(), accepted, "{name}: {token:?}");
        if let Err(error) = token {
            assert!(error.is_credential_rejected(), "{name}: {error:?}");
        }
        if is_openid {
            let request = AuthorizationRequest::new(back, scope).pushed();
            let page = client.authorization_request_url(&request).await;
            assert_eq!(page.is_ok(), accepted, "{name}: {page:?}");
        }
    }
}
