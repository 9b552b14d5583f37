//! Admin consent: the URL, and the redirect back.

use confidential_client::delegated::AdminConsent;
use confidential_client::testing::{Application, LocalAuthority, ProviderRules, User};
use confidential_client::{Authority, Cloud, ConfidentialClient, Error, TokenRequest};
use http::StatusCode;
use http::header::LOCATION;
use reqwest::redirect::Policy;

use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, client_of};

fn client(authority: Authority) -> ConfidentialClient {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(authority)
        .client_secret(SECRET)
        .transport(Provider::open().transport())
        .build()
        .unwrap()
}

#[test]
fn the_consent_page_is_in_the_customers_tenant() {
    let client = client(Authority::entra(Cloud::UsGovernment, TENANT));
    let page = client.admin_consent_url("fabrikam.com", "http://localhost:8080/back?a=b", "x &y=z");
    assert_eq!(
        page.unwrap(),
        format!(
            "https://login.microsoftonline.us/fabrikam.com/adminconsent?client_id={CLIENT_ID}\
             &redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fback%3Fa%3Db&state=x+%26y%3Dz"
        )
    );
    let redirects = [
        "https://isv.example/back",
        "http://127.0.0.1/",
        "http://[::1]:80/",
    ];
    for redirect_uri in redirects {
        client
            .admin_consent_url("organizations", redirect_uri, "s")
            .unwrap();
    }
}

#[test]
fn an_invalid_consent_request_has_no_url() {
    let entra = client(Authority::entra(Cloud::Public, TENANT));
    let adfs = client(Authority::adfs("fs.contoso.com"));
    let back = "https://isv.example/back";
    for (client, tenant, redirect_uri, state, text) in [
        (&entra, "a/../b", back, "s", "neither an id nor a domain"),
        (&entra, TENANT, back, "", "the state is empty"),
        (&entra, TENANT, "", "s", "relative URL without a base"),
        (
            &entra,
            TENANT,
            "isv.example/back",
            "s",
            "relative URL without a base",
        ),
        (
            &entra,
            TENANT,
            "http://isv.example/back",
            "s",
            "neither https nor http to this machine",
        ),
        (
            &entra,
            TENANT,
            " https://isv.example/back",
            "s",
            "white space",
        ),
        (
            &entra,
            TENANT,
            "javascript:alert(1)",
            "s",
            "neither https nor http",
        ),
        (
            &entra,
            TENANT,
            "https://isv.example/back#here",
            "s",
            "it has a fragment",
        ),
        (
            &adfs,
            TENANT,
            back,
            "s",
            "has no page where an administrator consents",
        ),
    ] {
        let error = client
            .admin_consent_url(tenant, redirect_uri, state)
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}

#[test]
fn a_redirect_is_granted_declined_or_an_error() {
    let granted = |tenant_id: &str| AdminConsent::Granted {
        tenant_id: tenant_id.to_owned(),
    };
    let declined = |description: Option<&str>| AdminConsent::Declined {
        description: description.map(ToOwned::to_owned),
    };
    let id = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    for (back, expected) in [
        (format!("https://isv.example/back?admin_consent=True&tenant={id}&state=s%201"), granted(id)),
        (format!("admin_consent=true&tenant={id}&state=s+1&scope=x"), granted(id)),
        (format!("/back?state=s+1&tenant={id}&admin_consent=True#top"), granted(id)),
        (
            "?error=access_denied&error_subcode=cancel&error_description=AADSTS65004%3A+no&state=s+1".to_owned(),
            declined(Some("AADSTS65004: no")),
        ),
        (
            format!("?error=permission_denied&error_description=a%0d%0ab%1b&admin_consent=True&tenant={id}&state=s+1"),
            declined(Some("a b\\u{1b}")),
        ),
        ("?error=access_denied&state=s+1".to_owned(), declined(None)),
        // A query alone may hold a question mark.
        (
            "error=access_denied&error_description=why?&state=s+1".to_owned(),
            declined(Some("why?")),
        ),
        (
            "?error=invalid_client&error_description=AADSTS650051&state=s+1".to_owned(),
            AdminConsent::Failed {
                error: "invalid_client".to_owned(),
                description: Some("AADSTS650051".to_owned()),
            },
        ),
    ] {
        assert_eq!(AdminConsent::parse(&back, "s 1").unwrap(), expected, "{back}");
    }
}

#[test]
fn an_untrusted_redirect_is_rejected() {
    for (back, text) in [
        (
            "?admin_consent=True&tenant=fabrikam.com",
            "it has no state; pass the whole URL",
        ),
        (
            "?admin_consent=True&tenant=fabrikam.com&state=",
            "its state is not the one",
        ),
        (
            "?admin_consent=True&tenant=fabrikam.com&state=S",
            "its state is not the one",
        ),
        (
            "?error=access_denied&state=other",
            "its state is not the one",
        ),
        (
            "?state=s&state=other&admin_consent=True&tenant=fabrikam.com",
            "'state' twice",
        ),
        (
            "?state=s&admin_consent=True&tenant=fabrikam.com&tenant=x",
            "'tenant' twice",
        ),
        (
            "?state=s&tenant=fabrikam.com",
            "neither 'admin_consent=True' nor",
        ),
        (
            "?state=s&admin_consent=False&tenant=fabrikam.com",
            "neither 'admin_consent=True' nor",
        ),
        ("?state=s&admin_consent=True", "it names no tenant"),
        (
            "?state=s&admin_consent=True&tenant=common",
            "it names no tenant",
        ),
        (
            "?state=s&admin_consent=True&tenant=a%2fb",
            "it names no tenant",
        ),
        ("", "it has no state; pass the whole URL"),
    ] {
        let error = AdminConsent::parse(back, "s").unwrap_err();
        assert!(
            matches!(error, Error::InvalidResponse(_)),
            "{back}: {error:?}"
        );
        assert!(error.to_string().contains(text), "{back}: {error}");
    }
    let error = AdminConsent::parse("?state=&admin_consent=True&tenant=x", "").unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
}

const CUSTOMER: &str = "fabrikam.com";
const BACK: &str = "https://isv.example/back?from=here";

async fn isv() -> LocalAuthority {
    let local = LocalAuthority::start().await.unwrap();
    let application = Application::new(CLIENT_ID)
        .secret(SECRET)
        .redirect_uri(BACK)
        .delegated("api://drive", "Files.Read");
    local.register(TENANT, application);
    local.register_user(CUSTOMER, User::new("admin@fabrikam.com"));
    local
}

/// Opens a page of the authority in a browser. Returns the status, and the redirect or the page.
async fn open(url: &str) -> (StatusCode, String) {
    let browser = reqwest::Client::builder().redirect(Policy::none());
    let response = browser.build().unwrap().get(url).send().await.unwrap();
    let status = response.status();
    match response.headers().get(LOCATION) {
        Some(location) => (status, location.to_str().unwrap().to_owned()),
        None => (status, response.text().await.unwrap()),
    }
}

fn codes(error: &Error) -> Vec<u64> {
    error.server_error().unwrap().error_codes().to_vec()
}

/// A new customer from the first failure to the first token.
#[tokio::test]
async fn a_consent_lets_a_customers_tenant_issue_tokens() {
    for tenant in [CUSTOMER, "organizations"] {
        let local = isv().await;
        let client = client_of(&local).client_secret(SECRET).build().unwrap();
        let request = || TokenRequest::new(SCOPE).tenant(CUSTOMER);
        let error = client
            .acquire_token_for_client(request())
            .await
            .unwrap_err();
        assert_eq!(codes(&error), [700_016], "{error}");

        let page = client.admin_consent_url(tenant, BACK, "s &1").unwrap();
        let (status, back) = open(&page).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{back}");
        assert!(back.starts_with("https://isv.example/back?from=here&admin_consent=True&tenant="));
        let consent = AdminConsent::parse(&back, "s &1").unwrap();
        let AdminConsent::Granted { tenant_id } = consent else {
            panic!("{consent:?}");
        };
        let issuer = local.issuer(CUSTOMER).unwrap();
        assert!(issuer.contains(&tenant_id), "{issuer} {tenant_id}");

        let remembered = client.acquire_token_for_client(request()).await;
        assert_eq!(codes(&remembered.unwrap_err()), [700_016]);
        let forced = request().force_refresh();
        client.acquire_token_for_client(forced).await.unwrap();
        let drive = "api://drive/Files.Read";
        local
            .user_token(CUSTOMER, CLIENT_ID, "admin@fabrikam.com", drive)
            .unwrap();
        // A second consent changes nothing.
        open(&page).await;
        client.acquire_token_for_client(request()).await.unwrap();
    }
}

#[tokio::test]
async fn a_consent_page_rejects_what_entra_rejects() {
    let local = isv().await;
    let consent =
        |tenant: &str, query: &str| format!("{}/{tenant}/adminconsent?{query}", local.base_url());
    let back = "redirect_uri=https%3A%2F%2Fisv.example%2Fback%3Ffrom%3Dhere";
    let client = format!("client_id={CLIENT_ID}");
    for (tenant, query, text) in [
        (
            CUSTOMER,
            format!("client_id=unknown&{back}"),
            "AADSTS700016",
        ),
        ("unknown.com", format!("{client}&{back}"), "AADSTS90002"),
        (
            CUSTOMER,
            format!("{client}&redirect_uri=https://evil.example"),
            "AADSTS50011",
        ),
        (CUSTOMER, client.clone(), "AADSTS900971"),
        (CUSTOMER, back.to_owned(), "AADSTS900144"),
        (
            CUSTOMER,
            format!("{client}&{client}&{back}"),
            "AADSTS9000411",
        ),
    ] {
        let (status, page) = open(&consent(tenant, &query)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {page}");
        assert!(page.contains(text), "{query}: {page}");
    }
    let rules = LocalAuthority::builder().rules(ProviderRules::openid());
    let openid = rules.start().await.unwrap();
    let page = format!(
        "{}/{TENANT}/adminconsent?{client}&{back}",
        openid.base_url()
    );
    assert_eq!(open(&page).await.0, StatusCode::NOT_FOUND);
}
