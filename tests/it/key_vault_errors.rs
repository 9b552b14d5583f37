//! Errors of a Key Vault, in the words that the user of the crate sees.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use azure_core::http::headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport};
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::adapter::{AzureCredential, KeyVaultCertificate, KeyVaultSigner};
use confidential_client::credential::{CredentialSource, Signer, SigningAlgorithm};
use confidential_client::testing::Application;
use confidential_client::{ConfidentialClient, Error};
use rcgen::{KeyPair, PKCS_ECDSA_P521_SHA512};
use tokio::time::sleep;

use crate::key_vault::vault::{CERTIFICATE_USER, CRYPTO_USER, Fault, Version};
use crate::key_vault::{APP, LIST, Setup, version};
use crate::support::{CLIENT_ID, Provider, SCOPE, TENANT, let_others_run};

const SECRET: &str = "GET /secrets/";
const SIGN: &str = "POST /keys/";
const NON_EXPORTABLE: &str = "KeyVaultCertificate::non_exportable(..)";
const PS256: SigningAlgorithm = SigningAlgorithm::PS256;

/// Returns the vault's error response.
fn error(status: u16, code: &str, inner: &str) -> Fault {
    let body = format!(
        r#"{{"error":{{"code":"{code}","message":"the vault's own words","innererror":{{"code":"{inner}"}}}}}}"#
    );
    Fault::Answer(status, body, None)
}

fn ours(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let error: &Error = error.downcast_ref().unwrap();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    error.clone()
}

async fn failure(source: &KeyVaultCertificate) -> Error {
    ours(source.credential().await.map(drop).unwrap_err())
}

/// Checks the text of the error with its causes, and whether time may cure it.
fn check(setup: &Setup, error: &Error, is_transient: bool, texts: &[&str]) {
    let shown = error.chain().to_string();
    for text in texts {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(shown.contains(setup.vault.url()), "{shown}");
    assert_eq!(error.is_transient(), is_transient, "{shown}");
    assert_eq!(error.status(), None, "it is not the identity provider's");
    assert!(
        !format!("{error:?}{shown}").contains("PRIVATE KEY"),
        "{shown}"
    );
}

#[tokio::test]
async fn each_answer_of_the_vault_has_its_own_words() {
    let setup = Setup::new().await;
    let id = setup.vault.add(APP, version(0, 0));
    let certificate = format!("GET /certificates/app/{id}");
    let own_words = "the vault's own words";
    let rows: &[(&str, Fault, bool, &[&str])] = &[
        (
            LIST,
            error(404, "CertificateNotFound", ""),
            false,
            &[
                "has no certificate 'app' (404 CertificateNotFound); check the name, and the vault's URL",
                own_words,
            ],
        ),
        (
            &certificate,
            error(404, "CertificateNotFound", ""),
            false,
            &["has no version", "of the certificate 'app'"],
        ),
        (
            SECRET,
            error(404, "SecretNotFound", ""),
            false,
            &["has no version", "of the secret 'app' (404 SecretNotFound)"],
        ),
        (
            LIST,
            error(403, "Forbidden", "ForbiddenByRbac"),
            false,
            &[
                "does not let this identity list the versions of the certificate 'app' (403 ForbiddenByRbac); assign the role 'Key Vault Certificate User'",
                own_words,
            ],
        ),
        (
            &certificate,
            error(403, "Forbidden", "AccessDenied"),
            false,
            &[
                "let this identity read version",
                "or the permission 'get' for certificates in an access policy",
            ],
        ),
        (
            SECRET,
            error(403, "Forbidden", "ForbiddenByRbac"),
            false,
            &[
                "'Key Vault Certificate User' or 'Key Vault Secrets User'",
                "'get' for secrets",
            ],
        ),
        (
            SECRET,
            error(403, "Forbidden", "SecretDisabled"),
            false,
            &["(403 SecretDisabled); enable the version"],
        ),
        (
            LIST,
            error(403, "Forbidden", "ForbiddenByFirewall"),
            false,
            &[
                "network settings",
                "reject this machine (403 ForbiddenByFirewall)",
            ],
        ),
        (
            LIST,
            error(403, "Forbidden", "ForbiddenByConnection"),
            false,
            &["use a private endpoint"],
        ),
        (
            LIST,
            error(401, "Unauthorized", ""),
            false,
            &[
                "rejects the token of this identity (401 Unauthorized); use an identity of the vault's tenant",
            ],
        ),
        (
            LIST,
            error(429, "Throttled", ""),
            true,
            &["gets too many requests (429 Throttled)"],
        ),
        (
            LIST,
            error(503, "ServiceUnavailable", ""),
            true,
            &["fails (503 ServiceUnavailable)"],
        ),
        (
            LIST,
            Fault::Answer(502, "<html>".to_owned(), None),
            true,
            &["fails (502)"],
        ),
        (
            LIST,
            error(400, "BadParameter", ""),
            false,
            &["cannot list the versions", "(400 BadParameter)", own_words],
        ),
        (
            LIST,
            Fault::Answer(200, "<html>".to_owned(), None),
            true,
            &["cannot list the versions"],
        ),
        (
            &certificate,
            Fault::Answer(200, "[]".to_owned(), None),
            true,
            &["response", "cannot be read"],
        ),
        (
            SECRET,
            Fault::Answer(200, "{}".to_owned(), None),
            true,
            &["response", "cannot be read"],
        ),
    ];
    for (start, fault, is_transient, texts) in rows {
        setup.vault.fault(start, fault.clone());
        check(
            &setup,
            &failure(&setup.exportable()).await,
            *is_transient,
            texts,
        );
        setup.vault.fault(start, None);
    }
    failure_is_gone(&setup).await;
}

async fn failure_is_gone(setup: &Setup) {
    setup.exportable().credential().await.unwrap();
}

#[tokio::test]
async fn each_answer_to_a_signature_has_its_own_words() {
    let setup = Setup::new().await;
    let id = setup.vault.add(APP, version(0, 0));
    let rows: &[(Fault, bool, &[&str])] = &[
        (
            error(404, "KeyNotFound", ""),
            false,
            &["has no version", "of the key 'app' (404 KeyNotFound)"],
        ),
        (
            error(403, "Forbidden", "ForbiddenByRbac"),
            false,
            &[
                "let this identity sign with version",
                "assign the role 'Key Vault Crypto User' to the identity, or the permission 'sign' for keys in an access policy",
            ],
        ),
        (
            error(403, "Forbidden", "KeyDisabled"),
            false,
            &["does not sign with version", "enable the version"],
        ),
        (
            error(403, "Forbidden", "KeyExpired"),
            false,
            &["outside the validity of the version"],
        ),
        (
            error(403, "Forbidden", "KeyOperationForbidden"),
            false,
            &["permit the operation for the key"],
        ),
        (error(429, "Throttled", ""), true, &["(429 Throttled)"]),
        (
            error(400, "BadParameter", ""),
            false,
            &["cannot sign with version", "the vault's own words"],
        ),
        (
            Fault::Answer(200, "{}".to_owned(), None),
            true,
            &["cannot be read"],
        ),
    ];
    for (fault, is_transient, texts) in rows {
        setup.vault.fault(SIGN, fault.clone());
        let error = setup.signer(&id).sign(PS256, vec![1]).await.unwrap_err();
        check(&setup, &ours(error), *is_transient, texts);
    }
    setup.vault.fault(SIGN, None);

    // The vault's answers without a fault.
    let error = setup.signer("2").sign(PS256, vec![1]).await.unwrap_err();
    check(
        &setup,
        &ours(error),
        false,
        &["has no version 2 of the key 'app'"],
    );
    let error = setup
        .signer(&id)
        .sign(SigningAlgorithm::ES256, vec![1])
        .await;
    check(
        &setup,
        &ours(error.unwrap_err()),
        false,
        &["Key and signing algorithm are incompatible"],
    );
    setup
        .vault
        .change(APP, &id, |version| version.enabled = false);
    let error = setup.signer(&id).sign(PS256, vec![1]).await.unwrap_err();
    check(
        &setup,
        &ours(error),
        false,
        &["KeyDisabled", "not allowed on a disabled key"],
    );
}

#[tokio::test]
async fn a_missing_role_is_named_by_the_operation() {
    for (roles, name) in [
        (
            &[][..],
            "list the versions of the certificate 'app' (403 ForbiddenByRbac); assign the role 'Key Vault Certificate User'",
        ),
        (
            &[CRYPTO_USER],
            "assign the role 'Key Vault Certificate User'",
        ),
        (
            &[CERTIFICATE_USER],
            "assign the role 'Key Vault Crypto User'",
        ),
    ] {
        let setup = Setup::with_roles(roles).await;
        let version = version(0, 0);
        let id = setup.vault.add(APP, version);
        let error = match roles.contains(&CERTIFICATE_USER) {
            true => {
                setup.non_exportable().credential().await.unwrap();
                ours(setup.signer(&id).sign(PS256, vec![1]).await.unwrap_err())
            }
            false => failure(&setup.non_exportable()).await,
        };
        check(&setup, &error, false, &[name, "Caller is not authorized"]);
    }
}

fn pkcs12_without_key(version: &Version) -> String {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    fs::create_dir(&folder).unwrap();
    let (pem, pfx) = (folder.join("pem"), folder.join("pfx"));
    fs::write(&pem, &version.secret.1).unwrap();
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-nokeys", "-passout", "pass:", "-in"])
        .args([pem.as_os_str(), "-out".as_ref(), pfx.as_os_str()])
        .status();
    assert!(made.unwrap().success());
    let content = fs::read(&pfx).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    BASE64_STANDARD.encode(content)
}

/// Returns the blocks of PEM with the label.
fn blocks(pem: &str, label: &str) -> String {
    let (begin, end) = (
        format!("-----BEGIN {label}"),
        format!("-----END {label}-----\n"),
    );
    let start = pem.find(&begin).unwrap();
    let length = pem[start..].find(&end).unwrap() + end.len();
    pem[start..start + length].to_owned()
}

#[tokio::test]
async fn a_version_that_cannot_be_used_has_its_own_words() {
    let [one, two] = [version(0, 0), version(1, 0)];
    let certificate = |version: &Version| blocks(&version.secret.1, "CERTIFICATE");
    let key = |version: &Version| blocks(&version.secret.1, "PRIVATE KEY");
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = Version::with_key("p521", &p521).unwrap();
    let with_secret = |secret: String, content_type: &str| {
        let mut version = one.clone();
        version.exportable = None;
        version.secret = (content_type.to_owned(), secret);
        version
    };
    let (pem, pfx) = ("application/x-pem-file", "application/x-pkcs12");
    let rows: Vec<(Version, &[&str])> = vec![
        (
            one.clone().not_exportable(),
            &[
                "the private key of version",
                "cannot be exported",
                NON_EXPORTABLE,
            ],
        ),
        (
            with_secret(certificate(&one), pem),
            &[
                "(content type \"application/x-pem-file\") cannot be used",
                "holds no private key",
                NON_EXPORTABLE,
            ],
        ),
        (
            with_secret(pkcs12_without_key(&one), pfx),
            &["PKCS#12 file holds no private key", NON_EXPORTABLE],
        ),
        (
            with_secret("hunter2".to_owned(), "text/plain"),
            &["(content type \"text/plain\") cannot be used"],
        ),
        (
            with_secret(certificate(&one) + &key(&two), pem),
            &["does not match the certificate of 'CN=one'"],
        ),
        (
            with_secret(certificate(&two) + &key(&two), pem),
            &["has another certificate than that version"],
        ),
        (p521.clone(), &["cannot be used", "P-384"]),
    ];
    for (version, texts) in rows {
        let setup = Setup::new().await;
        setup.vault.add(APP, version);
        let error = failure(&setup.exportable()).await;
        let shown = error.chain().to_string();
        assert!(
            texts.iter().all(|text| shown.contains(text)),
            "{texts:?}: {shown}"
        );
        assert!(
            !shown.contains("hunter2") && !error.is_transient(),
            "{shown}"
        );
    }
    let rows: [(Version, &str, &str); 4] = [
        (p521, "", "P-384"),
        (
            one.clone(),
            r#"{"kid":"https://v/keys/app/1'","cer":"MIIB"}"#,
            "cannot be used: the version of the key is \"1'\"",
        ),
        (one.clone(), r#"{"cer":"MIIB"}"#, "names no key ('kid')"),
        (
            one.clone(),
            r#"{"kid":"https://v/keys/app/1"}"#,
            "without the certificate ('cer')",
        ),
    ];
    for (version, body, text) in rows {
        let setup = Setup::new().await;
        let id = setup.vault.add(APP, version);
        if !body.is_empty() {
            let details = format!("GET /certificates/app/{id}");
            setup
                .vault
                .fault(&details, Fault::Answer(200, body.to_owned(), None));
        }
        let error = failure(&setup.non_exportable()).await;
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().contains(&id), "{error}");
    }
}

#[tokio::test]
async fn a_version_whose_name_would_change_the_url_is_not_requested() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let body = r#"{"value":[{"id":"https://my.vault.localhost/certificates/app/a?b"}]}"#;
    setup
        .vault
        .fault(LIST, Fault::Answer(200, body.to_owned(), None));
    let source = setup.exportable();
    check(
        &setup,
        &failure(&source).await,
        false,
        &["about the certificate 'app' cannot be used: the version in the vault's list is \"a?b\""],
    );
    assert_eq!(setup.vault.take_lines(), [LIST]);
    let body = format!(r#"{{"value":[{{"id":"{}"}}]}}"#, "?".repeat(100_000));
    setup.vault.fault(LIST, Fault::Answer(200, body, None));
    let error = failure(&setup.exportable()).await.to_string();
    assert!(error.len() < 1_000, "{}", error.len());
}

#[tokio::test]
async fn a_certificate_without_a_usable_version_is_told_from_one_that_does_not_exist() {
    let setup = Setup::new().await;
    let error = failure(&setup.exportable()).await;
    check(
        &setup,
        &error,
        false,
        &["has no certificate 'app'; check the name"],
    );
    for change in [
        |version: &mut Version| version.enabled = false,
        |version: &mut Version| version.expires = version.not_before,
        |version: &mut Version| version.not_before = version.expires - 1,
    ] {
        let id = setup.vault.add(APP, version(0, 0));
        setup.vault.change(APP, &id, change);
    }
    let error = failure(&setup.exportable()).await;
    check(
        &setup,
        &error,
        false,
        &[
            "no version of the certificate 'app' that is enabled and valid now: 1 disabled, 1 expired, 1 not yet valid",
        ],
    );
}

#[tokio::test]
async fn a_key_of_another_certificate_is_found_before_the_identity_provider() {
    let setup = Setup::new().await;
    let mut mixed = version(0, 0);
    mixed.key.clone_from(&version(1, 0).key);
    setup.vault.add(APP, mixed);
    setup
        .local
        .register(TENANT, Application::new(CLIENT_ID).secret("unused"));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(setup.local.authority(TENANT))
        .certificate_source(setup.non_exportable())
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not match the certificate of 'CN=one'"),
        "{error}"
    );
    assert!(
        setup
            .local
            .token_requests()
            .iter()
            .all(|seen| seen.field("client_assertion").is_none())
    );
}

#[tokio::test]
async fn an_unreachable_vault_and_its_tls_failure_tell_the_reason() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let with = |options: ClientOptions| {
        let options = CertificateClientOptions {
            client_options: options,
            ..CertificateClientOptions::default()
        };
        let credential = Arc::clone(&setup.credential);
        let client = CertificateClient::new(setup.vault.url(), credential, Some(options));
        let secrets = setup.vault.secrets(Arc::clone(&setup.credential)).unwrap();
        KeyVaultCertificate::exportable(client.unwrap(), secrets, APP).unwrap()
    };
    let untrusting = setup
        .vault
        .client_options_with(|http| http.tls_backend_rustls().tls_certs_only([]));
    let error = failure(&with(untrusting.unwrap())).await;
    check(
        &setup,
        &error,
        false,
        &[
            "the TLS certificate of the Key Vault",
            "is not accepted; trust the CA",
            "invalid peer certificate",
        ],
    );
    assert!(setup.vault.requests().is_empty());
    let (source, url) = (setup.exportable(), setup.vault.url().to_owned());
    drop(setup.vault);
    let_others_run().await;
    let error = failure(&source).await;
    let shown = error.chain().to_string();
    let text = format!("no response from the Key Vault {url}/: ");
    assert!(
        shown.starts_with(&text) && shown.contains("refused"),
        "{shown}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_challenge_for_another_domain_gets_no_token() {
    let setup = Setup::new().await;
    let id = setup.vault.add(APP, version(0, 0));
    setup.vault.challenge_for("https://vault.azure.net");
    let text = "requires a token for another domain than its own, so no token was sent";
    check(
        &setup,
        &failure(&setup.exportable()).await,
        false,
        &[text, "vault.azure.net"],
    );
    let error = setup.signer(&id).sign(PS256, vec![1]).await.unwrap_err();
    check(&setup, &ours(error), false, &[text]);
    assert!(
        setup
            .vault
            .requests()
            .iter()
            .all(|request| !request.has_token)
    );
}

#[tokio::test]
async fn a_failed_token_for_the_vault_is_told_with_the_clients_error() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    for (status, body, is_transient, text) in [
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: no"}"#,
            false,
            "AADSTS7000215",
        ),
        (503, "", true, "503"),
    ] {
        let provider = Provider::open();
        for _ in 0..9 {
            provider.answer(status, body);
        }
        let credential = Arc::new(AzureCredential::new(provider.client()));
        let certificates = setup.vault.certificates(credential).unwrap();
        let secrets = setup.vault.secrets(Arc::clone(&setup.credential)).unwrap();
        let source = KeyVaultCertificate::exportable(certificates, secrets, APP).unwrap();
        let error = failure(&source).await;
        check(
            &setup,
            &error,
            is_transient,
            &["there is no token for the Key Vault", text],
        );
    }
}

#[tokio::test]
async fn a_vault_that_asks_to_wait_makes_the_client_wait() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let mut fault = error(429, "Throttled", "");
    if let Fault::Answer(_, _, retry_after) = &mut fault {
        *retry_after = Some(40);
    }
    setup.vault.fault(LIST, fault);
    let error = failure(&setup.exportable()).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(40)));
}

/// A vault in memory, whose certificate's key stays in the vault.
#[derive(Debug, Default)]
pub struct InMemory {
    /// The seconds before each answer.
    pub latency: AtomicU64,
    /// Lists a second version from now on.
    pub is_rotated: AtomicBool,
}

#[async_trait::async_trait]
impl HttpClient for InMemory {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let latency = Duration::from_secs(self.latency.load(Ordering::Relaxed));
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut headers = Headers::new();
        if request.headers().get_optional_str(&AUTHORIZATION).is_none() {
            let domain = request.url().host_str().unwrap().split_once('.').unwrap().1;
            let challenge =
                format!(r#"Bearer authorization="https://a", resource="https://{domain}""#);
            headers.insert(WWW_AUTHENTICATE, challenge);
            return Ok(AsyncRawResponse::from_bytes(401.into(), headers, ""));
        }
        let (status, body) = match request.url().path() {
            "/certificates/app/versions" => {
                let newest = 1 + usize::from(self.is_rotated.load(Ordering::Relaxed));
                let id = format!("https://v/certificates/app/{newest}");
                (200, format!(r#"{{"value":[{{"id":"{id}"}}]}}"#))
            }
            path @ ("/certificates/app/1" | "/certificates/app/2") => {
                let number = usize::from(path.ends_with('2'));
                let cer = BASE64_STANDARD.encode(version(number, 0).certificate);
                let kid = format!("https://v/keys/app/{}", number + 1);
                (200, format!(r#"{{"kid":"{kid}","cer":"{cer}"}}"#))
            }
            // Some of the real responses have this spelling.
            _ => (
                403,
                r#"{"error":{"code":"Forbidden","innerError":{"code":"ForbiddenByRbac"}}}"#
                    .to_owned(),
            ),
        };
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}

pub fn over(vault: Arc<dyn HttpClient>) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(vault)),
        ..ClientOptions::default()
    }
}

#[tokio::test]
async fn the_role_of_a_managed_hsm_has_another_name() {
    let provider = Provider::open();
    for (url, role) in [
        (
            "https://contoso.vault.azure.net",
            "(403 ForbiddenByRbac); assign the role 'Key Vault Crypto User'",
        ),
        (
            "https://contoso.managedhsm.azure.net",
            "'Managed HSM Crypto User'",
        ),
    ] {
        let options = KeyClientOptions {
            client_options: over(Arc::new(InMemory::default())),
            ..KeyClientOptions::default()
        };
        let credential = Arc::new(AzureCredential::new(provider.client()));
        let keys = KeyClient::new(url, credential, Some(options)).unwrap();
        let signer = KeyVaultSigner::new(keys, APP, "1").unwrap();
        let error = ours(signer.sign(PS256, vec![1]).await.unwrap_err());
        assert!(error.to_string().contains(role), "{error}");
    }
}

/// A vault that never answers.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl HttpClient for Silent {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        std::future::pending().await
    }
}

/// A vault that is always busy.
#[derive(Debug)]
struct Busy;

#[async_trait::async_trait]
impl HttpClient for Busy {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        Ok(AsyncRawResponse::from_bytes(429.into(), Headers::new(), ""))
    }
}

/// The SDK's own retries last longer than the client waits for a source or a signer.
#[tokio::test(start_paused = true)]
async fn a_vault_that_takes_too_long_is_named() {
    let provider = Provider::open();
    let credential = || Arc::new(AzureCredential::new(provider.client()));
    let url = "https://contoso.vault.azure.net";
    let vaults: [Arc<dyn HttpClient>; 2] = [Arc::new(Silent), Arc::new(Busy)];
    for vault in vaults {
        let options = || over(Arc::clone(&vault));
        let certificate_options = CertificateClientOptions {
            client_options: options(),
            ..CertificateClientOptions::default()
        };
        let key_options = KeyClientOptions {
            client_options: options(),
            ..KeyClientOptions::default()
        };
        let certificates = CertificateClient::new(url, credential(), Some(certificate_options));
        let keys = Arc::new(KeyClient::new(url, credential(), Some(key_options)).unwrap());
        let signer = KeyVaultSigner::new(Arc::clone(&keys), APP, "1").unwrap();
        let source = KeyVaultCertificate::non_exportable(certificates.unwrap(), keys, APP).unwrap();
        let errors = [
            failure(&source).await,
            ours(signer.sign(PS256, vec![1]).await.unwrap_err()),
        ];
        for (error, action) in errors
            .iter()
            .zip(["return the certificate 'app'", "sign with version 1"])
        {
            let text = format!("the Key Vault {url}/ did not {action}");
            assert!(error.to_string().starts_with(&text), "{error}");
            assert!(error.to_string().contains("within 9 s"), "{error}");
            assert!(
                error.to_string().contains("RetryOptions::none()"),
                "{error}"
            );
            assert!(error.is_transient());
        }
    }
}

#[tokio::test]
async fn debug_output_and_errors_have_no_private_key() {
    let setup = Setup::new().await;
    let version = version(0, 0);
    let id = setup.vault.add(APP, version.clone());
    let source = setup.exportable();
    let certificate = source.credential().await.unwrap();
    let signer = setup.signer(&id);
    let mut shown = format!("{source:?} {signer:?} {certificate:?}");
    assert!(
        shown.contains("KeyVaultCertificate") && shown.contains(&id),
        "{shown}"
    );
    // A response that cannot be parsed and has the private key.
    let secret = BASE64_STANDARD.encode(&version.key);
    for body in [
        format!(r#"{{"value":["{secret}"]}}"#),
        format!(r#""{secret}""#),
    ] {
        setup.vault.fault(SECRET, Fault::Answer(200, body, None));
        let error = failure(&setup.exportable()).await;
        shown.push_str(&format!("{error:?} {error} {}", error.chain()));
    }
    assert!(
        !shown.contains(&secret[..20]) && !shown.contains("PRIVATE"),
        "{shown}"
    );
}
