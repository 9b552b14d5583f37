//! The parts that a record needs, by the libraries alone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::setup::Result;

const OCTETS: usize = 2048;
const CONTEXT: [u8; 80] = [3; 80];

pub(crate) fn name(calls: u32) -> Duration {
    let started = Instant::now();
    for _ in 0..calls {
        let key = hmac::Key::new(hmac::HMAC_SHA256, black_box(&[7; 32]));
        black_box(hmac::sign(&key, black_box(&[1; 130])));
    }
    started.elapsed()
}

pub(crate) fn seal(calls: u32) -> Duration {
    let message = [5; OCTETS];
    let started = Instant::now();
    for _ in 0..calls {
        let mut salt = [0; 24];
        let _ = SystemRandom::new().fill(&mut salt);
        let mut sealed = black_box(&message).to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let aad = Aad::from(CONTEXT);
        let _ = derived(&salt).map(|key| key.seal_in_place_append_tag(nonce, aad, &mut sealed));
        black_box(sealed);
    }
    started.elapsed()
}

pub(crate) fn open(calls: u32) -> Duration {
    let mut sealed = vec![5; OCTETS];
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let key = derived(&[1; 24]);
    let _ = key.map(|key| key.seal_in_place_append_tag(nonce(), Aad::from(CONTEXT), &mut sealed));
    let started = Instant::now();
    for _ in 0..calls {
        let mut opened = black_box(&sealed).clone();
        let _ = derived(&[1; 24]).map(|key| {
            let content = key.open_in_place(nonce(), Aad::from(CONTEXT), &mut opened);
            content.map(|content| black_box(content.len()))
        });
    }
    started.elapsed()
}

pub(crate) fn parse(calls: u32) -> Result<Duration> {
    let json = format!(r#"{{"lifetime_ms":1,"access_token":"{:a>OCTETS$}"}}"#, "");
    let started = Instant::now();
    for _ in 0..calls {
        let value: serde_json::Value = serde_json::from_slice(black_box(json.as_bytes()))?;
        black_box(value);
    }
    Ok(started.elapsed())
}

fn derived(salt: &[u8; 24]) -> Option<LessSafeKey> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
    context.update(&CONTEXT);
    context.update(salt);
    context.update(&[1]);
    let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).ok()?;
    Some(LessSafeKey::new(key))
}
