//! The TLS library of the default transport.

#[cfg(feature = "rustls")]
use std::sync::{Arc, Once};

#[cfg(feature = "rustls")]
use rustls::crypto::CryptoProvider;

#[cfg(feature = "rustls")]
use crate::crypto::random;

/// Draws the first random octet of the TLS library, before the first handshake needs one.
#[cfg(feature = "rustls")]
pub(super) fn draw_ahead() {
    draw_ahead_from(CryptoProvider::get_default());
}

/// Draws from the provider of the process. Without such a provider, reqwest uses aws-lc.
#[cfg(feature = "rustls")]
fn draw_ahead_from(provider: Option<&Arc<CryptoProvider>>) {
    static ONCE: Once = Once::new();
    let Some(provider) = provider else {
        return random::draw_ahead();
    };
    let source = provider.secure_random;
    random::draw_ahead_by(&ONCE, move || {
        let _ = source.fill(&mut [0]);
    });
}

#[cfg(all(test, feature = "rustls"))]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use rustls::crypto::{GetRandomFailed, SecureRandom};

    use super::*;
    use crate::crypto::random::tests::CALLS;

    /// Sends the number of octets of each draw.
    #[derive(Debug)]
    struct Recording(SyncSender<usize>);

    impl SecureRandom for Recording {
        fn fill(&self, octets: &mut [u8]) -> Result<(), GetRandomFailed> {
            self.0.send(octets.len()).map_err(|_| GetRandomFailed)
        }
    }

    #[test]
    fn the_provider_of_the_process_draws() {
        let (sender, drawn) = sync_channel(2);
        let provider = CryptoProvider {
            secure_random: Box::leak(Box::new(Recording(sender))),
            ..rustls::crypto::aws_lc_rs::default_provider()
        };
        draw_ahead_from(Some(&Arc::new(provider)));
        assert_eq!(drawn.recv(), Ok(1));
        draw_ahead_from(None);
        assert_eq!(CALLS.get(), 2);
    }
}
