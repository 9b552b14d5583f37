use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::aead;
use crate::time::unix_seconds;

/// The nonces of DPoP proofs ([RFC 9449 section 9]), without state.
///
/// A nonce is an HMAC of the number of the current period. Processes with the same key accept each
/// other's nonces.
///
/// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
pub(super) struct NonceIssuer {
    key: Zeroizing<Vec<u8>>,
    /// The length of a period, in seconds.
    period: u64,
}

impl NonceIssuer {
    pub(super) fn new(key: Zeroizing<Vec<u8>>, period: Duration) -> Self {
        Self {
            key,
            period: period.as_secs().max(1),
        }
    }

    /// Creates a random key. Returns `None` without a backend.
    pub(super) fn random_key() -> Option<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; 32]);
        aead::fill_random(&mut key)?;
        Some(key)
    }

    /// Returns the nonce of the current period.
    pub(super) fn current(&self, now: SystemTime) -> Option<String> {
        self.nonce(self.period_of(now))
    }

    /// Returns whether the nonce is of the current period or of the period before.
    ///
    /// The nonce of the next period is accepted, too, because the clock of another process may be
    /// ahead.
    pub(super) fn is_current(&self, nonce: &str, now: SystemTime) -> bool {
        let current = self.period_of(now);
        let periods = [
            Some(current),
            current.checked_sub(1),
            current.checked_add(1),
        ];
        let mut nonces = periods.into_iter().flatten();
        nonces.any(|period| self.nonce(period).as_deref() == Some(nonce))
    }

    fn period_of(&self, now: SystemTime) -> u64 {
        unix_seconds(now)
            .checked_div(self.period)
            .unwrap_or_default()
    }

    fn nonce(&self, period: u64) -> Option<String> {
        let tag = aead::hmac_sha256(&self.key, &[PURPOSE, &period.to_be_bytes()])?;
        // 144 bits cannot be guessed within a period.
        Some(BASE64_URL_SAFE_NO_PAD.encode(tag.get(..18)?))
    }
}

/// Separates the nonces from other uses of the same key.
const PURPOSE: &[u8] = b"confidential-client dpop nonce ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_accepted_for_one_period_and_the_next() {
        let issuer =
            |key: u8| NonceIssuer::new(Zeroizing::new(vec![key; 32]), Duration::from_secs(300));
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3_000_000 + seconds);
        let (one, same, other) = (issuer(1), issuer(1), issuer(2));
        let nonce = one.current(at(0)).unwrap();
        assert_eq!(nonce.len(), 24);
        assert_eq!(one.current(at(299)), Some(nonce.clone()));
        assert_ne!(one.current(at(300)), Some(nonce.clone()));
        for (seconds, is_accepted) in [
            (0, true),
            (299, true),
            (300, true),
            (599, true),
            (600, false),
        ] {
            assert_eq!(
                same.is_current(&nonce, at(seconds)),
                is_accepted,
                "{seconds}"
            );
            assert!(!other.is_current(&nonce, at(seconds)), "{seconds}");
        }
        // Issued by a process whose clock is ahead.
        assert!(one.is_current(&one.current(at(300)).unwrap(), at(299)));
        assert!(!one.is_current(&one.current(at(600)).unwrap(), at(299)));
        assert!(!one.is_current("", at(0)) && !one.is_current(&nonce.to_lowercase(), at(0)));
    }
}
