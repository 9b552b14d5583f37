use std::sync::Arc;
use std::time::Duration;

use url::Url;
use url::form_urlencoded::Serializer;

use super::cached_lookup::{A_DAY, AFTER_A_FAILURE, CachedLookup};
use super::lookup::Lookup;
use crate::authority::{Cloud, Tenant};
use crate::error::Error;
use crate::response::json_object;
use crate::time::TimeSource;

/// Instance discovery for a host that is not a known cloud.
///
/// The worldwide cloud says whether the host belongs to Microsoft Entra ID. The response decides
/// whether the credential is sent to the host. The response never changes the host.
pub(super) struct Instance {
    host: String,
    url: String,
    verdict: CachedLookup<Verdict>,
}

/// The result of instance discovery. An error means that the host gets no credential.
type Verdict = Result<(), Error>;

impl Instance {
    pub(super) fn new(base: &Url, tenant: &Tenant) -> Self {
        let endpoint = format!("{base}{}/oauth2/v2.0/authorize", tenant.as_str());
        let query = Serializer::new(String::new())
            .append_pair("api-version", "1.1")
            .append_pair("authorization_endpoint", &endpoint)
            .finish();
        Self {
            host: base.host_str().unwrap_or_default().to_owned(),
            url: format!("{}/common/discovery/instance?{query}", Cloud::Public.base()),
            verdict: CachedLookup::new(),
        }
    }

    /// Checks that the host may get the credential.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the worldwide cloud does not know the host. Failed discovery is not an
    /// error, because the authority works without discovery.
    pub(super) async fn check(&self, lookup: &Lookup<'_>) -> Result<(), Error> {
        let fetch = |lookup, old: Option<Arc<Verdict>>| async move {
            Ok(match self.fetch(&lookup).await {
                Some(fetched) => fetched,
                // Failed discovery does not overturn an earlier verdict.
                None => (old.map_or(Ok(()), |old| (*old).clone()), AFTER_A_FAILURE),
            })
        };
        let verdict = self.verdict.get(lookup, fetch).await?.value;
        (*verdict).clone()
    }

    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        self.verdict.force_refresh(clock);
    }

    /// Fetches the verdict and its cache lifetime. Returns `None` if discovery fails.
    async fn fetch(&self, lookup: &Lookup<'_>) -> Option<(Verdict, Duration)> {
        let response = lookup.get(&self.url).await;
        let failed = match &response {
            Ok(response) => {
                let body = json_object(response.body());
                let member = |name: &str| body.as_ref().and_then(|body| body.get(name));
                if response.status().is_success() && member("tenant_discovery_endpoint").is_some() {
                    return Some((Ok(()), A_DAY));
                }
                if member("error").is_some_and(|error| error == "invalid_instance") {
                    return Some((Err(self.unknown()), AFTER_A_FAILURE));
                }
                format!("the response is {}", response.status().as_u16())
            }
            Err(error) => error.chain().to_string(),
        };
        tracing::warn!(
            host = self.host,
            failed,
            "instance discovery failed, so the authority's host is trusted unless an earlier discovery rejected the host; if discovery can never work here, use Authority::without_instance_discovery()"
        );
        None
    }

    fn unknown(&self) -> Error {
        Error::config(format!(
            "Microsoft Entra ID knows no host '{}' (invalid_instance), so the host gets no credential; use Authority::external_id(..) for a custom domain of External ID, Authority::oidc(..) for another provider, and Authority::without_instance_discovery() for a private cloud",
            self.host
        ))
    }
}
