use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Extensions, Method, Version};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{Middleware, Next, Result};
use url::{Position, Url};

use super::bearer_auth::{BearerAuth, ProofAttempts, SentProof, is_rejection};
use super::origin::RequestOrigin;
use super::packed::Packed;
use crate::token::{AccessToken, TokenScheme};

/// See [`BearerAuth`](BearerAuth#reqwest-middleware) for the position in the chain and the errors.
#[async_trait::async_trait]
impl Middleware for BearerAuth {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        if !self.may_attach(&RequestOrigin::from(request.url()), request.headers()) {
            return next.run(request, extensions).await;
        }
        let token = self.token().await;
        let token = token.map_err(reqwest_middleware::Error::middleware)?;
        if token.scheme() == TokenScheme::Dpop {
            return Box::pin(self.send_with_proof(request, token, extensions, next)).await;
        }
        let sent = SentRequest::new(&request);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization_header());
        let response = next.clone().run(request, extensions).await?;
        if !is_rejection(response.status(), response.headers()) {
            return Ok(response);
        }
        Box::pin(self.follow_up(response, token, sent, extensions, next)).await
    }
}

impl BearerAuth {
    /// Sends a request with the token and a proof, and again after a challenge.
    async fn send_with_proof(
        &self,
        mut request: Request,
        mut token: AccessToken,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let mut attempts = ProofAttempts::default();
        loop {
            // The chain consumes the request, so the copy comes first.
            let copy = SentRequest::new(&request);
            let (method, url) = (request.method().clone(), request.url().clone());
            let headers = request.headers_mut();
            let proof = self.prove(&token, &method, url.as_str(), headers).await;
            let proof = proof.map_err(reqwest_middleware::Error::middleware)?;
            let response = next.clone().run(request, extensions).await?;
            if is_redirected(&response, &url) {
                return Ok(response);
            }
            let (status, headers) = (response.status(), response.headers());
            let sent = SentProof { token, proof };
            let following = self.token_after(status, headers, sent, &mut attempts).await;
            let (Some(following), Some((_, Some(retry)))) = (following, copy.unpack()) else {
                return Ok(response);
            };
            drop(response);
            (token, request) = (following, retry);
        }
    }

    /// Retries a rejected request if the response challenges the token.
    async fn follow_up(
        &self,
        response: Response,
        rejected: AccessToken,
        sent: SentRequest,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let Some((url, retry)) = sent.unpack() else {
            return Ok(response);
        };
        if is_redirected(&response, &url) {
            return Ok(response);
        }
        let fresh = self.token_for_retry(response.headers(), &rejected).await;
        match (fresh, retry) {
            (Some(fresh), Some(mut retry)) => {
                drop(response);
                let headers = retry.headers_mut();
                headers.insert(AUTHORIZATION, fresh.authorization_header());
                next.run(retry, extensions).await
            }
            _ => Ok(response),
        }
    }
}

/// Returns whether a response comes from another URL. Its server is not the one that the token was
/// meant for.
fn is_redirected(response: &Response, url: &Url) -> bool {
    // A fragment is not sent, and the URL of the response has none.
    response.url().as_str() != &url[..Position::AfterQuery]
}

/// A copy of a sent request, without the token.
enum SentRequest {
    /// The URL, the body and the headers, and the parts that are cheap to clone.
    ///
    /// `Request::try_clone` allocates for the URL, the headers, the body and the timeout. reqwest
    /// reads no other extension of a request than the timeout, so the copy has no extensions.
    Packed {
        method: Method,
        version: Version,
        timeout: Option<Duration>,
        has_body: bool,
        packed: Packed<2>,
    },
    /// A clone, which shares the large body.
    Cloned(Box<Request>),
    /// The URL of a request whose body is a stream, which cannot be sent twice.
    Streamed(Box<Url>),
}

impl SentRequest {
    fn new(request: &Request) -> Self {
        let body = request.body().map(Body::as_bytes);
        let has_body = body.is_some();
        match body.unwrap_or(Some(&[])) {
            Some(body) if body.len() <= LONGEST_PACKED_BODY => Self::Packed {
                method: request.method().clone(),
                version: request.version(),
                timeout: request.timeout().copied(),
                has_body,
                packed: Packed::new([request.url().as_str().as_bytes(), body], request.headers()),
            },
            _ => match request.try_clone() {
                Some(clone) => Self::Cloned(Box::new(clone)),
                None => Self::Streamed(Box::new(request.url().clone())),
            },
        }
    }

    /// Returns the URL, and the request unless its body was a stream.
    fn unpack(self) -> Option<(Url, Option<Request>)> {
        match self {
            Self::Packed {
                method,
                version,
                timeout,
                has_body,
                packed,
            } => {
                let ([url, body], headers) = packed.unpack()?;
                let url = Url::parse(std::str::from_utf8(url).ok()?).ok()?;
                let mut request = Request::new(method, url.clone());
                *request.version_mut() = version;
                *request.timeout_mut() = timeout;
                *request.headers_mut() = headers;
                *request.body_mut() = has_body.then(|| Body::from(body.to_vec()));
                Some((url, Some(request)))
            }
            Self::Cloned(request) => Some((request.url().clone(), Some(*request))),
            Self::Streamed(url) => Some((*url, None)),
        }
    }
}

/// A longer body is shared with the sent request. Sending such a body costs far more than a clone.
const LONGEST_PACKED_BODY: usize = 4 * 1024;
