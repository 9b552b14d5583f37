//! Keys and certificates on a real token of SoftHSM, judged by openssl and by `LocalAuthority`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use confidential_client::adapter::{Pkcs11Key, Pkcs11Token};
use confidential_client::credential::{SecretFile, Signer, SigningAlgorithm};
use confidential_client::testing::{Application, LocalAuthority, ProviderRules};
use confidential_client::{Authority, Certificate, ConfidentialClient, Error};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::softhsm::{MODULE, OpensslKey, OtherUser, PIN, in_the_child, path, token};
use crate::support::{CLIENT_ID, TENANT, claims_of, header_of};

const RSA_2048: &[&str] = &["rsa:2048"];
const RSA_3072: &[&str] = &["rsa:3072"];
const RSA_4096: &[&str] = &["rsa:4096"];
const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];

async fn sign(key: &Pkcs11Key, algorithm: SigningAlgorithm) -> Result<Vec<u8>, Error> {
    let signature = Signer::sign(key, algorithm, b"message".to_vec()).await;
    signature.map_err(|error| *error.downcast().unwrap())
}

fn application(certificates: &[&Certificate]) -> Application {
    let application = Application::new(CLIENT_ID);
    certificates
        .iter()
        .fold(application, |application, certificate| {
            application.certificate(*certificate)
        })
}

fn scope(number: usize) -> String {
    format!("https://api-{number}.example/.default")
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_openssl_and_local_authority_accept_every_kind_of_key() {
    in_the_child("pkcs11::kinds");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn kinds() {
    use SigningAlgorithm::{ES256, ES384, PS256, RS256};
    let entra = LocalAuthority::start().await.unwrap();
    let openid = LocalAuthority::builder().rules(ProviderRules::openid());
    let openid = openid.start().await.unwrap();
    openid.register(TENANT, Application::new("other"));
    let other = OtherUser::log_in();
    for (id, (kind, new_key, algorithms)) in [
        ("rsa2048", RSA_2048, &[PS256, RS256][..]),
        ("rsa3072", RSA_3072, &[PS256, RS256]),
        ("rsa4096", RSA_4096, &[PS256, RS256]),
        ("p256", P256, &[ES256]),
        ("p384", P384, &[ES384]),
    ]
    .into_iter()
    .enumerate()
    {
        let id = id as u8 + 1;
        let pair = OpensslKey::create(kind, new_key, 30);
        pair.import_key(kind, &format!("{id:02x}"));
        pair.import_certificate(&other, "a label of its own", id);
        for algorithm in algorithms {
            let name = algorithm.to_string();
            for key in [token().key(kind), token().key_by_id([id])] {
                let signature = sign(&key, *algorithm).await.unwrap();
                assert!(pair.verify(&name, b"message", &signature), "{kind} {name}");
                assert!(!pair.verify(&name, b"messagf", &signature), "{kind} {name}");
            }
            // The certificate is read from the token, and signs the assertion of a token request.
            let key = token().key(kind).signing_algorithm(*algorithm);
            let certificate = key.certificate().await.unwrap();
            assert_eq!(certificate.subject(), format!("CN={kind}"));
            assert_eq!(certificate.algorithm(), *algorithm);
            // Entra accepts RSA alone, and an OpenID provider each algorithm.
            let (local, authority) = match name.starts_with("ES") {
                false => (&entra, entra.authority(TENANT)),
                true => (&openid, Authority::oidc(openid.issuer(TENANT).unwrap())),
            };
            local.register(TENANT, application(&[&certificate]));
            let builder = ConfidentialClient::builder(CLIENT_ID).authority(authority);
            let client = builder.certificate_source(key).build().unwrap();
            client.acquire_token_for_client(scope(1)).await.unwrap();
            let request = local.token_requests().pop().unwrap();
            let assertion = request.field("client_assertion").unwrap().to_owned();
            let (message, signature) = assertion.rsplit_once('.').unwrap();
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(
                pair.verify(&name, message.as_bytes(), &signature),
                "{kind} {name}"
            );
            assert_eq!(header_of(&assertion)["alg"], name);
            assert_eq!(claims_of(&assertion)["iss"], CLIENT_ID);
        }
        // The key of a certificate in a file.
        let from_file = Certificate::from_signer(pair.pem(), token().key(kind)).unwrap();
        assert_eq!(from_file.subject(), format!("CN={kind}"));
        // Another algorithm is an error that names the key.
        let wrong = match kind.starts_with('p') {
            true => PS256,
            false => ES256,
        };
        let error = sign(&token().key(kind), wrong)
            .await
            .unwrap_err()
            .to_string();
        let start = format!("the private key '{kind}' on the token 'daemon' is a");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_64_callers_share_the_sessions() {
    in_the_child("pkcs11::callers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run by the others, with an environment"]
async fn callers() {
    let local = LocalAuthority::start().await.unwrap();
    let pair = OpensslKey::create("daemon", RSA_2048, 30);
    pair.import_key("signing", "01");
    let key = token().max_sessions(4).key("signing");
    let certificate = Certificate::from_signer(pair.pem(), key.clone()).unwrap();
    local.register(TENANT, application(&[&certificate]));
    let builder = ConfidentialClient::builder(CLIENT_ID).authority(local.authority(TENANT));
    let client = builder.certificate(certificate).build().unwrap();
    let start = Arc::new(Barrier::new(64));
    let mut callers = JoinSet::new();
    for number in 0..64 {
        let (client, start) = (client.clone(), Arc::clone(&start));
        callers.spawn(async move {
            start.wait().await;
            client
                .acquire_token_for_client(scope(number))
                .await
                .unwrap();
        });
    }
    assert_eq!(callers.join_all().await.len(), 64);
    assert_eq!(local.token_requests().len(), 64);
    let mut assertions = local.token_requests();
    for request in assertions.drain(..).step_by(8) {
        let assertion = request.field("client_assertion").unwrap().to_owned();
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(pair.verify("PS256", message.as_bytes(), &signature));
    }
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_another_part_of_the_program_logs_out() {
    in_the_child("pkcs11::logouts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run by the others, with an environment"]
async fn logouts() {
    let pair = OpensslKey::create("daemon", RSA_2048, 30);
    pair.import_key("signing", "01");
    let key = token().key("signing");
    let other = OtherUser::log_in();
    for round in 0..20 {
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let key = key.clone();
            callers.spawn(async move { sign(&key, SigningAlgorithm::PS256).await.unwrap() });
        }
        for signature in callers.join_all().await.into_iter().step_by(16) {
            assert!(pair.verify("PS256", b"message", &signature));
        }
        other.log_out();
        if round % 2 == 0 {
            // Handles from before the logout stay invalid.
            other.log_in_again();
        }
    }
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_a_corrected_pin_works_without_a_restart() {
    in_the_child("pkcs11::pins");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn pins() {
    let pair = OpensslKey::create("daemon", RSA_2048, 30);
    pair.import_key("signing", "01");
    let file = path("pin");
    fs::write(&file, "9999\n").unwrap();
    let token = Pkcs11Token::new(MODULE)
        .label("daemon")
        .pin_source(SecretFile::new(&file));
    let key = token.key("signing");
    for _ in 0..3 {
        let error = sign(&key, SigningAlgorithm::PS256).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the token 'daemon' rejected the PIN; wrong PINs lock a token, so the program does not try this PIN again; give another PIN, or restart the program if the token has this PIN by now"
        );
        assert!(!error.is_transient());
        // Another object for the same token does not try the PIN, either.
        assert!(
            sign(
                &Pkcs11Token::new(MODULE).pin("9999").key("signing"),
                SigningAlgorithm::PS256
            )
            .await
            .is_err()
        );
    }
    fs::remove_file(&file).unwrap();
    let error = sign(&key, SigningAlgorithm::PS256).await.unwrap_err();
    let message = error.chain().to_string();
    assert!(
        message.contains("the PIN of the token 'daemon' cannot be read from the secret file"),
        "{message}"
    );
    fs::write(&file, format!("{PIN}\n")).unwrap();
    let signature = sign(&key, SigningAlgorithm::PS256).await.unwrap();
    assert!(pair.verify("PS256", b"message", &signature));
    for text in [
        format!("{token:?}"),
        format!("{key:?}"),
        error.chain().to_string(),
    ] {
        assert!(!text.contains("9999") && !text.contains(PIN), "{text}");
    }
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_a_new_key_and_certificate_are_followed_while_callers_run() {
    in_the_child("pkcs11::rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run by the others, with an environment"]
async fn rotation() {
    let local = LocalAuthority::start().await.unwrap();
    let other = OtherUser::log_in();
    let (old, new) = (
        OpensslKey::create("old", RSA_2048, 30),
        OpensslKey::create("new", RSA_2048, 60),
    );
    let thumbprint = |pair: &OpensslKey| {
        let signer = |_: SigningAlgorithm, _: Vec<u8>| async { Err("not called".into()) };
        Certificate::from_signer(pair.pem(), signer).unwrap()
    };
    let certificates = [thumbprint(&old), thumbprint(&new)];
    local.register(TENANT, application(&[&certificates[0], &certificates[1]]));
    old.import_key("signing", "01");
    old.import_certificate(&other, "signing", 1);
    let before = token().key("signing").certificate().await.unwrap();
    let builder = ConfidentialClient::builder(CLIENT_ID).authority(local.authority(TENANT));
    let client = builder
        .certificate_source(token().key("signing"))
        .build()
        .unwrap();
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (client, stop, count) = (client.clone(), Arc::clone(&stop), Arc::clone(&count));
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let number = count.fetch_add(1, Ordering::SeqCst);
                client
                    .acquire_token_for_client(scope(number))
                    .await
                    .unwrap();
            }
        });
    }
    let used = |subject: &str| {
        client
            .certificate()
            .is_some_and(|used| used.subject() == subject)
    };
    let until = async |condition: &(dyn Fn() -> bool + Sync)| {
        let waiting = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.unwrap();
    };
    until(&|| used("CN=old") && count.load(Ordering::SeqCst) > 20).await;
    // The certificate first: without its key it is passed over.
    new.import_certificate(&other, "signing", 2);
    let certificate = token().key("signing").certificate().await.unwrap();
    assert_eq!(certificate.subject(), "CN=old");
    new.import_key("signing", "02");
    until(&|| used("CN=new")).await;
    other.delete(1);
    let after = count.load(Ordering::SeqCst);
    until(&|| count.load(Ordering::SeqCst) > after + 40).await;
    stop.store(true, Ordering::SeqCst);
    // Each caller has unwrapped every token.
    assert_eq!(callers.join_all().await.len(), 8);
    // The source may have returned the old certificate before the old key was deleted.
    let calls = AtomicUsize::new(0);
    let source = move || {
        let first = (calls.fetch_add(1, Ordering::SeqCst) == 0).then(|| before.clone());
        async move {
            match first {
                Some(old) => Ok(old),
                None => Ok(token().key("signing").certificate().await?),
            }
        }
    };
    let builder = ConfidentialClient::builder(CLIENT_ID).authority(local.authority(TENANT));
    let client = builder.certificate_source(source).build().unwrap();
    client.acquire_token_for_client(scope(0)).await.unwrap();
    let last = token().key("signing").certificate().await.unwrap();
    assert_eq!(
        last.thumbprint_sha256(),
        certificates[1].thumbprint_sha256()
    );
}

#[test]
#[ignore = "needs SoftHSM; .ci/run installs it and runs the test"]
fn softhsm_a_certificate_that_cannot_be_used_has_its_own_message() {
    in_the_child("pkcs11::certificates");
}

#[tokio::test]
#[ignore = "run by the others, with an environment"]
async fn certificates() {
    let other = OtherUser::log_in();
    let (one, two) = (
        OpensslKey::create("one", RSA_2048, 30),
        OpensslKey::create("two", RSA_2048, 60),
    );
    let curve = OpensslKey::create("curve", P256, 30);
    let error = async |name: &str| {
        token()
            .key(name)
            .certificate()
            .await
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("signing").await,
        "the token 'daemon' has no private key 'signing', and no other private key"
    );
    one.import_key("signing", "01");
    let message = error("signing").await;
    assert!(message.contains("has the private key 'signing' and no certificate with the same id or label, but no certificate at all"), "{message}");
    two.import_certificate(&other, "two", 1);
    let message = error("signing").await;
    assert!(message.contains("the private key 'signing' (id 01) on the token 'daemon' is not the key of the certificate of 'CN=two'"), "{message}");
    // The right certificate beside the wrong one.
    one.import_certificate(&other, "one", 1);
    let certificate = token().key("signing").certificate().await.unwrap();
    assert_eq!(certificate.subject(), "CN=one");
    // A certificate without its key.
    two.import_certificate(&other, "lonely", 7);
    let message = error("lonely").await;
    assert!(message.contains("has the certificate 'lonely' and no private key with the same id; its private keys are 'signing' (id 01)"), "{message}");
    // A certificate for a key of another type.
    curve.import_key("curve", "03");
    one.import_certificate(&other, "curve", 3);
    let message = error("curve").await;
    assert!(
        message.contains("is a P-256 key, and PS256 needs an RSA key"),
        "{message}"
    );
    let key = token()
        .key("signing")
        .signing_algorithm(SigningAlgorithm::ES256);
    let message = key.certificate().await.unwrap_err().to_string();
    assert!(message.contains("ES256 needs a P-256 key"), "{message}");
    // A key that requests the PIN for every signature.
    let name = [
        Attribute::Token(true),
        Attribute::Label(b"careful".to_vec()),
        Attribute::Id(vec![8]),
    ];
    let private = [
        Attribute::Sign(true),
        Attribute::Private(true),
        Attribute::AlwaysAuthenticate(true),
    ];
    let size = Attribute::ModulusBits(2048.into());
    let pair = other.session.generate_key_pair(
        &Mechanism::RsaPkcsKeyPairGen,
        &[&name[..], &[size]].concat(),
        &[&name[..], &private].concat(),
    );
    pair.unwrap();
    let error = sign(&token().key("careful"), SigningAlgorithm::PS256).await;
    let message = error.unwrap_err().to_string();
    let start = "the private key 'careful' on the token 'daemon' requests the PIN for every signature (CKA_ALWAYS_AUTHENTICATE)";
    assert!(message.starts_with(start), "{message}");
    // A module that is not there.
    let missing = Pkcs11Token::new("/nonexistent/module.so").key("signing");
    let error = missing.certificate().await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("the PKCS#11 module /nonexistent/module.so cannot be loaded"),
        "{error}"
    );
    // A certificate with its settings.
    let key = token().key("signing").send_x5c().key_id("abc");
    let text = format!("{:?}", key.certificate().await.unwrap());
    assert!(text.contains("x5c: true") && text.contains("abc"), "{text}");
}
