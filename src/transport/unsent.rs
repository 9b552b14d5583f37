use std::error::Error as StdError;
use std::io;

/// A mark in the extensions of a request that carries a grant which is valid once.
///
/// The default transport sends a marked request on one connection alone.
#[derive(Clone, Copy)]
pub(crate) struct SendOnce;

/// Returns whether a transport's error proves that no byte of the request was sent, because there
/// was no connection.
pub(crate) fn was_not_sent(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        #[cfg(feature = "reqwest")]
        if let Some(error) = error.downcast_ref::<reqwest::Error>()
            && error.is_connect()
        {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_after_the_connection_says_nothing_about_the_request() {
        #[derive(Debug, thiserror::Error)]
        #[error("no response")]
        struct Wrapped(#[source] io::Error);

        for (kind, expected) in [
            (io::ErrorKind::ConnectionRefused, true),
            (io::ErrorKind::ConnectionReset, false),
            (io::ErrorKind::ConnectionAborted, false),
            (io::ErrorKind::BrokenPipe, false),
            (io::ErrorKind::TimedOut, false),
            (io::ErrorKind::UnexpectedEof, false),
            (io::ErrorKind::Other, false),
        ] {
            assert_eq!(was_not_sent(&io::Error::from(kind)), expected, "{kind}");
            let wrapped = Wrapped(kind.into());
            assert_eq!(was_not_sent(&wrapped), expected, "{kind}");
        }
    }
}
