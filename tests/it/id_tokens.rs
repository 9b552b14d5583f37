//! ID tokens at sign-in, and servers without ID tokens.

use std::time::Duration;

use confidential_client::delegated::{AuthorizationRequest, UserAssertion};
use confidential_client::{Authority, Error, TokenRequest, TokenSource};
use serde_json::{Value, json};
use url::Url;

use crate::support::issuer::{TENANT_ID, with, without};
use crate::support::openid::{Answer, BACK, FILES, ISSUER, OpenId, kinds, tokens};

fn seconds_ago(seconds: u64) -> u64 {
    jsonwebtoken::get_current_timestamp() - seconds
}

#[tokio::test]
async fn an_id_token_that_core_rejects_signs_nobody_in() {
    type Row = (
        &'static str,
        fn(Value) -> Value,
        Option<u64>,
        Option<&'static str>,
    );
    let rows: [Row; 14] = [
        ("plain", |claims| claims, None, None),
        (
            "a list of one",
            |claims| with(claims, "aud", json!(["web"])),
            None,
            None,
        ),
        (
            "for a trusted audience, too",
            |claims| with(with(claims, "aud", json!(["web", "project"])), "azp", "web"),
            None,
            None,
        ),
        (
            "for an untrusted audience, too",
            |claims| with(with(claims, "aud", json!(["web", "daemon"])), "azp", "web"),
            None,
            Some("'daemon'"),
        ),
        (
            "for two trusted ones, issued to nobody",
            |claims| with(claims, "aud", json!(["web", "project"])),
            None,
            Some("'azp'"),
        ),
        (
            "for a trusted audience alone",
            |claims| with(claims, "aud", "project"),
            None,
            Some("audience"),
        ),
        (
            "without iat",
            |claims| without(claims, "iat"),
            None,
            Some("'iat'"),
        ),
        (
            "with iat that is no time",
            |claims| with(claims, "iat", "now"),
            None,
            Some("'iat'"),
        ),
        (
            "without auth_time",
            |claims| claims,
            Some(60),
            Some("'auth_time'"),
        ),
        (
            "with auth_time that is no time",
            |claims| with(claims, "auth_time", "then"),
            Some(60),
            Some("'auth_time'"),
        ),
        (
            "authenticated too long ago",
            |claims| with(claims, "auth_time", seconds_ago(500)),
            Some(60),
            Some("max_age"),
        ),
        (
            "authenticated in time",
            |claims| with(claims, "auth_time", seconds_ago(30)),
            Some(60),
            None,
        ),
        (
            "authenticated in time, within the leeway",
            |claims| with(claims, "auth_time", seconds_ago(300)),
            Some(60),
            None,
        ),
        (
            "authenticated long ago, and nobody minds",
            |claims| with(claims, "auth_time", 1),
            None,
            None,
        ),
    ];
    for (authority, issuer, _) in kinds() {
        for (name, change, max_age, expected) in rows {
            let provider = OpenId::new(&issuer);
            let client = provider.builder(authority.clone());
            let client = client.id_token_audiences(["project"]).build().unwrap();
            let mut request = AuthorizationRequest::new(BACK, FILES);
            if let Some(max_age) = max_age {
                request = request.max_age(Duration::from_secs(max_age));
            }
            let claims = change(provider.claims());
            let outcome = provider.sign_in_with(&client, &request, claims).await;
            match (outcome, expected) {
                (Ok(_), None) => {}
                (Err(error), Some(text)) => {
                    let name = format!("{authority}: {name}: {error:?}");
                    assert!(matches!(error, Error::InvalidResponse(_)), "{name}");
                    assert!(error.to_string().contains(text), "{name}");
                    assert!(client.cache().is_empty(), "{name}");
                }
                (outcome, _) => panic!("{authority}: {name}: {outcome:?}"),
            }
        }
    }
}

/// Only Entra gives `tid` a meaning.
#[tokio::test]
async fn a_claim_of_the_providers_own_does_not_prevent_a_sign_in() {
    for (authority, issuer, _) in kinds() {
        let is_entra = authority.to_string().contains(TENANT_ID);
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority);
        let request = AuthorizationRequest::new(BACK, FILES);
        let claims = with(provider.claims(), "tid", 7);
        let outcome = provider.sign_in_with(&client, &request, claims).await;
        assert_eq!(outcome.is_err(), is_entra, "{issuer}: {outcome:?}");
    }
}

#[tokio::test]
async fn max_age_is_sent_in_seconds_and_survives_the_session() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    for (max_age, sent) in [
        (Duration::from_millis(90_900), Some("90")),
        (Duration::ZERO, Some("0")),
    ] {
        let request = AuthorizationRequest::new(BACK, FILES).max_age(max_age);
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let page = Url::parse(&page).unwrap();
        let mut pairs = page.query_pairs();
        let found = pairs.find(|(name, _)| name == "max_age");
        assert_eq!(found.map(|(_, value)| value.into_owned()).as_deref(), sent);
        let kept = serde_json::to_value(&flow).unwrap();
        assert_eq!(kept["max_age"].as_u64(), Some(max_age.as_secs()));
    }
    let request = AuthorizationRequest::new(BACK, FILES);
    let (page, _) = client.authorization_request_url(&request).await.unwrap();
    assert!(!page.contains("max_age"), "{page}");
    // A limit that is sent and never checked is none.
    let request = TokenRequest::new(FILES).query_parameter("max_age", "60");
    let request = AuthorizationRequest::new(BACK, request);
    let error = client
        .authorization_request_url(&request)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("'max_age' is reserved"),
        "{error}"
    );
}

#[tokio::test]
async fn no_code_is_spent_at_a_server_without_id_tokens() {
    type Change = fn(&OpenId);
    let rows: [(&str, Change, &str); 4] = [
        (
            "no keys",
            |provider| provider.withhold("jwks_uri"),
            "jwks_uri",
        ),
        (
            "no openid",
            |provider| provider.publish("scopes_supported", json!(["files.read"])),
            "scopes_supported",
        ),
        (
            "no algorithm",
            |provider| provider.publish("id_token_signing_alg_values_supported", json!(["HS256"])),
            "id_token_signing_alg_values_supported",
        ),
        (
            "none at all",
            |provider| provider.publish("id_token_signing_alg_values_supported", json!([])),
            "id_token_signing_alg_values_supported",
        ),
    ];
    for (name, change, text) in rows {
        let provider = OpenId::new(ISSUER);
        let request = AuthorizationRequest::new(BACK, FILES);
        let client = provider.client(Authority::oidc(ISSUER));
        let (_, begun_before) = client.authorization_request_url(&request).await.unwrap();
        change(&provider);
        let client = provider.client(Authority::oidc(ISSUER));
        let error = client
            .authorization_request_url(&request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{name}: {error:?}");
        for text in [text, ISSUER, "without_id_token()"] {
            assert!(error.to_string().contains(text), "{name}: {error}");
        }
        // Nor at the end of a sign-in that had begun.
        let query = format!("code=c&state={}", begun_before.state());
        let outcome = client
            .acquire_token_by_authorization_code(begun_before, query)
            .await;
        assert!(outcome.unwrap_err().to_string().contains(text), "{name}");
        assert!(provider.forms().is_empty(), "{name}");

        // Where the caller wants no account, the server serves.
        let request = request.without_id_token();
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        assert!(
            page.contains("&scope=files.read&") && !page.contains("nonce="),
            "{page}"
        );
        let query = format!("code=c&state={}", flow.state());
        let token = client.acquire_access_token_by_authorization_code(flow, query);
        let token = token.await.unwrap();
        assert_eq!(
            (token.secret(), token.source()),
            ("token-1", TokenSource::IdentityProvider)
        );
        let form = &provider.forms()[0];
        assert_eq!(form["scope"], "files.read");
        assert!(form.contains_key("code_verifier"));
        assert!(client.cache().is_empty());
    }
}

#[tokio::test]
async fn a_sign_in_without_an_account_does_not_pass_for_one_with_an_account() {
    for (authority, issuer, _) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority);
        let request = AuthorizationRequest::new(BACK, FILES);
        let (_, flow) = client.authorization_request_url(&request).await.unwrap();
        let query = format!("code=c&state={}", flow.state());
        let outcome = client
            .acquire_access_token_by_authorization_code(flow, &query)
            .await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let request = request.without_id_token();
        let (_, flow) = client.authorization_request_url(&request).await.unwrap();
        let query = format!("code=c&state={}", flow.state());
        let outcome = client
            .acquire_token_by_authorization_code(flow.clone(), &query)
            .await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(provider.forms().is_empty());

        // The checks of the redirect are the same.
        for query in [
            "code=c&state=other".to_owned(),
            format!("https://evil.example/?code=c&state={}", flow.state()),
            format!(
                "code=c&state={}&iss=https%3A%2F%2Fevil.example",
                flow.state()
            ),
        ] {
            let outcome = client.acquire_access_token_by_authorization_code(flow.clone(), query);
            outcome.await.unwrap_err();
        }
        assert!(provider.forms().is_empty());
        client
            .acquire_access_token_by_authorization_code(flow, &query)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_request_without_an_id_token_that_needs_one_is_told() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let request = |scope: &str| AuthorizationRequest::new(BACK, scope).without_id_token();
    for (request, text) in [
        (request("files.read openid"), "'openid'"),
        (request("OpenID"), "'OpenID'"),
        (request("a\"b"), "no scope may contain"),
        (request(FILES).max_age(Duration::from_secs(60)), "max_age"),
    ] {
        let error = client
            .authorization_request_url(&request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // A server may have a default scope (RFC 6749 section 3.3).
    let (page, flow) = client
        .authorization_request_url(&request(""))
        .await
        .unwrap();
    assert!(!page.contains("scope="), "{page}");
    let query = format!("code=c&state={}", flow.state());
    let token = client.acquire_access_token_by_authorization_code(flow, query);
    token.await.unwrap();
    assert!(!provider.forms()[0].contains_key("scope"));
}

/// A strict server answers `invalid_scope` to scopes that the client may not have.
#[tokio::test]
async fn on_behalf_of_at_an_openid_provider_asks_for_no_scope_more() {
    for (authority, issuer, is_microsofts) in kinds() {
        let provider = OpenId::new(&issuer);
        let client = provider.client(authority.clone());
        let mut body = tokens(1);
        body["expires_in"] = json!(3600);
        provider.answer(Answer::json(&body));
        let assertion = UserAssertion::new("opaque");
        for scope in [FILES, "mail.read files.read"] {
            client
                .acquire_token_on_behalf_of(&assertion, scope)
                .await
                .unwrap();
            let sent = provider.forms().pop().unwrap();
            let expected = match is_microsofts {
                true => format!("{scope} openid profile offline_access"),
                false => scope.to_owned(),
            };
            assert_eq!(sent["scope"], expected, "{authority}");
        }
        // The cache key is the same with and without the scopes of OpenID Connect.
        let scope = "files.read profile";
        let token = client.acquire_token_on_behalf_of(&assertion, scope).await;
        assert_eq!(token.unwrap().source(), TokenSource::Cache);
    }
}
