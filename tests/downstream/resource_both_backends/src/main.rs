#[path = "../../issuer.rs"]
mod issuer;

use jsonwebtoken::{DecodingKey, Validation, decode};

fn main() {
    issuer::validate();

    // docs/failures.md F11. If jsonwebtoken stops panicking here, this crate proves nothing.
    std::panic::set_hook(Box::new(|_| {}));
    let trap = || {
        let key = DecodingKey::from_secret(b"secret");
        let token = "eyJhbGciOiJIUzI1NiJ9.e30.AAAA";
        decode::<()>(token, &key, &Validation::default()).is_err()
    };
    assert!(std::panic::catch_unwind(trap).is_err());
    println!("{}: a token was checked", env!("CARGO_PKG_NAME"));
}
