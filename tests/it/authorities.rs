//! Authority URLs as people paste them, the endpoints that follow, and the error messages.

use confidential_client::{
    Authority, Certificate, Cloud, ConfidentialClient, Error, RetryPolicy, TokenRequest,
};

use crate::support::{CLIENT_ID, PEM, Provider, SCOPE, SECRET, TENANT, claims_of, header_of};

const ID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

fn client(provider: &Provider, authority: Authority) -> Result<ConfidentialClient, Error> {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
        .build()
}

fn entra(cloud: Cloud) -> Authority {
    Authority::entra(cloud, "contoso.com")
}

fn custom(host: &str) -> Authority {
    entra(Cloud::Custom(host.to_owned()))
}

fn b2c() -> Authority {
    Authority::b2c("contoso.b2clogin.com", TENANT, "B2C_1_signin")
}

const PUBLIC: &str = "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token";
const US: &str = "https://login.microsoftonline.us/contoso.com/oauth2/v2.0/token";
const CHINA: &str = "https://login.partner.microsoftonline.cn/contoso.com/oauth2/v2.0/token";
const CIAM: &str = "https://contoso.ciamlogin.com/contoso.onmicrosoft.com/oauth2/v2.0/token";
const B2C: &str =
    "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin/oauth2/v2.0/token";
const ADFS: &str = "https://fs.contoso.com/adfs/oauth2/token";

/// Equal authorities are one to the cache: a client has one.
#[tokio::test]
async fn each_pasted_url_has_the_expected_endpoints() {
    let public = || entra(Cloud::Public);
    let ciam = || Authority::external_id("contoso.ciamlogin.com", TENANT);
    let adfs = || Authority::adfs("fs.contoso.com");
    for (pasted, meant, endpoint) in [
        // Endings, as portals and documents show them.
        (
            "https://login.microsoftonline.com/contoso.com",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/v2.0",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/authorize",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/oauth2/token",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/oauth2/authorize/",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/v2.0/.well-known/openid-configuration",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com/contoso.com/.well-known/openid-configuration",
            public(),
            PUBLIC,
        ),
        (
            "  https://login.microsoftonline.com/contoso.com\n",
            public(),
            PUBLIC,
        ),
        ("login.microsoftonline.com/contoso.com", public(), PUBLIC),
        (
            "HTTPS://Login.MicrosoftOnline.COM/contoso.com",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com:443/contoso.com",
            public(),
            PUBLIC,
        ),
        (
            "https://login.microsoftonline.com//contoso.com",
            public(),
            PUBLIC,
        ),
        // A cloud by each of its names.
        ("https://login.windows.net/contoso.com", public(), PUBLIC),
        ("https://login.microsoft.com/contoso.com", public(), PUBLIC),
        ("https://sts.windows.net/contoso.com/", public(), PUBLIC),
        (
            "https://login.microsoftonline.us/contoso.com",
            entra(Cloud::UsGovernment),
            US,
        ),
        (
            "https://login.usgovcloudapi.net/contoso.com",
            entra(Cloud::UsGovernment),
            US,
        ),
        (
            "https://login.partner.microsoftonline.cn/contoso.com",
            entra(Cloud::China),
            CHINA,
        ),
        (
            "https://login.chinacloudapi.cn/contoso.com",
            entra(Cloud::China),
            CHINA,
        ),
        (
            "https://login.sovcloud-identity.fr/contoso.com",
            entra(Cloud::GovFr),
            "https://login.sovcloud-identity.fr/contoso.com/oauth2/v2.0/token",
        ),
        (
            "https://login.sovcloud-identity.de/contoso.com",
            entra(Cloud::GovDe),
            "https://login.sovcloud-identity.de/contoso.com/oauth2/v2.0/token",
        ),
        (
            "https://login.sovcloud-identity.sg/contoso.com",
            entra(Cloud::GovSg),
            "https://login.sovcloud-identity.sg/contoso.com/oauth2/v2.0/token",
        ),
        (
            "https://sts.windows-ppe.net/contoso.com",
            custom("login.windows-ppe.net"),
            "https://login.windows-ppe.net/contoso.com/oauth2/v2.0/token",
        ),
        // This machine.
        (
            "http://127.0.0.1:8080/contoso.com",
            custom("http://127.0.0.1:8080"),
            "http://127.0.0.1:8080/contoso.com/oauth2/v2.0/token",
        ),
        (
            "https://[::1]:8443/contoso.com/v2.0",
            custom("[::1]:8443"),
            "https://[::1]:8443/contoso.com/oauth2/v2.0/token",
        ),
        // External ID.
        ("https://contoso.ciamlogin.com", ciam(), CIAM),
        (
            "https://contoso.ciamlogin.com/contoso.onmicrosoft.com/v2.0",
            ciam(),
            CIAM,
        ),
        (
            "https://contoso.ciamlogin.com/72f988bf-86f1-41af-91ab-2d7cd011db47",
            Authority::external_id("contoso.ciamlogin.com", ID),
            "https://contoso.ciamlogin.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token",
        ),
        // Azure AD B2C.
        (
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/B2C_1_signin",
            b2c(),
            B2C,
        ),
        (
            "https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_signin/v2.0/",
            b2c(),
            B2C,
        ),
        (
            "https://contoso.b2clogin.com/contoso.onmicrosoft.com/oauth2/v2.0/token?p=B2C_1_signin",
            b2c(),
            B2C,
        ),
        (
            "https://login.contoso.com/contoso.onmicrosoft.com/b2c_1a_custom/v2.0",
            Authority::b2c("login.contoso.com", TENANT, "b2c_1a_custom"),
            "https://login.contoso.com/contoso.onmicrosoft.com/b2c_1a_custom/oauth2/v2.0/token",
        ),
        // AD FS.
        ("https://fs.contoso.com/adfs", adfs(), ADFS),
        ("https://fs.contoso.com/ADFS/", adfs(), ADFS),
        ("https://fs.contoso.com/adfs/oauth2/token/", adfs(), ADFS),
        (
            "https://fs.contoso.com/adfs/.well-known/openid-configuration",
            adfs(),
            ADFS,
        ),
    ] {
        let authority = Authority::parse(pasted);
        assert_eq!(authority, meant, "{pasted}");
        let provider = Provider::open();
        let client = client(&provider, authority).unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(provider.uri(0), endpoint, "{pasted}");
        assert_eq!(provider.requests(), 1, "{pasted}: nothing is looked up");
    }
}

/// As MSAL's users know it: the cloud's host by its URL, and the tenant beside it.
#[tokio::test]
async fn a_pasted_cloud_url_needs_the_tenant_of_the_builder() {
    for (pasted, endpoint) in [
        ("https://login.microsoftonline.com/", PUBLIC),
        ("login.usgovcloudapi.net", US),
    ] {
        let provider = Provider::open();
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(Authority::parse(pasted))
            .tenant("contoso.com")
            .client_secret(SECRET)
            .transport(provider.transport())
            .build()
            .unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(provider.uri(0), endpoint);
    }
}

/// A constructor's host may be any of a cloud's names, too.
#[tokio::test]
async fn aliases_of_a_cloud_share_one_host() {
    for (host, endpoint) in [
        ("login.windows.net", PUBLIC),
        ("https://STS.windows.net/", PUBLIC),
        ("login.usgovcloudapi.net", US),
        ("login.chinacloudapi.cn", CHINA),
        // Another server, as far as anybody knows, which is asked about first.
        (
            "login.windows.net:8443",
            "https://login.windows.net:8443/contoso.com/oauth2/v2.0/token",
        ),
    ] {
        let provider = Provider::open();
        let client = client(&provider, custom(host)).unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let lookups = usize::from(host.ends_with(":8443"));
        assert_eq!(provider.uri(lookups), endpoint);
        assert_eq!(provider.requests(), lookups + 1);
    }
}

#[test]
fn the_path_determines_the_kind_of_an_unknown_host() {
    for (pasted, meant) in [
        (
            "https://login.example.org/contoso.com",
            custom("login.example.org"),
        ),
        (
            "https://login.example.org:8443/contoso.com/",
            custom("login.example.org:8443"),
        ),
        (
            "https://login.example.org/tenant/oauth2/v2.0/token",
            Authority::entra(Cloud::Custom("login.example.org".into()), "tenant"),
        ),
        (
            "https://login.example.org/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            Authority::entra(Cloud::Custom("login.example.org".into()), ID),
        ),
        // A known host, and not its port.
        (
            "https://login.microsoftonline.com:8443/contoso.com",
            custom("login.microsoftonline.com:8443"),
        ),
        // It looks like a known one.
        (
            "https://xn--lgin-55d.microsoftonline.com/contoso.com",
            custom("xn--lgin-55d.microsoftonline.com"),
        ),
        (
            "https://accounts.example.org",
            Authority::oidc("https://accounts.example.org"),
        ),
        // To the letter, as the issuer is compared.
        (
            "https://example.eu.auth0.com/",
            Authority::oidc("https://example.eu.auth0.com/"),
        ),
        (
            "id.example.org/realms/x",
            Authority::oidc("https://id.example.org/realms/x"),
        ),
        (
            "https://id.example.org/realms/x/.well-known/openid-configuration",
            Authority::oidc("https://id.example.org/realms/x"),
        ),
        (
            "https://example.okta.com/oauth2/default",
            Authority::oidc("https://example.okta.com/oauth2/default"),
        ),
        (
            "https://id.example.org/v1.0",
            Authority::oidc("https://id.example.org/v1.0"),
        ),
        (
            "https://id.example.org/tenant",
            Authority::oidc("https://id.example.org/tenant"),
        ),
        (
            "https://evil.example/login.microsoftonline.com/contoso.com",
            Authority::oidc("https://evil.example/login.microsoftonline.com/contoso.com"),
        ),
    ] {
        assert_eq!(Authority::parse(pasted), meant, "{pasted}");
    }
}

#[test]
fn an_invalid_authority_is_rejected_with_advice() {
    let provider = Provider::open();
    let of_host = |host: &str| Authority::external_id(host, TENANT);
    for (authority, text) in [
        (Authority::parse(""), "empty host"),
        (Authority::parse("https://"), "empty host"),
        (
            Authority::parse("https://login.microsoftonline.com"),
            "names no tenant; add",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/oauth2/v2.0/token"),
            "names no tenant; add",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso.com/users"),
            "remove the rest",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso.com?a=hunter2"),
            "it has a query",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso.com#hunter2"),
            "it has a fragment",
        ),
        (
            Authority::parse("https://u:hunter2@login.microsoftonline.com/contoso.com"),
            "user name or password",
        ),
        (
            Authority::parse("https://login.microsoftonline.com@evil.example/contoso.com"),
            "user name or password",
        ),
        (
            Authority::parse("http://login.microsoftonline.com/contoso.com"),
            "in the clear",
        ),
        (
            Authority::parse("http://localhost/contoso.com"),
            "in the clear",
        ),
        (
            Authority::parse("http://10.0.0.1/contoso.com"),
            "in the clear",
        ),
        (
            Authority::parse("ftp://login.microsoftonline.com/contoso.com"),
            "the scheme must be https",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso.com/../fabrikam.com"),
            "'.' or '..'",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/./contoso.com"),
            "'.' or '..'",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso.com%2f..%2ffabrikam.com"),
            "percent-encoding",
        ),
        (
            Authority::parse("https://%6cogin.microsoftonline.com/contoso.com"),
            "read as 'login.microsoftonline.com'",
        ),
        // What a browser mends, the reader of a log does not.
        (
            Authority::parse("https:///login.microsoftonline.com/contoso.com"),
            "read as 'login.microsoftonline.com'",
        ),
        (
            Authority::parse("https:/contoso.com"),
            "is there a colon or a slash missing?",
        ),
        (
            Authority::parse("https//login.microsoftonline.com/contoso.com"),
            "is there a colon or a slash missing?",
        ),
        (
            Authority::parse("http//127.0.0.1/contoso.com/v2.0"),
            "is there a colon or a slash missing?",
        ),
        (
            Authority::parse("http://2130706433/contoso.com"),
            "read as '127.0.0.1'",
        ),
        (
            Authority::parse("http://0x7f.1/contoso.com"),
            "read as '127.0.0.1'",
        ),
        (
            Authority::parse("https://127.1/contoso.com"),
            "read as '127.0.0.1'",
        ),
        (
            Authority::oidc("http://127.0.0.1./x"),
            "read as '127.0.0.1'",
        ),
        (
            Authority::parse("https://[0:0::1]/contoso.com"),
            "read as '[::1]'",
        ),
        (
            Authority::parse("https://u:hunter2%40login.microsoftonline.com/contoso.com"),
            "user name or password",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/cont\u{f6}so.com"),
            "a letter that is not ASCII",
        ),
        (
            Authority::parse("contoso.onmicrosoft.com"),
            "this is a tenant, not a host",
        ),
        (Authority::parse(ID), "this is a tenant, not a host"),
        (
            Authority::parse("https://contoso.ciamlogin.com/contoso.onmicrosoft.com/users"),
            "remove the rest",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/%2E%2e/contoso.com"),
            "percent-encoding",
        ),
        (
            Authority::parse("https://login.microsoftonline.com\\contoso.com"),
            "backslash",
        ),
        (
            Authority::parse("https://login.microsoftonline.com./contoso.com"),
            "ends in a dot",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/contoso com"),
            "white space",
        ),
        // The 'o' of 'login' is Cyrillic.
        (
            Authority::parse("https://l\u{43e}gin.microsoftonline.com/contoso.com"),
            "read as 'xn--lgin-55d.microsoftonline.com'",
        ),
        (
            Authority::parse("https://login.microsoftonline.com/cont%6fso.com"),
            "neither an id nor a domain",
        ),
        (
            Authority::parse("https://login.microsoftonline.com:99999/contoso.com"),
            "invalid port",
        ),
        (Authority::parse("https://[::1/contoso.com"), "invalid IPv6"),
        (
            Authority::parse("https://contoso.b2clogin.com/contoso.onmicrosoft.com"),
            "needs tenant and policy",
        ),
        (
            Authority::parse("https://contoso.b2clogin.com/tfp/contoso.onmicrosoft.com/B2C_1_a/x"),
            "needs tenant and policy",
        ),
        (
            Authority::parse(
                "https://contoso.b2clogin.com/contoso.onmicrosoft.com?p=B2C_1_a&q=hunter2",
            ),
            "it has a query",
        ),
        (
            Authority::parse(
                "https://login.microsoftonline.com/tfp/contoso.onmicrosoft.com/B2C_1_a",
            ),
            "use a host such as",
        ),
        (
            Authority::parse("https://fs.contoso.com/adfs/ls"),
            "is '/adfs'; remove the rest",
        ),
        (custom(""), "empty host"),
        (custom("a b"), "white space"),
        (
            custom("login.example.org/tenant"),
            "scheme, host and port alone",
        ),
        (
            custom("login.example.org?a=hunter2"),
            "scheme, host and port alone",
        ),
        (
            custom("u:hunter2@login.example.org"),
            "user name or password",
        ),
        (custom("http://login.example.org"), "in the clear"),
        (
            of_host("login.example.org/tenant"),
            "scheme, host and port alone",
        ),
        (
            of_host("u:hunter2@login.example.org"),
            "user name or password",
        ),
        (
            Authority::external_id("login.example.org", "a/b"),
            "neither an id nor a domain",
        ),
        (
            Authority::adfs("fs.contoso.com/adfs/oauth2"),
            "scheme, host and port alone",
        ),
        (Authority::adfs("http://fs.contoso.com"), "in the clear"),
        (
            Authority::b2c("contoso.b2clogin.com", "a/b", "B2C_1_a"),
            "neither an id nor a domain",
        ),
        (
            Authority::b2c("contoso.b2clogin.com", TENANT, "B2C_1/../x"),
            "the policy",
        ),
        (
            Authority::b2c("contoso.b2clogin.com", TENANT, ""),
            "the policy",
        ),
        (
            b2c().token_endpoint("https://id.example.org/token"),
            "follow from the authority",
        ),
        (
            Authority::adfs("fs.contoso.com").client_assertion_audience("x"),
            "follow from the authority",
        ),
    ] {
        let error = client(&provider, authority.clone()).unwrap_err();
        assert!(
            matches!(error, Error::Config(_)),
            "{authority:?}: {error:?}"
        );
        assert!(error.to_string().contains(text), "{authority:?}: {error}");
        let shown = format!("{error}{error:?}{authority}{authority:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(provider.requests(), 0);
}

/// `/.default` is Entra's rule, and so is a tenant for each request; a tenant is never ignored.
#[tokio::test]
async fn scopes_and_tenants_follow_the_kind_of_authority() {
    let adfs = Authority::adfs("fs.contoso.com");
    let oidc =
        || Authority::oidc("https://id.example.org").token_endpoint("https://id.example.org/t");
    for (authority, any_scope, tenants) in [
        (entra(Cloud::China), false, true),
        (
            Authority::external_id("login.contoso.com", TENANT),
            false,
            true,
        ),
        (b2c(), true, false),
        (adfs, true, false),
        (oidc(), true, false),
    ] {
        let name = format!("{authority}");
        let provider = Provider::open();
        let client = client(&provider, authority).unwrap();
        for scope in ["read write", ""] {
            let result = client.acquire_token_for_client(scope).await;
            assert_eq!(result.is_ok(), any_scope, "{name}: {scope:?}: {result:?}");
        }
        let asked = provider.requests();
        let elsewhere = TokenRequest::new(SCOPE).tenant("fabrikam.com");
        match client.acquire_token_for_client(&elsewhere).await {
            Ok(_) if tenants => assert!(provider.uri(asked).contains("/fabrikam.com/"), "{name}"),
            Err(error) if !tenants => {
                assert!(
                    error.to_string().contains("has no tenants"),
                    "{name}: {error}"
                );
                assert_eq!(provider.requests(), asked);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_kind_of_authority_determines_the_rsa_algorithm() {
    let oidc =
        || Authority::oidc("https://id.example.org").token_endpoint("https://id.example.org/t");
    for (authority, algorithm, audience) in [
        (entra(Cloud::Public), "PS256", PUBLIC),
        (
            Authority::external_id("contoso.ciamlogin.com", TENANT),
            "PS256",
            CIAM,
        ),
        (b2c(), "PS256", B2C),
        (Authority::adfs("fs.contoso.com"), "RS256", ADFS),
        (oidc(), "RS256", "https://id.example.org"),
    ] {
        let provider = Provider::open();
        let client = ConfidentialClient::builder(CLIENT_ID)
            .authority(authority)
            .certificate(Certificate::from_pem(&*PEM).unwrap())
            .transport(provider.transport())
            .build()
            .unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let assertion = provider.field(0, "client_assertion").unwrap();
        let header = header_of(&assertion);
        assert_eq!(header["alg"], algorithm, "{audience}");
        assert_eq!(
            header.get("x5t").is_some(),
            algorithm == "RS256",
            "{audience}"
        );
        assert_eq!(claims_of(&assertion)["aud"], audience);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config {
        failure_persistence: None,
        ..Default::default()
    })]

    /// Whatever is pasted: no panic, and what is built is sent by https or stays on this machine.
    #[test]
    fn no_pasted_url_leads_to_plain_http(
        pasted in "(https?|ftp)?(://)?[a-z.@:\\[\\]%\u{43e}]{0,12}(login\\.windows\\.net|127\\.0\\.0\\.1|fs\\.adfs|x\\.b2clogin\\.com|x\\.ciamlogin\\.com)?[/a-zA-Z0-9.%\\\\?#_: ]{0,30}"
    ) {
        let provider = Provider::open();
        let Ok(client) = client(&provider, Authority::parse(&pasted)) else {
            return Ok(());
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // An OpenID provider's metadata is not there, and is asked for.
        let _ = runtime.block_on(client.acquire_token_for_client(SCOPE));
        for request in 0..provider.requests() {
            let uri = provider.uri(request);
            let is_safe = uri.starts_with("https://") || uri.starts_with("http://127.0.0.1");
            proptest::prop_assert!(is_safe, "{pasted}: {uri}");
            let host = uri.parse::<http::Uri>().unwrap().host().unwrap().to_lowercase();
            let is_meant = pasted.to_lowercase().contains(host.trim_start_matches("xn--"));
            let is_known = ["login.microsoftonline.com", "xn--"].iter().any(|known| host.contains(known));
            proptest::prop_assert!(is_meant || is_known, "{pasted}: {uri}");
        }
    }
}
