//! A web app that signs users in, asks for consent, and shows each user's file.
//!
//! ```sh
//! cargo run --example web_sign_in            # prints the address to open in a browser
//! cargo run --example web_sign_in -- --walk  # visits the pages and prints each page's title
//! ```
//!
//! The identity provider, the app and the drive run inside this program, on loopback. The two
//! users, Adele and Megan, have no passwords.
//!
//! With Redis, the sessions and the users' tokens survive a restart of the program. The identity
//! provider then is the example `local_authority`, which keeps running in another terminal.
//!
//! ```sh
//! cargo run --example local_authority -- 8400
//! cargo run --example web_sign_in -- --redis redis://127.0.0.1:6379
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its results")]

#[path = "web_sign_in/browser.rs"]
mod browser;
#[cfg(test)]
#[path = "fleet/redis_server.rs"]
#[expect(dead_code, reason = "another example uses more of the server")]
mod redis_server;
#[path = "web_sign_in/services.rs"]
mod services;
#[path = "web_sign_in/sessions.rs"]
mod sessions;
#[cfg(test)]
#[path = "web_sign_in/tests.rs"]
mod tests;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use confidential_client::delegated::{Account, AuthorizationRequest};
use confidential_client::{ConfidentialClient, Error, ServerError, TokenRequest};

use services::Services;
use sessions::{COOKIE_ATTRIBUTES, COOKIE_NAME, Sessions};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const FILES: &str = "api://drive/Files.Read";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _services = match arguments.as_slice() {
        ["--redis", redis_url] => {
            let app = services::start_with_redis(redis_url).await?;
            println!("open {} in a browser, stop with Ctrl-C", app.url);
            None
        }
        ["--walk"] => {
            let services = Services::start().await?;
            return browser::walk(&services.app.url).await;
        }
        [] => {
            let services = Services::start().await?;
            println!("open {} in a browser, stop with Ctrl-C", services.app.url);
            Some(services)
        }
        _ => return Err("the arguments are none, --walk, or --redis and a URL".into()),
    };
    Ok(tokio::signal::ctrl_c().await?)
}

/// The state of the web app. One client serves all users.
#[derive(Clone)]
struct App {
    client: ConfidentialClient,
    sessions: Sessions,
    http: reqwest::Client,
    file_url: String,
    url: String,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-in", get(sign_in))
        .route("/signed-in", get(signed_in))
        .route("/file", get(file))
        // POST, because a POST from another site carries no `SameSite=Lax` cookie.
        .route("/sign-out", post(sign_out))
        .with_state(app)
}

async fn home(State(app): State<App>, headers: HeaderMap) -> Result<Response, PageError> {
    let Some(account) = app.sessions.account(&headers).await? else {
        return Ok(page("Welcome", SIGN_IN));
    };
    let name = escape_html(account.name().unwrap_or_default());
    let body = format!(r#"<p>You are {name}.</p><p><a href="/file">Your file</a></p>{SIGN_OUT}"#);
    Ok(page("Welcome", &body))
}

async fn sign_in(State(app): State<App>, headers: HeaderMap) -> Result<Response, PageError> {
    app.redirect_to_sign_in(&headers, None).await
}

/// Handles the redirect from the identity provider after a sign-in.
async fn signed_in(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let mut session = app.sessions.take(&headers).await?;
    // Removes the flow from the session, because a flow is valid for one sign-in.
    let Some(flow) = session.flow.take() else {
        let cookie = app.sessions.insert(session).await?;
        let page = page("No sign-in was in progress", SIGN_IN);
        return Ok((StatusCode::BAD_REQUEST, cookie, page).into_response());
    };
    let query = query.unwrap_or_default();
    let client = &app.client;
    let result = client
        .acquire_token_by_authorization_code(flow, query)
        .await;
    if let Ok(sign_in) = &result {
        session.account = Some(sign_in.account().clone());
    }
    // The session gets a new id after each sign-in.
    let cookie = app.sessions.insert(session).await?;
    let Err(error) = result else {
        return Ok((cookie, Redirect::to("/file")).into_response());
    };
    let (title, message) = match error.server_error().map(ServerError::error) {
        Some("access_denied") => (
            "You declined",
            "The app cannot show your file without your consent.".to_owned(),
        ),
        // The code has expired, or the redirect belongs to another sign-in.
        _ if error.needs_user_interaction() || matches!(error, Error::InvalidResponse(_)) => {
            ("You are not signed in", error.to_string())
        }
        _ => return Ok((cookie, PageError::from(error)).into_response()),
    };
    let page = page(title, &format!("<p>{}</p>{SIGN_IN}", escape_html(&message)));
    Ok((StatusCode::FORBIDDEN, cookie, page).into_response())
}

async fn file(State(app): State<App>, headers: HeaderMap) -> Result<Response, PageError> {
    let Some(account) = app.sessions.account(&headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let token = match app.client.acquire_token_silent(&account, FILES).await {
        Ok(token) => token,
        // The app was restarted without Redis, the user signed out elsewhere, the consent was
        // revoked, or the user must pass another factor.
        Err(error) if error.needs_user_interaction() => {
            let claims = error.claims_challenge();
            return app.redirect_to_sign_in(&headers, claims).await;
        }
        Err(error) => return Err(error.into()),
    };
    let request = app.http.get(&app.file_url);
    let request = request.header(AUTHORIZATION, token.authorization_header());
    let response = request.send().await?;
    let status = response.status();
    let text = escape_html(&response.text().await?);
    let page = match status {
        StatusCode::OK => page("Your file", &format!("<pre>{text}</pre>{SIGN_OUT}")),
        _ => page(
            "The drive returned an error",
            &format!("<p>{text}</p>{SIGN_OUT}"),
        ),
    };
    Ok((status, page).into_response())
}

/// Signs the user out of the app. The session with the identity provider continues in the browser.
/// The provider's end-session page would end that session.
async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Result<Response, PageError> {
    if let Some(account) = app.sessions.take(&headers).await?.account {
        app.client.remove_account(&account).await?;
    }
    let expired = format!("{COOKIE_NAME}=; Max-Age=0; {COOKIE_ATTRIBUTES}");
    Ok(([(SET_COOKIE, expired)], Redirect::to("/")).into_response())
}

impl App {
    /// Redirects to the identity provider's sign-in page. The page redirects to [`signed_in`].
    async fn redirect_to_sign_in(
        &self,
        headers: &HeaderMap,
        claims: Option<&str>,
    ) -> Result<Response, PageError> {
        let mut request = TokenRequest::new(FILES);
        if let Some(claims) = claims {
            request = request.claims(claims);
        }
        let mut request = AuthorizationRequest::new(format!("{}/signed-in", self.url), request);
        let account = self.sessions.account(headers).await?;
        if let Some(username) = account.as_ref().and_then(Account::username) {
            request = request.login_hint(username);
        }
        let (url, flow) = self.client.authorization_request_url(&request).await?;
        let mut session = self.sessions.take(headers).await?;
        session.flow = Some(flow);
        let cookie = self.sessions.insert(session).await?;
        Ok((cookie, Redirect::to(&url)).into_response())
    }
}

/// Builds a page. `body` is HTML, so escape text from users and from other services with
/// [`escape_html`].
fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><h1>{title}</h1>{body}</html>\n"
    );
    let policy = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, Html(html)).into_response()
}

const SIGN_OUT: &str = r#"<form method="post" action="/sign-out"><button>Sign out</button></form>"#;
const SIGN_IN: &str = r#"<p><a href="/sign-in">Sign in</a></p>"#;

fn escape_html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}

/// An error that the user cannot fix. The log gets the error and the user gets a general page.
struct PageError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let error = self.0;
        tracing::warn!(?error, "a page was not served");
        let error = error.downcast_ref::<Error>();
        let (status, text) = match error.is_some_and(Error::is_transient) {
            true => (StatusCode::SERVICE_UNAVAILABLE, "<p>Try again soon.</p>"),
            false => (StatusCode::INTERNAL_SERVER_ERROR, "<p>We are on it.</p>"),
        };
        (status, page("Something is wrong", text)).into_response()
    }
}
