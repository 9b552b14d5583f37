use std::error::Error as StdError;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{Error, Failure};
use crate::time::format_limit;

/// Runs code of the caller, such as a closure that calls a vault.
///
/// The code runs in a task and has a time limit. Dropping the returned future aborts the task.
/// Every failure, also a panic, becomes an [`Error::Credential`] with `message`.
pub(crate) async fn call<T: Send + 'static>(
    message: &str,
    limit: Duration,
    callback: impl Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'static,
) -> Result<T, Error> {
    let mut task = JoinSet::new();
    task.spawn(callback);
    let source = match timeout(limit, task.join_next()).await {
        Ok(Some(Ok(Ok(value)))) => return Ok(value),
        Ok(Some(Ok(Err(source)))) => source,
        Ok(Some(Err(panicked))) => panicked.into(),
        Ok(None) | Err(_) => {
            let failure = Failure::new(format!("{message} within {}", format_limit(limit)));
            return Err(Error::Credential(failure.in_callback().into()));
        }
    };
    Err(match source.downcast_ref::<Error>() {
        // A credential error of this crate already says everything.
        Some(error @ Error::Credential(_)) => error.clone(),
        _ => {
            let failure = Failure::new(message).source(source);
            Error::Credential(failure.in_callback().into())
        }
    })
}
