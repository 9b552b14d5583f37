//! The API that a token is for, by name (`audience`) and by URI (`resource`, RFC 8707).

use confidential_client::credential::ManagedIdentity;
use confidential_client::delegated::AuthorizationRequest;
use confidential_client::{
    Authority, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error, ManagedIdentityClient,
    RetryPolicy, TokenRequest,
};

use crate::support::openid::{BACK, FILES, ISSUER, OpenId};
use crate::support::{Provider, SECRET, TENANT};

const ORDERS: &str = "https://orders.example.org";

fn builder(provider: &Provider, authority: Authority) -> ConfidentialClientBuilder {
    ConfidentialClient::builder("daemon")
        .authority(authority)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(provider.transport())
}

fn openid(provider: &Provider) -> ConfidentialClient {
    let authority = Authority::oidc("https://id.example").token_endpoint("https://id.example/t");
    builder(provider, authority).build().unwrap()
}

fn parameters(body: &str) -> Vec<(String, String)> {
    let form = url::form_urlencoded::parse(body.as_bytes()).into_owned();
    form.filter(|(name, _)| ["audience", "resource"].contains(&name.as_str()))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn each_set_of_apis_is_sent_and_has_a_token_of_its_own() {
    let provider = Provider::open();
    let client = openid(&provider);
    let plain = TokenRequest::new("read");
    let cases = [
        (plain.clone(), vec![]),
        (
            plain.clone().audience(ORDERS),
            pairs(&[("audience", ORDERS)]),
        ),
        (
            plain.clone().resource(ORDERS),
            pairs(&[("resource", ORDERS)]),
        ),
        (
            plain.clone().resource(ORDERS).resource("urn:invoices"),
            pairs(&[("resource", ORDERS), ("resource", "urn:invoices")]),
        ),
        (
            plain.resource(ORDERS).audience("orders").audience("other"),
            pairs(&[
                ("audience", "orders"),
                ("audience", "other"),
                ("resource", ORDERS),
            ]),
        ),
    ];
    for _ in 0..2 {
        for (at, (request, sent)) in cases.iter().enumerate() {
            let token = client.acquire_token_for_client(request).await.unwrap();
            assert_eq!(token.secret(), format!("token-{}", at + 1));
            assert_eq!(&parameters(&provider.body(at)), sent);
        }
    }
    // The raw parameter is the same request.
    let raw = TokenRequest::new("read").form_parameter("audience", ORDERS);
    let token = client.acquire_token_for_client(raw).await.unwrap();
    assert_eq!(token.secret(), "token-2");
    assert_eq!(provider.requests(), cases.len());
}

#[tokio::test]
async fn a_user_signs_in_and_refreshes_for_the_same_apis() {
    let provider = OpenId::new(ISSUER);
    let client = provider.client(Authority::oidc(ISSUER));
    let orders = TokenRequest::new(FILES)
        .audience("orders")
        .resource(ORDERS)
        .form_parameter("vendor", "form alone")
        .query_parameter("resource", ORDERS);
    let sign_in = AuthorizationRequest::new(BACK, &orders);
    let (page, _) = client.authorization_request_url(&sign_in).await.unwrap();
    let query = page.split_once('?').unwrap().1;
    assert_eq!(
        parameters(query),
        pairs(&[("audience", "orders"), ("resource", ORDERS)]),
        "each once"
    );
    assert!(!query.contains("vendor"), "{query}");
    let signed_in = provider
        .sign_in_with(&client, &sign_in, provider.claims())
        .await
        .unwrap();
    let renewed = orders.force_refresh();
    client
        .acquire_token_silent(signed_in.account(), renewed)
        .await
        .unwrap();
    let forms = provider.forms();
    assert_eq!(forms.len(), 2);
    for form in &forms {
        assert_eq!((&*form["audience"], &*form["resource"]), ("orders", ORDERS));
    }
}

#[tokio::test]
async fn microsofts_providers_name_the_scope_to_request() {
    let resource = || TokenRequest::new("api://orders/.default").resource("api://orders");
    let audience = || TokenRequest::new("api://orders/.default").audience("api://orders");
    let raw = TokenRequest::new("api://orders/.default").form_parameter("resource", "api://orders");
    let other_case =
        TokenRequest::new("api://orders/.default").form_parameter("Resource", "api://orders");
    let entra = Authority::entra(Cloud::Public, TENANT);
    let external_id = Authority::external_id("login.contoso.com", TENANT);
    let b2c = Authority::b2c("contoso.b2clogin.com", "contoso.com", "B2C_1_in");
    for (authority, request, name) in [
        (entra.clone(), resource(), "Microsoft Entra ID"),
        (entra.clone(), audience(), "Microsoft Entra ID"),
        (entra.clone(), raw, "Microsoft Entra ID"),
        (entra, other_case, "Microsoft Entra ID"),
        (external_id, resource(), "Microsoft Entra ID"),
        (b2c.clone(), resource(), "Azure AD B2C"),
        (b2c, audience(), "Azure AD B2C"),
        (Authority::adfs("fs.contoso.com"), audience(), "AD FS"),
    ] {
        let provider = Provider::open();
        let client = builder(&provider, authority).build().unwrap();
        let sign_in = AuthorizationRequest::new(BACK, &request);
        for error in [
            client.acquire_token_for_client(&request).await.unwrap_err(),
            client.token_provider(&request).unwrap_err(),
            client
                .authorization_request_url(&sign_in)
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(name), "{text}");
            assert!(
                text.contains("request a scope such as 'api://orders/.default'"),
                "{text}"
            );
        }
        assert_eq!(provider.requests(), 0);
    }
}

#[tokio::test]
async fn ad_fs_accepts_a_resource() {
    let provider = Provider::open();
    let authority = Authority::adfs("fs.contoso.com");
    let client = builder(&provider, authority).build().unwrap();
    let request = TokenRequest::new("openid").resource("urn:microsoft:orders");
    client.acquire_token_for_client(request).await.unwrap();
    assert_eq!(
        parameters(&provider.body(0)),
        pairs(&[("resource", "urn:microsoft:orders")])
    );
}

#[tokio::test]
async fn an_invalid_api_is_told_before_the_network_and_is_the_first_mistake() {
    let provider = Provider::open();
    let client = openid(&provider);
    let plain = TokenRequest::new("read");
    for (request, text) in [
        (
            plain.clone().resource("orders"),
            "\"orders\" cannot be used",
        ),
        (
            plain.clone().resource("https://a.example/#b"),
            "a resource has no fragment",
        ),
        (plain.clone().audience(" a"), "the audience \" a\" is empty"),
        (
            plain.clone().form_parameter("resource", "orders"),
            "\"orders\" cannot be used",
        ),
        (
            plain.clone().query_parameter("audience", ""),
            "the audience \"\" is empty",
        ),
        (
            plain
                .clone()
                .resource("first")
                .resource(ORDERS)
                .audience(""),
            "\"first\" cannot be used",
        ),
    ] {
        for error in [
            client.acquire_token_for_client(&request).await.unwrap_err(),
            client.token_provider(&request).unwrap_err(),
            client
                .authorization_request_url(&AuthorizationRequest::new(BACK, &request))
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    assert_eq!(provider.requests(), 0);
}

/// The resource of a managed identity is its scope.
#[tokio::test]
async fn a_managed_identity_accepts_no_further_api() {
    let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
        .transport(Provider::open().transport())
        .build()
        .unwrap();
    for request in [
        TokenRequest::new("api://orders").resource("api://orders"),
        TokenRequest::new("api://orders").audience("orders"),
        TokenRequest::new("api://orders").resource("orders"),
    ] {
        let error = client.acquire_token(request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
    }
}
