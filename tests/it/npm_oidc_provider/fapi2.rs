//! The FAPI 2.0 Security Profile at oidc-provider: sign-in, the API and the refresh, by each
//! combination of client authentication and binding.

use std::fs;

use confidential_client::credential::DpopKey;
use confidential_client::delegated::{AuthorizationRequest, Prompt};
use confidential_client::transport::MutualTls;
use confidential_client::{
    AccessToken, Authority, ConfidentialClient, ConfidentialClientBuilder, TokenRequest,
    TokenScheme, TokenSource,
};
use serde_json::Value;
use url::Url;

use super::bound::{Called, thumbprint};
use super::browser::Browser;
use super::{ORDERS, Server};
use crate::support::{claims_of, header_of};

fn orders() -> TokenRequest {
    TokenRequest::new("orders.read").resource(ORDERS)
}

/// What the tokens of an application are bound to.
enum Binding {
    ProofKey(DpopKey),
    Certificate(&'static str),
}

struct Fapi {
    server: Server,
    client: ConfidentialClient,
    binding: Binding,
    /// The certificate of the connections.
    tls: Option<MutualTls>,
}

impl Fapi {
    /// The application signs assertions by `algorithm`, or presents the certificate.
    fn of(
        client_id: &str,
        algorithm: Option<&str>,
        certificate: Option<&str>,
        binding: Binding,
    ) -> Self {
        let server = Server::of(client_id);
        let issuers = &server.is.bound_issuers;
        let tls = certificate.map(|name| {
            let user_agent = server.user_agent.clone();
            MutualTls::from(issuers.certificate(name))
                .trusted_roots_pem(fs::read(&server.is.ca).unwrap())
                .reqwest(move || reqwest::Client::builder().user_agent(user_agent.as_str()))
        });
        let authority = Authority::oidc(&issuers.fapi.issuer).fapi2();
        let builder = ConfidentialClient::builder(client_id).authority(authority);
        let builder: ConfidentialClientBuilder = match (algorithm, &tls) {
            (Some(algorithm), None) => builder
                .certificate(issuers.certificate(algorithm))
                .reqwest(server.builder()),
            (Some(algorithm), Some(tls)) => builder
                .certificate(issuers.certificate(algorithm))
                .certificate_bound_tokens(tls.clone()),
            (None, Some(tls)) => builder.tls_client_auth(tls.clone()),
            (None, None) => panic!("no authentication"),
        };
        let builder = match &binding {
            Binding::ProofKey(key) => builder.dpop(key.clone()),
            Binding::Certificate(_) => builder,
        };
        let client = builder.build().unwrap();
        Self {
            server,
            client,
            binding,
            tls,
        }
    }

    /// Calls the API as the docs say, twice if the API wants another nonce.
    async fn call(&self, token: &AccessToken) {
        let issuers = &self.server.is.bound_issuers;
        match &self.binding {
            Binding::Certificate(name) => {
                let http = self.tls.as_ref().unwrap().client_for(token).await.unwrap();
                let mut request = http.get(&issuers.mtls_orders).build().unwrap();
                let headers = request.headers_mut();
                self.client.authorize(token, headers).await.unwrap();
                let called = Called::accepted(http.execute(request).await.unwrap()).await;
                let thumbprint = thumbprint(&issuers.certificate(name));
                assert_eq!(called.cnf["x5t#S256"], *thumbprint);
                assert_eq!(
                    (&*called.scheme, called.certificate),
                    ("Bearer", Some(thumbprint))
                );
            }
            Binding::ProofKey(key) => {
                let http = self.server.builder().build().unwrap();
                let send = async || {
                    let mut request = http.get(&issuers.orders).build().unwrap();
                    self.client.authorize(token, &mut request).await.unwrap();
                    http.execute(request).await.unwrap()
                };
                let mut response = send().await;
                if self
                    .client
                    .record_nonce(&issuers.orders, response.headers())
                {
                    response = send().await;
                    self.client
                        .record_nonce(&issuers.orders, response.headers());
                }
                let called = Called::accepted(response).await;
                assert_eq!(called.cnf["jkt"], key.thumbprint());
                assert_eq!(called.scheme, "DPoP");
            }
        }
    }

    fn scheme(&self) -> TokenScheme {
        match self.binding {
            Binding::ProofKey(_) => TokenScheme::Dpop,
            Binding::Certificate(_) => TokenScheme::Bearer,
        }
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_user_signs_in_by_each_authentication_and_binding_and_the_client_goes_on() {
    use Binding::{Certificate, ProofKey};

    let proof_key = || ProofKey(DpopKey::generate().unwrap());
    for (client_id, algorithm, certificate, binding) in [
        ("key-dpop", Some("PS256"), None, proof_key()),
        ("key-dpop-nonce", Some("ES256"), None, proof_key()),
        (
            "key-tls",
            Some("ES256"),
            Some("self_signed"),
            Certificate("self_signed"),
        ),
        ("tls-tls", None, Some("tls"), Certificate("tls")),
        ("tls-dpop", None, Some("tls"), proof_key()),
    ] {
        let fapi = Fapi::of(client_id, algorithm, certificate, binding);
        let (server, client) = (&fapi.server, &fapi.client);
        let issuers = &server.is.bound_issuers;
        let back = &issuers.redirect_uri;
        let request = AuthorizationRequest::new(back, orders()).prompt(Prompt::Consent);
        let (page, flow) = client.authorization_request_url(&request).await.unwrap();
        let names = Url::parse(&page).unwrap();
        let names: Vec<_> = names
            .query_pairs()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(names, ["client_id", "request_uri"], "{client_id}");
        let mut browser = Browser::open(server, &page, back).await;
        browser.submit("login", "adele").await;
        browser.submit("consent", "adele").await;
        let signed_in = client.acquire_token_by_authorization_code(flow, browser.at);
        let signed_in = signed_in.await.unwrap();
        let id: Value = serde_json::from_str(signed_in.id_token_claims()).unwrap();
        assert_eq!(
            (&id["aud"], &id["sub"]),
            (&client_id.into(), &"adele".into())
        );
        let token = signed_in.access_token();
        assert_eq!(token.scheme(), fapi.scheme(), "{client_id}");
        assert_eq!(claims_of(token.secret())["aud"], ORDERS);
        fapi.call(token).await;

        for _ in 0..2 {
            let again = orders().force_refresh();
            let again = client
                .acquire_token_silent(signed_in.account(), again)
                .await;
            let again = again.unwrap();
            assert_eq!(again.source(), TokenSource::IdentityProvider, "{client_id}");
            assert_ne!(again.secret(), token.secret(), "{client_id}");
            fapi.call(&again).await;
        }

        // One refresh token: no rotation.
        let seen = server.seen().await;
        let mut used: Vec<_> = seen
            .iter()
            .filter_map(|seen| seen.refresh_token.as_ref())
            .collect();
        used.dedup();
        assert_eq!(used.len(), 1, "{client_id}");
        let on_alias = |path: &str| {
            let mut seen = seen
                .iter()
                .filter(|seen| seen.url.ends_with(path))
                .peekable();
            assert!(seen.peek().is_some(), "{client_id}: {path}");
            let alias = issuers.mtls_orders.replace("/orders", path);
            seen.all(|seen| (seen.url == alias) == certificate.is_some())
        };
        assert!(
            on_alias("/fapi/request") && on_alias("/fapi/token"),
            "{client_id}"
        );
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_daemon_has_tokens_by_eddsa_and_dpop() {
    let binding = Binding::ProofKey(DpopKey::generate().unwrap());
    let fapi = Fapi::of("daemon-dpop", Some("EdDSA"), None, binding);
    let token = fapi
        .client
        .acquire_token_for_client(orders())
        .await
        .unwrap();
    assert_eq!(header_of(token.secret())["typ"], "at+jwt");
    fapi.call(&token).await;
}
