//! Encryption with a password, of PKCS#5 ([RFC 8018]), of PKCS#12 ([RFC 7292]) and of OpenSSL's old
//! PEM format.
//!
//! [RFC 8018]: https://www.rfc-editor.org/rfc/rfc8018
//! [RFC 7292]: https://www.rfc-editor.org/rfc/rfc7292
#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use zeroize::Zeroizing;

use super::asn1::Asn1Error;

mod cipher;
mod derivation;
mod openssl;
mod scheme;

pub(crate) use openssl::{OpenSslCipher, UnknownCipher};
pub(crate) use scheme::{Mac, decrypt};

/// A password in the encodings of the key derivations.
pub(crate) struct Password<'a> {
    /// UTF-8, for PKCS#5.
    text: &'a str,
    /// UTF-16, for PKCS#12.
    pkcs12: Zeroizing<Vec<u8>>,
}

impl<'a> Password<'a> {
    /// Returns the password in each encoding that writers of PKCS#12 use.
    ///
    /// An empty password is two zero bytes or, as the *null* password of Azure Key Vault and
    /// GnuTLS, no byte at all. OpenSSL before 1.1 wrote each byte of a password as a character.
    pub(crate) fn encodings(text: &'a str) -> Vec<Self> {
        let with = |pkcs12: Zeroizing<Vec<u8>>| Self { text, pkcs12 };
        let characters = encode(text.encode_utf16());
        if text.is_empty() {
            vec![with(characters), with(Zeroizing::default())]
        } else if text.is_ascii() {
            vec![with(characters)]
        } else {
            vec![with(characters), with(encode(text.bytes().map(u16::from)))]
        }
    }
}

/// Returns big-endian UTF-16 with the terminator of PKCS#12.
fn encode(units: impl Iterator<Item = u16> + Clone) -> Zeroizing<Vec<u8>> {
    // A vector that grows leaves unwiped copies.
    let length = units.clone().count().saturating_add(1).saturating_mul(2);
    let mut encoded = Zeroizing::new(Vec::with_capacity(length));
    for unit in units.chain([0]) {
        encoded.extend_from_slice(&unit.to_be_bytes());
    }
    encoded
}

/// The work that one file may request. A file may request any number of rounds in any number of
/// places.
pub(crate) struct WorkLimit {
    rounds: u64,
}

impl WorkLimit {
    pub(crate) fn new() -> Self {
        Self { rounds: MOST_WORK }
    }

    /// Accounts for a key derivation.
    fn spend(&mut self, rounds: u64) -> Result<(), DecryptionError> {
        if rounds > MOST_ROUNDS {
            return Err(DecryptionError::TooManyRounds(rounds));
        }
        match self.rounds.checked_sub(rounds) {
            Some(left) => self.rounds = left,
            None => return Err(DecryptionError::TooMuchWork),
        }
        Ok(())
    }
}

/// The reason why something cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DecryptionError {
    /// The parameters or the length are not those of the algorithm.
    Malformed,
    /// An algorithm that this crate does not know, by name or object identifier.
    Unsupported(String),
    TooManyRounds(u64),
    /// A key derivation, or those of a file together, would take too long.
    TooMuchWork,
    /// The wrong padding, which a wrong password gives.
    Padding,
}

impl From<Asn1Error> for DecryptionError {
    fn from(_: Asn1Error) -> Self {
        Self::Malformed
    }
}

/// Largest number of rounds of one key derivation. OpenSSL and Windows write 2000 by default.
pub(crate) const MOST_ROUNDS: u64 = 1_000_000;
/// Largest number of rounds of one file.
const MOST_WORK: u64 = 4 * MOST_ROUNDS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_derivations_of_a_file_are_limited_together() {
        let mut limit = WorkLimit::new();
        for _ in 0..4 {
            assert_eq!(limit.spend(MOST_ROUNDS), Ok(()));
        }
        assert_eq!(limit.spend(1), Err(DecryptionError::TooMuchWork));
    }

    #[test]
    fn a_password_has_every_encoding_that_writers_use() {
        let encodings = |password| -> Vec<Vec<u8>> {
            let encodings = Password::encodings(password).into_iter();
            encodings.map(|encoding| encoding.pkcs12.to_vec()).collect()
        };
        assert_eq!(encodings(""), [&b"\0\0"[..], b""]);
        assert_eq!(encodings("a"), [b"\0a\0\0"]);
        let key = [
            &b"\xd8\x3d\xdd\x11\0\0"[..],
            b"\0\xf0\0\x9f\0\x94\0\x91\0\0",
        ];
        assert_eq!(encodings("🔑"), key);
    }
}
