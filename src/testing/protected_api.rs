use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::error::{Error, Failure};
use crate::testing::http::server::{IdentityProvider, lock};
use crate::testing::token::client_assertion::ReceivedJwt;
use crate::time::unix_seconds;

/// A web API on loopback that takes a [`LocalAuthority`](super::LocalAuthority)'s tokens and
/// challenges as Microsoft Graph does: for tests of what a daemon does with a 401.
///
/// It answers every request with a valid token with 200 and a JSON object of the token's `oid`,
/// `azp` and `roles`. A token that was [revoked](super::LocalAuthority::revoke_tokens) gets a 401
/// that asks for claims, if its client declared `cp1`; others, whose tokens cannot be taken back,
/// are served until the token's end. Anything else that is wrong is a 401 with
/// `InvalidAuthenticationToken`. Made by
/// [`LocalAuthority::protected_api`](super::LocalAuthority::protected_api); ends when dropped.
pub struct ProtectedApi {
    base: String,
    requests: Arc<AtomicUsize>,
    /// Dropped with the API, which ends the server.
    _stop: oneshot::Sender<()>,
}

struct Api {
    authority: Arc<IdentityProvider>,
    audience: String,
    requests: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
struct AccessTokenClaims {
    aud: String,
    tid: String,
    azp: String,
    oid: String,
    uti: String,
    exp: u64,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    xms_cc: Vec<String>,
}

impl ProtectedApi {
    pub(crate) async fn start(
        authority: Arc<IdentityProvider>,
        audience: String,
    ) -> Result<Self, Error> {
        let no_port = |error: std::io::Error| {
            let failure = Failure::new("no port of 127.0.0.1 can be listened on");
            Error::Config(failure.source(Box::new(error)).into())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let base = format!("http://{}", listener.local_addr().map_err(no_port)?);
        let requests = Arc::new(AtomicUsize::new(0));
        let api = Arc::new(Api {
            authority,
            audience,
            requests: Arc::clone(&requests),
        });
        let router = Router::new().fallback(answer).with_state(api);
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            // An error says that the sender is gone, which is the signal.
            let _ = stopped.await;
        });
        tokio::spawn(serve.into_future());
        Ok(Self {
            base,
            requests,
            _stop: stop,
        })
    }

    /// Scheme, host and port, such as `http://127.0.0.1:49153`: its origin.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// How many requests came in.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    api.requests.fetch_add(1, Ordering::SeqCst);
    let value = request.headers().get(AUTHORIZATION);
    let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = token else {
        return api.invalid("Access token is empty.");
    };
    match api.claims_of(token) {
        None => api.invalid("Access token validation failure."),
        Some(claims) if claims.exp <= unix_seconds(SystemTime::now()) => {
            api.invalid("Lifetime validation failed, the token is expired.")
        }
        Some(claims) if claims.aud != api.audience => {
            api.invalid("Access token validation failure. Invalid audience.")
        }
        Some(claims) => match api.revoked(&claims) {
            Some(not_before) => api.challenged(not_before),
            None => {
                let body = json!({ "oid": claims.oid, "azp": claims.azp, "roles": claims.roles });
                respond(StatusCode::OK, &body, None)
            }
        },
    }
}

impl Api {
    /// What is in a token that this authority signed.
    fn claims_of(&self, token: &str) -> Option<AccessTokenClaims> {
        let token = ReceivedJwt::<AccessTokenClaims>::split(token)?;
        let kid = token.header.kid.as_deref();
        let keys = lock(&self.authority.keys);
        let is_signed = keys
            .iter()
            .any(|key| key.verifies(kid, token.message, &token.signature));
        is_signed.then_some(token.claims)
    }

    /// From when on another has to be issued. The token of a client that takes no challenge cannot be
    /// taken back.
    fn revoked(&self, claims: &AccessTokenClaims) -> Option<u64> {
        let is_revocable = claims.xms_cc.iter().any(|capability| capability == "cp1");
        let AccessTokenClaims { tid, azp, uti, .. } = claims;
        self.authority
            .revoked(tid, azp, uti)
            .filter(|_| is_revocable)
    }

    fn invalid(&self, message: &str) -> Response<Body> {
        let error = json!({ "code": "InvalidAuthenticationToken", "message": message });
        let challenge = self.challenge("");
        respond(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": error }),
            challenge,
        )
    }

    fn challenged(&self, not_before: u64) -> Response<Body> {
        let value = not_before.to_string();
        let claims = json!({ "access_token": { "nbf": { "essential": true, "value": value } } });
        let claims = BASE64_STANDARD.encode(claims.to_string());
        let challenge = self.challenge(&format!(
            r#", error="insufficient_claims", claims="{claims}""#
        ));
        let error = json!({
            "code": "InvalidAuthenticationToken",
            "message": "Continuous access evaluation resulted in challenge.",
        });
        respond(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": error }),
            challenge,
        )
    }

    fn challenge(&self, more: &str) -> Option<HeaderValue> {
        let base = &self.authority.base;
        let challenge = format!(
            r#"Bearer realm="", authorization_uri="{base}/common/oauth2/authorize", client_id="{GRAPH}"{more}"#
        );
        HeaderValue::try_from(challenge).ok()
    }
}

fn respond(status: StatusCode, body: &Value, challenge: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

impl fmt::Debug for ProtectedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedApi")
            .field("base_url", &self.base)
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}

/// Microsoft Graph's application id.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
