//! The managed identity of the host as a link.

use std::time::Duration;

use tokio::time::Instant;

use super::{Link, LinkFailure, LinkFuture, LinkRequest};
use crate::managed_identity::{
    Availability, IdentityToken, IdentityTokenRequest, ImdsProbe, ManagedIdentityFetcher, Resource,
    has_no_identity,
};

/// A link that requests tokens from the endpoint of the host.
pub(crate) struct ManagedIdentityLink {
    fetcher: ManagedIdentityFetcher,
    /// `None` if the link is the only one.
    probe: Option<ImdsProbe>,
}

impl ManagedIdentityLink {
    pub(crate) fn new(fetcher: ManagedIdentityFetcher, probe: Option<ImdsProbe>) -> Self {
        Self { fetcher, probe }
    }

    async fn token(&self, request: &LinkRequest<'_>) -> Result<IdentityToken, LinkFailure> {
        let resource = Resource::of_scopes(request.scopes)?;
        if let Some(probe) = &self.probe
            && let Availability::Absent(reason) = probe.availability().await?
        {
            return Err(LinkFailure::Unavailable(reason.to_string()));
        }
        let token_request = IdentityTokenRequest {
            resource: &resource,
            correlation_id: request.correlation_id,
            is_revoked: request.claims.is_some() || request.rejected_token.is_some(),
            rejected_token: request.rejected_token,
            on_send: request.on_send,
        };
        // The links that follow need a part of the time.
        let own_deadline = Instant::now() + self.fetcher.default_deadline() + request.spare;
        let deadline = own_deadline.min(request.deadline);
        let result = self.fetcher.fetch(token_request, deadline).await;
        result.map_err(|error| match has_no_identity(&error) {
            // A user-assigned identity is named by the configuration, so its absence is an error.
            true => LinkFailure::Unavailable(error.chain().to_string()),
            false => LinkFailure::Failed(error),
        })
    }
}

impl Link for ManagedIdentityLink {
    fn name(&self) -> &str {
        "managed identity"
    }

    fn time_limit(&self) -> Duration {
        let probe = self.probe.as_ref().map(|_| ImdsProbe::TIME_LIMIT);
        self.fetcher.default_deadline() + probe.unwrap_or_default()
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        Box::pin(async { Ok(self.token(request).await?.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use tokio::time::Instant;

    use super::*;
    use crate::managed_identity::{FetcherSettings, HostEnvironment, ManagedIdentity};
    use crate::time::TimeSource;
    use crate::transport::Transport;

    /// Returns a link of an in-memory IMDS with these responses to the probe and to the request.
    fn link(
        identity: ManagedIdentity,
        probe: Option<u16>,
        status: u16,
        body: &'static str,
    ) -> ManagedIdentityLink {
        let answer = move |request: Request<Bytes>| {
            let is_request = request.headers().contains_key("metadata");
            let (status, body) = match is_request {
                true => (status, body),
                false => (probe.unwrap(), ""),
            };
            async move { Ok(Response::builder().status(status).body(Bytes::from(body))?) }
        };
        let transport: Arc<dyn Transport> = Arc::new(answer);
        let environment = HostEnvironment::from_fn(|_| None);
        let clock = TimeSource::default();
        let imds = probe.map(|_| {
            let transport = Some(Arc::clone(&transport));
            ImdsProbe::new(environment.clone(), transport, clock.clone())
        });
        let fetcher = ManagedIdentityFetcher::new(FetcherSettings {
            identity,
            environment,
            capabilities: Vec::new(),
            transport: Some(transport),
            connect_timeout: None,
            attempt_timeout: Duration::from_secs(10),
            clock,
        });
        ManagedIdentityLink::new(fetcher.unwrap(), imds)
    }

    #[test]
    fn the_time_limit_has_a_part_for_the_probe() {
        let limit = |probe| {
            let link = link(ManagedIdentity::system_assigned(), probe, 200, "");
            link.time_limit().as_secs()
        };
        assert_eq!((limit(None), limit(Some(400))), (75, 78));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_without_an_identity_is_passed_over_and_a_rejection_is_a_failure() {
        const TOKEN: &str = r#"{"access_token":"t","expires_in":3600,"token_type":"Bearer"}"#;
        const NO_IDENTITY: &str =
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
        const NO_RESOURCE: &str = r#"{"error":"invalid_resource"}"#;
        let system = ManagedIdentity::system_assigned;
        let user = || {
            let id = "11111111-2222-3333-4444-555555555555";
            ManagedIdentity::user_assigned_client_id(id)
        };
        for (identity, probe, status, body, expected) in [
            (system(), Some(400), 200, TOKEN, "token"),
            (system(), None, 200, TOKEN, "token"),
            (
                system(),
                Some(404),
                200,
                TOKEN,
                "unavailable: the managed identity endpoint of the instance",
            ),
            (system(), Some(400), 400, NO_IDENTITY, "unavailable: "),
            (user(), Some(400), 400, NO_IDENTITY, "failed: "),
            (system(), Some(400), 400, NO_RESOURCE, "failed: "),
            (system(), Some(400), 503, "", "failed: "),
        ] {
            let link = link(identity.clone(), probe, status, body);
            let request = LinkRequest {
                scopes: "https://vault.azure.net/.default",
                tenant: None,
                claims: None,
                rejected_token: None,
                correlation_id: "our-id",
                deadline: Instant::now() + Duration::from_secs(75),
                spare: Duration::ZERO,
                on_send: &|| (),
            };
            let result = match link.fetch(&request).await {
                Ok(_) => "token".to_owned(),
                Err(LinkFailure::Unavailable(reason)) => format!("unavailable: {reason}"),
                Err(LinkFailure::Failed(error)) => format!("failed: {error}"),
            };
            assert!(
                result.starts_with(expected),
                "{identity} {probe:?} {status} {body}: {result}"
            );
        }
    }

    /// The default is 75 seconds.
    #[tokio::test(start_paused = true)]
    async fn the_spare_time_of_a_chain_gives_an_update_of_imds_more_time() {
        let link = link(ManagedIdentity::system_assigned(), None, 410, "");
        let began = Instant::now();
        let request = LinkRequest {
            scopes: "https://vault.azure.net/.default",
            tenant: None,
            claims: None,
            rejected_token: None,
            correlation_id: "our-id",
            deadline: began + Duration::from_secs(300),
            spare: Duration::from_secs(125),
            on_send: &|| (),
        };
        assert!(link.fetch(&request).await.is_err());
        // The last attempt of an update is three seconds before the limit.
        let last = Duration::from_secs(196)..=Duration::from_secs(200);
        assert!(last.contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
