use http::Extensions;
use http::header::AUTHORIZATION;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};

use super::bearer_auth::BearerAuth;
use super::origin::RequestOrigin;

/// See [`BearerAuth`](BearerAuth#reqwest-middleware) for the position in the chain and the errors.
#[async_trait::async_trait]
impl Middleware for BearerAuth {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let may_attach = self.may_attach(&RequestOrigin::from(request.url()), request.headers());
        let attached = self.attach(may_attach, request.headers_mut()).await;
        let Some(token) = attached.map_err(reqwest_middleware::Error::middleware)? else {
            return next.run(request, extensions).await;
        };
        // A fragment is not sent, and the URL of the response has none.
        let mut url = request.url().clone();
        url.set_fragment(None);
        let retry = request.try_clone();
        let response = next.clone().run(request, extensions).await?;
        // After a redirect the challenge comes from a server that the token was not meant for.
        if *response.url() != url {
            return Ok(response);
        }
        let fresh = self
            .token_for_retry(response.status(), response.headers(), &token)
            .await;
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
