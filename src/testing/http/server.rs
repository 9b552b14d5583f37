use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::tenant::Directory;
use crate::testing::fault::{Fault, FaultKind};
use crate::testing::http::connection::ConnectionCut;
use crate::testing::http::discovery;
use crate::testing::http::response as answer;
use crate::testing::http::sign_in;
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::endpoint as token_endpoint;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::sessions::Sessions;
use crate::testing::token::signing_key::TokenSigningKey;
use crate::time::unix_seconds;

/// What the requests of a `LocalAuthority` are answered from.
pub(crate) struct IdentityProvider {
    pub(crate) base: String,
    /// The one that signs, and before it those that did.
    pub(crate) keys: Mutex<Vec<TokenSigningKey>>,
    pub(crate) directories: Mutex<Vec<Directory>>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) traffic: Mutex<Traffic>,
    refusals: AtomicUsize,
    /// How many tokens were issued: the number of the next, which its `uti` begins with.
    issued: AtomicU64,
    /// By the tenant's id and the client's.
    revocations: Mutex<HashMap<(String, String), Revocation>>,
    pub(crate) is_gone: AtomicBool,
}

/// When the tokens of a client were taken back, in seconds since 1970 (UTC), and up to which number.
struct Revocation {
    up_to: u64,
    not_before: u64,
}

/// Under one lock, so that the first request recorded is the one that the first fault befell.
#[derive(Default)]
pub(crate) struct Traffic {
    pub(crate) script: VecDeque<Fault>,
    pub(crate) outage: Option<Fault>,
    pub(crate) requests: Vec<RecordedRequest>,
}

type Shared = State<Arc<IdentityProvider>>;

impl IdentityProvider {
    pub(crate) fn new(base: String, key: TokenSigningKey, sessions: Sessions) -> Self {
        Self {
            base,
            keys: Mutex::new(vec![key]),
            directories: Mutex::default(),
            sessions: Mutex::new(sessions),
            traffic: Mutex::default(),
            refusals: AtomicUsize::new(0),
            issued: AtomicU64::new(0),
            revocations: Mutex::default(),
            is_gone: AtomicBool::new(false),
        }
    }

    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/{tenant}/oauth2/v2.0/token", post(token))
            .route("/{tenant}/oauth2/v2.0/authorize", get(sign_in::authorize))
            .route("/sign-in/user", post(sign_in::choose))
            .route("/sign-in/consent", post(sign_in::consent))
            .route("/{tenant}/discovery/v2.0/keys", get(keys))
            .route(
                "/{tenant}/v2.0/.well-known/openid-configuration",
                get(openid_configuration),
            )
            .route("/common/discovery/instance", get(instance))
            .with_state(self)
    }

    /// The published keys, as a JWK Set.
    pub(crate) fn jwks(&self) -> String {
        let keys = lock(&self.keys)
            .iter()
            .map(TokenSigningKey::to_jwk)
            .collect();
        json!(JwkSet { keys }).to_string()
    }

    /// The request's own answer.
    fn answer(&self, request: &RecordedRequest, tenant: &str) -> Result<Value, AadstsError> {
        self.decide(|directories, issuer, sessions| {
            token_endpoint::answer(request, tenant, directories, issuer, sessions)
        })
    }

    /// Decides something while nothing changes beside it.
    pub(crate) fn decide<T>(
        &self,
        decision: impl FnOnce(&mut [Directory], &TokenIssuer<'_>, &mut Sessions) -> T,
    ) -> T {
        let keys = lock(&self.keys);
        let mut directories = lock(&self.directories);
        let mut sessions = lock(&self.sessions);
        let issuer = TokenIssuer {
            base: &self.base,
            keys: &keys,
            number: self.issued.fetch_add(1, Ordering::SeqCst),
        };
        decision(&mut directories, &issuer, &mut sessions)
    }

    /// Takes back what was issued to a client so far.
    pub(crate) fn revoke(&self, tenant: &str, client_id: &str) {
        let directories = lock(&self.directories);
        let Some(directory) = directories.iter().find(|known| known.is(tenant)) else {
            return;
        };
        let client = (directory.id.to_string(), client_id.to_ascii_lowercase());
        let mut revocations = lock(&self.revocations);
        let now = unix_seconds(SystemTime::now());
        // Two within a second are two: no challenge is like the one before.
        let last = revocations.get(&client).map_or(0, |last| last.not_before);
        let revocation = Revocation {
            up_to: self.issued.load(Ordering::SeqCst),
            not_before: now.max(last.saturating_add(1)),
        };
        revocations.insert(client, revocation);
    }

    /// From when on a token has to be issued, if this one was taken back; by its `tid`, `azp` and
    /// `uti`.
    pub(crate) fn revoked(&self, tenant_id: &str, client_id: &str, uti: &str) -> Option<u64> {
        let client = (tenant_id.to_owned(), client_id.to_ascii_lowercase());
        let number = u64::from_str_radix(uti.get(..16)?, 16).ok()?;
        let revocations = lock(&self.revocations);
        let revocation = revocations.get(&client)?;
        (number < revocation.up_to).then_some(revocation.not_before)
    }

    fn respond(&self, answer: Result<Value, AadstsError>, correlation_id: &str) -> Response<Bytes> {
        match answer {
            Ok(body) => answer::success(&body),
            Err(refusal) => {
                // Today's one line, then the older lines, and so on.
                let lines = self.refusals.fetch_add(1, Ordering::Relaxed) % 2 == 1;
                answer::refusal(refusal, correlation_id, lines)
            }
        }
    }

    /// What a script makes of the answer.
    fn faulty(
        &self,
        fault: Fault,
        request: &RecordedRequest,
        tenant: &str,
        cut: &ConnectionCut,
        correlation_id: &str,
    ) -> Response<Bytes> {
        let field = |name: &str| request.field(name).unwrap_or_default().to_owned();
        let answer = match fault.kind {
            FaultKind::Status(status) => Err(AadstsError::of_status(status)),
            FaultKind::AadstsError(code) => Err(AadstsError::of_code(
                code,
                &field("client_id"),
                tenant,
                &field("scope"),
            )),
            _ => self.answer(request, tenant),
        };
        let mut response = self.respond(answer, correlation_id);
        if let Some(body) = fault.body {
            *response.body_mut() = body;
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
        }
        for (name, value) in fault.headers {
            response.headers_mut().insert(name, value);
        }
        let half = response.body().len() / 2;
        match fault.kind {
            FaultKind::Truncated => response.body_mut().truncate(half),
            FaultKind::Dropped => cut.here(),
            FaultKind::DroppedInBody => cut.in_body(half),
            _ => {}
        }
        response
    }
}

async fn token(
    State(server): Shared,
    ConnectInfo(cut): ConnectInfo<ConnectionCut>,
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
    let fault = {
        let mut traffic = lock(&server.traffic);
        traffic.requests.push(request.clone());
        let scripted = traffic.script.pop_front();
        scripted.or_else(|| traffic.outage.clone())
    };
    let response = match fault {
        None => server.respond(server.answer(&request, &tenant), &correlation_id),
        Some(fault) => {
            sleep(fault.delay).await;
            server.faulty(fault, &request, &tenant, &cut, &correlation_id)
        }
    };
    if server.is_gone.load(Ordering::Relaxed) {
        cut.here();
    }
    response.map(Body::from)
}

async fn keys(State(server): Shared) -> Response<Body> {
    let mut response = Response::new(Body::from(server.jwks()));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

async fn openid_configuration(
    State(server): Shared,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let directories = lock(&server.directories);
    let answer = discovery::openid_configuration(&tenant, &directories, &server.base);
    server
        .respond(answer, &correlation_id(&headers))
        .map(Body::from)
}

async fn instance(
    State(server): Shared,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response<Body> {
    let asked = query.get("authorization_endpoint").map(String::as_str);
    let answer = discovery::instance(asked.unwrap_or_default(), &server.base);
    server
        .respond(answer, &correlation_id(&headers))
        .map(Body::from)
}

/// The caller's, as Entra echoes it, else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    let asked = headers.get("client-request-id");
    asked
        .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok())
        .unwrap_or_else(Uuid::new_v4)
        .to_string()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LARGEST_FORM: usize = 1024 * 1024;
