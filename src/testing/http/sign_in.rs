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

use crate::testing::aadsts::AadstsError;
use crate::testing::authorize::pages::Page;
use crate::testing::authorize::steps::{self, SignInStep};
use crate::testing::http::server::IdentityProvider;

/// The authorization request itself.
pub(crate) async fn authorize(
    State(server): State<Arc<IdentityProvider>>,
    Path(tenant): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = fields(query.unwrap_or_default().as_bytes());
    let step = server
        .decide(|directories, _, sessions| steps::begin(&query, &tenant, directories, sessions));
    respond(step)
}

/// The form of the sign-in page.
pub(crate) async fn choose(
    State(server): State<Arc<IdentityProvider>>,
    body: Bytes,
) -> Response<Body> {
    let form = fields(&body);
    let step = server.decide(|directories, _, sessions| {
        steps::choose_user(
            field(&form, "request"),
            field(&form, "user"),
            directories,
            sessions,
        )
    });
    respond(step)
}

/// The form of the consent page.
pub(crate) async fn consent(
    State(server): State<Arc<IdentityProvider>>,
    body: Bytes,
) -> Response<Body> {
    let form = fields(&body);
    let is_accepted = field(&form, "answer") == "accept";
    let step = server.decide(|directories, _, sessions| {
        steps::answer_consent(field(&form, "request"), is_accepted, directories, sessions)
    });
    respond(step)
}

fn fields(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    let field = form.iter().find(|(known, _)| known == name);
    field.map_or("", |(_, value)| value)
}

fn respond(step: Result<SignInStep, AadstsError>) -> Response<Body> {
    match step {
        Ok(SignInStep::Done(reply)) if reply.is_form => {
            page(StatusCode::OK, &Page::form_post(&reply))
        }
        Ok(SignInStep::Done(reply)) => match HeaderValue::try_from(reply.url()) {
            // What was posted here is not posted there (RFC 9700 section 4.12).
            Ok(location) => response(StatusCode::SEE_OTHER, Body::empty(), [(LOCATION, location)]),
            Err(_) => page(
                StatusCode::BAD_REQUEST,
                &Page::refusal(&AadstsError::missing_redirect_uri()),
            ),
        },
        Ok(SignInStep::User {
            pending,
            back_to,
            users,
        }) => page(StatusCode::OK, &Page::users(&pending, &back_to, &users)),
        Ok(SignInStep::Consent {
            pending,
            back_to,
            client_id,
            user,
            scopes,
        }) => page(
            StatusCode::OK,
            &Page::consent(&pending, &back_to, &client_id, &user, &scopes),
        ),
        Err(refusal) => page(refusal.status, &Page::refusal(&refusal)),
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
    let to_all = [
        (CACHE_CONTROL, "no-store"),
        (PRAGMA, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let to_all = to_all.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(to_all);
    response.headers_mut().extend(headers);
    response
}
