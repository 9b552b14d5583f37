//! The calls of a PKCS#11 module, as the adapter uses them.

use std::fmt;

use cryptoki::context::Function;
use cryptoki::error::RvError;
use cryptoki::object::ObjectHandle;

use crate::secret::Secret;

/// A loaded module. The tests have a double.
pub(super) trait Pkcs11Module: Send + Sync {
    /// Initializes the module. A module that is initialized already is a success.
    fn initialize(&self) -> Result<(), CallFailed>;

    /// Ends every session of the process with the module.
    fn finalize(&self) -> Result<(), CallFailed>;

    /// Returns the ids of the slots with a token.
    fn slots(&self) -> Result<Vec<u64>, CallFailed>;

    fn token_info(&self, slot: u64) -> Result<TokenInfo, CallFailed>;

    fn mechanisms(&self, slot: u64) -> Result<Vec<Pkcs11Mechanism>, CallFailed>;

    fn open_session(&self, slot: u64) -> Result<Box<dyn Pkcs11Session>, CallFailed>;
}

/// A session with a token. Dropping the session does not close the session.
///
/// After a finalize, the number of a session may belong to a later session of somebody else.
/// Closing such a session would end the wrong one.
pub(super) trait Pkcs11Session: Send {
    /// Returns whether the user is logged in. All sessions of the process share the login.
    fn is_logged_in(&self) -> Result<bool, CallFailed>;

    fn login(&self, pin: &Secret) -> Result<(), CallFailed>;

    fn find(&self, query: &ObjectQuery) -> Result<Vec<FoundObject>, CallFailed>;

    fn sign(
        &self,
        mechanism: Pkcs11Mechanism,
        key: KeyHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, CallFailed>;

    fn close(self: Box<Self>);
}

/// A mechanism of signatures that the adapter uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pkcs11Mechanism {
    /// Hashes and signs with RSASSA-PSS.
    Sha256RsaPss,
    /// Signs a digest with RSASSA-PSS.
    RsaPss,
    /// Hashes and signs with RSASSA-PKCS1-v1_5.
    Sha256RsaPkcs,
    /// Signs an encoded digest with RSASSA-PKCS1-v1_5.
    RsaPkcs,
    /// Signs a digest with ECDSA.
    Ecdsa,
}

/// The facts of a token that select the token and the login.
#[derive(Clone, Debug)]
pub(super) struct TokenInfo {
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) label: String,
    pub(super) serial_number: String,
    pub(super) is_initialized: bool,
    pub(super) needs_login: bool,
    pub(super) is_pin_locked: bool,
}

/// The class of an object on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ObjectKind {
    PrivateKey,
    Certificate,
}

/// A search for objects. `None` matches every label or id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectQuery {
    pub(super) kind: ObjectKind,
    pub(super) label: Option<String>,
    pub(super) id: Option<Vec<u8>>,
}

/// A private key or a certificate on a token.
#[derive(Clone, Debug)]
pub(super) struct FoundObject {
    pub(super) handle: KeyHandle,
    pub(super) label: String,
    pub(super) id: Vec<u8>,
    /// The DER of a certificate. Empty for a key.
    pub(super) value: Vec<u8>,
    pub(super) key: KeyFacts,
}

/// The facts of a private key that decide which signatures the key can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyFacts {
    pub(super) family: KeyFamily,
    /// The modulus of an RSA key, if the token returns the modulus.
    pub(super) modulus: Option<Vec<u8>>,
    /// The DER of the curve's parameters, if the token returns the parameters.
    pub(super) curve: Option<Vec<u8>>,
    pub(super) can_sign: bool,
    /// True if the token requests the PIN for every signature.
    pub(super) always_authenticate: bool,
}

/// The family of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFamily {
    Rsa,
    EllipticCurve,
    Edwards,
    Other,
}

/// The number of an object in the sessions of the process.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyHandle {
    Module(ObjectHandle),
    #[cfg(test)]
    Double(u64),
}

impl KeyHandle {
    /// Returns the handle for a real module. The tests have others.
    pub(super) fn of_module(self) -> Option<ObjectHandle> {
        match self {
            Self::Module(handle) => Some(handle),
            #[cfg(test)]
            Self::Double(_) => None,
        }
    }
}

/// A call of the module that failed.
///
/// The texts of the crate cryptoki quote paragraphs of the specification. This type has the names
/// of the function and of the code alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallFailed {
    pub(super) function: Function,
    /// `None` if the module has no such function, or if the response cannot be read.
    pub(super) code: Option<RvError>,
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(RvError::VendorDefined(code) | RvError::UnknownErrorCode(code)) => {
                write!(f, "C_{:?} returned {code:#x}", self.function)
            }
            Some(code) => {
                write!(f, "C_{:?} returned CKR", self.function)?;
                for letter in format!("{code:?}").chars() {
                    if letter.is_ascii_uppercase() {
                        f.write_str("_")?;
                    }
                    write!(f, "{}", letter.to_ascii_uppercase())?;
                }
                Ok(())
            }
            None => write!(
                f,
                "C_{:?} is missing or its result cannot be read",
                self.function
            ),
        }
    }
}
