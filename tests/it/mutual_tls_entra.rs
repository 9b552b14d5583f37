//! Entra's preview of certificate-bound tokens (`mtls_pop`).

use std::net::SocketAddr;

use azure_core::credentials::TokenCredential;
use confidential_client::adapter::AzureCredential;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::transport::MutualTls;
use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, Error, RetryPolicy, TokenScheme,
};
use http::HeaderMap;

use crate::support::client_ca::ClientCa;
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT, claims_of, log_capture};

const API: &str = "https://graph.microsoft.com";

fn certificate() -> Certificate {
    ClientCa::new().issue("daemon.example").parsed()
}

/// Starts an authority under a host name that begins with `login.`, as Entra's.
async fn started(application: Application) -> LocalAuthority {
    log_capture::start();
    let builder = LocalAuthority::builder().host("login.example");
    let local = builder.mutual_tls().start().await.unwrap();
    local.register(TENANT, application);
    local
}

fn client(local: &LocalAuthority, certificate: Certificate) -> (ConfidentialClient, MutualTls) {
    let address: SocketAddr = {
        let port = local.base_url().rsplit(':').next().unwrap();
        format!("127.0.0.1:{port}").parse().unwrap()
    };
    let mutual_tls = MutualTls::from(certificate)
        .trusted_roots_pem(local.ca_pem().unwrap())
        .reqwest(move || {
            reqwest::Client::builder()
                .no_proxy()
                .resolve("mtlsauth.example", address)
        });
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .entra_mtls_pop_preview(mutual_tls.clone())
        .retry(RetryPolicy::none())
        .build();
    (client.unwrap(), mutual_tls)
}

#[tokio::test]
async fn the_token_has_the_scheme_and_the_certificate() {
    let certificate = certificate();
    let application = Application::new(CLIENT_ID).entra_mtls_pop_preview(&certificate);
    let local = started(application).await;
    let api = local.protected_api(API).await.unwrap();
    let (client, mutual_tls) = client(&local, certificate.clone());
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(token.scheme(), TokenScheme::MtlsPop);
    assert!(claims_of(token.secret())["cnf"]["x5t#S256"].is_string());

    let request = &local.token_requests()[0];
    assert!(
        request
            .header("host")
            .unwrap()
            .starts_with("mtlsauth.example:")
    );
    let presented = request.client_certificate_sha256();
    assert_eq!(presented, Some(certificate.thumbprint_sha256()));
    let form: Vec<_> = request
        .form()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        form,
        [
            "client_id",
            "scope",
            "grant_type",
            "token_type",
            "client_info"
        ]
    );
    assert_eq!(request.field("token_type"), Some("mtls_pop"));

    let provider = client.token_provider(SCOPE).unwrap();
    let mut headers = HeaderMap::new();
    provider.authorize(&mut headers).await.unwrap();
    let expected = format!("mtls_pop {}", token.secret());
    assert_eq!(headers["authorization"], expected);
    let http = mutual_tls.client_for(&token).await.unwrap();
    let response = http
        .get(api.base_url())
        .headers(headers)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn an_application_that_is_not_enabled_and_another_certificate_are_rejected() {
    let registered = certificate();
    for (application, presented, code) in [
        (
            Application::new(CLIENT_ID).secret(SECRET),
            registered.clone(),
            51000,
        ),
        (
            Application::new(CLIENT_ID).entra_mtls_pop_preview(&registered),
            certificate(),
            700027,
        ),
    ] {
        let local = started(application).await;
        let (client, _) = client(&local, presented);
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error_codes(), [code], "{error}");
    }
}

#[test]
fn hosts_and_tenants_without_the_preview_are_errors_of_build() {
    let host = |host: &str| Authority::entra(Cloud::Custom(host.to_owned()), TENANT);
    for (authority, reason) in [
        (
            host("login.usgovcloudapi.net"),
            "'login.usgovcloudapi.net' has no preview",
        ),
        (
            host("login.chinacloudapi.cn"),
            "'login.chinacloudapi.cn' has no preview",
        ),
        (
            host("id.contoso.example"),
            "'id.contoso.example' has no preview",
        ),
        (
            Authority::entra(Cloud::Public, "organizations"),
            "cannot get a token in 'organizations'",
        ),
        (
            Authority::external_id("login.contoso.com", TENANT),
            "which Authority::entra(..) alone has",
        ),
        (
            Authority::adfs("login.contoso.com"),
            "which Authority::entra(..) alone has",
        ),
        (
            Authority::oidc("https://login.contoso.com"),
            "use tls_client_auth(..)",
        ),
    ] {
        let builder = ConfidentialClient::builder(CLIENT_ID).authority(authority);
        let error = builder
            .entra_mtls_pop_preview(certificate())
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// The SDK would send the token with the scheme `Bearer`.
#[tokio::test]
async fn the_azure_sdk_gets_no_token_of_the_preview() {
    let certificate = certificate();
    let application = Application::new(CLIENT_ID).entra_mtls_pop_preview(&certificate);
    let local = started(application).await;
    let (client, _) = client(&local, certificate);
    let credential = AzureCredential::new(client);
    let error = credential.get_token(&[SCOPE], None).await.unwrap_err();
    assert!(error.to_string().contains("mtls_pop"), "{error}");
    assert!(local.token_requests().is_empty());
}
