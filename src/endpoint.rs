#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use url::Url;

use crate::authority::{Authority, HttpHosts, Rules, Tenant};
use crate::client_auth::{AssertionForm, SupportedAuthMethods};
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
mod mtls_pop;
mod response_issuer;

pub(crate) use cached_lookup::Found;
use keys::PublishedKeys;
use kind::EndpointKind;
pub(crate) use lookup::Lookup;
pub(crate) use response_issuer::ResponseIssuer;

/// The checked endpoints of an authority. Every URL is https, or http to an allowed host.
pub(crate) struct Endpoints {
    authority: Authority,
    rules: Rules,
    http_hosts: HttpHosts,
    kind: EndpointKind,
    keys: PublishedKeys,
}

/// A token endpoint and the client authentication that the endpoint supports.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) uri: Uri,
    /// The `aud` of a client assertion, if that is not the endpoint.
    audience: Option<Arc<str>>,
    /// The time claims and the type of a client assertion.
    pub(crate) assertion_form: AssertionForm,
    pub(crate) methods: SupportedAuthMethods,
    /// Whether the endpoint binds tokens to the certificate of the connection. `None` if nothing is
    /// known.
    pub(crate) binds_to_certificates: Option<bool>,
    /// The algorithms of DPoP proofs that the endpoint accepts. `None` if nothing is published.
    pub(crate) proof_algorithms: Option<Arc<[String]>>,
}

/// The endpoint for pushed authorization requests ([RFC 9126 section 2]).
///
/// [RFC 9126 section 2]: https://www.rfc-editor.org/rfc/rfc9126#section-2
pub(crate) struct PushedEndpoint {
    pub(crate) uri: Uri,
    /// The token endpoint, whose client authentication applies here, too.
    pub(crate) token: TokenEndpoint,
}

/// The endpoint that says whether a token is active ([RFC 7662 section 2]).
///
/// [RFC 7662 section 2]: https://www.rfc-editor.org/rfc/rfc7662#section-2
pub(crate) struct IntrospectionEndpoint {
    pub(crate) uri: Uri,
    /// The token endpoint, with the client authentication of the introspection endpoint.
    pub(crate) token: TokenEndpoint,
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
            authority: authority.clone(),
            rules: authority.rules(),
            http_hosts: authority.http_hosts.clone(),
            kind,
            keys: PublishedKeys::default(),
        })
    }

    /// Selects the endpoints for connections with a client certificate ([RFC 8705 section 5]).
    ///
    /// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    pub(crate) fn use_mutual_tls(&mut self) {
        self.kind.use_mutual_tls();
    }

    /// Returns the authority that the endpoints belong to.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Selects the host of Entra's preview of certificate-bound tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the authority has no such host, or names no tenant.
    pub(crate) fn use_mtls_pop(&mut self, authority: &Authority) -> Result<(), Error> {
        self.kind.use_mtls_pop(authority)
    }

    /// Returns the URL whose scheme and host get the token requests with a client certificate.
    pub(crate) fn token_origin(&self) -> &Url {
        self.kind.token_origin()
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
                token_base,
                default_tenant,
                token,
                instance,
                ..
            } => {
                if let Some(instance) = instance {
                    instance.check(lookup).await?;
                }
                let uri = match tenant {
                    Some(tenant) if tenant.as_str() != default_tenant.as_str() => {
                        kind::token_uri(token_base, tenant)?
                    }
                    _ => token.clone(),
                };
                Ok(TokenEndpoint::without_metadata(uri, self.rules))
            }
            EndpointKind::Fixed { token_uri, .. } => Ok(TokenEndpoint::without_metadata(
                token_uri.clone(),
                self.rules,
            )),
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
            } => Ok(tenant_page(
                base,
                tenant.unwrap_or(default_tenant),
                "authorize",
            )),
            EndpointKind::Fixed { token, .. } => Ok(page_beside(token, "authorize")),
            EndpointKind::Provider(provider) => provider.authorization_endpoint(lookup).await,
        }
    }

    /// Returns the page that ends a user's session. Sends a request for provider metadata that is
    /// not cached.
    pub(crate) async fn end_session_endpoint(
        &self,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<Url, Error> {
        match &self.kind {
            EndpointKind::Tenants {
                base,
                default_tenant,
                ..
            } => Ok(tenant_page(
                base,
                tenant.unwrap_or(default_tenant),
                "logout",
            )),
            EndpointKind::Fixed { token, .. } => Ok(page_beside(token, "logout")),
            EndpointKind::Provider(provider) => provider.end_session_endpoint(lookup).await,
        }
    }

    /// Returns the endpoint for pushed authorization requests, if the request must be pushed.
    ///
    /// `is_requested` is the caller's choice. Provider metadata may demand pushed requests, too.
    /// Sends a request for provider metadata that is not cached.
    pub(crate) async fn pushed_endpoint(
        &self,
        is_requested: bool,
        lookup: &Lookup<'_>,
    ) -> Result<Option<PushedEndpoint>, Error> {
        match &self.kind {
            EndpointKind::Provider(provider) => {
                provider.pushed_endpoint(is_requested, lookup).await
            }
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } if is_requested => {
                Err(Error::config(format!(
                    "the authority '{self}' accepts no pushed authorization requests; remove pushed(), or use Authority::oidc(..) for an OpenID provider"
                )))
            }
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => Ok(None),
        }
    }

    /// Returns the scopes that the client adds to a sign-in and that the authority does not have.
    /// Sends a request for provider metadata that is not cached.
    pub(crate) async fn unsupported_scopes(
        &self,
        lookup: &Lookup<'_>,
    ) -> Result<Vec<String>, Error> {
        match &self.kind {
            EndpointKind::Provider(provider) => provider.unsupported_scopes(lookup).await,
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => Ok(Vec::new()),
        }
    }

    /// Returns the introspection endpoint. Sends a request for provider metadata that is not
    /// cached.
    ///
    /// `custom` is an endpoint from the caller, which replaces the published one.
    pub(crate) async fn introspection_endpoint(
        &self,
        custom: Option<&Uri>,
        lookup: &Lookup<'_>,
    ) -> Result<IntrospectionEndpoint, Error> {
        match &self.kind {
            EndpointKind::Provider(provider) => {
                provider.introspection_endpoint(custom, lookup).await
            }
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => {
                Err(self.without_introspection())
            }
        }
    }

    /// Checks that the authority may have an introspection endpoint. Does no I/O.
    pub(crate) fn check_introspection(&self) -> Result<(), Error> {
        match &self.kind {
            EndpointKind::Provider(_) => Ok(()),
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => {
                Err(self.without_introspection())
            }
        }
    }

    fn without_introspection(&self) -> Error {
        Error::config(format!(
            "tokens of the authority '{self}' cannot be introspected: {} has no introspection endpoint (RFC 7662), and its access tokens for an API are signed; call TokenValidator::builder(..)",
            self.rules.name()
        ))
    }

    /// Checks the URL of an endpoint that the caller names.
    pub(crate) fn custom_endpoint(&self, name: &str, url: &str) -> Result<Uri, Error> {
        let url = self.http_hosts.parse_url(name, url)?;
        request_uri(url.to_string())
    }

    /// Returns the issuer of an OpenID provider. Other issuers are known only after discovery.
    pub(crate) fn issuer(&self) -> Option<&str> {
        match &self.kind {
            EndpointKind::Provider(provider) => Some(provider.issuer()),
            EndpointKind::Tenants { .. } | EndpointKind::Fixed { .. } => None,
        }
    }

    /// Returns the issuer if the FAPI 2.0 Security Profile applies.
    pub(crate) fn fapi2_issuer(&self) -> Option<&str> {
        match &self.kind {
            EndpointKind::Provider(provider) if provider.is_fapi2() => Some(provider.issuer()),
            _ => None,
        }
    }

    /// Returns the authority without its tenant, as a part of names in a shared cache.
    pub(crate) fn identity(&self) -> String {
        match &self.kind {
            EndpointKind::Tenants { base, .. } => base.to_string(),
            EndpointKind::Fixed { token, .. } => token.to_string(),
            EndpointKind::Provider(provider) => provider.issuer().to_owned(),
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
    fn without_metadata(uri: Uri, rules: Rules) -> Self {
        Self {
            uri,
            audience: None,
            assertion_form: AssertionForm::Microsoft,
            methods: SupportedAuthMethods::for_rules(rules),
            binds_to_certificates: None,
            proof_algorithms: None,
        }
    }

    /// Returns the `aud` of a client assertion.
    pub(crate) fn audience(&self) -> String {
        match &self.audience {
            Some(audience) => audience.as_ref().to_owned(),
            None => self.uri.to_string(),
        }
    }
}

/// Converts the URL of a token endpoint into the form of an HTTP request.
///
/// # Errors
///
/// [`Error::Config`] if the URL cannot be sent, such as a URL that is too long.
fn request_uri(url: impl Into<Bytes>) -> Result<Uri, Error> {
    Uri::from_maybe_shared(url.into()).map_err(|error| {
        Error::config(format!(
            "a token request cannot be sent to the token endpoint: {error}"
        ))
    })
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// Returns a page for a tenant's users, at a provider with Entra's paths.
fn tenant_page(base: &Url, tenant: &Tenant, page: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/oauth2/v2.0/{page}", tenant.as_str()));
    url
}

/// Returns a page in the folder of the token endpoint.
fn page_beside(token: &Url, page: &str) -> Url {
    let folder = token.path().strip_suffix("token").unwrap_or_default();
    let mut url = token.clone();
    url.set_path(&format!("{folder}{page}"));
    url
}
