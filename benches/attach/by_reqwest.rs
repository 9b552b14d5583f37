//! Requests through reqwest-middleware, whose last middleware responds at once.

use std::hint::black_box;

use confidential_client::TokenProvider;
use confidential_client::adapter::BearerAuth;
use http::{Extensions, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, RequestBuilder};

use super::{HEADERS, Result, USERS, body};

pub(crate) struct Chains {
    provider: TokenProvider,
    by_hand: ClientWithMiddleware,
    middleware: ClientWithMiddleware,
}

impl Chains {
    pub(crate) fn new(provider: &TokenProvider, auth: &BearerAuth) -> Self {
        let plain = || ClientBuilder::new(reqwest::Client::new());
        Self {
            provider: provider.clone(),
            by_hand: plain().with(Respond).build(),
            middleware: plain().with(auth.clone()).with(Respond).build(),
        }
    }

    pub(crate) async fn by_hand(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            let mut request = self.by_hand.get(USERS).build()?;
            self.provider.authorize(request.headers_mut()).await?;
            black_box(self.by_hand.execute(request).await?);
        }
        Ok(())
    }

    pub(crate) async fn middleware(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            black_box(self.middleware.get(USERS).send().await?);
        }
        Ok(())
    }

    pub(crate) async fn body_by_hand(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            let mut request = with_body(&self.by_hand).build()?;
            self.provider.authorize(request.headers_mut()).await?;
            black_box(self.by_hand.execute(request).await?);
        }
        Ok(())
    }

    pub(crate) async fn body_by_middleware(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            black_box(with_body(&self.middleware).send().await?);
        }
        Ok(())
    }
}

fn with_body(http: &ClientWithMiddleware) -> RequestBuilder {
    let mut request = http.post(USERS);
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    request.body(body())
}

/// The last middleware of a chain, which responds without a network.
struct Respond;

#[async_trait::async_trait]
impl Middleware for Respond {
    async fn handle(
        &self,
        _: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        Ok(Response::new("").into())
    }
}
