//! A web app where users sign in, consent to what it asks for, and see their file.
//!
//! ```sh
//! cargo run --example web_sign_in            # prints the address to open in a browser
//! cargo run --example web_sign_in -- --walk  # goes there by itself, and says what it sees
//! ```
//!
//! Identity provider, app and drive run inside this program, on loopback. There are two users, Adele
//! and Megan, and nobody has a password.
#![allow(clippy::print_stdout, reason = "it reports to a reader")]

#[path = "web_sign_in/browser.rs"]
mod browser;
#[cfg(test)]
#[path = "web_sign_in/tests.rs"]
mod tests;
#[path = "web_sign_in/world.rs"]
mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, SET_COOKIE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use confidential_client::delegated::{Account, AuthorizationCodeFlow, AuthorizationRequest};
use confidential_client::{ConfidentialClient, Error, ServerError, TokenRequest};
use uuid::Uuid;

use world::World;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const FILES: &str = "api://drive/Files.Read";

#[tokio::main]
async fn main() -> Result<()> {
    let world = World::start().await?;
    if std::env::args().any(|argument| argument == "--walk") {
        return browser::walk(&world.app.url).await;
    }
    println!("open {} in a browser; Ctrl-C ends it", world.app.url);
    Ok(tokio::signal::ctrl_c().await?)
}

/// What a web app keeps: one client, and its users' sessions.
#[derive(Clone)]
struct App {
    client: ConfidentialClient,
    sessions: Sessions,
    http: reqwest::Client,
    drive: String,
    url: String,
}

fn pages(app: App) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/sign-in", get(sign_in))
        .route("/signed-in", get(signed_in))
        .route("/file", get(file))
        // By POST, which the cookie does not come with from another site.
        .route("/sign-out", post(sign_out))
        .with_state(app)
}

async fn home(State(app): State<App>, headers: HeaderMap) -> Response {
    let Some(account) = app.sessions.account(&headers) else {
        return page("Welcome", SIGN_IN);
    };
    let name = escaped(account.name().unwrap_or_default());
    let body = format!(r#"<p>You are {name}.</p><p><a href="/file">Your file</a></p>{SIGN_OUT}"#);
    page("Welcome", &body)
}

async fn sign_in(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    app.send_to_sign_in(&headers, None).await
}

/// Here the provider sends the browser back.
async fn signed_in(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let mut session = app.sessions.take(&headers);
    // Out of the session, as it is good for one sign-in.
    let Some(flow) = session.flow.take() else {
        let cookie = app.sessions.keep(session);
        let page = page("Nobody was signing in", SIGN_IN);
        return Ok((StatusCode::BAD_REQUEST, cookie, page).into_response());
    };
    let query = query.unwrap_or_default();
    let signed_in = app.client.acquire_token_by_authorization_code(flow, query);
    let signed_in = signed_in.await;
    if let Ok(signed_in) = &signed_in {
        session.account = Some(signed_in.account().clone());
    }
    let cookie = app.sessions.keep(session);
    let Err(error) = signed_in else {
        return Ok((cookie, Redirect::to("/file")).into_response());
    };
    let (title, why) = match error.server_error().map(ServerError::error) {
        Some("access_denied") => (
            "You declined",
            "Without your consent the app can show you nothing.".to_owned(),
        ),
        // A code that is too old, or an answer to another sign-in.
        _ if error.needs_user_interaction() || matches!(error, Error::InvalidResponse(_)) => {
            ("You are not signed in", error.to_string())
        }
        _ => return Ok((cookie, Failure::from(error)).into_response()),
    };
    let page = page(title, &format!("<p>{}</p>{SIGN_IN}", escaped(&why)));
    Ok((StatusCode::FORBIDDEN, cookie, page).into_response())
}

async fn file(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    let Some(account) = app.sessions.account(&headers) else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    let token = match app.client.acquire_token_silent(&account, FILES).await {
        Ok(token) => token,
        // The app was started anew, the session was ended, consent taken back, a factor is missing.
        Err(error) if error.needs_user_interaction() => {
            let claims = error.claims_challenge();
            return app.send_to_sign_in(&headers, claims).await;
        }
        Err(error) => return Err(error.into()),
    };
    let asked = app.http.get(&app.drive);
    let asked = asked.header(AUTHORIZATION, token.authorization_header());
    let answer = asked.send().await?;
    let status = answer.status();
    let text = escaped(&answer.text().await?);
    let page = match status {
        StatusCode::OK => page("Your file", &format!("<pre>{text}</pre>{SIGN_OUT}")),
        _ => page("The drive says no", &format!("<p>{text}</p>{SIGN_OUT}")),
    };
    Ok((status, page).into_response())
}

/// The provider's own session goes on in the browser; its end-session page would end it.
async fn sign_out(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    if let Some(account) = app.sessions.take(&headers).account {
        app.client.remove_account(&account);
    }
    let gone = format!("{COOKIE_NAME}=; Max-Age=0; {COOKIE_ATTRIBUTES}");
    ([(SET_COOKIE, gone)], Redirect::to("/"))
}

impl App {
    /// To the provider's page, which comes back to [`signed_in`].
    async fn send_to_sign_in(
        &self,
        headers: &HeaderMap,
        claims: Option<&str>,
    ) -> Result<Response, Failure> {
        let mut request = TokenRequest::new(FILES);
        if let Some(claims) = claims {
            request = request.claims(claims);
        }
        let mut request = AuthorizationRequest::new(format!("{}/signed-in", self.url), request);
        let account = self.sessions.account(headers);
        if let Some(username) = account.as_ref().and_then(Account::username) {
            request = request.login_hint(username);
        }
        let (url, flow) = self.client.authorization_request_url(&request).await?;
        let mut session = self.sessions.take(headers);
        session.flow = Some(flow);
        Ok((self.sessions.keep(session), Redirect::to(&url)).into_response())
    }
}

/// They stay on the server: the flow has a secret, and the account is what tokens are had by. This
/// store forgets none and is forgotten with the program; a real one bounds them, and ends them.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, Session>>>);

#[derive(Default)]
struct Session {
    flow: Option<AuthorizationCodeFlow>,
    account: Option<Account>,
}

impl Sessions {
    fn account(&self, headers: &HeaderMap) -> Option<Account> {
        self.lock().get(&cookie(headers)?)?.account.clone()
    }

    /// The session of the browser that sent this, which has none from here on.
    fn take(&self, headers: &HeaderMap) -> Session {
        let session = cookie(headers).and_then(|id| self.lock().remove(&id));
        session.unwrap_or_default()
    }

    /// Keeps it, under an id that nobody can have known before: neither guessed, nor planted in the
    /// browser before its user signed in.
    fn keep(&self, session: Session) -> [(HeaderName, String); 1] {
        let id = Uuid::new_v4().to_string();
        let cookie = format!("{COOKIE_NAME}={id}; {COOKIE_ATTRIBUTES}");
        self.lock().insert(id, session);
        [(SET_COOKIE, cookie)]
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter();
    let mut cookies = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split("; "));
    let id = cookies.find_map(|cookie| cookie.strip_prefix(COOKIE_NAME)?.strip_prefix('='));
    id.map(ToOwned::to_owned)
}

const COOKIE_NAME: &str = "session";
/// `Lax`, since the browser comes back from another site. Over https, add `Secure`.
const COOKIE_ATTRIBUTES: &str = "HttpOnly; SameSite=Lax; Path=/";

/// `body` is HTML: what is not the app's own text is [`escaped`] in it.
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

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}

/// Nothing that a user can help; they are told no more, and the log is.
struct Failure(Box<dyn std::error::Error>);

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.0;
        tracing::warn!(%error, "a page was not served");
        let error = error.downcast_ref::<Error>();
        let (status, text) = match error.is_some_and(Error::is_transient) {
            true => (StatusCode::SERVICE_UNAVAILABLE, "<p>Try again soon.</p>"),
            false => (StatusCode::INTERNAL_SERVER_ERROR, "<p>We are on it.</p>"),
        };
        (status, page("Something is wrong", text)).into_response()
    }
}
