#![warn(clippy::arithmetic_side_effects, reason = "it reads what others wrote")]

use std::fmt;

use url::Url;

use crate::authority::address::{checked_host, is_loopback};
use crate::authority::{Authority, Kind, Rules, Tenant, preferred};
use crate::error::Error;
use crate::time::TimeSource;

mod cached_lookup;
mod document;
mod instance;
mod keys;
mod lookup;
mod metadata;

use instance::Instance;
use keys::PublishedKeys;
pub(crate) use lookup::Lookup;
use metadata::Provider;
pub(crate) use metadata::SupportedAuthMethods;

/// The checked endpoints of an authority: whoever holds one never asks whether it is https.
pub(crate) struct Endpoints {
    rules: Rules,
    place: EndpointKind,
    keys: PublishedKeys,
}

enum EndpointKind {
    /// One for each tenant of a host.
    Tenants {
        base: Url,
        own: Tenant,
        /// What is asked about a host that is not known.
        instance: Option<Instance>,
    },
    /// One that follows from the authority.
    Fixed { authority: String, token: Url },
    /// One that the provider's metadata tells, or the caller told.
    Provider(Provider),
}

/// Where one token request goes, and what is known of how.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) url: Url,
    /// The `aud` of an assertion for it.
    pub(crate) audience: String,
    pub(crate) methods: SupportedAuthMethods,
}

impl Endpoints {
    pub(crate) fn of(authority: &Authority) -> Result<Self, Error> {
        let is_oidc = matches!(authority.kind, Kind::Oidc { .. });
        let told = [
            &authority.token_endpoint,
            &authority.client_assertion_audience,
        ];
        if !is_oidc && told.iter().any(|told| told.is_some()) {
            return Err(Error::config(format!(
                "the token endpoint and the assertion's audience of '{authority}' follow from the authority; leave them out, or name an OpenID provider by Authority::oidc(..)"
            )));
        }
        let place = match &authority.kind {
            Kind::Entra { cloud, tenant } => {
                let given = checked_host(AUTHORITY, &cloud.base())?;
                if tenant.is_empty() {
                    return Err(Error::config(format!(
                        "the authority '{}' names no tenant; add the directory's id or domain, as in 'https://login.microsoftonline.com/contoso.onmicrosoft.com', or call tenant(..)",
                        given.as_str().trim_end_matches('/')
                    )));
                }
                let own = Tenant::parse(tenant)?;
                let (base, is_known) = folded(given);
                let trusted =
                    is_known || authority.without_instance_discovery || is_loopback(&base);
                EndpointKind::Tenants {
                    instance: (!trusted).then(|| Instance::new(&base, &own)),
                    base,
                    own,
                }
            }
            Kind::ExternalId { host, tenant } => EndpointKind::Tenants {
                base: checked_host(AUTHORITY, host)?,
                own: Tenant::parse(tenant)?,
                instance: None,
            },
            Kind::B2c {
                host,
                tenant,
                policy,
            } => {
                let base = checked_host(AUTHORITY, host)?;
                let tenant = Tenant::parse(tenant)?;
                // What is safe in a tenant is safe in a policy.
                Tenant::parse(policy).map_err(|_| {
                    Error::config(format!(
                        "the policy {policy:?} is none; use the user flow's name, such as 'B2C_1_signin'"
                    ))
                })?;
                let path = format!("{}/{policy}", tenant.as_str());
                EndpointKind::fixed(base, &path, "oauth2/v2.0/token")
            }
            Kind::Adfs { host } => {
                EndpointKind::fixed(checked_host(AUTHORITY, host)?, "adfs", "oauth2/token")
            }
            Kind::Oidc { issuer } => EndpointKind::Provider(Provider::new(
                issuer,
                authority.token_endpoint.as_deref(),
                authority.client_assertion_audience.as_deref(),
            )?),
            Kind::Unreadable { why } => return Err(Error::config(why)),
        };
        Ok(Self {
            rules: authority.rules(),
            place,
            keys: PublishedKeys::default(),
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// The tenant of requests that name none; most providers have none.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        match &self.place {
            EndpointKind::Tenants { own, .. } => Some(own),
            EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => None,
        }
    }

    /// Where token requests for `tenant` go. Asks over the network what is not known yet.
    pub(crate) async fn token_endpoint(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<TokenEndpoint, Error> {
        match &self.place {
            EndpointKind::Tenants {
                base,
                own,
                instance,
            } => {
                if let Some(instance) = instance {
                    instance.check(lookup).await?;
                }
                let tenant = tenant.unwrap_or(own).as_str();
                let mut url = base.clone();
                url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
                Ok(TokenEndpoint::known(url, self.rules))
            }
            EndpointKind::Fixed { token, .. } => {
                Ok(TokenEndpoint::known(token.clone(), self.rules))
            }
            EndpointKind::Provider(provider) => provider.token_endpoint(lookup).await,
        }
    }

    /// The page where users of `tenant` sign in. Asks over the network what is not known yet.
    pub(crate) async fn authorization_endpoint(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Url, Error> {
        match &self.place {
            EndpointKind::Tenants { base, own, .. } => {
                let tenant = tenant.unwrap_or(own).as_str();
                let mut url = base.clone();
                url.set_path(&format!("{tenant}/oauth2/v2.0/authorize"));
                Ok(url)
            }
            EndpointKind::Fixed { token, .. } => {
                let beside = token.path().strip_suffix("token").unwrap_or_default();
                let mut url = token.clone();
                url.set_path(&format!("{beside}authorize"));
                Ok(url)
            }
            EndpointKind::Provider(provider) => provider.authorization_endpoint(lookup).await,
        }
    }

    /// The issuer, where it is known to the letter.
    pub(crate) fn issuer(&self) -> Option<&str> {
        match &self.place {
            EndpointKind::Provider(provider) => Some(provider.issuer()),
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => None,
        }
    }

    /// Looks up again what was looked up, before it is used.
    pub(crate) fn force_refresh(&self, clock: &TimeSource) {
        self.keys.force_refresh(clock);
        match &self.place {
            EndpointKind::Tenants { instance, .. } => {
                if let Some(instance) = instance {
                    instance.force_refresh(clock);
                }
            }
            EndpointKind::Fixed { .. } => {}
            EndpointKind::Provider(provider) => provider.force_refresh(clock),
        }
    }

    /// Learns that a token request failed: a provider may have moved its endpoint.
    pub(crate) fn mark_suspect(&self, error: &Error, clock: &TimeSource) {
        let speaks_against = match error.status() {
            None => matches!(error, Error::Transport(_) | Error::Config(_)),
            Some(status) => status.is_redirection() || [404, 405, 410].contains(&status.as_u16()),
        };
        if let (EndpointKind::Provider(provider), true) = (&self.place, speaks_against) {
            provider.mark_suspect(clock);
        }
    }

    /// Where a tenant's administrator is sent to consent; only Entra has such a place.
    pub(crate) fn admin_consent(&self, tenant: &Tenant) -> Result<Url, Error> {
        match &self.place {
            EndpointKind::Tenants { base, .. } => {
                let mut url = base.clone();
                url.set_path(&format!("{}/adminconsent", tenant.as_str()));
                Ok(url)
            }
            EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => Err(Error::config(format!(
                "the authority '{self}' has no page where an administrator consents; that is Microsoft Entra ID's"
            ))),
        }
    }

    /// Where the credential is sent, or what says where.
    #[cfg(feature = "reqwest")]
    fn target(&self) -> &Url {
        match &self.place {
            EndpointKind::Tenants { base, .. } => base,
            EndpointKind::Fixed { token, .. } => token,
            EndpointKind::Provider(provider) => provider.target(),
        }
    }

    #[cfg(feature = "reqwest")]
    pub(crate) fn is_https(&self) -> bool {
        self.target().scheme() == "https"
    }

    /// Whether it is this machine itself, by a literal address: never behind a proxy.
    #[cfg(feature = "reqwest")]
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(self.target())
    }
}

impl EndpointKind {
    fn fixed(base: Url, path: &str, token: &str) -> Self {
        let mut url = base.clone();
        url.set_path(&format!("{path}/{token}"));
        Self::Fixed {
            authority: format!("{base}{path}"),
            token: url,
        }
    }
}

impl TokenEndpoint {
    /// Of Microsoft's kinds: the assertion is for the endpoint itself.
    fn known(url: Url, rules: Rules) -> Self {
        Self {
            audience: url.to_string(),
            url,
            methods: SupportedAuthMethods::known(rules),
        }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            EndpointKind::Tenants { base, own, .. } => write!(f, "{base}{}", own.as_str()),
            EndpointKind::Fixed { authority, .. } => f.write_str(authority),
            EndpointKind::Provider(provider) => f.write_str(provider.issuer()),
        }
    }
}

/// A known cloud by the name to send to, and whether it is one.
fn folded(mut base: Url) -> (Url, bool) {
    let host = base.host_str().unwrap_or_default();
    match preferred(host) {
        Some(preferred) if base.port().is_none() => {
            let is_set = base.set_host(Some(preferred)).is_ok();
            (base, is_set)
        }
        _ => (base, false),
    }
}

const AUTHORITY: &str = "the authority";
