use std::fmt;

use url::{Host, Url};

use crate::authority::{Authority, Kind, Tenant};
use crate::error::Error;

/// The checked endpoints of an authority: whoever holds one never asks whether it is https.
#[derive(Clone, Debug)]
pub(crate) enum Endpoints {
    Entra {
        base: Url,
        tenant: Tenant,
    },
    Oidc {
        issuer: Url,
        token_endpoint: Url,
        audience: String,
    },
}

impl Endpoints {
    pub(crate) fn of(authority: &Authority) -> Result<Self, Error> {
        match &authority.kind {
            Kind::Entra { cloud, tenant } => {
                if authority.token_endpoint.is_some()
                    || authority.client_assertion_audience.is_some()
                {
                    return Err(Error::config(
                        "the token endpoint and the assertion's audience of a Microsoft Entra ID authority follow from its tenant; leave them out",
                    ));
                }
                let tenant = Tenant::parse(tenant)?;
                let base = parse("the authority", &cloud.base())?;
                if base.path() != "/" || base.query().is_some() {
                    return Err(refusal(
                        "the authority",
                        &cloud.base(),
                        "give scheme, host and port alone; the tenant is its own argument",
                    ));
                }
                Ok(Self::Entra { base, tenant })
            }
            Kind::Oidc { issuer } => {
                let url = parse("the issuer", issuer)?;
                if url.query().is_some() {
                    return Err(refusal("the issuer", issuer, "an issuer has no query"));
                }
                let Some(token_endpoint) = &authority.token_endpoint else {
                    return Err(Error::config(format!(
                        "the issuer '{url}' has no token endpoint; call Authority::token_endpoint(..), since it is not looked up yet"
                    )));
                };
                let audience = authority.client_assertion_audience.as_ref();
                Ok(Self::Oidc {
                    issuer: url,
                    token_endpoint: parse("the token endpoint", token_endpoint)?,
                    // As it was written: an issuer is compared letter by letter.
                    audience: audience.unwrap_or(issuer).clone(),
                })
            }
        }
    }

    /// The tenant of requests that name none; an OpenID provider has none.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Entra { tenant, .. } => Some(tenant),
            Self::Oidc { .. } => None,
        }
    }

    pub(crate) fn token_endpoint(&self, tenant: Option<&Tenant>) -> Url {
        match self {
            Self::Entra { base, tenant: own } => {
                let mut url = base.clone();
                let tenant = tenant.unwrap_or(own);
                url.set_path(&format!("{}/oauth2/v2.0/token", tenant.as_str()));
                url
            }
            Self::Oidc { token_endpoint, .. } => token_endpoint.clone(),
        }
    }

    /// The `aud` of an assertion for this token endpoint. An OpenID provider's endpoint may be
    /// somebody else's choice, so there it is its issuer.
    pub(crate) fn audience<'a>(&'a self, token_endpoint: &'a Url) -> &'a str {
        match self {
            Self::Entra { .. } => token_endpoint.as_str(),
            Self::Oidc { audience, .. } => audience,
        }
    }

    pub(crate) fn is_entra(&self) -> bool {
        matches!(self, Self::Entra { .. })
    }

    /// Where the credential is sent.
    #[cfg(feature = "reqwest")]
    fn target(&self) -> &Url {
        match self {
            Self::Entra { base, .. } => base,
            Self::Oidc { token_endpoint, .. } => token_endpoint,
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

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entra { base, tenant } => write!(f, "{base}{}", tenant.as_str()),
            Self::Oidc { issuer, .. } => issuer.fmt(f),
        }
    }
}

/// Parses a URL that a credential may be sent to.
fn parse(what: &str, text: &str) -> Result<Url, Error> {
    if text.contains('@') {
        // The text is not repeated: it may hold a password.
        return Err(Error::config(format!(
            "{what} cannot be used: it holds an '@', as of a user name or password; leave that out"
        )));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(refusal(
            what,
            text,
            "it holds white space or a line break; trim what was read",
        ));
    }
    let url = Url::parse(text).map_err(|error| refusal(what, text, &error.to_string()))?;
    match url.scheme() {
        _ if url.fragment().is_some() => {
            Err(refusal(what, text, "it has a fragment; leave that out"))
        }
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(refusal(
            what,
            text,
            "the credential could cross the network in the clear; use https, or for this machine itself an address such as 127.0.0.1 instead of a name",
        )),
        _ => Err(refusal(what, text, "the scheme must be https")),
    }
}

fn refusal(what: &str, text: &str, why: &str) -> Error {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    Error::config(format!("{what} {shown:?} cannot be used: {why}"))
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
            let endpoint = endpoints.token_endpoint(None);
            assert_eq!(endpoint.as_str(), url);
            assert_eq!(endpoints.audience(&endpoint), url);
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
            ("login.example.org#a", "it has a fragment"),
            ("user:hunter2@login.example.org", "user name or password"),
            ("user@login.example.org", "user name or password"),
            (
                "https://u:hunter2@login example.org",
                "user name or password",
            ),
            ("", "empty host"),
            ("a b", "white space"),
            ("login.example.org\n", "white space"),
        ] {
            let error = endpoints(host).unwrap_err().to_string();
            assert!(error.contains(text), "{host}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
