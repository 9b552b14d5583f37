#[path = "../../provider.rs"]
mod provider;

use confidential_client::Certificate;
use jsonwebtoken::{EncodingKey, Header, encode};

fn main() {
    let certificate = Certificate::from_pem(provider::pem()).expect("a certificate");
    let builder = provider::builder("client_assertion").certificate(certificate);
    let client = builder.build().expect("a client");
    let token = provider::acquire(&client).expect("a token");
    assert_eq!(token.secret(), "abc");

    // The trap is there: should this stop to panic, the crate proves nothing any more.
    std::panic::set_hook(Box::new(|_| {}));
    let trap = || {
        encode(
            &Header::default(),
            &"claims",
            &EncodingKey::from_secret(b"secret"),
        )
    };
    assert!(std::panic::catch_unwind(trap).is_err());
    println!("{}: a token with a certificate", env!("CARGO_PKG_NAME"));
}
