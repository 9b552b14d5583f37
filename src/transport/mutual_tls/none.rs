use std::error::Error as StdError;

use crate::certificate::Certificate;
use crate::error::Error;

/// The TLS of connections in a build without rustls, which cannot be made.
pub(crate) enum NoConnectionTls {}

impl NoConnectionTls {
    /// Returns the error of a build without rustls.
    pub(super) fn check_available() -> Result<(), Error> {
        Err(Error::config(
            "a client certificate for TLS needs TLS by rustls; enable the feature 'rustls', or 'reqwest' and 'ring', of confidential-client",
        ))
    }

    pub(super) fn new(
        _: &Certificate,
        _: Option<&[u8]>,
        _: impl Fn(Option<Box<dyn StdError + Send + Sync>>) -> Error,
    ) -> Result<Self, Error> {
        match Self::check_available() {
            Err(error) => Err(error),
            Ok(()) => Err(Error::config("TLS by rustls is missing")),
        }
    }

    pub(super) fn without_certificate(
        _: Option<&[u8]>,
        invalid: impl Fn(Option<Box<dyn StdError + Send + Sync>>) -> Error,
    ) -> Result<Self, Error> {
        Err(invalid(None))
    }
}
