use url::Url;
use uuid::Uuid;

use super::AuthorityKind;
use super::address::{invalid_url, parse_url, with_scheme};
use super::cloud::Cloud;
use crate::error::Error;

/// Reads a URL as people paste it.
pub(super) fn parse(text: &str) -> AuthorityKind {
    let text = with_scheme(text.trim());
    let why = |error: Error| AuthorityKind::Unreadable {
        why: error.to_string(),
    };
    match parse_url(WHAT, &text) {
        Ok(url) => AuthorityUrl { text: &text, url }.read().unwrap_or_else(why),
        Err(error) => why(error),
    }
}

struct AuthorityUrl<'a> {
    text: &'a str,
    url: Url,
}

impl AuthorityUrl<'_> {
    fn read(&self) -> Result<AuthorityKind, Error> {
        let (path, is_entras) = self.path();
        let path = path.as_slice();
        let policy = self.policy(path)?;
        let host = self.url.host_str().unwrap_or_default();
        let cloud = Cloud::from_host(host).filter(|_| self.url.port().is_none());
        let is_at = |domain: &str| host.ends_with(domain);
        match (path, policy, cloud) {
            ([first, ..], ..) if first.eq_ignore_ascii_case("adfs") => self.adfs(path),
            (_, Some(_), Some(_)) => Err(self.refuse(
                "Azure AD B2C is not at this host any more; it is at one such as 'https://contoso.b2clogin.com'",
            )),
            (path, Some(policy), None) => match without_prefix(path) {
                [tenant] | [tenant, _] => Ok(AuthorityKind::B2c {
                    host: self.base(),
                    tenant: (*tenant).to_owned(),
                    policy: policy.to_owned(),
                }),
                _ => Err(self.refuse(B2C_PATH)),
            },
            (_, None, None) if is_at(".b2clogin.com") => Err(self.refuse(B2C_PATH)),
            ([], None, None) if is_at(".ciamlogin.com") => {
                let name = host.split('.').next().unwrap_or_default();
                Ok(AuthorityKind::ExternalId {
                    host: self.base(),
                    tenant: format!("{name}.onmicrosoft.com"),
                })
            }
            ([tenant], None, None) if is_at(".ciamlogin.com") => Ok(AuthorityKind::ExternalId {
                host: self.base(),
                tenant: (*tenant).to_owned(),
            }),
            ([tenant], None, Some(cloud)) => Ok(entra(cloud, tenant)),
            // The builder's tenant(..) may add it.
            ([], None, Some(cloud)) => Ok(entra(cloud, "")),
            (_, None, Some(_)) => Err(self.refuse("it has more of a path than a tenant; leave out the rest")),
            (_, None, None) if is_at(".ciamlogin.com") => {
                Err(self.refuse("it has more of a path than a tenant; leave out the rest"))
            }
            ([], None, None) if is_tenant_alone(host) => Err(self.refuse(
                "that is a tenant and no host; give it to tenant(..), or to Authority::entra(..)",
            )),
            ([tenant], None, None) if is_entras || is_tenant(tenant) => {
                Ok(entra(Cloud::Custom(self.base()), tenant))
            }
            _ => Ok(AuthorityKind::Oidc {
                issuer: self.text.strip_suffix(METADATA).unwrap_or(self.text).to_owned(),
            }),
        }
    }

    fn adfs(&self, path: &[&str]) -> Result<AuthorityKind, Error> {
        match path {
            [_] => Ok(AuthorityKind::Adfs { host: self.base() }),
            _ => {
                Err(self.refuse("an AD FS has no more of a path than '/adfs'; leave out the rest"))
            }
        }
    }

    /// The parts of the path up to an endpoint, and whether that is one that Entra has.
    fn path(&self) -> (Vec<&str>, bool) {
        let parts = self.url.path_segments().into_iter().flatten();
        let mut parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        for ending in ENDINGS {
            if let Some(rest) = parts.strip_suffix(*ending) {
                parts = rest.to_vec();
                return (parts, ending.contains(&"v2.0"));
            }
        }
        (parts, false)
    }

    /// The user flow of Azure AD B2C, which is in the path or in the query.
    fn policy(&self, path: &[&str]) -> Result<Option<String>, Error> {
        let queried = self.url.query_pairs().next();
        match (queried, without_prefix(path)) {
            (Some((name, policy)), [_]) if name == "p" && self.url.query_pairs().count() == 1 => {
                Ok(Some(policy.into_owned()))
            }
            (Some(_), _) => Err(self.refuse("it has a query; leave that out")),
            (None, [_, policy]) if self.is_b2c(path, policy) => Ok(Some((*policy).to_owned())),
            (None, _) => Ok(None),
        }
    }

    fn is_b2c(&self, path: &[&str], policy: &str) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let begins = policy.get(..B2C.len());
        host.ends_with(".b2clogin.com")
            || without_prefix(path).len() < path.len()
            || begins.is_some_and(|begins| begins.eq_ignore_ascii_case(B2C))
    }

    /// Scheme, host and port, as short as it goes.
    fn base(&self) -> String {
        let origin = self.url.origin().ascii_serialization();
        match origin.strip_prefix("https://") {
            Some(host) => host.to_owned(),
            None => origin,
        }
    }

    fn refuse(&self, why: &str) -> Error {
        invalid_url(WHAT, self.text, why)
    }
}

fn entra(cloud: Cloud, tenant: &str) -> AuthorityKind {
    AuthorityKind::Entra {
        cloud,
        tenant: tenant.to_owned(),
    }
}

/// Whether it looks like a directory's id or domain.
fn is_tenant(text: &str) -> bool {
    let is_domain = || {
        let last = text.rsplit_once('.').map(|(_, last)| last);
        last.is_some_and(|last| last.len() > 1 && last.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    Uuid::try_parse(text).is_ok() || is_domain()
}

/// Whether what stands for a host is a directory's id or initial domain.
fn is_tenant_alone(host: &str) -> bool {
    Uuid::try_parse(host).is_ok() || host.ends_with(".onmicrosoft.com")
}

/// Without the `tfp` that MSAL writes before the tenant of Azure AD B2C.
fn without_prefix<'a, 'b>(path: &'b [&'a str]) -> &'b [&'a str] {
    match path {
        [first, rest @ ..] if first.eq_ignore_ascii_case("tfp") => rest,
        path => path,
    }
}

const WHAT: &str = "the authority";
const B2C: &str = "B2C_1";
const B2C_PATH: &str = "Azure AD B2C needs tenant and policy, as in 'https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin'";
const METADATA: &str = "/.well-known/openid-configuration";

/// What stands behind an authority in the URLs of its endpoints, the longer before the shorter.
const ENDINGS: &[&[&str]] = &[
    &["v2.0", ".well-known", "openid-configuration"],
    &[".well-known", "openid-configuration"],
    &["oauth2", "v2.0", "token"],
    &["oauth2", "v2.0", "authorize"],
    &["oauth2", "v2.0"],
    &["oauth2", "token"],
    &["oauth2", "authorize"],
    &["oauth2"],
    &["v2.0"],
];
