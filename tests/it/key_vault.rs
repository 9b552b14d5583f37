//! Certificates and keys in Azure Key Vault, by the real clients of the Azure SDK against a vault
//! on loopback.

use std::fs;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use confidential_client::adapter::{AzureCredential, KeyVaultCertificate, KeyVaultSigner};
use confidential_client::credential::{
    CredentialSource, ManagedIdentity, Signer, SigningAlgorithm,
};
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{
    Application, AssignedIdentity, HostKind, LocalAuthority, LocalManagedIdentity, ManualClock,
};
use confidential_client::transport::MutualTls;
use confidential_client::{
    Authority, Certificate, ConfidentialClient, Error, ManagedIdentityClient, TokenRequest,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use sha2::{Digest, Sha256};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::client_ca::{ClientCa, IssuedPem};
use crate::support::mutual_tls_server::MutualTlsServer;
use crate::support::{CLIENT_ID, TENANT, header_of, let_others_run, scope};

#[path = "../../examples/key_vault/vault.rs"]
pub mod vault;

use vault::{CERTIFICATE_USER, CRYPTO_USER, Fault, LocalVault, RESOURCE, Version};

/// The name of the certificate in the vault.
pub const APP: &str = "app";
const IDENTITY: &str = "99999999-8888-7777-6666-555555555555";
pub const LIST: &str = "GET /certificates/app/versions";
const MINUTE: Duration = Duration::from_secs(60);

/// Versions with RSA keys, which take long to make.
static VERSIONS: LazyLock<[Version; 3]> =
    LazyLock::new(|| ["one", "two", "three"].map(|name| Version::rsa(name).unwrap()));

/// Returns a version that is `age` seconds old.
pub fn version(number: usize, age: u64) -> Version {
    let mut version = VERSIONS[number].clone();
    version.created -= age;
    version
}

/// A vault, an identity provider, and a managed identity with roles of the vault.
pub struct Setup {
    pub local: LocalAuthority,
    pub vault: LocalVault,
    pub clock: ManualClock,
    pub credential: Arc<dyn TokenCredential>,
    _host: LocalManagedIdentity,
}

impl Setup {
    pub async fn new() -> Self {
        Self::with_roles(&[CERTIFICATE_USER, CRYPTO_USER]).await
    }

    pub async fn with_roles(roles: &[&str]) -> Self {
        let local = LocalAuthority::start().await.unwrap();
        let host = local.managed_identity(TENANT).await.unwrap();
        let mut identity = AssignedIdentity::new(IDENTITY);
        for role in roles {
            identity = identity.role(RESOURCE, *role);
        }
        host.assign_system(identity);
        let validator = TokenValidator::builder(local.authority(TENANT));
        let validator = validator.audience(RESOURCE).single_tenant().build();
        let vault = LocalVault::start(validator.unwrap()).await.unwrap();
        let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
            .environment(host.environment(HostKind::Imds))
            .build();
        Self {
            credential: Arc::new(AzureCredential::new(client.unwrap())),
            local,
            vault,
            clock: ManualClock::new(),
            _host: host,
        }
    }

    pub fn exportable(&self) -> KeyVaultCertificate {
        let certificates = self.vault.certificates(self.credential()).unwrap();
        let secrets = self.vault.secrets(self.credential()).unwrap();
        KeyVaultCertificate::exportable(certificates, secrets, APP)
            .unwrap()
            .clock(self.clock.clone())
    }

    pub fn non_exportable(&self) -> KeyVaultCertificate {
        let certificates = self.vault.certificates(self.credential()).unwrap();
        let keys = self.vault.keys(self.credential()).unwrap();
        KeyVaultCertificate::non_exportable(certificates, keys, APP)
            .unwrap()
            .clock(self.clock.clone())
    }

    pub fn signer(&self, version: &str) -> KeyVaultSigner {
        let keys = self.vault.keys(self.credential()).unwrap();
        KeyVaultSigner::new(keys, APP, version).unwrap()
    }

    fn credential(&self) -> Arc<dyn TokenCredential> {
        Arc::clone(&self.credential)
    }

    /// Registers the application with the certificates of these versions.
    fn register(&self, versions: &[&Version]) {
        let mut application = Application::new(CLIENT_ID);
        for version in versions {
            let unused = |_: SigningAlgorithm, _: Vec<u8>| async { Err("unused".into()) };
            let certificate = Certificate::from_signer(&version.certificate, unused).unwrap();
            application = application.certificate(&certificate);
        }
        self.local.register(TENANT, application);
    }

    fn client(&self, source: &KeyVaultCertificate) -> ConfidentialClient {
        ConfidentialClient::builder(CLIENT_ID)
            .authority(self.local.authority(TENANT))
            .certificate_source(source.clone())
            .build()
            .unwrap()
    }

    /// Returns the number of lists of the versions since the last call.
    pub fn lists(&self) -> usize {
        let lines = self.vault.take_lines();
        lines.iter().filter(|line| *line == LIST).count()
    }
}

/// Acquires a token from the identity provider.
async fn acquire(client: &ConfidentialClient) -> Result<(), Error> {
    let request = TokenRequest::new("https://graph.microsoft.com/.default").force_refresh();
    client.acquire_token_for_client(request).await.map(drop)
}

fn thumbprint(version: &Version) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&version.certificate))
}

pub fn is(certificate: &Certificate, version: &Version) -> bool {
    let expected: String = Sha256::digest(&version.certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    certificate.thumbprint_sha256() == expected
}

/// Returns the thumbprint in each assertion that the identity provider received.
fn signed_by(local: &LocalAuthority) -> Vec<String> {
    let requests = local.token_requests();
    let assertions = requests
        .iter()
        .filter(|request| request.field("client_id") == Some(CLIENT_ID));
    let thumbprint = |assertion: &str| {
        header_of(assertion)["x5t#S256"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assertions
        .map(|request| thumbprint(request.field("client_assertion").unwrap()))
        .collect()
}

/// Verifies a signature with the openssl program.
fn openssl_accepts(
    version: &Version,
    algorithm: SigningAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let folder = std::env::temp_dir().join(uuid());
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    let signature = match algorithm {
        SigningAlgorithm::ES256 | SigningAlgorithm::ES384 => der_of(signature),
        _ => signature.to_vec(),
    };
    fs::write(path("certificate.der"), &version.certificate).unwrap();
    fs::write(path("message"), message).unwrap();
    fs::write(path("signature"), signature).unwrap();
    let public_key = Command::new("openssl")
        .args(["x509", "-inform", "DER", "-pubkey", "-noout", "-in"])
        .arg(path("certificate.der"))
        .output()
        .unwrap();
    fs::write(path("key.pem"), public_key.stdout).unwrap();
    let mut verify = Command::new("openssl");
    let hash = match algorithm {
        SigningAlgorithm::ES384 => "-sha384",
        _ => "-sha256",
    };
    verify.args(["dgst", hash]);
    if algorithm == SigningAlgorithm::PS256 {
        verify.args([
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            "rsa_pss_saltlen:32",
        ]);
    }
    verify.arg("-verify").arg(path("key.pem"));
    verify.arg("-signature").arg(path("signature"));
    let output = verify.arg(path("message")).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    output.status.success() && output.stdout.starts_with(b"Verified OK")
}

fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Writes the two numbers of a signature in DER.
fn der_of(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let mut bytes = vec![2, number.len() as u8 + (number[0] >> 7)];
        bytes.extend(std::iter::repeat_n(0, usize::from(number[0] >> 7)));
        bytes.extend(number);
        bytes
    };
    let content = [integer(r), integer(s)].concat();
    assert!(content.len() < 128);
    [vec![0x30, content.len() as u8], content].concat()
}

/// Makes PKCS#12 with an empty password in base64, as a vault returns it, by openssl.
fn pkcs12(version: &Version) -> String {
    let folder = std::env::temp_dir().join(uuid());
    fs::create_dir(&folder).unwrap();
    let (pem, pfx) = (folder.join("pem"), folder.join("pfx"));
    fs::write(&pem, &version.secret.1).unwrap();
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", "pass:", "-in"])
        .arg(&pem)
        .arg("-out")
        .arg(&pfx)
        .status();
    assert!(made.unwrap().success());
    let content = fs::read(&pfx).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    BASE64_STANDARD.encode(content)
}

#[tokio::test]
async fn the_vault_signs_with_each_algorithm_and_openssl_accepts_the_signatures() {
    let setup = Setup::new().await;
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let ec = [p256, p384].map(|key| Version::with_key(APP, &key).unwrap());
    let message = b"header.claims".to_vec();
    for (algorithm, version, length) in [
        (SigningAlgorithm::PS256, &VERSIONS[0], 256),
        (SigningAlgorithm::RS256, &VERSIONS[0], 256),
        (SigningAlgorithm::ES256, &ec[0], 64),
        (SigningAlgorithm::ES384, &ec[1], 96),
    ] {
        let older = setup.vault.add(APP, version.clone().not_exportable());
        setup.vault.add(APP, self::version(1, 0));
        let signer = setup.signer(&older);
        let signature = signer.sign(algorithm, message.clone()).await.unwrap();
        assert_eq!(signature.len(), length, "{algorithm}");
        assert!(
            openssl_accepts(version, algorithm, &message, &signature),
            "{algorithm}"
        );
        assert!(
            !openssl_accepts(version, algorithm, b"other", &signature),
            "{algorithm}"
        );
        // The client of the SDK sends its first request without a token.
        let requests = setup.vault.requests();
        let line = format!("POST /keys/app/{older}/sign");
        assert!(
            requests.iter().all(|request| request.line == line),
            "{requests:?}"
        );
        let tokens: Vec<bool> = requests.iter().map(|request| request.has_token).collect();
        assert_eq!(tokens, [false, true]);
        setup.vault.take_lines();
    }
}

#[tokio::test]
async fn eddsa_and_impossible_names_are_errors_before_the_network() {
    let setup = Setup::new().await;
    let signer = setup.signer("1");
    let error = signer
        .sign(SigningAlgorithm::EdDSA, vec![1])
        .await
        .unwrap_err();
    let error: &Error = error.downcast_ref().unwrap();
    assert!(
        error.to_string().contains("does not sign with EdDSA"),
        "{error}"
    );
    assert!(!error.is_transient());
    let keys = || setup.vault.keys(setup.credential()).unwrap();
    let certificates = || setup.vault.certificates(setup.credential()).unwrap();
    let long = "a".repeat(128);
    for (name, version, text) in [
        ("", "1", "the name of the key is \"\""),
        ("a/b", "1", "the name of the key is \"a/b\""),
        ("app", "", "the version of the key is \"\""),
        ("app", "../1", "the version of the key is \"../1\""),
        (&long, "1", "the name of the key is"),
        ("https://v/keys/app", "1", "pass the name alone"),
    ] {
        let error = KeyVaultSigner::new(keys(), name, version).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    let secrets = setup.vault.secrets(setup.credential()).unwrap();
    for error in [
        KeyVaultCertificate::exportable(certificates(), secrets, "a?b").unwrap_err(),
        KeyVaultCertificate::non_exportable(certificates(), keys(), "a?b").unwrap_err(),
    ] {
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("the name of the certificate is \"a?b\""),
            "{error}"
        );
    }
    assert_eq!(setup.vault.requests(), []);
}

#[tokio::test]
async fn a_downloaded_key_signs_assertions_without_the_vault() {
    for content_type in ["application/x-pem-file", "application/x-pkcs12"] {
        let setup = Setup::new().await;
        let mut version = version(0, 0);
        if content_type == "application/x-pkcs12" {
            version.secret = (content_type.to_owned(), pkcs12(&version));
        }
        let id = setup.vault.add(APP, version.clone());
        setup.register(&[&version]);
        let source = setup.exportable();
        let client = setup.client(&source);
        assert_eq!((setup.vault.requests(), source.version()), (vec![], None));
        acquire(&client).await.unwrap();
        acquire(&client).await.unwrap();
        assert_eq!(source.version(), Some(id.clone()));
        let lines = setup.vault.take_lines();
        let certificate = format!("GET /certificates/app/{id}");
        // The secret has the name and the version of the certificate.
        assert_eq!(
            lines,
            [LIST, &certificate, &format!("GET /secrets/app/{id}")]
        );
        assert_eq!(
            signed_by(&setup.local),
            [thumbprint(&version), thumbprint(&version)]
        );
    }
}

#[tokio::test]
async fn the_vault_signs_with_the_version_that_the_certificate_names() {
    let setup = Setup::new().await;
    let mut version = version(0, 0).not_exportable();
    version.key_version = "cafe".to_owned();
    let id = setup.vault.add(APP, version.clone());
    setup.register(&[&version]);
    let client = setup.client(&setup.non_exportable());
    assert_eq!(setup.vault.requests(), []);
    acquire(&client).await.unwrap();
    acquire(&client).await.unwrap();
    let certificate = format!("GET /certificates/app/{id}");
    let sign = "POST /keys/app/cafe/sign";
    assert_eq!(setup.vault.take_lines(), [LIST, &certificate, sign, sign]);
    let requests = setup.local.token_requests();
    let assertion = requests[1].field("client_assertion").unwrap();
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let algorithm = SigningAlgorithm::PS256;
    assert!(openssl_accepts(
        &version,
        algorithm,
        message.as_bytes(),
        &signature
    ));
}

#[tokio::test]
async fn the_settings_of_the_source_are_those_of_its_certificates() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    for source in [setup.exportable(), setup.non_exportable()] {
        let source = source.send_x5c().key_id("kid-1");
        let source = source.signing_algorithm(SigningAlgorithm::RS256);
        let certificate = source.credential().await.unwrap();
        assert_eq!(certificate.algorithm(), SigningAlgorithm::RS256);
        let shown = format!("{certificate:?}");
        assert!(
            shown.contains("x5c: true") && shown.contains("kid-1"),
            "{shown}"
        );
    }
}

/// The vault lists versions by their names, two a page.
#[tokio::test]
async fn the_newest_version_that_is_enabled_and_valid_is_used() {
    const AGES: [u64; 5] = [400, 100, 300, 200, 500];
    type Change = fn(&mut Version);
    let rows: [(&str, Change); 4] = [
        ("usable", |_| ()),
        ("disabled", |version| version.enabled = false),
        ("expired", |version| version.expires = version.created),
        ("not yet valid", |version| {
            version.not_before = version.expires - 1
        }),
    ];
    for (name, change) in rows {
        let setup = Setup::new().await;
        let ids = AGES.map(|age| setup.vault.add(APP, version(0, age)));
        setup.vault.change(APP, &ids[1], change);
        let source = setup.non_exportable();
        source.credential().await.unwrap();
        let expected = if name == "usable" { &ids[1] } else { &ids[3] };
        assert_eq!(source.version().as_ref(), Some(expected), "{name}");
        assert_eq!(setup.lists(), 3, "{name}");
    }
}

#[tokio::test]
async fn a_newer_version_is_looked_for_after_the_interval() {
    let setup = Setup::new().await;
    let minutes = |minutes: u32| minutes * MINUTE;
    let second = Duration::from_secs(1);
    for (set, interval) in [
        (None, minutes(5)),
        (Some(minutes(60)), minutes(60)),
        (Some(second), MINUTE),
    ] {
        setup.vault.delete(APP);
        let first = setup.vault.add(APP, version(0, 100));
        let source = setup.exportable();
        let source = match set {
            Some(set) => source.lookup_interval(set),
            None => source,
        };
        let look = async || {
            source.clone().credential().await.unwrap();
            setup.vault.take_lines()
        };
        assert_eq!(look().await.len(), 3, "{interval:?}");
        setup.clock.advance(interval - second);
        assert_eq!(look().await, [""; 0], "{interval:?}");
        setup.clock.advance(second);
        assert_eq!(look().await, [LIST], "an old version is not loaded again");
        setup.clock.advance(interval - second);
        assert_eq!(look().await, [""; 0], "{interval:?}");
        assert_eq!(source.version(), Some(first.clone()));
        let newer = setup.vault.add(APP, version(1, 0));
        setup.clock.advance(second);
        assert_eq!(look().await.len(), 3, "{interval:?}");
        assert_eq!(source.version(), Some(newer.clone()));
        setup
            .vault
            .change(APP, &newer, |version| version.enabled = false);
        setup.clock.advance(interval);
        assert_eq!(look().await.len(), 3, "the older version again");
        assert_eq!(source.version(), Some(first.clone()));
        // The wall clock can be set back, and the monotonic clock still counts.
        setup.clock.turn_wall_back(interval);
        setup.clock.advance(interval);
        assert_eq!(look().await, [LIST], "{interval:?}");
    }
}

#[tokio::test]
async fn callers_share_one_lookup() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let source = setup.exportable();
    let gate = Arc::new(Semaphore::new(0));
    setup.vault.fault(LIST, Fault::Hold(Arc::clone(&gate)));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let source = source.clone();
        callers.spawn(async move { source.credential().await.unwrap() });
    }
    let_others_run().await;
    gate.add_permits(16);
    let certificates = callers.join_all().await;
    assert!(
        certificates
            .iter()
            .all(|certificate| is(certificate, &VERSIONS[0]))
    );
    assert_eq!(setup.vault.take_lines().len(), 3);

    // A failure is shared, too.
    let source = setup.exportable();
    setup
        .vault
        .fault(LIST, Fault::Answer(503, String::new(), None));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let source = source.clone();
        callers.spawn(async move { source.credential().await.map(drop).unwrap_err().to_string() });
    }
    let errors = callers.join_all().await;
    assert!(
        errors.iter().all(|error| error.contains("fails (503")),
        "{errors:?}"
    );
    assert_eq!(setup.lists(), 1);
}

#[tokio::test]
async fn a_dropped_caller_leaves_the_lookup_to_another() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let source = setup.exportable();
    let gate = Arc::new(Semaphore::new(0));
    setup.vault.fault(LIST, Fault::Hold(Arc::clone(&gate)));
    let held = |lists: usize| async move {
        let count = || {
            let requests = setup.vault.requests();
            requests
                .iter()
                .filter(|seen| seen.has_token && seen.line == LIST)
                .count()
        };
        while count() < lists {
            tokio::task::yield_now().await;
        }
        setup
    };
    let call = || {
        let source = source.clone();
        tokio::spawn(async move { source.credential().await.map(|_| ()) })
    };
    let first = call();
    let setup = held(1).await;
    let second = call();
    let_others_run().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.add_permits(2);
    second.await.unwrap().unwrap();
    assert_eq!(setup.lists(), 2);
}

#[tokio::test]
async fn a_failing_vault_keeps_the_last_certificate_and_is_not_asked_at_each_call() {
    let setup = Setup::new().await;
    let first = setup.vault.add(APP, version(0, 100));
    let source = setup.exportable();
    source.credential().await.unwrap();
    assert_eq!(setup.lists(), 1);
    setup.vault.add(APP, version(1, 0));
    setup.clock.advance(5 * MINUTE);
    let seconds = Duration::from_secs;
    let fail = |wait| {
        setup
            .vault
            .fault(LIST, Fault::Answer(503, String::new(), wait))
    };
    fail(None);
    for pause in [5, 10, 20, 40, 60, 60] {
        for before in [seconds(0), seconds(pause - 1)] {
            setup.clock.advance(before);
            let certificate = source.credential().await.unwrap();
            assert!(is(&certificate, &VERSIONS[0]));
        }
        assert_eq!(setup.lists(), 1, "{pause}");
        setup.clock.advance(seconds(1));
    }
    // The vault may ask for a longer pause, and not for more than five minutes.
    for (asked, pause) in [(90, 90), (4000, 300)] {
        fail(Some(asked));
        for before in [seconds(0), seconds(pause - 1)] {
            setup.clock.advance(before);
            source.credential().await.unwrap();
        }
        assert_eq!(setup.lists(), 1, "{asked}");
        setup.clock.advance(seconds(1));
    }
    assert_eq!(source.version(), Some(first));
    setup.vault.fault(LIST, None);
    assert!(is(&source.credential().await.unwrap(), &VERSIONS[1]));
    assert_eq!(setup.lists(), 1);
    // The pause begins anew.
    setup.clock.advance(5 * MINUTE);
    fail(None);
    source.credential().await.unwrap();
    setup.clock.advance(seconds(5));
    source.credential().await.unwrap();
    assert_eq!(setup.lists(), 2);
}

#[tokio::test]
async fn an_expired_certificate_is_not_kept_by_a_failing_vault() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let source = setup.exportable();
    source.credential().await.unwrap();
    setup
        .vault
        .fault(LIST, Fault::Answer(500, String::new(), None));
    setup.clock.advance(366 * 24 * 60 * MINUTE);
    let error = source.credential().await.map(drop).unwrap_err();
    assert!(error.to_string().contains("fails (500"), "{error}");
    // The vault is reachable again, and the token of the old time is of no interest to this test.
    setup.vault.fault(LIST, None);
    setup.clock.advance(MINUTE);
    let error = source.credential().await.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("0 disabled, 1 expired, 0 not yet valid"),
        "{error}"
    );
}

#[tokio::test]
async fn a_first_lookup_that_failed_is_tried_again_after_five_seconds() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    setup
        .vault
        .fault(LIST, Fault::Answer(503, String::new(), None));
    let source = setup.exportable();
    for advance in [0, 4] {
        setup.clock.advance(Duration::from_secs(advance));
        source.credential().await.map(drop).unwrap_err();
    }
    assert_eq!(setup.lists(), 1);
    setup.vault.fault(LIST, None);
    setup.clock.advance(Duration::from_secs(1));
    source.credential().await.unwrap();
}

#[tokio::test]
async fn a_rotation_fails_no_call_and_the_next_token_request_has_the_new_version() {
    for exportable in [true, false] {
        let setup = Setup::new().await;
        setup.vault.add(APP, version(0, 100));
        setup.register(&[&VERSIONS[0], &VERSIONS[1]]);
        let source = match exportable {
            true => setup.exportable(),
            false => setup.non_exportable(),
        };
        let client = setup.client(&source);
        let round = async |first: usize| {
            let barrier = Arc::new(Barrier::new(16));
            let mut callers = JoinSet::new();
            for caller in 0..16 {
                let (client, barrier) = (client.clone(), Arc::clone(&barrier));
                callers.spawn(async move {
                    barrier.wait().await;
                    client.acquire_token_for_client(scope(first + caller)).await
                });
            }
            for token in callers.join_all().await {
                token.unwrap();
            }
        };
        round(0).await;
        assert_eq!(signed_by(&setup.local), vec![thumbprint(&VERSIONS[0]); 16]);
        assert_eq!(setup.lists(), 1);
        setup.vault.add(APP, version(1, 0));
        setup.clock.advance(5 * MINUTE);
        round(16).await;
        assert_eq!(
            signed_by(&setup.local)[16..],
            vec![thumbprint(&VERSIONS[1]); 16]
        );
        assert_eq!(setup.lists(), 1);
    }
}

#[tokio::test]
async fn a_rejected_certificate_leads_to_a_lookup_at_once() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 100));
    setup.register(&[&VERSIONS[0]]);
    let client = setup.client(&setup.exportable());
    acquire(&client).await.unwrap();
    // The certificate is replaced in the vault and at the identity provider.
    setup.vault.add(APP, version(1, 0));
    setup.register(&[&VERSIONS[1]]);
    assert_eq!(setup.lists(), 1);
    let seconds = Duration::from_secs;
    setup.clock.advance(seconds(29));
    // The last lookup is too recent, so that rejected requests do not become requests to the vault.
    let other = "https://storage.azure.com/.default";
    let error = client.acquire_token_for_client(other).await.unwrap_err();
    assert!(error.is_credential_rejected(), "{error}");
    assert_eq!(setup.lists(), 0);
    setup.clock.advance(seconds(1));
    acquire(&client).await.unwrap();
    assert_eq!(setup.lists(), 1);
    let [old, new] = [thumbprint(&VERSIONS[0]), thumbprint(&VERSIONS[1])];
    let signed = signed_by(&setup.local);
    assert_eq!(signed[signed.len() - 2..], [old, new.clone()]);
    acquire(&client).await.unwrap();
    assert_eq!(signed_by(&setup.local).last(), Some(&new));
    assert_eq!(setup.lists(), 0);
}

#[tokio::test]
async fn a_version_that_the_vault_no_longer_signs_with_is_replaced() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 100));
    let newest = setup.vault.add(APP, version(1, 0));
    setup.register(&[&VERSIONS[0], &VERSIONS[1]]);
    let client = setup.client(&setup.non_exportable());
    client.acquire_token_for_client(scope(0)).await.unwrap();
    assert_eq!(setup.lists(), 1);
    // A vault that is down for a moment is no reason to look for another version.
    setup.clock.advance(Duration::from_secs(30));
    let down = Fault::Answer(503, String::new(), None);
    setup.vault.fault("POST /keys/", down);
    client.acquire_token_for_client(scope(1)).await.unwrap_err();
    setup.vault.fault("POST /keys/", None);
    client.acquire_token_for_client(scope(2)).await.unwrap();
    setup
        .vault
        .change(APP, &newest, |version| version.enabled = false);
    let error = client.acquire_token_for_client(scope(3)).await.unwrap_err();
    assert!(error.to_string().contains("KeyDisabled"), "{error}");
    assert_eq!(setup.lists(), 0);
    client.acquire_token_for_client(scope(4)).await.unwrap();
    assert_eq!(setup.lists(), 1);
    assert_eq!(
        signed_by(&setup.local).last(),
        Some(&thumbprint(&VERSIONS[0]))
    );
    client.acquire_token_for_client(scope(5)).await.unwrap();
    assert_eq!(setup.lists(), 0);
}

#[tokio::test]
async fn an_expired_certificate_leads_to_a_lookup_before_the_interval_is_over() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 0));
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let source = setup.exportable().lookup_interval(days(1000));
    source.credential().await.unwrap();
    setup.clock.advance(days(364));
    source.credential().await.unwrap();
    assert_eq!(setup.lists(), 1);
    setup.clock.advance(days(2));
    source.credential().await.map(drop).unwrap_err();
    assert_eq!(setup.lists(), 1);
}

#[tokio::test]
async fn a_version_may_be_in_the_vault_before_it_is_registered() {
    let setup = Setup::new().await;
    setup.vault.add(APP, version(0, 100));
    setup.register(&[&VERSIONS[0]]);
    let client = setup.client(&setup.non_exportable());
    acquire(&client).await.unwrap();
    setup.vault.add(APP, version(1, 0));
    setup.clock.advance(5 * MINUTE);
    acquire(&client).await.unwrap();
    let [old, new] = [thumbprint(&VERSIONS[0]), thumbprint(&VERSIONS[1])];
    assert_eq!(signed_by(&setup.local), [old.clone(), new.clone(), old]);
    setup.register(&[&VERSIONS[0], &VERSIONS[1]]);
    acquire(&client).await.unwrap();
    assert_eq!(signed_by(&setup.local).last(), Some(&new));
}

/// The certificate of a client CA, as a version of the vault.
fn issued(ca: &ClientCa) -> (Version, IssuedPem) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut version = Version::with_key("daemon.example", &key).unwrap();
    let issued = ca.issue_with("daemon.example", key, |_| ());
    version.secret.1 = issued.whole();
    let unused = |_: SigningAlgorithm, _: Vec<u8>| async { Err("unused".into()) };
    Certificate::from_signer(&issued.certificate, unused).unwrap();
    let body: String = issued
        .certificate
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    version.certificate = BASE64_STANDARD.decode(body).unwrap();
    (version, issued)
}

#[tokio::test]
async fn the_certificate_is_the_client_certificate_of_tls_connections() {
    let ca = ClientCa::new();
    for exportable in [true, false] {
        for tls in [&TLS12, &TLS13] {
            let setup = Setup::new().await;
            let server = MutualTlsServer::start(&ca.pem(), tls).await;
            let versions = [issued(&ca).0, issued(&ca).0];
            let mut first = versions[0].clone();
            first.created -= 100;
            setup.vault.add(APP, first);
            let source = match exportable {
                true => setup.exportable(),
                false => setup.non_exportable(),
            };
            let mutual_tls = MutualTls::from_source(source).trusted_roots_pem(&server.ca_pem);
            let authority =
                Authority::oidc("https://id.example.org").token_endpoint(&server.token_endpoint);
            let client = ConfidentialClient::builder("daemon")
                .authority(authority)
                .tls_client_auth(mutual_tls)
                .build()
                .unwrap();
            for (number, version) in versions.iter().enumerate() {
                let token = client
                    .acquire_token_for_client(scope(number))
                    .await
                    .unwrap();
                let expected: String = Sha256::digest(&version.certificate)
                    .iter()
                    .map(|byte| format!("{byte:02X}"))
                    .collect();
                assert!(
                    token.secret().starts_with(&expected),
                    "{exportable} {number}"
                );
                setup.vault.add(APP, versions[1].clone());
                setup.clock.advance(5 * MINUTE);
            }
        }
    }
}
