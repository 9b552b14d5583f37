#[path = "../../provider.rs"]
mod provider;

use jsonwebtoken::{EncodingKey, Header, encode};

fn main() {
    provider::acquire_with_a_certificate();

    // docs/failures.md F11. If jsonwebtoken stops panicking here, this crate proves nothing.
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
