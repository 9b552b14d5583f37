//! Encryption with a shared secret: AES-256-GCM, HMAC-SHA256 and random numbers.
//!
//! Every function returns `None` without a backend. `crate::crypto::check_backend` says so when a
//! client is built.

#[cfg(all(
    feature = "rust-crypto",
    not(any(feature = "aws-lc-rs", feature = "ring"))
))]
mod rust_crypto;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod ring_api {
    //! aws-lc-rs and ring have the same interface.

    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    use ::ring as library;
    #[cfg(feature = "aws-lc-rs")]
    use aws_lc_rs as library;
    use library::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
    use library::hmac;
    use library::rand::{SecureRandom as _, SystemRandom};

    pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().try_into().ok()
    }

    pub(super) fn fill_random(octets: &mut [u8]) -> Option<()> {
        SystemRandom::new().fill(octets).ok()
    }

    pub(super) fn encrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        key.seal_in_place_append_tag(nonce, Aad::from(context), message)
            .ok()
    }

    pub(super) fn decrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let opened = key.open_in_place(nonce, Aad::from(context), message);
        let length = opened.ok()?.len();
        message.truncate(length);
        Some(())
    }
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
mod none {
    pub(super) fn hmac_sha256(_: &[u8], _: &[&[u8]]) -> Option<[u8; 32]> {
        None
    }

    pub(super) fn fill_random(_: &mut [u8]) -> Option<()> {
        None
    }

    pub(super) fn encrypt(_: &[u8; 32], _: &[u8], _: &mut Vec<u8>) -> Option<()> {
        None
    }

    pub(super) fn decrypt(_: &[u8; 32], _: &[u8], _: &mut Vec<u8>) -> Option<()> {
        None
    }
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
use none as backend;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use ring_api as backend;
#[cfg(all(
    feature = "rust-crypto",
    not(any(feature = "aws-lc-rs", feature = "ring"))
))]
use rust_crypto as backend;

/// Computes HMAC-SHA256 over the concatenated parts ([RFC 2104]).
///
/// [RFC 2104]: https://www.rfc-editor.org/rfc/rfc2104
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
    backend::hmac_sha256(key, parts)
}

/// Fills the octets with random numbers.
pub(crate) fn fill_random(octets: &mut [u8]) -> Option<()> {
    backend::fill_random(octets)
}

/// Encrypts a message in place with AES-256-GCM, and appends the tag.
///
/// The nonce is zero, so a key must encrypt one message only. The message can be decrypted with
/// the same `context` alone.
pub(crate) fn encrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
    backend::encrypt(key, context, message)
}

/// Decrypts a message in place, and removes the tag.
///
/// Returns `None` if the message was encrypted with another key or context, or was changed. The
/// content of `message` is then undefined.
pub(crate) fn decrypt(key: &[u8; 32], context: &[u8], message: &mut Vec<u8>) -> Option<()> {
    backend::decrypt(key, context, message)
}

#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap();
        (0..text.len()).step_by(2).map(digits).collect()
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_sha256_agrees_with_the_rfc() {
        let tag = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]).unwrap();
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(tag.to_vec(), hex(expected));
    }

    /// The GCM specification of McGrew and Viega, test case 14.
    #[test]
    fn aes_256_gcm_agrees_with_the_specification() {
        let mut message = vec![0; 16];
        encrypt(&[0; 32], b"", &mut message).unwrap();
        let expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
        assert_eq!(message, hex(expected));
        decrypt(&[0; 32], b"", &mut message).unwrap();
        assert_eq!(message, [0; 16]);
    }

    #[test]
    fn a_changed_message_key_or_context_does_not_decrypt() {
        let mut sealed = b"a token".to_vec();
        encrypt(&[1; 32], b"context", &mut sealed).unwrap();
        let opens = |key: u8, context: &[u8], message: &[u8]| {
            decrypt(&[key; 32], context, &mut message.to_vec()).is_some()
        };
        assert!(opens(1, b"context", &sealed));
        assert!(!opens(2, b"context", &sealed));
        assert!(!opens(1, b"another", &sealed));
        assert!(!opens(1, b"context", &sealed[1..]));
        assert!(!opens(1, b"context", b""));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(!opens(1, b"context", &changed), "octet {at}");
        }
    }
}
