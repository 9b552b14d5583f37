use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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
use super::token::proof::{ProvenRequest, ReceivedProofs, error_code, proof_algorithm_names};
use crate::dpop::ProofError;
use crate::error::{Error, Failure};
use crate::time::unix_seconds;
use crate::token::Thumbprint;

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
/// If the authority was started with [`mutual_tls`](super::LocalAuthorityBuilder::mutual_tls), the
/// API uses https with a certificate of the same CA, and requests client certificates. The JSON
/// object then has the thumbprint of the connection's certificate as `x5t#S256`.
///
/// A token of a client without `cp1` cannot be revoked. The API accepts the token until it expires.
///
/// A token that is bound to a proof key needs a proof for each request ([RFC 9449 section 7.1]).
/// The challenge then has the scheme `DPoP`.
///
/// | request with a bound token | response |
/// |---|---|
/// | with a valid proof | 200 |
/// | with the scheme `Bearer` | 401 with `invalid_token` |
/// | with a proof that is missing, stale, of another key, for another request, or used before | 401 with `invalid_dpop_proof` |
/// | without the [required nonce](Self::require_dpop_nonce) | 401 with `use_dpop_nonce` |
///
/// [RFC 9449 section 7.1]: https://www.rfc-editor.org/rfc/rfc9449#section-7.1
/// [`LocalAuthority`]: super::LocalAuthority
pub struct ProtectedApi {
    base: String,
    api: Arc<ApiState>,
    /// Stops the server when dropped.
    _stop: oneshot::Sender<()>,
}

struct ApiState {
    base: String,
    authority: Arc<IdentityProvider>,
    audience: String,
    requests: AtomicUsize,
    requires_proof: AtomicBool,
    proofs: Mutex<ReceivedProofs>,
}

#[derive(Deserialize)]
struct AccessTokenClaims {
    aud: String,
    tid: String,
    /// Tokens of version 1 have `appid`.
    #[serde(alias = "appid")]
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
    /// Returns whether the token is bound to a client certificate, or to a key of an unknown kind.
    fn is_bound_to_certificate(&self) -> bool {
        self.cnf.is_some() && self.proof_key().is_none()
    }

    /// Returns the thumbprint of the proof key that the token is bound to.
    fn proof_key(&self) -> Option<&str> {
        self.cnf.as_ref()?.get("jkt")?.as_str()
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
        let api = Arc::new(ApiState {
            base: base.clone(),
            authority,
            audience,
            requests: AtomicUsize::new(0),
            requires_proof: AtomicBool::new(false),
            proofs: Mutex::default(),
        });
        let add_date = map_response_with_state(Arc::clone(&api.authority), add_date);
        let router = Router::new().fallback(respond);
        let router = router.layer(add_date).with_state(Arc::clone(&api));
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
            api,
            _stop: stop,
        })
    }

    /// Returns the origin of the API: scheme, host and port, such as `http://127.0.0.1:49153`.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Returns the number of received requests.
    pub fn requests(&self) -> usize {
        self.api.requests.load(Ordering::SeqCst)
    }

    /// Rejects bearer tokens from now on, with a challenge of the scheme `DPoP`.
    pub fn require_dpop(&self) {
        self.api.requires_proof.store(true, Ordering::SeqCst);
    }

    /// Requires a new nonce in the proof of every request ([RFC 9449 section 9]).
    ///
    /// A proof without the nonce, or with an earlier one, is rejected with `use_dpop_nonce`. Every
    /// response has the nonce. Another call replaces the nonce.
    ///
    /// [RFC 9449 section 9]: https://www.rfc-editor.org/rfc/rfc9449#section-9
    pub fn require_dpop_nonce(&self) {
        lock(&self.api.proofs).require_nonce();
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
    let mut response = answer(&api, &request, thumbprint.as_deref());
    lock(&api.proofs).add_nonce(response.headers_mut());
    response
}

fn answer(api: &ApiState, request: &Request, thumbprint: Option<&str>) -> Response<Body> {
    let value = request.headers().get(AUTHORIZATION);
    let credentials = value.and_then(|value| value.to_str().ok()?.split_once(' '));
    let (token, is_bearer) = match credentials {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => (token, true),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("mtls_pop") => (token, true),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("DPoP") => (token, false),
        _ if api.requires_proof.load(Ordering::SeqCst) => return api.dpop_challenge(None),
        _ => return api.invalid_token("Access token is empty."),
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
        Some(claims)
            if claims.is_bound_to_certificate()
                && claims.certificate() != Some(thumbprint.unwrap_or_default()) =>
        {
            api.invalid_token("The token is bound to another client certificate.")
        }
        Some(claims) => match api.check_proof(&claims, request, token, is_bearer) {
            Err(error) => api.dpop_challenge(Some(&error)),
            Ok(()) => api.accept(&claims, thumbprint),
        },
    }
}

impl ApiState {
    fn accept(&self, claims: &AccessTokenClaims, certificate: Option<&str>) -> Response<Body> {
        match self.revoked(claims) {
            Some(not_before) => self.claims_challenge(not_before),
            None => {
                let mut body =
                    json!({ "oid": claims.oid, "azp": claims.azp, "roles": claims.roles });
                if let (Some(thumbprint), Some(members)) = (certificate, body.as_object_mut()) {
                    members.insert("x5t#S256".to_owned(), thumbprint.into());
                }
                json_response(StatusCode::OK, &body, None)
            }
        }
    }

    /// Checks the proof of a request with a bound token, and that a bound token has a proof.
    fn check_proof(
        &self,
        claims: &AccessTokenClaims,
        request: &Request,
        token: &str,
        is_bearer: bool,
    ) -> Result<(), BoundTokenError> {
        let key = match (claims.proof_key().map(Thumbprint::parse), is_bearer) {
            (None, true) if !self.requires_proof.load(Ordering::SeqCst) => return Ok(()),
            (Some(Some(key)), false) => key,
            _ => return Err(BoundTokenError::Token),
        };
        let proven = ProvenRequest {
            method: request.method().as_str(),
            uri: &format!("{}{}", self.base, request.uri()),
            headers: request.headers(),
            token: Some((token, key)),
        };
        let checked = lock(&self.proofs).check(&proven, self.authority.now());
        checked.map(drop).map_err(BoundTokenError::Proof)
    }

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

    /// Challenges a request ([RFC 9449 section 7.1]). `None` without a token.
    ///
    /// [RFC 9449 section 7.1]: https://www.rfc-editor.org/rfc/rfc9449#section-7.1
    fn dpop_challenge(&self, rejection: Option<&BoundTokenError>) -> Response<Body> {
        let algorithms = proof_algorithm_names().join(" ");
        let (error, description) = match rejection {
            None => (None, "The request has no token.".into()),
            Some(BoundTokenError::Token) => {
                let text = "The scheme of the token is not that of its key.";
                (Some("invalid_token"), text.into())
            }
            Some(BoundTokenError::Proof(error)) => (Some(error_code(error)), error.for_sender()),
        };
        let parameter = error.map(|error| format!(r#", error="{error}""#));
        let challenge = format!(
            r#"DPoP algs="{algorithms}"{}"#,
            parameter.unwrap_or_default()
        );
        let error = json!({ "code": error, "message": description });
        json_response(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": error }),
            HeaderValue::try_from(challenge).ok(),
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

/// The reason why a request with a valid token is rejected.
enum BoundTokenError {
    /// The scheme is not that of the token.
    Token,
    Proof(ProofError),
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
