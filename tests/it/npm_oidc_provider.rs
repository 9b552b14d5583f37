//! Tokens of npm's certified oidc-provider, over TLS with a private CA.

mod bound;
mod browser;
mod dpop;
mod exchange;
mod fapi2;
mod fleet;
mod introspection;
mod mutual_tls;
mod pushed;
mod sign_in;
mod validator;

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;

use confidential_client::credential::{SigningAlgorithm, TokenEndpointAuthMethod};
use confidential_client::{
    Authority, Certificate, ConfidentialClient, ConfidentialClientBuilder, Error, IntoTokenRequest,
    RetryPolicy, ServerError, TokenRequest, TokenSource,
};
use futures_util::future::join_all;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::claims_of;
use crate::support::log_capture;

const ORDERS: &str = "https://orders.example";
const INVOICES: &str = "https://invoices.example";

const BY_HAND: &str = "OIDC_PROVIDER names no server; tests/interop/README.md has how to start it";

/// As `tests/interop/oidc_provider/server.mjs` describes itself.
#[derive(Deserialize)]
struct Description {
    ca: PathBuf,
    requests: String,
    /// Where npm's jose says what it makes of a token.
    judge: String,
    one: Tenant,
    two: Tenant,
    bound_issuers: bound::Issuers,
}

#[derive(Deserialize)]
struct Tenant {
    issuer: String,
    client_id: String,
    secret: String,
    signers: Vec<Signer>,
    web: Web,
    /// An application whose tokens are bound to its TLS certificate; its secret is the tenant's.
    bound: String,
    /// What it signs its tokens with.
    key: PathBuf,
}

/// An application that users sign in to; its secret is the tenant's.
#[derive(Deserialize)]
struct Web {
    client_id: String,
    redirect_uri: String,
}

#[derive(Deserialize)]
struct Signer {
    algorithm: String,
    client_id: String,
    pem: PathBuf,
}

#[derive(Deserialize)]
struct Seen {
    user_agent: Option<String>,
    url: String,
    authorization: Option<String>,
    form: Vec<String>,
    /// Its hash.
    refresh_token: Option<String>,
    refused: Option<String>,
    /// The hash of the client's TLS certificate, as in `x5t#S256`.
    certificate: Option<String>,
}

/// The server, and the name by which it knows the requests of one run of a test from all others.
struct Server {
    is: Description,
    user_agent: String,
    /// What this asks for itself, which is no part of the test.
    http: reqwest::Client,
}

impl Server {
    fn of(test: &str) -> Self {
        log_capture::start();
        let path = std::env::var("OIDC_PROVIDER").unwrap_or_else(|_| panic!("{BY_HAND}"));
        let is: Description = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([is.ca()])
            .no_proxy();
        let http = http.build().unwrap();
        let user_agent = format!("{test} {}", uuid::Uuid::new_v4());
        Self {
            is,
            user_agent,
            http,
        }
    }

    fn tenants(&self) -> [&Tenant; 2] {
        [&self.is.one, &self.is.two]
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> T {
        let response = self.http.get(url).send().await.unwrap();
        response.json().await.unwrap()
    }

    /// What this test has sent so far.
    async fn seen(&self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self.json(&self.is.requests).await;
        seen.retain(|request| request.user_agent.as_ref() == Some(&self.user_agent));
        seen
    }

    async fn urls(&self) -> Vec<String> {
        let seen = self.seen().await;
        seen.into_iter().map(|request| request.url).collect()
    }

    /// An HTTP client of the test, that trusts the server.
    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .tls_certs_merge([self.is.ca()])
            .user_agent(self.user_agent.as_str())
    }

    fn at(&self, issuer: &str, client_id: &str) -> ConfidentialClientBuilder {
        self.by(Authority::oidc(issuer), client_id)
    }

    fn by(&self, authority: Authority, client_id: &str) -> ConfidentialClientBuilder {
        ConfidentialClient::builder(client_id)
            .authority(authority)
            .reqwest(self.builder())
    }

    fn with_secret(&self, tenant: &Tenant) -> ConfidentialClientBuilder {
        self.at(&tenant.issuer, &tenant.client_id)
            .client_secret(tenant.secret.as_str())
    }

    fn with_certificate(&self, tenant: &Tenant, signer: &Signer) -> ConfidentialClientBuilder {
        self.at(&tenant.issuer, &signer.client_id)
            .certificate(signer.certificate())
    }
}

impl Description {
    fn ca(&self) -> reqwest::Certificate {
        reqwest::Certificate::from_pem(&fs::read(&self.ca).unwrap()).unwrap()
    }
}

impl Tenant {
    fn metadata(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer)
    }

    fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer)
    }

    fn signer(&self, algorithm: &str) -> &Signer {
        let mut signers = self.signers.iter();
        signers
            .find(|signer| signer.algorithm == algorithm)
            .unwrap()
    }
}

impl Signer {
    fn certificate(&self) -> Certificate {
        Certificate::from_pem(fs::read(&self.pem).unwrap()).unwrap()
    }

    fn algorithm(&self) -> SigningAlgorithm {
        match self.algorithm.as_str() {
            "PS256" => SigningAlgorithm::PS256,
            "RS256" => SigningAlgorithm::RS256,
            "ES256" => SigningAlgorithm::ES256,
            other => panic!("{other}"),
        }
    }

    /// An assertion that this library has no part in.
    fn assertion(&self, audience: &str) -> String {
        let pem = fs::read_to_string(&self.pem).unwrap();
        let key = &pem[pem.find("-----BEGIN PRIVATE").unwrap()..];
        let key = EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
        let claims = json!({
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": audience,
            "exp": jsonwebtoken::get_current_timestamp() + 300,
            "jti": uuid::Uuid::new_v4().to_string(),
        });
        let algorithm = self.algorithm.parse().unwrap();
        encode(&Header::new(algorithm), &claims, &key).unwrap()
    }
}

fn resource(resource: &str) -> TokenRequest {
    TokenRequest::new("").form_parameter("resource", resource)
}

async fn refusal(client: &ConfidentialClient, request: impl IntoTokenRequest) -> ServerError {
    match client.acquire_token_for_client(request).await {
        Err(Error::Server(server)) => server,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_secret_is_sent_as_the_metadata_says() {
    for (test, tenant, authorization, form) in [
        (
            "secret, one",
            0,
            None,
            &["client_id", "client_secret", "grant_type"][..],
        ),
        ("secret, two", 1, Some("Basic"), &["grant_type"]),
    ] {
        let server = Server::of(test);
        let tenant = server.tenants()[tenant];
        let client = server.with_secret(tenant).build().unwrap();
        let first = client.acquire_token_for_client("").await.unwrap();
        let again = client.acquire_token_for_client("").await.unwrap();
        assert_eq!(first.secret(), again.secret());
        assert_eq!(again.source(), TokenSource::Cache);
        client
            .acquire_token_for_client("orders.read")
            .await
            .unwrap();

        let (metadata, token) = (tenant.metadata(), tenant.token_endpoint());
        assert_eq!(server.urls().await, [metadata, token.clone(), token]);
        let sent = &server.seen().await[1];
        let mut names = sent.form.clone();
        names.sort();
        assert_eq!(names, form, "{test}");
        assert_eq!(sent.authorization.as_deref(), authorization, "{test}");
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_secret_is_sent_otherwise_when_told_so() {
    use TokenEndpointAuthMethod::{ClientSecretBasic, ClientSecretPost};

    let server = Server::of("secret, otherwise");
    let [one, two] = server.tenants();
    let by = |tenant, method| {
        let builder = server.with_secret(tenant);
        builder.token_endpoint_auth_method(method).build().unwrap()
    };
    // It does not say so, and takes that too.
    let basic = by(one, ClientSecretBasic);
    basic.acquire_token_for_client("").await.unwrap();
    let refused = refusal(&by(two, ClientSecretPost), "").await;
    assert_eq!(refused.error(), "invalid_client");

    let seen = server.seen().await;
    let [to_one, to_two] = [one, two].map(|tenant| {
        let url = tenant.token_endpoint();
        seen.iter().find(|request| request.url == url).unwrap()
    });
    assert_eq!(to_one.authorization.as_deref(), Some("Basic"));
    assert_eq!(to_two.authorization, None);
    assert!(to_two.form.contains(&"client_secret".to_owned()));
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn callers_who_come_together_make_one_discovery() {
    let server = Server::of("together");
    let tenant = &server.is.one;
    let client = server.with_secret(tenant).build().unwrap();
    let requests = (0..20).map(|caller| resource([ORDERS, INVOICES][caller % 2]));
    let tokens = join_all(requests.map(|request| client.acquire_token_for_client(request))).await;
    assert!(tokens.iter().all(Result::is_ok), "{tokens:?}");
    let (metadata, token) = (tenant.metadata(), tenant.token_endpoint());
    assert_eq!(server.urls().await, [metadata, token.clone(), token]);
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn assertions_are_accepted_by_every_algorithm() {
    let server = Server::of("algorithms");
    let mut accepted = 0;
    for tenant in server.tenants() {
        for signer in &tenant.signers {
            let certificate = signer.certificate().signing_algorithm(signer.algorithm());
            let client = server
                .at(&tenant.issuer, &signer.client_id)
                .certificate(certificate)
                .build()
                .unwrap();
            // Each assertion has a `jti` of its own, or the second would be refused.
            for audience in [ORDERS, INVOICES] {
                let token = client.acquire_token_for_client(resource(audience)).await;
                let claims = claims_of(token.unwrap().secret());
                assert_eq!(claims["client_id"], *signer.client_id);
                assert_eq!(claims["aud"], audience);
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, 10);
    for request in server.seen().await {
        let by_assertion = request.form.contains(&"client_assertion".to_owned());
        assert_eq!(by_assertion, request.url.ends_with("/token"));
        assert!(!request.form.contains(&"client_secret".to_owned()));
        assert_eq!(request.authorization, None);
    }
}

/// Issuer `one` takes PS256, RS256 and ES256, and `two` no PS256.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn an_algorithm_is_chosen_from_the_metadata() {
    let server = Server::of("chosen algorithms");
    let [one, two] = server.tenants();
    for (tenant, algorithm) in [
        (one, "PS256"),
        (one, "ES256"),
        (two, "RS256"),
        (two, "ES256"),
    ] {
        let builder = server.with_certificate(tenant, tenant.signer(algorithm));
        let token = builder.build().unwrap().acquire_token_for_client("").await;
        assert!(token.is_ok(), "{algorithm}: {token:?}");
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn what_is_wrong_is_refused() {
    use SigningAlgorithm::PS256;

    let server = Server::of("refusals");
    let [one, two] = server.tenants();
    let audience = |audience: &str| {
        let authority = Authority::oidc(&one.issuer).client_assertion_audience(audience);
        let signer = one.signer("PS256");
        server
            .by(authority, &signer.client_id)
            .certificate(signer.certificate())
    };
    let token_endpoint = audience(&one.token_endpoint()).build().unwrap();
    token_endpoint.acquire_token_for_client("").await.unwrap();

    for (builder, reason) in [
        (
            server
                .at(&one.issuer, &one.client_id)
                .client_secret("s3cret"),
            "invalid secret provided",
        ),
        (
            server
                .at(&two.issuer, &two.client_id)
                .client_secret("s3cret"),
            "invalid secret provided",
        ),
        (
            server
                .at(&two.issuer, &one.client_id)
                .client_secret(one.secret.as_str()),
            "client not found",
        ),
        (
            server.with_certificate(two, one.signer("ES256")),
            "signature verification failed",
        ),
        (
            server.with_certificate(one, one.signer("RS256")),
            "alg mismatch",
        ),
        (
            server
                .at(&two.issuer, &two.signer("RS256").client_id)
                .certificate(two.signer("RS256").certificate().signing_algorithm(PS256)),
            "alg mismatch",
        ),
        (
            audience("https://wrong.example"),
            "audience (aud) must equal the endpoint url, issuer identifier or token endpoint url",
        ),
        (
            audience(&two.issuer),
            "audience (aud) must equal the endpoint url, issuer identifier or token endpoint url",
        ),
    ] {
        let client = builder.build().unwrap();
        let before = server.urls().await.len();
        let refused = refusal(&client, "").await;
        assert_eq!(refused.status(), 401, "{reason}");
        assert_eq!(refused.error(), "invalid_client", "{reason}");
        let seen = server.seen().await;
        assert_eq!(seen.len(), before + 2, "{reason}: the metadata, and once");
        assert_eq!(seen[before + 1].refused.as_deref(), Some(reason));
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn an_assertion_is_taken_once() {
    let server = Server::of("replay");
    let tenant = &server.is.one;
    let signer = tenant.signer("RS256");
    let assertion = signer.assertion(&tenant.issuer);
    let client = server
        .at(&tenant.issuer, &signer.client_id)
        .client_assertion(move |_| std::future::ready(Ok(assertion.clone())))
        .build()
        .unwrap();
    let orders = client.acquire_token_for_client(resource(ORDERS)).await;
    orders.unwrap();
    let refused = refusal(&client, resource(INVOICES)).await;
    assert_eq!(refused.error(), "invalid_client");
    let reasons = server.seen().await.into_iter().map(|seen| seen.refused);
    let used = "client assertion tokens must only be used once";
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [None, None, Some(used.to_owned())]
    );
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn two_issuers_give_tokens_of_their_own() {
    let server = Server::of("two issuers");
    for (tenant, other) in [
        (&server.is.one, &server.is.two),
        (&server.is.two, &server.is.one),
    ] {
        let client = server.with_secret(tenant).build().unwrap();
        let token = client.acquire_token_for_client(resource(ORDERS)).await;
        let token = token.unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[ORDERS]);
        validation.set_issuer(&[&tenant.issuer]);
        let claims = async |tenant: &Tenant| {
            let keys: JwkSet = server.json(&format!("{}/jwks", tenant.issuer)).await;
            let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
            decode::<Value>(token.secret(), &key, &validation).map(|token| token.claims)
        };
        assert_eq!(claims(tenant).await.unwrap()["sub"], *tenant.client_id);
        assert!(claims(other).await.is_err());
    }
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn an_issuer_by_another_name_gets_no_credential() {
    let server = Server::of("another name");
    let tenant = &server.is.one;
    let by_host = tenant.issuer.replace("127.0.0.1", "localhost");
    assert_ne!(by_host, tenant.issuer);
    for (issuer, why) in [
        (by_host, "and not of the issuer"),
        (format!("{}/", tenant.issuer), "and not of the issuer"),
        (
            tenant.issuer.replace("/one", "/three"),
            "is the issuer right?",
        ),
    ] {
        let client = server
            .at(&issuer, &tenant.client_id)
            .client_secret(tenant.secret.as_str())
            .build()
            .unwrap();
        let error = client.acquire_token_for_client("").await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let metadata = tenant.metadata();
    assert_eq!(server.urls().await, [metadata.clone(), metadata]);
}

/// RFC 8707.
#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn each_resource_has_a_token_of_its_own() {
    let server = Server::of("resources");
    let tenant = &server.is.one;
    let client = server.with_secret(tenant).build().unwrap();
    for source in [TokenSource::IdentityProvider, TokenSource::Cache] {
        for audience in [ORDERS, INVOICES] {
            let token = client.acquire_token_for_client(resource(audience)).await;
            let token = token.unwrap();
            assert_eq!(token.source(), source);
            assert_eq!(claims_of(token.secret())["aud"], audience);
        }
    }
    // It has no such scope as the second, and says what it grants.
    let scoped = resource(ORDERS).scopes(["orders.read", "orders.burn"]);
    let token = client.acquire_token_for_client(scoped).await.unwrap();
    assert_eq!(claims_of(token.secret())["scope"], "orders.read");
    assert_eq!(token.scopes(), "orders.read");

    let unknown = resource("https://unknown.example");
    let both = resource(ORDERS).form_parameter("resource", INVOICES);
    for request in [unknown, both] {
        let refused = refusal(&client, request).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(refused.error(), "invalid_target");
    }
    let seen = server.seen().await;
    let reasons: Vec<_> = seen.iter().map(|seen| seen.refused.as_deref()).collect();
    let [metadata, granted @ .., unknown, both] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    assert_eq!((metadata, granted), (&None, &[None; 3][..]));
    assert_eq!(
        [*unknown, *both],
        [
            Some("resource indicator is missing, or unknown"),
            Some("only a single resource indicator value is supported for this grant type")
        ]
    );
}

#[tokio::test]
#[ignore = "needs node with oidc-provider; .ci/run starts it and runs them"]
async fn a_server_of_an_unknown_ca_is_not_trusted() {
    let server = Server::of("unknown CA");
    let tenant = &server.is.one;
    let client = ConfidentialClient::builder(&tenant.client_id)
        .authority(Authority::oidc(&tenant.issuer))
        .client_secret(tenant.secret.as_str())
        .reqwest(reqwest::Client::builder().user_agent(server.user_agent.as_str()))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client("").await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    let causes = causes.join(": ");
    let host = tenant.issuer.strip_suffix("/one").unwrap();
    let host = host.strip_prefix("https://").unwrap();
    let what = format!("the TLS certificate of '{host}' is not accepted");
    for text in [what.as_str(), "tls_certs_merge(..)", "UnknownIssuer"] {
        assert!(causes.contains(text), "{text}: {causes}");
    }
    assert!(server.urls().await.is_empty());
}
