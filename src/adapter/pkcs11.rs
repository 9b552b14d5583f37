use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::credential::CredentialSource;
use crate::secret::Secret;

mod cryptoki_module;
mod failure;
mod key;
mod module;
mod objects;
mod selection;
mod sessions;
mod shared_module;
mod signature;
#[cfg(test)]
mod tests;
mod token_logins;
mod turn;

pub use key::Pkcs11Key;
use selection::{ObjectName, TokenSelection};
use sessions::{TokenPin, TokenSessions};

/// A token with private keys, such as an HSM, a smart card or a USB key, behind a PKCS#11 module.
///
/// The keys sign client assertions on the token and never leave the token. [`key`](Self::key)
/// selects a private key and its certificate. The guide
/// [Keys in an HSM](crate::guides::keys_in_an_hsm) has the commands that put both on a token.
///
/// ```
/// use confidential_client::ConfidentialClient;
/// use confidential_client::adapter::Pkcs11Token;
/// use confidential_client::credential::SecretFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let token = Pkcs11Token::new("/usr/lib/softhsm/libsofthsm2.so")
///     .label("daemon")
///     .pin_source(SecretFile::new("/run/secrets/pin"));
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .certificate_source(token.key("signing"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
///
/// The constructor and the setters do no I/O. The first signature and the first read of a
/// certificate load the module, find the token, log in and find the key. Settings that cannot be
/// used are errors of that call. [`Pkcs11Key::certificate`] finds them at the start of a program.
///
/// Clones, and all keys of a token, share one pool of sessions. Set all settings before the first
/// [`key`](Self::key). A setter starts a separate pool.
///
/// # Sessions and threads
///
/// Calls of the module block, so they run on tokio's blocking thread pool, at most
/// [`max_sessions`](Self::max_sessions) at a time. Other callers wait. A call that does not return
/// within 9 seconds is an error for its caller, and so is the wait for the login of another caller.
/// The thread and the session stay with the call until the call returns, so calls that hang forever
/// use up the sessions, and no further threads. All tokens of a process together use at most 128
/// threads. A runtime that is dropped waits for a call that hangs, unless the program ends the
/// runtime by `shutdown_timeout` or `shutdown_background`.
///
/// One more session stays open without being used. A token logs out as soon as a process closes the
/// last of its sessions. Callers wait for a session if the token allows no more.
///
/// # The PIN
///
/// The PIN is read before a login, and not before each signature. All sessions of a process share
/// one login. Where another part of the program is logged in already, the PIN is neither read nor
/// checked.
///
/// A wrong PIN is never tried again, since wrong PINs lock a token. One caller at a time logs in to
/// a token. The process remembers the digests of the rejected PINs of each token, for all clients
/// and for all copies of a module. A token is known by manufacturer, model, serial number and
/// label. Another PIN works without a restart. After a PIN that was accepted before is rejected,
/// the PINs that were rejected earlier may be tried again, since the PIN was changed on the token.
/// In any other case, a PIN that was rejected and that the token has by now needs a restart.
///
/// The process remembers 64 rejected PINs of a token, and 256 tokens.
///
/// # Recovery
///
/// After an error of a signature or a search, the sessions are closed, and slot, login and key are
/// looked up once more, before the caller gets the error. So a logout by another part of the
/// program, or a token that is put back, needs no restart.
///
/// Some modules see a token again only after they are initialized again. If the module cannot list
/// its slots or tokens, or if a token that was there is gone, the module is finalized and
/// initialized, at most once a minute. A finalize ends the sessions of **every** user of the module
/// in the process. All tokens of this crate find their sessions again. Load a module in one part of
/// a program only.
///
/// # Processes
///
/// A process that was forked must not use the token of its parent. Create the token after the fork.
/// The module is initialized again for the new process. Fork while no call is in the module.
#[doc(alias("HSM", "PKCS11", "smart card", "SoftHSM", "YubiKey", "cryptoki"))]
#[derive(Clone)]
pub struct Pkcs11Token {
    sessions: Arc<TokenSessions>,
}

impl Pkcs11Token {
    /// Creates a token of the module at `path`, a shared library that comes with the token. Does no
    /// I/O.
    ///
    /// Without [`label`](Self::label), [`serial_number`](Self::serial_number) or
    /// [`slot`](Self::slot), the module must have exactly one token.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let sessions = TokenSessions::new(
            path.into(),
            TokenSelection::default(),
            TokenPin::None,
            MAX_SESSIONS,
        );
        Self {
            sessions: Arc::new(sessions),
        }
    }

    /// Selects the token by its label. Spaces at the end do not count.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        self.select(|selection| selection.label = Some(label.into()))
    }

    /// Selects the token by its serial number, where several tokens have one label.
    #[must_use]
    pub fn serial_number(self, serial_number: impl Into<String>) -> Self {
        self.select(|selection| selection.serial_number = Some(serial_number.into()))
    }

    /// Selects the token by the id of its slot.
    ///
    /// Prefer label or serial number. Many modules change these ids when a token is added.
    #[must_use]
    pub fn slot(self, id: u64) -> Self {
        self.select(|selection| selection.slot = Some(id))
    }

    /// Sets the PIN of the token's user.
    #[must_use]
    pub fn pin(self, pin: impl Into<Secret>) -> Self {
        self.with_pin(TokenPin::Fixed(pin.into()))
    }

    /// Sets the source of the PIN, such as a [`SecretFile`](crate::credential::SecretFile).
    ///
    /// The source is called before each login. After a wrong PIN, another PIN from the source works
    /// without a restart.
    #[must_use]
    pub fn pin_source(self, source: impl CredentialSource<Secret>) -> Self {
        self.with_pin(TokenPin::Source(Arc::new(source)))
    }

    /// Sets the largest number of sessions and of threads in the module. The default is 8.
    ///
    /// One session more stays open without being used. Zero is an error of the first call.
    #[must_use]
    pub fn max_sessions(self, max_sessions: usize) -> Self {
        let Self { sessions } = self;
        Self::from_parts(
            &sessions,
            sessions.selection.clone(),
            sessions.pin.clone(),
            max_sessions,
        )
    }

    /// Returns the private key with a label (`CKA_LABEL`), and its certificate. Does no I/O.
    pub fn key(&self, label: impl Into<String>) -> Pkcs11Key {
        self.named(ObjectName {
            label: Some(label.into()),
            id: None,
        })
    }

    /// Returns the private key with an id (`CKA_ID`), and its certificate. Does no I/O.
    ///
    /// `pkcs11-tool --list-objects` shows ids in hexadecimal. The id `01` is `[0x01]` here.
    pub fn key_by_id(&self, id: impl Into<Vec<u8>>) -> Pkcs11Key {
        self.named(ObjectName {
            label: None,
            id: Some(id.into()),
        })
    }

    fn named(&self, name: ObjectName) -> Pkcs11Key {
        Pkcs11Key::new(Arc::clone(&self.sessions), name)
    }

    fn select(self, change: impl FnOnce(&mut TokenSelection)) -> Self {
        let Self { sessions } = self;
        let mut selection = sessions.selection.clone();
        change(&mut selection);
        Self::from_parts(
            &sessions,
            selection,
            sessions.pin.clone(),
            sessions.max_sessions,
        )
    }

    fn with_pin(self, pin: TokenPin) -> Self {
        let Self { sessions } = self;
        Self::from_parts(
            &sessions,
            sessions.selection.clone(),
            pin,
            sessions.max_sessions,
        )
    }

    fn from_parts(
        old: &TokenSessions,
        selection: TokenSelection,
        pin: TokenPin,
        max_sessions: usize,
    ) -> Self {
        let sessions = TokenSessions::new(old.path.clone(), selection, pin, max_sessions);
        Self {
            sessions: Arc::new(sessions),
        }
    }
}

impl fmt::Debug for Pkcs11Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Token")
            .field("path", &self.sessions.path)
            .field("token", &self.sessions.selection.to_string())
            .field("max_sessions", &self.sessions.max_sessions)
            .finish_non_exhaustive()
    }
}

/// Default of the largest number of sessions.
const MAX_SESSIONS: usize = 8;
