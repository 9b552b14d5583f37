use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::resource::{
    AccessDenied, Claims, Permission, TokenRejection, TokenValidator, UserNotAllowed,
};

/// A request's token, checked by the router's [`TokenValidator`]: an axum extractor.
///
/// A request without a token that is taken never reaches the handler; it is answered as the
/// [`TokenRejection`] says. What the token lets its client do is still to be asked: see
/// [`PermittedToken`] for a route that asks at the same place.
///
/// ```
/// # use axum::Router;
/// # use axum::routing::get;
/// use confidential_client::adapter::AcceptedToken;
/// use confidential_client::resource::{TokenRejection, TokenValidator};
///
/// async fn files(AcceptedToken(token): AcceptedToken) -> Result<String, TokenRejection> {
///     token.require_scope("Files.Read")?;
///     Ok(format!("the files of {:?}", token.object_id()))
/// }
///
/// fn router(validator: TokenValidator) -> Router {
///     Router::new().route("/files", get(files)).with_state(validator)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AcceptedToken(pub Claims);

/// The same where the route says what it takes: a client without that is answered 403.
///
/// ```
/// use confidential_client::adapter::PermittedToken;
/// use confidential_client::resource::{Permission, UserNotAllowed};
///
/// struct ReadFiles;
///
/// impl Permission for ReadFiles {
///     const SCOPES: &'static [&'static str] = &["Files.Read"];
/// }
///
/// # const OWNER: &str = "";
/// // The client may, once this runs. Whether the user may is the application's to say.
/// async fn file(token: PermittedToken<ReadFiles>) -> Result<&'static str, UserNotAllowed> {
///     token.authorize_user(|user| user.object_id() == Some(OWNER))?;
///     Ok("what is in the file")
/// }
/// # let _ = file;
/// ```
pub struct PermittedToken<P>(Claims, PhantomData<fn() -> P>);

impl<P> PermittedToken<P> {
    /// What the token says, without the route's name for it.
    pub fn into_claims(self) -> Claims {
        self.0
    }
}

impl<P> Deref for PermittedToken<P> {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<P> Clone for PermittedToken<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<P> fmt::Debug for PermittedToken<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PermittedToken").field(&self.0).finish()
    }
}

impl<S> FromRequestParts<S> for AcceptedToken
where
    TokenValidator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TokenRejection> {
        let validator = TokenValidator::from_ref(state);
        validator.validate_headers(&parts.headers).await.map(Self)
    }
}

impl<P, S> FromRequestParts<S> for PermittedToken<P>
where
    P: Permission,
    TokenValidator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = TokenRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TokenRejection> {
        let AcceptedToken(claims) = AcceptedToken::from_request_parts(parts, state).await?;
        claims.require::<P>()?;
        Ok(Self(claims, PhantomData))
    }
}

impl IntoResponse for TokenRejection {
    fn into_response(self) -> Response {
        let mut response = answer(self.status(), &self);
        let headers = response.headers_mut();
        if let Some(challenge) = self.www_authenticate() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after() {
            let seconds = wait.as_millis().div_ceil(1000);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for UserNotAllowed {
    fn into_response(self) -> Response {
        answer(self.status(), &self)
    }
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        match self {
            Self::Client(refusal) => refusal.into_response(),
            Self::User(refusal) => refusal.into_response(),
        }
    }
}

/// The reason as plain text.
fn answer(status: StatusCode, reason: &impl fmt::Display) -> Response {
    (status, reason.to_string()).into_response()
}
