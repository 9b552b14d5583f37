use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::secret::Secret;
use crate::transport::zero_timeout;

/// The settings of a shared cache: encryption, names and limits.
///
/// All processes that share tokens need the same name key, and encryption keys that overlap.
///
/// ```
/// use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// // 32 random octets, for example from `openssl rand -base64 32`.
/// let text = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
/// let key = EncryptionKey::from_base64(text)?;
/// let options = SharedCacheOptions::encrypted("a name key that never changes", [key]);
/// # let _ = options;
/// # Ok(())
/// # }
/// ```
///
/// # Rotate an encryption key
///
/// The first key encrypts, and every key decrypts. Each record has the ID of its key.
///
/// 1. Deploy the new key as the *second* key to all processes.
/// 2. Deploy the new key as the first key, and the old key as the second.
/// 3. Remove the old key after [`session_lifetime`](Self::session_lifetime).
///
/// A process without a record's key treats the record as absent, and its users sign in again.
#[derive(Clone)]
pub struct SharedCacheOptions {
    pub(super) name_key: Secret,
    /// `None` without encryption.
    pub(super) keys: Option<Vec<EncryptionKey>>,
    pub(super) prefix: String,
    pub(super) call_timeout: Duration,
    pub(super) session_lifetime: Duration,
    pub(super) redeems_without_lock: bool,
}

impl SharedCacheOptions {
    /// Creates settings with encryption (AES-256-GCM).
    ///
    /// `name_key` hashes the names of records, so that the store shows no tenant, client or user.
    /// The name key has at least 16 octets and never changes: after a change, a process finds
    /// neither the records nor the locks of the others. The first of `keys` encrypts, and every
    /// key decrypts.
    pub fn encrypted(
        name_key: impl Into<Secret>,
        keys: impl IntoIterator<Item = EncryptionKey>,
    ) -> Self {
        Self::new(name_key.into(), Some(keys.into_iter().collect()))
    }

    /// Creates settings without encryption.
    ///
    /// A reader of the store then has every access token and refresh token. A client without
    /// encryption does not read encrypted records, and a client with encryption does not read
    /// records without encryption.
    pub fn without_encryption(name_key: impl Into<Secret>) -> Self {
        Self::new(name_key.into(), None)
    }

    fn new(name_key: Secret, keys: Option<Vec<EncryptionKey>>) -> Self {
        Self {
            name_key,
            keys,
            prefix: "confidential-client".to_owned(),
            call_timeout: Duration::from_millis(500),
            session_lifetime: Duration::from_secs(90 * 24 * 60 * 60),
            redeems_without_lock: false,
        }
    }

    /// Sets the first part of all names in the store. The default is `confidential-client`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the time limit of one call of the store. The default is 500 milliseconds.
    ///
    /// After a failed call the client works without the store for some seconds.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets how long the store keeps a user's refresh token since its last use. The default is 90
    /// days, which is the lifetime of Microsoft Entra ID's refresh tokens.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.session_lifetime = lifetime;
        self
    }

    /// Lets this process redeem refresh tokens while the store is down.
    ///
    /// By default a client redeems no refresh token while the store is down, because another
    /// process may redeem the same one, and a provider that rotates refresh tokens then revokes the
    /// user's session. Call this method only if one process uses the store, or if the provider
    /// accepts a refresh token more than once, as Microsoft Entra ID does.
    pub fn redeem_without_lock(mut self) -> Self {
        self.redeems_without_lock = true;
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if self.name_key.expose().len() < 16 {
            return Err(Error::config(
                "the name key of the shared cache has fewer than 16 octets; use a random text, such as the output of `openssl rand -base64 32`",
            ));
        }
        if self.keys.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::config(
                "the shared cache has no encryption key; give SharedCacheOptions::encrypted(..) one, or decline encryption with without_encryption(..)",
            ));
        }
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(Error::config(format!(
                "the prefix {:?} of the shared cache must not be empty and must not contain braces, with which Redis Cluster chooses the slot of a key",
                self.prefix
            )));
        }
        if self.call_timeout.is_zero() {
            return Err(zero_timeout("call_timeout"));
        }
        if self.session_lifetime < MIN_SESSION_LIFETIME {
            return Err(Error::config(format!(
                "session_lifetime must be at least one minute, but is {:?}",
                self.session_lifetime
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for SharedCacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCacheOptions")
            .field("keys", &self.keys)
            .field("prefix", &self.prefix)
            .field("call_timeout", &self.call_timeout)
            .field("session_lifetime", &self.session_lifetime)
            .finish_non_exhaustive()
    }
}

/// A key of 256 bits that encrypts the records of a shared cache. Wiped on drop.
#[derive(Clone)]
pub struct EncryptionKey {
    bytes: Zeroizing<[u8; 32]>,
    id: EncryptionKeyId,
}

/// The identifier of an encryption key: the first octets of the key's SHA-256.
pub(crate) type EncryptionKeyId = [u8; 8];

impl EncryptionKey {
    /// Creates a key from 32 random octets. A password is no key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        // The label keeps the identifier apart from other hashes of the key.
        let hash = Sha256::new()
            .chain_update(b"confidential-client key id")
            .chain_update(*bytes)
            .finalize();
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(id, octet)| *id = octet);
        Self { bytes, id }
    }

    /// Reads a key from the base64 form of 32 random octets, as `openssl rand -base64 32` prints
    /// it. White space around the text is ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the text is not base64, or not of 32 octets.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        let decoded = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new);
        let octets = decoded.map_err(|_| {
            Error::config("the encryption key of the shared cache is not base64; create one with `openssl rand -base64 32`")
        })?;
        let bytes = <[u8; 32]>::try_from(octets.as_slice()).map_err(|_| {
            Error::config(format!(
                "the encryption key of the shared cache has {} octets instead of 32; create one with `openssl rand -base64 32`",
                octets.len()
            ))
        })?;
        Ok(Self::from_bytes(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(super) fn id(&self) -> &EncryptionKeyId {
        &self.id
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(..)")
    }
}

const MIN_SESSION_LIFETIME: Duration = Duration::from_secs(60);
