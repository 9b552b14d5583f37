//! Calls of tonic to a service in the same program: gRPC's health check.

use std::hint::black_box;

use confidential_client::TokenProvider;
use confidential_client::adapter::{BearerAuth, BearerAuthLayer};
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Layer;

use super::{ORIGIN, Result};

type Server = HealthServer<HealthService>;
type Layered = <BearerAuthLayer<tonic::body::Body> as Layer<Server>>::Service;

pub(crate) struct Chains {
    provider: TokenProvider,
    by_hand: HealthClient<Server>,
    layered: HealthClient<Layered>,
}

impl Chains {
    pub(crate) fn new(provider: &TokenProvider, auth: &BearerAuth) -> Result<Self> {
        let server = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let layer = BearerAuthLayer::new(auth.clone()).default_origin(ORIGIN)?;
        Ok(Self {
            provider: provider.clone(),
            by_hand: HealthClient::new(server.clone()),
            layered: HealthClient::new(layer.layer(server)),
        })
    }

    pub(crate) async fn by_hand(&self, calls: usize) -> Result<()> {
        let mut client = self.by_hand.clone();
        for _ in 0..calls {
            let mut request = Request::new(HealthCheckRequest::default());
            let metadata = request.metadata_mut();
            self.provider.authorize(metadata.as_mut()).await?;
            black_box(client.check(request).await?);
        }
        Ok(())
    }

    pub(crate) async fn layer(&self, calls: usize) -> Result<()> {
        let mut client = self.layered.clone();
        for _ in 0..calls {
            let request = Request::new(HealthCheckRequest::default());
            black_box(client.check(request).await?);
        }
        Ok(())
    }
}
