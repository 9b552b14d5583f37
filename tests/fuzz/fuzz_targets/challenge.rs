//! Parses arbitrary `WWW-Authenticate` headers: no panic, no text that the header lacks, and equal
//! claims after a round trip.
#![no_main]

use confidential_client::Challenge;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    for challenge in Challenge::parse(&text) {
        assert!(text.contains(challenge.scheme()));
        assert!(!challenge.scheme().is_empty());
        let _ = (
            challenge.tenant_id(),
            challenge.resource(),
            challenge.nonce(),
        );
        let Some(claims) = challenge.claims() else {
            continue;
        };
        assert!(claims.len() <= 8 * 1024);
        // Parses the claims again, as a quoted string.
        let quoted = claims.replace('\\', "\\\\").replace('"', "\\\"");
        let again = Challenge::parse(&format!("Bearer claims=\"{quoted}\""));
        assert_eq!(again[0].claims().as_deref(), Some(claims.trim()));
    }
});
