#[path = "../../provider.rs"]
mod provider;

fn main() {
    provider::acquire_with_a_certificate();
    println!("{}: a token with a certificate", env!("CARGO_PKG_NAME"));
}
