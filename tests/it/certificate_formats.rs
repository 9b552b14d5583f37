//! Every certificate format, created by openssl, and each assertion verified by openssl.
//!
//! `tests/downstream/rust_crypto` runs this file with the other signing backend, so the file
//! uses nothing from `testing`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::credential::{CertificateFile, Signer, SignerFuture, SigningAlgorithm};
use confidential_client::{Authority, Certificate, ConfidentialClient, Error};
use http::{Request, Response};
use serde_json::Value;

/// What `tests/data/credentials.sh` wrote, made once for all tests.
pub struct Folder(PathBuf);

pub static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root
        .ancestors()
        .map(|folder| folder.join("tests/data/credentials.sh"))
        .find(|script| script.exists())
        .unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("credentials");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let made = Command::new("bash").arg(&script).arg(&folder).status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "{script:?} needs bash and OpenSSL 3; what openssl said is in {folder:?}/openssl.log"
    );
    Folder(folder)
});

impl Folder {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name))
            .unwrap()
            .trim()
            .to_owned()
    }
}

/// The keys that the signing backend supports. The backend `rust-crypto` has two curves less.
fn keys() -> &'static [&'static str] {
    match cfg!(any(feature = "aws-lc-rs", feature = "ring")) {
        true => &["rsa2048", "rsa3072", "rsa4096", "p256", "p384", "ed25519"],
        false => &["rsa2048", "rsa3072", "rsa4096", "p256"],
    }
}

const ISSUER: &str = "https://id.example.org";
pub const PASSWORD: &str = "hunter2";

/// How a file of the matrix is read.
type Read = fn(key: &str, format: &str) -> Result<Certificate, Error>;

/// Every format, the way to read it, and whether the certificates above it are in it.
const FORMATS: [(&str, Read, bool); 28] = [
    ("pkcs8.pem", pem, false),
    ("key-first.pem", pem, false),
    ("traditional.pem", pem, false),
    ("crlf.pem", pem, false),
    ("scrambled.pem", pem, true),
    ("bag-attributes.pem", pem, true),
    ("two files", pem_pair, false),
    ("two files, traditional", pem_pair_traditional, false),
    ("encrypted.pem", encrypted_pem, false),
    ("scrypt.pem", encrypted_pem, false),
    ("hmac-sha1.pem", encrypted_pem, false),
    ("3des.pem", encrypted_pem, false),
    ("pbes1.pem", encrypted_pem, false),
    ("bag-encrypted.pem", encrypted_pem, true),
    ("pkcs8.pem", encrypted_pem, false),
    ("pkcs8.der", der, false),
    ("traditional.der", der, false),
    ("modern.p12", pkcs12, true),
    ("windows.p12", pkcs12, true),
    ("sha1-3des.p12", pkcs12, true),
    ("legacy.p12", pkcs12, true),
    ("no-mac.p12", pkcs12, true),
    ("sha512.p12", pkcs12, true),
    ("plain-certificates.p12", pkcs12, true),
    ("no-password.p12", pkcs12_without_password, true),
    ("unicode.p12", pkcs12_unicode, true),
    ("file: modern.p12", file, true),
    ("file: encrypted.pem", file, false),
];

fn pem(key: &str, format: &str) -> Result<Certificate, Error> {
    Certificate::from_pem(FOLDER.read(&format!("{key}.{format}")))
}

fn pem_pair(key: &str, _: &str) -> Result<Certificate, Error> {
    let certificate = FOLDER.read(&format!("{key}.crt"));
    Certificate::from_pem_pair(certificate, FOLDER.read(&format!("{key}.key")))
}

fn pem_pair_traditional(key: &str, _: &str) -> Result<Certificate, Error> {
    let file = CertificateFile::new(FOLDER.path(&format!("{key}.crt")));
    file.private_key(FOLDER.path(&format!("{key}.old"))).read()
}

fn encrypted_pem(key: &str, format: &str) -> Result<Certificate, Error> {
    Certificate::from_encrypted_pem(FOLDER.read(&format!("{key}.{format}")), PASSWORD)
}

fn der(key: &str, format: &str) -> Result<Certificate, Error> {
    let private_key = FOLDER.read(&format!("{key}.{format}"));
    Certificate::from_der([FOLDER.read(&format!("{key}.crt.der"))], private_key)
}

fn pkcs12(key: &str, format: &str) -> Result<Certificate, Error> {
    Certificate::from_pkcs12(FOLDER.read(&format!("{key}.{format}")), PASSWORD)
}

fn pkcs12_without_password(key: &str, format: &str) -> Result<Certificate, Error> {
    Certificate::from_pkcs12(FOLDER.read(&format!("{key}.{format}")), "")
}

fn pkcs12_unicode(key: &str, format: &str) -> Result<Certificate, Error> {
    Certificate::from_pkcs12(FOLDER.read(&format!("{key}.{format}")), "pässwörd✓")
}

fn file(key: &str, format: &str) -> Result<Certificate, Error> {
    let name = format.replace("file: ", &format!("{key}."));
    CertificateFile::new(FOLDER.path(&name))
        .password(PASSWORD)
        .read()
}

/// The assertion that a client with this certificate sends.
pub async fn assertion(certificate: Certificate) -> Result<String, Error> {
    let sent: Arc<Mutex<Option<String>>> = Arc::default();
    let kept = Arc::clone(&sent);
    let client = ConfidentialClient::builder("daemon")
        .authority(Authority::oidc(ISSUER).token_endpoint("https://id.example.org/token"))
        .certificate(certificate)
        .transport(move |request: Request<Bytes>| {
            let form = url::form_urlencoded::parse(request.body());
            let assertion = form
                .into_owned()
                .find(|(name, _)| name == "client_assertion");
            *kept.lock().unwrap() = assertion.map(|(_, assertion)| assertion);
            async {
                let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
                Ok(Response::new(Bytes::from(body)))
            }
        })
        .build()?;
    client.acquire_token_for_client("").await?;
    Ok(sent.lock().unwrap().take().unwrap())
}

/// The header and claims of an assertion whose signature openssl finds to be the key's.
fn judged(assertion: &str, key: &str, algorithm: SigningAlgorithm) -> (Value, Value) {
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    match algorithm {
        SigningAlgorithm::ES256 => signature = ecdsa_der(&signature, 32),
        SigningAlgorithm::ES384 => signature = ecdsa_der(&signature, 48),
        _ => {}
    }
    let path = FOLDER.path(&format!("{}.signature", uuid::Uuid::new_v4()));
    std::fs::write(&path, signature).unwrap();
    let public_key = FOLDER.path(&format!("{key}.pub"));
    if algorithm == SigningAlgorithm::EdDSA {
        return judged_ed25519(message, &path, &public_key);
    }
    let mut openssl = Command::new("openssl");
    openssl.args(match algorithm {
        SigningAlgorithm::ES384 => ["dgst", "-sha384", "-verify"],
        _ => ["dgst", "-sha256", "-verify"],
    });
    openssl.arg(public_key);
    if algorithm == SigningAlgorithm::PS256 {
        // The salt is as long as the digest (RFC 7518 section 3.5).
        openssl.args([
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            "rsa_pss_saltlen:32",
        ]);
    }
    let mut judge = openssl
        .arg("-signature")
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut judge.stdin.take().unwrap(), message.as_bytes()).unwrap();
    assert!(
        judge.wait().unwrap().success(),
        "{key} {algorithm}: {assertion}"
    );
    std::fs::remove_file(path).unwrap();
    decoded(message)
}

fn decoded(message: &str) -> (Value, Value) {
    let (header, claims) = message.split_once('.').unwrap();
    let decode =
        |part: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (decode(header), decode(claims))
}

/// Ed25519 signs the message itself, which openssl reads from a file.
fn judged_ed25519(message: &str, signature: &Path, public_key: &Path) -> (Value, Value) {
    let path = signature.with_extension("message");
    std::fs::write(&path, message).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]);
    openssl.arg(public_key).arg("-sigfile").arg(signature);
    let judged = openssl.arg("-in").arg(&path).stdout(Stdio::null()).status();
    assert!(judged.unwrap().success(), "EdDSA: {message}");
    std::fs::remove_file(path).unwrap();
    std::fs::remove_file(signature).unwrap();
    decoded(message)
}

/// The two numbers of an ECDSA signature, as openssl takes them.
fn ecdsa_der(signature: &[u8], length: usize) -> Vec<u8> {
    assert_eq!(signature.len(), 2 * length);
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        let sign = number.first().is_some_and(|byte| *byte >= 0x80);
        let mut der = vec![2, (number.len() + usize::from(sign)) as u8];
        der.extend(sign.then_some(0));
        der.extend(number);
        der
    };
    let numbers = [integer(&signature[..length]), integer(&signature[length..])].concat();
    [vec![0x30, numbers.len() as u8], numbers].concat()
}

fn base64url_of_hexadecimal(text: &str) -> String {
    let bytes = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    BASE64_URL_SAFE_NO_PAD.encode(bytes.collect::<Result<Vec<u8>, _>>().unwrap())
}

#[tokio::test]
async fn every_format_of_every_key_signs_by_every_algorithm() {
    for key in keys() {
        let (sha1, sha256) = (
            FOLDER.text(&format!("{key}.sha1")),
            FOLDER.text(&format!("{key}.sha256")),
        );
        let x5c: Vec<String> = FOLDER
            .text(&format!("{key}.x5c"))
            .lines()
            .map(str::to_owned)
            .collect();
        let algorithms = match *key {
            "p256" => &[SigningAlgorithm::ES256][..],
            "p384" => &[SigningAlgorithm::ES384],
            "ed25519" => &[SigningAlgorithm::EdDSA],
            _ => &[SigningAlgorithm::PS256, SigningAlgorithm::RS256],
        };
        for (format, read, has_chain) in FORMATS {
            let row = format!("{key}, {format}");
            let certificate = read(key, format).unwrap_or_else(|error| panic!("{row}: {error:?}"));
            assert_eq!(certificate.thumbprint_sha1(), sha1, "{row}");
            assert_eq!(certificate.thumbprint_sha256(), sha256, "{row}");
            assert_eq!(certificate.algorithm(), algorithms[0], "{row}");
            assert_eq!(certificate.days_left(), 29, "{row}");
            assert!(
                certificate.subject().contains(&format!("CN={key}")),
                "{row}"
            );
            for algorithm in algorithms {
                let certificate = certificate.clone().signing_algorithm(*algorithm).send_x5c();
                let assertion = assertion(certificate).await.unwrap();
                let (header, claims) = judged(&assertion, key, *algorithm);
                assert_eq!(header["alg"], algorithm.to_string(), "{row}");
                assert_eq!(header["typ"], "JWT", "{row}");
                assert_eq!(
                    header["x5t#S256"],
                    base64url_of_hexadecimal(&sha256),
                    "{row}"
                );
                let x5t = match algorithm {
                    SigningAlgorithm::RS256 => Value::from(base64url_of_hexadecimal(&sha1)),
                    _ => Value::Null,
                };
                assert_eq!(header["x5t"], x5t, "{row}");
                let expected = if has_chain { &x5c[..] } else { &x5c[..1] };
                assert_eq!(header["x5c"], Value::from(expected), "{row}");
                assert_eq!(claims["aud"], ISSUER, "{row}");
            }
        }
    }
}

#[tokio::test]
async fn the_certificate_chain_is_sent_only_on_request() {
    let assertion = assertion(pem("rsa2048", "scrambled.pem").unwrap())
        .await
        .unwrap();
    let (header, _) = judged(&assertion, "rsa2048", SigningAlgorithm::RS256);
    assert_eq!(header["x5c"], Value::Null);
}

#[test]
fn a_curve_that_the_backend_does_not_have_is_named_with_the_features_that_have_it() {
    let expected = "for P-384 and Ed25519 enable the feature 'aws-lc-rs' or 'ring'";
    for key in ["p384", "ed25519"] {
        match (keys().contains(&key), pem(key, "pkcs8.pem")) {
            (true, Ok(_)) => {}
            (false, Err(error)) => assert!(error.to_string().contains(expected), "{error}"),
            (_, read) => panic!("{key}: {read:?}"),
        }
        let signer = Certificate::from_signer(FOLDER.read(&format!("{key}.crt")), Vault::of(key));
        match (keys().contains(&key), signer) {
            (true, Ok(_)) => {}
            (false, Err(error)) => assert!(error.to_string().contains("'rust-crypto'"), "{error}"),
            (_, read) => panic!("{key}: {read:?}"),
        }
    }
}

#[tokio::test]
async fn an_algorithm_that_does_not_go_with_the_key_is_refused() {
    for (key, algorithm, text) in [
        (
            "rsa2048",
            SigningAlgorithm::ES256,
            "has an RSA key, and ES256 needs a P-256 key",
        ),
        (
            "p256",
            SigningAlgorithm::PS256,
            "has a P-256 key, and PS256 needs an RSA key",
        ),
        (
            "p256",
            SigningAlgorithm::RS256,
            "has a P-256 key, and RS256 needs an RSA key",
        ),
        (
            "p256",
            SigningAlgorithm::ES384,
            "has a P-256 key, and ES384 needs a P-384 key",
        ),
        (
            "p256",
            SigningAlgorithm::EdDSA,
            "has a P-256 key, and EdDSA needs an Ed25519 key",
        ),
        (
            keys().last().unwrap(),
            SigningAlgorithm::PS256,
            "key, and PS256 needs an RSA key",
        ),
    ] {
        let certificate = pem(key, "pkcs8.pem").unwrap().signing_algorithm(algorithm);
        let error = assertion(certificate).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn an_rsa_pss_key_signs_with_ps256_alone() {
    for key in ["pss", "pss-sha256"] {
        let read = || {
            let certificate = FOLDER.read(&format!("{key}.crt"));
            Certificate::from_pem_pair(certificate, FOLDER.read(&format!("{key}.key"))).unwrap()
        };
        let error = assertion(read()).await.unwrap_err().to_string();
        assert!(error.contains("(RS256, ES256, ES384, EdDSA)"), "{error}");
        let certificate = read().signing_algorithm(SigningAlgorithm::PS256);
        let sent = assertion(certificate).await.unwrap();
        let (header, _) = judged(&sent, key, SigningAlgorithm::PS256);
        assert_eq!(header["alg"], "PS256");
        let certificate = read().signing_algorithm(SigningAlgorithm::RS256);
        let error = assertion(certificate).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains("has an RSA-PSS key"), "{error}");
    }
}

#[test]
fn entra_requires_an_rsa_key() {
    let builder = ConfidentialClient::builder("daemon")
        .tenant("contoso.com")
        .certificate(pem("p256", "pkcs8.pem").unwrap())
        .transport(|_: Request<Bytes>| async { Err("nothing is sent".into()) });
    let error = builder.build().unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("Microsoft Entra ID accepts only RSA"),
        "{error}"
    );
}

/// Each with its own message, and before any client is there to make a request.
#[test]
fn a_file_that_cannot_be_used_is_refused() {
    let certificate = || FOLDER.read("rsa2048.crt");
    let key = || FOLDER.read("rsa2048.key");
    let with = |certificate: &str, key: &str| {
        Certificate::from_pem_pair(FOLDER.read(certificate), FOLDER.read(key))
    };
    let from_pem = |text: &[u8]| Certificate::from_pem(text);
    let utf16 = |text: &[u8]| -> Vec<u8> { text.iter().flat_map(|byte| [*byte, 0]).collect() };
    let openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let one_line = String::from_utf8(FOLDER.read("rsa2048.pkcs8.pem")).unwrap();
    for (name, read, text) in [
        ("nothing", from_pem(b" \n"), "the PEM is empty"),
        ("garbage", from_pem(b"secret?"), "this is not PEM"),
        (
            "a path",
            from_pem(b"/etc/daemon.pem"),
            "from_pem takes the content of the file, and CertificateFile its path",
        ),
        ("no key", from_pem(&certificate()), "holds no private key"),
        ("no certificate", from_pem(&key()), "holds no certificate"),
        (
            "a stranger's key",
            with("rsa2048.crt", "rsa3072.key"),
            "does not match the certificate of 'CN=rsa2048",
        ),
        (
            "another kind of key",
            with("rsa2048.crt", "p256.key"),
            "does not match the certificate",
        ),
        (
            "two keys",
            from_pem(&[certificate(), key(), FOLDER.read("rsa3072.key")].concat()),
            "two private keys",
        ),
        (
            "a key plain and encrypted",
            from_pem(&[FOLDER.read("rsa2048.encrypted.pem"), key()].concat()),
            "two private keys",
        ),
        (
            "a public key",
            with("rsa2048.crt", "rsa2048.pub"),
            "holds a public key where the private key is needed",
        ),
        (
            "a request",
            with("rsa2048.csr", "rsa2048.key"),
            "holds a certificate request (CSR)",
        ),
        ("PKCS#7", with("chain.p7b", "rsa2048.key"), "as PKCS#7"),
        (
            "OpenSSH",
            from_pem(&[certificate(), openssh.to_vec()].concat()),
            "ssh-keygen -p -m PKCS8",
        ),
        (
            "no password",
            pem("rsa2048", "encrypted.pem"),
            "is encrypted and no password was given",
        ),
        (
            "empty password",
            Certificate::from_encrypted_pem(FOLDER.read("rsa2048.encrypted.pem"), ""),
            "is encrypted and the password is empty",
        ),
        (
            "wrong password",
            Certificate::from_encrypted_pem(FOLDER.read("rsa2048.encrypted.pem"), "wrong"),
            "the private key cannot be decrypted: the password is wrong",
        ),
        (
            "old encryption",
            with("rsa2048.crt", "old-encrypted.key"),
            "is encrypted and no password was given",
        ),
        (
            "Camellia",
            Certificate::from_encrypted_pem(
                [certificate(), FOLDER.read("camellia.key")].concat(),
                PASSWORD,
            ),
            "encrypted in a way that is not supported",
        ),
        (
            "under 2048 bits",
            with("rsa1024.crt", "rsa1024.key"),
            "under 2048 bits",
        ),
        (
            "Ed448",
            with("ed448.crt", "ed448.key"),
            "neither an RSA key of 2048 bits or more nor a P-256",
        ),
        (
            "P-521",
            with("p521.crt", "p521.key"),
            "neither an RSA key of 2048 bits or more nor a P-256",
        ),
        (
            "RSA-PSS for SHA-512",
            with("pss-sha512.crt", "pss-sha512.key"),
            "which PS256 needs",
        ),
        (
            "PKCS#12 as PEM",
            from_pem(&FOLDER.read("rsa2048.modern.p12")),
            "use from_pkcs12",
        ),
        (
            "base64 of PKCS#12",
            from_pem(
                base64::prelude::BASE64_STANDARD
                    .encode(FOLDER.read("rsa2048.modern.p12"))
                    .as_bytes(),
            ),
            "PKCS#12 from a key vault",
        ),
        (
            "UTF-16",
            from_pem(&utf16(&FOLDER.read("rsa2048.pkcs8.pem"))),
            "UTF-16",
        ),
        (
            "cut off",
            from_pem(&one_line.as_bytes()[..one_line.len() - 40]),
            "was the file cut off",
        ),
        (
            "not base64",
            from_pem(one_line.replacen("MII", "M!I", 1).as_bytes()),
            "is not base64",
        ),
        (
            "no certificate in its block",
            from_pem(
                &[
                    &b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"[..],
                    &key(),
                ]
                .concat(),
            ),
            "a certificate cannot be read",
        ),
        (
            "no key in its block",
            from_pem(
                &[
                    &certificate(),
                    &b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"[..],
                ]
                .concat(),
            ),
            "the private key cannot be read",
        ),
        (
            "PKCS#12, wrong password",
            Certificate::from_pkcs12(FOLDER.read("rsa2048.modern.p12"), "wrong"),
            "the PKCS#12 file cannot be decrypted: the password is wrong",
        ),
        (
            "PKCS#12, no password",
            Certificate::from_pkcs12(FOLDER.read("rsa2048.modern.p12"), ""),
            "the PKCS#12 file has a password and no password was given",
        ),
        (
            "legacy PKCS#12, wrong password",
            Certificate::from_pkcs12(FOLDER.read("rsa2048.legacy.p12"), "wrong"),
            "the password is wrong",
        ),
        (
            "PKCS#12 without MAC, wrong password",
            Certificate::from_pkcs12(FOLDER.read("rsa2048.no-mac.p12"), "wrong"),
            "the password is wrong",
        ),
        (
            "PKCS#12 without key",
            Certificate::from_pkcs12(FOLDER.read("no-key.p12"), PASSWORD),
            "holds no private key",
        ),
        (
            "PKCS#12 without certificate",
            Certificate::from_pkcs12(FOLDER.read("no-certificate.p12"), PASSWORD),
            "holds no certificate",
        ),
        (
            "PEM as PKCS#12",
            Certificate::from_pkcs12(FOLDER.read("rsa2048.pkcs8.pem"), PASSWORD),
            "this is PEM and not PKCS#12",
        ),
        (
            "garbage as PKCS#12",
            Certificate::from_pkcs12("secret?", PASSWORD),
            "cannot be read as PKCS#12",
        ),
        (
            "a path as PKCS#12",
            Certificate::from_pkcs12("/etc/daemon.pfx", PASSWORD),
            "from_pkcs12 takes the content of the file, and CertificateFile its path",
        ),
        (
            "DER, no certificate",
            Certificate::from_der(Vec::<Vec<u8>>::new(), FOLDER.read("rsa2048.pkcs8.der")),
            "no certificate was given",
        ),
        (
            "DER, PEM in its place",
            Certificate::from_der([certificate()], key()),
            "use from_pem for PEM",
        ),
        (
            "DER, the certificate is not",
            Certificate::from_der([certificate()], FOLDER.read("rsa2048.pkcs8.der")),
            "a certificate cannot be read",
        ),
        (
            "DER, a stranger's key",
            Certificate::from_der(
                [FOLDER.read("rsa2048.crt.der")],
                FOLDER.read("rsa3072.pkcs8.der"),
            ),
            "does not match",
        ),
        (
            "signer, no certificate",
            Certificate::from_signer(key(), Vault::of("rsa2048")),
            "there is no certificate",
        ),
        (
            "signer, two certificates",
            Certificate::from_signer(
                [certificate(), FOLDER.read("rsa3072.crt")].concat(),
                Vault::of("rsa2048"),
            ),
            "that issued none of the others",
        ),
        (
            "signer, under 2048 bits",
            Certificate::from_signer(FOLDER.read("rsa1024.crt"), Vault::of("rsa2048")),
            "has 1024 bits",
        ),
        (
            "signer, Ed448",
            Certificate::from_signer(FOLDER.read("ed448.crt"), Vault::of("rsa2048")),
            "for a key that is neither RSA nor P-256",
        ),
        (
            "signer, P-521",
            Certificate::from_signer(FOLDER.read("p521.crt"), Vault::of("rsa2048")),
            "for a key that is neither RSA nor P-256",
        ),
    ] {
        let error = read.expect_err(name);
        assert!(matches!(error, Error::Credential(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(text), "{name}: {error}");
        let shown = format!("{error}{error:?}");
        let line = one_line.lines().rev().nth(5).unwrap();
        assert!(
            !shown.contains(line) && !shown.contains(PASSWORD),
            "{name}: {error:?}"
        );
    }
}

/// A key that is nowhere near the client: openssl holds it, in a process of its own.
struct Vault {
    key: String,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// As RFC 7518 writes it.
    Right,
    /// What openssl and some vaults give for ES256.
    Der,
    Base64,
}

impl Vault {
    fn of(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            form: Form::Right,
        }
    }
}

impl Signer for Vault {
    fn sign(&self, algorithm: SigningAlgorithm, message: Vec<u8>) -> SignerFuture<'_> {
        let path = FOLDER.path(&format!("{}.message", uuid::Uuid::new_v4()));
        std::fs::write(&path, message).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(match algorithm {
            SigningAlgorithm::EdDSA => &["pkeyutl", "-sign", "-rawin", "-inkey"][..],
            SigningAlgorithm::ES384 => &["dgst", "-sha384", "-sign"],
            _ => &["dgst", "-sha256", "-sign"],
        });
        openssl.arg(FOLDER.path(&format!("{}.key", self.key)));
        if algorithm == SigningAlgorithm::EdDSA {
            openssl.arg("-in");
        }
        if algorithm == SigningAlgorithm::PS256 {
            openssl.args([
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ]);
        }
        let signed = openssl.arg(&path).output().unwrap();
        std::fs::remove_file(path).unwrap();
        let form = self.form;
        Box::pin(async move {
            if !signed.status.success() {
                return Err("the vault is sealed".into());
            }
            Ok(match (form, algorithm) {
                (Form::Base64, _) => BASE64_URL_SAFE_NO_PAD.encode(signed.stdout).into_bytes(),
                (Form::Right, SigningAlgorithm::ES256) => ecdsa_numbers(&signed.stdout, 32),
                (Form::Right, SigningAlgorithm::ES384) => ecdsa_numbers(&signed.stdout, 48),
                _ => signed.stdout,
            })
        })
    }
}

fn ecdsa_numbers(der: &[u8], size: usize) -> Vec<u8> {
    let number = |at: usize| {
        let length = usize::from(der[at + 1]);
        let number = &der[at + 2..at + 2 + length];
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        (
            [vec![0; size - number.len()], number.to_vec()].concat(),
            at + 2 + length,
        )
    };
    let (first, end) = number(2);
    [first, number(end).0].concat()
}

#[tokio::test]
async fn a_signer_signs_and_the_key_stays_where_it_is() {
    for (key, algorithm) in [
        ("rsa2048", SigningAlgorithm::PS256),
        ("rsa2048", SigningAlgorithm::RS256),
        ("p256", SigningAlgorithm::ES256),
        ("p384", SigningAlgorithm::ES384),
        ("ed25519", SigningAlgorithm::EdDSA),
    ] {
        if !keys().contains(&key) {
            continue;
        }
        for chain in [
            FOLDER.read(&format!("{key}.crt")),
            FOLDER.read(&format!("{key}.crt.der")),
            [FOLDER.read("cas.pem"), FOLDER.read(&format!("{key}.crt"))].concat(),
            [
                FOLDER.read(&format!("{key}.crt")),
                FOLDER.read(&format!("{key}.pub")),
            ]
            .concat(),
        ] {
            let certificate = Certificate::from_signer(chain, Vault::of(key)).unwrap();
            assert_eq!(
                certificate.thumbprint_sha1(),
                FOLDER.text(&format!("{key}.sha1"))
            );
            let assertion = assertion(certificate.signing_algorithm(algorithm))
                .await
                .unwrap();
            judged(&assertion, key, algorithm);
        }
    }
}

#[tokio::test]
async fn a_signature_that_does_not_fit_is_not_sent() {
    let vault = |key: &str, form| Vault {
        key: key.to_owned(),
        form,
    };
    for (key, vault, text) in [
        (
            "rsa2048",
            vault("rsa3072", Form::Right),
            "signature of 384 bytes does not match the certificate",
        ),
        (
            "rsa2048",
            vault("rsa2048", Form::Base64),
            "neither base64 nor DER",
        ),
        ("p256", vault("p256", Form::Der), "neither base64 nor DER"),
    ] {
        let certificate = FOLDER.read(&format!("{key}.crt"));
        let certificate = Certificate::from_signer(certificate, vault).unwrap();
        let error = assertion(certificate).await.unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_failing_signer_is_a_credential_error() {
    let certificate = FOLDER.read("rsa2048.crt");
    let certificate = Certificate::from_signer(certificate, Vault::of("nowhere")).unwrap();
    let error = assertion(certificate).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert_eq!(
        error.to_string().split(" (").next(),
        Some("the assertion could not be signed")
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the vault is sealed");
    assert!(error.is_transient(), "it may be opened soon");
}
