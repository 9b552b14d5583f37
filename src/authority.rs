use std::fmt;

pub(crate) mod address;
mod cloud;
mod parse;
mod rules;
mod tenant;

pub use cloud::Cloud;
pub(crate) use cloud::preferred_host;
pub(crate) use rules::Rules;
pub(crate) use tenant::{PERSONAL_ACCOUNTS, Tenant};

/// Which identity provider to ask, and in which tenant: a description, infallible to make.
///
/// [`build()`](crate::ConfidentialClientBuilder::build) checks it. Making one does no I/O.
///
/// | | | looked up over the network | tenant per request | scope | RSA signature |
/// |---|---|---|---|---|---|
/// | [`entra`](Self::entra) | Microsoft Entra ID | nothing for a known cloud; whether the host is one for [`Cloud::Custom`] | yes | a resource's `/.default` | PS256 |
/// | [`external_id`](Self::external_id) | Microsoft Entra External ID | nothing | yes | a resource's `/.default` | PS256 |
/// | [`b2c`](Self::b2c) | Azure AD B2C | nothing | no | any or none | PS256 |
/// | [`adfs`](Self::adfs) | AD FS | nothing | no | any or none | RS256 |
/// | [`oidc`](Self::oidc) | any OpenID provider | its metadata, once a day | no | any or none | as its metadata says, or RS256 |
///
/// ```
/// use confidential_client::{Authority, Cloud};
///
/// let authority = Authority::entra(Cloud::UsGovernment, "contoso.onmicrosoft.us");
/// assert_eq!(
///     authority.to_string(),
///     "https://login.microsoftonline.us/contoso.onmicrosoft.us"
/// );
/// // The same, as it is found in a portal or a configuration file.
/// let pasted = "https://login.usgovcloudapi.net/contoso.onmicrosoft.us/oauth2/v2.0/token";
/// assert_eq!(Authority::parse(pasted), authority);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    pub(crate) kind: AuthorityKind,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) client_assertion_audience: Option<String>,
    pub(crate) without_instance_discovery: bool,
}

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
    /// What was pasted is no authority, with why.
    Unreadable {
        why: String,
    },
}

impl Authority {
    /// Microsoft Entra ID in `cloud`; `tenant` is the directory's id (a GUID) or one of its
    /// domains.
    pub fn entra(cloud: Cloud, tenant: impl Into<String>) -> Self {
        Self::of(AuthorityKind::Entra {
            cloud,
            tenant: tenant.into(),
        })
    }

    /// Microsoft Entra External ID, at `contoso.ciamlogin.com` or a custom domain; `tenant` is the
    /// directory's id (a GUID) or one of its domains. The host is trusted as it is given.
    ///
    /// ```
    /// use confidential_client::Authority;
    ///
    /// let authority = Authority::external_id("login.contoso.com", "contoso.onmicrosoft.com");
    /// assert_eq!(authority.to_string(), "https://login.contoso.com/contoso.onmicrosoft.com");
    /// ```
    pub fn external_id(host: impl Into<String>, tenant: impl Into<String>) -> Self {
        Self::of(AuthorityKind::ExternalId {
            host: host.into(),
            tenant: tenant.into(),
        })
    }

    /// Azure AD B2C, at `contoso.b2clogin.com` or a custom domain; `tenant` is the directory's id (a
    /// GUID) or domain, `policy` the user flow, which Azure AD B2C names for application tokens,
    /// too. The host is trusted as it is given.
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
    pub fn b2c(
        host: impl Into<String>,
        tenant: impl Into<String>,
        policy: impl Into<String>,
    ) -> Self {
        Self::of(AuthorityKind::B2c {
            host: host.into(),
            tenant: tenant.into(),
            policy: policy.into(),
        })
    }

    /// AD FS, by its host such as `fs.contoso.com`, which is trusted as it is given. It has no
    /// tenants. Where it is to know the resource by a parameter of its own, give that with
    /// [`TokenRequest::form_parameter`](crate::TokenRequest::form_parameter).
    ///
    /// ```
    /// use confidential_client::Authority;
    ///
    /// let authority = Authority::adfs("fs.contoso.com");
    /// assert_eq!(authority.to_string(), "https://fs.contoso.com/adfs");
    /// ```
    pub fn adfs(host: impl Into<String>) -> Self {
        Self::of(AuthorityKind::Adfs { host: host.into() })
    }

    /// Another OpenID provider, by its issuer: an https URL, written as the provider writes it,
    /// since it is compared letter by letter. It has no tenants, takes any scope or none, and
    /// P-256 certificates beside RSA ones.
    ///
    /// Its metadata is read from `{issuer}/.well-known/openid-configuration` ([OpenID Connect
    /// Discovery section 4]) when the first token is needed, and kept for a day. It says where
    /// token requests go and how the client proves its identity, unless
    /// [`token_endpoint`](Self::token_endpoint) and
    /// [`token_endpoint_auth_method`](crate::ConfidentialClientBuilder::token_endpoint_auth_method)
    /// do.
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
    pub fn oidc(issuer: impl Into<String>) -> Self {
        Self::of(AuthorityKind::Oidc {
            issuer: issuer.into(),
        })
    }

    /// Reads a URL as people paste it: the authority itself, one of its endpoints or its metadata, with
    /// or without `https://`, `/v2.0` and a slash at the end; of an OpenID provider the issuer or
    /// the metadata. A known cloud without a tenant is completed by
    /// [`tenant`](crate::ConfidentialClientBuilder::tenant).
    ///
    /// A host that is no known cloud's, `*.ciamlogin.com` or `*.b2clogin.com` is taken for a custom
    /// host of Entra where the path looks like it, as in `/{GUID or domain}/v2.0`, and for an OpenID
    /// provider otherwise. Its own constructor says what is meant better. What cannot be read is
    /// refused by [`build()`](crate::ConfidentialClientBuilder::build).
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
    pub fn parse(url: impl AsRef<str>) -> Self {
        Self::of(parse::parse(url.as_ref()))
    }

    fn of(kind: AuthorityKind) -> Self {
        Self {
            kind,
            token_endpoint: None,
            client_assertion_audience: None,
            without_instance_discovery: false,
        }
    }

    /// Where an OpenID provider takes token requests: an https URL, or http to a loopback address.
    /// Its metadata is then not looked up.
    #[must_use]
    pub fn token_endpoint(mut self, url: impl Into<String>) -> Self {
        self.token_endpoint = Some(url.into());
        self
    }

    /// What an OpenID provider takes as the `aud` of a client assertion, where that is not its
    /// issuer: some take their token endpoint alone.
    ///
    /// The issuer is the default because a provider that could name another's endpoint as its own
    /// would otherwise be sent an assertion that is good there.
    #[must_use]
    pub fn client_assertion_audience(mut self, audience: impl Into<String>) -> Self {
        self.client_assertion_audience = Some(audience.into());
        self
    }

    /// Trusts the host of a [`Cloud::Custom`] without asking the worldwide cloud about it: for
    /// clouds that are cut off from it. Changes nothing elsewhere.
    ///
    /// Whoever answers at that host is then sent the credential, so it has to be right.
    #[must_use]
    pub fn without_instance_discovery(mut self) -> Self {
        self.without_instance_discovery = true;
        self
    }

    /// The tenant of requests that name none, where there are tenants.
    pub(crate) fn tenant_mut(&mut self) -> Option<&mut String> {
        match &mut self.kind {
            AuthorityKind::Entra { tenant, .. } | AuthorityKind::ExternalId { tenant, .. } => {
                Some(tenant)
            }
            AuthorityKind::B2c { .. }
            | AuthorityKind::Adfs { .. }
            | AuthorityKind::Oidc { .. }
            | AuthorityKind::Unreadable { .. } => None,
        }
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.kind, AuthorityKind::Unreadable { .. })
    }

    pub(crate) fn rules(&self) -> Rules {
        match &self.kind {
            AuthorityKind::Entra { .. } | AuthorityKind::ExternalId { .. } => Rules::Entra,
            AuthorityKind::B2c { .. } => Rules::B2c,
            AuthorityKind::Adfs { .. } => Rules::Adfs,
            AuthorityKind::Oidc { .. } | AuthorityKind::Unreadable { .. } => Rules::OpenId,
        }
    }
}

/// Without a user name or password that somebody may have put before the host.
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
            AuthorityKind::Unreadable { .. } => f.write_str("(unreadable)"),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.to_string()).finish()
    }
}

/// Without what may be somebody's secret: user name and password before it, a query behind it.
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
