//! Clients, providers and transports that the tests share.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use confidential_client::testing::{LocalAuthority, ManualClock, self_signed_certificate};
use confidential_client::{ConfidentialClient, ConfidentialClientBuilder, RetryPolicy};
use http::{Request, Response};
use serde_json::Value;
use tokio::sync::Semaphore;

pub mod client_ca;
pub mod dpop;
pub mod issuer;
pub mod log_capture;
pub mod mutual_tls_server;
pub mod openid;
pub mod proof;
pub mod raw_server;
pub mod tls_server;

pub const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
pub const TENANT: &str = "contoso.onmicrosoft.com";
pub const SCOPE: &str = "https://graph.microsoft.com/.default";
pub const SECRET: &str = "s3cret-Value~1";

/// Certificate and private key, created once for all tests.
pub static PEM: LazyLock<String> = LazyLock::new(|| self_signed_certificate("daemon").unwrap());

/// An in-memory identity provider that records requests and responds when the test allows.
///
/// The default responses are `token-1`, `token-2` and so on.
#[derive(Clone)]
pub struct Provider(Arc<State>);

struct State {
    requests: Mutex<Vec<Request<Bytes>>>,
    answers: Mutex<VecDeque<Answer>>,
    gate: Mutex<Arc<Semaphore>>,
}

type Answer = Result<Response<Bytes>, Box<dyn StdError + Send + Sync>>;

impl Provider {
    /// Creates a provider that responds at once.
    pub fn open() -> Self {
        let provider = Self::gated();
        provider.release();
        provider
    }

    /// Creates a provider that responds after [`release`](Self::release).
    pub fn gated() -> Self {
        log_capture::start();
        Self(Arc::new(State {
            requests: Mutex::default(),
            answers: Mutex::default(),
            gate: Mutex::new(closed()),
        }))
    }

    pub fn release(&self) {
        self.0.gate.lock().unwrap().close();
    }

    /// Stops responding until the next [`release`](Self::release).
    pub fn hold(&self) {
        *self.0.gate.lock().unwrap() = closed();
    }

    /// Adds a response for the next request without one.
    pub fn answer(&self, status: u16, body: &str) {
        let response = Response::builder().status(status);
        let response = response.body(Bytes::copy_from_slice(body.as_bytes()));
        self.0
            .answers
            .lock()
            .unwrap()
            .push_back(Ok(response.unwrap()));
    }

    pub fn answer_with(&self, response: Response<Bytes>) {
        self.0.answers.lock().unwrap().push_back(Ok(response));
    }

    pub fn fail(&self, why: &str) {
        self.0.answers.lock().unwrap().push_back(Err(why.into()));
    }

    pub fn requests(&self) -> usize {
        self.0.requests.lock().unwrap().len()
    }

    /// Returns a form field of a request.
    pub fn field(&self, request: usize, name: &str) -> Option<String> {
        let requests = self.0.requests.lock().unwrap();
        let mut form = url::form_urlencoded::parse(requests[request].body());
        form.find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    pub fn body(&self, request: usize) -> String {
        let requests = self.0.requests.lock().unwrap();
        String::from_utf8(requests[request].body().to_vec()).unwrap()
    }

    pub fn header(&self, request: usize, name: &str) -> Option<http::HeaderValue> {
        self.0.requests.lock().unwrap()[request]
            .headers()
            .get(name)
            .cloned()
    }

    pub fn method(&self, request: usize) -> http::Method {
        self.0.requests.lock().unwrap()[request].method().clone()
    }

    pub fn uri(&self, request: usize) -> String {
        self.0.requests.lock().unwrap()[request].uri().to_string()
    }

    /// Returns a client of this provider, with a secret and without retries.
    pub fn client(&self) -> ConfidentialClient {
        self.builder().build().unwrap()
    }

    /// Returns the client with a manual clock.
    pub fn client_at(&self, clock: &ManualClock) -> ConfidentialClient {
        self.builder().clock(clock.clone()).build().unwrap()
    }

    pub fn builder(&self) -> ConfidentialClientBuilder {
        ConfidentialClient::builder(CLIENT_ID)
            .tenant(TENANT)
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
            .transport(self.transport())
    }

    pub fn transport(&self) -> impl confidential_client::transport::Transport + use<> {
        let state = Arc::clone(&self.0);
        move |request: Request<Bytes>| {
            let state = Arc::clone(&state);
            async move { state.send(request).await }
        }
    }
}

/// Returns a gate at which all callers wait until the semaphore is closed.
fn closed() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

impl State {
    async fn send(&self, request: Request<Bytes>) -> Answer {
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(request);
            requests.len()
        };
        // A closed semaphore is an open gate: each wait ends without a permit.
        let gate = Arc::clone(&self.gate.lock().unwrap());
        let _ = gate.acquire().await;
        let scripted = self.answers.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| Ok(success(&format!("token-{number}"), 3599)))
    }
}

/// Returns the builder of a client of a `LocalAuthority`, without retries.
pub fn client_of(local: &LocalAuthority) -> ConfidentialClientBuilder {
    log_capture::start();
    ConfidentialClient::builder(CLIENT_ID)
        .authority(local.authority(TENANT))
        .retry(RetryPolicy::none())
}

/// Returns the builder of a client of an in-memory provider, without a credential.
pub fn in_memory(provider: &Provider) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

/// Returns a client whose requests never end, and the number of dropped requests.
pub fn client_that_hangs() -> (ConfidentialClient, Arc<AtomicUsize>) {
    struct OnDrop(Arc<AtomicUsize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    log_capture::start();
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .attempt_timeout(Duration::from_secs(60))
        .transport(move |_: Request<Bytes>| {
            let on_drop = OnDrop(Arc::clone(&seen));
            async move {
                std::future::pending::<()>().await;
                drop(on_drop);
                Ok(Response::new(Bytes::new()))
            }
        })
        .build()
        .unwrap();
    (client, ended)
}

/// Returns a scope without a cached token.
pub fn scope(number: usize) -> String {
    format!("api://{number}/.default")
}

/// Returns a JWT of this name, with a signature of no key.
pub fn unsigned_jwt(name: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(serde_json::json!({ "sub": name }).to_string());
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    format!(
        "{header}.{claims}.{}",
        BASE64_URL_SAFE_NO_PAD.encode([7; 256])
    )
}

/// Decodes the header of a JWT.
pub fn header_of(jwt: &str) -> Value {
    part(jwt, 0)
}

/// Decodes the claims of a JWT.
pub fn claims_of(jwt: &str) -> Value {
    part(jwt, 1)
}

fn part(jwt: &str, number: usize) -> Value {
    let part = jwt.split('.').nth(number).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub fn success(token: &str, expires_in: u64) -> Response<Bytes> {
    let body =
        format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{token}"}}"#);
    Response::new(body.into())
}

/// Polls a future once, so that a call runs until the missing response.
pub fn poll_once<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs the other tasks of this thread's runtime as far as possible.
pub async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
