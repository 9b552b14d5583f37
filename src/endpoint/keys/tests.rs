use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use super::*;
use crate::authority::{Authority, Cloud};
use crate::endpoint::metadata::METADATA_PATH;
use crate::jwt::Issuer;
use crate::testing::ManualClock;
use crate::transport::Transport;

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

const OTHER: &str = "10000000-0000-4000-8000-000000000001";
const EXTERNAL: &str = "https://72f988bf-86f1-41af-91ab-2d7cd011db47.ciamlogin.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";

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

/// Returns a token that names a key and has no valid signature.
fn unsigned(kid: &str) -> String {
    let encode = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = encode(json!({ "alg": "ES256", "kid": kid }));
    format!("{header}.{}.c2ln", encode(json!({})))
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
    let lookup = lookup(&transport, &clock);
    Ok(endpoints.issuer_keys(None, &lookup).await?.value)
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
            EXTERNAL,
            EXTERNAL,
            vec![
                EXTERNAL,
                "https://login.contoso.com/72f988bf-86f1-41af-91ab-2d7cd011db47/",
            ],
        ),
        (
            Authority::external_id("login.contoso.com", "contoso.com"),
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
async fn metadata_of_another_host_or_another_tenant_is_rejected_and_named() {
    let entra = |tenant: &str| Authority::entra(Cloud::Public, tenant);
    let of_id = |id: &str| format!("https://login.microsoftonline.com/{id}/v2.0");
    let b2c = |host: &str, tenant: &str| Authority::b2c(host, tenant, "B2C_1_in");
    let adfs = || Authority::adfs("fs.contoso.com");
    let b2c_host = "contoso.b2clogin.com";
    let b2c_of = |host: &str, id: &str| format!("https://{host}/{id}/v2.0/");
    for (authority, issuer, is_accepted) in [
        (entra(TENANT), of_id(TENANT), true),
        (entra(&TENANT.to_uppercase()), of_id(TENANT), true),
        (entra(TENANT), of_id(OTHER), false),
        // The issuer of every tenant is not the issuer of one tenant.
        (entra(TENANT), of_id("{tenantid}"), false),
        (entra(TENANT), of_id("contoso.com"), false),
        (entra("contoso.com"), of_id(OTHER), true),
        (entra("organizations"), of_id("{tenantid}"), true),
        (
            Authority::external_id("contoso.ciamlogin.com", TENANT),
            EXTERNAL.into(),
            true,
        ),
        (
            Authority::external_id("contoso.ciamlogin.com", OTHER),
            EXTERNAL.into(),
            false,
        ),
        (b2c(b2c_host, "contoso.com"), b2c_of(b2c_host, TENANT), true),
        (
            b2c("login.contoso.com", "contoso.com"),
            b2c_of("login.contoso.com", TENANT),
            true,
        ),
        (b2c(b2c_host, TENANT), b2c_of(b2c_host, TENANT), true),
        (
            b2c(b2c_host, TENANT),
            format!("https://{b2c_host}/tfp/{TENANT}/b2c_1_in/v2.0/"),
            true,
        ),
        (b2c(b2c_host, TENANT), b2c_of(b2c_host, OTHER), false),
        (
            b2c(b2c_host, "contoso.com"),
            b2c_of("fabrikam.b2clogin.com", TENANT),
            false,
        ),
        (
            b2c("login.contoso.com", "contoso.com"),
            b2c_of(b2c_host, TENANT),
            false,
        ),
        (
            b2c(b2c_host, "contoso.com"),
            b2c_of("contoso.b2clogin.com.evil.example", TENANT),
            false,
        ),
        (
            b2c(b2c_host, "contoso.com"),
            b2c_of("contoso.b2clogin.com:8443", TENANT),
            false,
        ),
        (
            b2c(b2c_host, "contoso.com"),
            format!("http://{b2c_host}/{TENANT}/v2.0/"),
            false,
        ),
        (b2c(b2c_host, "contoso.com"), "none".into(), false),
        (adfs(), "https://fs.contoso.com/adfs".into(), true),
        (
            adfs(),
            "http://fs.contoso.com/adfs/services/trust".into(),
            true,
        ),
        (
            Authority::adfs("fs.contoso.com:8443"),
            "https://fs.contoso.com/adfs".into(),
            true,
        ),
        (adfs(), "https://fs.fabrikam.com/adfs".into(), false),
        (adfs(), "urn:contoso".into(), false),
        (adfs(), String::new(), false),
    ] {
        let of = authority.to_string();
        let issuer: &str = issuer.leak();
        let fetched = fetch(authority, issuer).await;
        assert_eq!(fetched.is_ok(), is_accepted, "{of}: {issuer}");
        if let Err(error) = fetched {
            assert!(matches!(error, Error::Config(_)), "{issuer}: {error}");
            let text = error.to_string().to_lowercase();
            let asked = of.trim_start_matches("https://").to_lowercase();
            assert!(text.contains(&asked), "{of}: {error}");
            assert!(
                text.contains(&format!("'{}'", issuer.to_lowercase())),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn an_access_token_issuer_of_another_host_is_rejected() {
    let trust = |host: &str| json!(format!("http://{host}/adfs/services/trust"));
    for (named, expected) in [
        (
            trust("fs.contoso.com"),
            Some("http://fs.contoso.com/adfs/services/trust"),
        ),
        (json!(null), Some("https://fs.contoso.com/adfs")),
        (trust("fs.fabrikam.com"), None),
        (json!("none"), None),
    ] {
        let transport = move |request: Request<Bytes>| {
            let named = named.clone();
            async move {
                let url = request.uri().to_string();
                Ok(response(&json!({
                    "issuer": url.strip_suffix(METADATA_PATH),
                    "jwks_uri": "https://keys.example",
                    "access_token_issuer": named,
                    "keys": [key("a")],
                })))
            }
        };
        let clock = TimeSource::default();
        let endpoints = endpoints(Authority::adfs("fs.contoso.com"));
        let lookup = lookup(&transport, &clock);
        let keys = endpoints.issuer_keys(None, &lookup).await;
        match (keys, expected) {
            (Ok(keys), Some(expected)) => {
                let issuers = keys.value.access_token_issuers.iter().map(Issuer::as_str);
                assert_eq!(issuers.collect::<Vec<_>>(), [expected]);
            }
            (Err(Error::Config(_)), None) => {}
            (result, _) => panic!("{expected:?}: {:?}", result.err()),
        }
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
        let jwt = unsigned(name);
        let jwt = SignedJwt::parse(&jwt).unwrap();
        let check = |keys: &IssuerKeys| match jwt.verify(keys).err() {
            Some(error @ JwtError::UnknownKey(_)) => Err(error),
            _ => Ok(()),
        };
        let checked = endpoints
            .validate_for_client(None, "client", &jwt, &lookup, check)
            .await;
        let outcome = match checked {
            Ok(Ok(())) => "verified",
            Ok(Err(_)) => "unknown",
            Err(_) => "unavailable",
        };
        (outcome, requests.load(Ordering::SeqCst))
    };
    assert_eq!(has("0").await, ("verified", 2));
    // The first new name starts a lookup at once, because the keys may be a day old.
    assert_eq!(has("0").await, ("verified", 2));
    assert_eq!(has("1").await, ("verified", 4));
    for _ in 0..100 {
        assert_eq!(has("2").await, ("unknown", 4));
    }
    clock.advance(REFETCH_INTERVAL);
    assert_eq!(has("x").await, ("unknown", 6));
    // A failed lookup counts, too, and the old keys remain in use.
    clock.advance(REFETCH_INTERVAL);
    assert_eq!(has("x").await, ("unavailable", 7));
    assert_eq!(has("x").await, ("unavailable", 7));
    clock.advance(A_DAY);
    assert_eq!(has("2").await, ("verified", 8));
    assert_eq!(has("0").await, ("verified", 8));
}

#[test]
fn a_lookup_of_keys_is_send() {
    fn is_send(_: impl Send) {}
    let transport = |_: Request<Bytes>| async { Err("none".into()) };
    let clock = TimeSource::default();
    let endpoints = endpoints(Authority::oidc("https://id.example"));
    is_send(endpoints.issuer_keys(None, &lookup(&transport, &clock)));
}
