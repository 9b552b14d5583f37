use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::Endpoints;
use super::cached_lookup::{A_DAY, AFTER_A_FAILURE, CachedLookup};
use super::document::{Document, truncated};
use super::kind::EndpointKind;
use super::lookup::Lookup;
use super::metadata::responses_name_issuer;
use crate::authority::address::parse_url;
use crate::authority::{Rules, Tenant, preferred_host};
use crate::crypto::check_backend;
use crate::error::{Error, Escaped};
use crate::jwt::{Issuer, IssuerKeys, PublishedKey};
use crate::time::{Now, TimeSource};

/// The cached issuer and keys of each tenant. An authority without tenants has one entry.
#[derive(Default)]
pub(super) struct PublishedKeys(Mutex<HashMap<Option<Tenant>, Arc<CachedLookup<IssuerKeys>>>>);

impl PublishedKeys {
    /// Expires all keys. The next use fetches new keys.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        for cached in self.lock().values() {
            cached.force_refresh(clock);
        }
    }

    /// Returns the entry of `tenant`. A full cache drops another entry.
    fn of_tenant(&self, tenant: Option<Tenant>) -> Arc<CachedLookup<IssuerKeys>> {
        let mut entries = self.lock();
        if let Some(cached) = entries.get(&tenant) {
            return Arc::clone(cached);
        }
        if entries.len() >= MOST_TENANTS
            && let Some(other) = entries.keys().next().cloned()
        {
            entries.remove(&other);
        }
        let cached = Arc::new(CachedLookup::pausing(PAUSE_AFTER_FAILURE));
        entries.insert(tenant, Arc::clone(&cached));
        cached
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Tenant>, Arc<CachedLookup<IssuerKeys>>>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    /// Checks that this build can verify signatures.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build without a signing backend.
    pub(crate) fn check_can_verify() -> Result<(), Error> {
        check_backend().map_err(|error| {
            Error::config(format!(
                "the signatures of tokens cannot be verified: {error}"
            ))
        })
    }

    /// Returns the issuer and the keys that verify tokens of `tenant`, or of the default tenant.
    ///
    /// The first call sends the discovery requests, and concurrent calls share the result. The
    /// result is cached for a day, or longer while the provider is down. If no cached key is called
    /// `name`, the keys are fetched again, at most once in five minutes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build without a signing backend. Otherwise the error of the failed
    /// discovery.
    pub(crate) async fn issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        name: Option<&str>,
        lookup: &Lookup<'_>,
    ) -> Result<Arc<IssuerKeys>, Error> {
        Self::check_can_verify()?;
        let source = self.key_source(tenant);
        let cached = self.keys.of_tenant(source.tenant.clone());
        let fetch = async |lookup: Lookup<'_>, _| Ok((source.fetch(&lookup).await?, A_DAY));
        let keys = cached.get(lookup, &fetch).await?;
        match name {
            Some(name) if !keys.has(name) => {
                cached
                    .other_than(&keys, REFETCH_INTERVAL, lookup, &fetch)
                    .await
            }
            _ => Ok(keys),
        }
    }

    /// Returns the cached keys of `tenant`. Returns `None` if the keys must be fetched.
    pub(crate) fn cached_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        name: Option<&str>,
        now: &Now,
    ) -> Option<Arc<IssuerKeys>> {
        let cached = self.keys.of_tenant(self.tenant_of_keys(tenant));
        let keys = cached.known(now)?;
        name.is_none_or(|name| keys.has(name)).then_some(keys)
    }

    /// Returns `tenant` or else the default tenant, which is the key of the cached keys.
    fn tenant_of_keys(&self, tenant: Option<&Tenant>) -> Option<Tenant> {
        tenant.or(self.tenant()).cloned()
    }

    fn key_source(&self, tenant: Option<&Tenant>) -> KeySource<'_> {
        let tenant = self.tenant_of_keys(tenant);
        KeySource {
            kind: &self.kind,
            rules: self.rules,
            url: self.kind.metadata_url(tenant.as_ref(), self.rules),
            tenant,
        }
    }
}

/// The location of a tenant's issuer and keys.
struct KeySource<'a> {
    kind: &'a EndpointKind,
    rules: Rules,
    tenant: Option<Tenant>,
    url: String,
}

impl KeySource<'_> {
    /// Fetches the OpenID configuration and then the key set, within one limit.
    async fn fetch(&self, lookup: &Lookup<'_>) -> Result<IssuerKeys, Error> {
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
            return Err(keys.invalid(
                "none of its keys is for signatures with RS256, PS256 or ES256 and has at least 2048 bits for RSA",
            ));
        }
        if issuer.as_str().contains(EXTERNAL_ID) {
            // The keys of External ID name the issuer of Microsoft Entra ID.
            published.iter_mut().for_each(|key| key.issuer = None);
        }
        Ok(IssuerKeys {
            access_token_issuers: self.access_token_issuers(&issuer, &metadata),
            tenant: match self.kind {
                EndpointKind::Tenants { .. } => issuer.tenant().map(ToOwned::to_owned),
                EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => None,
            },
            issuer,
            keys: published,
            authorization_endpoint: authorization_endpoint(&metadata),
            responses_name_issuer: responses_name_issuer(&metadata),
        })
    }

    /// Returns the published issuer after a check that the issuer belongs to the authority.
    fn issuer(&self, metadata: &Document) -> Result<Issuer, Error> {
        let Some(issuer) = metadata.text("issuer") else {
            return Err(metadata.invalid("it has no 'issuer'"));
        };
        let is_right = match self.kind {
            EndpointKind::Provider(provider) => issuer == provider.issuer(),
            EndpointKind::Tenants { base, .. } => is_of_host(issuer, base),
            // B2C puts the directory's id into the issuer, and AD FS has a configured issuer.
            EndpointKind::Fixed { .. } => !issuer.is_empty(),
        };
        match is_right {
            true => Ok(Issuer::new(issuer)),
            false => Err(Error::config(format!(
                "the OpenID configuration at {} is that of the issuer '{}', which is another authority's; use the authority of that issuer, and for an OpenID provider write the issuer to the letter",
                self.url,
                truncated(&Escaped(issuer).to_string()),
            ))),
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
        let url = parse_url("the jwks_uri", url)
            .map_err(|error| metadata.invalid(&truncated(&error.to_string())))?;
        if url.scheme() != "https" && self.url.starts_with("https:") {
            return Err(metadata.invalid("its 'jwks_uri' is not https"));
        }
        Ok(url.into())
    }

    /// Returns the accepted issuers of access tokens.
    fn access_token_issuers(&self, issuer: &Issuer, metadata: &Document) -> Vec<Issuer> {
        let older = match (self.kind, self.rules) {
            // An API gets version 1 tokens unless its manifest requests version 2.
            (EndpointKind::Tenants { base, .. }, _) => {
                version_1_base(base).and_then(|base| issuer.version_1(&base))
            }
            // AD FS uses the published issuer only in ID tokens.
            (_, Rules::Adfs) => match metadata.text("access_token_issuer") {
                Some(issuer) => return vec![Issuer::new(issuer)],
                None => None,
            },
            _ => None,
        };
        [issuer.clone()].into_iter().chain(older).collect()
    }
}

/// Returns the published sign-in page, or `None` if the URL is not valid.
fn authorization_endpoint(metadata: &Document) -> Option<Arc<str>> {
    let url = metadata.text("authorization_endpoint")?;
    let url = Some(url).filter(|url| url.len() <= LONGEST_URL)?;
    let url = parse_url("the authorization endpoint", url).ok()?;
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
/// Largest number of tenants with cached keys.
const MOST_TENANTS: usize = 256;
/// Shortest pause after a failed lookup without cached keys.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Shortest time between two lookups for an unknown key name.
const REFETCH_INTERVAL: Duration = AFTER_A_FAILURE;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::json;

    use super::*;
    use crate::authority::{Authority, Cloud};
    use crate::endpoint::metadata::METADATA_PATH;
    use crate::testing::ManualClock;
    use crate::transport::Transport;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn endpoints(authority: Authority) -> Endpoints {
        Endpoints::of(&authority).unwrap()
    }

    fn lookup<'a>(transport: &'a dyn Transport, clock: &'a TimeSource) -> Lookup<'a> {
        Lookup {
            transport,
            clock,
            correlation_id: "id",
            limit: Duration::from_secs(10),
        }
    }

    fn response(body: &Value) -> Response<Bytes> {
        Response::new(body.to_string().into())
    }

    fn key(kid: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": "A".repeat(43), "y": "A".repeat(43) })
    }

    /// Fetches the keys from a provider whose issuer is `issuer`, with `BASE` for the requested URL.
    async fn fetch(authority: Authority, issuer: &'static str) -> Result<Arc<IssuerKeys>, Error> {
        let transport = move |request: Request<Bytes>| async move {
            let url = request.uri().to_string();
            Ok(response(&match url.strip_suffix(METADATA_PATH) {
                Some(base) => json!({
                    "issuer": issuer.replace("BASE", base),
                    "jwks_uri": "https://keys.example/?p=1",
                    "access_token_issuer": "http://fs.contoso.com/adfs/services/trust",
                }),
                None if url == "https://keys.example/?p=1" => json!({ "keys": [key("a")] }),
                None => json!({}),
            }))
        };
        let clock = TimeSource::default();
        let endpoints = endpoints(authority);
        endpoints
            .issuer_keys(None, None, &lookup(&transport, &clock))
            .await
    }

    #[tokio::test]
    async fn each_authority_publishes_its_issuer_at_its_metadata_url() {
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let china_v1 = format!("https://sts.chinacloudapi.cn/{TENANT}/");
        let china = format!("https://login.partner.microsoftonline.cn/{TENANT}/v2.0");
        let entra = |tenant: &str| Authority::entra(Cloud::Public, tenant);
        for (authority, issuer, expected, access_token_issuers) in [
            (
                entra("organizations"),
                "https://login.microsoftonline.com/{tenantid}/v2.0",
                "https://login.microsoftonline.com/{tenantid}/v2.0",
                vec![
                    "https://login.microsoftonline.com/{tenantid}/v2.0",
                    "https://sts.windows.net/{tenantid}/",
                ],
            ),
            (entra(TENANT), "BASE", &*v2, vec![&*v2, &*v1]),
            (
                Authority::entra(Cloud::China, TENANT),
                "BASE",
                &*china,
                vec![&*china, &*china_v1],
            ),
            (
                Authority::external_id("login.contoso.com", TENANT),
                "https://x.ciamlogin.com/x/v2.0",
                "https://x.ciamlogin.com/x/v2.0",
                vec!["https://x.ciamlogin.com/x/v2.0"],
            ),
            (
                Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in"),
                "BASE/",
                "https://contoso.b2clogin.com/contoso.com/B2C_1_in/v2.0/",
                vec!["https://contoso.b2clogin.com/contoso.com/B2C_1_in/v2.0/"],
            ),
            (
                Authority::adfs("fs.contoso.com"),
                "BASE",
                "https://fs.contoso.com/adfs",
                vec!["http://fs.contoso.com/adfs/services/trust"],
            ),
            (
                Authority::oidc("https://id.example/a/"),
                "BASE/",
                "https://id.example/a/",
                vec!["https://id.example/a/"],
            ),
        ] {
            let keys = fetch(authority, issuer).await.unwrap();
            assert_eq!(keys.issuer.as_str(), expected);
            let published = keys.access_token_issuers.iter().map(Issuer::as_str);
            assert_eq!(published.collect::<Vec<_>>(), access_token_issuers);
        }
        for (authority, issuer) in [
            (entra(TENANT), "https://attacker.example/v2.0"),
            (entra(TENANT), "https://login.microsoftonline.us/x/v2.0"),
            (entra(TENANT), "http://login.microsoftonline.com/x/v2.0"),
            (entra(TENANT), "none"),
            (Authority::oidc("https://id.example/a"), "BASE/"),
        ] {
            let error = fetch(authority, issuer).await.err().unwrap();
            assert!(matches!(error, Error::Config(_)), "{issuer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_new_key_is_fetched_and_a_flood_of_unknown_keys_is_not() {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        // Each lookup publishes one key more: 0, 1, 2. The fourth lookup fails.
        let transport = move |request: Request<Bytes>| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number >= 6 {
                    return Err("no route".into());
                }
                let keys: Vec<_> = (0..=number / 2).map(|n| key(&n.to_string())).collect();
                let base = request.uri().to_string();
                Ok(response(&json!({
                    "issuer": base.strip_suffix(METADATA_PATH),
                    "jwks_uri": "https://id.example/keys",
                    "keys": keys,
                })))
            }
        };
        let clock = ManualClock::new();
        let source = TimeSource::Injected(Arc::new(clock.clone()));
        let lookup = lookup(&transport, &source);
        let endpoints = endpoints(Authority::oidc("https://id.example"));
        let has = async |name: &str| {
            let keys = endpoints.issuer_keys(None, Some(name), &lookup).await;
            (keys.unwrap().has(name), requests.load(Ordering::SeqCst))
        };
        assert_eq!(has("0").await, (true, 2));
        // The first new name starts a lookup at once, because the keys may be a day old.
        assert_eq!(has("0").await, (true, 2));
        assert_eq!(has("1").await, (true, 4));
        for _ in 0..100 {
            assert_eq!(has("2").await, (false, 4));
        }
        clock.advance(REFETCH_INTERVAL);
        assert_eq!(has("x").await, (false, 6));
        // A failed lookup counts, too, and the old keys remain in use.
        clock.advance(REFETCH_INTERVAL);
        assert_eq!(has("x").await, (false, 7));
        assert_eq!(has("x").await, (false, 7));
        clock.advance(A_DAY);
        assert_eq!(has("2").await, (true, 8));
        assert_eq!(has("0").await, (true, 8));
    }

    #[test]
    fn a_lookup_of_keys_is_send() {
        fn is_send(_: impl Send) {}
        let transport = |_: Request<Bytes>| async { Err("none".into()) };
        let clock = TimeSource::default();
        let endpoints = endpoints(Authority::oidc("https://id.example"));
        is_send(endpoints.issuer_keys(None, None, &lookup(&transport, &clock)));
    }
}
