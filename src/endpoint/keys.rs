use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use super::cached_lookup::{A_DAY, AFTER_A_FAILURE, CachedLookup};
use super::document::{Document, shortened};
use super::lookup::Lookup;
use super::{EndpointKind, Endpoints};
use crate::authority::address::checked;
use crate::authority::{Rules, Tenant, preferred};
use crate::crypto::check_backend;
use crate::error::{Error, Escaped};
use crate::jwt::{Issuer, IssuerKeys, PublishedKey};
use crate::time::{Now, TimeSource};

/// What an authority says of its issuer and keys, by tenant, where it has tenants.
#[derive(Default)]
pub(super) struct PublishedKeys(Mutex<HashMap<Option<Tenant>, Arc<CachedLookup<IssuerKeys>>>>);

impl PublishedKeys {
    /// Looked up again before they are used.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        for published in self.lock().values() {
            published.force_refresh(clock);
        }
    }

    fn of(&self, tenant: Option<Tenant>) -> Arc<CachedLookup<IssuerKeys>> {
        let mut all = self.lock();
        if let Some(published) = all.get(&tenant) {
            return Arc::clone(published);
        }
        if all.len() >= MOST_TENANTS
            && let Some(other) = all.keys().next().cloned()
        {
            // Whoever needs it again looks it up again.
            all.remove(&other);
        }
        let published = Arc::new(CachedLookup::pausing(A_MOMENT));
        all.insert(tenant, Arc::clone(&published));
        published
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Tenant>, Arc<CachedLookup<IssuerKeys>>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    /// # Errors
    ///
    /// [`Error::Config`] in a build that takes any signature for what it says it is.
    pub(crate) fn check_can_verify() -> Result<(), Error> {
        check_backend().map_err(|error| {
            Error::config(format!("tokens' signatures cannot be verified: {error}"))
        })
    }

    /// The issuer and the keys that tokens of `tenant`, or of the authority's own, are verified by.
    ///
    /// Looked up when first needed, by one for all, and kept for a day, or longer if the provider
    /// is down; looked up again if the key that is called `name` is not among them, at most once in
    /// five minutes.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] in a build that cannot verify; else why they could not be had.
    pub(crate) async fn issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        name: Option<&str>,
        lookup: &Lookup<'_>,
    ) -> Result<Arc<IssuerKeys>, Error> {
        Self::check_can_verify()?;
        let source = self.source(tenant);
        let published = self.keys.of(source.tenant.clone());
        let look_up = async |lookup: Lookup<'_>, _| Ok((source.look_up(&lookup).await?, A_DAY));
        let keys = published.get(lookup, &look_up).await?;
        match name {
            Some(name) if !keys.has(name) => {
                published
                    .other_than(&keys, BETWEEN_TWO, lookup, &look_up)
                    .await
            }
            _ => Ok(keys),
        }
    }

    /// The same without the network: `None` if they are to be looked up first.
    pub(crate) fn known_issuer_keys(
        &self,
        tenant: Option<&Tenant>,
        name: Option<&str>,
        now: &Now,
    ) -> Option<Arc<IssuerKeys>> {
        let published = self.keys.of(self.tenant_of_keys(tenant));
        let keys = published.known(now)?;
        name.is_none_or(|name| keys.has(name)).then_some(keys)
    }

    fn tenant_of_keys(&self, tenant: Option<&Tenant>) -> Option<Tenant> {
        tenant.or(self.tenant()).cloned()
    }

    fn source(&self, tenant: Option<&Tenant>) -> Source<'_> {
        let tenant = self.tenant_of_keys(tenant);
        let url = match &self.place {
            EndpointKind::Tenants { base, own, .. } => {
                let tenant = tenant.as_ref().unwrap_or(own).as_str().to_ascii_lowercase();
                format!("{base}{tenant}/v2.0{METADATA}")
            }
            EndpointKind::Fixed { authority, .. } if self.rules == Rules::B2c => {
                format!("{authority}/v2.0{METADATA}")
            }
            EndpointKind::Fixed { authority, .. } => format!("{authority}{METADATA}"),
            EndpointKind::Provider(provider) => provider.metadata_url(),
        };
        Source {
            place: &self.place,
            rules: self.rules,
            tenant,
            url,
        }
    }
}

/// Where issuer and keys are published.
struct Source<'a> {
    place: &'a EndpointKind,
    rules: Rules,
    tenant: Option<Tenant>,
    url: String,
}

impl Source<'_> {
    async fn look_up(&self, lookup: &Lookup<'_>) -> Result<IssuerKeys, Error> {
        let began = Instant::now();
        let metadata = Document::get(lookup, METADATA_NAME, &self.url, HINT).await?;
        let issuer = self.issuer(&metadata)?;
        let rest = Lookup {
            limit: lookup.limit.saturating_sub(began.elapsed()),
            ..*lookup
        };
        let keys = Document::get(&rest, KEYS_NAME, &self.keys_url(&metadata)?, HINT).await?;
        let Some(list) = keys.members().get("keys").and_then(Value::as_array) else {
            return Err(keys.invalid("it has no 'keys'"));
        };
        let read = list.iter().filter_map(Value::as_object);
        let mut published: Vec<_> = read.filter_map(PublishedKey::read).collect();
        if published.is_empty() {
            return Err(keys.invalid(
                "none of its keys is one for signatures by RS256, PS256 or ES256, RSA of 2048 bits or more",
            ));
        }
        if issuer.as_str().contains(EXTERNAL_ID) {
            // Its keys name Microsoft Entra ID as their issuer, and are its own all the same.
            published.iter_mut().for_each(|key| key.issuer = None);
        }
        Ok(IssuerKeys {
            access_token_issuers: self.access_token_issuers(&issuer, &metadata),
            tenant: match self.place {
                EndpointKind::Tenants { .. } => issuer.tenant().map(ToOwned::to_owned),
                EndpointKind::Fixed { .. } | EndpointKind::Provider(_) => None,
            },
            issuer,
            keys: published,
            authorization_endpoint: authorization_endpoint(&metadata),
        })
    }

    fn issuer(&self, metadata: &Document) -> Result<Issuer, Error> {
        let Some(issuer) = metadata.text("issuer") else {
            return Err(metadata.invalid("it has no 'issuer'"));
        };
        let is_right = match self.place {
            EndpointKind::Provider(provider) => issuer == provider.issuer(),
            EndpointKind::Tenants { base, .. } => is_of_host(issuer, base),
            // These name themselves by the directory's id, or as they were configured.
            EndpointKind::Fixed { .. } => !issuer.is_empty(),
        };
        match is_right {
            true => Ok(Issuer::new(issuer)),
            false => Err(Error::config(format!(
                "the OpenID configuration at {} is that of the issuer '{}', which is another authority's; name that one, to the letter where it is an OpenID provider",
                self.url,
                shortened(&Escaped(issuer).to_string()),
            ))),
        }
    }

    /// Where the keys are, on whichever host the provider chose.
    fn keys_url(&self, metadata: &Document) -> Result<String, Error> {
        let Some(url) = metadata.text("jwks_uri").filter(|url| url.len() <= LONGEST) else {
            return Err(metadata.invalid("it has no 'jwks_uri'"));
        };
        let url = checked("the jwks_uri", url)
            .map_err(|error| metadata.invalid(&shortened(&error.to_string())))?;
        if url.scheme() != "https" && self.url.starts_with("https:") {
            return Err(metadata.invalid("its 'jwks_uri' is not https"));
        }
        Ok(url.into())
    }

    /// What access tokens call the issuer.
    fn access_token_issuers(&self, issuer: &Issuer, metadata: &Document) -> Vec<Issuer> {
        let other = match (self.place, self.rules) {
            // As for an application whose manifest does not ask for tokens of version 2.
            (EndpointKind::Tenants { base, .. }, _) => {
                version_1_base(base).and_then(|base| issuer.version_1(&base))
            }
            // In its ID tokens alone AD FS calls itself by the issuer.
            (_, Rules::Adfs) => match metadata.text("access_token_issuer") {
                Some(own) => return vec![Issuer::new(own)],
                None => None,
            },
            _ => None,
        };
        [issuer.clone()].into_iter().chain(other).collect()
    }
}

/// Where there is none that can be used, nobody is sent there.
fn authorization_endpoint(metadata: &Document) -> Option<Arc<str>> {
    let url = metadata.text("authorization_endpoint")?;
    let url = Some(url).filter(|url| url.len() <= LONGEST)?;
    let url = checked("the authorization endpoint", url).ok()?;
    Some(Arc::from(url.as_str()))
}

/// Whether Microsoft's issuer belongs to the host that was asked, by any of the cloud's names.
/// External ID's is named after the directory's id.
fn is_of_host(issuer: &str, base: &Url) -> bool {
    let Ok(issuer) = Url::parse(issuer) else {
        return false;
    };
    let (issuer_host, host) = (
        issuer.host_str().unwrap_or_default(),
        base.host_str().unwrap_or_default(),
    );
    let cloud = preferred(host);
    issuer.scheme() == base.scheme()
        && match cloud {
            Some(_) => preferred(issuer_host) == cloud,
            None => issuer_host == host || issuer_host.ends_with(EXTERNAL_ID),
        }
}

/// What comes before the tenant in the issuer of version 1.
fn version_1_base(base: &Url) -> Option<String> {
    let host = base.host_str()?;
    Some(match preferred(host) {
        Some("login.partner.microsoftonline.cn") => "https://sts.chinacloudapi.cn/".to_owned(),
        Some("login.windows-ppe.net") => "https://sts.windows-ppe.net/".to_owned(),
        Some(_) => "https://sts.windows.net/".to_owned(),
        None => base.to_string(),
    })
}

const METADATA: &str = "/.well-known/openid-configuration";
const METADATA_NAME: &str = "the OpenID configuration";
const KEYS_NAME: &str = "the key set";
const HINT: &str = "is the authority right?";
const EXTERNAL_ID: &str = ".ciamlogin.com";
/// Of a URL.
const LONGEST: usize = 2000;
/// Of how many tenants keys are kept.
const MOST_TENANTS: usize = 256;
/// At least, after keys could not be had and there are none.
const A_MOMENT: Duration = Duration::from_secs(1);
/// At least, before keys are looked up again for one that is not among them.
const BETWEEN_TWO: Duration = AFTER_A_FAILURE;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};
    use serde_json::json;

    use super::*;
    use crate::authority::{Authority, Cloud};
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

    fn answer(body: &Value) -> Response<Bytes> {
        Response::new(body.to_string().into())
    }

    fn key(kid: &str) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": "A".repeat(43), "y": "A".repeat(43) })
    }

    /// Tells where it was asked, by the issuer that it names.
    async fn found(authority: Authority, issuer: &'static str) -> Result<Arc<IssuerKeys>, Error> {
        let transport = move |request: Request<Bytes>| async move {
            let url = request.uri().to_string();
            Ok(answer(&match url.strip_suffix(METADATA) {
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
    async fn each_authority_tells_its_issuer_where_it_is_asked() {
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let china_v1 = format!("https://sts.chinacloudapi.cn/{TENANT}/");
        let china = format!("https://login.partner.microsoftonline.cn/{TENANT}/v2.0");
        let entra = |tenant: &str| Authority::entra(Cloud::Public, tenant);
        for (authority, issuer, expected, own) in [
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
            let keys = found(authority, issuer).await.unwrap();
            assert_eq!(keys.issuer.as_str(), expected);
            let access_token_issuers = keys.access_token_issuers.iter().map(Issuer::as_str);
            assert_eq!(access_token_issuers.collect::<Vec<_>>(), own);
        }
        for (authority, issuer) in [
            (entra(TENANT), "https://attacker.example/v2.0"),
            (entra(TENANT), "https://login.microsoftonline.us/x/v2.0"),
            (entra(TENANT), "http://login.microsoftonline.com/x/v2.0"),
            (entra(TENANT), "none"),
            (Authority::oidc("https://id.example/a"), "BASE/"),
        ] {
            let error = found(authority, issuer).await.err().unwrap();
            assert!(matches!(error, Error::Config(_)), "{issuer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_new_key_is_looked_up_and_a_flood_of_unknown_ones_is_not() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        // Keys 0, 1, 2 and so on, one more at each look-up, and an outage at the fourth.
        let transport = move |request: Request<Bytes>| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if number >= 6 {
                    return Err("no route".into());
                }
                let keys: Vec<_> = (0..=number / 2).map(|n| key(&n.to_string())).collect();
                let base = request.uri().to_string();
                Ok(answer(&json!({
                    "issuer": base.strip_suffix(METADATA),
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
            (keys.unwrap().has(name), asked.load(Ordering::SeqCst))
        };
        assert_eq!(has("0").await, (true, 2));
        // The first new name is looked up at once, as the keys may be a day old.
        assert_eq!(has("0").await, (true, 2));
        assert_eq!(has("1").await, (true, 4));
        for _ in 0..100 {
            assert_eq!(has("2").await, (false, 4));
        }
        clock.advance(BETWEEN_TWO);
        assert_eq!(has("x").await, (false, 6));
        // What failed counts as well, and the old keys serve.
        clock.advance(BETWEEN_TWO);
        assert_eq!(has("x").await, (false, 7));
        assert_eq!(has("x").await, (false, 7));
        clock.advance(A_DAY);
        assert_eq!(has("2").await, (true, 8));
        assert_eq!(has("0").await, (true, 8));
    }

    #[test]
    fn the_look_up_can_be_spawned() {
        fn is_send(_: impl Send) {}
        let transport = |_: Request<Bytes>| async { Err("none".into()) };
        let clock = TimeSource::default();
        let endpoints = endpoints(Authority::oidc("https://id.example"));
        is_send(endpoints.issuer_keys(None, None, &lookup(&transport, &clock)));
    }
}
