use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::AUTHORIZATION;
use http::{Extensions, Method, Request, Response, Uri, Version};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::super::bearer_auth::is_rejection;
use super::super::packed::Packed;
use super::{BearerAuthError, Options};
use crate::token::AccessToken;

pin_project! {
    /// The future of a call to [`BearerAuthService`](super::BearerAuthService).
    ///
    /// A call with a cached token allocates nothing for the future.
    pub struct BearerAuthFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        /// The inner service has the request. `sent` is `None` without a token.
        Sent {
            #[pin]
            response: S::Future,
            sent: Option<SentCall<S, B>>,
        },
        /// The token is acquired, or the request is retried.
        Boxed {
            future: BoxedFuture<S::Response, S::Error>,
        },
    }
}

type BoxedFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, BearerAuthError<E>>> + Send>>;

/// A request with a token that the inner service has.
struct SentCall<S, B> {
    options: Arc<Options<B>>,
    token: AccessToken,
    /// `None` if the request cannot be sent twice.
    retry: Option<Retry<S, B>>,
}

impl<S: Service<Request<B>>, B> BearerAuthFuture<S, B> {
    /// Passes on the response to a request without a token of the layer.
    #[inline]
    pub(super) fn unchanged(response: S::Future) -> Self {
        let sent = None;
        Self {
            state: State::Sent { response, sent },
        }
    }

    /// Passes on the response to a request with `token`, or retries the request.
    #[inline]
    pub(super) fn sent(
        response: S::Future,
        options: Arc<Options<B>>,
        token: AccessToken,
        retry: Option<Retry<S, B>>,
    ) -> Self {
        let sent = Some(SentCall {
            options,
            token,
            retry,
        });
        Self {
            state: State::Sent { response, sent },
        }
    }

    pub(super) fn boxed(
        future: impl Future<Output = Result<S::Response, BearerAuthError<S::Error>>> + Send + 'static,
    ) -> Self {
        Self {
            state: State::Boxed {
                future: Box::pin(future),
            },
        }
    }
}

impl<S, B, R> Future for BearerAuthFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Output = Result<Response<R>, BearerAuthError<S::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let (response, sent) = match state.as_mut().project() {
            StateProjection::Boxed { future } => return future.as_mut().poll(context),
            StateProjection::Sent { response, sent } => {
                let response = ready!(response.poll(context));
                (response.map_err(BearerAuthError::Service)?, sent.take())
            }
        };
        match sent.filter(|_| is_rejection(response.status(), response.headers())) {
            Some(sent) => {
                let mut future: BoxedFuture<_, _> = Box::pin(sent.follow_up(response));
                let outcome = future.as_mut().poll(context);
                state.set(State::Boxed { future });
                outcome
            }
            None => Poll::Ready(Ok(response)),
        }
    }
}

impl<S, B, R> SentCall<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    /// Retries a rejected request if the response challenges the token.
    async fn follow_up(
        self,
        response: Response<R>,
    ) -> Result<Response<R>, BearerAuthError<S::Error>> {
        let Self {
            options,
            token,
            retry,
        } = self;
        let fresh = options.auth.token_for_retry(response.headers(), &token);
        let fresh = fresh.await;
        match (fresh, retry.and_then(Retry::into_request)) {
            (Some(fresh), Some((mut inner, mut request))) => {
                // A service with one connection is ready again only after the response is dropped.
                drop(response);
                let headers = request.headers_mut();
                headers.insert(AUTHORIZATION, fresh.authorization_header());
                let ready = std::future::poll_fn(|context| inner.poll_ready(context));
                ready.await.map_err(BearerAuthError::Service)?;
                inner.call(request).await.map_err(BearerAuthError::Service)
            }
            _ => Ok(response),
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for BearerAuthFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuthFuture").finish_non_exhaustive()
    }
}

/// A copy of a request without the token, and a service to send the copy with.
pub(super) struct Retry<S, B> {
    inner: S,
    method: Method,
    uri: Uri,
    version: Version,
    headers: Packed<0>,
    extensions: Extensions,
    body: B,
}

impl<S, B> Retry<S, B> {
    #[inline]
    pub(super) fn new(inner: S, request: &Request<B>, body: B) -> Self {
        Self {
            inner,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: Packed::new([], request.headers()),
            extensions: request.extensions().clone(),
            body,
        }
    }

    pub(super) fn into_request(self) -> Option<(S, Request<B>)> {
        let ([], headers) = self.headers.unpack()?;
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions;
        Some((self.inner, request))
    }
}
