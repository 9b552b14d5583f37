use http::Extensions;
use http::header::AUTHORIZATION;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};

use super::bearer_auth::BearerAuth;
use super::origin::RequestOrigin;

/// Put it last, so that a middleware that repeats requests has each of them authorised anew:
///
/// ```no_run
/// // Not run: it would need a network.
/// # async fn example(auth: confidential_client::adapter::BearerAuth) -> Result<(), Box<dyn std::error::Error>> {
/// let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
///     .with(auth)
///     .build();
/// let users = http.get("https://graph.microsoft.com/v1.0/users").send().await?;
/// # Ok(())
/// # }
/// ```
///
/// Without a token nothing is sent. The error is `reqwest_middleware::Error::Middleware`, and
/// `downcast_ref::<confidential_client::Error>()` finds this crate's in it.
///
/// reqwest itself takes the header off a request that is redirected to another origin. A request
/// that was redirected is not repeated, as its first part may have been done, nor is one whose body
/// cannot be cloned: their 401 is handed through. After the latter, the next request has the new
/// token.
///
/// An API on loopback over http, as in tests, is asked through the proxy of the environment, which
/// then reads the token, unless the `reqwest::Client` is told `no_proxy()`.
#[async_trait::async_trait]
impl Middleware for BearerAuth {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let may_have_it = self.is_for(&RequestOrigin::from(request.url()), request.headers());
        let attached = self.attach(may_have_it, request.headers_mut()).await;
        let Some(token) = attached.map_err(reqwest_middleware::Error::middleware)? else {
            return next.run(request, extensions).await;
        };
        // What stands behind a '#' is not sent, and does not come back.
        let mut url = request.url().clone();
        url.set_fragment(None);
        let again = request.try_clone();
        let response = next.clone().run(request, extensions).await?;
        // A challenge counts from where the token was sent, and from nowhere else.
        if *response.url() != url {
            return Ok(response);
        }
        let renewed = self
            .answer(response.status(), response.headers(), &token)
            .await;
        match (renewed, again) {
            (Some(renewed), Some(mut again)) => {
                drop(response);
                let headers = again.headers_mut();
                headers.insert(AUTHORIZATION, renewed.authorization_header());
                next.run(again, extensions).await
            }
            _ => Ok(response),
        }
    }
}
