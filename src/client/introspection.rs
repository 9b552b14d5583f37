//! The parts of a client that an API's token validator needs to introspect tokens.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::ConfidentialClient;
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::response::IntrospectionResponse;
use crate::secret::Secret;
use crate::time::TimeSource;
use crate::transport::Transport;

impl ConfidentialClient {
    /// Sends a token to the introspection endpoint within `limit`, and returns the response.
    ///
    /// `endpoint` replaces the endpoint of the provider's metadata.
    pub(crate) async fn introspect(
        &self,
        token: &Secret,
        endpoint: Option<&Uri>,
        limit: Duration,
    ) -> Result<IntrospectionResponse, Error> {
        self.fetcher.introspect(token, endpoint, limit).await
    }

    /// Returns the endpoints of the client's authority.
    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.fetcher.endpoints
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.fetcher.transport
    }

    pub(crate) fn clock(&self) -> &TimeSource {
        &self.fetcher.clock
    }
}
