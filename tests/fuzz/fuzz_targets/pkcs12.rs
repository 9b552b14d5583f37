//! Reads arbitrary PKCS#12 files: the result is a certificate or a printable error.
#![no_main]

mod checks;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use checks::{PASSWORD, check};
use confidential_client::Certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // An unencrypted key may start at any offset.
    let private: Vec<Vec<u8>> = (0..3)
        .filter_map(|skipped| input.get(skipped..))
        .map(|part| BASE64_STANDARD.encode(part).into_bytes())
        .collect();
    check(Certificate::from_pkcs12(input, PASSWORD), &private);
    check(Certificate::from_pkcs12(input, ""), &private);
});
