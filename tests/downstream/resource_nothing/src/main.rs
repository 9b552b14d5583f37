#[path = "../../issuer.rs"]
mod issuer;

use confidential_client::Error;

fn main() {
    let error = issuer::builder().build().expect_err("no signatures");
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("enable the feature 'aws-lc-rs' or 'rust-crypto'")
    );
    println!("{}: no token is taken unchecked", env!("CARGO_PKG_NAME"));
}
