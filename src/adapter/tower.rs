use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::bearer_auth::{BearerAuth, ProofAttempts, SentProof};
use super::origin::{Origin, RequestOrigin};
use crate::error::Error;
use crate::token::{AccessToken, TokenScheme};

mod future;

pub use future::BearerAuthFuture;
use future::Retry;

/// A tower layer that attaches tokens to the requests of a service over `http::Request`.
///
/// The service may be a client of hyper, a channel of tonic, or any other tower service.
/// [`BearerAuth`] names the token and the origins. Clones are cheap.
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
/// #     .client_secret("the secret's value")
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
///
/// # Retries
///
/// After a 401 the request is retried once with a fresh token, if [`retry_with`](Self::retry_with)
/// was called. [`BearerAuth`](BearerAuth#retries) has the rules.
///
/// # Redirects
///
/// Put a layer that follows redirects above this layer. Each redirected request then gets a token
/// only if the origin is named. The service below must not follow redirects. reqwest's client
/// follows redirects by default, would forward the token by other rules, and would hide the origin
/// of the challenge.
///
/// # gRPC
///
/// Channels of tonic add the origin below this layer, so the URI of a request has none. Name the
/// origin with [`default_origin`](Self::default_origin).
///
/// The status `UNAUTHENTICATED` at the start of a response counts as a 401 with `invalid_token`. A
/// call of tonic cannot be sent twice, so the caller receives the status, and the next call carries
/// a fresh token. A status in the trailers, after a response has begun, is not read.
///
/// # Cost
///
/// A call with a cached token passes the request to the service below at once, and allocates
/// nothing but the copies for a retry. The headers are copied in one allocation, and the body by
/// the function of [`retry_with`](Self::retry_with). Without `retry_with` nothing is copied, and
/// the service below is not cloned.
///
/// A call with a token of the scheme [`Dpop`](crate::TokenScheme::Dpop) allocates a future and
/// signs a proof. A signature costs some 16 microseconds with a P-256 key in memory.
///
/// # Errors
///
/// The service returns [`BearerAuthError::Token`] if no token is available. Nothing is sent then.
#[doc(alias("AddAuthorizationLayer", "BearerTokenCredentialPolicy"))]
pub struct BearerAuthLayer<B>(Arc<Options<B>>);

/// The options of a [`BearerAuthLayer`].
struct Options<B> {
    auth: BearerAuth,
    clone_body: Option<CloneBody<B>>,
    default_origin: Option<Arc<Origin>>,
    /// True after the first warning about a request without origin.
    has_warned: Arc<AtomicBool>,
}

/// A function that clones the body of a request.
type CloneBody<B> = Arc<dyn Fn(&B) -> Option<B> + Send + Sync>;

impl<B> Clone for Options<B> {
    fn clone(&self) -> Self {
        Self {
            auth: self.auth.clone(),
            clone_body: self.clone_body.clone(),
            default_origin: self.default_origin.clone(),
            has_warned: Arc::clone(&self.has_warned),
        }
    }
}

impl<B> BearerAuthLayer<B> {
    /// Creates a layer that attaches tokens and retries no request.
    ///
    /// After a 401 the caller receives the response, and the next request carries a fresh token.
    pub fn new(auth: BearerAuth) -> Self {
        Self(Arc::new(Options {
            auth,
            clone_body: None,
            default_origin: None,
            has_warned: Arc::default(),
        }))
    }

    /// Sets the origin of requests whose URI has no scheme and host.
    ///
    /// Such a request, for example to `/v1.0/users`, gets no token by default, because nothing
    /// tells where the service below sends the request. The log has one warning. `origin` is the
    /// origin that the service below sends such requests to, and one of the origins of
    /// [`BearerAuth`]. The layer does not change the URI.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if `origin` is not a valid origin, or is not one of the origins of
    /// [`BearerAuth`].
    pub fn default_origin(mut self, origin: impl AsRef<str>) -> Result<Self, Error> {
        let options = Arc::make_mut(&mut self.0);
        let origin = options.auth.named_origin(origin.as_ref())?;
        options.default_origin = Some(Arc::new(origin));
        Ok(self)
    }

    /// Retries a request once after a 401, with the body that `clone_body` returns.
    ///
    /// `clone_body` runs before each request with a token. The function returns `None` for a body
    /// that cannot be sent twice, such as a stream.
    #[must_use]
    pub fn retry_with(
        mut self,
        clone_body: impl Fn(&B) -> Option<B> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.0).clone_body = Some(Arc::new(clone_body));
        self
    }
}

impl<B> Clone for BearerAuthLayer<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for BearerAuthLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerAuthLayer")
            .field(&self.0.auth)
            .finish()
    }
}

impl<S, B> Layer<S> for BearerAuthLayer<B> {
    type Service = BearerAuthService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerAuthService {
            inner,
            options: Arc::clone(&self.0),
        }
    }
}

/// A service that attaches tokens to requests, created by [`BearerAuthLayer`].
pub struct BearerAuthService<S, B> {
    inner: S,
    options: Arc<Options<B>>,
}

impl<S: Clone, B> Clone for BearerAuthService<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            options: Arc::clone(&self.options),
        }
    }
}

impl<S, B> fmt::Debug for BearerAuthService<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BearerAuthService")
            .field(&self.options.auth)
            .finish()
    }
}

/// An error of a [`BearerAuthService`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BearerAuthError<E> {
    /// No token was available, and the request was not sent.
    #[error(transparent)]
    Token(Error),
    /// The inner service failed.
    #[error(transparent)]
    Service(E),
}

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
    type Future = BearerAuthFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner
            .poll_ready(context)
            .map_err(BearerAuthError::Service)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let options = &self.options;
        let origin = options.origin_of(request.uri());
        if !options.auth.may_attach(&origin, request.headers()) {
            return BearerAuthFuture::unchanged(self.inner.call(request));
        }
        let token = options.auth.fresh_token();
        let Some(token) = token.filter(|token| token.scheme() != TokenScheme::Dpop) else {
            // `poll_ready` prepared this service. A clone may not be ready, so the clone stays
            // behind.
            let clone = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, clone);
            let options = Arc::clone(options);
            return BearerAuthFuture::boxed(async move {
                let token = options.auth.token().await;
                let token = token.map_err(BearerAuthError::Token)?;
                match token.scheme() {
                    TokenScheme::Dpop => options.send_with_proof(inner, request, token).await,
                    _ => options.send(&mut inner, request, token).await,
                }
            });
        };
        options.send(&mut self.inner, request, token)
    }
}

impl<B> Options<B> {
    /// Returns the origin that a request is sent to.
    #[inline]
    fn origin_of<'a>(&'a self, uri: &'a Uri) -> RequestOrigin<'a> {
        match (uri.authority(), self.default_origin.as_deref()) {
            (None, Some(origin)) => return RequestOrigin::from(origin),
            (None, None) if !self.has_warned.swap(true, Ordering::Relaxed) => tracing::warn!(
                "a request was sent without a token, because its URI has no scheme and host; call default_origin(..) of BearerAuthLayer"
            ),
            _ => {}
        }
        RequestOrigin::from(uri)
    }

    /// Sends a request with the token and a proof, and again after a challenge.
    async fn send_with_proof<S, R>(
        &self,
        mut inner: S,
        mut request: Request<B>,
        mut token: AccessToken,
    ) -> Result<Response<R>, BearerAuthError<S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
    {
        let (method, target) = (request.method().clone(), self.target_of(request.uri()));
        let mut attempts = ProofAttempts::default();
        loop {
            // The service consumes the request, so the copy comes first.
            let retry = self.copy(&inner, &request);
            let headers = request.headers_mut();
            let proof = self.auth.prove(&token, &method, &target, headers).await;
            let proof = proof.map_err(BearerAuthError::Token)?;
            let response = inner.call(request).await;
            let response = response.map_err(BearerAuthError::Service)?;
            let (status, headers) = (response.status(), response.headers());
            let sent = SentProof { token, proof };
            let next = self.auth.token_after(status, headers, sent, &mut attempts);
            let (Some(next), Some(retry)) = (next.await, retry.and_then(Retry::into_request))
            else {
                return Ok(response);
            };
            // A service with one connection is ready again only after the response is dropped.
            drop(response);
            (token, (inner, request)) = (next, retry);
            let ready = std::future::poll_fn(|context| inner.poll_ready(context));
            ready.await.map_err(BearerAuthError::Service)?;
        }
    }

    /// Returns the URI that a proof names, with the origin that the service below adds.
    fn target_of(&self, uri: &Uri) -> String {
        match (uri.authority(), self.default_origin.as_deref()) {
            (None, Some(origin)) => format!("{}{uri}", origin.as_uri()),
            _ => uri.to_string(),
        }
    }

    /// Copies a request for a retry. `None` if the request cannot be sent twice.
    #[inline]
    fn copy<S: Clone>(&self, inner: &S, request: &Request<B>) -> Option<Retry<S, B>> {
        let clone_body = self.clone_body.as_deref();
        let body = clone_body.and_then(|clone_body| clone_body(request.body()));
        body.map(|body| Retry::new(inner.clone(), request, body))
    }

    /// Sends a request with the token. The future retries the request once after a challenge.
    #[inline]
    fn send<S>(
        self: &Arc<Self>,
        inner: &mut S,
        mut request: Request<B>,
        token: AccessToken,
    ) -> BearerAuthFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let retry = self.copy(inner, &request);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization_header());
        let response = inner.call(request);
        BearerAuthFuture::sent(response, Arc::clone(self), token, retry)
    }
}
