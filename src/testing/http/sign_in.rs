use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, PRAGMA, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use url::form_urlencoded;

use crate::testing::aadsts::error::AadstsError;
use crate::testing::authorize::flow::SignInStep;
use crate::testing::authorize::pages::Page;
use crate::testing::provider::IdentityProvider;

/// Handles an authorization request.
pub(crate) async fn authorize(
    State(provider): State<Arc<IdentityProvider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = fields(query.unwrap_or_default().as_bytes());
    respond(provider.sign_in(|mut flow| flow.begin(&query, &tenant)))
}

/// Handles a request for an administrator's consent.
pub(crate) async fn admin_consent(
    State(provider): State<Arc<IdentityProvider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = fields(query.unwrap_or_default().as_bytes());
    respond(provider.sign_in(|mut flow| flow.grant_admin_consent(&query, &tenant)))
}

/// Handles the form of the sign-in page.
pub(crate) async fn choose_user(
    State(provider): State<Arc<IdentityProvider>>,
    body: Bytes,
) -> Response<Body> {
    let form = fields(&body);
    let (pending, user) = (field(&form, "request"), field(&form, "user"));
    respond(provider.sign_in(|mut flow| flow.choose_user(pending, user)))
}

/// Handles the form of the consent page.
pub(crate) async fn consent(
    State(provider): State<Arc<IdentityProvider>>,
    body: Bytes,
) -> Response<Body> {
    let form = fields(&body);
    let pending = field(&form, "request");
    let is_accepted = field(&form, "answer") == "accept";
    respond(provider.sign_in(|mut flow| flow.submit_consent(pending, is_accepted)))
}

/// Handles a sign-out.
pub(crate) async fn end_session(
    State(provider): State<Arc<IdentityProvider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = fields(query.unwrap_or_default().as_bytes());
    match provider.end_session(&query, &tenant) {
        Ok(Some(url)) => redirect(&url),
        Ok(None) => page(StatusCode::OK, &Page::signed_out()),
        Err(error) => page(error.status, &Page::error(&error)),
    }
}

fn fields(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    let field = form.iter().find(|(known, _)| known == name);
    field.map_or("", |(_, value)| value)
}

fn respond(step: Result<SignInStep, AadstsError>) -> Response<Body> {
    let step = match step {
        Ok(step) => step,
        Err(error) => return page(error.status, &Page::error(&error)),
    };
    let html = match step {
        SignInStep::ChooseUser {
            pending,
            redirect_uri,
            users,
        } => Page::users(&pending, &redirect_uri, &users),
        SignInStep::Consent {
            pending,
            redirect_uri,
            client_id,
            user,
            scopes,
        } => Page::consent(&pending, &redirect_uri, &client_id, &user, &scopes),
        SignInStep::Done(response) if response.is_form_post => Page::form_post(&response),
        SignInStep::Done(response) => return redirect(&response.url()),
    };
    page(StatusCode::OK, &html)
}

/// Redirects with 303, so the browser does not repeat the form at the client (RFC 9700 section
/// 4.12).
fn redirect(url: &str) -> Response<Body> {
    match HeaderValue::try_from(url) {
        Ok(url) => response(StatusCode::SEE_OTHER, Body::empty(), [(LOCATION, url)]),
        Err(_) => {
            let error = AadstsError::missing_redirect_uri();
            page(StatusCode::BAD_REQUEST, &Page::error(&error))
        }
    }
}

fn page(status: StatusCode, page: &Page) -> Response<Body> {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let policy = HeaderValue::try_from(page.policy());
    let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
    response(
        status,
        Body::from(page.html.clone()),
        [(CONTENT_TYPE, html), (CONTENT_SECURITY_POLICY, policy)],
    )
}

fn response(
    status: StatusCode,
    body: Body,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let common = [
        (CACHE_CONTROL, "no-store"),
        (PRAGMA, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let common = common.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(common);
    response.headers_mut().extend(headers);
    response
}
