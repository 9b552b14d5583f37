use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::map_response_with_state;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::assigned_identity::AssignedIdentity;
use super::host_kind::HostKind;
use super::host_state::{HostState, HostToken};
use super::rejection::HostRejection;
use super::token_query::TokenQuery;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::fault::FaultKind;
use crate::testing::http::connection::{ConnectionCut, Connections};
use crate::testing::http::response::{add_date, apply};
use crate::testing::http::server::{LARGEST_FORM, correlation_id};
use crate::testing::http::tls::ServerTls;
use crate::testing::provider::lock;
use crate::testing::recorded_request::RecordedRequest;
use crate::time::unix_seconds;

/// Serves the endpoints of some kinds of hosts until the returned sender is dropped.
///
/// Returns the address, such as `127.0.0.1:49152`, and the sender.
pub(crate) async fn serve(
    host: &Arc<HostState>,
    kinds: &[HostKind],
    tls: Option<TlsAcceptor>,
) -> io::Result<(String, oneshot::Sender<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let mut router = Router::new();
    for kind in kinds.iter().copied() {
        let respond = move |host, cut, request| respond(kind, host, cut, request);
        let method = match kind {
            HostKind::CloudShell => post(respond),
            _ => get(respond),
        };
        // MSAL for Node.js adds a slash, which Azure's endpoints accept.
        router = router
            .route(&format!("{}/", kind.path()), method.clone())
            .route(kind.path(), method);
    }
    let add_date = map_response_with_state(Arc::clone(&host.provider), add_date);
    let router = router.layer(add_date).with_state(Arc::clone(host));
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = axum::serve(
        Connections::start(listener, tls.map(ServerTls::from))?,
        router.into_make_service_with_connect_info::<ConnectionCut>(),
    )
    .with_graceful_shutdown(async {
        // The sender is never used. Dropping it ends the wait with an error.
        let _ = stopped.await;
    });
    tokio::spawn(serve.into_future());
    Ok((address, stop))
}

async fn respond(
    kind: HostKind,
    State(host): State<Arc<HostState>>,
    ConnectInfo(cut): ConnectInfo<ConnectionCut>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_FORM).await else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    };
    let request = RecordedRequest::new(parts.uri.path(), parts.headers, &body);
    let request = request.with_query(parts.uri.query());
    let fault = {
        let mut traffic = lock(&host.traffic);
        traffic.requests.push(request.clone());
        // The two requests to an Azure Arc agent count as one.
        match kind == HostKind::AzureArc && !request.headers().contains_key(AUTHORIZATION) {
            true => None,
            false => traffic.next_fault(&host.provider.clocks()),
        }
    };
    let response = match fault {
        None => regular_response(kind, &host, &request, None),
        Some(fault) => {
            sleep(fault.delay).await;
            let mut response = regular_response(kind, &host, &request, Some(fault.kind));
            apply(fault, &mut response, &cut);
            response
        }
    };
    if host.is_dropped.load(Ordering::Relaxed) {
        cut.before_next_byte();
    }
    response.map(Body::from)
}

/// Builds the response to a request, without the parts of a fault that concern HTTP.
fn regular_response(
    kind: HostKind,
    host: &HostState,
    request: &RecordedRequest,
    fault: Option<FaultKind>,
) -> Response<Bytes> {
    let result = match fault {
        Some(FaultKind::Status(status)) => Err(HostRejection::Status(status)),
        Some(FaultKind::Aadsts(code)) => {
            let value = |name| request.parameter(name).unwrap_or_default();
            let (client_id, resource) = (value("client_id"), value("resource"));
            let error = AadstsError::of_code(code, client_id, &host.tenant, resource);
            Err(HostRejection::Entra(error))
        }
        _ => host.check(kind, request),
    };
    let correlation_id = correlation_id(request.headers());
    let (query, identity) = match result {
        Ok(checked) => checked,
        Err(rejection) => return rejected(kind, &rejection, &correlation_id),
    };
    if kind == HostKind::AzureArc {
        let key = request.header(AUTHORIZATION.as_str()).unwrap_or_default();
        if !host.key_folder.accept(key) {
            return challenge(host);
        }
    }
    let token = match fault {
        Some(FaultKind::AnotherIdentity) => {
            let another = AssignedIdentity::new(Uuid::new_v4().to_string());
            host.issue(&query, another, unix_seconds(host.provider.now()))
        }
        _ => host.token(&query, identity),
    };
    match token {
        Ok(token) => {
            let now = unix_seconds(host.provider.now());
            json_response(StatusCode::OK, &success(kind, &query, &token, now))
        }
        Err(rejection) => rejected(kind, &rejection, &correlation_id),
    }
}

fn rejected(kind: HostKind, rejection: &HostRejection, correlation_id: &str) -> Response<Bytes> {
    let error = rejection.to_error(kind);
    json_response(error.status, &error.body(kind, correlation_id))
}

/// Builds the challenge of an Azure Arc agent, whose realm is the path of a new key file.
fn challenge(host: &HostState) -> Response<Bytes> {
    let path = host.key_folder.challenge();
    let realm = path.map(|path| format!("Basic realm={}", path.display()));
    let realm = realm
        .ok()
        .and_then(|realm| HeaderValue::try_from(realm).ok());
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = match realm {
        Some(_) => StatusCode::UNAUTHORIZED,
        None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    response
        .headers_mut()
        .extend(realm.map(|realm| (WWW_AUTHENTICATE, realm)));
    response
}

/// Writes a token as the endpoint of `kind` does, with its spelling of numbers and times.
fn success(kind: HostKind, query: &TokenQuery, token: &HostToken, now: u64) -> Value {
    let mut body = json!({
        "access_token": token.access_token,
        "resource": token.resource,
        "token_type": "Bearer",
    });
    let expires_in = token.expires_on.saturating_sub(now).to_string();
    let expires_on = token.expires_on.to_string();
    let members = match kind {
        HostKind::Imds | HostKind::AzureArc | HostKind::CloudShell => json!({
            "client_id": token.identity.client_id(),
            "expires_in": expires_in,
            "ext_expires_in": expires_in,
            "expires_on": expires_on,
            "not_before": token.issued_at.to_string(),
            "refresh_token": "",
        }),
        HostKind::AppService | HostKind::AzureMl => json!({
            "client_id": token.identity.client_id(),
            "expires_on": expires_on,
        }),
        HostKind::ServiceFabric => json!({ "expires_on": token.expires_on }),
    };
    // The agent of Azure Arc names the identity by the id of the request.
    let named = query
        .id
        .as_ref()
        .map(|(name, kind, _)| (*name, token.id(*kind)));
    if let (Some(body), Value::Object(members)) = (body.as_object_mut(), members) {
        body.extend(members);
        if let (Some((name, id)), HostKind::Imds | HostKind::AzureArc) = (named, kind) {
            body.insert(name.to_owned(), id.into());
        }
    }
    body
}

fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
