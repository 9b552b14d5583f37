use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::answer;
use super::application::Application;
use super::fault::Fault;
use super::recorded::RecordedRequest;
use super::signing_key::SigningKey;
use super::token_endpoint::{self, Directory};
use crate::authority::{Authority, Cloud};
use crate::error::{Error, Failure};

/// An identity provider on loopback that answers as Microsoft Entra ID does, for tests.
///
/// It runs on the tokio runtime that started it, on a port of its own, until it is dropped. Its
/// signing key and address are new at every start. Applications are those that were
/// [registered](Self::register); any resource may be asked for, with the roles granted for it.
///
/// It verifies for real: secrets in constant time; of an assertion the signature against the
/// registered certificate, `aud`, `iss`, `sub`, `nbf` and `exp`. Refusals are Entra's: 90002
/// (tenant), 700016 (application), 7000215 (secret), 7000216 (no credential), 700027, 700021,
/// 700024 and 50027 (assertion), 1002012 and 70011 (scope), 900144 and 70003 (form).
pub struct LocalAuthority {
    shared: Arc<Shared>,
    /// Dropped with the authority, which ends the server.
    _stop: oneshot::Sender<()>,
}

struct Shared {
    base: String,
    key: SigningKey,
    directories: Mutex<Vec<Directory>>,
    script: Mutex<VecDeque<Fault>>,
    requests: Mutex<Vec<RecordedRequest>>,
}

impl LocalAuthority {
    /// Starts the server on a free port of 127.0.0.1 and makes its signing key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where no port can be listened on.
    pub async fn start() -> Result<Self, Error> {
        let no_port = |error: std::io::Error| {
            let failure = Failure::new("no port of 127.0.0.1 can be listened on");
            Error::Config(failure.source(Box::new(error)).into())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let shared = Arc::new(Shared {
            base: format!("http://{address}"),
            key: SigningKey::generate()?,
            directories: Mutex::default(),
            script: Mutex::default(),
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/{tenant}/oauth2/v2.0/token", post(token))
            .route("/{tenant}/discovery/v2.0/keys", get(keys))
            .with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // An error says that the sender is gone, which is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(server.into_future());
        tracing::warn!(
            base = shared.base,
            "a LocalAuthority is up: it is for tests alone"
        );
        Ok(Self {
            shared,
            _stop: stop,
        })
    }

    /// Adds an application to a tenant, which is made if there is none of that name; an
    /// application of the same client id is replaced. The tenant is named by a domain or a GUID.
    pub fn register(&self, tenant: impl AsRef<str>, application: Application) {
        let mut directories = lock(&self.shared.directories);
        let known = directories
            .iter()
            .position(|known| known.is(tenant.as_ref()));
        let index = known.unwrap_or_else(|| {
            directories.push(Directory::new(tenant.as_ref()));
            directories.len() - 1
        });
        if let Some(directory) = directories.get_mut(index) {
            directory
                .applications
                .retain(|known| known.client_id() != application.client_id());
            directory.applications.push(application);
        }
    }

    /// The authority to build a client with.
    pub fn authority(&self, tenant: impl Into<String>) -> Authority {
        Authority::entra(Cloud::Custom(self.shared.base.clone()), tenant)
    }

    /// Scheme, host and port, such as `http://127.0.0.1:49152`: the start of every URL here.
    pub fn base_url(&self) -> &str {
        &self.shared.base
    }

    /// The public half of the signing key, as published at `/{tenant}/discovery/v2.0/keys`: a JWK
    /// Set ([RFC 7517 section 5]) as JSON.
    ///
    /// [RFC 7517 section 5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    pub fn keys(&self) -> String {
        self.shared.keys()
    }

    /// The issuer (`iss`) of the tokens of a tenant, by its domain or id; `None` where nothing is
    /// registered in it.
    pub fn issuer(&self, tenant: impl AsRef<str>) -> Option<String> {
        let directories = lock(&self.shared.directories);
        let directory = directories.iter().find(|known| known.is(tenant.as_ref()))?;
        Some(format!("{}/{}/v2.0", self.shared.base, directory.id))
    }

    /// What the next token requests get instead of their answers, one each, after what was
    /// scripted before.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.script).extend(faults);
    }

    /// Every token request that came in, in order, those that got a fault among them.
    pub fn token_requests(&self) -> Vec<RecordedRequest> {
        lock(&self.shared.requests).clone()
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority")
            .field("base_url", &self.shared.base)
            .field("token_requests", &self.token_requests().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn keys(&self) -> String {
        let set = JwkSet {
            keys: vec![self.key.to_jwk()],
        };
        json!(set).to_string()
    }
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_FORM).await else {
        let mut refused = Response::new(Body::empty());
        *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return refused;
    };
    let request = RecordedRequest::new(parts.uri.path(), parts.headers, &body);
    let correlation_id = correlation_id(request.headers());
    lock(&shared.requests).push(request.clone());
    let fault = lock(&shared.script).pop_front();
    let response = match fault {
        Some(fault) => answer::scripted(fault, &correlation_id),
        None => {
            let directories = lock(&shared.directories);
            match token_endpoint::answer(&request, &tenant, &directories, &shared.key, &shared.base)
            {
                Ok(body) => answer::success(&body),
                Err(refusal) => refusal.into_response(&correlation_id),
            }
        }
    };
    response.map(Body::from)
}

async fn keys(State(shared): State<Arc<Shared>>) -> ([(HeaderName, &'static str); 1], String) {
    (
        [(CONTENT_TYPE, "application/json; charset=utf-8")],
        shared.keys(),
    )
}

/// The caller's, as Entra echoes it, else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    let asked = headers.get("client-request-id");
    asked
        .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok())
        .unwrap_or_else(Uuid::new_v4)
        .to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LARGEST_FORM: usize = 1024 * 1024;
