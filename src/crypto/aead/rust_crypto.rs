//! The implementation without C code, from RustCrypto.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use rsa::rand_core::{OsRng, RngCore};
use sha2::Sha256;

pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| hmac.update(part));
    Some(hmac.finalize().into_bytes().into())
}

pub(super) fn fill_random(octets: &mut [u8]) -> Option<()> {
    OsRng.try_fill_bytes(octets).ok()
}

pub(super) fn encrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let cipher = Aes256Gcm::new(key.into());
    cipher
        .encrypt_in_place(&Nonce::default(), context, message)
        .ok()
}

pub(super) fn decrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let cipher = Aes256Gcm::new(key.into());
    cipher
        .decrypt_in_place(&Nonce::default(), context, message)
        .ok()
}
