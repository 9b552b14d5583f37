//! Outcomes of token requests, for an [observer](crate::ConfidentialClientBuilder::observer).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How one token request went, repeats included: what an
/// [observer](crate::ConfidentialClientBuilder::observer) is told. Calls that are served from memory
/// are no token requests.
///
/// It has no tenant, scope or client id, which as labels of a metric would be one time series each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acquisition {
    /// A token, or the kind of the [`Error`].
    pub outcome: Outcome,
    /// Whether it was in the background, for a token that was still good: nobody waited.
    pub is_refresh: bool,
    /// How many requests went out.
    pub attempts: u32,
    /// From the first look-up to the last byte of the last answer, with the waits between.
    pub duration: Duration,
    /// The HTTP status of a failure that was answered.
    pub status: Option<u16>,
    /// The first AADSTS code of a refusal, without the letters.
    pub aadsts: Option<u64>,
}

/// The result of a token request, without the token or the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The identity provider issued a token.
    Issued,
    /// The token request failed with an [`Error`] of this kind.
    Failed(ErrorKind),
}

impl Outcome {
    /// Returns the outcome as a label: `issued`, or the label of the [`ErrorKind`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed(kind) => kind.as_str(),
        }
    }

    pub(crate) fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Issued,
            Err(error) => Self::Failed(error.kind()),
        }
    }
}

/// Who is told; nobody, unless set.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<dyn Fn(Acquisition) + Send + Sync>>);

impl Observer {
    pub(crate) fn new(tell: impl Fn(Acquisition) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// A panic in it is its own: the token is there.
    pub(crate) fn notify(&self, acquisition: Acquisition) {
        let Some(tell) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| tell(acquisition))).is_err() {
            tracing::warn!("the observer of token requests panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn an_outcome_has_a_label_of_its_own() {
        let failure = || Failure::new("no").into();
        for (result, label) in [
            (Ok(()), "issued"),
            (Err(Error::Config(failure())), "config"),
            (Err(Error::Credential(failure())), "credential"),
            (Err(Error::Transport(failure())), "transport"),
            (Err(Error::Throttled(failure())), "throttled"),
            (Err(Error::InvalidResponse(failure())), "invalid_response"),
            (
                Err(Error::InteractionRequired(failure())),
                "interaction_required",
            ),
        ] {
            assert_eq!(Outcome::of(&result).as_str(), label);
        }
        assert_eq!(Outcome::Failed(ErrorKind::Server).as_str(), "server");
    }
}
