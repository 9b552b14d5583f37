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

/// What the worldwide cloud says about a host that is none of the known ones.
///
/// Its answer decides whether the credential is sent there, and never changes where.
pub(super) struct Instance {
    host: String,
    url: String,
    known: CachedLookup<Verdict>,
}

/// Whether the credential may be sent there.
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
            known: CachedLookup::new(),
        }
    }

    /// # Errors
    ///
    /// The worldwide cloud knows no such host. That it cannot be asked is no error: the authority
    /// works without it.
    pub(super) async fn check(&self, lookup: &Lookup<'_>) -> Result<(), Error> {
        let ask = |lookup, old: Option<Arc<Verdict>>| async move {
            Ok(match self.ask(&lookup).await {
                Some(answered) => answered,
                // What cannot be asked again does not overturn what was answered.
                None => (old.map_or(Ok(()), |old| (*old).clone()), AFTER_A_FAILURE),
            })
        };
        let verdict = self.known.get(lookup, ask).await?;
        (*verdict).clone()
    }

    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        self.known.force_refresh(clock);
    }

    /// What the worldwide cloud says, and for how long to keep it; `None` if it says nothing.
    async fn ask(&self, lookup: &Lookup<'_>) -> Option<(Verdict, Duration)> {
        let answer = lookup.get(&self.url).await;
        let failed = match &answer {
            Ok(response) => {
                let body = json_object(response.body());
                let holds = |name: &str| body.as_ref().and_then(|body| body.get(name));
                if response.status().is_success() && holds("tenant_discovery_endpoint").is_some() {
                    return Some((Ok(()), A_DAY));
                }
                if holds("error").is_some_and(|error| error == "invalid_instance") {
                    return Some((Err(self.unknown()), AFTER_A_FAILURE));
                }
                format!("it answered {}", response.status().as_u16())
            }
            Err(error) => error.chain().to_string(),
        };
        tracing::warn!(
            host = self.host,
            failed,
            "whether the authority's host is one of Microsoft Entra ID's could not be asked, so it is trusted unless it was refused before; if it cannot be asked ever, say so with Authority::without_instance_discovery()"
        );
        None
    }

    fn unknown(&self) -> Error {
        Error::config(format!(
            "Microsoft Entra ID knows no host '{}' (invalid_instance), so the credential is not sent there; for External ID's custom domains use Authority::external_id(..), for another provider Authority::oidc(..), and for a cloud of one's own Authority::without_instance_discovery()",
            self.host
        ))
    }
}
