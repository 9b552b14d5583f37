//! The encryption of records.
//!
//! | octets | content |
//! |---|---|
//! | 1 | version of the format, 1 |
//! | 1 | encryption: 0 for none, 1 for AES-256-GCM |
//! | 8 | ID of the key (not without encryption) |
//! | 24 | random octets, from which the key of this record is derived (not without encryption) |
//! | rest | JSON, with encryption followed by the tag of 16 octets |

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::options::{EncryptionKey, EncryptionKeyId};
use super::store::SharedRecord;
use crate::crypto::{NoBackend, aead};
use crate::error::Error;

/// Encrypts records with the first key, and decrypts the records of every key.
pub(super) struct Sealer {
    /// `None` without encryption.
    keys: Option<Vec<EncryptionKey>>,
    has_warned: AtomicBool,
}

impl Sealer {
    pub(super) fn new(keys: Option<Vec<EncryptionKey>>) -> Self {
        Self {
            keys,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Encrypts the content of a record for one name and one generation.
    pub(super) fn seal(
        &self,
        name: &str,
        generation: u64,
        mut content: Zeroizing<Vec<u8>>,
    ) -> Result<Bytes, Error> {
        if content.len() > LARGEST_CONTENT {
            self.warn("it is too large to be stored");
            return Err(Error::config("a record is too large to be stored"));
        }
        let Some(keys) = &self.keys else {
            return Ok([&[VERSION, PLAIN], &**content].concat().into());
        };
        let mut seal = || {
            let key = keys.first()?;
            let mut salt = [0; SALT_LENGTH];
            aead::fill_random(&mut salt)?;
            let record_key = record_key(key, name, &salt)?;
            let header = header(key.id());
            aead::encrypt(
                &record_key,
                &context(&header, name, generation),
                &mut content,
            )?;
            Some([&header, &salt[..], &content].concat().into())
        };
        seal().ok_or_else(|| Error::config(NoBackend.to_string()))
    }

    /// Decrypts the value of a record. Returns `None` for a value that this client cannot use, and
    /// logs the reason once.
    pub(super) fn open(&self, name: &str, record: &SharedRecord) -> Option<Zeroizing<Vec<u8>>> {
        match self.try_open(name, record) {
            Ok(content) => Some(content),
            Err(problem) => {
                self.warn(problem);
                None
            }
        }
    }

    fn try_open(
        &self,
        name: &str,
        record: &SharedRecord,
    ) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        // Before a copy is made: whoever writes to the store chooses the length.
        if record.value.len() > LARGEST_CONTENT + LONGEST_FRAME {
            return Err("it is larger than a record can be");
        }
        let (version, rest) = record.value.split_first().ok_or("it is empty")?;
        if *version != VERSION {
            return Err("it has another format version, of a newer or much older release");
        }
        let (encryption, rest) = rest.split_first().ok_or("it is truncated")?;
        let keys = match (*encryption, &self.keys) {
            (PLAIN, None) => return Ok(Zeroizing::new(rest.to_vec())),
            (PLAIN, Some(_)) => return Err("it is not encrypted"),
            (A256GCM, Some(keys)) => keys,
            (A256GCM, None) => return Err("it is encrypted, and this client has no key"),
            _ => return Err("its encryption is unknown"),
        };
        let (id, rest) = rest.split_first_chunk().ok_or("it is truncated")?;
        let (salt, sealed) = rest.split_first_chunk().ok_or("it is truncated")?;
        // By the ID alone: AES-GCM does not commit to a key, so no key is tried.
        let key = keys.iter().find(|key| key.id() == id);
        let key = key.ok_or("its encryption key is not among this client's keys")?;
        let record_key = record_key(key, name, salt).ok_or("there is no backend")?;
        let mut content = Zeroizing::new(sealed.to_vec());
        let context = context(&header(id), name, record.generation);
        match aead::decrypt(&record_key, &context, &mut content) {
            Some(()) => Ok(content),
            None => Err("it was changed, or belongs to another name or generation"),
        }
    }

    /// Logs once that a record cannot be used.
    pub(super) fn warn(&self, problem: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                problem,
                "a record in the shared cache cannot be used and counts as absent; further such records are not logged"
            );
        }
    }
}

fn header(id: &EncryptionKeyId) -> [u8; 10] {
    let mut header = [0; 10];
    let octets = [VERSION, A256GCM].iter().chain(id);
    header
        .iter_mut()
        .zip(octets)
        .for_each(|(to, from)| *to = *from);
    header
}

/// Derives the key of one record (HKDF-Expand of [RFC 5869]), so that no nonce is used twice
/// whatever the number of records.
///
/// [RFC 5869]: https://www.rfc-editor.org/rfc/rfc5869
fn record_key(
    key: &EncryptionKey,
    name: &str,
    salt: &[u8; SALT_LENGTH],
) -> Option<Zeroizing<[u8; 32]>> {
    let purpose = b"confidential-client record";
    let parts: [&[u8]; 4] = [purpose, name.as_bytes(), salt, &[1]];
    aead::hmac_sha256(key.bytes(), &parts).map(Zeroizing::new)
}

/// Returns the associated data: a record cannot be moved to another name, nor to another
/// generation.
fn context(header: &[u8], name: &str, generation: u64) -> Vec<u8> {
    [header, &generation.to_be_bytes(), name.as_bytes()].concat()
}

const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const A256GCM: u8 = 1;
const SALT_LENGTH: usize = 24;
/// The length of everything around the content: version, encryption, key ID, salt and tag.
const LONGEST_FRAME: usize = 2 + 8 + SALT_LENGTH + 16;
/// The longest content of a record, as long as the longest response of a token endpoint. A longer
/// record is neither written nor read.
const LARGEST_CONTENT: usize = 1024 * 1024;

#[cfg(test)]
#[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(octet: u8) -> EncryptionKey {
        EncryptionKey::from_bytes([octet; 32])
    }

    fn sealer(keys: &[u8]) -> Sealer {
        Sealer::new(Some(keys.iter().copied().map(key).collect()))
    }

    fn record(generation: u64, value: Bytes) -> SharedRecord {
        SharedRecord::new(generation, value, Duration::from_secs(60))
    }

    fn opened(sealer: &Sealer, name: &str, record: &SharedRecord) -> Result<String, &'static str> {
        let content = sealer.try_open(name, record);
        content.map(|content| String::from_utf8(content.to_vec()).unwrap())
    }

    #[test]
    fn the_first_key_encrypts_and_every_key_decrypts() {
        let value = sealer(&[1])
            .seal("name", 7, b"token".to_vec().into())
            .unwrap();
        assert!(!value.windows(5).any(|octets| octets == b"token"));
        let record = record(7, value);
        for (name, keys, expected) in [
            ("the same key", &[1][..], Ok("token")),
            ("a new first key", &[2, 1], Ok("token")),
            (
                "the key is gone",
                &[2],
                Err("its encryption key is not among this client's keys"),
            ),
        ] {
            let found = opened(&sealer(keys), "name", &record);
            assert_eq!(found.as_deref().map_err(|why| *why), expected, "{name}");
        }
    }

    #[test]
    fn two_records_with_the_same_content_differ() {
        let sealer = sealer(&[1]);
        let seal = || sealer.seal("name", 7, b"token".to_vec().into()).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_record_that_was_changed_moved_or_cut_does_not_open() {
        let sealer = sealer(&[1]);
        let value = sealer.seal("name", 7, b"token".to_vec().into()).unwrap();
        let opens = |name: &str, generation: u64, value: &[u8]| {
            opened(
                &sealer,
                name,
                &record(generation, Bytes::copy_from_slice(value)),
            )
            .is_ok()
        };
        assert!(opens("name", 7, &value));
        assert!(!opens("other", 7, &value), "another name");
        assert!(!opens("name", 8, &value), "another generation");
        for at in 0..value.len() {
            let mut changed = value.to_vec();
            changed[at] ^= 1;
            assert!(!opens("name", 7, &changed), "octet {at}");
            assert!(!opens("name", 7, &value[..at]), "{at} octets");
        }
    }

    #[test]
    fn a_record_of_more_than_a_mebibyte_is_neither_written_nor_read() {
        for sealer in [sealer(&[1]), Sealer::new(None)] {
            let largest = vec![b'a'; LARGEST_CONTENT];
            let value = sealer.seal("name", 1, largest.into()).unwrap();
            let text = opened(&sealer, "name", &record(1, value.clone())).unwrap();
            assert_eq!(text.len(), LARGEST_CONTENT);
            let longer = vec![b'a'; LARGEST_CONTENT + 1];
            assert!(sealer.seal("name", 1, longer.into()).is_err());
            let mut longer = value.to_vec();
            longer.resize(LARGEST_CONTENT + LONGEST_FRAME + 1, 0);
            assert_eq!(
                opened(&sealer, "name", &record(1, longer.into())),
                Err("it is larger than a record can be")
            );
        }
    }

    #[test]
    fn a_client_reads_no_record_of_another_encryption() {
        let plain = Sealer::new(None);
        let encrypted = sealer(&[1]);
        let value = |sealer: &Sealer| sealer.seal("name", 1, b"token".to_vec().into()).unwrap();
        let record_of = |sealer: &Sealer| record(1, value(sealer));
        assert_eq!(opened(&plain, "name", &record_of(&plain)).unwrap(), "token");
        assert_eq!(
            opened(&encrypted, "name", &record_of(&plain)),
            Err("it is not encrypted")
        );
        assert_eq!(
            opened(&plain, "name", &record_of(&encrypted)),
            Err("it is encrypted, and this client has no key")
        );
        let mut newer = value(&plain).to_vec();
        newer[0] = 2;
        assert_eq!(
            opened(&plain, "name", &record(1, newer.into())),
            Err("it has another format version, of a newer or much older release")
        );
    }
}
