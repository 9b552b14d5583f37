use std::fmt;
use std::time::Duration;

/// The kind of the client's credential and the place where the credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CredentialOrigin {
    pub(crate) kind: CredentialKind,
    /// Describes the source, such as a file with its path. `None` for a fixed credential.
    pub(crate) source: Option<String>,
}

/// The kind of the client's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    Secret,
    /// A certificate, with which this client signs assertions.
    Certificate,
    /// An assertion that somebody else signed.
    Assertion,
    /// A certificate, with which this client authenticates its connections.
    TlsCertificate,
}

impl CredentialKind {
    /// Returns the noun of the credential in messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate | Self::TlsCertificate => "certificate",
            Self::Assertion => "assertion",
        }
    }
}

impl CredentialOrigin {
    /// Returns whether the client authenticates by a signed assertion.
    pub(crate) fn sends_assertion(&self) -> bool {
        matches!(
            self.kind,
            CredentialKind::Certificate | CredentialKind::Assertion
        )
    }
}

/// The result of a comparison of this machine's clock with the identity provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockCheck {
    /// The response has no readable `Date`.
    Unknown,
    Agrees,
    Ahead(Duration),
    Behind(Duration),
}

/// Prints the difference of the clocks, and nothing if the clocks agree.
impl fmt::Display for ClockCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (difference, direction) = match self {
            Self::Unknown | Self::Agrees => return Ok(()),
            Self::Ahead(difference) => (difference, "ahead of"),
            Self::Behind(difference) => (difference, "behind"),
        };
        write!(
            f,
            "this machine's clock is {} s {direction} the identity provider's",
            difference.as_secs()
        )
    }
}
