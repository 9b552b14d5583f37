//! The keys that ring does not sign with, and the signatures that it verifies.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::credential::SigningAlgorithm;
use confidential_client::resource::{Holder, RejectionReason, TokenValidator};
use confidential_client::{Authority, Certificate, ConfidentialClient, Error};
use http::{Request, Response};
use serde_json::{Value, json};

const ISSUER: &str = "https://id.example.org";
const RSA: &str = "genpkey -algorithm RSA -out key.pem -pkeyopt rsa_keygen_bits:";
const P256: &str = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem";
/// Self-signed, by the key.
const CERTIFICATE: &str = "req -x509 -key key.pem -days 30 -subj /CN=daemon -out certificate.pem";

/// A folder with a key, its certificate and its public key.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, commands: &[&str]) -> Self {
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let _ = std::fs::remove_dir_all(&folder.0);
        std::fs::create_dir_all(&folder.0).unwrap();
        for command in commands {
            folder.openssl(command);
        }
        folder
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split(' ')).current_dir(&self.0);
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    fn certificate(&self, key: &str) -> Result<Certificate, Error> {
        Certificate::from_pem_pair(self.read("certificate.pem"), self.read(key))
    }

    /// Runs the command of openssl that a message has in quotes.
    fn run_command_of(&self, message: &str) {
        let command = message
            .split('\'')
            .find_map(|text| text.strip_prefix("openssl "));
        self.openssl(command.unwrap_or_else(|| panic!("no command: {message}")));
    }

    /// Returns the public key as a JSON Web Key.
    fn jwk(&self) -> Value {
        self.openssl("pkey -in key.pem -pubout -outform DER -out public.der");
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let public = self.read("public.der");
        // The point of a P-256 key is at the end.
        if public.len() == 91 {
            let (x, y) = public[27..].split_at(32);
            return json!({"kty": "EC", "kid": "1", "crv": "P-256", "x": encode(x), "y": encode(y)});
        }
        let text = Command::new("openssl")
            .args(["rsa", "-in", "key.pem", "-noout", "-text"])
            .current_dir(&self.0)
            .output()
            .unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        let (_, modulus) = text.split_once("modulus:").unwrap();
        let (modulus, rest) = modulus.split_once("publicExponent: ").unwrap();
        let modulus: Vec<u8> = modulus
            .split([':', ' ', '\n'])
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        let exponent: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        let trimmed = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            encode(&bytes[zeros..])
        };
        json!({"kty": "RSA", "kid": "1", "n": trimmed(&modulus), "e": trimmed(&exponent.to_be_bytes())})
    }

    /// Signs with openssl, which reads every key.
    fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["dgst", "-sha256", "-sign", "key.pem"])
            .current_dir(&self.0);
        if algorithm == SigningAlgorithm::PS256 {
            openssl.args([
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ]);
        }
        let mut signing = openssl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut signing.stdin.take().unwrap(), message).unwrap();
        let signature = signing.wait_with_output().unwrap().stdout;
        match algorithm {
            SigningAlgorithm::ES256 => numbers(&signature),
            _ => signature,
        }
    }

    /// Returns a token that openssl signed.
    fn token(&self, algorithm: SigningAlgorithm) -> String {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let header = json!({"alg": algorithm.to_string(), "typ": "JWT", "kid": "1"});
        let claims = json!({
            "iss": ISSUER,
            "aud": "api://drive",
            "sub": "adele",
            "scp": "Files.Read",
            "exp": (since_1970 + Duration::from_secs(600)).as_secs(),
        });
        let encode = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns a validator of tokens that this key signed.
    fn validator(&self, audience: &str) -> TokenValidator {
        let keys = json!({"keys": [self.jwk()]});
        TokenValidator::builder(Authority::oidc(ISSUER))
            .audience(audience)
            .single_tenant()
            .holder(|_| Holder::User)
            .transport(move |request: Request<Bytes>| {
                let body = match request.uri().path() {
                    "/keys" => keys.to_string(),
                    _ => {
                        json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")}).to_string()
                    }
                };
                async { Ok(Response::new(Bytes::from(body))) }
            })
            .build()
            .unwrap()
    }
}

fn algorithms(command: &str) -> &'static [SigningAlgorithm] {
    match command == P256 {
        true => &[SigningAlgorithm::ES256],
        false => &[SigningAlgorithm::PS256, SigningAlgorithm::RS256],
    }
}

/// Returns the token with another signature.
fn changed(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[7] ^= 1;
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Returns the two numbers of an ECDSA signature in DER, each of 32 octets.
fn numbers(der: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let end = at + 2 + usize::from(der[at + 1]);
        let number = &der[at + 2..end];
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        ([vec![0; 32 - number.len()], number.to_vec()].concat(), end)
    };
    let (first, end) = number(2);
    [first, number(end).0].concat()
}

/// Returns the assertion that a client with this certificate sends.
async fn assertion(certificate: Certificate) -> String {
    let sent: Arc<Mutex<Option<String>>> = Arc::default();
    let kept = Arc::clone(&sent);
    // A client with the name of an issuer, so that a validator accepts the assertion.
    let client = ConfidentialClient::builder(ISSUER)
        .authority(Authority::oidc(ISSUER).token_endpoint("https://id.example.org/token"))
        .certificate(certificate.key_id("1"))
        .transport(move |request: Request<Bytes>| {
            let mut form = url::form_urlencoded::parse(request.body()).into_owned();
            let assertion = form.find(|(name, _)| name == "client_assertion");
            *kept.lock().unwrap() = assertion.map(|(_, assertion)| assertion);
            async {
                let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
                Ok(Response::new(Bytes::from(body)))
            }
        })
        .build()
        .unwrap();
    client.acquire_token_for_client("").await.unwrap();
    sent.lock().unwrap().take().unwrap()
}

#[test]
fn each_limit_of_a_key_has_its_message_and_the_command_that_mends_it() {
    let rsa = |rest: &str| format!("{RSA}{rest}");
    let (odd, uneven, halves) = (rsa("2050"), rsa("2056"), rsa("2560"));
    let large = rsa("5120");
    let (small_exponent, large_exponent) = (
        rsa("2048 -pkeyopt rsa_keygen_pubexp:3"),
        rsa("2048 -pkeyopt rsa_keygen_pubexp:17179869185"),
    );
    let without_public_key = "ec -in key.pem -no_public -out sec1.pem";
    let compressed = "ec -in key.pem -conv_form compressed -out rejected.pem";
    for (name, commands, text) in [
        ("2050", &[&*odd][..], "the RSA key has 2050 bits"),
        ("2056", &[&uneven], "the RSA key has 2056 bits"),
        ("2560", &[&halves], "the RSA key has 2560 bits"),
        ("5120", &[&large], "the RSA key has 5120 bits"),
        (
            "exponent-3",
            &[&small_exponent],
            "has a public exponent under 65537",
        ),
        (
            "exponent-2-34",
            &[&large_exponent],
            "has a public exponent of more than 33 bits",
        ),
        (
            "pkcs8-without-public-key",
            &[
                P256,
                without_public_key,
                "pkcs8 -topk8 -nocrypt -in sec1.pem -out rejected.pem",
            ],
            "holds no public key",
        ),
        (
            "sec1-without-public-key",
            &[P256, "ec -in key.pem -no_public -out rejected.pem"],
            "holds no public key",
        ),
        (
            "sec1-compressed",
            &[P256, compressed],
            "or a compressed one",
        ),
    ] {
        let folder = Folder::new(name, commands);
        folder.openssl(CERTIFICATE);
        let is_p256 = commands[0] == P256;
        if is_p256 {
            std::fs::rename(folder.0.join("rejected.pem"), folder.0.join("key.pem")).unwrap();
        }
        let error = folder.certificate("key.pem").expect_err(name);
        assert!(matches!(error, Error::Credential(_)), "{name}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(text), "{name}: {message}");
        assert!(message.contains("feature 'aws-lc-rs'"), "{name}: {message}");
        folder.run_command_of(&message);
        let mended = if is_p256 { "new-key.pem" } else { "key.pem" };
        folder
            .certificate(mended)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_broken_key_is_not_called_a_key_for_another_library() {
    let folder = Folder::new("broken", &[&format!("{RSA}2048"), CERTIFICATE]);
    folder.openssl("pkey -in key.pem -traditional -outform DER -out key.der");
    folder.openssl("x509 -in certificate.pem -outform DER -out certificate.der");
    let mut key = folder.read("key.der");
    let last = key.len() - 1;
    key[last] ^= 1;
    let error = Certificate::from_der([folder.read("certificate.der")], key).unwrap_err();
    assert!(
        error.to_string().contains("its numbers are inconsistent"),
        "{error}"
    );
}

/// The keys that ring does not sign with are among the keys that ring verifies with.
#[tokio::test]
async fn the_validator_accepts_what_openssl_signed_and_nothing_else() {
    for (name, command) in [
        ("verify-2048", format!("{RSA}2048")),
        ("verify-2050", format!("{RSA}2050")),
        ("verify-3072", format!("{RSA}3072")),
        ("verify-5120", format!("{RSA}5120")),
        (
            "verify-exponent-3",
            format!("{RSA}2048 -pkeyopt rsa_keygen_pubexp:3"),
        ),
        ("verify-p256", P256.to_owned()),
    ] {
        let folder = Folder::new(name, &[&command]);
        let validator = folder.validator("api://drive");
        for algorithm in algorithms(&command) {
            let token = folder.token(*algorithm);
            let claims = validator.validate(&token).await;
            let claims = claims.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(claims.subject(), Some("adele"), "{name} {algorithm}");
            let rejection = validator.validate(&changed(&token)).await.unwrap_err();
            assert_eq!(
                rejection.to_string(),
                "the token's signature is wrong",
                "{name}"
            );
        }
    }
}

/// The validator checks the signature first, and then finds that an assertion is no access token.
#[tokio::test]
async fn the_validator_finds_the_signature_of_an_assertion_right() {
    for (name, command) in [
        ("sign-2048", format!("{RSA}2048")),
        ("sign-4096", format!("{RSA}4096")),
        ("sign-p256", P256.to_owned()),
    ] {
        let folder = Folder::new(name, &[&command, CERTIFICATE]);
        let validator = folder.validator(ISSUER);
        for algorithm in algorithms(&command) {
            let certificate = folder.certificate("key.pem").unwrap();
            let assertion = assertion(certificate.signing_algorithm(*algorithm)).await;
            for (assertion, reason) in [
                (changed(&assertion), RejectionReason::InvalidSignature),
                (assertion, RejectionReason::NotAnAccessToken),
            ] {
                let rejection = validator.validate(&assertion).await.unwrap_err();
                assert_eq!(rejection.reason(), reason, "{name} {algorithm}");
            }
        }
    }
}
