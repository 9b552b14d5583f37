use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use crate::error::Failure;

/// An error of the default transport in words that say what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ConnectionFailure {
    message: String,
    /// True if waiting alone does not help.
    is_permanent: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl ConnectionFailure {
    /// Creates a failure that a retry may cure.
    #[cfg(feature = "reqwest")]
    pub(super) fn transient(
        message: String,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            message,
            is_permanent: false,
            source: Box::new(source),
        }
    }

    /// Creates a failure that no retry cures, such as a certificate that is not trusted.
    #[cfg(feature = "reqwest")]
    pub(super) fn permanent(
        message: String,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            is_permanent: true,
            ..Self::transient(message, source)
        }
    }
}

/// Builds the details of an error without a response. `source` is the error of a transport.
pub(crate) fn no_response(message: String, source: Box<dyn StdError + Send + Sync>) -> Failure {
    let failure = Failure::new(message);
    let failure = match is_permanent(&*source) {
        true => failure.permanent(),
        false => failure,
    };
    failure.source(source)
}

/// Returns whether no retry cures the error of a transport, which may be a transport supplied by
/// the caller.
fn is_permanent(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        let failure = cause.downcast_ref::<ConnectionFailure>();
        failure.is_some_and(|failure| failure.is_permanent) || is_certificate_error(cause)
    })
}

#[cfg(any(feature = "ring", feature = "rustls"))]
fn is_certificate_error(cause: &(dyn StdError + 'static)) -> bool {
    let error = cause.downcast_ref::<rustls::Error>();
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(not(any(feature = "ring", feature = "rustls")))]
fn is_certificate_error(_: &(dyn StdError + 'static)) -> bool {
    false
}

/// Returns the error and its causes, including the errors inside of I/O errors.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    // The source of an I/O error is the source of the error inside.
    let inside = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match inside {
        Some(inside) => Some(inside),
        None => error.source(),
    }
}
