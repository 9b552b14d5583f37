#[path = "../../issuer.rs"]
mod issuer;

fn main() {
    issuer::validate();
    println!("{}: a token was checked", env!("CARGO_PKG_NAME"));
}
