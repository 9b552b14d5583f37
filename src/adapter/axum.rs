use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use axum_core::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::dpop;
use crate::resource::{
    AccessDenied, Claims, Permission, ResourceRequest, TokenRejection, TokenValidator,
    UserNotAllowed,
};

/// An axum extractor that validates the access token of a request.
///
/// The router's state contains the [`TokenValidator`]. A request with a rejected token does not
/// reach the handler.
///
/// An accepted token alone permits nothing. The handler checks the permissions of the client and
/// of the user with the methods of [`Claims`]. [`PermittedToken`] checks the permissions of the
/// client before the handler runs.
///
/// ```
/// use axum::Router;
/// use axum::routing::get;
/// use confidential_client::adapter::AcceptedToken;
/// use confidential_client::resource::{TokenRejection, TokenValidator};
/// # use axum::body::Body;
/// # use confidential_client::testing::{Application, LocalAuthority};
/// # use http::Request;
/// # use tower::ServiceExt;
///
/// async fn files(AcceptedToken(token): AcceptedToken) -> Result<String, TokenRejection> {
///     token.require_application_role("Files.Read.All")?;
///     Ok(format!("files for {:?}", token.client_id()))
/// }
///
/// fn router(validator: TokenValidator) -> Router {
///     Router::new().route("/files", get(files)).with_state(validator)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let local = LocalAuthority::start().await?;
/// # let daemon = Application::new("daemon").secret("the secret's value");
/// # let daemon = daemon.role("api://drive", "Files.Read.All");
/// # local.register("contoso.onmicrosoft.com", daemon);
/// # let authority = local.authority("contoso.onmicrosoft.com");
/// # let validator = TokenValidator::builder(authority).audience("api://drive").single_tenant();
/// # let client = confidential_client::ConfidentialClient::builder("daemon")
/// #     .authority(local.authority("contoso.onmicrosoft.com"))
/// #     .client_secret("the secret's value")
/// #     .build()?;
/// # let token = client.acquire_token_for_client("api://drive/.default").await?;
/// # let with_token = Request::get("/files")
/// #     .header("authorization", token.authorization_header())
/// #     .body(Body::empty())?;
/// # let without_token = Request::get("/files").body(Body::empty())?;
///
/// let router = router(validator.build()?);
/// assert_eq!(router.clone().oneshot(without_token).await?.status(), 401);
/// assert_eq!(router.oneshot(with_token).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
///
/// # Optional tokens
///
/// `Option<AcceptedToken>` is `None` if the request has no `Authorization` header. A request that
/// has the header needs a valid token. The extractor never turns a rejected token into `None`.
///
/// ```
/// use confidential_client::adapter::AcceptedToken;
///
/// async fn greeting(token: Option<AcceptedToken>) -> String {
///     match &token {
///         Some(AcceptedToken(token)) => format!("hello {:?}", token.string("name")),
///         None => "hello".to_owned(),
///     }
/// }
/// # let _ = greeting;
/// ```
///
/// # Bound tokens
///
/// The extractor passes the whole request to [`TokenValidator::validate_request`]. For
/// certificate-bound tokens, the server or a middleware inserts a
/// [`PeerCertificate`](crate::resource::PeerCertificate) into the extensions of the request. With
/// DPoP and nested routers, a middleware inserts an
/// [`ExternalUri`](crate::resource::ExternalUri), because a nested router changes the URI. Several
/// extractors with one validator may take the token out of a request. The proof is checked once.
///
/// ```
/// use axum::Router;
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::{Next, from_fn};
/// use axum::response::Response;
/// use confidential_client::resource::{PeerCertificate, TokenValidator};
///
/// // The server's own listener puts the certificate of a TLS connection here.
/// #[derive(Clone)]
/// struct Peer(Option<PeerCertificate>);
///
/// async fn peer_certificate(
///     ConnectInfo(Peer(certificate)): ConnectInfo<Peer>,
///     mut request: Request,
///     next: Next,
/// ) -> Response {
///     if let Some(certificate) = certificate {
///         request.extensions_mut().insert(certificate);
///     }
///     next.run(request).await
/// }
///
/// fn router(routes: Router<TokenValidator>) -> Router<TokenValidator> {
///     routes.layer(from_fn(peer_certificate))
/// }
/// # let _ = router;
/// ```
///
/// # Limits
///
/// The extractor does not read cookies or query parameters. Nothing is retried. The validator
/// fetches signing keys as [`TokenValidator`] describes.
///
/// # Errors
///
/// The rejection is a [`TokenRejection`]. The response has the status, the `WWW-Authenticate`
/// header, the `Retry-After` header and the `DPoP-Nonce` header of the rejection. The body is the
/// text of the error.
#[doc(alias("JwtBearer", "protect", "BearerToken", "Authorization"))]
#[derive(Clone, Debug)]
pub struct AcceptedToken(pub Claims);

/// An axum extractor that validates the access token and requires the permission `P`.
///
/// The extractor derefs to the [`Claims`]. A client without the permission gets a 403 response, and
/// the handler does not run. The permission concerns the client. The handler checks the rights of
/// the user.
///
/// ```
/// use axum::extract::Path;
/// use confidential_client::adapter::PermittedToken;
/// use confidential_client::resource::{Permission, UserNotAllowed};
///
/// struct ReadFiles;
///
/// impl Permission for ReadFiles {
///     const SCOPES: &'static [&'static str] = &["Files.Read"];
/// }
///
/// async fn file(
///     Path(owner): Path<String>,
///     token: PermittedToken<ReadFiles>, // The client may read files.
/// ) -> Result<&'static str, UserNotAllowed> {
///     token.authorize_user(|user| user.object_id() == Some(&owner))?; // The user owns the file.
///     Ok("the content of the file")
/// }
/// # let _ = axum::Router::<confidential_client::resource::TokenValidator>::new()
/// #     .route("/drives/{owner}/file", axum::routing::get(file));
/// ```
///
/// `Option<PermittedToken<P>>` is `None` if the request has no `Authorization` header. A token
/// without the permission gets the 403 response there, too.
///
/// # Limits
///
/// The limits are the limits of [`AcceptedToken`].
///
/// # Errors
///
/// The rejection is a [`TokenRejection`], from the validator or from [`Claims::require`].
#[doc(alias("protect", "RequiredScope", "Authorize"))]
pub struct PermittedToken<P>(Claims, PhantomData<fn() -> P>);

impl<P> PermittedToken<P> {
    /// Returns the claims of the token, without the permission in the type.
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
        validate(parts, state).await.map(Self)
    }
}

impl<S> OptionalFromRequestParts<S> for AcceptedToken
where
    TokenValidator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = TokenRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, TokenRejection> {
        optional(parts, state).await
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
        let claims = validate(parts, state).await?;
        claims.require::<P>()?;
        Ok(Self(claims, PhantomData))
    }
}

impl<P, S> OptionalFromRequestParts<S> for PermittedToken<P>
where
    P: Permission,
    TokenValidator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = TokenRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, TokenRejection> {
        optional(parts, state).await
    }
}

/// The claims of a request with a proof that a validator accepted, as an extension of the request.
///
/// A proof is accepted once, and several extractors may take the token out of one request.
#[derive(Clone)]
struct AcceptedProof {
    validator: TokenValidator,
    /// The headers `Authorization` and `DPoP` that were validated.
    headers: [Option<HeaderValue>; 2],
    claims: Claims,
}

async fn validate<S>(parts: &mut Parts, state: &S) -> Result<Claims, TokenRejection>
where
    TokenValidator: FromRef<S>,
{
    let validator = TokenValidator::from_ref(state);
    let has_proof = parts.headers.contains_key(dpop::PROOF);
    let sent =
        |parts: &Parts| [AUTHORIZATION, dpop::PROOF].map(|name| parts.headers.get(name).cloned());
    if has_proof
        && let Some(accepted) = parts.extensions.get::<AcceptedProof>()
        && accepted.validator.is_same(&validator)
        && accepted.headers == sent(parts)
    {
        return Ok(accepted.claims.clone());
    }
    let request = ResourceRequest::from(&*parts);
    let claims = validator.validate_request(request).await?;
    if has_proof {
        let accepted = AcceptedProof {
            headers: sent(parts),
            claims: claims.clone(),
            validator,
        };
        parts.extensions.insert(accepted);
    }
    Ok(claims)
}

/// Extracts a token if the request has an `Authorization` header.
///
/// A header without a valid token is an error. Otherwise an expired token would make the request
/// anonymous, and the client would not learn that a new token is needed.
async fn optional<T, S>(parts: &mut Parts, state: &S) -> Result<Option<T>, TokenRejection>
where
    T: FromRequestParts<S, Rejection = TokenRejection>,
    S: Send + Sync,
{
    match parts.headers.contains_key(AUTHORIZATION) {
        true => T::from_request_parts(parts, state).await.map(Some),
        false => Ok(None),
    }
}

impl IntoResponse for TokenRejection {
    fn into_response(self) -> Response {
        let mut response = plain_text(self.status(), &self);
        let headers = response.headers_mut();
        if let Some(challenge) = self.www_authenticate() {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(nonce) = self.dpop_nonce() {
            headers.insert(dpop::NONCE, nonce);
            // RFC 9449 section 8.2: a response with a nonce is not cacheable.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if let Some(delay) = self.retry_after() {
            let seconds = delay.as_millis().div_ceil(1000);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for UserNotAllowed {
    fn into_response(self) -> Response {
        plain_text(self.status(), &self)
    }
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        match self {
            Self::Client(rejection) => rejection.into_response(),
            Self::User(denial) => denial.into_response(),
        }
    }
}

/// Builds a response with the error as plain text.
fn plain_text(status: StatusCode, error: &impl fmt::Display) -> Response {
    (status, error.to_string()).into_response()
}
