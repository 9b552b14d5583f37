use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::error::{Error, Failure};
use crate::runtime_thread::RuntimeThread;

/// Runs the async set-up of a test in a program that is not async (feature `blocking`).
///
/// The servers that `set_up` starts run on one thread for the whole process, until they are
/// dropped.
///
/// ```
/// use confidential_client::blocking::ConfidentialClient;
/// use confidential_client::testing::{Application, LocalAuthority, block_on};
///
/// # fn main() -> Result<(), confidential_client::Error> {
/// let local = block_on(LocalAuthority::start())?;
/// local.register("contoso.com", Application::new("client").secret("the secret's value"));
/// let api = block_on(local.protected_api("https://graph.microsoft.com"))?;
///
/// let client = ConfidentialClient::builder("client")
///     .authority(local.authority("contoso.com"))
///     .client_secret("the secret's value")
///     .build_blocking()?;
/// client.acquire_token_for_client("https://graph.microsoft.com/.default")?;
/// client.acquire_token_for_client("https://graph.microsoft.com/.default")?;
/// assert_eq!(local.token_requests().len(), 1); // the second token came from the cache
/// # let _ = api.base_url();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The error of `set_up`. [`Error::Config`] inside a tokio runtime, where `.await` is possible.
pub fn block_on<T>(set_up: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    if Handle::try_current().is_ok() {
        return Err(Error::config(
            "testing::block_on(..) cannot wait inside a tokio runtime; write set_up.await instead",
        ));
    }
    server_runtime()?.block_on(set_up)
}

fn server_runtime() -> Result<Handle, Error> {
    static THREAD: Mutex<Option<RuntimeThread>> = Mutex::new(None);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let started = match thread.take() {
        Some(started) => started,
        None => RuntimeThread::start().map_err(|error| {
            let failure = Failure::new("the thread for the servers of the test cannot be started");
            Error::Transport(failure.not_sent().source(Box::new(error)).into())
        })?,
    };
    Ok(thread.insert(started).handle().clone())
}
