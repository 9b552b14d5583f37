use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::middleware::map_response_with_state;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

use super::client_certificate::ClientCertificate;
use super::connection::{ClientConnection, ConnectionCut};
use super::{discovery, response, sign_in};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::fault::{Fault, FaultKind};
use crate::testing::provider::{IdentityProvider, lock};
use crate::testing::recorded_request::RecordedRequest;

type Provider = State<Arc<IdentityProvider>>;

/// Returns the routes of all endpoints.
pub(crate) fn router(provider: Arc<IdentityProvider>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/oauth2/v2.0/par", post(push))
        .route("/{tenant}/oauth2/v2.0/introspect", post(introspect))
        .route("/{tenant}/oauth2/v2.0/authorize", get(sign_in::authorize))
        .route("/{tenant}/oauth2/v2.0/logout", get(sign_in::end_session))
        .route("/{tenant}/adminconsent", get(sign_in::admin_consent))
        .route("/sign-in/user", post(sign_in::choose_user))
        .route("/sign-in/consent", post(sign_in::consent))
        .route("/{tenant}/discovery/v2.0/keys", get(keys))
        .route(
            "/{tenant}/v2.0/.well-known/openid-configuration",
            get(openid_configuration),
        )
        .route("/common/discovery/instance", get(instance))
        .layer(map_response_with_state(
            Arc::clone(&provider),
            response::add_date,
        ))
        .with_state(provider)
}

async fn token(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    let ClientConnection {
        cut,
        client_certificate,
    } = connection;
    let request = match recorded(request, client_certificate).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let correlation_id = correlation_id(request.headers());
    let fault = {
        let mut traffic = lock(&provider.traffic);
        traffic.requests.push(request.clone());
        traffic.next_fault(&provider.clocks())
    };
    let response = match fault {
        None => {
            let result = provider.token_response(&request, &tenant);
            respond(&provider, result, &correlation_id)
        }
        Some(fault) => {
            sleep(fault.delay).await;
            faulty_response(&provider, fault, &request, &tenant, &cut, &correlation_id)
        }
    };
    let mut response = response;
    lock(&provider.proofs).add_nonce(response.headers_mut());
    if provider.is_dropped.load(Ordering::Relaxed) {
        cut.before_next_byte();
    }
    response.map(Body::from)
}

/// Reads the form of a request. Returns the response to a form that is too long as the error.
async fn recorded(
    request: Request,
    client_certificate: Option<ClientCertificate>,
) -> Result<RecordedRequest, Response<Body>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_FORM).await else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(response);
    };
    let request = RecordedRequest::new(parts.uri.path(), parts.headers, &body);
    Ok(request.with_client_certificate(client_certificate))
}

async fn push(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    let request = match recorded(request, connection.client_certificate).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let correlation_id = correlation_id(request.headers());
    lock(&provider.traffic).pushed.push(request.clone());
    let result = provider.pushed_response(&request, &tenant);
    let is_pushed = result.is_ok();
    let mut response = respond(&provider, result, &correlation_id);
    if is_pushed {
        *response.status_mut() = StatusCode::CREATED;
    }
    lock(&provider.proofs).add_nonce(response.headers_mut());
    response.map(Body::from)
}

async fn introspect(
    State(provider): Provider,
    ConnectInfo(connection): ConnectInfo<ClientConnection>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response<Body> {
    let request = match recorded(request, connection.client_certificate).await {
        Ok(request) => request,
        Err(response) => return response,
    };
    let correlation_id = correlation_id(request.headers());
    lock(&provider.traffic).introspected.push(request.clone());
    let result = provider.introspection_response(&request, &tenant);
    respond(&provider, result, &correlation_id).map(Body::from)
}

async fn keys(
    State(provider): Provider,
    Query(query): Query<HashMap<String, String>>,
) -> Response<Body> {
    let application = query.get("appid").map(String::as_str);
    let mut response = Response::new(Body::from(provider.jwks(application)));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

async fn openid_configuration(
    State(provider): Provider,
    Path(tenant): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response<Body> {
    let result = {
        let directories = lock(&provider.directories);
        let application = query.get("appid").map(String::as_str);
        let mutual_tls = provider.mutual_tls.as_ref();
        let mutual_tls = mutual_tls.map(|listener| listener.base.as_str());
        let (base, rules) = (&provider.base, &provider.rules);
        discovery::openid_configuration(&tenant, application, &directories, base, rules, mutual_tls)
    };
    respond(&provider, result, &correlation_id(&headers)).map(Body::from)
}

async fn instance(
    State(provider): Provider,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response<Body> {
    let endpoint = query.get("authorization_endpoint").map(String::as_str);
    let result = discovery::instance(endpoint.unwrap_or_default(), &provider.base);
    respond(&provider, result, &correlation_id(&headers)).map(Body::from)
}

fn respond(
    provider: &IdentityProvider,
    result: Result<Value, AadstsError>,
    correlation_id: &str,
) -> Response<Bytes> {
    match result {
        Ok(body) => response::success(&body),
        Err(error) => {
            // The two forms of error texts alternate, so no client can depend on either.
            let number = provider.error_count.fetch_add(1, Ordering::Relaxed);
            response::failure(&error, correlation_id, number % 2 == 1, provider.now())
        }
    }
}

/// Builds the response to a token request with a fault.
fn faulty_response(
    provider: &IdentityProvider,
    fault: Fault,
    request: &RecordedRequest,
    tenant: &str,
    cut: &ConnectionCut,
    correlation_id: &str,
) -> Response<Bytes> {
    let field = |name: &str| request.field(name).unwrap_or_default();
    let result = match fault.kind {
        FaultKind::Status(status) => Err(AadstsError::of_status(status)),
        FaultKind::Aadsts(code) => Err(AadstsError::of_code(
            code,
            field("client_id"),
            tenant,
            field("scope"),
        )),
        _ => provider.token_response(request, tenant),
    };
    let mut response = respond(provider, result, correlation_id);
    response::apply(fault, &mut response, cut);
    response
}

/// Returns the correlation id of the request, or a new one.
pub(crate) fn correlation_id(headers: &HeaderMap) -> String {
    let requested = headers.get("client-request-id");
    requested
        .and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok())
        .unwrap_or_else(Uuid::new_v4)
        .to_string()
}

pub(crate) const LARGEST_FORM: usize = 1024 * 1024;
