//! Errors of a token, in words of this crate.

use cryptoki::context::Function;
use cryptoki::error::RvError;

use super::module::CallFailed;
use crate::error::{Error, Failure};

/// The reason why one attempt with a token failed.
pub(super) enum AttemptFailed {
    /// Another attempt fails in the same way.
    Final(Error),
    /// The login is missing and the attempt had no PIN.
    NeedsPin,
    /// A session, the login or an object handle may be out of date.
    Stale {
        error: Error,
        /// True if somebody has finalized the module.
        is_finalized: bool,
    },
    /// The token is not among the slots. Some modules see a new token only after they are
    /// initialized again.
    Missing {
        error: Error,
        /// True if the module could not list its slots or a token.
        has_failed: bool,
    },
}

impl AttemptFailed {
    /// Returns the failure of a call with a session of the token.
    pub(super) fn of(call: CallFailed, token: &str, key: Option<&str>) -> Self {
        // A new login needs more sessions, not less.
        if call.code == Some(RvError::SessionCount) {
            return Self::Final(error_of(call, token, key));
        }
        Self::Stale {
            error: error_of(call, token, key),
            is_finalized: is_finalized(&call),
        }
    }

    /// Returns a failure that new objects on the token may end.
    pub(super) fn stale(error: Error) -> Self {
        Self::Stale {
            error,
            is_finalized: false,
        }
    }
}

/// The reason why a module lets no call in.
pub(super) enum EnterFailed {
    /// The module cannot be initialized.
    Call(CallFailed),
    /// Another caller initializes or finalizes the module, and has not come to an end.
    Busy,
}

/// Returns whether somebody in the process has finalized the module.
pub(super) fn is_finalized(call: &CallFailed) -> bool {
    call.code == Some(RvError::CryptokiNotInitialized)
}

/// Returns a failure that time may end, such as that of a device.
pub(super) fn transient(message: String) -> Error {
    Error::Credential(Failure::new(message).in_callback().into())
}

/// Returns the error of a call, with advice.
pub(super) fn error_of(call: CallFailed, token: &str, key: Option<&str>) -> Error {
    let object = match key {
        Some(key) => format!("{key} on {token}"),
        None => token.to_owned(),
    };
    let Some(code) = call.code else {
        return Error::credential(format!("{object} cannot be used: {call}"));
    };
    match code {
        RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::TokenNotRecognized => {
            transient(format!("{token} was removed; insert the token ({call})"))
        }
        RvError::SlotIdInvalid => transient(format!(
            "{token} has no slot any more; insert the token ({call})"
        )),
        RvError::PinExpired => Error::credential(format!(
            "the PIN of {token} has expired; set another PIN on the token and in the program ({call})"
        )),
        RvError::UserPinNotInitialized => Error::credential(format!(
            "{token} has no user PIN; let the security officer of the token set one ({call})"
        )),
        RvError::UserAnotherAlreadyLoggedIn | RvError::SessionReadWriteSoExists => {
            transient(format!(
                "the security officer of {token} is logged in from this process, and the user cannot be; let the security officer log out ({call})"
            ))
        }
        RvError::SessionCount => transient(format!(
            "{token} allows no more sessions; the crate opens max_sessions and one more; set a smaller max_sessions, or close the sessions of other programs ({call})"
        )),
        RvError::UserNotLoggedIn => transient(format!(
            "the user of {token} is not logged in, although the login succeeded; does another part of the program log out? ({call})"
        )),
        RvError::MechanismInvalid | RvError::MechanismParamInvalid => Error::credential(format!(
            "{object} cannot make a signature of this kind; set another signing_algorithm ({call})"
        )),
        RvError::KeyFunctionNotPermitted => Error::credential(not_for_signing(&object, &call)),
        RvError::KeyTypeInconsistent | RvError::KeySizeRange => Error::credential(format!(
            "{object} has a type or a size that does not fit the signature; set another signing_algorithm, or use another key ({call})"
        )),
        RvError::ObjectHandleInvalid | RvError::KeyHandleInvalid => {
            transient(format!("{object} disappeared during the call ({call})"))
        }
        RvError::SessionHandleInvalid | RvError::SessionClosed => transient(format!(
            "{token} closed the session of the call; was the token removed? ({call})"
        )),
        RvError::CryptokiNotInitialized => transient(format!(
            "another part of the program finalized the PKCS#11 module of {token} during the call; leave the module to one of the parts ({call})"
        )),
        _ => transient(format!(
            "{object} failed: {call}; see the log of the module"
        )),
    }
}

/// Returns the message for a key that must not sign. `reason` is an attribute or a code.
pub(super) fn not_for_signing(object: &str, reason: &dyn std::fmt::Display) -> String {
    format!(
        "{object} is not allowed to sign; create a key with the usage 'sign' (CKA_SIGN) ({reason})"
    )
}

/// Returns the error of a module that lets no call in.
pub(super) fn not_entered(failed: EnterFailed, module: &str) -> Error {
    let EnterFailed::Call(call) = failed else {
        return busy_module(module);
    };
    let advice = match call.function {
        Function::Initialize => {
            "check the configuration of the module, such as its variables and the rights of its files"
        }
        _ => "see the log of the module",
    };
    transient(format!(
        "the PKCS#11 module {module} cannot be initialized: {call}; {advice}"
    ))
}

/// Returns the error for a caller that waits for another caller's load, initialize or finalize.
pub(super) fn busy_module(module: &str) -> Error {
    transient(format!(
        "the PKCS#11 module {module} is being loaded, initialized or finalized for another caller, and did not return in time; restart the program if that lasts"
    ))
}

/// Returns the error for a caller that waits for another caller's login.
pub(super) fn busy_login(token: &str) -> Error {
    transient(format!(
        "another caller logs in to {token}, and the login did not return in time; check the device and its network, and restart the program if that lasts"
    ))
}
