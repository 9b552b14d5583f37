use aes::{Aes128, Aes192, Aes256};
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, KeyIvInit};
use des::{Des, TdesEde2, TdesEde3};
use rc2::Rc2;
use zeroize::{Zeroize, Zeroizing};

use super::DecryptionError;

/// A cipher of a private key or of a PKCS#12 file. Block ciphers are in CBC mode with the padding
/// of PKCS#7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    Des,
    /// 3DES with two keys.
    TripleDes2,
    TripleDes3,
    Rc2 {
        key_length: usize,
        effective_bits: usize,
    },
    Rc4 {
        key_length: usize,
    },
}

impl Cipher {
    pub(super) fn key_length(self) -> usize {
        match self {
            Self::Des => 8,
            Self::Aes128 | Self::TripleDes2 => 16,
            Self::Aes192 | Self::TripleDes3 => 24,
            Self::Aes256 => 32,
            Self::Rc2 { key_length, .. } | Self::Rc4 { key_length } => key_length,
        }
    }

    /// Returns the length of the initialization vector, which is the length of a block.
    pub(super) fn iv_length(self) -> usize {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            Self::Des | Self::TripleDes2 | Self::TripleDes3 | Self::Rc2 { .. } => 8,
            Self::Rc4 { .. } => 0,
        }
    }

    pub(super) fn decrypt(
        self,
        key: &[u8],
        iv: &[u8],
        data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
        let block = self.iv_length();
        if block > 0 && (data.is_empty() || !data.len().is_multiple_of(block)) {
            return Err(DecryptionError::Malformed);
        }
        match self {
            Self::Aes128 => cbc::<Aes128>(key, iv, data),
            Self::Aes192 => cbc::<Aes192>(key, iv, data),
            Self::Aes256 => cbc::<Aes256>(key, iv, data),
            Self::Des => cbc::<Des>(key, iv, data),
            Self::TripleDes2 => cbc::<TdesEde2>(key, iv, data),
            Self::TripleDes3 => cbc::<TdesEde3>(key, iv, data),
            Self::Rc2 { effective_bits, .. } => {
                // The library panics outside of these bounds.
                if !(1..=128).contains(&key.len()) || !(1..=1024).contains(&effective_bits) {
                    return Err(DecryptionError::Malformed);
                }
                let rc2 = Rc2::new_with_eff_key_len(key, effective_bits);
                match Decryptor::inner_iv_slice_init(rc2, iv) {
                    Ok(cipher) => unpad(cipher, data),
                    Err(_) => Err(DecryptionError::Malformed),
                }
            }
            Self::Rc4 { .. } => Ok(rc4(key, data)),
        }
    }
}

fn cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
    match Decryptor::<C>::new_from_slices(key, iv) {
        Ok(cipher) => unpad(cipher, data),
        Err(_) => Err(DecryptionError::Malformed),
    }
}

fn unpad(
    cipher: impl BlockModeDecrypt,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptionError> {
    let mut buffer = Zeroizing::new(data.to_vec());
    let plain = cipher.decrypt_padded::<Pkcs7>(&mut buffer);
    let length = plain.map_err(|_| DecryptionError::Padding)?.len();
    if let Some(padding) = buffer.get_mut(length..) {
        padding.zeroize();
    }
    buffer.truncate(length);
    Ok(buffer)
}

/// Decrypts by RC4, which has no block and no padding.
fn rc4(key: &[u8], data: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut state: Zeroizing<Vec<u8>> = Zeroizing::new((0..=255).collect());
    let at = |state: &[u8], index: u8| state.get(usize::from(index)).copied().unwrap_or_default();
    let mut j: u8 = 0;
    for (i, key) in (0..=255_u8).zip(key.iter().cycle()) {
        j = j.wrapping_add(at(&state, i)).wrapping_add(*key);
        state.swap(usize::from(i), usize::from(j));
    }
    let (mut i, mut j) = (0_u8, 0_u8);
    let plain = data.iter().map(|byte| {
        i = i.wrapping_add(1);
        j = j.wrapping_add(at(&state, i));
        state.swap(usize::from(i), usize::from(j));
        byte ^ at(&state, at(&state, i).wrapping_add(at(&state, j)))
    });
    Zeroizing::new(plain.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6229 section 2, the keys of 40 and 128 bits.
    #[test]
    fn rc4_gives_the_known_stream() {
        let key: Vec<u8> = (1..=16).collect();
        for (length, stream) in [
            (5, [0xb2, 0x39, 0x63, 0x05, 0xf0, 0x3d, 0xc0, 0x27]),
            (16, [0x9a, 0xc7, 0xcc, 0x9a, 0x60, 0x9d, 0x1e, 0xf7]),
        ] {
            assert_eq!(**rc4(&key[..length], &[0; 8]), stream);
        }
    }

    #[test]
    fn a_length_that_no_cipher_writes_is_malformed() {
        for length in [0, 1, 15, 17] {
            let decrypted = Cipher::Aes128.decrypt(&[0; 16], &[0; 16], &vec![0; length]);
            assert_eq!(decrypted, Err(DecryptionError::Malformed));
        }
        let wrong_key = Cipher::Aes128.decrypt(&[0; 15], &[0; 16], &[0; 16]);
        assert_eq!(wrong_key, Err(DecryptionError::Malformed));
    }
}
