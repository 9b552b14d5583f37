//! Credentials that are replaced while the program runs. docs/failures.md M16.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confidential_client::credential::{CertificateFile, SecretFile, SigningAlgorithm};
use confidential_client::testing::{
    Application, LocalAuthority, ManualClock, self_signed_certificate,
};
use confidential_client::{Certificate, ConfidentialClientBuilder, Error, Secret, TokenSource};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::support::{
    CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, claims_of, client_of, header_of, in_memory,
    let_others_run, scope,
};

/// A folder of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes beside the file and renames, as careful programs do.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Which certificate a request was signed with, by what its assertion's header says.
fn signed_with(assertion: &str) -> Value {
    header_of(assertion)["x5t#S256"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_rotations_under_load_cause_no_error() {
    let pems: Vec<String> = (0..4)
        .map(|number| self_signed_certificate(&format!("daemon {number}")).unwrap())
        .collect();
    let certificates: Vec<Certificate> = pems
        .iter()
        .map(|pem| Certificate::from_pem(pem).unwrap())
        .collect();
    let folder = Folder::new();
    let path = folder.path("daemon.pem");
    replace(&path, &pems[0]);
    let local = LocalAuthority::start().await.unwrap();
    let accept = |accepted: &[usize]| {
        let application = Application::new(CLIENT_ID);
        let with =
            |application: Application, at: &usize| application.certificate(&certificates[*at]);
        local.register(TENANT, accepted.iter().fold(application, with));
    };
    accept(&[0]);
    let source = CertificateFile::new(&path);
    let client = client_of(&local)
        .certificate_source(source)
        .build()
        .unwrap();

    client.acquire_token_for_client(scope(0)).await.unwrap();

    let (stop, next) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(1_000)),
    );
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, next) = (client.clone(), Arc::clone(&stop), Arc::clone(&next));
            let (progress, acquired) = watch::channel(0);
            let caller = tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let scope = scope(next.fetch_add(1, Ordering::Relaxed));
                    client.acquire_token_for_client(scope).await.unwrap();
                    progress.send_modify(|acquired| *acquired += 1);
                }
            });
            (caller, acquired)
        })
        .collect();

    let used = || client.certificate().unwrap().thumbprint_sha1();
    for swap in 0..100 {
        let (old, new) = (swap % pems.len(), (swap + 1) % pems.len());
        // Half written, in place; then something else that is of no use.
        let broken = match swap % 4 {
            0 => &pems[new].as_bytes()[..pems[new].len() / 2],
            1 => b"",
            2 => pems[new]
                .split_inclusive("-----END CERTIFICATE-----\n")
                .next()
                .unwrap()
                .as_bytes(),
            _ => b"\x30\x82garbage",
        };
        std::fs::write(&path, broken).unwrap();
        client
            .acquire_token_for_client(scope(2 * swap + 1))
            .await
            .unwrap();
        assert_eq!(used(), certificates[old].thumbprint_sha1(), "swap {swap}");

        // As an administrator does it: first both are registered, then the old one is taken out.
        // What is under way with it then is refused, and asked again.
        accept(&[old, new]);
        replace(&path, &pems[new]);
        accept(&[new]);
        client
            .acquire_token_for_client(scope(2 * swap + 2))
            .await
            .unwrap();
        assert_eq!(used(), certificates[new].thumbprint_sha1(), "swap {swap}");
        // Nobody is overtaken by two swaps: what was under way is at its end.
        let marks: Vec<_> = callers
            .iter()
            .map(|(_, acquired)| (acquired.clone(), *acquired.borrow()))
            .collect();
        for (mut acquired, mark) in marks {
            acquired.wait_for(|now| *now > mark).await.unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut acquired = 201;
    for (caller, by_it) in callers {
        caller.await.unwrap();
        acquired += *by_it.borrow();
    }
    let requests = local.token_requests();
    // A request is repeated at most once, and only in the moment of a swap.
    let mut times: HashMap<&str, usize> = HashMap::new();
    for request in &requests {
        *times
            .entry(request.header("client-request-id").unwrap())
            .or_default() += 1;
    }
    assert_eq!(times.len(), acquired);
    assert!(times.values().all(|times| *times <= 2));
}

/// Kubernetes mounts `daemon.pem -> ..data/daemon.pem`, and swaps what `..data` points to.
#[cfg(unix)]
#[tokio::test]
async fn the_swap_of_a_symbolic_link_is_seen() {
    let folder = Folder::new();
    let mount = |name: &str, pem: &str| {
        std::fs::create_dir(folder.path(name)).unwrap();
        std::fs::write(folder.path(name).join("daemon.pem"), pem).unwrap();
        std::os::unix::fs::symlink(name, folder.path("..data_tmp")).unwrap();
        std::fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    };
    mount("..2026_11_21", &PEM);
    std::os::unix::fs::symlink("..data/daemon.pem", folder.path("daemon.pem")).unwrap();
    let provider = Provider::open();
    let client = in_memory(&provider)
        .certificate_source(CertificateFile::new(folder.path("daemon.pem")))
        .build()
        .unwrap();
    assert_eq!(
        client.certificate().map(|_| ()),
        None,
        "nobody has read it yet"
    );
    client.acquire_token_for_client(scope(0)).await.unwrap();
    mount("..2026_11_22", &self_signed_certificate("renewed").unwrap());
    client.acquire_token_for_client(scope(1)).await.unwrap();

    assert_eq!(client.certificate().unwrap().subject(), "CN=renewed");
    let sent = |request| provider.field(request, "client_assertion").unwrap();
    assert_ne!(signed_with(&sent(0)), signed_with(&sent(1)));
    let token = client.acquire_token_for_client(scope(0)).await.unwrap();
    assert_eq!(token.source(), TokenSource::Cache, "no token is lost");
}

#[tokio::test]
async fn certificate_and_key_may_be_replaced_one_after_the_other() {
    let folder = Folder::new();
    let (certificate, key) = (folder.path("tls.crt"), folder.path("tls.key"));
    let parts = |pem: &str| {
        let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE").unwrap());
        (certificate.to_owned(), key.to_owned())
    };
    let (old, new) = (
        parts(&PEM),
        parts(&self_signed_certificate("renewed").unwrap()),
    );
    replace(&certificate, &old.0);
    replace(&key, &old.1);
    let provider = Provider::open();
    let source = CertificateFile::new(&certificate)
        .private_key(&key)
        .send_x5c();
    let client = in_memory(&provider)
        .certificate_source(source)
        .build()
        .unwrap();
    let subject = || client.certificate().unwrap().subject().to_owned();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    replace(&certificate, &new.0);
    client.acquire_token_for_client(scope(1)).await.unwrap();
    assert_eq!(subject(), "CN=daemon");
    replace(&key, &new.1);
    client.acquire_token_for_client(scope(2)).await.unwrap();
    assert_eq!(subject(), "CN=renewed");
    let sent = provider.field(2, "client_assertion").unwrap();
    assert!(
        header_of(&sent)["x5c"].is_array(),
        "what was set on the file holds for each"
    );
}

/// A provider that refuses the first request with a code, and the source behind it.
async fn refused_with(
    code: u64,
    credential: impl Fn(ConfidentialClientBuilder) -> ConfidentialClientBuilder,
) -> (Provider, Result<TokenSource, Error>) {
    let provider = Provider::open();
    let codes = match code {
        0 => String::new(),
        code => format!(r#","error_codes":[{code}]"#),
    };
    provider.answer(401, &format!(r#"{{"error":"invalid_client"{codes}}}"#));
    let client = credential(in_memory(&provider)).build().unwrap();
    let token = client.acquire_token_for_client(SCOPE).await;
    (provider, token.map(|token| token.source()))
}

/// Gives the first, and from the second time on the second.
fn first_then<T: Clone + Send + Sync + 'static>(
    first: T,
    second: T,
) -> impl confidential_client::credential::CredentialSource<T> {
    let asked = AtomicUsize::new(0);
    move || {
        let now = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => first.clone(),
            _ => second.clone(),
        };
        async move { Ok(now) }
    }
}

#[tokio::test]
async fn a_rejected_credential_is_read_again_and_the_request_retried_once() {
    let renewed = Certificate::from_pem(self_signed_certificate("renewed").unwrap()).unwrap();
    let old = Certificate::from_pem(&*PEM).unwrap();
    let certificates = || first_then(old.clone(), renewed.clone());
    let secrets = || first_then(Secret::from("old-s3cret"), Secret::from("new-s3cret"));
    // Code 0: a provider that has no codes.
    for code in [700027, 700024, 7000214, 1000502, 7000274, 7000277, 0] {
        let (provider, token) =
            refused_with(code, |builder| builder.certificate_source(certificates())).await;
        assert_eq!(token.unwrap(), TokenSource::IdentityProvider, "{code}");
        assert_eq!(provider.requests(), 2, "{code}");
        let sent = |request| provider.field(request, "client_assertion").unwrap();
        assert_ne!(signed_with(&sent(0)), signed_with(&sent(1)));
        assert_ne!(claims_of(&sent(0))["jti"], claims_of(&sent(1))["jti"]);
    }
    for code in [7000215, 7000222, 0] {
        let (provider, token) =
            refused_with(code, |builder| builder.client_secret_source(secrets())).await;
        assert_eq!(token.unwrap(), TokenSource::IdentityProvider, "{code}");
        assert_eq!(provider.requests(), 2, "{code}");
        assert_eq!(provider.field(1, "client_secret").unwrap(), "new-s3cret");
    }
}

/// docs/failures.md M16.
#[tokio::test]
async fn a_refusal_with_an_unknown_code_or_without_words_does_not_keep_the_old_credential() {
    let secrets = || first_then(Secret::from("old-s3cret"), Secret::from("new-s3cret"));
    for (status, body, requests) in [
        (
            401,
            r#"{"error":"invalid_client","error_codes":[50012]}"#,
            2,
        ),
        (
            401,
            r#"{"error":"invalid_client","error_codes":[99999999]}"#,
            2,
        ),
        (
            400,
            r#"{"error":"invalid_client","error_description":"AADSTS7000229: No."}"#,
            2,
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS7000222: Expired."}"#,
            2,
        ),
        (401, "", 2),
        (403, "", 2),
        (
            401,
            r#"{"error":"access_denied","error_description":"Unauthorized"}"#,
            2,
        ),
        (
            401,
            r#"{"errorCode":"invalid_client","errorSummary":"No."}"#,
            2,
        ),
        (200, r#"{"error":"invalid_client","access_token":null}"#, 2),
        (403, "<html><title>Blocked</title></html>", 1),
        (401, "<html><title>Log in</title></html>", 1),
        (400, "", 1),
        (
            400,
            r#"{"error":"invalid_request","error_codes":[90061]}"#,
            1,
        ),
        (503, r#"{"error":"invalid_client"}"#, 1),
        (429, r#"{"error":"invalid_client"}"#, 1),
    ] {
        let provider = Provider::open();
        provider.answer(status, body);
        let client = in_memory(&provider)
            .client_secret_source(secrets())
            .build()
            .unwrap();
        let token = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(provider.requests(), requests, "{status} {body}: {token:?}");
        assert_eq!(token.is_ok(), requests == 2, "{status} {body}: {token:?}");
        if requests == 2 {
            assert_eq!(provider.field(1, "client_secret").unwrap(), "new-s3cret");
        }
    }
}

#[tokio::test]
async fn a_gateway_that_refuses_everything_does_not_cause_a_storm() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    // The source of a vault that returns another secret at every call.
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let client = in_memory(&provider)
        .client_secret_source(move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Secret::from(format!("s3cret-{number}"))) }
        })
        .clock(clock.clone())
        .build()
        .unwrap();
    for _ in 0..4_000 {
        provider.answer(403, "");
    }
    for _ in 0..600 {
        client.acquire_token_for_client(SCOPE).await.unwrap_err();
        clock.advance(Duration::from_secs(1));
    }
    // Ten minutes: cool-downs of 5, 10, 20, 40 and 60 s, with two requests after each.
    let requests = provider.requests();
    assert!(requests <= 30, "{requests} requests");
    assert!(calls.load(Ordering::Relaxed) <= 30);
}

#[tokio::test]
async fn the_help_does_not_name_another_source_than_the_credentials() {
    let folder = Folder::new();
    let (secret, token) = (folder.path("secret"), folder.path("token"));
    std::fs::write(&secret, "s3cret-of-the-file").unwrap();
    std::fs::write(&token, "a.b.c").unwrap();
    let refused =
        |code: u64, credential: &dyn Fn(ConfidentialClientBuilder) -> ConfidentialClientBuilder| {
            let provider = Provider::open();
            provider.answer(
                401,
                &format!(r#"{{"error":"invalid_client","error_codes":[{code}]}}"#),
            );
            let client = credential(in_memory(&provider)).build().unwrap();
            async move {
                let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
                error.server_error().unwrap().help().unwrap().to_owned()
            }
        };
    let text = refused(7000222, &|builder| {
        builder.client_secret_source(SecretFile::new(&secret))
    })
    .await;
    let expected = format!(
        "the client secret of the secret file {} has expired",
        secret.display()
    );
    assert!(text.contains(&expected), "{text}");
    let text = refused(7000222, &|builder| builder.client_secret(SECRET)).await;
    assert!(text.contains("the client secret has expired"), "{text}");
    let file = confidential_client::credential::FederatedTokenFile::new(&token);
    let text = refused(700213, &|builder| builder.client_assertion(file.clone())).await;
    let expected = format!(
        "the assertion of the federated token file {}",
        token.display()
    );
    assert!(text.contains(&expected), "{text}");
    let text = refused(700213, &|builder| {
        builder.client_assertion(|_| async { Ok("a.b.c".to_owned()) })
    })
    .await;
    assert!(
        text.contains("the assertion of the assertion provider"),
        "{text}"
    );
}

#[tokio::test]
async fn an_unchanged_credential_causes_no_retry() {
    let old = || Certificate::from_pem(&*PEM).unwrap();
    let renewed = Certificate::from_pem(self_signed_certificate("renewed").unwrap()).unwrap();
    type With = Box<dyn Fn(ConfidentialClientBuilder) -> ConfidentialClientBuilder>;
    let rows: [(&str, u64, With); 6] = [
        (
            "the same certificate",
            700027,
            Box::new(move |builder| builder.certificate_source(first_then(old(), old()))),
        ),
        (
            "the same secret",
            7000215,
            Box::new(|builder| {
                builder.client_secret_source(first_then(SECRET.into(), SECRET.into()))
            }),
        ),
        (
            "a fixed certificate",
            700027,
            Box::new(move |builder| builder.certificate(old())),
        ),
        (
            "a fixed secret",
            7000215,
            Box::new(|builder| builder.client_secret(SECRET)),
        ),
        (
            "another reason",
            700016,
            Box::new(move |builder| builder.certificate_source(first_then(old(), renewed.clone()))),
        ),
        (
            "an assertion",
            700024,
            Box::new(|builder| builder.client_assertion(|_| async { Ok("a.b.c".to_owned()) })),
        ),
    ];
    for (name, code, credential) in rows {
        let (provider, token) = refused_with(code, credential).await;
        assert!(matches!(token, Err(Error::Server(_))), "{name}: {token:?}");
        assert_eq!(provider.requests(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_with_a_chain_is_a_new_credential() {
    let old = Certificate::from_pem(&*PEM).unwrap();
    let with_chain = old.clone().send_x5c();
    let (provider, token) = refused_with(700027, |builder| {
        builder.certificate_source(first_then(old.clone(), with_chain.clone()))
    })
    .await;
    token.unwrap();
    let sent = provider.field(1, "client_assertion").unwrap();
    assert!(header_of(&sent)["x5c"].is_array());
}

#[tokio::test]
async fn a_second_rejection_is_returned() {
    let provider = Provider::open();
    for code in [7000222, 7000215] {
        provider.answer(
            401,
            &format!(r#"{{"error":"invalid_client","error_codes":[{code}]}}"#),
        );
    }
    let secrets = AtomicUsize::new(0);
    let client = in_memory(&provider)
        .client_secret_source(move || {
            let number = secrets.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Secret::from(format!("s3cret-{number}"))) }
        })
        .build()
        .unwrap();
    match client.acquire_token_for_client(SCOPE).await {
        Err(Error::Server(server)) => assert_eq!(server.error_codes(), [7000215]),
        other => panic!("{other:?}"),
    }
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_secret_file_is_read_anew() {
    let folder = Folder::new();
    let path = folder.path("client-secret");
    replace(&path, "first-s3cret\n");
    let provider = Provider::open();
    let client = in_memory(&provider)
        .client_secret_source(SecretFile::new(&path))
        .build()
        .unwrap();
    assert!(format!("{client:?}").contains("secret file"), "{client:?}");
    client.acquire_token_for_client(scope(0)).await.unwrap();
    for unusable in [&b""[..], b" \n", b"two\nlines", b"\xff\xfes\0"] {
        replace(&path, unusable);
        let number = provider.requests();
        client
            .acquire_token_for_client(scope(number))
            .await
            .unwrap();
        assert_eq!(
            provider.field(number, "client_secret").unwrap(),
            "first-s3cret"
        );
    }
    replace(&path, "second-s3cret\r\n");
    let number = provider.requests();
    client
        .acquire_token_for_client(scope(number))
        .await
        .unwrap();
    assert_eq!(
        provider.field(number, "client_secret").unwrap(),
        "second-s3cret"
    );
}

#[tokio::test]
async fn a_source_without_any_credential_is_an_error() {
    let folder = Folder::new();
    let path = folder.path("daemon.pem");
    let file = CertificateFile::new(&path);
    let key_alone = &PEM[PEM.find("-----BEGIN PRIVATE").unwrap()..];
    type Write<'a> = Box<dyn Fn(&Path) + 'a>;
    let expired = {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        format!(
            "{}{}",
            params.self_signed(&key).unwrap().pem(),
            key.serialize_pem()
        )
    };
    let rows: [(Write<'_>, &str); 6] = [
        (Box::new(|_| {}), "daemon.pem cannot be read"),
        (
            Box::new(|path| replace(path, "")),
            "cannot be used: the PEM is empty",
        ),
        (
            Box::new(|path| replace(path, key_alone)),
            "cannot be used: the PEM holds no certificate",
        ),
        (
            Box::new(|path| replace(path, vec![b'-'; 1_000_001])),
            "daemon.pem has more than 1000000 bytes",
        ),
        (
            Box::new(|path| replace(path, b"\x30\x82\x01\x01garbage")),
            "cannot be used: this cannot be read as PKCS#12",
        ),
        (
            Box::new(move |path| replace(path, &expired)),
            "expired on 2020-01-01",
        ),
    ];
    for (write, text) in rows {
        write(&path);
        let provider = Provider::open();
        let client = in_memory(&provider)
            .certificate_source(file.clone())
            .build()
            .unwrap();
        for _ in 0..3 {
            let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
        assert_eq!(provider.requests(), 0);
    }

    let provider = Provider::open();
    let sealed = || async { Err::<Secret, _>("the vault is sealed".into()) };
    let client = in_memory(&provider)
        .client_secret_source(sealed)
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("the credential source returned no credential"),
        "{error}"
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the vault is sealed");
    assert!(error.is_transient(), "it may be opened soon");
}

/// What is tried again at the next token request, and until then the last good one is used.
#[tokio::test(start_paused = true)]
async fn a_failing_source_keeps_the_last_credential() {
    let provider = Provider::open();
    let turn = Arc::new(AtomicUsize::new(0));
    let source = {
        let turn = Arc::clone(&turn);
        move || {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            async move {
                match turn {
                    0 => Ok(Secret::from("first-s3cret")),
                    1 => Err("the vault is sealed".into()),
                    2 => std::future::pending().await,
                    3 => Ok(Secret::from(" ")),
                    _ => Ok(Secret::from("second-s3cret")),
                }
            }
        }
    };
    let client = in_memory(&provider)
        .client_secret_source(source)
        .build()
        .unwrap();
    for request in 0..5 {
        client
            .acquire_token_for_client(scope(request))
            .await
            .unwrap();
        let sent = provider.field(request, "client_secret").unwrap();
        let expected = ["first-s3cret", "second-s3cret"][request / 4];
        assert_eq!(sent, expected, "request {request}");
    }
    assert_eq!(turn.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_from_the_start_is_given_ten_seconds() {
    let provider = Provider::open();
    let source = std::future::pending::<Result<Secret, Box<dyn std::error::Error + Send + Sync>>>;
    let client = in_memory(&provider)
        .client_secret_source(source)
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(
        error.to_string().contains("no credential within 10 s"),
        "{error}"
    );
    assert_eq!(provider.requests(), 0);
}

/// When the last good certificate has ended, why there is no newer one says more.
#[tokio::test]
async fn an_expired_certificate_is_not_used_again() {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let turn = AtomicUsize::new(0);
    let client = in_memory(&provider)
        .clock(clock.clone())
        .certificate_source(move || {
            let first = turn.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                match first {
                    true => Ok(Certificate::from_pem(&*PEM)?),
                    false => Err("the vault is sealed".into()),
                }
            }
        })
        .build()
        .unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    clock.advance_wall(Duration::from_secs(400 * 24 * 60 * 60));
    let error = client.acquire_token_for_client(scope(1)).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error.to_string().contains("returned no credential"),
        "{error}"
    );
    assert_eq!(provider.requests(), 1);
}

/// Nobody is asked for a token in memory, and a cool-down is asked before anybody is.
#[tokio::test]
async fn a_source_is_called_only_for_token_requests() {
    let provider = Provider::open();
    provider.fail("connection refused");
    let asked: Arc<Mutex<usize>> = Arc::default();
    let count = Arc::clone(&asked);
    let client = in_memory(&provider)
        .client_secret_source(move || {
            *count.lock().unwrap() += 1;
            async { Ok(Secret::from(SECRET)) }
        })
        .build()
        .unwrap();
    for _ in 0..3 {
        client.acquire_token_for_client(scope(0)).await.unwrap_err();
    }
    assert_eq!(*asked.lock().unwrap(), 1);
    for _ in 0..3 {
        client.acquire_token_for_client(scope(1)).await.unwrap();
    }
    assert_eq!(*asked.lock().unwrap(), 2);
}

#[test]
fn settings_made_after_a_file_was_read_apply() {
    let folder = Folder::new();
    let path = folder.path("daemon.pem");
    replace(&path, &*PEM);
    let file = CertificateFile::new(&path);
    file.read().unwrap();
    let file = file.send_x5c().signing_algorithm(SigningAlgorithm::RS256);
    let certificate = file.read().unwrap();
    assert_eq!(certificate.algorithm(), SigningAlgorithm::RS256);
    assert!(format!("{certificate:?}").contains("x5c: true"));

    let plain = CertificateFile::new(&path);
    plain.read().unwrap();
    let stranger = folder.path("stranger.key");
    replace(&stranger, self_signed_certificate("stranger").unwrap());
    plain.clone().private_key(stranger).read().unwrap_err();
    plain.read().unwrap();
}

#[test]
fn a_key_file_that_is_replaced_alone_is_noticed() {
    let folder = Folder::new();
    let (certificate, key) = PEM.split_at(PEM.find("-----BEGIN PRIVATE").unwrap());
    replace(&folder.path("tls.crt"), certificate);
    replace(&folder.path("tls.key"), format!("\u{feff}{key}"));
    let file = CertificateFile::new(folder.path("tls.crt")).private_key(folder.path("tls.key"));
    file.read().unwrap();
    let other = self_signed_certificate("other").unwrap();
    replace(
        &folder.path("tls.key"),
        &other[other.find("-----BEGIN PRIVATE").unwrap()..],
    );
    let error = file.read().unwrap_err().to_string();
    assert!(error.contains("does not match the certificate"), "{error}");
}

#[test]
fn the_content_of_a_file_determines_the_format() {
    let folder = Folder::new();
    let path = folder.path("daemon.pem");
    // As DER does, this begins with 0x30.
    replace(&path, format!("0 s:CN=daemon\n{}", *PEM));
    CertificateFile::new(&path).read().unwrap();
    let der =
        tokio_rustls::rustls::pki_types::pem::PemObject::from_pem_slice(PEM.as_bytes()).unwrap();
    let der: tokio_rustls::rustls::pki_types::CertificateDer<'_> = der;
    replace(&path, der);
    let error = CertificateFile::new(&path).read().unwrap_err().to_string();
    assert!(
        error.contains("one certificate in DER and no private key"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_no_file() {
    let folder = Folder::new();
    let path = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let error = SecretFile::new(path).read().unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
}

#[tokio::test]
async fn a_rejected_new_credential_keeps_the_accepted_one() {
    let provider = Provider::open();
    let asked = AtomicUsize::new(0);
    let renewed = Certificate::from_pem(self_signed_certificate("renewed").unwrap()).unwrap();
    let client = in_memory(&provider)
        .certificate_source(move || {
            let now = match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Certificate::from_pem(&*PEM).unwrap(),
                _ => renewed.clone(),
            };
            async move { Ok(now) }
        })
        .build()
        .unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    for request in [1, 3] {
        provider.answer(401, r#"{"error":"invalid_client","error_codes":[700027]}"#);
        client
            .acquire_token_for_client(scope(request))
            .await
            .unwrap();
        let sent = |request| signed_with(&provider.field(request, "client_assertion").unwrap());
        assert_ne!(sent(request), sent(0), "first the new one");
        assert_eq!(sent(request + 1), sent(0), "then the one that was accepted");
    }
}

#[tokio::test]
async fn an_outdated_result_of_a_source_is_not_used() {
    let provider = Provider::open();
    let asked = AtomicUsize::new(0);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let client = in_memory(&provider)
        .client_secret_source(move || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let held = Arc::clone(&held);
            async move {
                if number == 0 {
                    let _ = held.acquire().await;
                    return Ok(Secret::from("old-s3cret"));
                }
                Ok(Secret::from("new-s3cret"))
            }
        })
        .build()
        .unwrap();
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.acquire_token_for_client(scope(0)).await }
    });
    let_others_run().await;
    client.acquire_token_for_client(scope(1)).await.unwrap();
    gate.close();
    slow.await.unwrap().unwrap();
    assert_eq!(provider.field(1, "client_secret").unwrap(), "new-s3cret");
}

#[tokio::test]
async fn an_invalid_secret_file_is_a_credential_error_that_names_the_file() {
    let folder = Folder::new();
    let path = folder.path("client-secret");
    replace(&path, "two\nlines");
    let provider = Provider::open();
    let client = in_memory(&provider)
        .client_secret_source(SecretFile::new(&path))
        .build()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
}
