//! Client authentication by the certificate of the connection, and tokens bound to the certificate
//! (RFC 8705), at oidc-provider and at an API.

use std::fs;
use std::sync::Arc;

use confidential_client::credential::CertificateFile;
use confidential_client::transport::MutualTls;
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, ConfidentialClientBuilder, TokenScheme,
};
use http::header::AUTHORIZATION;
use tokio::task::JoinSet;

use super::bound::{Called, thumbprint};
use super::{ORDERS, Server, refusal, resource};
use crate::support::claims_of;

fn with_ca(server: &Server, certificate: impl Into<MutualTls>) -> MutualTls {
    let user_agent = server.user_agent.clone();
    certificate
        .into()
        .trusted_roots_pem(fs::read(&server.is.ca).unwrap())
        .reqwest(move || reqwest::Client::builder().user_agent(user_agent.as_str()))
}

async fn response(server: &Server, tls: &MutualTls, token: &AccessToken) -> reqwest::Response {
    let http = tls.client_for(token).await.unwrap();
    let request = http.get(&server.is.bound_issuers.mtls_orders);
    let request = request.header(AUTHORIZATION, token.authorization_header());
    request.send().await.unwrap()
}

async fn called(server: &Server, tls: &MutualTls, token: &AccessToken) -> Called {
    Called::accepted(response(server, tls, token).await).await
}

type Configure = fn(&Server, ConfidentialClientBuilder, MutualTls) -> ConfidentialClientBuilder;

const BY_CA: Configure = |_, builder, tls| builder.tls_client_auth(tls);
const BY_ITSELF: Configure = |_, builder, tls| builder.self_signed_tls_client_auth(tls);
const BY_SECRET: Configure = |server, builder, tls| {
    let secret = server.is.bound_issuers.bound.secret.as_str();
    builder.client_secret(secret).certificate_bound_tokens(tls)
};

fn client(
    server: &Server,
    client_id: &str,
    configure: Configure,
    tls: &MutualTls,
) -> ConfidentialClient {
    let authority = Authority::oidc(&server.is.bound_issuers.bound.issuer);
    let builder = ConfidentialClient::builder(client_id).authority(authority);
    configure(server, builder, tls.clone()).build().unwrap()
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_certificate_authenticates_and_its_tokens_are_accepted_over_its_connections() {
    for (name, client_id, certificate, configure, form) in [
        (
            "a CA's",
            "tls",
            "tls",
            BY_CA,
            &["client_id", "grant_type", "resource"][..],
        ),
        (
            "self-signed",
            "self-signed",
            "self_signed",
            BY_ITSELF,
            &["client_id", "grant_type", "resource"],
        ),
        (
            "beside a secret",
            "secret-tls",
            "unregistered",
            BY_SECRET,
            &["grant_type", "resource"],
        ),
    ] {
        let server = Server::of(name);
        let issuers = &server.is.bound_issuers;
        let certificate = issuers.certificate(certificate);
        let tls = with_ca(&server, certificate.clone());
        let client = client(&server, client_id, configure, &tls);
        let token = client
            .acquire_token_for_client(resource(ORDERS))
            .await
            .unwrap();
        let thumbprint = thumbprint(&certificate);
        assert_eq!(token.scheme(), TokenScheme::Bearer, "{name}");
        assert_eq!(claims_of(token.secret())["cnf"]["x5t#S256"], *thumbprint);

        let called = called(&server, &tls, &token).await;
        assert_eq!(called.scheme, "Bearer", "{name}");
        assert_eq!(called.certificate.as_ref(), Some(&thumbprint), "{name}");
        assert_eq!(called.cnf["x5t#S256"], *thumbprint, "{name}");

        // The alias, and never a certificate elsewhere.
        let [metadata, granted, _] = &server.seen().await[..] else {
            panic!("{name}");
        };
        assert!(metadata.url.starts_with(&issuers.bound.issuer), "{name}");
        assert_eq!(metadata.certificate, None, "{name}");
        let alias = issuers.mtls_orders.replace("/orders", "/bound/token");
        assert_eq!(granted.url, alias, "{name}");
        assert_eq!(granted.certificate, Some(thumbprint), "{name}");
        let mut names = granted.form.clone();
        names.sort();
        assert_eq!(names, form, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn another_certificate_is_refused_by_the_provider_and_by_the_api() {
    let server = Server::of("other certificates");
    let issuers = &server.is.bound_issuers;
    for (certificate, client_id, configure, reason) in [
        (
            "stranger",
            "tls",
            BY_CA,
            "certificate subject value does not match the registered one",
        ),
        (
            "unregistered",
            "tls",
            BY_CA,
            "client certificate was not verified",
        ),
        (
            "unregistered",
            "self-signed",
            BY_ITSELF,
            "unregistered client certificate provided",
        ),
    ] {
        let tls = with_ca(&server, issuers.certificate(certificate));
        let refused = refusal(&client(&server, client_id, configure, &tls), "").await;
        assert_eq!(
            (refused.status(), refused.error()),
            (http::StatusCode::UNAUTHORIZED, "invalid_client")
        );
        let seen = server.seen().await.pop().unwrap();
        assert_eq!(seen.refused.as_deref(), Some(reason));
    }
    let tls = with_ca(&server, issuers.certificate("tls"));
    let client = client(&server, "tls", BY_CA, &tls);
    let token = client
        .acquire_token_for_client(resource(ORDERS))
        .await
        .unwrap();
    let identity = reqwest::Identity::from_pem(&issuers.pem("stranger")).unwrap();
    for http in [server.builder(), server.builder().identity(identity)] {
        let request = http.build().unwrap().get(&issuers.mtls_orders);
        let request = request.header(AUTHORIZATION, token.authorization_header());
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}

/// Many callers get tokens and call the API while the file is replaced: the server keeps TLS
/// sessions and connections, by which a client goes on as the old certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_rotated_certificate_file_fails_no_call() {
    let server = Arc::new(Server::of("rotation of a certificate"));
    let issuers = &server.is.bound_issuers;
    let [old, new] = ["tls", "tls_next"].map(|name| thumbprint(&issuers.certificate(name)));
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    fs::create_dir(&folder).unwrap();
    let [file, next] = ["tls.pem", "next.pem"].map(|name| folder.join(name));
    fs::write(&file, issuers.pem("tls")).unwrap();
    let tls = with_ca(&server, CertificateFile::new(&file));
    let client = client(&server, "tls", BY_CA, &tls);
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (server, client, tls) = (Arc::clone(&server), client.clone(), tls.clone());
        let new = new.clone();
        callers.spawn(async move {
            let mut seen = Vec::new();
            while seen.iter().filter(|seen| **seen == new).count() < 10 {
                assert!(seen.len() < 10_000, "the rotation has no effect");
                let request = resource(ORDERS);
                let request = match caller % 4 {
                    0 => request.force_refresh(),
                    _ => request,
                };
                let token = client.acquire_token_for_client(request).await.unwrap();
                let called = called(&server, &tls, &token).await;
                let certificate = called.certificate.unwrap();
                assert_eq!(called.cnf["x5t#S256"], *certificate);
                seen.push(certificate);
            }
            seen
        });
    }
    while server.seen().await.len() < 10 {
        tokio::task::yield_now().await;
    }
    fs::write(&next, issuers.pem("tls_next")).unwrap();
    fs::rename(&next, &file).unwrap();

    for seen in callers.join_all().await {
        assert_eq!(seen[0], old);
    }
    let granted = server.seen().await;
    let granted = granted.iter().filter(|seen| seen.url.ends_with("/token"));
    let mut certificates: Vec<_> = granted
        .map(|seen| seen.certificate.clone().unwrap())
        .collect();
    certificates.dedup();
    assert_eq!(certificates, [old, new], "one change, at once");
    fs::remove_dir_all(folder).unwrap();
}
