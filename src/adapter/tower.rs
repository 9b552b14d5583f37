use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::bearer_auth::BearerAuth;
use super::origin::RequestOrigin;
use crate::error::Error;

/// Attaches tokens before any tower service over `http::Request`: hyper's clients, tonic's, and
/// whatever else is built on tower.
///
/// An outer layer that follows redirects comes in again for each of them, and gets a token for the
/// origins named alone. The service beneath must follow none itself, as reqwest's client does unless
/// told otherwise: it would take the token along by rules of its own, and the challenge at the end
/// would pass for that of the origin asked.
///
/// A request goes to the origin of its URI, so it needs a whole one: `/v1.0/users` alone has no token.
/// The clients that tonic generates put the origin in by `with_origin(service, origin)`; by `new`
/// they leave it to the channel, which comes too late. That a gRPC service turned a token down is in
/// its `grpc-status`, where this layer does not look.
///
/// ```
/// # use std::convert::Infallible;
/// # use bytes::Bytes;
/// # use confidential_client::ConfidentialClient;
/// # use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
/// # use http::{Request, Response};
/// # use tower::{ServiceBuilder, ServiceExt};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
/// #     .tenant("contoso.onmicrosoft.com")
/// #     .client_secret("s3cret")
/// #     .transport(|_: Request<Bytes>| async {
/// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #         Ok(Response::new(Bytes::from(body)))
/// #     })
/// #     .build()?;
/// # let http = tower::service_fn(|request: Request<Bytes>| async move {
/// #     Ok::<_, Infallible>(Response::new(request.headers()["authorization"].clone()))
/// # });
/// let graph = client.token_provider("https://graph.microsoft.com/.default")?;
/// let auth = BearerAuth::new(graph, ["https://graph.microsoft.com"])?;
/// let service = ServiceBuilder::new()
///     .layer(BearerAuthLayer::new(auth).retry_with(|body: &Bytes| Some(body.clone())))
///     .service(http);
///
/// let users = Request::get("https://graph.microsoft.com/v1.0/users").body(Bytes::new())?;
/// let response = service.oneshot(users).await?;
/// # assert_eq!(response.body(), "Bearer abc");
/// # Ok(())
/// # }
/// ```
pub struct BearerAuthLayer<B> {
    auth: BearerAuth,
    clone: CloneBody<B>,
}

/// How a body is cloned.
type CloneBody<B> = Arc<dyn Fn(&B) -> Option<B> + Send + Sync>;

impl<B> BearerAuthLayer<B> {
    /// Attaches tokens, and repeats no request: one whose token was not taken is handed through, and
    /// the next has another.
    pub fn new(auth: BearerAuth) -> Self {
        Self {
            auth,
            clone: Arc::new(|_| None),
        }
    }

    /// Repeats a request whose token was not taken, once, with what `clone` makes of its body;
    /// `None` for one that cannot be sent twice, such as a stream.
    #[must_use]
    pub fn retry_with(mut self, clone: impl Fn(&B) -> Option<B> + Send + Sync + 'static) -> Self {
        self.clone = Arc::new(clone);
        self
    }
}

impl<B> Clone for BearerAuthLayer<B> {
    fn clone(&self) -> Self {
        Self {
            auth: self.auth.clone(),
            clone: Arc::clone(&self.clone),
        }
    }
}

impl<B> fmt::Debug for BearerAuthLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerAuthLayer").field(&self.auth).finish()
    }
}

impl<S, B> Layer<S> for BearerAuthLayer<B> {
    type Service = BearerAuthService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuthService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose requests have tokens; made by [`BearerAuthLayer`].
pub struct BearerAuthService<S, B> {
    inner: S,
    layer: BearerAuthLayer<B>,
}

impl<S: Clone, B> Clone for BearerAuthService<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, B> fmt::Debug for BearerAuthService<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerAuthService")
            .field(&self.layer.auth)
            .finish()
    }
}

/// Why a request with a token brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BearerAuthError<E> {
    /// There was no token, and nothing was sent.
    #[error(transparent)]
    Token(Error),
    /// The service's own error.
    #[error(transparent)]
    Service(E),
}

/// What [`BearerAuthService`] returns.
pub type BearerAuthFuture<R, E> =
    Pin<Box<dyn Future<Output = Result<Response<R>, BearerAuthError<E>>> + Send>>;

impl<S, B, R> Service<Request<B>> for BearerAuthService<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BearerAuthError<S::Error>;
    type Future = BearerAuthFuture<R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(context)
            .map_err(BearerAuthError::Service)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is used, and a clone of it stays.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move { layer.send(inner, request).await })
    }
}

impl<B> BearerAuthLayer<B> {
    async fn send<S, R>(
        &self,
        mut inner: S,
        request: Request<B>,
    ) -> Result<Response<R>, BearerAuthError<S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>>,
    {
        let (mut parts, body) = request.into_parts();
        let may_have_it = self
            .auth
            .is_for(&RequestOrigin::from(&parts.uri), &parts.headers);
        let attached = self.auth.attach(may_have_it, &mut parts.headers).await;
        let Some(token) = attached.map_err(BearerAuthError::Token)? else {
            let request = Request::from_parts(parts, body);
            return inner.call(request).await.map_err(BearerAuthError::Service);
        };
        let again = (self.clone)(&body).map(|body| (parts.clone(), body));
        let response = inner.call(Request::from_parts(parts, body)).await;
        let response = response.map_err(BearerAuthError::Service)?;
        let renewed = self
            .auth
            .answer(response.status(), response.headers(), &token)
            .await;
        match (renewed, again) {
            (Some(renewed), Some((mut parts, body))) => {
                // A service that is one connection is not ready again before it is gone.
                drop(response);
                let header = renewed.authorization_header();
                parts.headers.insert(AUTHORIZATION, header);
                let ready = std::future::poll_fn(|context| inner.poll_ready(context));
                ready.await.map_err(BearerAuthError::Service)?;
                let request = Request::from_parts(parts, body);
                inner.call(request).await.map_err(BearerAuthError::Service)
            }
            _ => Ok(response),
        }
    }
}
