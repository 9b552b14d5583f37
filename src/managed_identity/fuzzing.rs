//! The way of the fuzz target `managed_identity` to the parsers of this module.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;

use super::{
    FetcherSettings, HostEnvironment, IdentityTokenRequest, ManagedIdentity,
    ManagedIdentityFetcher, Resource,
};
use crate::error::Error;
use crate::time::TimeSource;

/// Fetches a token from an endpoint that always returns `response`.
///
/// Returns the token and the lifetime.
pub async fn fetch_managed_identity(
    variables: Vec<(&'static str, &'static str)>,
    client_id: Option<&str>,
    response: Response<Bytes>,
) -> Result<(String, Duration), Error> {
    let transport = move |_: Request<Bytes>| {
        let response = response.clone();
        async move { Ok(response) }
    };
    let fetcher = ManagedIdentityFetcher::new(FetcherSettings {
        identity: match client_id {
            Some(id) => ManagedIdentity::user_assigned_client_id(id),
            None => ManagedIdentity::system_assigned(),
        },
        environment: HostEnvironment::from_variables(variables).arc_key_folder("/nowhere"),
        capabilities: Vec::new(),
        transport: Some(Arc::new(transport)),
        connect_timeout: None,
        attempt_timeout: Duration::from_secs(1),
        clock: TimeSource::default(),
    })?;
    let request = IdentityTokenRequest {
        resource: &Resource::of_scopes("https://vault.azure.net/.default")?,
        correlation_id: "our-id",
        is_revoked: false,
        rejected_token: None,
    };
    // Without the time for a retry.
    let deadline = Instant::now() + Duration::from_secs(2);
    let token = fetcher.fetch(request, deadline).await?;
    Ok((token.secret.expose().to_owned(), token.expires_in))
}
