//! Whatever stands in a PEM text, a caller gets a certificate or an error that can be printed.
//!
//! Where certificate and key come in two texts, the second begins with the last `-----BEGIN`.
#![no_main]

mod checks;

use checks::{PASSWORD, check};
use confidential_client::Certificate;
use confidential_client::credential::SigningAlgorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let private = private_keys(input);
    let (first, second) = input.split_at(last(input, b"-----BEGIN").unwrap_or(input.len() / 2));
    check(Certificate::from_pem(input), &private);
    check(Certificate::from_pem_pair(first, second), &private);
    check(Certificate::from_encrypted_pem(input, PASSWORD), &private);
    let signed = Certificate::from_signer(input, |_: SigningAlgorithm, _: Vec<u8>| async {
        Err("the vault is sealed".into())
    });
    check(signed, &private);
});

/// Returns the text between each `PRIVATE KEY-----` and the next dashes.
fn private_keys(input: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut rest = input;
    while let Some(at) = first(rest, b"PRIVATE KEY-----") {
        rest = &rest[at + b"PRIVATE KEY-----".len()..];
        keys.push(rest[..first(rest, b"-----").unwrap_or(rest.len())].to_vec());
    }
    keys
}

fn first(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn last(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}
