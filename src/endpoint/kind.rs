use std::fmt;
use std::time::Duration;

use http::Uri;
use url::Url;

use super::instance::Instance;
use super::metadata::{METADATA_PATH, OpenIdProvider};
use super::mtls_pop;
use super::request_uri;
use crate::authority::address::is_loopback;
use crate::authority::{Authority, AuthorityKind, Rules, Tenant, preferred_host};
use crate::client_auth::AssertionForm;
use crate::error::Error;

/// The source of an authority's endpoints.
pub(super) enum EndpointKind {
    /// An endpoint for each tenant of one host.
    Tenants {
        base: Url,
        /// The host of token requests, which is another one in Entra's preview.
        token_base: Url,
        default_tenant: Tenant,
        /// The token endpoint of the default tenant.
        token: Uri,
        /// Instance discovery, for a host that is not a known cloud.
        instance: Option<Instance>,
    },
    /// One endpoint that follows from the authority.
    Fixed {
        authority: String,
        token: Url,
        token_uri: Uri,
        /// The directory of Azure AD B2C.
        directory: Option<Tenant>,
    },
    /// One endpoint from provider metadata, or from the caller.
    Provider(OpenIdProvider),
}

impl EndpointKind {
    /// Checks an authority.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a host, a tenant, a policy or a URL is not valid.
    pub(super) fn from_authority(authority: &Authority) -> Result<Self, Error> {
        let is_oidc = matches!(authority.kind, AuthorityKind::Oidc { .. });
        let is_custom = authority.token_endpoint.is_some()
            || authority.client_assertion_audience.is_some()
            || authority.client_assertion_lifetime.is_some()
            || authority.typed_client_assertions;
        if !is_oidc && is_custom {
            return Err(Error::config(format!(
                "the token endpoint and the assertion's audience, lifetime and type of '{authority}' follow from the authority; remove token_endpoint(..), client_assertion_audience(..), client_assertion_lifetime(..) and typed_client_assertions(), or use Authority::oidc(..) for an OpenID provider"
            )));
        }
        if !is_oidc && authority.is_fapi2 {
            return Err(Error::config(format!(
                "FAPI 2.0 cannot be applied to '{authority}'; remove fapi2(), or use Authority::oidc(..) for an OpenID provider"
            )));
        }
        let hosts = &authority.http_hosts;
        Ok(match &authority.kind {
            AuthorityKind::Entra { cloud, tenant } => {
                let host = hosts.parse_host_url(AUTHORITY, &cloud.base())?;
                if tenant.is_empty() {
                    return Err(Error::config(format!(
                        "the authority '{}' names no tenant; add the directory's id or domain, as in 'https://login.microsoftonline.com/contoso.onmicrosoft.com', or call tenant(..)",
                        host.as_str().trim_end_matches('/')
                    )));
                }
                let default_tenant = Tenant::parse(tenant)?;
                let (base, is_known) = preferred_base(host);
                let is_trusted = is_known
                    || authority.without_instance_discovery
                    || base.scheme() == "http"
                    || is_loopback(&base);
                Self::Tenants {
                    token: token_uri(&base, &default_tenant)?,
                    instance: (!is_trusted).then(|| Instance::new(&base, &default_tenant)),
                    token_base: base.clone(),
                    base,
                    default_tenant,
                }
            }
            AuthorityKind::ExternalId { host, tenant } => {
                let base = hosts.parse_host_url(AUTHORITY, host)?;
                let default_tenant = Tenant::parse(tenant)?;
                Self::Tenants {
                    token: token_uri(&base, &default_tenant)?,
                    token_base: base.clone(),
                    base,
                    default_tenant,
                    instance: None,
                }
            }
            AuthorityKind::B2c {
                host,
                tenant,
                policy,
            } => {
                let base = hosts.parse_host_url(AUTHORITY, host)?;
                let tenant = Tenant::parse(tenant)?;
                // The characters that are safe in a tenant are safe in a policy.
                Tenant::parse(policy).map_err(|_| {
                    Error::config(format!(
                        "the policy {policy:?} is not valid; use the user flow's name, such as 'B2C_1_signin'"
                    ))
                })?;
                let path = format!("{}/{policy}", tenant.as_str());
                Self::fixed(base, &path, "oauth2/v2.0/token", Some(tenant))?
            }
            AuthorityKind::Adfs { host } => Self::fixed(
                hosts.parse_host_url(AUTHORITY, host)?,
                "adfs",
                "oauth2/token",
                None,
            )?,
            AuthorityKind::Oidc { issuer } => Self::Provider(OpenIdProvider::new(
                issuer,
                authority.token_endpoint.as_deref(),
                authority
                    .client_assertion_audience
                    .clone()
                    .unwrap_or_default(),
                AssertionForm::for_openid(
                    authority
                        .client_assertion_lifetime
                        .or(authority.is_fapi2.then_some(FAPI2_LIFETIME)),
                    authority.typed_client_assertions,
                )?,
                authority.is_fapi2,
                hosts.clone(),
            )?),
            AuthorityKind::Invalid { reason } => return Err(Error::config(reason)),
        })
    }

    fn fixed(
        base: Url,
        path: &str,
        token_path: &str,
        directory: Option<Tenant>,
    ) -> Result<Self, Error> {
        let mut token = base.clone();
        token.set_path(&format!("{path}/{token_path}"));
        Ok(Self::Fixed {
            authority: format!("{base}{path}"),
            token_uri: request_uri(token.to_string())?,
            token,
            directory,
        })
    }

    /// Returns the tenant of requests that name no tenant.
    pub(super) fn default_tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Tenants { default_tenant, .. } => Some(default_tenant),
            Self::Fixed { .. } | Self::Provider(_) => None,
        }
    }

    /// Returns the URL of the OpenID configuration with the issuer and the keys.
    pub(super) fn metadata_url(&self, tenant: Option<&Tenant>, rules: Rules) -> String {
        match self {
            Self::Tenants {
                base,
                default_tenant,
                ..
            } => {
                let tenant = tenant
                    .unwrap_or(default_tenant)
                    .as_str()
                    .to_ascii_lowercase();
                format!("{base}{tenant}/v2.0{METADATA_PATH}")
            }
            Self::Fixed { authority, .. } if rules == Rules::B2c => {
                format!("{authority}/v2.0{METADATA_PATH}")
            }
            Self::Fixed { authority, .. } => format!("{authority}{METADATA_PATH}"),
            Self::Provider(provider) => provider.metadata_url(),
        }
    }

    /// Selects the endpoints for connections with a client certificate.
    pub(super) fn use_mutual_tls(&mut self) {
        if let Self::Provider(provider) = self {
            provider.use_mutual_tls();
        }
    }

    /// Selects the host of Entra's preview of certificate-bound tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the authority has no such host, or names no tenant.
    pub(super) fn use_mtls_pop(&mut self, authority: &Authority) -> Result<(), Error> {
        let Self::Tenants {
            base,
            token_base,
            default_tenant,
            token,
            ..
        } = self
        else {
            return Err(mtls_pop::unsupported(authority));
        };
        let AuthorityKind::Entra { cloud, .. } = &authority.kind else {
            return Err(mtls_pop::unsupported(authority));
        };
        default_tenant.check_for_application()?;
        *token_base = mtls_pop::token_base(&cloud.base(), base)?;
        *token = token_uri(token_base, default_tenant)?;
        Ok(())
    }

    /// Returns the host that gets the token requests, if that is another one.
    pub(super) fn token_origin(&self) -> &Url {
        match self {
            Self::Tenants { token_base, .. } => token_base,
            Self::Fixed { .. } | Self::Provider(_) => self.origin(),
        }
    }

    /// Returns the host that gets the credential, or that names the host in its metadata.
    pub(super) fn origin(&self) -> &Url {
        match self {
            Self::Tenants { base, .. } => base,
            Self::Fixed { token, .. } => token,
            Self::Provider(provider) => provider.origin(),
        }
    }
}

impl fmt::Display for EndpointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenants {
                base,
                default_tenant,
                ..
            } => write!(f, "{base}{}", default_tenant.as_str()),
            Self::Fixed { authority, .. } => f.write_str(authority),
            Self::Provider(provider) => f.write_str(provider.issuer()),
        }
    }
}

/// Returns the token endpoint of a tenant, whose characters are safe in a path.
pub(super) fn token_uri(base: &Url, tenant: &Tenant) -> Result<Uri, Error> {
    request_uri([base.as_str(), tenant.as_str(), "/oauth2/v2.0/token"].concat())
}

/// Replaces the host of a known cloud with the preferred alias. Returns whether the cloud is known.
fn preferred_base(mut base: Url) -> (Url, bool) {
    let host = base.host_str().unwrap_or_default();
    match preferred_host(host) {
        Some(preferred) if base.port().is_none() => {
            let is_set = base.set_host(Some(preferred)).is_ok();
            (base, is_set)
        }
        _ => (base, false),
    }
}

/// The lifetime of assertions under FAPI 2.0.
const FAPI2_LIFETIME: Duration = Duration::from_secs(60);
const AUTHORITY: &str = "the authority";
