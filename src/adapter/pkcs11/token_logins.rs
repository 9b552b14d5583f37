//! The logins with the tokens of the process. No wrong PIN is tried twice.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::module::TokenInfo;
use super::turn::{Turn, TurnTaken};
use crate::secret::Secret;

/// The logins with every token that the process has seen.
///
/// All modules of the process share one value, since two modules, or two copies of one module, may
/// lead to the same token.
#[derive(Default)]
pub(super) struct TokenLogins(Mutex<Vec<(TokenIdentity, Arc<TokenLogin>)>>);

/// The texts that tell one token from another.
///
/// Some modules give no serial numbers. A token gets another label by an initialization alone,
/// which ends the PIN, too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenIdentity([String; 4]);

/// The login with one token, by one caller at a time.
#[derive(Default)]
pub(super) struct TokenLogin(Turn<JudgedPins>);

/// The PINs that the token has judged, as digests.
///
/// A digest keeps a PIN out of a memory dump's texts. A short PIN can be guessed from the digest.
#[derive(Default)]
struct JudgedPins {
    /// The PIN that the token accepted last.
    accepted: Option<PinDigest>,
    /// The rejected PINs, in the order of their rejections.
    rejected: VecDeque<PinDigest>,
}

type PinDigest = [u8; 32];

/// The exclusive right to log in with a token.
pub(super) struct LoginTurn<'a>(TurnTaken<'a, JudgedPins>);

impl TokenLogins {
    /// Returns the logins that the process shares.
    pub(super) fn of_process() -> Arc<Self> {
        static LOGINS: LazyLock<Arc<TokenLogins>> = LazyLock::new(Arc::default);
        Arc::clone(&LOGINS)
    }

    /// Returns the login with a token.
    pub(super) fn of(&self, token: &TokenInfo) -> Arc<TokenLogin> {
        let texts = [
            &token.manufacturer,
            &token.model,
            &token.serial_number,
            &token.label,
        ];
        let identity = TokenIdentity(texts.map(|text| text.trim_end().to_owned()));
        let mut logins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, login)) = logins.iter().find(|(known, _)| *known == identity) {
            return Arc::clone(login);
        }
        if logins.len() >= MAX_TOKENS {
            // A login in progress stays, or a second caller could log in at the same time.
            let is_idle = |(_, login): &(_, Arc<TokenLogin>)| Arc::strong_count(login) == 1;
            let is_blank = |entry: &_| is_idle(entry) && entry.1.0.lock().value.rejected.is_empty();
            let oldest = logins.iter().position(is_blank);
            if let Some(oldest) = oldest.or_else(|| logins.iter().position(is_idle)) {
                logins.remove(oldest);
            }
        }
        let login = Arc::<TokenLogin>::default();
        logins.push((identity, Arc::clone(&login)));
        login
    }
}

impl TokenLogin {
    /// Waits until no other caller logs in. Returns `None` if that login does not end in time.
    pub(super) fn take_turn(&self, deadline: Instant) -> Option<LoginTurn<'_>> {
        let free = self.0.lock_free(deadline)?;
        Some(LoginTurn(self.0.take(free, deadline)))
    }
}

impl LoginTurn<'_> {
    /// Returns whether the token has rejected the PIN.
    pub(super) fn has_rejected(&self, pin: &Secret) -> bool {
        self.0.lock().value.rejected.contains(&digest(pin))
    }

    pub(super) fn note_accepted(&self, pin: &Secret) {
        self.0.lock().value.accepted = Some(digest(pin));
    }

    pub(super) fn note_rejected(&self, pin: &Secret) {
        let digest = digest(pin);
        let mut locked = self.0.lock();
        let pins = &mut locked.value;
        // The PIN was changed on the token, so earlier rejections say nothing about the new PIN.
        if pins
            .accepted
            .take_if(|accepted| *accepted == digest)
            .is_some()
        {
            pins.rejected.clear();
        }
        // A token that has rejected so many PINs does not lock.
        if pins.rejected.len() >= MAX_REJECTED {
            pins.rejected.pop_front();
        }
        pins.rejected.push_back(digest);
    }
}

fn digest(pin: &Secret) -> PinDigest {
    Sha256::digest(pin.expose()).into()
}

/// Most tokens whose logins are remembered.
const MAX_TOKENS: usize = 256;
/// Most rejected PINs of a token that are remembered.
const MAX_REJECTED: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn token(serial_number: usize) -> TokenInfo {
        TokenInfo {
            manufacturer: "Double".to_owned(),
            model: String::new(),
            label: "daemon".to_owned(),
            serial_number: serial_number.to_string(),
            is_initialized: true,
            needs_login: true,
            is_pin_locked: false,
        }
    }

    #[test]
    fn the_memory_of_tokens_and_of_pins_is_bounded() {
        let (logins, now) = (TokenLogins::default(), Instant::now());
        let in_use = logins.of(&token(0));
        let pin = |number: usize| Secret::from(number.to_string());
        {
            let login = logins.of(&token(1));
            let turn = login.take_turn(now).unwrap();
            (0..=MAX_REJECTED).for_each(|number| turn.note_rejected(&pin(number)));
            assert_eq!(turn.0.lock().value.rejected.len(), MAX_REJECTED);
            assert!(turn.has_rejected(&pin(MAX_REJECTED)) && !turn.has_rejected(&pin(0)));
        }
        // Tokens without a rejected PIN are forgotten first, and never a login in progress.
        (2..2 * MAX_TOKENS).for_each(|number| drop(logins.of(&token(number))));
        assert_eq!(logins.0.lock().unwrap().len(), MAX_TOKENS);
        assert!(Arc::ptr_eq(&logins.of(&token(0)), &in_use));
        let login = logins.of(&token(1));
        assert!(login.take_turn(now).unwrap().has_rejected(&pin(1)));
        (0..2 * MAX_TOKENS).for_each(|number| {
            let login = logins.of(&token(number));
            login.take_turn(now).unwrap().note_rejected(&pin(0));
        });
        assert_eq!(logins.0.lock().unwrap().len(), MAX_TOKENS);
    }
}
