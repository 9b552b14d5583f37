#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use std::fmt;

use url::Url;

use crate::authority::{Authority, HttpHosts, Rules, Tenant};
use crate::client_auth::{AssertionValidity, SupportedAuthMethods};
use crate::error::Error;
use crate::time::TimeSource;

mod cached_lookup;
mod document;
mod freshness;
mod instance;
mod key_source;
mod keys;
mod kind;
mod lookup;
mod metadata;
mod response_issuer;

pub(crate) use cached_lookup::Found;
use keys::PublishedKeys;
use kind::EndpointKind;
pub(crate) use lookup::Lookup;
pub(crate) use response_issuer::ResponseIssuer;

/// The checked endpoints of an authority. Every URL is https, or http to an allowed host.
pub(crate) struct Endpoints {
    rules: Rules,
    http_hosts: HttpHosts,
    kind: EndpointKind,
    keys: PublishedKeys,
}

/// A token endpoint and the client authentication that the endpoint supports.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) url: Url,
    /// The `aud` of a client assertion.
    pub(crate) audience: String,
    /// The time claims of a client assertion.
    pub(crate) validity: AssertionValidity,
    pub(crate) methods: SupportedAuthMethods,
}

impl Endpoints {
    /// Checks an authority, and logs a warning if a test allowed http. Does no I/O.
    pub(crate) fn of(authority: &Authority) -> Result<Self, Error> {
        let kind = EndpointKind::from_authority(authority)?;
        if kind.origin().scheme() == "http"
            && let Some(host) = authority.http_hosts.named()
        {
            tracing::warn!(
                host,
                "requests to the authority go over http, so that everyone in the network can read the credential and the tokens; use allow_insecure_http() for tests only"
            );
        }
        Ok(Self {
            rules: authority.rules(),
            http_hosts: authority.http_hosts.clone(),
            kind,
            keys: PublishedKeys::default(),
        })
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// Returns the tenant of requests that name no tenant. Most providers have no tenants.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.kind.default_tenant()
    }

    /// Returns the token endpoint of `tenant`. Sends requests for discovery that is not cached.
    pub(crate) async fn token_endpoint(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<TokenEndpoint, Error> {
        match &self.kind {
            EndpointKind::Tenants {
                base,
                default_tenant,
                instance,
            } => {
                if let Some(instance) = instance {
                    instance.check(lookup).await?;
                }
                let tenant = tenant.unwrap_or(default_tenant).as_str();
                let mut url = base.clone();
                url.set_path(&format!("{tenant}/oauth2/v2.0/token"));
                Ok(TokenEndpoint::without_metadata(url, self.rules))
            }
            EndpointKind::Fixed { token, .. } => {
                Ok(TokenEndpoint::without_metadata(token.clone(), self.rules))
            }
            EndpointKind::Provider(provider) => provider.token_endpoint(lookup).await,
        }
    }

    /// Returns the page where users of `tenant` sign in. Sends a request for provider metadata that
    /// is not cached.
    pub(crate) async fn authorization_endpoint(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Url, Error> {
        match &self.kind {
            EndpointKind::Tenants {
                base,
                default_tenant,
                ..
            } => {
                let tenant = tenant.unwrap_or(default_tenant).as_str();
                let mut url = base.clone();
                url.set_path(&format!("{tenant}/oauth2/v2.0/authorize"));
                Ok(url)
            }
            EndpointKind::Fixed { token, .. } => {
                let folder = token.path().strip_suffix("token").unwrap_or_default();
                let mut url = token.clone();
                url.set_path(&format!("{folder}authorize"));
                Ok(url)
            }
            EndpointKind::Provider(provider) => provider.authorization_endpoint(lookup).await,
        }
    }

    /// Returns the issuer of an OpenID provider. Other issuers are known only after discovery.
    pub(crate) fn issuer(&self) -> Option<&str> {
        match &self.kind {
            EndpointKind::Provider(provider) => Some(provider.issuer()),
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => None,
        }
    }

    /// Expires all cached discovery results. The next use repeats discovery.
    pub(crate) fn force_refresh(&self, clock: &TimeSource) {
        self.keys.force_refresh(clock);
        match &self.kind {
            EndpointKind::Tenants { instance, .. } => {
                if let Some(instance) = instance {
                    instance.force_refresh(clock);
                }
            }
            EndpointKind::Fixed { .. } => {}
            EndpointKind::Provider(provider) => provider.force_refresh(clock),
        }
    }

    /// Expires the provider metadata if the error of a token request suggests a moved endpoint.
    pub(crate) fn mark_suspect(&self, error: &Error, clock: &TimeSource) {
        let may_have_moved = match error.status() {
            None => matches!(error, Error::Transport(_) | Error::Config(_)),
            Some(status) => status.is_redirection() || [404, 405, 410].contains(&status.as_u16()),
        };
        if let (EndpointKind::Provider(provider), true) = (&self.kind, may_have_moved) {
            provider.mark_suspect(clock);
        }
    }

    /// Returns the page where an administrator of `tenant` consents. Only Entra has such a page.
    pub(crate) fn admin_consent(&self, tenant: &Tenant) -> Result<Url, Error> {
        match &self.kind {
            EndpointKind::Tenants { base, .. } => {
                let mut url = base.clone();
                url.set_path(&format!("{}/adminconsent", tenant.as_str()));
                Ok(url)
            }
            EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => Err(Error::config(format!(
                "the authority '{self}' has no page where an administrator consents; only Microsoft Entra ID has one"
            ))),
        }
    }

    /// Returns the URL whose scheme and host the transport has to reach.
    pub(crate) fn origin(&self) -> &Url {
        self.kind.origin()
    }
}

impl TokenEndpoint {
    /// Returns an endpoint of Microsoft's. The audience of an assertion is the endpoint.
    fn without_metadata(url: Url, rules: Rules) -> Self {
        Self {
            audience: url.to_string(),
            validity: AssertionValidity::Microsoft,
            url,
            methods: SupportedAuthMethods::for_rules(rules),
        }
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}
