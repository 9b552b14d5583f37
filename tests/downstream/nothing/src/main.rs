#[path = "../../provider.rs"]
mod provider;

use confidential_client::{Certificate, Error};

fn main() {
    let client = provider::builder("client_secret").client_secret("s3cret");
    let client = client.build().expect("a client");
    assert_eq!(provider::acquire(&client).expect("a token").secret(), "abc");

    let error = Certificate::from_pem(provider::pem()).expect_err("no signing");
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("enable the feature 'aws-lc-rs'"));

    for error in [
        Certificate::from_pkcs12([0x30, 0x82], "password").expect_err("no PKCS#12"),
        Certificate::from_encrypted_pem(ENCRYPTED, "password").expect_err("no encrypted PEM"),
    ] {
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("the feature 'pkcs12'"), "{message}");
        assert!(message.contains(r#"features = ["pkcs12"] }"#), "{message}");
    }
    println!("{}: a token with a secret", env!("CARGO_PKG_NAME"));
}

const ENCRYPTED: &str = "\
-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
-----BEGIN ENCRYPTED PRIVATE KEY-----
AAAA
-----END ENCRYPTED PRIVATE KEY-----
";
