//! Handshakes whose signature is made outside the process, by an asynchronous [`Signer`].
//!
//! rustls signs synchronously, inside of the task that opens the connection. Waiting there would
//! stop a current-thread runtime, and with it the signer. So a runtime of its own opens such
//! connections. Its one worker hands its other tasks on while it waits, and the signature is made
//! on the runtime of the caller, where the signer's own connections are.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::AlertDescription;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::block_in_place;
use tower_layer::Layer;
use tower_service::Service;

use crate::certificate::Certificate;
use crate::credential::{Signer, call_provider, check_signature};
use crate::error::Error;
use crate::time::format_limit;
use crate::transport::causes;
use crate::transport::driver::DriverTask;

type ConnectError = Box<dyn StdError + Send + Sync>;

tokio::task_local! {
    /// The runtime of the caller, whose request opens a connection.
    static CALLER: Handle;
}

/// Notes the runtime of the caller for a request that another runtime sends.
pub(in crate::transport) fn from_caller<F: Future>(request: F) -> impl Future<Output = F::Output> {
    let caller = Handle::try_current().ok();
    async move {
        match caller {
            Some(caller) => CALLER.scope(caller, request).await,
            None => request.await,
        }
    }
}

/// Signs a handshake by a signer outside the process. Blocks the thread, for at most `limit`.
///
/// # Errors
///
/// [`Error::Credential`] if the signer fails, returns a wrong signature, or does not answer.
pub(super) fn sign(
    certificate: &Certificate,
    signer: &Arc<dyn Signer>,
    message: &[u8],
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let Ok(caller) = CALLER.try_with(Clone::clone) else {
        return Err(Error::credential(format!(
            "{NOT_SIGNED}: the connection was not opened by the HTTP client of a MutualTls"
        )));
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    let (signer, algorithm) = (Arc::clone(signer), certificate.algorithm());
    let to_sign = message.to_vec();
    let task = caller.spawn(async move {
        let signing = async move { signer.sign(algorithm, to_sign).await };
        let _ = sender.send(call_provider(NOT_SIGNED, limit, signing).await);
    });
    // The caller's runtime may stop, and then nothing of it ends the wait.
    let received = block_in_place(|| receiver.recv_timeout(limit.saturating_add(SPARE)));
    task.abort();
    let signature = match received {
        Ok(signature) => signature?,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            return Err(Error::credential(format!(
                "{NOT_SIGNED} within {}, because the runtime of the caller stands still",
                format_limit(limit)
            )));
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            return Err(Error::credential(format!(
                "{NOT_SIGNED}, because the runtime of the caller has stopped"
            )));
        }
    };
    check_signature(certificate, message, &signature)?;
    Ok(signature)
}

/// Returns the error of the signature among the causes of a failed request.
pub(crate) fn signing_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    causes(error).find_map(|cause| match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::Other(other) => other.0.downcast_ref::<Error>().cloned(),
        _ => None,
    })
}

/// Returns whether the server rejected the client certificate in the handshake.
pub(crate) fn rejects_certificate(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        let alert = match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::AlertReceived(alert)) => alert,
            _ => return false,
        };
        matches!(
            alert,
            AlertDescription::AccessDenied
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate
        )
    })
}

/// Opens the connections of an HTTP client on the runtime for handshakes.
#[derive(Clone, Copy)]
pub(super) struct HandshakeLayer;

#[derive(Clone)]
pub(super) struct HandshakeConnector<S>(S);

impl<S> Layer<S> for HandshakeLayer {
    type Service = HandshakeConnector<S>;

    fn layer(&self, connector: S) -> Self::Service {
        HandshakeConnector(connector)
    }
}

impl<S, R> Service<R> for HandshakeConnector<S>
where
    S: Service<R, Error = ConnectError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let caller = match CALLER.try_with(Clone::clone) {
                Ok(caller) => caller,
                Err(_) => Handle::try_current()?,
            };
            let connecting = CALLER.scope(caller, connecting);
            DriverTask::spawn(&runtime()?, connecting).await?
        })
    }
}

/// Returns the runtime for handshakes, which starts with the first such connection and runs as long
/// as the process, because the connections read their responses by it.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let started = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("confidential-client-tls")
        .enable_all()
        .build()?;
    Ok(runtime.insert(started).handle().clone())
}

const NOT_SIGNED: &str = "the TLS handshake could not be signed";
/// The signer's own limit comes first, and its message says more.
const SPARE: Duration = Duration::from_secs(1);

#[cfg(all(test, feature = "testing"))]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::crypto::SigningAlgorithm;

    fn certificate(signer: impl Signer) -> (Certificate, Arc<dyn Signer>) {
        let pem = crate::testing::self_signed_certificate("daemon").unwrap();
        let signer: Arc<dyn Signer> = Arc::new(signer);
        let unused = |_: SigningAlgorithm, _: Vec<u8>| async { Err("unused".into()) };
        (Certificate::from_signer(pem, unused).unwrap(), signer)
    }

    /// Signs as rustls does, in a task of the runtime for handshakes.
    async fn sign_from(caller: Handle, signer: impl Signer, limit: Duration) -> Error {
        let (certificate, signer) = certificate(signer);
        let signing = async move { sign(&certificate, &signer, b"message", limit).unwrap_err() };
        let task = DriverTask::spawn(&runtime().unwrap(), CALLER.scope(caller, signing));
        task.await.unwrap()
    }

    #[tokio::test]
    async fn a_signer_that_never_answers_has_a_time_limit() {
        let never = |_: SigningAlgorithm, _: Vec<u8>| pending();
        let limit = Duration::from_millis(100);
        let error = sign_from(Handle::current(), never, limit).await;
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the TLS handshake could not be signed within 0.1 s"
        );
    }

    #[tokio::test]
    async fn a_runtime_of_the_caller_that_stopped_is_named() {
        let signs = |_: SigningAlgorithm, _: Vec<u8>| async { Ok(Vec::new()) };
        let stopped = tokio::task::spawn_blocking(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.handle().clone()
        });
        let error = sign_from(stopped.await.unwrap(), signs, Duration::from_secs(60)).await;
        assert!(error.to_string().contains("has stopped"), "{error}");
    }

    /// Not to panic: `block_in_place` panics on a current-thread runtime.
    #[tokio::test]
    async fn a_connection_of_another_client_is_an_error() {
        let signs = |_: SigningAlgorithm, _: Vec<u8>| async { Ok(Vec::new()) };
        let (certificate, signer) = certificate(signs);
        let error = sign(&certificate, &signer, b"message", Duration::from_secs(1)).unwrap_err();
        assert!(
            error.to_string().contains("not opened by the HTTP client"),
            "{error}"
        );
    }
}
