//! The PIN of a token, and the login.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use cryptoki::error::RvError;
use tokio::time::timeout_at;

use super::super::failure::{self, AttemptFailed};
use super::super::module::Pkcs11Session;
use super::super::shared_module::Entered;
use super::super::token_logins::LoginTurn;
use super::TokenSessions;
use super::pool::LoggedIn;
use crate::credential::CredentialSource;
use crate::error::{Error, Failure};
use crate::secret::Secret;
use crate::time::format_limit;

/// The PIN of a token.
#[derive(Clone)]
pub(in crate::adapter::pkcs11) enum TokenPin {
    None,
    Fixed(Secret),
    Source(Arc<dyn CredentialSource<Secret>>),
}

impl TokenSessions {
    /// Returns the PIN of the source.
    pub(super) async fn fetch_pin(&self, deadline: Instant) -> Result<Secret, Error> {
        let TokenPin::Source(source) = &self.pin else {
            return Err(self.no_pin());
        };
        let described = source.describe();
        match timeout_at(deadline.into(), source.credential()).await {
            Ok(Ok(pin)) => Ok(pin),
            Ok(Err(error)) => {
                let message = format!(
                    "the PIN of {} cannot be read from the {described}",
                    self.selection
                );
                Err(Error::Credential(
                    Failure::new(message).source(error).in_callback().into(),
                ))
            }
            Err(_) => Err(failure::transient(format!(
                "the PIN of {} cannot be read: the {described} returned nothing within {}",
                self.selection,
                format_limit(self.limit)
            ))),
        }
    }

    /// Looks up the slot, opens a session and logs in, unless the process is logged in already.
    pub(super) fn log_in(
        &self,
        number: u64,
        entered: &Entered<'_>,
        pin: Option<&Secret>,
        deadline: Instant,
    ) -> Result<LoggedIn, AttemptFailed> {
        let module = entered.module();
        let (slot, info) = self.selection.find(module)?;
        self.was_present.store(true, Ordering::Relaxed);
        let token = self.selection.to_string();
        let failed = |call| AttemptFailed::of(call, &token, None);
        let keeper = module.open_session(slot).map_err(failed)?;
        let login = || -> Result<_, AttemptFailed> {
            let mechanisms = module.mechanisms(slot).map_err(failed)?;
            if info.needs_login && !keeper.is_logged_in().map_err(failed)? {
                if info.is_pin_locked {
                    return Err(AttemptFailed::Final(pin_locked(&token)));
                }
                let pin = pin.ok_or(AttemptFailed::NeedsPin)?;
                check_pin(pin, &token).map_err(AttemptFailed::Final)?;
                let login = entered.logins().of(&info);
                let turn = login.take_turn(deadline);
                let turn = turn.ok_or_else(|| AttemptFailed::Final(failure::busy_login(&token)))?;
                // Another caller may have logged in while this one waited for the turn.
                if !keeper.is_logged_in().map_err(failed)? {
                    self.log_in_with(&*keeper, &turn, pin)?;
                }
            }
            Ok(mechanisms)
        };
        match login() {
            Ok(mechanisms) => Ok(LoggedIn {
                number,
                generation: entered.generation(),
                slot,
                mechanisms: mechanisms.into(),
                keeper,
                idle: Vec::new(),
                in_use: 0,
                waiting: 0,
                keys: Arc::default(),
            }),
            Err(error) => {
                keeper.close();
                Err(error)
            }
        }
    }

    /// Logs in. A rejected PIN counts towards the lock of the token, and is never tried again.
    fn log_in_with(
        &self,
        session: &dyn Pkcs11Session,
        turn: &LoginTurn<'_>,
        pin: &Secret,
    ) -> Result<(), AttemptFailed> {
        let token = self.selection.to_string();
        if turn.has_rejected(pin) {
            return Err(AttemptFailed::Final(pin_rejected(&token)));
        }
        let Err(call) = session.login(pin) else {
            turn.note_accepted(pin);
            return Ok(());
        };
        match call.code {
            Some(RvError::UserAlreadyLoggedIn) => Ok(()),
            Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
                turn.note_rejected(pin);
                Err(AttemptFailed::Final(pin_rejected(&token)))
            }
            Some(RvError::PinLocked) => Err(AttemptFailed::Final(pin_locked(&token))),
            // The session or the token is gone, so the token has not judged the PIN.
            Some(
                RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::CryptokiNotInitialized,
            ) => Err(AttemptFailed::of(call, &token, None)),
            _ => Err(AttemptFailed::Final(failure::error_of(call, &token, None))),
        }
    }

    pub(super) fn no_pin(&self) -> Error {
        Error::config(format!(
            "{} needs a PIN; set the PIN with pin(..) or pin_source(..)",
            self.selection
        ))
    }
}

/// Checks that a PIN is not a mistake, which would count towards the lock of the token.
fn check_pin(pin: &Secret, token: &str) -> Result<(), Error> {
    let pin = pin.expose();
    if pin.is_empty() {
        return Err(Error::config(format!("the PIN of {token} is empty")));
    }
    if pin.trim() != pin {
        return Err(Error::config(format!(
            "the PIN of {token} begins or ends with white space; a file usually ends in a newline, so trim what was read from it"
        )));
    }
    Ok(())
}

fn pin_rejected(token: &str) -> Error {
    Error::credential(format!(
        "{token} rejected the PIN; wrong PINs lock a token, so the program does not try this PIN again; give another PIN, or restart the program if the token has this PIN by now"
    ))
}

fn pin_locked(token: &str) -> Error {
    Error::credential(format!(
        "the PIN of {token} is locked after too many wrong PINs; let the security officer of the token set a new PIN"
    ))
}
