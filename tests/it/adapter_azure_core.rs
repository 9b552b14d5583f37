//! The credential for the Azure SDK for Rust, called directly and by the SDK's Key Vault client.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, StatusCode, Transport};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use confidential_client::adapter::AzureCredential;
use confidential_client::credential::ManagedIdentity;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{
    AssignedIdentity, HostKind, LocalAuthority, LocalManagedIdentity, ManualClock,
};
use confidential_client::{Error, ManagedIdentityClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::raw_server::answer;
use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, success};

const RESOURCE: &str = "https://vault.azure.net";
const VAULT: &str = "https://vault.azure.net/.default";
const HOST: &str = "contoso.vault.azure.net";
/// The application role that a vault with a validator requires.
const ROLE: &str = "Secrets.Read";

/// A Key Vault on loopback, with a vault's host name and TLS, which the SDK's client requires.
struct Vault {
    address: SocketAddr,
    certificate: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

/// A request.
struct Seen {
    line: String,
    authorization: Option<String>,
}

/// The answer of a vault to a request.
#[derive(Clone)]
struct Access {
    /// The resource that the challenge names.
    resource: &'static str,
    /// Checks the tokens. Otherwise the vault accepts the numbered tokens of a `Provider`.
    validator: Option<TokenValidator>,
}

impl Access {
    async fn is_granted(&self, authorization: &str) -> bool {
        let Some(token) = authorization.strip_prefix("Bearer ") else {
            return false;
        };
        match &self.validator {
            Some(validator) => {
                let claims = validator.validate(token).await;
                claims.is_ok_and(|claims| claims.require_application_role(ROLE).is_ok())
            }
            None => token.starts_with("token-"),
        }
    }
}

impl Vault {
    async fn start() -> Self {
        Self::with(Access {
            resource: RESOURCE,
            validator: None,
        })
        .await
    }

    async fn with(access: Access) -> Self {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key));
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let serving = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, access) = (acceptor.clone(), access.clone());
                let seen = Arc::clone(&serving);
                tokio::spawn(async move { serve(socket, acceptor, &access, &seen).await.unwrap() });
            }
        });
        Self {
            address,
            certificate: made.cert.pem(),
            seen,
            task: task.abort_handle(),
        }
    }

    /// Builds the SDK's client for this vault.
    ///
    /// The SDK's client checks that the resource of a challenge fits the vault's host, as by
    /// default.
    fn secrets(&self, client: impl Into<AzureCredential>) -> SecretClient {
        let certificate = reqwest::Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .resolve(HOST, self.address)
            .tls_certs_only([certificate])
            .build()
            .unwrap();
        let options = SecretClientOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(Arc::new(http))),
                ..ClientOptions::default()
            },
            ..SecretClientOptions::default()
        };
        let url = format!("https://{HOST}:{}", self.address.port());
        let credential = Arc::new(AzureCredential::new(client));
        SecretClient::new(&url, credential, Some(options)).unwrap()
    }

    /// Returns the `Authorization` headers in the order of the requests.
    fn tokens(&self) -> Vec<Option<String>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|seen| seen.authorization.clone()).collect()
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    access: &Access,
    seen: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let mut socket = acceptor.accept(socket).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(socket.read_u8().await?);
    }
    let head = String::from_utf8(request).unwrap();
    let authorization = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization")
            .then(|| value.to_owned())
    });
    let is_authorized = match &authorization {
        Some(value) => access.is_granted(value).await,
        None => false,
    };
    let line = head.lines().next().unwrap().to_owned();
    seen.lock().unwrap().push(Seen {
        line,
        authorization,
    });
    let answer = if is_authorized {
        let body = format!(
            r#"{{"value":"open sesame","id":"https://{HOST}/secrets/door/1","attributes":{{"enabled":true}}}}"#
        );
        answer("200 OK", "content-type: application/json\r\n", &body)
    } else {
        let resource = access.resource;
        let challenge = format!(
            r#"Bearer authorization="https://login.windows.net/contoso.com", resource="{resource}""#
        );
        let headers = format!("www-authenticate: {challenge}\r\n");
        answer("401 Unauthorized", &headers, "")
    };
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

async fn read(secrets: &SecretClient) -> azure_core::Result<Option<String>> {
    let secret = secrets.get_secret("door", None).await?.into_model()?;
    Ok(secret.value)
}

/// Finds this crate's error among the SDK's error and its causes.
fn ours(error: &azure_core::Error) -> &Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    loop {
        let error = cause.unwrap();
        if let Some(ours) = error.downcast_ref() {
            return ours;
        }
        cause = error.source();
    }
}

#[tokio::test]
async fn each_scope_gets_one_token_request() {
    let provider = Provider::open();
    let credential = AzureCredential::new(provider.client());
    for (scope, token) in [(VAULT, "token-1"), (SCOPE, "token-2"), (VAULT, "token-1")] {
        let answer = credential.clone().get_token(&[scope], None).await.unwrap();
        assert_eq!(answer.token.secret(), token);
    }
    assert_eq!(provider.requests(), 2);
    assert_eq!(provider.field(0, "scope").as_deref(), Some(VAULT));
    assert_eq!(provider.field(1, "scope").as_deref(), Some(SCOPE));
}

#[tokio::test]
async fn the_expiry_is_passed_on_and_an_expired_token_is_never_returned() {
    let (provider, clock) = (Provider::open(), ManualClock::new());
    let client = provider.client_at(&clock);
    let credential = AzureCredential::new(client.clone());
    let first = credential.get_token(&[VAULT], None).await.unwrap();
    let known = client.acquire_token_for_client(VAULT).await.unwrap();
    assert_eq!(SystemTime::from(first.expires_on), known.expires_on());
    clock.advance(Duration::from_secs(3599));
    let second = credential.get_token(&[VAULT], None).await.unwrap();
    assert_eq!(second.token.secret(), "token-2");
    assert_eq!((second.expires_on - first.expires_on).whole_seconds(), 3599);
}

#[tokio::test]
async fn a_named_tenant_issues_the_token() {
    let provider = Provider::open();
    let credential = AzureCredential::new(provider.client());
    let fabrikam = credential.clone().tenant("fabrikam.com");
    fabrikam.get_token(&[VAULT], None).await.unwrap();
    assert!(provider.uri(0).contains("/fabrikam.com/"));
    credential.get_token(&[VAULT], None).await.unwrap();
    assert!(!provider.uri(1).contains("/fabrikam.com/"));
    let nobody = credential.tenant("not a tenant");
    let error = nobody.get_token(&[VAULT], None).await.unwrap_err();
    assert!(error.to_string().contains("not a tenant"), "{error}");
}

#[tokio::test]
async fn a_token_provider_serves_its_own_scope_alone() {
    let provider = Provider::open();
    let vault = provider.client().token_provider(VAULT).unwrap();
    let credential = AzureCredential::new(vault);
    for _ in 0..2 {
        let token = credential.get_token(&[VAULT], None).await.unwrap();
        assert_eq!(token.token.secret(), "token-1");
    }
    let of_tenant = credential.clone().tenant("fabrikam.com");
    for (credential, scope, text) in [
        (
            &credential,
            SCOPE,
            "the token provider is for 'https://vault.azure.net/.default'",
        ),
        (&of_tenant, VAULT, "the tenant \"fabrikam.com\" was set"),
    ] {
        let error = credential.get_token(&[scope], None).await.unwrap_err();
        assert!(matches!(ours(&error), Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(provider.requests(), 1);

    // The provider of a managed identity may be for the resource.
    let host = LocalManagedIdentity::start().await.unwrap();
    let client = identity_client(&host, HostKind::Imds, ManagedIdentity::system_assigned());
    let credential = AzureCredential::new(client.token_provider(RESOURCE).unwrap());
    credential.get_token(&[VAULT], None).await.unwrap();
    credential.get_token(&[SCOPE], None).await.unwrap_err();
}

#[tokio::test]
async fn a_wrong_scope_is_a_config_error() {
    let provider = Provider::open();
    let credential = AzureCredential::new(provider.client());
    for (scopes, text) in [
        (&["User.Read"][..], "does not end in '/.default'"),
        (&[], "no scope"),
        (&[VAULT, SCOPE], "two resources"),
    ] {
        let error = credential.get_token(scopes, None).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Credential);
        assert!(error.to_string().contains(text), "{error}");
        assert!(matches!(error.downcast_ref(), Some(Error::Config(_))));
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn debug_shows_no_token_and_no_secret() {
    let provider = Provider::open();
    let credential = AzureCredential::new(provider.client());
    let token = credential.get_token(&[VAULT], None).await.unwrap();
    // A response that cannot be parsed and contains a token.
    provider.answer(200, r#"{"token_type":"mac","access_token":"token-2"}"#);
    let error = credential.get_token(&[SCOPE], None).await.unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(Error::InvalidResponse(_))
    ));
    let shown = format!("{credential:?} {token:?} {error:?} {error}");
    assert!(
        !shown.contains("token-") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[tokio::test]
async fn the_key_vault_client_sends_the_credentials_token_after_a_challenge() {
    let (provider, vault) = (Provider::open(), Vault::start().await);
    let secrets = vault.secrets(provider.client());
    for _ in 0..2 {
        assert_eq!(read(&secrets).await.unwrap().unwrap(), "open sesame");
    }
    let token = Some("Bearer token-1".to_owned());
    assert_eq!(vault.tokens(), [None, token.clone(), token]);
    let line = vault.seen.lock().unwrap()[1].line.clone();
    assert!(line.starts_with("GET /secrets/door"), "{line}");
    assert_eq!(provider.requests(), 1);
    assert_eq!(provider.field(0, "scope").as_deref(), Some(VAULT));
}

/// In the last five minutes of a token, each client of the SDK calls the credential every time.
#[tokio::test]
async fn the_cache_serves_every_call_of_the_sdk() {
    let (provider, vault) = (Provider::open(), Vault::start().await);
    provider.answer_with(success("token-1", 200));
    let client = provider.client();
    for secrets in [vault.secrets(client.clone()), vault.secrets(client)] {
        for _ in 0..3 {
            read(&secrets).await.unwrap();
        }
    }
    assert_eq!((provider.requests(), vault.tokens().len()), (1, 8));
}

#[tokio::test]
async fn a_rejection_reaches_the_sdks_caller_and_is_not_retried() {
    let (provider, vault) = (Provider::open(), Vault::start().await);
    let refusal = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}"#;
    provider.answer(401, refusal);
    let secrets = vault.secrets(provider.client());
    let error = read(&secrets).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Credential);
    assert!(ours(&error).is_credential_rejected(), "{error:?}");
    assert!(!format!("{error:?}").contains(SECRET));
    assert_eq!((provider.requests(), vault.tokens()), (1, vec![None]));
}

/// Builds a client of an identity of a host.
fn identity_client(
    host: &LocalManagedIdentity,
    kind: HostKind,
    identity: ManagedIdentity,
) -> ManagedIdentityClient {
    let builder = ManagedIdentityClient::builder(identity);
    builder.environment(host.environment(kind)).build().unwrap()
}

#[tokio::test]
async fn the_key_vault_client_reads_a_secret_with_a_managed_identity() {
    let local = LocalAuthority::start().await.unwrap();
    let host = local.managed_identity(TENANT).await.unwrap();
    host.assign(AssignedIdentity::new(CLIENT_ID).role(RESOURCE, ROLE));
    let validator = TokenValidator::builder(local.authority(TENANT));
    let validator = validator.audience(RESOURCE).single_tenant();
    let access = Access {
        resource: RESOURCE,
        validator: Some(validator.build().unwrap()),
    };
    for kind in [HostKind::Imds, HostKind::AppService] {
        let vault = Vault::with(access.clone()).await;
        let identity = ManagedIdentity::user_assigned_client_id(CLIENT_ID);
        let client = identity_client(&host, kind, identity);
        let sent = host.requests().len();
        for secrets in [vault.secrets(client.clone()), vault.secrets(client)] {
            for _ in 0..2 {
                assert_eq!(read(&secrets).await.unwrap().unwrap(), "open sesame");
            }
        }
        // Each client of the SDK sends its first request without a token.
        let tokens = vault.tokens();
        let token = &tokens[1];
        let expected = [&None, token, token, &None, token, token];
        assert!(tokens.iter().eq(expected), "{kind:?}");
        let requests = host.requests().split_off(sent);
        assert_eq!(requests.len(), 1, "{kind:?}");
        assert_eq!(requests[0].parameter("resource"), Some(RESOURCE));
        assert_eq!(requests[0].parameter("client_id"), Some(CLIENT_ID));

        // The system-assigned identity has no role of the vault.
        let system = identity_client(&host, kind, ManagedIdentity::system_assigned());
        let error = read(&vault.secrets(system)).await.unwrap_err();
        assert_eq!(error.http_status(), Some(StatusCode::Unauthorized));
        let tokens = vault.tokens();
        assert!(tokens.last().unwrap().is_some() && tokens.last().unwrap() != &tokens[1]);
    }
}

#[tokio::test]
async fn a_challenge_for_another_resource_gets_no_token_of_a_managed_identity() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let vault = Vault::with(Access {
        resource: "https://storage.azure.com",
        validator: None,
    });
    let vault = vault.await;
    let client = identity_client(&host, HostKind::Imds, ManagedIdentity::system_assigned());
    let error = read(&vault.secrets(client)).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("storage.azure.com"), "{text}");
    assert_eq!((vault.tokens(), host.requests().len()), (vec![None], 0));
}
