use hmac::{Hmac, KeyInit, Mac as _};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_224, Sha512_256};
use zeroize::Zeroizing;

/// A hash function of a key derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
}

/// Evaluates an expression with the type of a hash function.
macro_rules! with_hash {
    ($hash:expr, $name:ident => $body:expr) => {
        match $hash {
            Hash::Md5 => {
                type $name = Md5;
                $body
            }
            Hash::Sha1 => {
                type $name = Sha1;
                $body
            }
            Hash::Sha224 => {
                type $name = Sha224;
                $body
            }
            Hash::Sha256 => {
                type $name = Sha256;
                $body
            }
            Hash::Sha384 => {
                type $name = Sha384;
                $body
            }
            Hash::Sha512 => {
                type $name = Sha512;
                $body
            }
            Hash::Sha512_224 => {
                type $name = Sha512_224;
                $body
            }
            Hash::Sha512_256 => {
                type $name = Sha512_256;
                $body
            }
        }
    };
}

impl Hash {
    pub(super) fn digest(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        with_hash!(self, D => {
            let mut hash = D::new();
            parts.iter().for_each(|part| hash.update(part));
            Zeroizing::new(hash.finalize().to_vec())
        })
    }

    /// Returns whether `expected` is the HMAC of `message`.
    pub(super) fn verify_hmac(self, key: &[u8], message: &[u8], expected: &[u8]) -> bool {
        with_hash!(self, D => {
            match <Hmac<D> as KeyInit>::new_from_slice(key) {
                Ok(mac) => mac.chain_update(message).verify_slice(expected).is_ok(),
                Err(_) => false,
            }
        })
    }

    /// Fills `key` by PBKDF2 ([RFC 8018 section 5.2]).
    ///
    /// [RFC 8018 section 5.2]: https://www.rfc-editor.org/rfc/rfc8018#section-5.2
    pub(super) fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32, key: &mut [u8]) {
        with_hash!(self, D => pbkdf2::pbkdf2_hmac::<D>(password, salt, rounds, key));
    }

    /// Returns the key and the initialization vector of PBKDF1 ([RFC 8018 section 5.1]).
    ///
    /// [RFC 8018 section 5.1]: https://www.rfc-editor.org/rfc/rfc8018#section-5.1
    pub(super) fn pbkdf1(self, password: &[u8], salt: &[u8], rounds: u32) -> Zeroizing<Vec<u8>> {
        let mut key = self.digest(&[password, salt]);
        for _ in 1..rounds {
            key = self.digest(&[&key]);
        }
        key
    }

    /// Returns a key of PKCS#12 ([RFC 7292 appendix B.2]).
    ///
    /// [RFC 7292 appendix B.2]: https://www.rfc-editor.org/rfc/rfc7292#appendix-B.2
    pub(super) fn pkcs12(
        self,
        purpose: Purpose,
        password: &[u8],
        salt: &[u8],
        rounds: u32,
        length: usize,
    ) -> Zeroizing<Vec<u8>> {
        let block = self.block_length();
        let diversifier = vec![purpose as u8; block];
        let padded = |part: &[u8]| part.len().next_multiple_of(block);
        let capacity = padded(salt).saturating_add(padded(password));
        // A vector that grows leaves unwiped copies.
        let mut input = Zeroizing::new(Vec::with_capacity(capacity));
        for part in [salt, password] {
            input.extend(part.iter().cycle().take(padded(part)));
        }
        let mut key = Zeroizing::new(Vec::with_capacity(length.saturating_add(block)));
        loop {
            let mut hash = self.digest(&[&diversifier, &input]);
            for _ in 1..rounds {
                hash = self.digest(&[&hash]);
            }
            key.extend_from_slice(&hash);
            if key.len() >= length {
                key.truncate(length);
                return key;
            }
            for part in input.chunks_exact_mut(block) {
                add(part, &hash);
            }
        }
    }

    fn block_length(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 | Self::Sha224 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 | Self::Sha512_224 | Self::Sha512_256 => 128,
        }
    }
}

/// Adds the repeated `hash` and 1 to a big-endian number, without the overflow.
fn add(number: &mut [u8], hash: &[u8]) {
    let length = number.len();
    let addend = hash.iter().copied().cycle().take(length).collect();
    let addend: Zeroizing<Vec<u8>> = Zeroizing::new(addend);
    let mut carry: u16 = 1;
    for (digit, addend) in number.iter_mut().zip(addend.iter()).rev() {
        let sum = u16::from(*digit)
            .saturating_add(u16::from(*addend))
            .saturating_add(carry);
        *digit = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
}

/// The purpose of a derived key of PKCS#12.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Key = 1,
    InitializationVector = 2,
    Mac = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second vector is from the tests of Bouncy Castle and OpenSSL for the password `smeg`.
    #[test]
    fn the_derivation_of_pkcs12_gives_known_keys() {
        let smeg = b"\0s\0m\0e\0g\0\0";
        let salt = [0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f];
        let key = Hash::Sha1.pkcs12(Purpose::Key, smeg, &salt, 1, 24);
        let expected = [
            0x8a, 0xaa, 0xe6, 0x29, 0x7b, 0x6c, 0xb0, 0x46, 0x42, 0xab, 0x5b, 0x07, 0x78, 0x51,
            0x28, 0x4e, 0xb7, 0x12, 0x8f, 0x1a, 0x2a, 0x7f, 0xbc, 0xa3,
        ];
        assert_eq!(**key, expected);
        let iv = Hash::Sha1.pkcs12(Purpose::InitializationVector, smeg, &salt, 1, 8);
        assert_eq!(**iv, [0x79, 0x99, 0x3d, 0xfe, 0x04, 0x8d, 0x3b, 0x76]);
    }
}
