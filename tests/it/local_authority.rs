//! `LocalAuthority` rejects what Entra rejects, with the same codes.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::testing::{
    Application, Fault, LocalAuthority, ManualClock, self_signed_certificate,
};
use confidential_client::{AccessToken, Certificate, ConfidentialClient, Error, TokenRequest};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use crate::support::{CLIENT_ID, PEM, SCOPE, SECRET, TENANT, client_of, header_of, poll_once};

async fn authority() -> LocalAuthority {
    let local = LocalAuthority::start().await.unwrap();
    local.register(
        TENANT,
        Application::new(CLIENT_ID)
            .secret("an older secret")
            .secret(SECRET)
            .role("https://graph.microsoft.com", "User.Read.All")
            .role("https://graph.microsoft.com", "Group.Read.All")
            .role("api://other", "Other"),
    );
    local
}

async fn refusal(local: &LocalAuthority, client_id: &str, tenant: &str, secret: &str) -> Error {
    let client = ConfidentialClient::builder(client_id)
        .authority(local.authority(tenant))
        .client_secret(secret)
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap_err()
}

#[tokio::test]
async fn rejections_use_entras_codes_and_texts() {
    let local = authority().await;
    for (client_id, tenant, secret, status, error, code, text) in [
        (
            CLIENT_ID,
            TENANT,
            "wrong",
            401,
            "invalid_client",
            7000215,
            "AADSTS7000215: Invalid client secret",
        ),
        (
            CLIENT_ID,
            TENANT,
            &SECRET[1..],
            401,
            "invalid_client",
            7000215,
            "AADSTS7000215",
        ),
        (
            "another",
            TENANT,
            SECRET,
            400,
            "unauthorized_client",
            700016,
            "AADSTS700016: Application with identifier 'another'",
        ),
        (
            CLIENT_ID,
            "fabrikam.com",
            SECRET,
            400,
            "invalid_request",
            90002,
            "AADSTS90002: Tenant 'fabrikam.com' not found",
        ),
    ] {
        let refused = refusal(&local, client_id, tenant, secret).await;
        let Error::Server(server) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(server.status(), status);
        assert_eq!(server.error(), error);
        assert_eq!(server.error_codes(), [code]);
        let description = server.error_description().unwrap();
        assert!(description.starts_with(text), "{description}");
        assert!(server.help().is_some());
        assert!(server.trace_id().is_some());
        assert!(server.timestamp().unwrap().ends_with('Z'));
        assert_eq!(refused.is_credential_rejected(), status == 401);
    }
}

#[tokio::test]
async fn it_refuses_a_certificate_it_does_not_know() {
    let local = authority().await;
    let known = Certificate::from_pem(self_signed_certificate("known").unwrap()).unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).certificate(&known));
    let client = |certificate: &Certificate| {
        client_of(&local)
            .certificate(certificate.clone())
            .build()
            .unwrap()
    };
    client(&known)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();

    let unknown = Certificate::from_pem(&*PEM).unwrap();
    let error = client(&unknown)
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    let Error::Server(server) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(server.error_codes(), [700027]);
    assert!(
        server
            .error_description()
            .unwrap()
            .contains("The key was not found.")
    );
    assert!(error.is_credential_rejected());
}

/// What no client of ours would send, so it is sent by hand.
#[tokio::test]
async fn it_checks_every_part_of_a_request() {
    let local = authority().await;
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    local.register(
        "certified.example",
        Application::new(CLIENT_ID).certificate(&certificate),
    );
    let post = async |tenant: &str, form: &[(&str, &str)]| {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let url = format!("{}/{tenant}/oauth2/v2.0/token", local.base_url());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = http
            .post(url)
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(body.finish())
            .send()
            .await
            .unwrap();
        let status = sent.status().as_u16();
        let answer: Value = sent.json().await.unwrap();
        (status, answer["error_codes"][0].as_u64())
    };
    let id = ("client_id", CLIENT_ID);
    let secret = ("client_secret", SECRET);
    let grant = ("grant_type", "client_credentials");
    let scope = ("scope", SCOPE);
    for (form, expected) in [
        (&[id, secret, grant, scope][..], (200, None)),
        (&[id, secret, scope], (400, Some(900144))),
        (&[secret, grant, scope], (400, Some(900144))),
        (&[id, secret, grant], (400, Some(900144))),
        (
            &[id, secret, ("grant_type", "password"), scope],
            (400, Some(70003)),
        ),
        (&[id, grant, scope], (401, Some(7000216))),
        (
            &[id, secret, grant, ("scope", "User.Read")],
            (400, Some(1002012)),
        ),
        (
            &[id, secret, grant, ("scope", "/.default")],
            (400, Some(70011)),
        ),
        (
            &[id, secret, grant, ("scope", "a/.default b/.default")],
            (400, Some(70011)),
        ),
    ] {
        assert_eq!(post(TENANT, form).await, expected, "{form:?}");
    }

    let endpoint = format!("{}/certified.example/oauth2/v2.0/token", local.base_url());
    let thumbprint = thumbprint();
    let now = jsonwebtoken::get_current_timestamp();
    let good = serde_json::json!({
        "aud": endpoint, "iss": CLIENT_ID, "sub": CLIENT_ID,
        "nbf": now, "exp": now + 600, "jti": "1",
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let other_key = self_signed_certificate("other").unwrap();
    for (name, algorithm, pem, claims, expected) in [
        ("good", Algorithm::PS256, &*PEM, good.clone(), (200, None)),
        ("RS256", Algorithm::RS256, &*PEM, good.clone(), (200, None)),
        (
            "another key",
            Algorithm::PS256,
            &other_key,
            good.clone(),
            (401, Some(700027)),
        ),
        (
            "audience",
            Algorithm::PS256,
            &*PEM,
            with("aud", "https://x".into()),
            (401, Some(50027)),
        ),
        (
            "issuer",
            Algorithm::PS256,
            &*PEM,
            with("iss", "x".into()),
            (401, Some(700021)),
        ),
        (
            "subject",
            Algorithm::PS256,
            &*PEM,
            with("sub", "x".into()),
            (401, Some(700021)),
        ),
        (
            "expired",
            Algorithm::PS256,
            &*PEM,
            with("exp", (now - 301).into()),
            (401, Some(700024)),
        ),
        (
            "not yet",
            Algorithm::PS256,
            &*PEM,
            with("nbf", (now + 330).into()),
            (401, Some(700024)),
        ),
        (
            "PS384",
            Algorithm::PS384,
            &*PEM,
            good.clone(),
            (401, Some(50027)),
        ),
    ] {
        let mut header = jsonwebtoken::Header::new(algorithm);
        header.x5t_s256 = Some(thumbprint.clone());
        let key = &pem[pem.find("-----BEGIN PRIVATE").unwrap()..];
        let key = jsonwebtoken::EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
        let assertion = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let jwt_bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = [
            id,
            ("client_assertion_type", jwt_bearer),
            ("client_assertion", &assertion),
            grant,
            scope,
        ];
        assert_eq!(post("certified.example", &form).await, expected, "{name}");
    }
    let sent = |kind: &'static str| {
        [
            id,
            ("client_assertion_type", kind),
            ("client_assertion", "a.b.c"),
            grant,
            scope,
        ]
    };
    let other_type = sent("urn:ietf:params:oauth:client-assertion-type:saml2-bearer");
    let refused = post("certified.example", &other_type).await;
    assert_eq!(refused, (401, Some(7000216)));
    for garbage in ["", "a", "a.b", "a.b.c"] {
        let form = [
            id,
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", garbage),
            grant,
            scope,
        ];
        assert_eq!(
            post("certified.example", &form).await,
            (401, Some(50027)),
            "{garbage:?}"
        );
    }
}

/// One row for each decision about a token that vouches for an application.
#[tokio::test]
async fn a_federated_assertion_is_checked() {
    const EXCHANGE: &str = "api://AzureADTokenExchange";
    let local = LocalAuthority::start().await.unwrap();
    let platform = Application::new("platform").secret(SECRET);
    let subject = platform.subject();
    local.register("platform.example", platform);
    let issuer = local.issuer("platform.example").unwrap();

    let platform = ConfidentialClient::builder("platform")
        .authority(local.authority("platform.example"))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let exchange = format!("{EXCHANGE}/.default");
    let token = platform.acquire_token_for_client(exchange).await.unwrap();
    let good = token.secret().to_owned();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other_signature = match signature.strip_prefix('A') {
        Some(rest) => format!("{message}.B{rest}"),
        None => format!("{message}.A{}", &signature[1..]),
    };
    let (header, claims) = message.split_once('.').unwrap();
    let other_claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let other_claims = String::from_utf8(other_claims).unwrap();
    let other_claims = BASE64_URL_SAFE_NO_PAD.encode(other_claims.replace("platform", "another"));
    let other_claims = format!("{header}.{other_claims}.{signature}");

    let refused = async |accepts: &[(&str, &str, &str)], token: &str| {
        let mut daemon = Application::new(CLIENT_ID);
        for (issuer, subject, audience) in accepts {
            daemon = daemon.federated_credential(*issuer, *subject, *audience);
        }
        local.register(TENANT, daemon);
        let token = token.to_owned();
        let client = client_of(&local)
            .client_assertion(move |_| std::future::ready(Ok(token.clone())))
            .build()
            .unwrap();
        match client.acquire_token_for_client(SCOPE).await {
            Ok(_) => None,
            Err(Error::Server(server)) => {
                assert_eq!(server.status(), 401);
                assert_eq!(server.error(), "invalid_client");
                Some(server.error_codes()[0])
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    let (issuer, subject) = (issuer.as_str(), subject.as_str());
    let matching = (issuer, subject, EXCHANGE);
    let elsewhere = ("https://elsewhere", subject, EXCHANGE);
    let somebody = (issuer, "somebody", EXCHANGE);
    let something = (issuer, subject, "api://something");
    for (name, accepts, token, code) in [
        ("good", &[matching][..], good.as_str(), None),
        (
            "one of them",
            &[elsewhere, somebody, something, matching],
            &good,
            None,
        ),
        ("none", &[], &good, Some(700211)),
        ("issuer", &[elsewhere], &good, Some(700211)),
        ("subject", &[somebody], &good, Some(700213)),
        (
            "its case",
            &[(issuer, &subject.to_uppercase(), EXCHANGE)],
            &good,
            Some(700213),
        ),
        ("audience", &[something], &good, Some(700212)),
        ("parts of two", &[somebody, something], &good, Some(700212)),
        ("signature", &[matching], &other_signature, Some(7000274)),
        ("claims", &[matching], &other_claims, Some(7000274)),
        ("no token", &[matching], "a.b.c", Some(50027)),
    ] {
        assert_eq!(refused(accepts, token).await, code, "{name}");
    }

    local.roll_key().unwrap();
    assert_eq!(refused(&[matching], &good).await, None);
    local.retire_old_keys();
    assert_eq!(refused(&[matching], &good).await, Some(7000274));
}

fn thumbprint() -> String {
    let hexadecimal = Certificate::from_pem(&*PEM).unwrap().thumbprint_sha256();
    let bytes = (0..hexadecimal.len()).step_by(2);
    let bytes: Result<Vec<u8>, _> = bytes
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16))
        .collect();
    BASE64_URL_SAFE_NO_PAD.encode(bytes.unwrap())
}

#[tokio::test]
async fn it_knows_a_certificate_by_either_thumbprint() {
    let local = LocalAuthority::start().await.unwrap();
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    local.register(
        TENANT,
        Application::new(CLIENT_ID).certificate(&certificate),
    );
    for certificate in [
        certificate.clone(),
        certificate
            .clone()
            .signing_algorithm(SigningAlgorithm::RS256),
        certificate.send_x5c(),
    ] {
        let client = client_of(&local).certificate(certificate).build().unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
    }
    let requests = local.token_requests();
    let header = |request: usize| header_of(requests[request].field("client_assertion").unwrap());
    assert_eq!(header(1)["alg"], "RS256");
    assert!(header(1)["x5t"].is_string() && header(0)["x5t"].is_null());
    assert_eq!(header(2)["x5c"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn it_refuses_a_registered_certificate_that_has_expired() {
    let local = LocalAuthority::start().await.unwrap();
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let (key, mut params) = (key.unwrap(), rcgen::CertificateParams::default());
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let expired = params.self_signed(&key).unwrap().pem();
    let expired = Certificate::from_pem_pair(expired, key.serialize_pem()).unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).certificate(&expired));
    // A client whose clock went back to when the certificate was valid.
    let clock = ManualClock::new();
    clock.turn_wall_back(Duration::from_secs(8 * 365 * 24 * 60 * 60));
    let client = client_of(&local)
        .certificate(expired)
        .clock(clock)
        .build()
        .unwrap();
    match client.acquire_token_for_client(SCOPE).await {
        Err(Error::Server(server)) => assert_eq!(server.error_codes(), [1000502]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn its_tokens_have_the_claims_of_an_applications() {
    let local = authority().await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();

    let keys_url = format!("{}/{TENANT}/discovery/v2.0/keys", local.base_url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let keys: JwkSet = http
        .get(keys_url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let header = decode_header(token.secret()).unwrap();
    assert_eq!(header.alg, Algorithm::RS256);
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["https://graph.microsoft.com"]);
    validation.set_issuer(&[local.issuer(TENANT).unwrap()]);
    validation.validate_nbf = true;
    validation.required_spec_claims = HashSet::from(["aud", "exp", "iss", "nbf"].map(String::from));
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims: Value = decode(token.secret(), &key, &validation).unwrap().claims;
    assert_eq!(claims["azp"], CLIENT_ID);
    assert_eq!(claims["ver"], "2.0");
    assert_eq!(
        claims["roles"],
        serde_json::json!(["User.Read.All", "Group.Read.All"])
    );
    assert_eq!(claims["oid"], claims["sub"]);
    uuid::Uuid::try_parse(claims["oid"].as_str().unwrap()).unwrap();
    let tid = claims["tid"].as_str().unwrap();
    assert_eq!(claims["iss"], format!("{}/{tid}/v2.0", local.base_url()));
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 3599);

    let by_id = TokenRequest::new(SCOPE).tenant(tid);
    client
        .acquire_token_for_client(by_id)
        .await
        .expect("a tenant answers to its id");
}

/// Tokens of an older key are good until that key is retired.
#[tokio::test]
async fn its_keys_roll_over() {
    let local = authority().await;
    let token = async || {
        let client = client_of(&local).client_secret(SECRET).build().unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap()
    };
    let is_good = |token: &AccessToken| {
        let keys: JwkSet = serde_json::from_str(&local.keys()).unwrap();
        let id = decode_header(token.secret()).unwrap().kid.unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["https://graph.microsoft.com"]);
        keys.find(&id).is_some_and(|key| {
            let key = DecodingKey::from_jwk(key).unwrap();
            decode::<Value>(token.secret(), &key, &validation).is_ok()
        })
    };
    let first = token().await;
    local.roll_key().unwrap();
    let second = token().await;
    assert!(is_good(&first) && is_good(&second));
    local.retire_old_keys();
    assert!(!is_good(&first) && is_good(&second));
}

/// `client_secret_basic`, which this client does not send and others do.
#[tokio::test]
async fn it_takes_a_secret_in_the_authorization_header() {
    let local = authority().await;
    local.register(TENANT, Application::new("a:b").secret("p%/ w+ü"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (user, password, status) in [
        ("a%3Ab", "p%25%2F+w%2B%C3%BC", 200),
        ("a%3Ab", "p%25%2F+w%2B", 401),
        ("another", "p%25%2F+w%2B%C3%BC", 400),
        ("a%3Ab", "p%25%2F+w%2B%C3%BC&more", 401),
        ("A%3AB", "p%25%2F+w%2B%C3%BC", 200),
    ] {
        let url = format!("{}/{TENANT}/oauth2/v2.0/token", local.base_url());
        let form = format!("grant_type=client_credentials&scope={SCOPE}");
        let sent = http
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .basic_auth(user, Some(password))
            .body(form);
        assert_eq!(
            sent.send().await.unwrap().status().as_u16(),
            status,
            "{user}"
        );
    }
}

/// An answer that was under way is not given after the end.
#[tokio::test]
async fn a_request_in_flight_fails_after_the_drop() {
    let local = authority().await;
    local.script([Fault::delayed(Duration::from_millis(200))]);
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
    assert!(poll_once(&mut caller).is_pending());
    while local.token_requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(local);
    let error = caller.await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
}

#[tokio::test]
async fn the_server_stops_after_the_drop() {
    let local = authority().await;
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let url = local.base_url().to_owned();
    drop(local);
    // Its last connection may still be closing; a new scope makes a new request.
    let mut attempts = 0..;
    let error = loop {
        let scope = format!("api://{}/.default", attempts.next().unwrap());
        if let Err(error) = client.acquire_token_for_client(scope).await {
            break error;
        }
    };
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let source = std::error::Error::source(&error).expect("the cause is in the chain");
    assert!(error.to_string().contains(&url), "{error}");
    assert!(
        !source.to_string().contains(&url),
        "the URL is said once: {source}"
    );
}
