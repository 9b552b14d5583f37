//! A Key Vault on loopback, over TLS, with the host name of a vault.
//!
//! The vault challenges each request without a token, accepts the tokens of one tenant by their
//! roles, and signs digests with real keys. The tests of the crate use this file, too.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the example and the tests use different parts"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use confidential_client::resource::TokenValidator;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs as tls_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The resource of the vault's tokens. The host of the vault is below this host, which the clients
/// of the Azure SDK check.
pub const RESOURCE: &str = "https://vault.localhost";
const HOST: &str = "my.vault.localhost";

/// The roles, as application roles of the tokens.
pub const CERTIFICATE_USER: &str = "KeyVaultCertificateUser";
pub const SECRETS_USER: &str = "KeyVaultSecretsUser";
pub const CRYPTO_USER: &str = "KeyVaultCryptoUser";

/// A version of a certificate, with its key and its secret.
#[derive(Clone)]
pub struct Version {
    pub enabled: bool,
    /// Seconds since the Unix epoch, as all times of a vault.
    pub created: u64,
    pub not_before: u64,
    pub expires: u64,
    /// The `exportable` of the policy. `None` leaves the policy out.
    pub exportable: Option<bool>,
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// The content type and the value of the secret.
    pub secret: (String, String),
    /// The private key in PKCS#8.
    pub key: Vec<u8>,
    /// The version of the key. A real vault gives all three the same version.
    pub key_version: String,
    /// The vault the key identifier names, unless it is this vault.
    pub kid: Option<String>,
}

impl Version {
    /// Creates a version with an RSA key of 2048 bits, whose secret is PEM.
    pub fn rsa(common_name: &str) -> Result<Self> {
        Self::with_key(
            common_name,
            &KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        )
    }

    pub fn with_key(common_name: &str, key: &KeyPair) -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        params.not_before = (SystemTime::now() - day).into();
        params.not_after = (SystemTime::now() + 365 * day).into();
        let certificate = params.self_signed(key)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self {
            enabled: true,
            created: now,
            not_before: now - day.as_secs(),
            expires: now + 365 * day.as_secs(),
            exportable: Some(true),
            secret: (
                "application/x-pem-file".to_owned(),
                format!("{}{}", key.serialize_pem(), certificate.pem()),
            ),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            key_version: String::new(),
            kid: None,
        })
    }

    /// Makes a version whose private key stays in the vault.
    pub fn not_exportable(mut self) -> Self {
        self.exportable = Some(false);
        self
    }

    /// Signs a digest. `Err` has the vault's message.
    fn sign(&self, algorithm: &str, value: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let imported = match algorithm {
            "ES384" => Digest::import_less_safe(value, &digest::SHA384),
            _ => Digest::import_less_safe(value, &digest::SHA256),
        };
        let Ok(digest) = imported else {
            return Err(format!("Invalid length of 'value': {} bytes", value.len()));
        };
        let incompatible = || {
            format!("Key and signing algorithm are incompatible. The algorithm is '{algorithm}'.")
        };
        let ecdsa = match algorithm {
            "ES256" => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key),
            "ES384" => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.key),
            "PS256" | "RS256" => {
                let key = RsaKeyPair::from_pkcs8(&self.key).map_err(|_| incompatible())?;
                let mut signature = vec![0; key.public_modulus_len()];
                let padding = match algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let signed = key.sign_digest(padding, &digest, &mut signature);
                return signed.map(|()| signature).map_err(|_| incompatible());
            }
            _ => return Err(format!("Invalid value for 'alg': '{algorithm}'")),
        };
        let signature = ecdsa.map_err(|_| incompatible())?.sign_digest(&digest);
        let signature = signature.map_err(|_| incompatible())?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A request to the vault.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenRequest {
    /// The method and the path.
    pub line: String,
    pub has_token: bool,
}

/// What a request gets instead of the vault's answer.
#[derive(Clone)]
pub enum Fault {
    /// A status, a body, and the value of `Retry-After`.
    Answer(u16, String, Option<u32>),
    /// The vault's answer, once a permit of the semaphore is added.
    Hold(Arc<Semaphore>),
}

/// A running vault. Dropping it ends the vault.
pub struct LocalVault {
    address: SocketAddr,
    ca: reqwest::Certificate,
    state: Arc<VaultState>,
    task: AbortHandle,
}

struct VaultState {
    url: String,
    validator: TokenValidator,
    certificates: Mutex<BTreeMap<String, Vec<(String, Version)>>>,
    requests: Mutex<Vec<SeenRequest>>,
    /// The start of a request line, and the fault of each request that begins so.
    faults: Mutex<Vec<(String, Fault)>>,
    /// The resource that the challenge names.
    challenged: Mutex<String>,
    versions: Mutex<u32>,
}

impl LocalVault {
    /// Starts a vault that accepts the tokens for [`RESOURCE`] that `validator` accepts.
    pub async fn start(validator: TokenValidator) -> Result<Self> {
        let certified = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(tls_provider::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(VaultState {
            url: format!("https://{HOST}:{}", address.port()),
            validator,
            certificates: Mutex::default(),
            requests: Mutex::default(),
            faults: Mutex::default(),
            challenged: Mutex::new(RESOURCE.to_owned()),
            versions: Mutex::default(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&state));
        let listener = TlsListener(listener, TlsAcceptor::from(Arc::new(config)));
        let task = tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self {
            address,
            ca: reqwest::Certificate::from_pem(certified.cert.pem().as_bytes())?,
            state,
            task: task.abort_handle(),
        })
    }

    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Adds a version of a certificate. Returns the version's name.
    pub fn add(&self, name: &str, mut version: Version) -> String {
        let mut number = lock(&self.state.versions);
        *number += 1;
        // As in a real vault, the name of a version says nothing about its age.
        let id = format!("{:032x}", 0xfeed_0000_u32.wrapping_sub(*number * 0x1111));
        if version.key_version.is_empty() {
            version.key_version.clone_from(&id);
        }
        let mut certificates = lock(&self.state.certificates);
        let versions = certificates.entry(name.to_owned()).or_default();
        versions.push((id.clone(), version));
        id
    }

    /// Changes a version.
    pub fn change(&self, name: &str, id: &str, change: impl FnOnce(&mut Version)) {
        let mut certificates = lock(&self.state.certificates);
        let mut versions = certificates.get_mut(name).into_iter().flatten();
        if let Some((_, version)) = versions.find(|(known, _)| known == id) {
            change(version);
        }
    }

    /// Removes a certificate with all its versions.
    pub fn delete(&self, name: &str) {
        lock(&self.state.certificates).remove(name);
    }

    /// Sets the fault of the requests whose line begins with `start`. `None` removes the fault.
    pub fn fault(&self, start: &str, fault: impl Into<Option<Fault>>) {
        let mut faults = lock(&self.state.faults);
        faults.retain(|(known, _)| known != start);
        faults.extend(fault.into().map(|fault| (start.to_owned(), fault)));
    }

    /// Sets the resource that the challenge names.
    pub fn challenge_for(&self, resource: &str) {
        *lock(&self.state.challenged) = resource.to_owned();
    }

    /// Returns all requests since the start.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.state.requests).clone()
    }

    /// Returns the lines of the requests with a token, and forgets all requests.
    pub fn take_lines(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *lock(&self.state.requests));
        let with_token = requests.into_iter().filter(|request| request.has_token);
        with_token.map(|request| request.line).collect()
    }

    /// Builds the options of the clients of the Azure SDK. A real vault needs none.
    ///
    /// The SDK's retries are off, so that an error says what the vault answered.
    pub fn client_options(&self) -> Result<ClientOptions> {
        self.client_options_with(|builder| builder.tls_certs_only([self.ca.clone()]))
    }

    pub fn client_options_with(
        &self,
        change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<ClientOptions> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .resolve(HOST, self.address);
        Ok(ClientOptions {
            transport: Some(Transport::new(Arc::new(change(http).build()?))),
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        })
    }

    pub fn certificates(&self, credential: Arc<dyn TokenCredential>) -> Result<CertificateClient> {
        let options = CertificateClientOptions {
            client_options: self.client_options()?,
            ..CertificateClientOptions::default()
        };
        Ok(CertificateClient::new(
            self.url(),
            credential,
            Some(options),
        )?)
    }

    pub fn secrets(&self, credential: Arc<dyn TokenCredential>) -> Result<SecretClient> {
        let options = SecretClientOptions {
            client_options: self.client_options()?,
            ..SecretClientOptions::default()
        };
        Ok(SecretClient::new(self.url(), credential, Some(options))?)
    }

    pub fn keys(&self, credential: Arc<dyn TokenCredential>) -> Result<KeyClient> {
        let options = KeyClientOptions {
            client_options: self.client_options()?,
            ..KeyClientOptions::default()
        };
        Ok(KeyClient::new(self.url(), credential, Some(options))?)
    }
}

impl Drop for LocalVault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An error response of the vault: the status, the code, the inner code and the message.
struct Refused(u16, &'static str, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, code, inner, message) = self;
        let inner = (!inner.is_empty()).then(|| json!({ "code": inner }));
        let error = json!({ "code": code, "message": message, "innererror": inner });
        answer(status, &json!({ "error": error }).to_string())
    }
}

fn answer(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    (
        status,
        [(CONTENT_TYPE, "application/json")],
        body.to_owned(),
    )
        .into_response()
}

async fn serve(
    State(vault): State<Arc<VaultState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let line = format!("{method} {}", uri.path());
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    lock(&vault.requests).push(SeenRequest {
        line: line.clone(),
        has_token: token.is_some(),
    });
    let Some(token) = token else {
        // The first request of each client comes without a body and a token.
        let challenge = format!(
            r#"Bearer authorization="https://login.microsoftonline.com/common", resource="{}""#,
            lock(&vault.challenged)
        );
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    };
    let fault = {
        let faults = lock(&vault.faults);
        let fault = faults.iter().find(|(start, _)| line.starts_with(start));
        fault.map(|(_, fault)| fault.clone())
    };
    match fault {
        Some(Fault::Answer(status, body, retry_after)) => {
            let mut response = answer(status, &body);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            return response;
        }
        Some(Fault::Hold(gate)) => {
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
        }
        None => {}
    }
    let Ok(claims) = vault.validator.validate(token).await else {
        return Refused(
            401,
            "Unauthorized",
            "",
            "AKV10022: Invalid audience.".into(),
        )
        .into_response();
    };
    let roles: Vec<&str> = claims.roles().collect();
    let result = vault.answer(&method, &uri, &roles, &body);
    match result {
        Ok(body) => answer(200, &body.to_string()),
        Err(refused) => refused.into_response(),
    }
}

impl VaultState {
    fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        roles: &[&str],
        body: &[u8],
    ) -> std::result::Result<Value, Refused> {
        let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
        let needed: &[&str] = match segments.first() {
            Some(&"certificates") => &[CERTIFICATE_USER],
            Some(&"secrets") => &[CERTIFICATE_USER, SECRETS_USER],
            _ => &[CRYPTO_USER],
        };
        if !needed.iter().any(|role| roles.contains(role)) {
            return Err(Refused(
                403,
                "Forbidden",
                "ForbiddenByRbac",
                "Caller is not authorized to perform action on resource.".into(),
            ));
        }
        match (method.as_str(), &segments[..]) {
            ("GET", ["certificates", name, "versions"]) => Ok(self.list(name, uri)),
            ("GET", ["certificates", name, version]) => {
                let (id, version) = self.find(name, version, "CertificateNotFound")?;
                Ok(self.certificate(name, &id, &version))
            }
            ("GET", ["secrets", name, version]) => {
                let (id, version) = self.find(name, version, "SecretNotFound")?;
                if !version.enabled {
                    let message = "Operation get is not allowed on a disabled secret.";
                    return Err(Refused(403, "Forbidden", "SecretDisabled", message.into()));
                }
                let (content_type, value) = &version.secret;
                Ok(json!({
                    "value": value,
                    "contentType": content_type,
                    "id": format!("{}/secrets/{name}/{id}", self.url),
                    "managed": true,
                    "attributes": attributes(&version),
                }))
            }
            // Without a version, the path has two slashes.
            ("POST", ["keys", name, version, "sign"]) => self.sign(name, version, body),
            _ => Err(Refused(400, "BadParameter", "", "unknown operation".into())),
        }
    }

    /// Finds a version. Without a version, that is the newest one, even if it is disabled.
    fn find(
        &self,
        name: &str,
        id: &str,
        code: &'static str,
    ) -> std::result::Result<(String, Version), Refused> {
        let certificates = lock(&self.certificates);
        let versions = certificates.get(name).into_iter().flatten();
        let found = match id {
            "" => versions.max_by_key(|(_, version)| version.created),
            _ => versions.into_iter().find(|(known, _)| known == id),
        };
        let not_found = || {
            let message = format!("A version {id} of '{name}' was not found in this key vault.");
            Refused(404, code, "", message)
        };
        found.cloned().ok_or_else(not_found)
    }

    /// Lists two versions a page, in the order of their names.
    fn list(&self, name: &str, uri: &Uri) -> Value {
        let certificates = lock(&self.certificates);
        let mut versions: Vec<_> = certificates.get(name).into_iter().flatten().collect();
        versions.sort_by(|one, other| one.0.cmp(&other.0));
        let query = uri.query().unwrap_or_default();
        let skip = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("skip=")?.parse().ok())
            .unwrap_or(0_usize);
        let next = (skip + PAGE < versions.len()).then(|| {
            let next = skip + PAGE;
            format!("{}/certificates/{name}/versions?skip={next}", self.url)
        });
        let page: Vec<Value> = versions
            .iter()
            .skip(skip)
            .take(PAGE)
            .map(|(id, version)| {
                json!({
                    "id": format!("{}/certificates/{name}/{id}", self.url),
                    "attributes": attributes(version),
                })
            })
            .collect();
        json!({ "value": page, "nextLink": next })
    }

    fn certificate(&self, name: &str, id: &str, version: &Version) -> Value {
        let url = &self.url;
        let key_vault = version.kid.as_ref().unwrap_or(url);
        let exportable = version
            .exportable
            .map(|exportable| json!({ "exportable": exportable }));
        json!({
            "id": format!("{url}/certificates/{name}/{id}"),
            "kid": format!("{key_vault}/keys/{name}/{}", version.key_version),
            "sid": format!("{url}/secrets/{name}/{id}"),
            "cer": BASE64_STANDARD.encode(&version.certificate),
            "contentType": version.secret.0,
            "attributes": attributes(version),
            "policy": { "key_props": exportable },
        })
    }

    fn sign(&self, name: &str, id: &str, body: &[u8]) -> std::result::Result<Value, Refused> {
        let certificates = lock(&self.certificates);
        let mut versions = certificates.get(name).into_iter().flatten();
        let found = match id {
            "" => versions.max_by_key(|(_, version)| version.created),
            _ => versions.find(|(_, version)| version.key_version == id),
        };
        let Some((_, version)) = found else {
            let message =
                format!("A key with (name/id) {name}/{id} was not found in this key vault.");
            return Err(Refused(404, "KeyNotFound", "", message));
        };
        if !version.enabled {
            let message = "Operation sign is not allowed on a disabled key.";
            return Err(Refused(403, "Forbidden", "KeyDisabled", message.into()));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let value = BASE64_URL_SAFE_NO_PAD.decode(field("value"));
        let signature = version.sign(field("alg"), &value.unwrap_or_default());
        let signature = signature.map_err(|message| Refused(400, "BadParameter", "", message))?;
        Ok(json!({
            "kid": format!("{}/keys/{name}/{}", self.url, version.key_version),
            "value": BASE64_URL_SAFE_NO_PAD.encode(signature),
        }))
    }
}

fn attributes(version: &Version) -> Value {
    json!({
        "enabled": version.enabled,
        "nbf": version.not_before,
        "exp": version.expires,
        "created": version.created,
        "updated": version.created,
        "recoveryLevel": "Recoverable+Purgeable",
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of versions on a page of a list.
const PAGE: usize = 2;

/// A TCP listener that completes the TLS handshake of each connection.
struct TlsListener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            if let Ok((stream, peer)) = self.0.accept().await
                && let Ok(stream) = self.1.accept(stream).await
            {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
