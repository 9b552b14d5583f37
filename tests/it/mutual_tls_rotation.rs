//! A client certificate that is replaced while the program runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use confidential_client::credential::CertificateFile;
use confidential_client::testing::{Application, LocalAuthority, ProtectedApi};
use confidential_client::transport::MutualTls;
use confidential_client::{
    AccessToken, Authority, Certificate, ConfidentialClient, Error, RetryPolicy, TokenSource,
};
use http::header::AUTHORIZATION;
use tokio::sync::Barrier;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::support::client_ca::{ClientCa, IssuedPem};
use crate::support::mutual_tls_server::MutualTlsServer;
use crate::support::{CLIENT_ID, SCOPE, TENANT, log_capture, scope};

const API: &str = "https://graph.microsoft.com";
const NAME: &str = "daemon.example";

/// An authority, and a client whose certificate is in a file.
struct Daemon {
    local: LocalAuthority,
    folder: PathBuf,
    ca: ClientCa,
    mutual_tls: MutualTls,
    client: ConfidentialClient,
}

impl Daemon {
    /// Starts with a first certificate in the file. The key is in the same file or in another one.
    async fn start(key_file: Option<&str>) -> (Self, IssuedPem) {
        log_capture::start();
        let ca = ClientCa::new();
        let local = LocalAuthority::builder()
            .mutual_tls()
            .start()
            .await
            .unwrap();
        let application =
            Application::new(CLIENT_ID).tls_client_auth(ca.pem(), format!("CN={NAME}"));
        local.register(TENANT, application);
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut file = CertificateFile::new(folder.join("tls.pem"));
        if let Some(name) = key_file {
            file = file.private_key(folder.join(name));
        }
        let mutual_tls = MutualTls::from(file).trusted_roots_pem(local.ca_pem().unwrap());
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::oidc(local.issuer(TENANT).unwrap()))
            .tls_client_auth(mutual_tls.clone())
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        let daemon = Self {
            local,
            folder,
            ca,
            mutual_tls,
            client,
        };
        let first = daemon.ca.issue(NAME);
        match key_file {
            None => daemon.write("tls.pem", &first.whole()),
            Some(name) => {
                daemon.write("tls.pem", &first.certificate);
                daemon.write(name, &first.key);
            }
        }
        (daemon, first)
    }

    /// Writes beside the file and renames, as careful programs do.
    fn write(&self, name: &str, content: &str) {
        replace(&self.folder.join(name), content);
    }

    /// Replaces the certificate.
    fn rotate(&self) -> Certificate {
        let next = self.ca.issue(NAME);
        self.write("tls.pem", &next.whole());
        next.parsed()
    }

    async fn token(&self, scope: impl Into<String>) -> AccessToken {
        let scope: String = scope.into();
        self.client
            .acquire_token_for_client(scope.as_str())
            .await
            .unwrap()
    }

    /// The thumbprints of the certificates that the token endpoint saw.
    fn seen(&self) -> Vec<String> {
        let requests = self.local.token_requests();
        let seen = requests
            .iter()
            .map(|request| request.client_certificate_sha256().unwrap());
        seen.collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Calls the API with the certificate of the token, and returns the status.
async fn call(mutual_tls: &MutualTls, token: &AccessToken, api: &ProtectedApi) -> u16 {
    let http = mutual_tls.client_for(token).await.unwrap();
    let request = http.get(api.base_url());
    let request = request.header(AUTHORIZATION, token.authorization_header());
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_next_token_request_after_a_rotation_has_the_new_certificate() {
    let (daemon, first) = Daemon::start(None).await;
    daemon.token(scope(1)).await;
    // Pooled connection, and no session to resume.
    daemon.token(scope(2)).await;
    let second = daemon.rotate();
    daemon.token(scope(3)).await;
    let (first, second) = (
        first.parsed().thumbprint_sha256(),
        second.thumbprint_sha256(),
    );
    assert_eq!(daemon.seen(), [first.clone(), first, second.clone()]);
    assert_eq!(
        daemon.mutual_tls.certificate().unwrap().thumbprint_sha256(),
        second
    );
    assert_eq!(
        daemon.client.certificate().unwrap().thumbprint_sha256(),
        second
    );
}

/// A valid token is never withheld: the identity provider may be down.
#[tokio::test]
async fn tokens_of_the_previous_certificate_are_served_and_refreshed_and_older_ones_removed() {
    let (daemon, _) = Daemon::start(None).await;
    let api = daemon.local.protected_api(API).await.unwrap();
    let old = daemon.token(SCOPE).await;
    let unused = daemon.token(scope(1)).await;
    daemon.rotate();
    daemon.token(scope(2)).await;
    assert_eq!(daemon.local.token_requests().len(), 3);

    // The old token is served at once, over the old certificate. Behind it a new one is fetched.
    let served = daemon.token(SCOPE).await;
    assert_eq!(
        (served.source(), served.secret()),
        (TokenSource::Cache, old.secret())
    );
    assert_eq!(call(&daemon.mutual_tls, &served, &api).await, 200);
    let refreshed = loop {
        let token = daemon.token(SCOPE).await;
        if token.secret() != old.secret() {
            break token;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(call(&daemon.mutual_tls, &refreshed, &api).await, 200);
    assert_eq!(daemon.local.token_requests().len(), 4, "one refresh");

    daemon.rotate();
    daemon.token(scope(3)).await;
    // The certificate of `unused` was replaced twice, so no connection carries it.
    let replaced = daemon.token(scope(1)).await;
    assert_eq!(replaced.source(), TokenSource::IdentityProvider);
    let error = daemon.mutual_tls.client_for(&unused).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(error.to_string().contains("was replaced twice"), "{error}");
}

#[tokio::test]
async fn a_half_written_pair_is_not_used() {
    let (daemon, first) = Daemon::start(Some("tls.key")).await;
    let log = log_capture::Log::start();
    daemon.token(scope(1)).await;
    let second = daemon.ca.issue(NAME);
    daemon.write("tls.pem", &second.certificate);
    daemon.token(scope(2)).await;
    let text = log.text();
    assert!(text.contains("the last valid credential is used"), "{text}");
    daemon.write("tls.key", &second.key);
    daemon.token(scope(3)).await;
    let (first, second) = (
        first.parsed().thumbprint_sha256(),
        second.parsed().thumbprint_sha256(),
    );
    assert_eq!(daemon.seen(), [first.clone(), first, second]);
}

/// The certificate may be deployed before its registration is complete everywhere.
#[tokio::test]
async fn a_rejected_new_certificate_is_retried_with_the_accepted_one() {
    let (daemon, first) = Daemon::start(None).await;
    daemon.token(scope(1)).await;
    let unregistered = ClientCa::new().issue(NAME);
    daemon.write("tls.pem", &unregistered.whole());
    let token = daemon.token(SCOPE).await;
    let (first, other) = (
        first.parsed().thumbprint_sha256(),
        unregistered.parsed().thumbprint_sha256(),
    );
    assert_eq!(daemon.seen(), [first.clone(), other, first]);
    let api = daemon.local.protected_api(API).await.unwrap();
    assert_eq!(call(&daemon.mutual_tls, &token, &api).await, 200);
}

/// Many token requests and API calls run while the file rotates. The phases are counted by barriers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_under_load_fails_no_call() {
    const WORKERS: usize = 8;
    const ROUNDS: usize = 6;
    const CALLS: usize = 5;

    let (daemon, first) = Daemon::start(None).await;
    let daemon = Arc::new(daemon);
    let api = Arc::new(daemon.local.protected_api(API).await.unwrap());
    let barrier = Arc::new(Barrier::new(WORKERS + 1));
    let succeeded = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let (daemon, api) = (Arc::clone(&daemon), Arc::clone(&api));
        let (barrier, succeeded) = (Arc::clone(&barrier), Arc::clone(&succeeded));
        workers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                barrier.wait().await;
                for number in 0..CALLS {
                    // A token request of its own, and a token that all share.
                    let own = format!("{API}/{worker}-{round}-{number}/.default");
                    daemon.token(own).await;
                    let token = daemon.token(SCOPE).await;
                    assert_eq!(call(&daemon.mutual_tls, &token, &api).await, 200);
                    succeeded.fetch_add(1, Ordering::SeqCst);
                }
            }
        }));
    }
    let mut certificates = vec![first.parsed()];
    for _ in 0..ROUNDS {
        barrier.wait().await;
        // While the workers of this round run.
        certificates.push(daemon.rotate());
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(succeeded.load(Ordering::SeqCst), WORKERS * ROUNDS * CALLS);
    daemon.token(scope(1)).await;
    let last = certificates.last().unwrap().thumbprint_sha256();
    assert_eq!(daemon.seen().last(), Some(&last));
}

/// A resumed session keeps the old certificate, and so does a pooled connection.
#[tokio::test]
async fn neither_a_session_nor_a_connection_of_the_old_certificate_is_used_again() {
    let ca = ClientCa::new();
    for version in [&TLS12, &TLS13] {
        let server = MutualTlsServer::start(&ca.pem(), version).await;
        let current = Arc::new(Mutex::new(ca.issue(NAME).parsed()));
        let source = Arc::clone(&current);
        let mutual_tls = MutualTls::from_source(move || {
            let current = source.lock().unwrap().clone();
            async move { Ok(current) }
        });
        let authority = Authority::oidc("https://id.example");
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(authority.token_endpoint(&server.token_endpoint))
            .tls_client_auth(mutual_tls.trusted_roots_pem(&server.ca_pem))
            .build()
            .unwrap();
        let mut handshakes = 0;
        for _ in 0..3 {
            let next = ca.issue(NAME).parsed();
            *current.lock().unwrap() = next.clone();
            handshakes += 1;
            for number in 0..3 {
                let scope = format!("{handshakes}-{number}");
                let token = client
                    .acquire_token_for_client(scope.as_str())
                    .await
                    .unwrap();
                assert!(token.secret().starts_with(&next.thumbprint_sha256()));
                // One connection for each certificate.
                assert_eq!(server.handshakes(), handshakes);
            }
        }
    }
}

/// A server that checks the certificate in the handshake sends an alert and no response.
#[tokio::test]
async fn a_certificate_that_the_handshake_rejects_is_replaced_by_the_accepted_one() {
    let ca = ClientCa::new();
    for version in [&TLS12, &TLS13] {
        let server = MutualTlsServer::start(&ca.pem(), version).await;
        let accepted = ca.issue(NAME).parsed();
        let current = Arc::new(Mutex::new(accepted.clone()));
        let source = Arc::clone(&current);
        let mutual_tls = MutualTls::from_source(move || {
            let current = source.lock().unwrap().clone();
            async move { Ok(current) }
        });
        let authority = Authority::oidc("https://id.example");
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(authority.token_endpoint(&server.token_endpoint))
            .tls_client_auth(mutual_tls.trusted_roots_pem(&server.ca_pem))
            .retry(RetryPolicy::none())
            .build()
            .unwrap();
        client.acquire_token_for_client("a").await.unwrap();
        *current.lock().unwrap() = ClientCa::named("Others").issue(NAME).parsed();
        let token = client.acquire_token_for_client("b").await.unwrap();
        assert!(token.secret().starts_with(&accepted.thumbprint_sha256()));
    }
}
