//! No secret in `Debug`, `Display` or an error.

use std::any::type_name;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::FromRequestParts;
use azure_security_keyvault_certificates::CertificateClient;
use azure_security_keyvault_keys::KeyClient;
use bytes::Bytes;
use confidential_client::adapter::{
    AcceptedToken, AzureCredential, BearerAuth, BearerAuthError, BearerAuthLayer, FacadeMetrics,
    KeyVaultCertificate, KeyVaultSigner, ObservableClient, OpenTelemetryMetrics, PermittedToken,
    Pkcs11Token,
};
use confidential_client::cache::{
    BeginRedemption, EncryptionKey, LockOwner, NewRecord, PutOutcome, Redemption, RedisCache,
    SharedCache, SharedCacheOptions,
};
use confidential_client::credential::{
    AssertionContext, AzureCli, AzureDeveloperCli, CertificateFile, ChainLink, CredentialChain,
    FederatedTokenFile, HostEnvironment, LinkUnavailable, ManagedIdentity, SecretFile,
    SigningAlgorithm, TokenEndpointAuthMethod, UserFederatedCredential,
};
use confidential_client::delegated::{
    AdminConsent, AuthorizationRequest, EndSessionRequest, Prompt, SessionKey, TokenExchange,
    TokenTypeIdentifier, UserAssertion, UserIdentifier,
};
use confidential_client::metrics::Acquisition;
use confidential_client::resource::{
    AccessDenied, CertificateSource, DpopPolicy, ExternalUri, Holder, PeerCertificate, Permission,
    ResourceRequest, TokenValidator,
};
use confidential_client::testing::{
    Application, Fault, HostKind, LocalAuthority, LocalSharedCache, ManualClock, ProviderRules,
    StoreFault, User, self_signed_certificate,
};
use confidential_client::transport::MutualTls;
use confidential_client::{
    Authority, CacheOptions, Certificate, Challenge, Cloud, ConfidentialClient,
    CredentialChainClient, Error, ManagedIdentityClient, RetryPolicy, Secret, TokenRequest,
    TokenSource, blocking,
};
use http::Request;
use tower::{Layer, Service};

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, client_of, dpop, in_memory, let_others_run,
    success, unsigned_jwt,
};

/// All that must not be seen.
struct Hidden(Vec<String>);

impl Hidden {
    /// Checks both forms of `Debug`. `name` must be the name of the type, so that
    /// `every_public_type_is_checked` finds the check.
    #[track_caller]
    fn check_debug<T: Debug>(&self, name: &str, value: &T) {
        let path = type_name::<T>().split('<').next().unwrap_or_default();
        assert_eq!(path.rsplit("::").next(), Some(name), "{path}");
        self.check(name, &format!("{value:?}\n{value:#?}"));
    }

    fn check(&self, name: &str, text: &str) {
        for secret in &self.0 {
            assert!(
                !text.contains(secret.as_str()),
                "{name} shows {secret}: {text}"
            );
        }
    }

    fn check_error(&self, error: &Error) {
        self.check_debug("Error", error);
        self.check_debug("ErrorKind", &error.kind());
        match error {
            Error::Server(server) => {
                self.check_debug("ServerError", server);
                self.check("ServerError", &server.to_string());
            }
            Error::Config(details)
            | Error::Credential(details)
            | Error::Transport(details)
            | Error::Throttled(details)
            | Error::InvalidResponse(details)
            | Error::InteractionRequired(details) => {
                self.check_debug("ErrorDetails", details);
                self.check("ErrorDetails", &details.to_string());
            }
            _ => panic!("an unknown variant: {error:?}"),
        }
        self.check("Error", &error.to_string());
        self.check("chain", &error.chain().to_string());
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            self.check("source", &format!("{error:?}\n{error:#?}"));
            self.check("source", &error.to_string());
            cause = error.source();
        }
    }
}

#[tokio::test]
async fn no_public_type_shows_a_secret() {
    let local = LocalAuthority::start().await.unwrap();
    let certificate = Certificate::from_pem(&*PEM).unwrap();
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .expired_secret("0ld-s3cret-Value")
        .certificate(&certificate);
    local.register(TENANT, application.clone());
    let builder = || client_of(&local);
    let by_secret = builder().client_secret(SECRET).build().unwrap();
    let by_certificate = builder().certificate(certificate.clone()).build().unwrap();
    let provider = by_secret.token_provider(SCOPE).unwrap();
    let token = provider.token().await.unwrap();
    by_certificate
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap();
    let assertion = local.token_requests()[1]
        .field("client_assertion")
        .unwrap()
        .to_owned();
    let key_lines = PEM
        .lines()
        .filter(|line| line.len() == 64)
        .map(str::to_owned);
    let mut hidden = vec![
        "0ld-s3cret-Value".to_owned(),
        SECRET.to_owned(),
        token.secret().to_owned(),
        assertion,
    ];
    hidden.extend(key_lines);
    let hidden = Hidden(hidden);

    let demanding = TokenRequest::new(SCOPE).claims("{}").rejected_token(&token);
    hidden.check_debug("TokenRequest", &demanding);
    let parameters = TokenRequest::new(SCOPE)
        .form_parameter("key", SECRET)
        .query_parameter("code", SECRET);
    hidden.check_debug("TokenRequest", &parameters);
    hidden.check_debug("RetryPolicy", &RetryPolicy::default());
    let back = format!("?state={SECRET}&admin_consent=True&tenant={TENANT}");
    let consent = AdminConsent::parse(back, SECRET).unwrap();
    hidden.check_debug("AdminConsent", &consent);
    hidden.check_debug("TokenCache", &by_secret.cache());
    hidden.check_debug("CacheStats", &by_secret.cache().stats());
    hidden.check_debug("Secret", &Secret::from(SECRET));
    hidden.check_debug("Certificate", &certificate);
    let mutual_tls = MutualTls::from(certificate.clone());
    hidden.check_debug("MutualTls", &mutual_tls);
    hidden.check_debug(
        "ConfidentialClientBuilder",
        &builder().tls_client_auth(mutual_tls),
    );
    hidden.check_debug("Authority", &local.authority(TENANT));
    hidden.check_debug("Cloud", &Cloud::Public);
    hidden.check_debug(
        "ConfidentialClientBuilder",
        &builder().client_secret(SECRET).certificate(certificate),
    );
    let file = CertificateFile::new("/daemon.pem").password(SECRET);
    hidden.check_debug("CertificateFile", &file);
    hidden.check_debug("SecretFile", &SecretFile::new("/secret"));
    hidden.check_debug("CacheOptions", &CacheOptions::default());
    let redis = redis::Client::open(format!("redis://app:{SECRET}@127.0.0.1")).unwrap();
    hidden.check_debug("RedisCache", &RedisCache::new(redis));
    hidden.check_debug("SigningAlgorithm", &SigningAlgorithm::PS256);
    let method = TokenEndpointAuthMethod::ClientSecretBasic;
    hidden.check_debug("TokenEndpointAuthMethod", &method);
    let sources = builder()
        .client_secret_source(|| async { Ok(Secret::from(SECRET)) })
        .certificate_source(file);
    hidden.check_debug("ConfidentialClientBuilder", &sources);
    hidden.check_debug("ConfidentialClient", &by_secret);
    hidden.check_debug("ConfidentialClient", &by_certificate);
    hidden.check_debug("TokenRequest", &TokenRequest::new(SCOPE));
    hidden.check_debug("TokenProvider", &provider);
    hidden.check_debug("WarmUp", &by_secret.warm_up([SCOPE]));
    check_blocking(&hidden, by_secret.clone());
    hidden.check_debug("AccessToken", &token);
    hidden.check_debug("HeaderValue", &token.authorization_header());
    hidden.check_debug("TokenSource", &TokenSource::Cache);
    hidden.check_debug("LocalAuthority", &local);
    hidden.check_debug("LocalAuthorityBuilder", &LocalAuthority::builder().tls());
    hidden.check_debug("ProviderRules", &ProviderRules::fapi2());
    let audience = confidential_client::credential::AssertionAudience::Issuer;
    hidden.check_debug("AssertionAudience", &audience);
    hidden.check_debug("Application", &application);
    hidden.check_debug("Fault", &Fault::status(500));
    hidden.check_debug("ManualClock", &ManualClock::new());
    // What this authority does not know of may be a credential elsewhere.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/{TENANT}/oauth2/v2.0/token", local.base_url());
    let form = format!("password={SECRET}&refresh_token={SECRET}&assertion={SECRET}");
    let post = http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    post.body(form).send().await.unwrap();
    assert_eq!(local.token_requests()[2].field("password"), Some(SECRET));
    for request in local.token_requests() {
        hidden.check_debug("RecordedRequest", &request);
    }
}

#[tokio::test]
async fn no_managed_identity_endpoint_shows_a_secret() {
    let local = LocalAuthority::start().await.unwrap();
    let host = local.managed_identity(TENANT).await.unwrap();
    let variables = host.variables(HostKind::AppService);
    let [(_, endpoint), (_, secret)] = &variables[..] else {
        panic!("{variables:?}");
    };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let hash = "ab".repeat(32);
    let query = "api-version=2019-08-01&resource=https://vault.azure.net";
    let url = format!("{endpoint}?{query}&token_sha256_to_refresh={hash}&code={SECRET}");
    let request = http.get(url).header("x-identity-header", secret);
    assert_eq!(request.send().await.unwrap().status(), 400);

    let hidden = Hidden(vec![secret.clone(), hash, SECRET.to_owned()]);
    hidden.check_debug("LocalManagedIdentity", &host);
    hidden.check_debug("AssignedIdentity", &host.system_assigned().unwrap());
    hidden.check_debug("HostKind", &HostKind::AppService);
    hidden.check_debug("RecordedRequest", &host.requests()[0]);
    let environment = host.environment(HostKind::AppService);
    hidden.check("HostEnvironment", &format!("{environment:?}"));
}

#[tokio::test]
async fn no_credential_chain_shows_a_secret() {
    let environment = HostEnvironment::from_variables([
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
        ("AZURE_CLIENT_SECRET", SECRET),
    ]);
    let token = "the token of a function";
    let failed = ChainLink::from_fn("agent", |_| async {
        Ok((
            Secret::from("the token of a function\n"),
            Duration::from_secs(60),
        ))
    });
    let hidden = Hidden(vec![SECRET.to_owned(), token.to_owned()]);
    hidden.check_debug("ChainLink", &failed);
    let chain = CredentialChain::default()
        .then(AzureCli::new())
        .then(AzureDeveloperCli::new());
    hidden.check_debug("CredentialChain", &chain);
    hidden.check_debug("AzureCli", &AzureCli::new());
    hidden.check_debug("AzureDeveloperCli", &AzureDeveloperCli::new());
    hidden.check_debug("LinkUnavailable", &LinkUnavailable::new("no socket"));
    let builder = CredentialChainClient::builder(chain).environment(environment);
    hidden.check_debug("CredentialChainClientBuilder", &builder);
    hidden.check_debug("CredentialChainClient", &builder.build().unwrap());

    // The line break cannot be sent in a header.
    let client = CredentialChainClient::new(CredentialChain::new().then(failed)).unwrap();
    let error = client.acquire_token("api://a/.default").await.unwrap_err();
    hidden.check("Error", &format!("{error:?} {}", error.chain()));
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let token = "eyJ0b2tlbg.c2VjcmV0.dG9rZW4";
    let hidden = Hidden(vec![
        SECRET.to_owned(),
        token.to_owned(),
        token[..12].to_owned(),
    ]);
    let cut = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"#);
    let untyped = format!(r#"{{"access_token":"{token}","expires_in":3599}}"#);
    let echo = format!("<html>bad request: client_secret={SECRET}&scope=x</html>");
    let echo_json = format!(r#"{{"message":"client_secret={SECRET}"}}"#);
    for (status, body) in [
        (200, cut.as_str()),
        (200, &untyped),
        (200, token),
        (400, &echo),
        (400, &echo_json),
        (401, r#"{"error":"invalid_client","error_codes":[7000215]}"#),
        (429, ""),
        (503, "<html>"),
    ] {
        let provider = Provider::open();
        provider.answer(status, body);
        let error = provider
            .client()
            .acquire_token_for_client(SCOPE)
            .await
            .unwrap_err();
        hidden.check_error(&error);
    }
    let provider = Provider::open();
    provider.answer_with(success(&format!("{token}\u{7f}"), 3599));
    let error = provider
        .client()
        .acquire_token_for_client(SCOPE)
        .await
        .unwrap_err();
    hidden.check_error(&error);

    let refused = LocalAuthority::start().await.unwrap();
    let address = refused.authority(TENANT);
    drop(refused);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(address)
        .client_secret(SECRET)
        .build()
        .unwrap();
    hidden.check_error(&client.acquire_token_for_client(SCOPE).await.unwrap_err());
    let white = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(Cloud::Public, TENANT))
        .client_secret(format!("{SECRET}\n"));
    hidden.check_error(&white.build().unwrap_err());
    let pem = self_signed_certificate("x").unwrap();
    let key = pem.lines().rev().nth(3).unwrap().to_owned();
    let broken = pem.replace("-----END PRIVATE KEY-----", "-----END");
    Hidden(vec![key]).check_error(&Certificate::from_pem(broken).unwrap_err());
}

#[tokio::test]
async fn no_type_of_token_exchange_and_introspection_shows_a_secret() {
    let rules = ProviderRules::openid();
    let local = LocalAuthority::builder()
        .rules(rules)
        .start()
        .await
        .unwrap();
    let gateway = Application::new("gateway")
        .secret(SECRET)
        .publishes("api://gateway", ["call"])
        .exchange("api://orders", ["read"]);
    let orders = Application::new("orders")
        .secret(SECRET)
        .publishes("api://orders", ["read"])
        .opaque_access_tokens();
    for application in [&gateway, &orders, &Application::new("app")] {
        local.register(TENANT, application.clone());
    }
    local.register_user(TENANT, User::new("adele@contoso.com"));
    local.consent(TENANT, "app", "adele@contoso.com", "api://gateway/call");
    let received = local.user_token(TENANT, "app", "adele@contoso.com", "api://gateway/call");
    let received = received.unwrap();
    let client = |client_id: &str| {
        let issuer = local.issuer(TENANT).unwrap();
        ConfidentialClient::builder(client_id)
            .authority(Authority::oidc(issuer))
            .client_secret(SECRET)
            .build()
            .unwrap()
    };
    let gateway_client = client("gateway");
    let kind = TokenTypeIdentifier::ACCESS_TOKEN;
    let exchange = TokenExchange::new(&received, kind.clone()).audience("api://orders");
    let acting = exchange.clone().actor_token(&received, kind.clone());
    let token = gateway_client.exchange_token(&acting).await.unwrap();
    let hidden = Hidden(vec![
        SECRET.to_owned(),
        received.clone(),
        token.secret().to_owned(),
    ]);
    hidden.check_debug("TokenExchange", &acting);
    hidden.check_debug("TokenTypeIdentifier", &kind);
    hidden.check_debug("AccessToken", &token);
    let provider = gateway_client.token_provider_for_exchange(&acting);
    hidden.check_debug("TokenProvider", &provider.unwrap());
    let forbidden = exchange.scopes(["delete"]);
    let error = gateway_client.exchange_token(&forbidden).await.unwrap_err();
    hidden.check_error(&error);

    let builder = TokenValidator::introspecting(&client("orders"))
        .audience("api://orders")
        .single_tenant();
    hidden.check_debug("TokenValidatorBuilder", &builder);
    let validator = builder.build().unwrap();
    hidden.check_debug("TokenValidator", &validator);
    let claims = validator.validate(token.secret()).await.unwrap();
    hidden.check_debug("Claims", &claims);
    let rejection = claims.require_scope("read").unwrap_err();
    hidden.check_debug("TokenRejection", &rejection);
    local.register(TENANT, Application::new("orders").secret("another"));
    let rejection = validator.validate(&received).await.unwrap_err();
    hidden.check_debug("TokenRejection", &rejection);
    hidden.check("TokenRejection", &rejection.chain().to_string());
    for application in [&gateway, &orders] {
        hidden.check_debug("Application", application);
    }
    for request in local
        .token_requests()
        .iter()
        .chain(&local.introspection_requests())
    {
        hidden.check_debug("RecordedRequest", request);
    }
}

#[tokio::test]
async fn no_type_of_delegated_access_shows_a_secret() {
    let local = LocalAuthority::start().await.unwrap();
    let back = "https://app.example.org/back";
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(back)
        .publishes("api://own", ["Files.Read"]);
    local.register(TENANT, application);
    let user = User::new("adele@contoso.com");
    local.register_user(TENANT, user.clone());
    let scope = "api://drive/Files.Read";
    local.consent(TENANT, CLIENT_ID, "adele@contoso.com", scope);
    let client = client_of(&local).client_secret(SECRET).build().unwrap();

    let request = AuthorizationRequest::new(back, scope).prompt(Prompt::Login);
    let (page, flow) = client.authorization_request_url(&request).await.unwrap();
    let redirected = local.sign_in(&page, "adele@contoso.com").await.unwrap();
    let result = client
        .acquire_token_by_authorization_code(flow.clone(), &redirected)
        .await
        .unwrap();
    let renewed = TokenRequest::new(scope).force_refresh();
    client
        .acquire_token_silent(result.account(), renewed)
        .await
        .unwrap();
    let own = "api://own/Files.Read";
    let called_with = local.user_token(TENANT, CLIENT_ID, "adele@contoso.com", own);
    let called_with = called_with.unwrap();
    let assertion = UserAssertion::new(&called_with);
    let on_behalf_of = client.acquire_token_on_behalf_of(&assertion, scope).await;

    let requests = local.token_requests();
    let sent = |request: usize, name: &str| requests[request].field(name).unwrap().to_owned();
    let kept = serde_json::to_value(&flow).unwrap();
    let of_the_flow = |name: &str| kept[name].as_str().unwrap().to_owned();
    let hidden = Hidden(vec![
        SECRET.to_owned(),
        sent(0, "code"),
        sent(0, "code_verifier"),
        of_the_flow("state"),
        of_the_flow("nonce"),
        sent(1, "refresh_token"),
        sent(2, "assertion"),
        result.access_token().secret().to_owned(),
        result.id_token().expose().to_owned(),
        result.claims().subject().to_owned(),
        on_behalf_of.unwrap().secret().to_owned(),
    ]);
    hidden.check_debug("AuthorizationRequest", &request);
    hidden.check_debug("AuthorizationCodeFlow", &flow);
    hidden.check_debug("AuthenticationResult", &result);
    hidden.check_debug("IdTokenClaims", result.claims());
    let sign_out = EndSessionRequest::new()
        .id_token_hint(result.id_token().clone())
        .logout_hint(SECRET)
        .query_parameter("a", SECRET);
    hidden.check_debug("EndSessionRequest", &sign_out);
    hidden.check_debug("Account", result.account());
    hidden.check_debug("Prompt", &Prompt::Login);
    hidden.check_debug("UserAssertion", &assertion);
    let provider = client.token_provider_on_behalf_of(&assertion, scope);
    hidden.check_debug("TokenProvider", &provider.unwrap());
    let provider = client.token_provider_silent(result.account(), scope);
    hidden.check_debug("TokenProvider", &provider.unwrap());
    hidden.check_debug("ConfidentialClient", &client);
    hidden.check_debug("User", &user);
    hidden.check_debug("LocalAuthority", &local);
    for request in &requests {
        hidden.check_debug("RecordedRequest", request);
    }

    let builder = TokenValidator::builder(local.authority(TENANT))
        .audience("api://own")
        .single_tenant();
    hidden.check_debug("TokenValidatorBuilder", &builder);
    let validator = builder.build().unwrap();
    let claims = validator.validate(&called_with).await.unwrap();
    hidden.check_debug("Claims", &claims);
    hidden.check_debug("AcceptedToken", &AcceptedToken(claims.clone()));
    let not_allowed = claims.authorize_user(|_| false).unwrap_err();
    hidden.check_debug("UserNotAllowed", &not_allowed);
    hidden.check_debug("AccessDenied", &AccessDenied::from(not_allowed));
    hidden.check_debug("TokenValidator", &validator);
    let policy = DpopPolicy::new("https://api.example").nonce_key(SECRET.repeat(3));
    hidden.check_debug("DpopPolicy", &policy);
    let source = CertificateSource::url_encoded_pem("x-client-cert");
    hidden.check_debug("CertificateSource", &source);
    let uri = format!("/files?token={called_with}").parse().unwrap();
    hidden.check_debug("ExternalUri", &ExternalUri(uri));
    let certificate = PeerCertificate::from_der(PEM.as_bytes());
    hidden.check_debug("PeerCertificate", &certificate);
    let authorization = format!("Bearer {called_with}");
    let request =
        Request::get(format!("/?token={called_with}")).header("authorization", authorization);
    let request = request.extension(certificate).body(()).unwrap();
    hidden.check_debug("ResourceRequest", &ResourceRequest::from(&request));
    let flawed = format!("{called_with}x");
    for token in [flawed.as_str(), result.access_token().secret(), "abc"] {
        let refusal = validator.validate(token).await.unwrap_err();
        hidden.check_debug("TokenRejection", &refusal);
        hidden.check_debug("RejectionReason", &refusal.reason());
        hidden.check_debug("Holder", &Holder::Unknown);
        hidden.check(
            "TokenRejection",
            &format!(
                "{refusal} {} {:?}",
                refusal.chain(),
                refusal.www_authenticate()
            ),
        );
    }

    let again = client
        .acquire_token_by_authorization_code(flow, &redirected)
        .await;
    hidden.check_error(&again.unwrap_err());
    client.remove_account(result.account()).await.unwrap();
    let gone = client.acquire_token_silent(result.account(), scope).await;
    hidden.check_error(&gone.unwrap_err());
}

struct ReadFiles;

impl Permission for ReadFiles {
    const SCOPES: &'static [&'static str] = &["Files.Read"];
}

#[tokio::test]
async fn no_adapter_or_callback_type_shows_a_secret() {
    let acquisitions = Arc::<Mutex<Vec<Acquisition>>>::default();
    let contexts = Arc::<Mutex<Vec<AssertionContext>>>::default();
    let (observed, called) = (Arc::clone(&acquisitions), Arc::clone(&contexts));
    let provider = Provider::open();
    let client = provider
        .builder()
        .observer(move |acquisition| observed.lock().unwrap().push(acquisition))
        .build()
        .unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let assertion = crate::support::unsigned_jwt("an assertion by the caller");
    let supplied = assertion.clone();
    let by_assertion = in_memory(&provider)
        .client_assertion(move |context| {
            called.lock().unwrap().push(context);
            let assertion = supplied.clone();
            async move { Ok(assertion) }
        })
        .build()
        .unwrap();
    by_assertion.acquire_token_for_client(SCOPE).await.unwrap();
    let nonce = "n0nce-of-a-challenge";
    let hidden = Hidden(vec![
        SECRET.to_owned(),
        token.secret().to_owned(),
        assertion.to_owned(),
        nonce.to_owned(),
    ]);

    let acquisition = acquisitions.lock().unwrap()[0].clone();
    hidden.check_debug("Acquisition", &acquisition);
    hidden.check_debug("Outcome", &acquisition.outcome);
    hidden.check_debug("AssertionContext", &contexts.lock().unwrap()[0]);
    hidden.check_debug("ConfidentialClient", &by_assertion);
    hidden.check_debug("FederatedTokenFile", &FederatedTokenFile::new("/token"));
    let challenge = format!(r#"Bearer realm="", nonce="{nonce}", claims="{nonce}""#);
    hidden.check_debug("Challenge", &Challenge::parse(&challenge)[0]);

    let host = HostEnvironment::from_variables([
        ("IDENTITY_ENDPOINT", "http://127.0.0.1/token"),
        ("IDENTITY_HEADER", SECRET),
    ]);
    hidden.check_debug("HostEnvironment", &host);
    hidden.check_debug("ManagedIdentity", &ManagedIdentity::system_assigned());
    let builder = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
        .environment(host)
        .transport(|_: Request<Bytes>| async { Ok(success("t0ken-of-an-identity", 3600)) });
    hidden.check_debug("ManagedIdentityClientBuilder", &builder);
    let identity = builder.build().unwrap();
    identity.acquire_token(SCOPE).await.unwrap();
    let hidden_token = Hidden(vec!["t0ken-of-an-identity".to_owned(), SECRET.to_owned()]);
    hidden_token.check_debug("ManagedIdentityClient", &identity);

    hidden.check_debug("AzureCredential", &AzureCredential::new(client.clone()));
    let token = Pkcs11Token::new("/nonexistent/module.so").pin(SECRET);
    hidden.check_debug("Pkcs11Token", &token);
    let key = token.key("signing");
    hidden.check_debug("Pkcs11Key", &key);
    hidden.check_error(&key.certificate().await.unwrap_err());
    hidden.check_debug("ObservableClient", &ObservableClient::from(&client));
    let facade = FacadeMetrics::new();
    hidden.check_debug("FacadeMetrics", facade.observe(&client));
    let meter = opentelemetry::global::meter("tests");
    let open_telemetry = OpenTelemetryMetrics::new(&meter);
    hidden.check_debug("OpenTelemetryMetrics", open_telemetry.observe(&client));
    let graph = client.token_provider(SCOPE).unwrap();
    let credential = AzureCredential::new(graph.clone());
    hidden.check_debug("AzureCredential", &credential);
    let vault = "https://contoso.vault.azure.net";
    let keys = || KeyClient::new(vault, Arc::new(credential.clone()), None).unwrap();
    let signer = KeyVaultSigner::new(keys(), "daemon", "1").unwrap();
    hidden.check_debug("KeyVaultSigner", &signer);
    let certificates = CertificateClient::new(vault, Arc::new(credential.clone()), None).unwrap();
    let source = KeyVaultCertificate::non_exportable(certificates, keys(), "daemon").unwrap();
    // `key_vault_errors` checks a source that has loaded a private key.
    hidden.check_debug("KeyVaultCertificate", &source);
    let auth = BearerAuth::new(graph, ["https://graph.microsoft.com"]).unwrap();
    hidden.check_debug("BearerAuth", &auth);
    let layer = BearerAuthLayer::<String>::new(auth);
    hidden.check_debug("BearerAuthLayer", &layer);
    let mut service = layer.layer(tower::service_fn(|_: http::Request<String>| async {
        Err::<http::Response<String>, _>(std::fmt::Error)
    }));
    hidden.check_debug("BearerAuthService", &service);
    let request = http::Request::get("https://graph.microsoft.com/v1.0/users");
    let call = service.call(request.body(String::new()).unwrap());
    hidden.check_debug("BearerAuthFuture", &call);
    let error = call.await;
    let error: BearerAuthError<_> = error.unwrap_err();
    hidden.check_debug("BearerAuthError", &error);
    hidden.check("BearerAuthError", &error.to_string());
}

#[tokio::test]
async fn no_protected_route_shows_a_token() {
    let local = LocalAuthority::start().await.unwrap();
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .publishes("api://own", ["Files.Read"]);
    local.register(TENANT, application);
    local.register_user(TENANT, User::new("adele@contoso.com"));
    let scope = "api://own/Files.Read";
    local.consent(TENANT, CLIENT_ID, "adele@contoso.com", scope);
    let token = local
        .user_token(TENANT, CLIENT_ID, "adele@contoso.com", scope)
        .unwrap();
    let hidden = Hidden(vec![SECRET.to_owned(), token.clone()]);

    let validator = TokenValidator::builder(local.authority(TENANT))
        .audience("api://own")
        .single_tenant()
        .build()
        .unwrap();
    let request = http::Request::get("/").header("authorization", format!("Bearer {token}"));
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let permitted = PermittedToken::<ReadFiles>::from_request_parts(&mut parts, &validator)
        .await
        .unwrap();
    hidden.check_debug("PermittedToken", &permitted);
    let api = local.protected_api("api://own").await.unwrap();
    hidden.check_debug("ProtectedApi", &api);
}

/// Without encryption the values are plain text.
#[tokio::test]
async fn no_shared_cache_type_shows_a_secret() {
    let provider = Provider::open();
    let store = LocalSharedCache::new();
    let name_key = format!("{SECRET} and more");
    let options = SharedCacheOptions::without_encryption(&*name_key);
    let builder = provider
        .builder()
        .shared_cache(store.clone(), options.clone());
    let client = builder.build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    let_others_run().await;
    let name = store.names().remove(0);
    let owner = LockOwner::random();
    let locked = store.lock(&name, &owner, Duration::from_secs(5)).await;
    let record = store.get(&name).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&record.value).contains(token.secret()));
    let key = [7; 32];
    let hidden = Hidden(vec![
        SECRET.to_owned(),
        token.secret().to_owned(),
        owner.as_str().to_owned(),
        "[7, 7".to_owned(),
        "the key of a process".to_owned(),
    ]);
    hidden.check_debug("SharedCacheOptions", &options);
    let encrypted = SharedCacheOptions::encrypted(&*name_key, [EncryptionKey::from_bytes(key)]);
    hidden.check_debug("SharedCacheOptions", &encrypted);
    hidden.check_debug("EncryptionKey", &EncryptionKey::from_bytes(key));
    hidden.check_debug("SharedRecord", &record);
    let new = NewRecord::new(2, record.value, Duration::from_secs(5));
    hidden.check_debug("NewRecord", &new);
    hidden.check_debug("LockOutcome", &locked.unwrap());
    hidden.check_debug(
        "Redemption",
        &Redemption::new(owner.clone(), Duration::ZERO),
    );
    hidden.check_debug("LockOwner", &owner);
    hidden.check_debug("PutOutcome", &PutOutcome::Stored);
    hidden.check_debug("BeginRedemption", &BeginRedemption::Begun);
    hidden.check_debug("LocalSharedCache", &store);
    hidden.check_debug("StoreFault", &StoreFault::Hang);
    hidden.check_debug("SessionKey", &SessionKey::from("the key of a process"));
}

#[tokio::test]
async fn no_type_of_a_client_with_a_proof_key_shows_a_secret() {
    let (local, api) = dpop::start().await;
    let builder = || dpop::client_of(&local).dpop(dpop::key());
    let client = builder().build().unwrap();
    let provider = client.token_provider(dpop::ORDERS).unwrap();
    let token = provider.token().await.unwrap();
    let mut request = Request::get(format!("{}/", api.base_url()))
        .body(())
        .unwrap();
    client.authorize(&token, &mut request).await.unwrap();
    let proofs = [
        request.headers()["dpop"].to_str().unwrap(),
        local.token_requests()[0].header("dpop").unwrap(),
    ]
    .map(str::to_owned);
    let mut hidden = vec![token.secret().to_owned(), SECRET.to_owned()];
    hidden.extend(
        dpop::KEY
            .lines()
            .filter(|line| line.len() > 40)
            .map(str::to_owned),
    );
    hidden.extend(proofs);
    let hidden = Hidden(hidden);
    hidden.check_debug("DpopKey", &dpop::key());
    let audience = confidential_client::credential::AssertionAudience::Issuer;
    hidden.check_debug("AssertionAudience", &audience);
    hidden.check_debug("TokenScheme", &token.scheme());
    hidden.check_debug("ConfidentialClientBuilder", &builder());
    hidden.check_debug("ConfidentialClient", &client);
    hidden.check_debug("TokenProvider", &provider);
    hidden.check_debug("AccessToken", &token);
    hidden.check_debug("Request", &request);
    hidden.check_debug("RecordedRequest", &local.token_requests()[0]);
    hidden.check_debug("ProtectedApi", &api);
    let error = client.authorize(&token, &mut http::HeaderMap::new()).await;
    hidden.check_error(&error.unwrap_err());
}

/// The clients for programs that are not async have the names of the async ones.
fn check_blocking(hidden: &Hidden, client: ConfidentialClient) {
    let client = blocking::ConfidentialClient::from(client);
    hidden.check_debug("ConfidentialClient", &client);
    hidden.check_debug("TokenProvider", &client.token_provider(SCOPE).unwrap());
    hidden.check_debug("WarmUp", &client.warm_up([SCOPE]));
    let agent = client.agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479");
    hidden.check_debug("AgentIdentity", &agent.unwrap());
    let identity = ManagedIdentityClient::new(ManagedIdentity::system_assigned()).unwrap();
    let identity = blocking::ManagedIdentityClient::from(identity);
    hidden.check_debug("ManagedIdentityClient", &identity);
    let chain = CredentialChainClient::new(CredentialChain::default()).unwrap();
    let chain = blocking::CredentialChainClient::from(chain);
    hidden.check_debug("CredentialChainClient", &chain);
}

/// Finds public types without a check in this file.
#[test]
fn every_public_type_is_checked() {
    let checks: String = include_str!("secrecy.rs").split_whitespace().collect();
    let mut types = 0;
    for line in include_str!("../data/public-api.txt").lines() {
        let item = line.trim_start_matches("#[non_exhaustive] ");
        let Some(path) = ["pub struct ", "pub enum ", "pub union "]
            .iter()
            .find_map(|keyword| item.strip_prefix(keyword))
        else {
            continue;
        };
        let path = path.split(['<', '(', ' ']).next().unwrap();
        let name = path.rsplit("::").next().unwrap();
        assert!(
            checks.contains(&format!(r#"check_debug("{name}","#)),
            "check the Debug output of {path} in tests/it/secrecy.rs"
        );
        types += 1;
    }
    assert!(types > 50, "{types} types in tests/data/public-api.txt");
}

/// The identity provider repeats the request of the last step, with T1, T2 and the user.
#[tokio::test]
async fn an_agent_identity_shows_none_of_its_tokens() {
    let tokens = ["T1", "T2"].map(unsigned_jwt);
    let issued = std::sync::Mutex::new(tokens.clone().into_iter());
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(move |request: http::Request<Bytes>| {
            let response = match issued.lock().unwrap().next() {
                Some(token) => http::Response::new(Bytes::from(format!(
                    r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#
                ))),
                None => {
                    let form = url::form_urlencoded::parse(request.body());
                    let form: Vec<String> = form.map(|(_, value)| value.into_owned()).collect();
                    let body = serde_json::json!({
                        "error": "invalid_grant", "error_description": form.join(" "),
                    });
                    let response = http::Response::builder().status(400);
                    response.body(Bytes::from(body.to_string())).unwrap()
                }
            };
            async move { Ok(response) }
        })
        .build()
        .unwrap();
    let agent = client
        .agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479")
        .unwrap();
    let user = UserIdentifier::username("adele@contoso.com");
    let scope = "https://graph.microsoft.com/User.Read";
    let error = agent.acquire_token_by_user_fic(&user, scope).await;
    let [t1, t2] = tokens;
    let credential = UserFederatedCredential::new(&*t2);
    let hidden = Hidden(vec![SECRET.to_owned(), t1, t2]);
    hidden.check_error(&error.unwrap_err());
    hidden.check_debug("UserFederatedCredential", &credential);
    hidden.check_debug("AgentIdentity", &agent);
    let hidden = Hidden(vec!["adele".to_owned()]);
    hidden.check_debug("UserIdentifier", &user);
    hidden.check_debug(
        "TokenProvider",
        &agent.token_provider_by_user_fic(&user, scope).unwrap(),
    );
}
