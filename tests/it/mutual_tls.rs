//! Client authentication by the certificate of the connection, and certificate-bound tokens
//! (RFC 8705), over real TLS.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::credential::TokenEndpointAuthMethod;
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::testing::{
    Application, LocalAuthority, ProtectedApi, ProviderRules, RecordedRequest,
    self_signed_certificate,
};
use confidential_client::transport::MutualTls;
use confidential_client::{
    AccessToken, Authority, Certificate, Cloud, ConfidentialClient, ConfidentialClientBuilder,
    Error, RetryPolicy,
};
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::client_ca::ClientCa;
use crate::support::mutual_tls_server::MutualTlsServer;
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, claims_of, log_capture};

const API: &str = "https://graph.microsoft.com";

async fn started(application: Application) -> LocalAuthority {
    log_capture::start();
    let local = LocalAuthority::builder()
        .mutual_tls()
        .start()
        .await
        .unwrap();
    local.register(TENANT, application);
    local
}

/// The issuer of an OpenID provider, whose metadata has the alias.
fn oidc(local: &LocalAuthority) -> Authority {
    Authority::oidc(local.issuer(TENANT).unwrap())
}

fn builder(local: &LocalAuthority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(oidc(local))
        .retry(RetryPolicy::none())
}

fn trusting(local: &LocalAuthority, certificate: impl Into<MutualTls>) -> MutualTls {
    certificate
        .into()
        .trusted_roots_pem(local.ca_pem().unwrap())
}

fn only_request(local: &LocalAuthority) -> RecordedRequest {
    let requests = local.token_requests();
    assert_eq!(requests.len(), 1);
    requests[0].clone()
}

fn thumbprint_in(token: &AccessToken) -> String {
    let claims = claims_of(token.secret());
    claims["cnf"]["x5t#S256"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn x5t_s256(certificate: &Certificate) -> String {
    let hex = certificate.thumbprint_sha256();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Calls an API as the docs of `MutualTls` say.
async fn call(mutual_tls: &MutualTls, token: &AccessToken, api: &ProtectedApi) -> (u16, Value) {
    let http = mutual_tls.client_for(token).await.unwrap();
    let request = http.get(api.base_url());
    let request = request.header(AUTHORIZATION, token.authorization_header());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn each_method_and_each_kind_of_key_authenticates_and_binds_the_token() {
    let ca = ClientCa::new();
    let self_signed = Certificate::from_pem(self_signed_certificate(CLIENT_ID).unwrap()).unwrap();
    let (p256, rsa) = (
        ca.issue("daemon.example").parsed(),
        ca.issue_rsa("daemon.example").parsed(),
    );
    let application = || Application::new(CLIENT_ID);
    let by_subject = || application().tls_client_auth(ca.pem(), "CN=daemon.example");
    let by_dns_name = || application().tls_client_auth_san_dns(ca.pem(), "daemon.example");
    type Configure = fn(ConfidentialClientBuilder, MutualTls) -> ConfidentialClientBuilder;
    let tls_client_auth: Configure = |builder, tls| builder.tls_client_auth(tls);
    let itself: Configure = |builder, tls| builder.self_signed_tls_client_auth(tls);
    let bound: Configure = |builder, tls| {
        let builder = builder.client_secret(SECRET);
        builder.certificate_bound_tokens(tls)
    };
    for (name, certificate, application, configure, has_secret) in [
        (
            "subject, P-256",
            &p256,
            by_subject(),
            tls_client_auth,
            false,
        ),
        ("subject, RSA", &rsa, by_subject(), tls_client_auth, false),
        ("DNS name", &p256, by_dns_name(), tls_client_auth, false),
        (
            "self-signed",
            &self_signed,
            application().self_signed_tls_client_auth(&self_signed),
            itself,
            false,
        ),
        ("secret", &p256, application().secret(SECRET), bound, true),
    ] {
        let local = started(application).await;
        let api = local.protected_api(API).await.unwrap();
        let mutual_tls = trusting(&local, certificate.clone());
        let client = configure(builder(&local), mutual_tls.clone())
            .build()
            .unwrap();
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();

        let request = only_request(&local);
        assert_eq!(request.field("client_id"), Some(CLIENT_ID), "{name}");
        assert_eq!(
            request.field("client_secret").is_some(),
            has_secret,
            "{name}"
        );
        for absent in ["client_assertion", "client_assertion_type"] {
            assert_eq!(request.field(absent), None, "{name}");
        }
        assert_eq!(request.header("authorization"), None, "{name}");
        let presented = request.client_certificate_sha256();
        assert_eq!(presented, Some(certificate.thumbprint_sha256()), "{name}");
        assert_eq!(thumbprint_in(&token), x5t_s256(certificate), "{name}");

        let (status, body) = call(&mutual_tls, &token, &api).await;
        assert_eq!(status, 200, "{name}: {body}");
        assert_eq!(body["x5t#S256"], x5t_s256(certificate), "{name}");
    }
}

#[tokio::test]
async fn an_unaccepted_certificate_is_rejected_and_named() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let right = ca.issue("daemon.example");
    let other_ca = ClientCa::new().issue("daemon.example").parsed();
    let other_subject = ca.issue("other.example").parsed();
    for (name, certificate, accepted) in [
        ("wrong CA", other_ca, false),
        ("other subject", other_subject, false),
        ("right", right.parsed(), true),
    ] {
        let client = builder(&local)
            .tls_client_auth(trusting(&local, certificate))
            .build()
            .unwrap();
        let result = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(result.is_ok(), accepted, "{name}: {result:?}");
        if let Err(error) = result {
            assert!(error.is_credential_rejected(), "{name}: {error:?}");
            assert!(
                error.to_string().contains("client certificate"),
                "{name}: {error}"
            );
        }
    }
    // No certificate at all, with another credential.
    let client = builder(&local)
        .client_secret(SECRET)
        .reqwest(reqwest::Client::builder().tls_certs_merge([
            reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap(),
        ]))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(error.is_credential_rejected(), "{error:?}");
}

#[tokio::test]
async fn a_bound_token_is_worthless_over_another_connection() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let api = local.protected_api(API).await.unwrap();
    let mutual_tls = trusting(&local, ca.issue("daemon.example").parsed());
    let client = builder(&local)
        .tls_client_auth(mutual_tls.clone())
        .build()
        .unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();

    let roots = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes()).unwrap();
    let without = reqwest::Client::builder()
        .tls_certs_only([roots])
        .build()
        .unwrap();
    let request = without.get(api.base_url());
    let request = request.header(AUTHORIZATION, token.authorization_header());
    assert_eq!(request.send().await.unwrap().status(), 401);

    let other = trusting(&local, ca.issue("daemon.example").parsed());
    let error = other.client_for(&token).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains(&thumbprint_in(&token)),
        "{error}"
    );

    assert_eq!(call(&mutual_tls, &token, &api).await.0, 200);
}

#[tokio::test]
async fn a_bearer_token_has_no_client_of_a_certificate() {
    let ca = ClientCa::new();
    let local = LocalAuthority::start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .client_secret(SECRET)
        .build()
        .unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let mutual_tls = MutualTls::from(ca.issue("daemon.example").parsed());
    let error = mutual_tls.client_for(&token).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error.to_string().contains("not bound to a certificate"),
        "{error}"
    );
}

/// The metadata and the keys are public, and the certificate names the client.
#[tokio::test]
async fn the_alias_wins_and_only_token_requests_carry_the_certificate() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let mutual_tls = trusting(&local, ca.issue("daemon.example").parsed());
    let client = builder(&local).tls_client_auth(mutual_tls).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let base = local.base_url();
    let host = only_request(&local).header("host").unwrap().to_owned();
    assert!(!base.ends_with(&host), "{host} is not the alias");
    assert!(base.starts_with("https://127.0.0.1:") && host.starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn an_expired_certificate_is_an_error_before_the_network() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let expired = ca.issue_expired("daemon.example").parsed();
    let result = builder(&local)
        .tls_client_auth(trusting(&local, expired.clone()))
        .build();
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains("'CN=daemon.example' expired on"),
        "{error}"
    );

    let source = MutualTls::from_source(move || {
        let expired = expired.clone();
        async move { Ok(expired) }
    });
    let client = builder(&local)
        .tls_client_auth(trusting(&local, source))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(error.to_string().contains("expired on"), "{error}");
    assert_eq!(local.token_requests().len(), 0);
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let certificate = || ClientCa::new().issue("daemon.example").parsed();
    let builder =
        || ConfidentialClient::builder(CLIENT_ID).authority(Authority::oidc("https://id.example"));
    let in_memory = |_: http::Request<bytes::Bytes>| async { Err("unused".into()) };
    let entra = || Authority::entra(Cloud::Public, TENANT);
    for (name, builder, reason) in [
        (
            "transport",
            builder()
                .tls_client_auth(certificate())
                .transport(in_memory),
            "a custom transport is set",
        ),
        (
            "reqwest",
            builder()
                .tls_client_auth(certificate())
                .reqwest(reqwest::Client::builder()),
            "MutualTls::reqwest(..)",
        ),
        (
            "Entra",
            builder().tls_client_auth(certificate()).authority(entra()),
            "Microsoft Entra ID does not accept tls_client_auth",
        ),
        (
            "bound tokens of Entra",
            builder()
                .client_secret(SECRET)
                .certificate_bound_tokens(certificate())
                .authority(entra()),
            "Microsoft Entra ID does not bind tokens",
        ),
        (
            "two certificates",
            builder()
                .tls_client_auth(certificate())
                .certificate_bound_tokens(certificate()),
            "2 client certificates",
        ),
        (
            "two credentials",
            builder()
                .tls_client_auth(certificate())
                .client_secret(SECRET),
            "2 credentials",
        ),
        (
            "the method of a secret",
            builder()
                .client_secret(SECRET)
                .token_endpoint_auth_method(TokenEndpointAuthMethod::TlsClientAuth),
            "call tls_client_auth(..)",
        ),
        (
            "another method",
            builder()
                .tls_client_auth(certificate())
                .token_endpoint_auth_method(TokenEndpointAuthMethod::SelfSignedTlsClientAuth),
            "call self_signed_tls_client_auth(..)",
        ),
        (
            "an assertion",
            builder()
                .tls_client_auth(certificate())
                .token_endpoint_auth_method(TokenEndpointAuthMethod::PrivateKeyJwt),
            "private_key_jwt sends an assertion",
        ),
        (
            "no CA certificate",
            builder().tls_client_auth(
                MutualTls::from(certificate()).trusted_roots_pem("-----BEGIN PRIVATE KEY-----"),
            ),
            "MutualTls::trusted_roots_pem(..)",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_provider_that_announces_no_such_method_is_an_error_before_the_token_request() {
    let ca = ClientCa::new();
    let local = LocalAuthority::builder().tls().start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    let certificate = || trusting(&local, ca.issue("daemon.example").parsed());
    for (builder, reason) in [
        (
            builder(&local).tls_client_auth(certificate()),
            "does not accept tls_client_auth: its token_endpoint_auth_methods_supported lists neither",
        ),
        (
            builder(&local)
                .client_secret(SECRET)
                .certificate_bound_tokens(certificate()),
            "does not bind tokens to client certificates",
        ),
    ] {
        let client = builder.build().unwrap();
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(local.token_requests().len(), 0);
}

/// A server of each version of TLS, which requires a certificate of its CA.
#[tokio::test]
async fn each_version_of_tls_sees_the_certificate_and_rejects_that_of_another_ca() {
    let ca = ClientCa::new();
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let server = MutualTlsServer::start(&ca.pem(), version).await;
        let client = |certificate: Certificate| {
            let authority = Authority::oidc("https://id.example");
            ConfidentialClient::builder(CLIENT_ID)
                .authority(authority.token_endpoint(&server.token_endpoint))
                .tls_client_auth(MutualTls::from(certificate).trusted_roots_pem(&server.ca_pem))
                .retry(RetryPolicy::none())
                .build()
                .unwrap()
        };
        for certificate in [ca.issue("p256.example"), ca.issue_rsa("rsa.example")] {
            let certificate = certificate.parsed();
            let token = client(certificate.clone())
                .acquire_token_for_client("s")
                .await
                .unwrap();
            let expected = format!("{}-{name}", certificate.thumbprint_sha256());
            assert_eq!(token.secret(), expected);
        }
        for other_ca in [ClientCa::new(), ClientCa::named("Others")] {
            let other = client(other_ca.issue("other.example").parsed());
            let error = other.acquire_token_for_client("s").await.unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
            let text = error.chain().to_string();
            assert!(
                !error.is_transient() && error.is_credential_rejected(),
                "{text}"
            );
            let expected = "rejected the client certificate of 'CN=other.example'";
            assert!(text.contains(expected), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn a_server_that_the_roots_do_not_trust_is_named_with_the_setting() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let certificate = ca.issue("daemon.example").parsed();
    let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(ca.pem());
    let client = builder(&local).tls_client_auth(mutual_tls).build().unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    let text = error.chain().to_string();
    assert!(text.contains("MutualTls::trusted_roots_pem(..)"), "{text}");
}

/// No API accepts the token of a certificate that has expired.
#[tokio::test]
async fn a_bound_token_does_not_outlive_its_certificate() {
    let ca = ClientCa::new();
    let application = Application::new(CLIENT_ID).tls_client_auth(ca.pem(), "CN=daemon.example");
    let local = started(application).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(600);
    let issued = ca.issue_with("daemon.example", key, |params| {
        params.not_after = soon.into()
    });
    let certificate = issued.parsed();
    let mutual_tls = trusting(&local, certificate.clone());
    let client = builder(&local).tls_client_auth(mutual_tls).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert!(token.expires_on() <= certificate.not_after());
}

/// A pushed authorization request authenticates the client, too (RFC 9126 section 2).
#[tokio::test]
async fn a_pushed_request_goes_to_its_alias_with_the_certificate() {
    let ca = ClientCa::new();
    let rules = ProviderRules::openid().require_pushed_requests();
    let builder_of_local = LocalAuthority::builder().rules(rules).mutual_tls();
    let local = builder_of_local.start().await.unwrap();
    let back = "https://app.example/back";
    let application = Application::new(CLIENT_ID)
        .tls_client_auth(ca.pem(), "CN=daemon.example")
        .redirect_uri(back);
    local.register(TENANT, application);
    let certificate = ca.issue("daemon.example").parsed();
    let mutual_tls = trusting(&local, certificate.clone());
    let client = builder(&local).tls_client_auth(mutual_tls).build().unwrap();
    let request = AuthorizationRequest::new(back, "api://drive/Files.Read");
    client.authorization_request_url(&request).await.unwrap();
    let pushed = &local.pushed_requests()[0];
    let presented = pushed.client_certificate_sha256();
    assert_eq!(presented, Some(certificate.thumbprint_sha256()));
    assert!(!local.base_url().ends_with(pushed.header("host").unwrap()));
}

#[tokio::test]
async fn no_certificate_is_presented_without_tls() {
    let certificate = ClientCa::new().issue("daemon.example").parsed();
    let authority = Authority::oidc("https://id.example");
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(authority.token_endpoint("http://127.0.0.1:1/token"))
        .tls_client_auth(certificate)
        .build()
        .unwrap();
    let error = client.acquire_token_for_client("s").await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("http://127.0.0.1:1/token is not https"),
        "{error}"
    );
}
