//! Without a backend there is no private key.

use super::{NoBackend, PrivateKeyDer, SigningAlgorithm};
use crate::error::Error;

pub(crate) enum KeyPair {}

impl KeyPair {
    pub(super) fn parse(_: &PrivateKeyDer) -> Result<Self, Error> {
        Err(Error::config(NoBackend.to_string()))
    }

    pub(super) fn public_key(&self) -> &[u8] {
        match *self {}
    }

    pub(super) fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }
}

/// Reports that no backend can verify.
pub(crate) fn verify(_: &[u8], _: SigningAlgorithm, _: &[u8], _: &[u8]) -> Result<bool, NoBackend> {
    Err(NoBackend)
}
