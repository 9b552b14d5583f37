#[path = "../../provider.rs"]
mod provider;

use confidential_client::Certificate;

fn main() {
    let certificate = Certificate::from_pem(provider::pem()).expect("a certificate");
    let builder = provider::builder("client_assertion").certificate(certificate);
    let client = builder.build().expect("a client");
    let token = provider::acquire(&client).expect("a token");
    assert_eq!(token.secret(), "abc");
    println!("{}: a token with a certificate", env!("CARGO_PKG_NAME"));
}
