//! Every kind of credential and of call in a program that is not async, over HTTP on loopback.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use confidential_client::blocking::{
    ConfidentialClient, CredentialChainClient, ManagedIdentityClient,
};
use confidential_client::credential::{
    CertificateFile, CredentialChain, DpopKey, ManagedIdentity, Signer, SigningAlgorithm,
};
use confidential_client::delegated::{
    AuthorizationRequest, TokenExchange, TokenTypeIdentifier, UserAssertion, UserIdentifier,
};
use confidential_client::testing::{
    Application, HostKind, LocalAuthority, LocalManagedIdentity, ProviderRules, User, block_on,
};
use confidential_client::transport::MutualTls;
use confidential_client::{
    Authority, Certificate, ConfidentialClientBuilder, Error, TokenScheme, TokenSource,
};
use http::{HeaderMap, Request};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use crate::support::client_ca::ClientCa;
use crate::support::{CLIENT_ID, PEM, SCOPE, SECRET, TENANT, client_of, dpop, log_capture};

const VAULT: &str = "https://vault.azure.net/.default";
const NAME: &str = "daemon.example";

fn authority(application: Application) -> LocalAuthority {
    let local = block_on(LocalAuthority::start()).unwrap();
    local.register(TENANT, application);
    local
}

fn application() -> Application {
    Application::new(CLIENT_ID)
}

/// Acquires a token twice, and counts the requests.
#[track_caller]
fn use_client(name: &str, local: &LocalAuthority, builder: ConfidentialClientBuilder) {
    let client = builder.build_blocking().unwrap();
    let token = client.acquire_token_for_client(SCOPE);
    let token = token.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
    assert_eq!(token.source(), TokenSource::IdentityProvider, "{name}");
    let token = client.acquire_token_for_client(SCOPE).unwrap();
    assert_eq!(token.source(), TokenSource::Cache, "{name}");
    assert_eq!(local.token_requests().len(), 1, "{name}");
}

/// Returns a signer that needs the timers of the runtime that calls the signer.
fn vault(sign: impl Fn(SigningAlgorithm, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> impl Signer {
    let sign = Arc::new(sign);
    move |algorithm: SigningAlgorithm, message: Vec<u8>| {
        let sign = Arc::clone(&sign);
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(sign(algorithm, &message))
        }
    }
}

fn rsa_vault(key: &KeyPair) -> impl Signer + use<> {
    let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
    vault(move |algorithm, message| {
        let padding = match algorithm {
            SigningAlgorithm::PS256 => &RSA_PSS_SHA256,
            _ => &RSA_PKCS1_SHA256,
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(padding, &random, message, &mut signature)
            .unwrap();
        signature
    })
}

fn p256_vault(key: &KeyPair) -> impl Signer + use<> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der()).unwrap();
    vault(move |_, message| {
        let signature = pair.sign(&SystemRandom::new(), message);
        signature.unwrap().as_ref().to_vec()
    })
}

fn rsa_key() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

#[test]
fn a_secret_a_certificate_a_file_and_a_remote_key_authenticate() {
    let certificate = || Certificate::from_pem(PEM.as_str()).unwrap();
    let path = std::env::temp_dir().join(format!("blocking-{}.pem", uuid::Uuid::new_v4()));
    std::fs::write(&path, PEM.as_bytes()).unwrap();

    let local = authority(application().secret(SECRET));
    use_client("secret", &local, client_of(&local).client_secret(SECRET));
    let local = authority(application().certificate(certificate()));
    let builder = client_of(&local).certificate(certificate());
    use_client("certificate", &local, builder);
    let local = authority(application().certificate(certificate()));
    let builder = client_of(&local).certificate_source(CertificateFile::new(&path));
    use_client("file", &local, builder);
    std::fs::remove_file(&path).unwrap();

    let key = rsa_key();
    let signer = rsa_vault(&key);
    let issued = ClientCa::new().issue_with(NAME, key, |_| ());
    let remote = Certificate::from_signer(&issued.certificate, signer).unwrap();
    let local = authority(application().certificate(&remote));
    use_client("signer", &local, client_of(&local).certificate(remote));
}

#[test]
fn a_managed_identity_has_a_blocking_client() {
    let host = block_on(LocalManagedIdentity::start()).unwrap();
    for kind in [
        HostKind::AppService,
        HostKind::ServiceFabric,
        HostKind::AzureArc,
    ] {
        let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
            .environment(host.environment(kind))
            .build_blocking()
            .unwrap();
        let sent = host.requests().len();
        let token = client.acquire_token(VAULT).unwrap();
        assert_eq!(token.source(), TokenSource::IdentityProvider, "{kind:?}");
        let vault = client
            .clone()
            .token_provider("https://vault.azure.net")
            .unwrap();
        assert_eq!(
            vault.token().unwrap().source(),
            TokenSource::Cache,
            "{kind:?}"
        );
        let sent_now = host.requests().len() - sent;
        assert!(sent_now >= 1, "{kind:?}");
        client.invalidate(&token);
        assert!(vault.cached().is_none(), "{kind:?}");
        assert_eq!(client.cache().len(), 1, "{kind:?}");
        vault.token().unwrap();
        assert!(client.as_async().cache().stats().misses >= 2, "{kind:?}");
    }
}

#[test]
fn a_credential_chain_has_a_blocking_client() {
    let host = block_on(LocalManagedIdentity::start()).unwrap();
    let client = CredentialChainClient::builder(CredentialChain::default())
        .environment(host.environment(HostKind::AppService))
        .build_blocking()
        .unwrap();
    assert_eq!(client.selected_link(), None);
    let token = client.acquire_token(VAULT).unwrap();
    assert_eq!(client.selected_link(), Some("managed identity"));
    let vault = client.token_provider(VAULT).unwrap();
    assert_eq!(vault.token().unwrap().secret(), token.secret());
    client.invalidate(&token);
    assert_eq!(client.cache().len(), 1);
    assert!(client.as_async().cache().stats().misses >= 1);
    assert!(vault.cached().is_none());
}

/// The handshake's runtime is the process's own, and a remote key signs on the hidden thread.
#[test]
fn mutual_tls_authenticates_with_a_key_in_memory_and_with_a_remote_key() {
    log_capture::start();
    let ca = ClientCa::new();
    let key = KeyPair::generate().unwrap();
    let signer = p256_vault(&key);
    let issued = ca.issue_with(NAME, key, |_| ());
    let remote = Certificate::from_signer(&issued.certificate, signer).unwrap();
    for (name, certificate) in [("memory", ca.issue(NAME).parsed()), ("signer", remote)] {
        let local = block_on(LocalAuthority::builder().mutual_tls().start()).unwrap();
        let registered = application().tls_client_auth(ca.pem(), format!("CN={NAME}"));
        local.register(TENANT, registered);
        let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(local.ca_pem().unwrap());
        let builder = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
            .tls_client_auth(mutual_tls);
        use_client(name, &local, builder);
    }
}

/// A proof by a key in memory is made everywhere, and one by a signer on the thread.
#[test]
fn a_request_gets_a_proof_by_each_kind_of_proof_key() {
    let (local, api) = block_on(async { Ok::<_, Error>(dpop::start().await) }).unwrap();
    let ec = KeyPair::generate().unwrap();
    let rsa = rsa_key();
    let remote = |key: &KeyPair| DpopKey::from_signer(key.public_key_pem(), p256_vault(key));
    for (name, key, waits) in [
        ("generated", DpopKey::generate().unwrap(), false),
        ("RSA", DpopKey::from_pem(rsa.serialize_pem()).unwrap(), true),
        ("signer", remote(&ec).unwrap(), true),
    ] {
        let client = dpop::client_of(&local).dpop(key).build_blocking().unwrap();
        let orders = client.token_provider(dpop::ORDERS).unwrap();
        let request = || Request::get(api.base_url()).body(()).unwrap();
        let mut by_provider = request();
        orders.authorize(&mut by_provider).unwrap();
        let mut by_client = request();
        let token = orders.token().unwrap();
        assert_eq!(token.scheme(), TokenScheme::Dpop);
        client.authorize(&token, &mut by_client).unwrap();
        for request in [&by_provider, &by_client] {
            assert_eq!(status(request), 200, "{name}");
        }
        let error = orders.authorize(&mut HeaderMap::new()).unwrap_err();
        assert!(
            error.to_string().contains("pass the http::Request"),
            "{error}"
        );

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let inside = runtime.unwrap().block_on(async {
            let mut inside = request();
            orders.authorize(&mut inside).map(|()| inside)
        });
        match waits {
            false => assert_eq!(status(&inside.unwrap()), 200, "{name}"),
            true => {
                let message = inside.unwrap_err().to_string();
                assert!(
                    message.contains("provider.as_async().authorize(..).await"),
                    "{message}"
                );
            }
        }
    }
}

/// The API's nonce arrives in the next proof.
#[test]
fn a_nonce_is_recorded() {
    let (local, api) = block_on(async { Ok::<_, Error>(dpop::start().await) }).unwrap();
    api.require_dpop_nonce();
    let client = dpop::client_of(&local)
        .dpop(dpop::key())
        .build_blocking()
        .unwrap();
    let orders = client.token_provider(dpop::ORDERS).unwrap();
    let mut statuses = Vec::new();
    for number in 0..2 {
        let mut request = Request::get(api.base_url()).body(()).unwrap();
        orders.authorize(&mut request).unwrap();
        let response = send(&request);
        statuses.push(response.status().as_u16());
        let again = match number {
            0 => client.record_nonce(api.base_url(), response.headers()),
            _ => orders.record_nonce(api.base_url(), response.headers()),
        };
        assert_eq!(again, number == 0);
    }
    assert_eq!(statuses, [401, 200]);
}

/// Sends a request by the HTTP client of programs that are not async.
fn send(request: &Request<()>) -> http::Response<ureq::Body> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None);
    let agent = ureq::Agent::new_with_config(agent.build());
    agent.run(request.clone()).unwrap()
}

fn status(request: &Request<()>) -> u16 {
    send(request).status().as_u16()
}

const ADELE: &str = "adele@contoso.onmicrosoft.com";
const BACK: &str = "https://web.example.org/signed-in";
const FILES: &str = "api://drive/Files.Read";

#[test]
fn a_user_signs_in_and_the_program_acts_for_the_user() {
    log_capture::start();
    let local = authority(
        application()
            .secret(SECRET)
            .redirect_uri(BACK)
            .publishes("api://web", ["access"])
            .delegated("api://drive", "Files.Read"),
    );
    local.register(
        TENANT,
        Application::new("front").delegated("api://web", "access"),
    );
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, CLIENT_ID, ADELE, FILES);
    local.consent(TENANT, "front", ADELE, "api://web/access");
    let client = client_of(&local)
        .client_secret(SECRET)
        .build_blocking()
        .unwrap();

    let request = AuthorizationRequest::new(BACK, FILES);
    let (page, flow) = client.authorization_request_url(&request).unwrap();
    let back = block_on(local.sign_in(&page, ADELE)).unwrap();
    let signed_in = client
        .acquire_token_by_authorization_code(flow, back)
        .unwrap();
    let account = signed_in.account();
    let token = client.acquire_token_silent(account, FILES).unwrap();
    assert_eq!(token.source(), TokenSource::Cache);
    let silent = client.token_provider_silent(account, FILES).unwrap();
    assert_eq!(silent.token().unwrap().secret(), token.secret());
    client.remove_account(account).unwrap();
    assert!(matches!(silent.token(), Err(Error::InteractionRequired(_))));
    assert!(
        client
            .import_refresh_token(account, "another library's")
            .unwrap()
    );

    let request = request.without_id_token();
    let (page, flow) = client.authorization_request_url(&request).unwrap();
    let back = block_on(local.sign_in(&page, ADELE)).unwrap();
    client
        .acquire_access_token_by_authorization_code(flow, back)
        .unwrap();

    let assertion = local.user_token(TENANT, "front", ADELE, "api://web/access");
    let assertion = UserAssertion::new(assertion.unwrap());
    let token = client
        .acquire_token_on_behalf_of(&assertion, FILES)
        .unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let again = client
        .acquire_token_on_behalf_of(&assertion, FILES)
        .unwrap();
    assert_eq!(again.source(), TokenSource::Cache);
    let provider = client
        .token_provider_on_behalf_of(&assertion, FILES)
        .unwrap();
    assert_eq!(provider.token().unwrap().secret(), token.secret());

    let key = client
        .start_long_running_on_behalf_of(&assertion, FILES)
        .unwrap();
    client
        .continue_long_running_on_behalf_of(&key, FILES)
        .unwrap();
    client.stop_long_running_on_behalf_of(&key).unwrap();
    let ended = client.continue_long_running_on_behalf_of(&key, FILES);
    assert!(matches!(ended, Err(Error::InteractionRequired(_))));
}

#[test]
fn an_agent_identity_acquires_tokens_alone_and_as_a_user() {
    const AGENT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    const READ: &str = "api://orders/Orders.Read";
    let local = authority(
        application()
            .secret(SECRET)
            .publishes("api://web", ["access"]),
    );
    let agent = Application::new(AGENT).agent_identity_of(CLIENT_ID);
    local.register(TENANT, agent.role("api://orders", "Orders.Read.All"));
    let user = User::new("agent-1@contoso.onmicrosoft.com").of_agent_identity(AGENT);
    local.register_user(TENANT, user.clone());
    local.register_user(TENANT, User::new(ADELE));
    local.admin_consent(TENANT, AGENT, READ);
    local.register(
        TENANT,
        Application::new("front").delegated("api://web", "access"),
    );
    local.consent(TENANT, "front", ADELE, "api://web/access");

    let client = client_of(&local)
        .client_secret(SECRET)
        .build_blocking()
        .unwrap();
    let agent = client.agent_identity(AGENT).unwrap();
    assert_eq!(
        (agent.client_id(), agent.as_async().client_id()),
        (AGENT, AGENT)
    );
    let orders = "api://orders/.default";
    let token = agent.acquire_token_for_client(orders).unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let provider = agent.token_provider(orders).unwrap();
    assert_eq!(provider.token().unwrap().source(), TokenSource::Cache);
    let assertion = local.user_token(TENANT, "front", ADELE, "api://web/access");
    let assertion = UserAssertion::new(assertion.unwrap());
    let token = agent.acquire_token_on_behalf_of(&assertion, READ).unwrap();
    let provider = agent.token_provider_on_behalf_of(&assertion, READ).unwrap();
    assert_eq!(provider.token().unwrap().secret(), token.secret());

    let user = UserIdentifier::object_id(user.object_id());
    let token = agent.acquire_token_by_user_fic(&user, READ).unwrap();
    let provider = agent.token_provider_by_user_fic(&user, READ).unwrap();
    assert_eq!(provider.token().unwrap().secret(), token.secret());
    agent.invalidate(&token);
    assert!(provider.cached().is_none());
    agent.remove_user(&user).unwrap();
    let entries = agent.blueprint().cache().len();
    assert_eq!(entries, client.cache().len());
}

#[test]
fn a_token_is_exchanged() {
    let rules = ProviderRules::openid();
    let local = block_on(LocalAuthority::builder().rules(rules).start()).unwrap();
    local.register(
        TENANT,
        application()
            .secret(SECRET)
            .publishes("api://gateway", ["call"])
            .exchange("api://orders", ["read"]),
    );
    local.register(
        TENANT,
        Application::new("orders").publishes("api://orders", ["read"]),
    );
    local.register(TENANT, Application::new("app").secret(SECRET));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, "app", ADELE, "api://gateway/call");
    let received = local.user_token(TENANT, "app", ADELE, "api://gateway/call");
    let client = dpop::client_of(&local).build_blocking().unwrap();
    let exchange = TokenExchange::new(received.unwrap(), TokenTypeIdentifier::ACCESS_TOKEN);
    let exchange = exchange.audience("api://orders");
    let token = client.exchange_token(&exchange).unwrap();
    let provider = client.token_provider_for_exchange(&exchange).unwrap();
    assert_eq!(provider.token().unwrap().secret(), token.secret());
    assert_eq!(local.token_requests().len(), 1);
}

#[test]
fn the_rest_of_the_application_verbs_are_those_of_the_async_client() {
    let certificate = Certificate::from_pem(PEM.as_str()).unwrap();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .certificate(certificate.clone())
        .build_blocking()
        .unwrap();
    let used = client.certificate().unwrap();
    assert_eq!(used.thumbprint_sha256(), certificate.thumbprint_sha256());
    let page = client.admin_consent_url("organizations", "https://isv.example.org/back", "x");
    let expected = client.as_async();
    let expected = expected.admin_consent_url("organizations", "https://isv.example.org/back", "x");
    assert_eq!(page.unwrap(), expected.unwrap());
    assert!(client.cache().is_empty());
    assert_eq!(format!("{client:?}"), format!("{:?}", client.as_async()));
}
