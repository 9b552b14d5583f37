use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// Which identity provider to ask, and in which tenant: a description, infallible to make.
///
/// [`build()`](crate::ConfidentialClientBuilder::build) checks it. Making one does no I/O, and
/// neither does using one of the known clouds: their token endpoint follows from the tenant.
///
/// ```
/// use confidential_client::{Authority, Cloud};
///
/// let authority = Authority::entra(Cloud::UsGovernment, "contoso.onmicrosoft.us");
/// assert_eq!(
///     authority.to_string(),
///     "https://login.microsoftonline.us/contoso.onmicrosoft.us"
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    pub(crate) kind: Kind,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) client_assertion_audience: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Entra { cloud: Cloud, tenant: String },
    Oidc { issuer: String },
}

impl Authority {
    /// Microsoft Entra ID in `cloud`; `tenant` is the directory's id (a GUID) or one of its
    /// domains.
    pub fn entra(cloud: Cloud, tenant: impl Into<String>) -> Self {
        Self::of(Kind::Entra {
            cloud,
            tenant: tenant.into(),
        })
    }

    /// Another OpenID provider, by its issuer: an https URL. It has no tenants, takes any scope or
    /// none, and P-256 certificates beside RSA ones.
    ///
    /// Its [`token_endpoint`](Self::token_endpoint) has to be given: it is not looked up yet.
    ///
    /// ```
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(
    ///         Authority::oidc("https://id.example.org")
    ///             .token_endpoint("https://id.example.org/oauth/token"),
    ///     )
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn oidc(issuer: impl Into<String>) -> Self {
        Self::of(Kind::Oidc {
            issuer: issuer.into(),
        })
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            token_endpoint: None,
            client_assertion_audience: None,
        }
    }

    /// Where an OpenID provider takes token requests: an https URL, or http to a loopback address.
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

    pub(crate) fn tenant(&self) -> Option<&str> {
        match &self.kind {
            Kind::Entra { tenant, .. } => Some(tenant),
            Kind::Oidc { .. } => None,
        }
    }
}

/// Without a user name or password that somebody may have put before the host.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Entra { cloud, tenant } => write!(f, "{}/{tenant}", shown(&cloud.base())),
            Kind::Oidc { issuer } => f.write_str(shown(issuer)),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.to_string()).finish()
    }
}

/// A national cloud of Microsoft Entra ID, or a host that answers as one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cloud {
    /// The worldwide cloud, `login.microsoftonline.com`.
    Public,
    /// Azure Government, `login.microsoftonline.us`.
    UsGovernment,
    /// Azure operated by 21Vianet in China, `login.partner.microsoftonline.cn`.
    China,
    /// Another host that speaks Entra's protocol, as `login.example.org` or with scheme and port
    /// as `https://login.example.org:8443`. It is trusted as given: nothing is looked up about it.
    /// `http` is accepted for a loopback address such as `http://127.0.0.1:8080` and no other.
    Custom(String),
}

impl Cloud {
    /// Scheme, host and port, as yet unchecked where the host is a custom one.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Public => "https://login.microsoftonline.com".to_owned(),
            Self::UsGovernment => "https://login.microsoftonline.us".to_owned(),
            // Entra's metadata names this host, not login.chinacloudapi.cn, as the one to send to.
            Self::China => "https://login.partner.microsoftonline.cn".to_owned(),
            Self::Custom(host) if host.contains("://") => host.trim_end_matches('/').to_owned(),
            Self::Custom(host) => format!("https://{}", host.trim_end_matches('/')),
        }
    }
}

/// Shows the host, without a user name or password that somebody may have put before it.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("Public"),
            Self::UsGovernment => f.write_str("UsGovernment"),
            Self::China => f.write_str("China"),
            Self::Custom(host) => f.debug_tuple("Custom").field(&shown(host)).finish(),
        }
    }
}

fn shown(host: &str) -> &str {
    host.rsplit('@').next().unwrap_or_default()
}

/// A tenant that is safe to put into a URL: an id or a domain, and as the key of a cache, folded.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    as_asked: Arc<str>,
    folded: Arc<str>,
}

impl Tenant {
    pub(crate) fn parse(tenant: &str) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let safe = tenant.bytes().all(plain) && tenant.bytes().any(|byte| byte != b'.');
        if !safe {
            return Err(Error::config(format!(
                "the tenant {tenant:?} is neither an id nor a domain; use the directory's GUID or a domain such as 'contoso.onmicrosoft.com'"
            )));
        }
        let as_asked = Arc::<str>::from(tenant);
        let folded = tenant.to_ascii_lowercase();
        Ok(Self {
            folded: if folded == tenant {
                Arc::clone(&as_asked)
            } else {
                folded.into()
            },
            as_asked,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.as_asked
    }

    pub(crate) fn as_asked(&self) -> &Arc<str> {
        &self.as_asked
    }

    /// Tenants are case-insensitive; this is the spelling that all others share.
    pub(crate) fn folded(&self) -> &Arc<str> {
        &self.folded
    }

    /// Checks that an application can have a token here: in one tenant, never with personal
    /// accounts.
    pub(crate) fn check_for_application(&self) -> Result<(), Error> {
        if matches!(
            &**self.folded(),
            "common" | "organizations" | "consumers" | PERSONAL_ACCOUNTS
        ) {
            return Err(Error::config(format!(
                "an application has no token in '{}'; name the tenant it is to work in, by its GUID or a domain",
                self.as_str()
            )));
        }
        Ok(())
    }
}

/// The tenant of all personal Microsoft accounts.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_knows_where_to_send() {
        for (cloud, base) in [
            (Cloud::Public, "https://login.microsoftonline.com"),
            (Cloud::UsGovernment, "https://login.microsoftonline.us"),
            (Cloud::China, "https://login.partner.microsoftonline.cn"),
            (
                Cloud::Custom("login.example.org".into()),
                "https://login.example.org",
            ),
            (
                Cloud::Custom("http://127.0.0.1:8080/".into()),
                "http://127.0.0.1:8080",
            ),
        ] {
            assert_eq!(cloud.base(), base);
        }
    }

    #[test]
    fn a_password_in_a_host_is_not_shown() {
        let authority = Authority::entra(Cloud::Custom("https://u:hunter2@x.example".into()), "t");
        let text = format!("{authority} {authority:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("x.example"), "{text}");
    }

    #[test]
    fn a_tenant_cannot_change_the_url() {
        for tenant in [
            "contoso.onmicrosoft.com",
            "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "Contoso_1.com",
        ] {
            assert_eq!(Tenant::parse(tenant).unwrap().as_str(), tenant);
        }
        for tenant in [
            "", ".", "..", " ", "a b", "a/b", "a\\b", "a?b", "a#b", "a%2fb", "a@b", "a:b", "ä.com",
            "a\n",
        ] {
            let error = Tenant::parse(tenant).unwrap_err();
            assert!(
                error.to_string().contains("neither an id nor a domain"),
                "{tenant:?}"
            );
        }
    }

    #[test]
    fn an_application_works_in_one_tenant() {
        for tenant in [
            "common",
            "Organizations",
            "CONSUMERS",
            "9188040D-6c67-4c5b-b112-36a304b66dad",
        ] {
            let error = Tenant::parse(tenant)
                .unwrap()
                .check_for_application()
                .unwrap_err();
            assert!(error.to_string().contains(tenant), "{error}");
        }
        Tenant::parse("common.example")
            .unwrap()
            .check_for_application()
            .unwrap();
    }
}
