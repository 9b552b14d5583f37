use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::cached_lookup::ONE_MINUTE;
use super::document::{Document, truncated};
use super::keys::KeyOwner;
use super::kind::EndpointKind;
use super::lookup::Lookup;
use super::metadata::responses_name_issuer;
use crate::authority::{HttpHosts, Rules, Tenant, preferred_host};
use crate::crypto::SigningAlgorithm;
use crate::error::{Error, Escaped};
use crate::jwt::{Issuer, IssuerKeys, PublishedKey, is_guid};

/// The location of a tenant's issuer and keys.
pub(super) struct KeySource<'a> {
    kind: &'a EndpointKind,
    http_hosts: &'a HttpHosts,
    rules: Rules,
    owner: &'a KeyOwner,
    url: String,
}

impl<'a> KeySource<'a> {
    pub(super) fn new(
        kind: &'a EndpointKind,
        http_hosts: &'a HttpHosts,
        rules: Rules,
        owner: &'a KeyOwner,
    ) -> Self {
        let mut url = kind.metadata_url(owner.tenant.as_ref(), rules);
        if let Some(application) = &owner.application {
            url.push_str("?appid=");
            url.extend(byte_serialize(application.as_bytes()));
        }
        Self {
            kind,
            http_hosts,
            rules,
            owner,
            url,
        }
    }

    /// Fetches the issuer and the keys. Returns the keys and their time to live.
    ///
    /// A throttling provider is asked again after a minute at the latest, because every token is
    /// rejected until then.
    pub(super) async fn fetch(&self, lookup: &Lookup<'_>) -> Result<(IssuerKeys, Duration), Error> {
        let fetched = self.fetch_documents(lookup).await;
        fetched.map_err(|error| match error.retry_after() {
            Some(wait) if wait > ONE_MINUTE => error.with_retry_after(ONE_MINUTE),
            _ => error,
        })
    }

    /// Fetches the OpenID configuration and then the key set, within one limit.
    async fn fetch_documents(&self, lookup: &Lookup<'_>) -> Result<(IssuerKeys, Duration), Error> {
        let started = Instant::now();
        let metadata = Document::get(lookup, METADATA_NAME, &self.url, HINT).await?;
        let issuer = self.issuer(&metadata)?;
        let remaining = Lookup {
            limit: lookup.limit.saturating_sub(started.elapsed()),
            ..*lookup
        };
        let keys = Document::get(&remaining, KEYS_NAME, &self.keys_url(&metadata)?, HINT).await?;
        let Some(list) = keys.members().get("keys").and_then(Value::as_array) else {
            return Err(keys.invalid("it has no 'keys'"));
        };
        let objects = list.iter().filter_map(Value::as_object);
        let mut published: Vec<_> = objects.filter_map(PublishedKey::read).collect();
        if published.is_empty() {
            return Err(keys.invalid(&format!(
                "none of its keys is for signatures with {} and has at least 2048 bits for RSA",
                SigningAlgorithm::supported_names()
            )));
        }
        if issuer.as_str().contains(EXTERNAL_ID) {
            // The keys of External ID name the issuer of Microsoft Entra ID.
            published.iter_mut().for_each(|key| key.issuer = None);
        }
        // A new issuer, or a new location of the keys, counts as much as a new key.
        let time_to_live = metadata.time_to_live().min(keys.time_to_live());
        let keys = IssuerKeys {
            access_token_issuers: self.access_token_issuers(&issuer, &metadata)?,
            tenant: match self.kind {
                EndpointKind::Tenants { .. } => issuer.tenant().map(ToOwned::to_owned),
                EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => None,
            },
            issuer,
            keys: published,
            authorization_endpoint: authorization_endpoint(&metadata, self.http_hosts),
            responses_name_issuer: responses_name_issuer(&metadata),
        };
        Ok((keys, time_to_live))
    }

    /// Returns the published issuer after a check that the issuer belongs to the authority.
    fn issuer(&self, metadata: &Document) -> Result<Issuer, Error> {
        let Some(issuer) = metadata.text("issuer") else {
            return Err(metadata.invalid("it has no 'issuer'"));
        };
        let is_right = match self.kind {
            EndpointKind::Provider(provider) => issuer == provider.issuer(),
            EndpointKind::Tenants { base, .. } => is_of_host(issuer, base),
            EndpointKind::Fixed { token, .. } => is_of_same_host(issuer, token, self.rules),
        };
        let issuer = match is_right {
            true => Issuer::new(issuer),
            false => return Err(self.wrong_issuer(issuer, "another authority's")),
        };
        match self.requested_directory() {
            Some(id) if !self.is_of_directory(&issuer, id) => {
                let of = format!("not of the tenant '{id}'");
                Err(self.wrong_issuer(issuer.as_str(), &of))
            }
            _ => Ok(issuer),
        }
    }

    fn wrong_issuer(&self, issuer: &str, of: &str) -> Error {
        Error::config(format!(
            "the OpenID configuration at {} is that of the issuer '{}', which is {of}; use the authority of that issuer, and for an OpenID provider write the issuer to the letter",
            self.url,
            truncated(&Escaped(issuer).to_string()),
        ))
    }

    /// Returns the directory's id, if the authority names the tenant by id.
    fn requested_directory(&self) -> Option<&str> {
        let tenant = match self.kind {
            EndpointKind::Tenants { .. } => self.owner.tenant.as_ref(),
            EndpointKind::Fixed { directory, .. } => directory.as_ref(),
            EndpointKind::Provider(_) => None,
        };
        tenant.map(Tenant::as_str).filter(|tenant| is_guid(tenant))
    }

    fn is_of_directory(&self, issuer: &Issuer, id: &str) -> bool {
        match issuer.tenant() {
            Some(tenant) => tenant.eq_ignore_ascii_case(id),
            // The issuer of a user flow may have the tenant's domain.
            None => self.rules == Rules::B2c,
        }
    }

    /// Returns the URL of the key set. The provider may publish the keys on another host.
    fn keys_url(&self, metadata: &Document) -> Result<String, Error> {
        let Some(url) = metadata
            .text("jwks_uri")
            .filter(|url| url.len() <= LONGEST_URL)
        else {
            return Err(metadata.invalid("it has no 'jwks_uri'"));
        };
        let url = self
            .http_hosts
            .parse_url("the jwks_uri", url)
            .map_err(|error| metadata.invalid(&truncated(&error.to_string())))?;
        if url.scheme() != "https" && self.url.starts_with("https:") {
            return Err(metadata.invalid("its 'jwks_uri' is not https"));
        }
        Ok(url.into())
    }

    /// Returns the accepted issuers of access tokens.
    fn access_token_issuers(
        &self,
        issuer: &Issuer,
        metadata: &Document,
    ) -> Result<Vec<Issuer>, Error> {
        let older = match (self.kind, self.rules) {
            // An API gets version 1 tokens unless its manifest requests version 2.
            (EndpointKind::Tenants { base, .. }, _) => {
                version_1_base(base).and_then(|base| issuer.version_1(&base))
            }
            // AD FS uses the published issuer only in ID tokens.
            (EndpointKind::Fixed { token, .. }, Rules::Adfs) => {
                match metadata.text("access_token_issuer") {
                    Some(issuer) if is_of_same_host(issuer, token, Rules::Adfs) => {
                        return Ok(vec![Issuer::new(issuer)]);
                    }
                    Some(issuer) => return Err(self.wrong_issuer(issuer, "another authority's")),
                    None => None,
                }
            }
            _ => None,
        };
        Ok([issuer.clone()].into_iter().chain(older).collect())
    }
}

/// Returns the published sign-in page, or `None` if the URL is not valid.
fn authorization_endpoint(metadata: &Document, http_hosts: &HttpHosts) -> Option<Arc<str>> {
    let url = metadata.text("authorization_endpoint")?;
    let url = Some(url).filter(|url| url.len() <= LONGEST_URL)?;
    let url = http_hosts
        .parse_url("the authorization endpoint", url)
        .ok()?;
    Some(Arc::from(url.as_str()))
}

/// Returns whether an issuer belongs to a Microsoft host, under any alias of the cloud.
///
/// The issuer of External ID has a host with the directory's id.
fn is_of_host(issuer: &str, base: &Url) -> bool {
    let Ok(issuer) = Url::parse(issuer) else {
        return false;
    };
    let (issuer_host, host) = (
        issuer.host_str().unwrap_or_default(),
        base.host_str().unwrap_or_default(),
    );
    let cloud = preferred_host(host);
    issuer.scheme() == base.scheme()
        && match cloud {
            Some(_) => preferred_host(issuer_host) == cloud,
            None => issuer_host == host || issuer_host.ends_with(EXTERNAL_ID),
        }
}

/// Returns whether the issuer of B2C or of AD FS belongs to the host of the authority.
///
/// B2C writes the scheme, the host and the port of the authority. AD FS names itself over http,
/// too, as in `http://fs.contoso.com/adfs/services/trust`, and without a port.
fn is_of_same_host(issuer: &str, endpoint: &Url, rules: Rules) -> bool {
    let Ok(issuer) = Url::parse(issuer) else {
        return false;
    };
    match rules {
        Rules::Adfs => {
            matches!(issuer.scheme(), "https" | "http") && issuer.host() == endpoint.host()
        }
        _ => issuer.origin() == endpoint.origin(),
    }
}

/// Returns the part of a version 1 issuer before the tenant.
fn version_1_base(base: &Url) -> Option<String> {
    let host = base.host_str()?;
    Some(match preferred_host(host) {
        Some("login.partner.microsoftonline.cn") => "https://sts.chinacloudapi.cn/".to_owned(),
        Some("login.windows-ppe.net") => "https://sts.windows-ppe.net/".to_owned(),
        Some(_) => "https://sts.windows.net/".to_owned(),
        None => base.to_string(),
    })
}

const METADATA_NAME: &str = "the OpenID configuration";
const KEYS_NAME: &str = "the key set";
const HINT: &str = "is the authority right?";
const EXTERNAL_ID: &str = ".ciamlogin.com";
/// Longest accepted URL, in bytes.
const LONGEST_URL: usize = 2000;
