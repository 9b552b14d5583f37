use std::fmt;

/// The kind of an [`Error`](crate::Error): its variant, without the details.
///
/// Suited to labels of metrics, counters and tests. [`Error::kind`](crate::Error::kind) returns
/// the kind of an error.
///
/// ```
/// use confidential_client::{ConfidentialClient, ErrorKind};
///
/// let error = ConfidentialClient::builder("client").build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert_eq!(error.kind().as_str(), "config");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's code or configuration is wrong ([`Error::Config`](crate::Error::Config)).
    Config,
    /// The credential is unusable ([`Error::Credential`](crate::Error::Credential)).
    Credential,
    /// No response arrived ([`Error::Transport`](crate::Error::Transport)).
    Transport,
    /// The response is an OAuth error ([`Error::Server`](crate::Error::Server)).
    Server,
    /// The identity provider limits requests ([`Error::Throttled`](crate::Error::Throttled)).
    Throttled,
    /// The response is unreadable ([`Error::InvalidResponse`](crate::Error::InvalidResponse)).
    InvalidResponse,
    /// A user must sign in ([`Error::InteractionRequired`](crate::Error::InteractionRequired)).
    InteractionRequired,
}

impl ErrorKind {
    /// All kinds, in the order of their discriminants.
    pub(crate) const ALL: [Self; 7] = [
        Self::Config,
        Self::Credential,
        Self::Transport,
        Self::Server,
        Self::Throttled,
        Self::InvalidResponse,
        Self::InteractionRequired,
    ];

    /// Returns the kind as a label: `config`, `credential`, `transport`, `server`, `throttled`,
    /// `invalid_response` or `interaction_required`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Credential => "credential",
            Self::Transport => "transport",
            Self::Server => "server",
            Self::Throttled => "throttled",
            Self::InvalidResponse => "invalid_response",
            Self::InteractionRequired => "interaction_required",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_are_listed_by_discriminant_and_have_distinct_labels() {
        let mut labels = Vec::new();
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind}");
            assert_eq!(kind.to_string(), kind.as_str());
            labels.push(kind.as_str());
        }
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
    }
}
