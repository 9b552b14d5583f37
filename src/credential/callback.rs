use std::error::Error as StdError;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{Error, Failure};
use crate::time::shown;

/// Asks what somebody else wrote: a closure, a vault, a file on a network. It has a limit, it ends
/// when nobody waits for it any more, and a panic in it is a failure like any other; `message` says
/// what there is not then.
pub(super) async fn ask<T: Send + 'static>(
    message: &str,
    limit: Duration,
    answer: impl Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'static,
) -> Result<T, Error> {
    let mut task = JoinSet::new();
    task.spawn(answer);
    let source = match timeout(limit, task.join_next()).await {
        Ok(Some(Ok(Ok(answer)))) => return Ok(answer),
        Ok(Some(Ok(Err(source)))) => source,
        Ok(Some(Err(panicked))) => panicked.into(),
        Ok(None) | Err(_) => {
            let failure = Failure::new(format!("{message} within {}", shown(limit)));
            return Err(Error::Credential(failure.in_callback().into()));
        }
    };
    Err(match source.downcast_ref::<Error>() {
        // What one of ours says about a credential is all there is to say.
        Some(error @ Error::Credential(_)) => error.clone(),
        _ => {
            let failure = Failure::new(message).source(source);
            Error::Credential(failure.in_callback().into())
        }
    })
}
