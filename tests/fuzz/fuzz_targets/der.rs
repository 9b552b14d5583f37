//! Reads arbitrary DER: the result is a certificate or a printable error.
//!
//! The first two bytes are the big-endian length of the certificate that follows. The rest is the
//! private key, read as DER and as the encrypted key of a PEM text.
#![no_main]

mod checks;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checks::{PASSWORD, check};
use confidential_client::Certificate;
use confidential_client::credential::SigningAlgorithm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [high, low, rest @ ..] = input else {
        return;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (certificate, key) = rest.split_at(length.min(rest.len()));
    let [certificate_text, key_text] = [certificate, key].map(|der| BASE64_STANDARD.encode(der));
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{certificate_text}\n-----END CERTIFICATE-----\n\
         -----BEGIN ENCRYPTED PRIVATE KEY-----\n{key_text}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    );
    let private = [key_text.into_bytes()];
    check(Certificate::from_der([certificate], key), &private);
    check(
        Certificate::from_der([certificate, certificate], key),
        &private,
    );
    check(Certificate::from_encrypted_pem(pem, PASSWORD), &private);
    let signed = Certificate::from_signer(certificate, |_: SigningAlgorithm, _: Vec<u8>| async {
        Err("the vault is sealed".into())
    });
    check(signed, &private);
});
