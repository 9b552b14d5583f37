use std::fmt;

use zeroize::Zeroizing;

/// A client secret: hidden from `Debug`, wiped from memory when dropped.
///
/// Made from a `String` or a `&str`; the caller's own copy of a `&str` is the caller's to wipe.
/// What is wiped is this value: the body of a token request, which must contain the secret, is
/// freed unwiped once it has been sent.
///
/// ```
/// use confidential_client::Secret;
///
/// let secret = Secret::from("correct horse");
/// assert_eq!(format!("{secret:?}"), "Secret([redacted])");
/// assert_eq!(secret.expose(), "correct horse");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself: the one way in, so that a search for `expose` finds every use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(Zeroizing::new(secret.to_owned()))
    }
}

impl From<&String> for Secret {
    fn from(secret: &String) -> Self {
        Self::from(secret.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}
