use std::fmt;

use url::{Host, Url};

use crate::authority::{Authority, Tenant};
use crate::error::Error;

/// The checked endpoints of an authority: whoever holds one never asks whether it is https.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    base: Url,
    tenant: Tenant,
}

impl Endpoints {
    pub(crate) fn of(authority: &Authority) -> Result<Self, Error> {
        let tenant = Tenant::parse(authority.tenant())?;
        let base = parse_base(&authority.cloud().base())?;
        Ok(Self { base, tenant })
    }

    /// The tenant of requests that name none.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub(crate) fn token_endpoint(&self, tenant: &Tenant) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/oauth2/v2.0/token", tenant.as_str()));
        url
    }

    #[cfg(feature = "reqwest")]
    pub(crate) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether it is this machine itself, by a literal address: never behind a proxy.
    #[cfg(feature = "reqwest")]
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, self.tenant.as_str())
    }
}

fn parse_base(text: &str) -> Result<Url, Error> {
    if text.contains('@') {
        // The text is not repeated: it may hold a password.
        return Err(Error::config(
            "the authority cannot be used: it holds an '@', as of a user name or password; give scheme, host and port alone",
        ));
    }
    let refuse = |why: &str| {
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        Err(Error::config(format!(
            "the authority {shown:?} cannot be used: {why}"
        )))
    };
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return refuse(&format!("{error}")),
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return refuse("give scheme, host and port alone; the tenant is its own argument");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => refuse(
            "the credential could cross the network in the clear; use https, or for this machine itself an address such as 127.0.0.1 instead of a name",
        ),
        _ => refuse("the scheme must be https"),
    }
}

/// Only a literal address counts: `localhost` is whatever a resolver says.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Cloud;

    fn endpoints(host: &str) -> Result<Endpoints, Error> {
        Endpoints::of(&Authority::entra(Cloud::Custom(host.into()), "contoso.com"))
    }

    #[test]
    fn the_token_endpoint_follows_from_authority_and_tenant() {
        for (cloud, url) in [
            (
                Cloud::Public,
                "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
            ),
            (
                Cloud::China,
                "https://login.partner.microsoftonline.cn/contoso.com/oauth2/v2.0/token",
            ),
            (
                Cloud::Custom("login.example.org:8443".into()),
                "https://login.example.org:8443/contoso.com/oauth2/v2.0/token",
            ),
            (
                Cloud::Custom("http://[::1]:9".into()),
                "http://[::1]:9/contoso.com/oauth2/v2.0/token",
            ),
        ] {
            let endpoints = Endpoints::of(&Authority::entra(cloud, "contoso.com")).unwrap();
            assert_eq!(endpoints.token_endpoint(endpoints.tenant()).as_str(), url);
        }
    }

    #[test]
    fn an_authority_is_https_or_loopback() {
        for host in [
            "http://127.0.0.1:1",
            "http://[::1]",
            "HTTPS://Login.Example.Org",
        ] {
            endpoints(host).unwrap();
        }
        for (host, text) in [
            ("http://login.example.org", "in the clear"),
            ("http://localhost:80", "in the clear"),
            ("http://10.0.0.1", "in the clear"),
            ("ftp://login.example.org", "the scheme must be https"),
            ("login.example.org/tenant", "scheme, host and port alone"),
            ("login.example.org?a=hunter2", "scheme, host and port alone"),
            ("login.example.org#a", "scheme, host and port alone"),
            ("user:hunter2@login.example.org", "user name or password"),
            ("user@login.example.org", "user name or password"),
            (
                "https://u:hunter2@login example.org",
                "user name or password",
            ),
            ("", "empty host"),
            ("a b", "invalid"),
        ] {
            let error = endpoints(host).unwrap_err().to_string();
            assert!(error.contains(text), "{host}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
