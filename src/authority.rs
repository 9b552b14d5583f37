use std::fmt;
use std::time::Duration;

pub(crate) mod address;
mod assertion_audience;
mod cloud;
mod parse;
mod rules;
mod tenant;

pub(crate) use address::HttpHosts;
pub use assertion_audience::AssertionAudience;
pub use cloud::Cloud;
pub(crate) use cloud::{preferred_host, token_exchange_scope};
pub(crate) use rules::Rules;
pub(crate) use tenant::{PERSONAL_ACCOUNTS, Tenant};

/// The identity provider and the tenant that a client gets tokens from.
///
/// Creating an authority cannot fail and does no I/O.
/// [`build()`](crate::ConfidentialClientBuilder::build) validates the authority.
///
/// | | provider | discovery | tenant per request | scope | RSA signature |
/// |---|---|---|---|---|---|
/// | [`entra`](Self::entra) | Microsoft Entra ID | none for a known cloud, instance discovery for [`Cloud::Custom`] | yes | a resource's `/.default` | PS256 |
/// | [`external_id`](Self::external_id) | Microsoft Entra External ID | none | yes | a resource's `/.default` | PS256 |
/// | [`b2c`](Self::b2c) | Azure AD B2C | none | no | any or none | PS256 |
/// | [`adfs`](Self::adfs) | AD FS | none | no | any or none | RS256 |
/// | [`oidc`](Self::oidc) | any OpenID provider | provider metadata, at least once a day | no | any or none | the algorithm in the metadata, or RS256 |
///
/// ```
/// use confidential_client::{Authority, Cloud};
///
/// let authority = Authority::entra(Cloud::UsGovernment, "contoso.onmicrosoft.us");
/// assert_eq!(
///     authority.to_string(),
///     "https://login.microsoftonline.us/contoso.onmicrosoft.us"
/// );
/// // A token endpoint, pasted from a portal or a configuration file.
/// let pasted = "https://login.usgovcloudapi.net/contoso.onmicrosoft.us/oauth2/v2.0/token";
/// assert_eq!(Authority::parse(pasted), authority);
/// ```
#[doc(alias = "authority_host")]
#[doc(alias = "authority_url")]
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    pub(crate) kind: AuthorityKind,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) client_assertion_audience: Option<AssertionAudience>,
    pub(crate) typed_client_assertions: bool,
    pub(crate) is_fapi2: bool,
    pub(crate) client_assertion_lifetime: Option<Duration>,
    pub(crate) without_instance_discovery: bool,
    pub(crate) http_hosts: HttpHosts,
}

/// The kind of identity provider, with the address and the tenant as the caller wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityKind {
    Entra {
        cloud: Cloud,
        tenant: String,
    },
    ExternalId {
        host: String,
        tenant: String,
    },
    B2c {
        host: String,
        tenant: String,
        policy: String,
    },
    Adfs {
        host: String,
    },
    Oidc {
        issuer: String,
    },
    /// A URL that [`Authority::parse`] rejected.
    Invalid {
        /// The message of the error that `build()` returns.
        reason: String,
    },
}

impl Authority {
    /// Creates an authority for Microsoft Entra ID in `cloud`.
    ///
    /// `tenant` is the tenant's ID (a GUID) or one of the tenant's domains.
    #[doc(alias = "AzureCloudInstance")]
    #[doc(alias = "AadAuthorityAudience")]
    pub fn entra(cloud: Cloud, tenant: impl Into<String>) -> Self {
        Self::new(AuthorityKind::Entra {
            cloud,
            tenant: tenant.into(),
        })
    }

    /// Creates an authority for Microsoft Entra External ID at `host`, which is
    /// `contoso.ciamlogin.com` or a custom domain.
    ///
    /// `tenant` is the tenant's ID (a GUID) or one of the tenant's domains. The client trusts the
    /// host without discovery.
    ///
    /// ```
    /// use confidential_client::Authority;
    ///
    /// let authority = Authority::external_id("login.contoso.com", "contoso.onmicrosoft.com");
    /// assert_eq!(authority.to_string(), "https://login.contoso.com/contoso.onmicrosoft.com");
    /// ```
    #[doc(alias = "CIAM")]
    #[doc(alias = "ciamlogin")]
    pub fn external_id(host: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self::new(AuthorityKind::ExternalId {
            host: host.into(),
            tenant: tenant.into(),
        })
    }

    /// Creates an authority for Azure AD B2C at `host`, which is `contoso.b2clogin.com` or a custom
    /// domain.
    ///
    /// `tenant` is the tenant's ID (a GUID) or domain. `policy` is the user flow. Azure AD B2C
    /// needs a user flow for application tokens, too. The client trusts the host without
    /// discovery.
    ///
    /// ```
    /// use confidential_client::Authority;
    ///
    /// let authority =
    ///     Authority::b2c("contoso.b2clogin.com", "contoso.onmicrosoft.com", "B2C_1_signin");
    /// assert_eq!(
    ///     authority.to_string(),
    ///     "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin"
    /// );
    /// ```
    #[doc(alias = "B2C")]
    #[doc(alias = "b2c_authority")]
    pub fn b2c(
        host: impl Into<String>,
        tenant: impl Into<String>,
        policy: impl Into<String>,
    ) -> Self {
        Self::new(AuthorityKind::B2c {
            host: host.into(),
            tenant: tenant.into(),
            policy: policy.into(),
        })
    }

    /// Creates an authority for AD FS at `host`, such as `fs.contoso.com`.
    ///
    /// AD FS has no tenants. The client trusts the host without discovery. If the AD FS server
    /// expects the resource in a separate parameter, set the parameter with
    /// [`TokenRequest::form_parameter`](crate::TokenRequest::form_parameter).
    ///
    /// ```
    /// use confidential_client::Authority;
    ///
    /// let authority = Authority::adfs("fs.contoso.com");
    /// assert_eq!(authority.to_string(), "https://fs.contoso.com/adfs");
    /// ```
    pub fn adfs(host: impl Into<String>) -> Self {
        Self::new(AuthorityKind::Adfs { host: host.into() })
    }

    /// Creates an authority for another OpenID provider, identified by the provider's issuer.
    ///
    /// The issuer is an https URL. Write the URL exactly as the provider does, because the client
    /// compares the text byte by byte. An OpenID provider has no tenants. The scope can be any
    /// scope or none. Certificates can have an RSA, P-256, P-384 or Ed25519 key.
    ///
    /// The client reads the provider's metadata from `{issuer}/.well-known/openid-configuration`
    /// ([OpenID Connect Discovery section 4]) when a caller first needs a token, and caches the
    /// metadata for as long as `Cache-Control: max-age` allows, from 5 minutes to a day. The
    /// metadata contains the token endpoint and the methods of client authentication.
    /// [`token_endpoint`](Self::token_endpoint) and
    /// [`token_endpoint_auth_method`](crate::ConfidentialClientBuilder::token_endpoint_auth_method)
    /// override the metadata.
    ///
    /// ```
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org/realms/daemons"))
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [OpenID Connect Discovery section 4]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
    #[doc(alias = "with_oidc_authority")]
    #[doc(alias = "WithOidcAuthority")]
    pub fn oidc(issuer: impl Into<String>) -> Self {
        Self::new(AuthorityKind::Oidc {
            issuer: issuer.into(),
        })
    }

    /// Creates an authority from a URL that was pasted from a portal or a configuration file.
    ///
    /// The URL can be the authority, one of the authority's endpoints, or the metadata URL. For an
    /// OpenID provider, the URL is the issuer or the metadata URL. `https://`, `/v2.0` and a slash
    /// at the end are optional. If the URL names a known cloud and no tenant, set the tenant with
    /// [`tenant`](crate::ConfidentialClientBuilder::tenant).
    ///
    /// A host outside the known clouds, `*.ciamlogin.com` and `*.b2clogin.com` is treated as a
    /// custom Entra host if the path looks like Entra's, as in `/{GUID or domain}/v2.0`. Every
    /// other host is treated as an OpenID provider. To avoid the guess, call
    /// [`entra`](Self::entra), [`external_id`](Self::external_id), [`b2c`](Self::b2c) or
    /// [`oidc`](Self::oidc).
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) returns an error for a URL that cannot
    /// be parsed.
    ///
    /// ```
    /// use confidential_client::{Authority, Cloud};
    ///
    /// let contoso = Authority::entra(Cloud::Public, "contoso.com");
    /// for pasted in [
    ///     "https://login.microsoftonline.com/contoso.com",
    ///     "https://login.microsoftonline.com/contoso.com/v2.0/",
    ///     "https://login.windows.net/contoso.com/oauth2/token",
    ///     "login.microsoftonline.com/contoso.com/v2.0/.well-known/openid-configuration",
    /// ] {
    ///     assert_eq!(Authority::parse(pasted), contoso);
    /// }
    /// ```
    #[doc(alias = "with_authority")]
    #[doc(alias = "WithAuthority")]
    pub fn parse(url: impl AsRef<str>) -> Self {
        Self::new(parse::parse_kind(url.as_ref()))
    }

    fn new(kind: AuthorityKind) -> Self {
        Self {
            kind,
            token_endpoint: None,
            client_assertion_audience: None,
            typed_client_assertions: false,
            is_fapi2: false,
            client_assertion_lifetime: None,
            without_instance_discovery: false,
            http_hosts: HttpHosts::default(),
        }
    }

    /// Sets the URL that token requests to an OpenID provider go to.
    ///
    /// The URL must be https, or http to a loopback address. The client then skips discovery of the
    /// provider's metadata.
    #[must_use]
    pub fn token_endpoint(mut self, url: impl Into<String>) -> Self {
        self.token_endpoint = Some(url.into());
        self
    }

    /// Sets the `aud` claim of client assertions for an OpenID provider. The default is the issuer.
    ///
    /// Some providers accept only the token endpoint's URL, which is
    /// [`AssertionAudience::TokenEndpoint`]. A text becomes the audience as written. The default is
    /// the issuer because a malicious provider could publish another provider's token endpoint as
    /// the token endpoint in the metadata. The client would then sign an assertion that is valid at
    /// the other provider.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects a text that is empty or has
    /// white space, and an audience for an authority that is not an OpenID provider.
    #[must_use]
    pub fn client_assertion_audience(mut self, audience: impl Into<AssertionAudience>) -> Self {
        self.client_assertion_audience = Some(audience.into());
        self
    }

    /// Sets the type (`typ`) of the client assertions that the client signs for an OpenID provider
    /// to `client-authentication+jwt` ([RFC 7523bis section 4]).
    ///
    /// The default type is `JWT`, which every provider accepts. The explicit type protects against
    /// a provider that takes another JWT of the client for an assertion. Few providers check the
    /// type.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects the setting for an authority
    /// that is not an OpenID provider. The type of assertions for Microsoft Entra ID, Azure AD B2C
    /// and AD FS does not change.
    ///
    /// ```
    /// use confidential_client::{Authority, Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org").typed_client_assertions())
    ///     .certificate(Certificate::from_pem(pem)?)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 7523bis section 4]: https://datatracker.ietf.org/doc/html/draft-ietf-oauth-rfc7523bis#section-4
    #[doc(alias = "typ")]
    #[doc(alias = "client-authentication+jwt")]
    #[must_use]
    pub fn typed_client_assertions(mut self) -> Self {
        self.typed_client_assertions = true;
        self
    }

    /// Sets the lifetime of the client assertions that the client signs for an OpenID provider: the
    /// time from `iat` to `exp`, from 10 seconds to one hour, in whole seconds.
    ///
    /// The default is four minutes. Auth0 and many other providers reject an assertion of more than
    /// five minutes, and `nbf` is one minute before `iat`. Profiles such as FAPI need a shorter
    /// lifetime, such as one minute. The claims of assertions for Microsoft Entra ID, Azure AD B2C
    /// and AD FS do not change: ten minutes from `nbf`.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects a lifetime out of these bounds,
    /// and a lifetime for an authority that is not an OpenID provider.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::{Authority, Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let authority = Authority::oidc("https://bank.example/realms/fapi")
    ///     .client_assertion_lifetime(Duration::from_secs(60));
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(authority)
    ///     .certificate(Certificate::from_pem(pem)?.key_id("daemon-2026"))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_assertion_lifetime(mut self, lifetime: Duration) -> Self {
        self.client_assertion_lifetime = Some(lifetime);
        self
    }

    /// Applies the [FAPI 2.0 Security Profile] to an OpenID provider, as banks and health services
    /// demand.
    ///
    /// The client does what the profile demands of a client, and rejects what the profile forbids.
    /// Sections are those of the profile.
    ///
    /// | section | what the client does | what the client rejects |
    /// |---|---|---|
    /// | 5.2 | | an http issuer, unless a test calls [`allow_insecure_http`] |
    /// | 5.3.3.1 | binds tokens to a key | a client whose tokens are bearer tokens |
    /// | 5.3.3.1 | | a client secret |
    /// | 5.3.3.1 | the issuer as the audience of assertions, as one text | another audience |
    /// | 5.3.3.1 | endpoints from the metadata, whose issuer is this authority's | [`token_endpoint`](Self::token_endpoint) |
    /// | 5.3.3.2 | pushes every authorization request | metadata without an endpoint for pushed requests |
    /// | 5.3.3.2 | PKCE with S256, and a new verifier and nonce for each sign-in | |
    /// | 5.3.3.2 | | an authorization response without the issuer (`iss`), or of another issuer |
    /// | 5.3.2.2 | | a redirect URI that is not https |
    /// | 5.4.1 | signs with PS256, ES256 or EdDSA | RS256 and ES384, in assertions and in ID tokens |
    ///
    /// Assertions live for one minute, unless
    /// [`client_assertion_lifetime`](Self::client_assertion_lifetime) says otherwise. The profile
    /// forbids providers to rotate refresh tokens without a way to retry. A refresh token that may
    /// have been used is therefore sent again, unless [`refresh_token_rotation`] says otherwise.
    ///
    /// The built-in transport uses TLS 1.2 or newer. The client cannot check a transport or a
    /// reqwest builder of the caller's. The FAPI 2.0 Message Signing profile, with signed requests
    /// and responses, is not implemented. The plan of the conformance tests is in `docs/fapi-2.md`.
    ///
    /// [`build()`](crate::ConfidentialClientBuilder::build) rejects the profile for an authority
    /// that is not an OpenID provider.
    ///
    /// [FAPI 2.0 Security Profile]: https://openid.net/specs/fapi-security-profile-2_0-final.html
    /// [`allow_insecure_http`]: #method.allow_insecure_http
    /// [`refresh_token_rotation`]: crate::ConfidentialClientBuilder::refresh_token_rotation
    #[doc(alias = "FAPI")]
    #[doc(alias = "financial-grade")]
    #[must_use]
    pub fn fapi2(mut self) -> Self {
        self.is_fapi2 = true;
        self
    }

    /// Trusts the host of a [`Cloud::Custom`] without instance discovery.
    ///
    /// Use this setter in a cloud that cannot reach the worldwide cloud. The setter changes nothing
    /// for other authorities. The client sends the credential to the host, so check the host name.
    #[doc(alias = "instance_discovery")]
    #[doc(alias = "disable_instance_discovery")]
    #[doc(alias = "WithInstanceDiscovery")]
    #[must_use]
    pub fn without_instance_discovery(mut self) -> Self {
        self.without_instance_discovery = true;
        self
    }

    /// Allows http for this authority's own host, for tests in a network of containers (feature
    /// `testing`).
    ///
    /// Everyone in the network can read the credential and the tokens. The client logs a warning.
    /// Without this call, http is allowed for loopback addresses only. The setter changes nothing
    /// for the hosts of Microsoft's clouds, and neither an environment variable nor a configuration
    /// file can call it. For an Entra host, the client skips instance discovery, as with
    /// [`without_instance_discovery`](Self::without_instance_discovery).
    ///
    /// ```
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let keycloak = Authority::oidc("http://keycloak:8080/realms/tests");
    /// let builder = |authority| ConfidentialClient::builder("daemon").authority(authority);
    /// assert!(builder(keycloak.clone()).client_secret("the secret's value").build().is_err());
    /// builder(keycloak.allow_insecure_http()).client_secret("the secret's value").build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn allow_insecure_http(mut self) -> Self {
        self.http_hosts = match &self.kind {
            AuthorityKind::Entra { cloud, .. } => HttpHosts::of(&cloud.base()),
            AuthorityKind::ExternalId { host, .. }
            | AuthorityKind::B2c { host, .. }
            | AuthorityKind::Adfs { host } => HttpHosts::of(host),
            AuthorityKind::Oidc { issuer } => HttpHosts::of(issuer),
            AuthorityKind::Invalid { .. } => HttpHosts::default(),
        };
        self
    }

    /// Returns the default tenant of token requests, or `None` if the provider has no tenants.
    pub(crate) fn tenant_mut(&mut self) -> Option<&mut String> {
        match &mut self.kind {
            AuthorityKind::Entra { tenant, .. } | AuthorityKind::ExternalId { tenant, .. } => {
                Some(tenant)
            }
            AuthorityKind::B2c { .. }
            | AuthorityKind::Adfs { .. }
            | AuthorityKind::Oidc { .. }
            | AuthorityKind::Invalid { .. } => None,
        }
    }

    /// Returns `true` if [`parse`](Self::parse) rejected the URL.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self.kind, AuthorityKind::Invalid { .. })
    }

    /// Returns the protocol rules of the identity provider.
    pub(crate) fn rules(&self) -> Rules {
        match &self.kind {
            AuthorityKind::Entra { .. } | AuthorityKind::ExternalId { .. } => Rules::Entra,
            AuthorityKind::B2c { .. } => Rules::B2c,
            AuthorityKind::Adfs { .. } => Rules::Adfs,
            AuthorityKind::Oidc { .. } | AuthorityKind::Invalid { .. } => Rules::OpenId,
        }
    }
}

/// Writes the authority's URL without a user name, a password or a query.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = |host: &str| Cloud::Custom(host.to_owned()).base();
        match &self.kind {
            AuthorityKind::Entra { cloud, tenant } => {
                write!(f, "{}/{tenant}", redacted(&cloud.base()))
            }
            AuthorityKind::ExternalId { host, tenant } => {
                write!(f, "{}/{tenant}", redacted(&base(host)))
            }
            AuthorityKind::B2c {
                host,
                tenant,
                policy,
            } => write!(f, "{}/{tenant}/{policy}", redacted(&base(host))),
            AuthorityKind::Adfs { host } => write!(f, "{}/adfs", redacted(&base(host))),
            AuthorityKind::Oidc { issuer } => f.write_str(redacted(issuer)),
            AuthorityKind::Invalid { .. } => f.write_str("(invalid)"),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.to_string()).finish()
    }
}

/// Removes parts of a URL that may be secret, namely user name, password, query and fragment.
fn redacted(url: &str) -> &str {
    let url = url.rsplit('@').next().unwrap_or_default();
    url.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_host_is_not_shown() {
        for authority in [
            Authority::entra(Cloud::Custom("https://u:hunter2@x.example".into()), "t"),
            Authority::external_id("u:hunter2@x.example", "t"),
            Authority::b2c("u:hunter2@x.example", "t", "p"),
            Authority::adfs("u:hunter2@x.example"),
            Authority::oidc("https://u:hunter2@x.example"),
        ] {
            let text = format!("{authority} {authority:?}");
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("x.example"), "{text}");
        }
        let text = format!("{:?}", Authority::parse("https://u:hunter2@x.example/t"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
