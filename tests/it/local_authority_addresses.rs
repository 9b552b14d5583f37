//! A `LocalAuthority` beyond loopback, and http by name, which nobody gets without asking.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, LocalAuthority, LocalAuthorityBuilder};
use confidential_client::{Authority, Cloud, ConfidentialClient, Error, RetryPolicy};
use url::Url;

use crate::support::log_capture::{self, Log};
use crate::support::{CLIENT_ID, SCOPE, SECRET, TENANT};

async fn started(builder: LocalAuthorityBuilder) -> LocalAuthority {
    log_capture::start();
    let local = builder.start().await.unwrap();
    local.register(TENANT, Application::new(CLIENT_ID).secret(SECRET));
    local
}

/// A builder that resolves the name as the containers' network does.
fn resolving(local: &LocalAuthority) -> reqwest::ClientBuilder {
    let url = Url::parse(local.base_url()).unwrap();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), url.port().unwrap());
    reqwest::Client::builder().resolve(url.host_str().unwrap(), address)
}

fn build(authority: Authority, http: reqwest::ClientBuilder) -> Result<ConfidentialClient, Error> {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .reqwest(http)
        .build()
}

#[tokio::test]
async fn a_name_that_the_caller_allowed_is_reached_by_http() {
    let log = Log::start();
    let builder = LocalAuthority::builder().bind(Ipv4Addr::UNSPECIFIED);
    let local = started(builder.host("identity")).await;
    assert!(local.base_url().starts_with("http://identity:"));
    // In this process the authority comes from the server, and in another from its URL.
    let from_url = Cloud::Custom(local.base_url().to_owned());
    for authority in [
        local.authority(TENANT),
        Authority::entra(from_url, TENANT).allow_insecure_http(),
    ] {
        let client = build(authority.clone(), resolving(&local)).unwrap();
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        let validator = TokenValidator::builder(authority)
            .audience("https://graph.microsoft.com")
            .single_tenant()
            .reqwest(resolving(&local))
            .build()
            .unwrap();
        validator.validate(token.secret()).await.unwrap();
    }
    let log = log.text();
    assert!(
        log.contains("allow_insecure_http() for tests only"),
        "{log}"
    );
}

/// Each row would send a secret in the clear.
#[test]
fn nobody_sends_a_credential_by_http_to_a_name_without_the_call() {
    let custom = |url: &str| Authority::entra(Cloud::Custom(url.to_owned()), TENANT);
    for authority in [
        custom("http://identity:8080"),
        custom("http://identity:8080").without_instance_discovery(),
        custom("http://localhost:8080"),
        custom("http://172.17.0.2:8080"),
        Authority::external_id("http://identity", TENANT),
        Authority::b2c("http://identity", TENANT, "B2C_1_a"),
        Authority::adfs("http://identity"),
        Authority::oidc("http://identity/realms/a"),
        Authority::parse("http://identity/realms/a"),
        // Too late: a URL that cannot be parsed names no host.
        Authority::parse("http://identity/realms/a").allow_insecure_http(),
        Authority::oidc("https://id.example.org").token_endpoint("http://identity/token"),
        // The call is for the authority's own host.
        Authority::oidc("https://id.example.org")
            .token_endpoint("http://identity/token")
            .allow_insecure_http(),
        // Nothing makes Microsoft's hosts http.
        custom("http://login.microsoftonline.com").allow_insecure_http(),
        custom("http://login.windows.net").allow_insecure_http(),
        Authority::external_id("http://contoso.ciamlogin.com", TENANT).allow_insecure_http(),
        Authority::b2c("http://contoso.b2clogin.com", TENANT, "B2C_1_a").allow_insecure_http(),
        // Other schemes stay what they are.
        custom("ftp://identity").allow_insecure_http(),
    ] {
        let shown = format!("{authority:?}");
        let error = build(authority, reqwest::Client::builder()).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{shown}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("https"), "{shown}: {text}");
    }
    for authority in [
        custom("http://identity:8080").allow_insecure_http(),
        custom("https://identity:8080").allow_insecure_http(),
        Authority::external_id("http://identity", TENANT).allow_insecure_http(),
        Authority::b2c("http://identity", TENANT, "B2C_1_a").allow_insecure_http(),
        Authority::adfs("http://identity").allow_insecure_http(),
        Authority::oidc("http://identity/realms/a").allow_insecure_http(),
        Authority::oidc("http://identity/realms/a")
            .token_endpoint("http://identity/token")
            .allow_insecure_http(),
        custom("http://127.0.0.1:8080"),
    ] {
        build(authority, reqwest::Client::builder()).unwrap();
    }
}

#[tokio::test]
async fn https_by_name_has_the_name_in_its_certificate() {
    let builder = LocalAuthority::builder().bind(Ipv4Addr::UNSPECIFIED).tls();
    let local = started(builder.host("identity.test")).await;
    assert!(local.base_url().starts_with("https://identity.test:"));
    let ca = reqwest::Certificate::from_pem(local.ca_pem().unwrap().as_bytes());
    let http = resolving(&local).no_proxy().tls_certs_merge([ca.unwrap()]);
    let client = build(local.authority(TENANT), http).unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

#[tokio::test]
async fn an_address_is_what_clients_reach() {
    for (address, base) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), "http://127.0.0.1:"),
        (Ipv4Addr::new(127, 0, 0, 2).into(), "http://127.0.0.2:"),
        (Ipv4Addr::UNSPECIFIED.into(), "http://127.0.0.1:"),
    ] {
        let local = started(LocalAuthority::builder().bind(address)).await;
        assert!(local.base_url().starts_with(base), "{}", local.base_url());
        let client = build(local.authority(TENANT), reqwest::Client::builder()).unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
    }
    for host in ["identity:8080", "identity/a", "u@identity", "", "a b"] {
        let error = LocalAuthority::builder().host(host).start().await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains("the host"), "{error}");
    }
}
