//! Requests through a tower service that responds at once.

use std::convert::Infallible;
use std::hint::black_box;

use bytes::Bytes;
use confidential_client::TokenProvider;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use http::{Request, Response};
use tower::util::ServiceFn;
use tower::{Layer, Service, ServiceExt};

use super::{HEADERS, Result, USERS, body};

type Layered = <BearerAuthLayer<Bytes> as Layer<ServiceFn<Respond>>>::Service;
type Respond = fn(Request<Bytes>) -> std::future::Ready<Responded>;
type Responded = std::result::Result<Response<Bytes>, Infallible>;

pub(crate) struct Chains {
    provider: TokenProvider,
    plain: ServiceFn<Respond>,
    layered: Layered,
    layered_without_retries: Layered,
}

impl Chains {
    pub(crate) fn new(provider: &TokenProvider, auth: &BearerAuth) -> Self {
        let plain = tower::service_fn(respond as Respond);
        let layer = || BearerAuthLayer::new(auth.clone());
        let retrying = layer().retry_with(|body: &Bytes| Some(body.clone()));
        Self {
            provider: provider.clone(),
            plain,
            layered: retrying.layer(plain),
            layered_without_retries: layer().layer(plain),
        }
    }

    pub(crate) async fn no_token(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            black_box(self.plain.oneshot(request()?).await?);
        }
        Ok(())
    }

    pub(crate) async fn by_hand(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            let mut request = request()?;
            self.provider.authorize(request.headers_mut()).await?;
            black_box(self.plain.oneshot(request).await?);
        }
        Ok(())
    }

    pub(crate) async fn layer(&self, calls: usize) -> Result<()> {
        send(&self.layered, request, calls).await
    }

    pub(crate) async fn layer_without_retries(&self, calls: usize) -> Result<()> {
        send(&self.layered_without_retries, request, calls).await
    }

    pub(crate) async fn body_by_hand(&self, calls: usize) -> Result<()> {
        for _ in 0..calls {
            let mut request = request_with_body()?;
            self.provider.authorize(request.headers_mut()).await?;
            black_box(self.plain.oneshot(request).await?);
        }
        Ok(())
    }

    pub(crate) async fn body_by_layer(&self, calls: usize) -> Result<()> {
        send(&self.layered, request_with_body, calls).await
    }
}

async fn send<S>(
    service: &S,
    request: impl Fn() -> Result<Request<Bytes>>,
    calls: usize,
) -> Result<()>
where
    S: Service<Request<Bytes>, Error: std::error::Error + 'static> + Clone,
{
    for _ in 0..calls {
        black_box(service.clone().oneshot(request()?).await?);
    }
    Ok(())
}

fn request() -> Result<Request<Bytes>> {
    Ok(Request::get(USERS).body(Bytes::new())?)
}

fn request_with_body() -> Result<Request<Bytes>> {
    let mut request = Request::post(USERS);
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    Ok(request.body(Bytes::from(body()))?)
}

fn respond(_: Request<Bytes>) -> std::future::Ready<Responded> {
    std::future::ready(Ok(Response::new(Bytes::new())))
}
