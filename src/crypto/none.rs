//! The backend of a build without a signing feature. Every operation fails with [`NoBackend`].

use super::{NoBackend, PrivateKeyDer, SigningAlgorithm};
use crate::error::Error;

/// A key pair that cannot exist.
pub(super) enum NoKeyPair {}

impl NoKeyPair {
    pub(super) fn parse(_: &PrivateKeyDer) -> Result<Self, Error> {
        Err(Error::config(NoBackend.to_string()))
    }

    pub(super) fn generate_p256() -> Option<Self> {
        None
    }

    pub(super) fn public_key(&self) -> &[u8] {
        match *self {}
    }

    pub(super) fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }
}

/// Returns [`NoBackend`] for every signature.
pub(super) fn verify(_: &[u8], _: SigningAlgorithm, _: &[u8], _: &[u8]) -> Result<bool, NoBackend> {
    Err(NoBackend)
}
