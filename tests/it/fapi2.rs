//! The FAPI 2.0 Security Profile: what the client does, and what the client and a `LocalAuthority`
//! reject. Sections are those of the profile. `docs/fapi-2.md` maps the conformance tests to these.

use std::time::Duration;

use confidential_client::credential::{
    AssertionAudience, AssertionContext, DpopKey, SigningAlgorithm,
};
use confidential_client::delegated::{AuthorizationCodeFlow, AuthorizationRequest};
use confidential_client::testing::{
    Application, Fault, LocalAuthority, LocalAuthorityBuilder, ManualClock, ProviderRules, User,
};
use confidential_client::transport::MutualTls;
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    RetryPolicy, TokenRequest, TokenScheme,
};
use serde_json::{Value, json};
use url::Url;

use crate::support::client_ca::ClientCa;
use crate::support::issuer::{Key, NEXT, P256, RSA, header, with};
use crate::support::openid::{Answer, BACK, CLIENT, FILES, ISSUER, OpenId, nonce_of, tokens};
use crate::support::{CLIENT_ID, PEM, SECRET, TENANT, claims_of, header_of};

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const DRIVE: &str = "api://drive/Files.Read";
const URI: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

fn certificate() -> Certificate {
    Certificate::from_pem(&*PEM).unwrap()
}

/// The type of the tokens of [`bound`].
const TOKEN_TYPE: &str = "DPoP";

/// Binds the tokens of the client to a key, as the profile demands.
pub fn bound(builder: ConfidentialClientBuilder) -> ConfidentialClientBuilder {
    builder.dpop(DpopKey::generate().unwrap())
}

async fn start(builder: LocalAuthorityBuilder) -> LocalAuthority {
    let local = builder.rules(ProviderRules::fapi2()).tls();
    let local = local.start().await.unwrap();
    let app = Application::new(CLIENT_ID)
        .secret(SECRET)
        .certificate(certificate())
        .redirect_uri(BACK)
        .redirect_uri("http://localhost:8080/back")
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, app);
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, DRIVE);
    local
}

/// A client that trusts the CA of the authority, with another profile.
fn client_at(local: &LocalAuthority, authority: Authority) -> ConfidentialClientBuilder {
    let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap();
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .retry(RetryPolicy::none())
        .reqwest(reqwest::Client::builder().tls_certs_merge([ca]))
}

fn oidc(local: &LocalAuthority) -> Authority {
    Authority::oidc(local.issuer(TENANT).unwrap())
}

fn drive() -> AuthorizationRequest {
    AuthorizationRequest::new(BACK, DRIVE)
}

/// Sections 5.3.3.1, 5.3.3.2 and 5.4.1, over TLS.
#[tokio::test]
async fn a_client_of_the_profile_signs_a_user_in() {
    let local = start(LocalAuthority::builder()).await;
    let client = bound(client_at(&local, oidc(&local).fapi2()));
    let client = client.certificate(certificate()).build().unwrap();
    let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
    let query: Vec<_> = Url::parse(&page)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    let names: Vec<_> = query.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let back = local.sign_in(page, ADELE).await.unwrap();
    assert!(back.contains("&iss="), "{back}");
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let signed_in = signed_in.await.unwrap();
    let token = signed_in.access_token();
    assert_eq!(token.scheme(), TokenScheme::Dpop);
    assert_eq!(header_of(token.secret())["alg"], "PS256");
    assert!(claims_of(token.secret())["cnf"]["jkt"].is_string());
    let request = TokenRequest::new(DRIVE).force_refresh();
    let refreshed = client.acquire_token_silent(signed_in.account(), request);
    refreshed.await.unwrap();

    let pushed = local.pushed_requests();
    let nonce = pushed[0].field("nonce").unwrap();
    assert!(nonce.len() <= 64, "{nonce}");
    assert_eq!(pushed[0].field("code_challenge_method"), Some("S256"));
    let sent = local.token_requests();
    assert_eq!(sent[1].field("grant_type"), Some("refresh_token"));
    // A generated key is not in other processes, to which the user may come back.
    assert_eq!(pushed[0].field("dpop_jkt"), None);
    assert!(sent.iter().all(|request| request.header("dpop").is_some()));
    for request in pushed.iter().chain(&sent) {
        let claims: Value = serde_json::from_str(&request.assertion_claims().unwrap()).unwrap();
        assert_eq!(claims["aud"], local.issuer(TENANT).unwrap());
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lifetime, 60);
        let header: Value = serde_json::from_str(&request.assertion_header().unwrap()).unwrap();
        assert_eq!(header["alg"], "PS256");
        assert_eq!(request.field("client_secret"), None);
    }
}

/// Sections 5.3.3.1, numbers 1, 2 and 7: mutual TLS, at the aliases of the endpoints.
#[tokio::test]
async fn a_client_of_the_profile_signs_a_user_in_by_mutual_tls() {
    let ca = ClientCa::new();
    let tls = ca.issue("daemon.example").parsed();
    for by_tls in [true, false] {
        let local = start(LocalAuthority::builder().mutual_tls()).await;
        if by_tls {
            let app = Application::new(CLIENT_ID)
                .tls_client_auth(ca.pem(), "CN=daemon.example")
                .redirect_uri(BACK)
                .delegated("api://drive", "Files.Read");
            local.register(TENANT, app);
        }
        let roots = local.ca_pem().unwrap().to_owned();
        let tls = MutualTls::from(tls.clone()).trusted_roots_pem(&roots);
        let builder = ConfidentialClient::builder(CLIENT_ID).authority(oidc(&local).fapi2());
        let client = match by_tls {
            true => builder.tls_client_auth(tls),
            false => builder
                .certificate(certificate())
                .certificate_bound_tokens(tls),
        };
        let client = client.build().unwrap();
        let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
        let back = local.sign_in(page, ADELE).await.unwrap();
        let signed_in = client.acquire_token_by_authorization_code(flow, back);
        let signed_in = signed_in.await.unwrap();
        let claims = claims_of(signed_in.access_token().secret());
        assert!(claims["cnf"]["x5t#S256"].is_string(), "{claims}");
        let (pushed, sent) = (local.pushed_requests(), local.token_requests());
        assert_eq!((pushed.len(), sent.len()), (1, 1));
        for request in pushed.iter().chain(&sent) {
            assert!(request.client_certificate_sha256().is_some());
            assert_eq!(request.assertion_header().is_none(), by_tls);
            assert_eq!(request.field("client_id"), Some(CLIENT_ID));
        }
    }
}

/// Section 5.3.3.1: without an announcement (RFC 8705 section 3.3), the tokens may be bound to none.
#[tokio::test]
async fn a_provider_that_announces_no_certificate_bound_tokens_is_an_error_before_the_push() {
    let local = start(LocalAuthority::builder()).await;
    let tls = MutualTls::from(ClientCa::new().issue("daemon.example").parsed());
    let tls = tls.trusted_roots_pem(local.ca_pem().unwrap());
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(oidc(&local).fapi2())
        .tls_client_auth(tls)
        .build()
        .unwrap();
    let pushing = client.authorization_request_url(&drive()).await.map(|_| ());
    let token = client
        .acquire_token_for_client("api://drive/.default")
        .await;
    for error in [pushing.unwrap_err(), token.map(|_| ()).unwrap_err()] {
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let part = "does not bind tokens to client certificates";
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(local.pushed_requests().is_empty() && local.token_requests().is_empty());
}

/// Every setting that the profile forbids, with its reason and its section.
#[test]
fn a_setting_that_the_profile_forbids_is_an_error_of_build() {
    let fapi2 = || Authority::oidc(ISSUER).fapi2();
    let provider = OpenId::new(ISSUER);
    let with_certificate = |authority: Authority, certificate: Certificate| {
        bound(provider.without_credential(authority)).certificate(certificate)
    };
    let with = |authority: Authority| with_certificate(authority, certificate());
    let signed_by = |algorithm| certificate().signing_algorithm(algorithm);
    let closure = |_: AssertionContext| async { Ok("e.y.J".to_owned()) };
    for (builder, expected) in [
        (with(fapi2()), None),
        (
            with(fapi2().client_assertion_audience(AssertionAudience::Issuer)),
            None,
        ),
        (with(fapi2().client_assertion_audience(ISSUER)), None),
        (with(fapi2().typed_client_assertions()), None),
        (
            with_certificate(fapi2(), signed_by(SigningAlgorithm::PS256)),
            None,
        ),
        (
            bound(provider.without_credential(fapi2())).client_assertion(closure),
            None,
        ),
        (
            bound(provider.without_credential(fapi2())).client_secret(SECRET),
            Some(
                "forbids a client secret (FAPI 2.0 Security Profile, section 5.3.3.1); authenticate with certificate(..)",
            ),
        ),
        (
            with_certificate(fapi2(), signed_by(SigningAlgorithm::RS256)),
            Some(
                "forbids RS256, which signs with the certificate of 'CN=daemon' (FAPI 2.0 Security Profile, section 5.4.1)",
            ),
        ),
        (
            provider
                .without_credential(fapi2())
                .certificate(certificate()),
            Some(
                "access tokens that are not bound to a key (FAPI 2.0 Security Profile, section 5.3.3.1); call dpop(..)",
            ),
        ),
        (
            provider
                .without_credential(fapi2())
                .certificate(certificate())
                .dpop(rs256_key()),
            Some("forbids RS256 for proofs (FAPI 2.0 Security Profile, section 5.4.1)"),
        ),
        (
            with(fapi2().client_assertion_audience(AssertionAudience::TokenEndpoint)),
            Some(
                "another audience of client assertions than the issuer (FAPI 2.0 Security Profile, section 5.3.3.1); remove client_assertion_audience(..)",
            ),
        ),
        (
            with(fapi2().client_assertion_audience("https://x.example")),
            Some("another audience of client assertions"),
        ),
        (
            with(fapi2().token_endpoint("https://id.example.org/token")),
            Some(
                "a token endpoint that is not from the metadata (FAPI 2.0 Security Profile, section 5.3.3.1); remove token_endpoint(..)",
            ),
        ),
        (
            with(Authority::oidc("http://127.0.0.1:1/realm").fapi2()),
            Some("an issuer without TLS (FAPI 2.0 Security Profile, section 5.2)"),
        ),
        (
            with(
                Authority::oidc("http://127.0.0.1:1/realm")
                    .fapi2()
                    .allow_insecure_http(),
            ),
            None,
        ),
        (
            with(Authority::entra(Cloud::Public, TENANT).fapi2()),
            Some(
                "FAPI 2.0 cannot be applied to 'https://login.microsoftonline.com/contoso.onmicrosoft.com'; remove fapi2()",
            ),
        ),
        (
            with(Authority::adfs("fs.contoso.com").fapi2()),
            Some("remove fapi2(), or use Authority::oidc(..)"),
        ),
    ] {
        match (builder.build(), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => {
                assert!(matches!(error, Error::Config(_)), "{error:?}");
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
            (built, _) => panic!("{expected:?}: {built:?}"),
        }
    }
}

fn rs256_key() -> DpopKey {
    let (_, key) = PEM.split_at(PEM.find("-----BEGIN PRIVATE").unwrap());
    let key = DpopKey::from_pem(key).unwrap();
    key.signing_algorithm(SigningAlgorithm::RS256).unwrap()
}

/// A provider of the profile, in memory.
fn provider() -> OpenId {
    let provider = OpenId::new(ISSUER);
    let endpoint = format!("{ISSUER}/par");
    provider.publish("pushed_authorization_request_endpoint", endpoint);
    provider.publish(
        "token_endpoint_auth_methods_supported",
        json!(["private_key_jwt"]),
    );
    provider
}

fn client(provider: &OpenId) -> ConfidentialClient {
    let builder = provider.without_credential(Authority::oidc(ISSUER).fapi2());
    let builder = bound(builder).retry(RetryPolicy::none());
    builder.certificate(certificate()).build().unwrap()
}

fn created() -> Answer {
    let body = json!({ "request_uri": URI, "expires_in": 60 });
    Answer::status(201, &body.to_string())
}

async fn begin(provider: &OpenId, client: &ConfidentialClient) -> AuthorizationCodeFlow {
    provider.answer(created());
    let request = AuthorizationRequest::new(BACK, FILES);
    client.authorization_request_url(&request).await.unwrap().1
}

/// The metadata of a provider that does not have the profile, before anything is sent.
#[tokio::test]
async fn metadata_that_rule_the_profile_out_are_an_error() {
    for (member, value, part) in [
        (
            "pushed_authorization_request_endpoint",
            json!(null),
            "FAPI 2.0 demands it (Security Profile, section 5.3.3.2)",
        ),
        (
            "id_token_signing_alg_values_supported",
            json!(["RS256"]),
            "none of PS256, ES256, EdDSA, which FAPI 2.0 allows",
        ),
        (
            "token_endpoint_auth_signing_alg_values_supported",
            json!(["RS256"]),
            "a key for none of the algorithms",
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!(["client_secret_post"]),
            "no private_key_jwt",
        ),
    ] {
        let provider = provider();
        provider.publish(member, value);
        let client = client(&provider);
        let request = AuthorizationRequest::new(BACK, FILES);
        let error = client
            .authorization_request_url(&request)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert!(provider.forms().is_empty());
    }
    // Section 5.3.2.2: the response is not sent without TLS.
    let provider = provider();
    let client = client(&provider);
    let request = AuthorizationRequest::new("http://localhost:8080/back", FILES);
    let error = client
        .authorization_request_url(&request)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("a redirect URI without TLS"),
        "{error}"
    );
    assert!(provider.forms().is_empty());
}

/// Of the algorithms that the provider lists, one that the profile allows signs.
#[tokio::test]
async fn an_allowed_algorithm_signs_where_the_provider_prefers_another() {
    for supported in [json!(null), json!(["RS256", "PS256"]), json!(["PS256"])] {
        let provider = provider();
        let name = "token_endpoint_auth_signing_alg_values_supported";
        provider.publish(name, supported);
        begin(&provider, &client(&provider)).await;
        let form = provider.forms().pop().unwrap();
        assert_eq!(header_of(&form["client_assertion"])["alg"], "PS256");
        assert_eq!(claims_of(&form["client_assertion"])["aud"], ISSUER);
    }
}

/// Section 5.3.3.2, number 5, even if the metadata do not announce the parameter.
#[tokio::test]
async fn a_response_without_the_issuer_is_rejected_before_the_code_is_sent() {
    for (issuer, part) in [
        (
            None,
            "FAPI 2.0 demands that the issuer 'https://id.example.org' does so",
        ),
        (Some("https%3A%2F%2Fevil.example"), "another issuer"),
        (Some(""), "another issuer"),
    ] {
        let provider = provider();
        let client = client(&provider);
        let flow = begin(&provider, &client).await;
        let issuer = issuer.map(|issuer| format!("&iss={issuer}"));
        let query = format!(
            "code=c&state={}{}",
            flow.state(),
            issuer.unwrap_or_default()
        );
        let error = client.acquire_token_by_authorization_code(flow, query);
        let error = error.await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert_eq!(provider.forms().len(), 1, "the pushed request alone");
    }
}

/// The state protects the session of the user.
#[tokio::test]
async fn a_response_without_the_state_is_rejected_before_the_code_is_sent() {
    for (state, text) in [
        ("", "it has no state; pass the whole URL"),
        ("&state=", "its state is not the one"),
        ("&state=another", "its state is not the one"),
    ] {
        let provider = provider();
        let client = client(&provider);
        let flow = begin(&provider, &client).await;
        let query = format!("code=c&iss={}{state}", "https%3A%2F%2Fid.example.org");
        let error = client.acquire_token_by_authorization_code(flow, query);
        let error = error.await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(provider.forms().len(), 1, "the pushed request alone");
    }
}

/// Redeems a code with an ID token of this header and these changes.
async fn redeem(key: &Key, header: &Value, change: fn(Value) -> Value) -> Result<(), Error> {
    let provider = provider();
    let client = client(&provider);
    let flow = begin(&provider, &client).await;
    let claims = change(with(provider.claims(), "nonce", nonce_of(&flow)));
    let body = with(tokens(1), "token_type", TOKEN_TYPE);
    let body = with(body, "id_token", key.sign(header, &claims));
    provider.answer(Answer::json(&body));
    finish(&client, flow).await
}

/// Brings the user back with a code.
async fn finish(client: &ConfidentialClient, flow: AuthorizationCodeFlow) -> Result<(), Error> {
    let issuer = "https%3A%2F%2Fid.example.org";
    let query = format!("code=c&iss={issuer}&state={}", flow.state());
    let signed_in = client.acquire_token_by_authorization_code(flow, query);
    let signed_in = signed_in.await?;
    assert_eq!(signed_in.account().home_account_id(), "adele");
    Ok(())
}

/// Section 5.4.1, and OpenID Connect Core section 3.1.3.7.
#[tokio::test]
async fn an_id_token_that_the_profile_forbids_signs_nobody_in() {
    type Row = (&'static str, fn(Value) -> Value, Option<&'static str>);
    let rows: [Row; 15] = [
        ("PS256", |claims| claims, None),
        ("PS256", |claims| with(claims, "aud", json!([CLIENT])), None),
        (
            "RS256",
            |claims| claims,
            Some("it is signed with RS256, and FAPI 2.0 allows PS256, ES256"),
        ),
        ("none", |claims| claims, Some("signed with 'none'")),
        ("null", |claims| claims, Some("'alg'")),
        ("signature", |claims| claims, Some("signature")),
        (
            "PS256",
            |claims| with(claims, "iss", "https://id.example.org/x"),
            Some("issuer"),
        ),
        (
            "PS256",
            |claims| with(claims, "iss", Value::Null),
            Some("iss"),
        ),
        (
            "PS256",
            |claims| with(claims, "aud", "another"),
            Some("audience"),
        ),
        (
            "PS256",
            |claims| with(claims, "aud", Value::Null),
            Some("'aud' is missing"),
        ),
        (
            "PS256",
            |claims| with(claims, "aud", json!([CLIENT, "another"])),
            Some("'azp'"),
        ),
        (
            "PS256",
            |claims| with(claims, "exp", 1_600_000_000),
            Some("expired"),
        ),
        (
            "PS256",
            |claims| with(claims, "exp", Value::Null),
            Some("exp"),
        ),
        (
            "PS256",
            |claims| with(claims, "nonce", "another"),
            Some("nonce"),
        ),
        (
            "PS256",
            |claims| with(claims, "nonce", Value::Null),
            Some("nonce"),
        ),
    ];
    for (algorithm, change, expected) in rows {
        let header = match algorithm {
            "null" => with(header(), "alg", Value::Null),
            "signature" => with(header(), "alg", "PS256"),
            name => with(header(), "alg", name),
        };
        let key = if algorithm == "signature" {
            &NEXT
        } else {
            &RSA
        };
        let outcome = redeem(key, &header, change).await;
        match (&outcome, expected) {
            (Ok(()), None) => {}
            (Err(error @ Error::InvalidResponse(_)), Some(part)) => {
                assert!(
                    error.to_string().contains(part),
                    "{algorithm}: {part}: {error}"
                );
            }
            _ => panic!("{algorithm}: {expected:?}: {outcome:?}"),
        }
    }
}

/// The suite's modules `token-endpoint-response-without-expires_in` and
/// `token-type-case-insensitivity`.
#[tokio::test]
async fn a_token_response_of_the_suite_is_accepted() {
    let inverted = |text: &str| -> String {
        let inverted = text.chars().map(|c| match c.is_ascii_uppercase() {
            true => c.to_ascii_lowercase(),
            false => c.to_ascii_uppercase(),
        });
        inverted.collect()
    };
    for (token_type, expires_in) in [
        (TOKEN_TYPE.to_owned(), Value::Null),
        (inverted(TOKEN_TYPE), json!(300)),
        (TOKEN_TYPE.to_lowercase(), json!(300)),
    ] {
        let provider = provider();
        let client = client(&provider);
        let flow = begin(&provider, &client).await;
        let claims = with(provider.claims(), "nonce", nonce_of(&flow));
        let ps256 = with(header(), "alg", "PS256");
        let body = with(tokens(1), "id_token", RSA.sign(&ps256, &claims));
        let body = with(body, "token_type", token_type);
        provider.answer(Answer::json(&with(body, "expires_in", expires_in)));
        finish(&client, flow).await.unwrap();
    }
}

/// Section 5.4.3: keys of one name, of which one has the type and the algorithm.
#[tokio::test]
async fn a_key_set_with_decoys_is_read() {
    let decoys = [
        with(P256.jwk.clone(), "kid", "first"),
        with(NEXT.jwk.clone(), "kid", "first"),
        with(with(NEXT.jwk.clone(), "kid", "first"), "alg", "RS256"),
        with(with(RSA.jwk.clone(), "use", "enc"), "alg", "RSA-OAEP"),
    ];
    let right = [with(RSA.jwk.clone(), "alg", "PS256")];
    for keys in [
        [&decoys[..], &right].concat(),
        [&right[..], &decoys].concat(),
    ] {
        let provider = provider();
        provider.publish_keys(&keys);
        let client = client(&provider);
        let flow = begin(&provider, &client).await;
        let claims = with(provider.claims(), "nonce", nonce_of(&flow));
        let ps256 = with(header(), "alg", "PS256");
        let body = with(tokens(1), "id_token", RSA.sign(&ps256, &claims));
        provider.answer(Answer::json(&with(body, "token_type", TOKEN_TYPE)));
        finish(&client, flow).await.unwrap();
    }
}

/// An assertion of the caller's is checked, too, before the request.
#[tokio::test]
async fn a_supplied_assertion_that_the_profile_forbids_is_not_sent() {
    for (algorithm, audience, expected) in [
        ("PS256", json!(ISSUER), None),
        (
            "RS256",
            json!(ISSUER),
            Some("signed with 'RS256', and allows PS256"),
        ),
        ("none", json!(ISSUER), Some("signed with 'none'")),
        (
            "PS256",
            json!([ISSUER]),
            Some("not the issuer 'https://id.example.org' as one text"),
        ),
        (
            "PS256",
            json!(format!("{ISSUER}/token")),
            Some("as one text"),
        ),
        ("PS256", json!(null), Some("as one text")),
    ] {
        let claims = with(json!({ "iss": CLIENT, "sub": CLIENT }), "aud", audience);
        let typ = "client-authentication+jwt";
        let header = with(with(header(), "alg", algorithm), "typ", typ);
        let assertion = RSA.sign(&header, &claims);
        let provider = provider();
        let closure = move |_: AssertionContext| {
            let assertion = assertion.clone();
            async move { Ok(assertion) }
        };
        let builder = provider.without_credential(Authority::oidc(ISSUER).fapi2());
        let client = bound(builder).client_assertion(closure).build().unwrap();
        provider.answer(created());
        let request = AuthorizationRequest::new(BACK, FILES);
        let page = client.authorization_request_url(&request).await;
        match (page, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => {
                assert!(matches!(error, Error::Credential(_)), "{error:?}");
                assert!(error.to_string().contains(part), "{part}: {error}");
                assert!(provider.forms().is_empty());
            }
            (page, _) => panic!("{expected:?}: {page:?}"),
        }
    }
}

/// Section 5.3.2.1: providers do not rotate refresh tokens without a way to retry.
#[tokio::test]
async fn a_refresh_token_whose_fate_is_unknown_is_sent_again() {
    let clock = ManualClock::new();
    let local = start(LocalAuthority::builder().clock(clock.clone())).await;
    let client = bound(client_at(&local, oidc(&local).fapi2())).clock(clock.clone());
    let client = client.certificate(certificate()).build().unwrap();
    let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    let signed_in = client.acquire_token_by_authorization_code(flow, back);
    let account = signed_in.await.unwrap().account().clone();
    for fault in [Some(Fault::dropped()), None] {
        local.script(fault);
        let request = TokenRequest::new(DRIVE).force_refresh();
        // After the failure, the cached token.
        client
            .acquire_token_silent(&account, request)
            .await
            .unwrap();
        clock.advance(Duration::from_secs(60));
    }
    let sent = local.token_requests();
    let tokens = sent.iter().filter_map(|sent| sent.field("refresh_token"));
    let tokens: Vec<_> = tokens.collect();
    assert_eq!(tokens.len(), 2, "{sent:?}");
    assert_eq!(tokens[0], tokens[1]);
}

/// The authority of the profile rejects clients without the profile.
#[tokio::test]
async fn the_authority_rejects_what_the_profile_forbids() {
    let clock = ManualClock::new();
    let local = start(LocalAuthority::builder().clock(clock.clone())).await;
    let plain = || client_at(&local, oidc(&local)).clock(clock.clone());
    let description = |error: &Error| {
        let server = error.server_error().unwrap();
        server.error_description().unwrap_or_default().to_owned()
    };
    // A secret, RS256 and another audience, at both endpoints.
    let rs256 = certificate().signing_algorithm(SigningAlgorithm::RS256);
    let endpoint = oidc(&local).client_assertion_audience(AssertionAudience::TokenEndpoint);
    for (client, part) in [
        (
            client_at(&local, oidc(&local))
                .client_secret(SECRET)
                .token_endpoint_auth_method(
                    confidential_client::credential::TokenEndpointAuthMethod::ClientSecretPost,
                ),
            "must authenticate with a 'client_assertion'",
        ),
        (plain().certificate(rs256), "its algorithm is not accepted"),
        (
            client_at(&local, endpoint)
                .clock(clock.clone())
                .certificate(certificate()),
            "its audience is not the issuer",
        ),
    ] {
        let client = client.build().unwrap();
        let error = client
            .authorization_request_url(&drive())
            .await
            .unwrap_err();
        assert!(description(&error).contains(part), "{part}: {error}");
        let error = client
            .acquire_token_for_client("api://drive/.default")
            .await;
        let error = error.unwrap_err();
        assert!(description(&error).contains(part), "{part}: {error}");
        assert!(error.is_credential_rejected(), "{error:?}");
    }

    // A bearer token.
    let client = plain().certificate(certificate()).build().unwrap();
    let error = client
        .acquire_token_for_client("api://drive/.default")
        .await
        .unwrap_err();
    let text = "neither a DPoP proof nor a client certificate";
    assert!(description(&error).contains(text), "{error}");

    // Parameters in the URL, and a redirect URI without TLS.
    let client = bound(plain()).certificate(certificate()).build().unwrap();
    let page = format!(
        "{}/{TENANT}/oauth2/v2.0/authorize?client_id={CLIENT_ID}&response_type=code&scope=openid&redirect_uri={BACK}",
        local.base_url()
    );
    let error = local.sign_in(page, ADELE).await.unwrap_err().to_string();
    assert!(error.contains("requires pushed authorization"), "{error}");
    let insecure = AuthorizationRequest::new("http://localhost:8080/back", DRIVE);
    let error = client
        .authorization_request_url(&insecure)
        .await
        .unwrap_err();
    assert!(description(&error).contains("is not https"), "{error}");

    // A code is valid for a minute.
    let (page, flow) = client.authorization_request_url(&drive()).await.unwrap();
    let back = local.sign_in(page, ADELE).await.unwrap();
    clock.advance(Duration::from_secs(61));
    let error = client.acquire_token_by_authorization_code(flow, back).await;
    let error = error.unwrap_err();
    assert_eq!(
        error.server_error().unwrap().error_codes(),
        [70008],
        "{error}"
    );

    // PKCE is required: a pushed request without a challenge.
    let metadata = format!(
        "{}/{TENANT}/v2.0/.well-known/openid-configuration",
        local.base_url()
    );
    let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap();
    let http = reqwest::Client::builder()
        .tls_certs_merge([ca])
        .build()
        .unwrap();
    let metadata = http
        .get(metadata)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(
        metadata["token_endpoint_auth_methods_supported"],
        json!(["private_key_jwt"])
    );
    assert_eq!(metadata["require_pushed_authorization_requests"], true);
    assert_eq!(
        metadata["authorization_response_iss_parameter_supported"],
        true
    );
    assert_eq!(
        metadata["id_token_signing_alg_values_supported"],
        json!(["PS256"])
    );
    let pushed = local.pushed_requests().pop().unwrap();
    let form = pushed
        .form()
        .iter()
        .filter(|(name, _)| !name.starts_with("code_challenge"));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let endpoint = metadata["pushed_authorization_request_endpoint"]
        .as_str()
        .unwrap();
    let response = http.post(endpoint).body(form);
    let response = response.header("content-type", "application/x-www-form-urlencoded");
    let response = response.send().await.unwrap();
    assert_eq!(response.status(), 400);
    let body = response.text().await.unwrap();
    assert!(body.contains("'code_challenge'"), "{body}");
}
