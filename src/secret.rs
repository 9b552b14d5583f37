use std::fmt;

use zeroize::Zeroizing;

/// A client secret that `Debug` hides and that is wiped from memory on drop.
///
/// Create a `Secret` from a `String` or a `&str`. The caller must wipe the text behind a `&str`.
/// Only this value is wiped. The body of a token request must contain the secret, and the
/// client frees the body without wiping after sending.
///
/// An error masks a secret of eight characters or more where a server's text repeats the secret as
/// a whole word. The secret may be encoded for a URL, a form, JSON or HTML, in base64 or in
/// hexadecimal, and be split by tags or line breaks. A shorter secret is not masked, because
/// ordinary text contains the same word. Codes such as `invalid_client` are never masked.
///
/// ```
/// use confidential_client::Secret;
///
/// let secret = Secret::from("correct horse");
/// assert_eq!(format!("{secret:?}"), "Secret([redacted])");
/// assert_eq!(secret.expose(), "correct horse");
/// ```
#[doc(alias = "ClientSecretCredential")]
#[doc(alias = "client_secret")]
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the secret in plain text.
    ///
    /// No other method returns the secret, so a search for `expose` finds every use.
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
