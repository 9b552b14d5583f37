use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::map_response_with_state;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::http::client_certificate::ClientCertificate;
use super::http::connection::{ClientConnection, Connections};
use super::http::response::add_date;
use super::http::tls::ServerTls;
use super::provider::{IdentityProvider, lock};
use super::token::jwt::ReceivedJwt;
use crate::error::{Error, Failure};
use crate::time::unix_seconds;

/// A web API on loopback that challenges a client as Microsoft Graph does.
///
/// A test sees the client's reaction to a 401. The API accepts the tokens of the [`LocalAuthority`]
/// that [started](super::LocalAuthority::protected_api) it, until the `ProtectedApi` is dropped.
///
/// | token of the request | response |
/// |---|---|
/// | valid | 200, with a JSON object of the token's `oid`, `azp` and `roles` |
/// | [revoked](super::LocalAuthority::revoke_tokens), of a client that declared `cp1` | 401 with a claims challenge |
/// | missing, expired or invalid | 401 with `InvalidAuthenticationToken` |
/// | bound to another client certificate than the connection's | 401 with `InvalidAuthenticationToken` |
///
/// If the authority was started with [`mutual_tls`](super::LocalAuthorityBuilder::mutual_tls), the API
/// uses https with a certificate of the same CA, and requests client certificates. The JSON object
/// then has the thumbprint of the connection's certificate as `x5t#S256`.
///
/// A token of a client without `cp1` cannot be revoked. The API accepts the token until it expires.
///
/// [`LocalAuthority`]: super::LocalAuthority
pub struct ProtectedApi {
    base: String,
    requests: Arc<AtomicUsize>,
    /// Stops the server when dropped.
    _stop: oneshot::Sender<()>,
}

struct ApiState {
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
    cnf: Option<Value>,
}

impl AccessTokenClaims {
    fn is_bound(&self) -> bool {
        self.cnf.is_some()
    }

    /// Returns the thumbprint of the client certificate that the token is bound to.
    fn certificate(&self) -> Option<&str> {
        self.cnf.as_ref()?.get("x5t#S256")?.as_str()
    }
}

impl ProtectedApi {
    pub(crate) async fn start(
        authority: Arc<IdentityProvider>,
        audience: String,
    ) -> Result<Self, Error> {
        let cannot_listen = |error: std::io::Error| {
            let failure = Failure::new("cannot listen on a free port of 127.0.0.1");
            Error::Config(failure.source(Box::new(error)).into())
        };
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let acceptor = authority.mutual_tls.as_ref();
        let acceptor = acceptor.map(|listener| ServerTls::from(listener.acceptor.clone()));
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let connections = Connections::start(listener, acceptor).map_err(cannot_listen)?;
        let requests = Arc::new(AtomicUsize::new(0));
        let api = Arc::new(ApiState {
            authority,
            audience,
            requests: Arc::clone(&requests),
        });
        let add_date = map_response_with_state(Arc::clone(&api.authority), add_date);
        let router = Router::new().fallback(respond);
        let router = router.layer(add_date).with_state(api);
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(
            connections,
            router.into_make_service_with_connect_info::<ClientConnection>(),
        )
        .with_graceful_shutdown(async {
            // The sender is never used. Dropping it ends the wait with an error.
            let _ = stopped.await;
        });
        tokio::spawn(serve.into_future());
        Ok(Self {
            base,
            requests,
            _stop: stop,
        })
    }

    /// Returns the origin of the API: scheme, host and port, such as `http://127.0.0.1:49153`.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Returns the number of received requests.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn respond(
    State(api): State<Arc<ApiState>>,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    request: Request,
) -> Response<Body> {
    let certificate = connection.client_certificate.as_ref();
    let thumbprint = certificate.map(ClientCertificate::x5t_s256);
    api.requests.fetch_add(1, Ordering::SeqCst);
    let value = request.headers().get(AUTHORIZATION);
    let token = value.and_then(|value| {
        let value = value.to_str().ok()?;
        value
            .strip_prefix("Bearer ")
            .or_else(|| value.strip_prefix("mtls_pop "))
    });
    let Some(token) = token else {
        return api.invalid_token("Access token is empty.");
    };
    match api.verified_claims(token) {
        None => api.invalid_token("Access token validation failure."),
        Some(claims) if claims.exp <= unix_seconds(api.authority.now()) => {
            api.invalid_token("Lifetime validation failed, the token is expired.")
        }
        Some(claims) if claims.aud != api.audience => {
            api.invalid_token("Access token validation failure. Invalid audience.")
        }
        // RFC 8705 section 3: the certificate of the connection is the certificate of the token.
        Some(claims) if claims.is_bound() && claims.certificate() != thumbprint.as_deref() => {
            api.invalid_token("The token is bound to another client certificate.")
        }
        Some(claims) => match api.revoked(&claims) {
            Some(not_before) => api.claims_challenge(not_before),
            None => {
                let mut body =
                    json!({ "oid": claims.oid, "azp": claims.azp, "roles": claims.roles });
                if let (Some(thumbprint), Some(members)) = (thumbprint, body.as_object_mut()) {
                    members.insert("x5t#S256".to_owned(), thumbprint.into());
                }
                json_response(StatusCode::OK, &body, None)
            }
        },
    }
}

impl ApiState {
    /// Returns the claims of a token that this authority signed.
    fn verified_claims(&self, token: &str) -> Option<AccessTokenClaims> {
        let token = ReceivedJwt::<AccessTokenClaims>::parse(token)?;
        let keys = lock(&self.authority.keys);
        let is_signed = keys.iter().any(|key| key.verifies(&token));
        is_signed.then_some(token.claims)
    }

    /// Returns the earliest issue time that is still accepted, if this token was revoked.
    ///
    /// A token cannot be revoked if the client does not support a claims challenge.
    fn revoked(&self, claims: &AccessTokenClaims) -> Option<u64> {
        let is_revocable = claims.xms_cc.iter().any(|capability| capability == "cp1");
        let AccessTokenClaims { tid, azp, uti, .. } = claims;
        self.authority
            .revoked(tid, azp, uti)
            .filter(|_| is_revocable)
    }

    fn invalid_token(&self, message: &str) -> Response<Body> {
        let error = json!({ "code": "InvalidAuthenticationToken", "message": message });
        let challenge = self.www_authenticate("");
        json_response(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": error }),
            challenge,
        )
    }

    fn claims_challenge(&self, not_before: u64) -> Response<Body> {
        let value = not_before.to_string();
        let claims = json!({ "access_token": { "nbf": { "essential": true, "value": value } } });
        let claims = BASE64_STANDARD.encode(claims.to_string());
        let challenge = self.www_authenticate(&format!(
            r#", error="insufficient_claims", claims="{claims}""#
        ));
        let error = json!({
            "code": "InvalidAuthenticationToken",
            "message": "Continuous access evaluation resulted in challenge.",
        });
        json_response(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": error }),
            challenge,
        )
    }

    fn www_authenticate(&self, parameters: &str) -> Option<HeaderValue> {
        let base = &self.authority.base;
        let challenge = format!(
            r#"Bearer realm="", authorization_uri="{base}/common/oauth2/authorize", client_id="{GRAPH}"{parameters}"#
        );
        HeaderValue::try_from(challenge).ok()
    }
}

fn json_response(
    status: StatusCode,
    body: &Value,
    challenge: Option<HeaderValue>,
) -> Response<Body> {
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

/// Application id of Microsoft Graph.
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
