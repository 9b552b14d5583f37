use zeroize::Zeroizing;

use super::DecryptionError;
use super::cipher::Cipher;
use super::derivation::Hash;

/// The cipher of OpenSSL's old PEM encryption, with its initialization vector.
pub(crate) struct OpenSslCipher {
    cipher: Cipher,
    iv: Vec<u8>,
}

/// The error of a `DEK-Info` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UnknownCipher {
    Malformed,
    /// A cipher that is not supported, with its name.
    Unsupported(String),
}

impl OpenSslCipher {
    /// Reads the value of a `DEK-Info` header, such as `AES-256-CBC,` and 32 hexadecimal digits.
    ///
    /// Also returns the text behind the value, which may begin on the same line.
    pub(crate) fn parse(text: &str) -> Result<(Self, &str), UnknownCipher> {
        let (name, rest) = text.split_once(',').ok_or(UnknownCipher::Malformed)?;
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 30 || !name.chars().all(is_name) {
            return Err(UnknownCipher::Malformed);
        }
        let cipher = CIPHERS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, cipher)) = cipher else {
            return Err(UnknownCipher::Unsupported(name.to_ascii_uppercase()));
        };
        let length = cipher.iv_length().saturating_mul(2);
        let (digits, rest) = rest
            .trim_start_matches([' ', '\t'])
            .split_at_checked(length)
            .ok_or(UnknownCipher::Malformed)?;
        let digits: Option<Vec<u8>> = digits
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect();
        let digits = digits.ok_or(UnknownCipher::Malformed)?;
        let byte = |pair: &[u8]| pair.iter().fold(0, |byte: u8, digit| (byte << 4) | digit);
        let iv = digits.chunks_exact(2).map(byte).collect();
        let cipher = *cipher;
        Ok((Self { cipher, iv }, rest))
    }

    /// Decrypts a private key. The caller must check the result, since the format has no integrity
    /// check.
    pub(crate) fn decrypt(
        &self,
        data: &[u8],
        password: &str,
    ) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
        let salt = self.iv.get(..8).ok_or(DecryptionError::Malformed)?;
        let length = self.cipher.key_length();
        let mut key = Zeroizing::new(Vec::with_capacity(length.saturating_add(16)));
        let mut hash: Zeroizing<Vec<u8>> = Zeroizing::default();
        while key.len() < length {
            hash = Hash::Md5.digest(&[&hash, password.as_bytes(), salt]);
            key.extend_from_slice(&hash);
        }
        key.truncate(length);
        self.cipher.decrypt(&key, &self.iv, data)
    }
}

const fn rc2(key_length: usize, effective_bits: usize) -> Cipher {
    Cipher::Rc2 {
        key_length,
        effective_bits,
    }
}

const CIPHERS: [(&str, Cipher); 9] = [
    ("AES-128-CBC", Cipher::Aes128),
    ("AES-192-CBC", Cipher::Aes192),
    ("AES-256-CBC", Cipher::Aes256),
    ("DES-CBC", Cipher::Des),
    ("DES-EDE-CBC", Cipher::TripleDes2),
    ("DES-EDE3-CBC", Cipher::TripleDes3),
    ("RC2-CBC", rc2(16, 128)),
    ("RC2-64-CBC", rc2(8, 64)),
    ("RC2-40-CBC", rc2(5, 40)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_with_or_without_a_line_break_behind() {
        for text in [
            "AES-128-CBC,000102030405060708090A0B0C0D0E0F\nABCD",
            "aes-128-cbc, 000102030405060708090a0b0c0d0e0fABCD",
        ] {
            let (cipher, rest) = OpenSslCipher::parse(text).unwrap();
            assert_eq!(cipher.iv, (0..16).collect::<Vec<u8>>());
            assert_eq!(rest.trim(), "ABCD");
        }
    }

    #[test]
    fn a_header_that_is_cut_off_or_of_another_cipher_is_an_error() {
        use UnknownCipher::{Malformed, Unsupported};
        for (text, expected) in [
            ("", Malformed),
            ("AES-128-CBC", Malformed),
            ("AES-128-CBC,0001", Malformed),
            ("AES-128-CBC,0001020304050607\nAAAABBBBCCCCDDDD", Malformed),
            ("AES-128-CBC,é001020304050607000102030405060", Malformed),
            ("secret!,00", Malformed),
            (
                "CAMELLIA-256-CBC,00",
                Unsupported("CAMELLIA-256-CBC".to_owned()),
            ),
        ] {
            assert_eq!(OpenSslCipher::parse(text).err(), Some(expected), "{text}");
        }
    }
}
