use url::Url;
use uuid::Uuid;

use super::AuthorityKind;
use super::address::{invalid_url, parse_url, with_scheme};
use super::cloud::Cloud;
use crate::error::Error;

/// Parses the URL of an authority, of an endpoint or of metadata, with or without `https://`.
pub(super) fn parse_kind(text: &str) -> AuthorityKind {
    let text = with_scheme(text.trim());
    let invalid = |error: Error| AuthorityKind::Invalid {
        reason: error.to_string(),
    };
    match parse_url(LABEL, &text) {
        Ok(url) => AuthorityUrl { text: &text, url }
            .kind()
            .unwrap_or_else(invalid),
        Err(error) => invalid(error),
    }
}

/// A URL with https, or with http to a loopback address.
struct AuthorityUrl<'a> {
    text: &'a str,
    url: Url,
}

impl AuthorityUrl<'_> {
    fn kind(&self) -> Result<AuthorityKind, Error> {
        let (path, has_entra_endpoint) = self.path();
        let path = path.as_slice();
        let policy = self.policy(path)?;
        let host = self.url.host_str().unwrap_or_default();
        let cloud = Cloud::from_host(host).filter(|_| self.url.port().is_none());
        let is_at = |domain: &str| host.ends_with(domain);
        match (path, policy, cloud) {
            ([first, ..], ..) if first.eq_ignore_ascii_case("adfs") => self.adfs(path),
            (_, Some(_), Some(_)) => Err(self.invalid(
                "Azure AD B2C moved away from this host; use a host such as 'https://contoso.b2clogin.com'",
            )),
            (path, Some(policy), None) => match without_prefix(path) {
                [tenant] | [tenant, _] => Ok(AuthorityKind::B2c {
                    host: self.base(),
                    tenant: (*tenant).to_owned(),
                    policy: policy.to_owned(),
                }),
                _ => Err(self.invalid(B2C_PATH_RULE)),
            },
            (_, None, None) if is_at(".b2clogin.com") => Err(self.invalid(B2C_PATH_RULE)),
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
            // The builder's tenant(..) can add the tenant.
            ([], None, Some(cloud)) => Ok(entra(cloud, "")),
            (_, None, Some(_)) => Err(self.invalid("its path contains more than a tenant; remove the rest")),
            (_, None, None) if is_at(".ciamlogin.com") => {
                Err(self.invalid("its path contains more than a tenant; remove the rest"))
            }
            ([], None, None) if is_tenant_alone(host) => Err(self.invalid(
                "this is a tenant, not a host; pass the tenant to tenant(..) or to Authority::entra(..)",
            )),
            ([tenant], None, None) if has_entra_endpoint || is_tenant(tenant) => {
                Ok(entra(Cloud::Custom(self.base()), tenant))
            }
            _ => Ok(AuthorityKind::Oidc {
                issuer: self.text.strip_suffix(METADATA_PATH).unwrap_or(self.text).to_owned(),
            }),
        }
    }

    fn adfs(&self, path: &[&str]) -> Result<AuthorityKind, Error> {
        match path {
            [_] => Ok(AuthorityKind::Adfs { host: self.base() }),
            _ => Err(self.invalid("the path of an AD FS authority is '/adfs'; remove the rest")),
        }
    }

    /// Returns the path segments without the endpoint, and `true` if Entra has such an endpoint.
    fn path(&self) -> (Vec<&str>, bool) {
        let parts = self.url.path_segments().into_iter().flatten();
        let mut parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        for ending in ENDPOINT_PATHS {
            if let Some(rest) = parts.strip_suffix(*ending) {
                parts = rest.to_vec();
                return (parts, ending.contains(&"v2.0"));
            }
        }
        (parts, false)
    }

    /// Returns the user flow of Azure AD B2C, from the path or from the query parameter `p`.
    fn policy(&self, path: &[&str]) -> Result<Option<String>, Error> {
        let queried = self.url.query_pairs().next();
        match (queried, without_prefix(path)) {
            (Some((name, policy)), [_]) if name == "p" && self.url.query_pairs().count() == 1 => {
                Ok(Some(policy.into_owned()))
            }
            (Some(_), _) => Err(self.invalid("it has a query; remove the query")),
            (None, [_, policy]) if self.is_b2c(path, policy) => Ok(Some((*policy).to_owned())),
            (None, _) => Ok(None),
        }
    }

    fn is_b2c(&self, path: &[&str], policy: &str) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let begins = policy.get(..B2C_POLICY_PREFIX.len());
        host.ends_with(".b2clogin.com")
            || without_prefix(path).len() < path.len()
            || begins.is_some_and(|begins| begins.eq_ignore_ascii_case(B2C_POLICY_PREFIX))
    }

    /// Returns the host and the port, with the scheme if the scheme is http.
    fn base(&self) -> String {
        let origin = self.url.origin().ascii_serialization();
        match origin.strip_prefix("https://") {
            Some(host) => host.to_owned(),
            None => origin,
        }
    }

    fn invalid(&self, reason: &str) -> Error {
        invalid_url(LABEL, self.text, reason)
    }
}

fn entra(cloud: Cloud, tenant: &str) -> AuthorityKind {
    AuthorityKind::Entra {
        cloud,
        tenant: tenant.to_owned(),
    }
}

/// Returns `true` if the text looks like a tenant's ID or domain.
fn is_tenant(text: &str) -> bool {
    let is_domain = || {
        let last = text.rsplit_once('.').map(|(_, last)| last);
        last.is_some_and(|last| last.len() > 1 && last.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    Uuid::try_parse(text).is_ok() || is_domain()
}

/// Returns `true` if the host is a tenant's ID or initial domain.
fn is_tenant_alone(host: &str) -> bool {
    Uuid::try_parse(host).is_ok() || host.ends_with(".onmicrosoft.com")
}

/// Removes the segment `tfp`, which MSAL puts before the tenant of Azure AD B2C.
fn without_prefix<'a, 'b>(path: &'b [&'a str]) -> &'b [&'a str] {
    match path {
        [first, rest @ ..] if first.eq_ignore_ascii_case("tfp") => rest,
        path => path,
    }
}

const LABEL: &str = "the authority";
const B2C_POLICY_PREFIX: &str = "B2C_1";
const B2C_PATH_RULE: &str = "Azure AD B2C needs tenant and policy, as in 'https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin'";
const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// The path endings of endpoint and metadata URLs, longest first.
const ENDPOINT_PATHS: &[&[&str]] = &[
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
