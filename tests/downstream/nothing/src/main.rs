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
    println!("{}: a token with a secret", env!("CARGO_PKG_NAME"));
}
