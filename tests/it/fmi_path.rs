//! The path of a federated identity (`fmi_path`).

use confidential_client::{Authority, Cloud, ConfidentialClient, Error, TokenRequest};

use crate::support::{Provider, SECRET};

const EXCHANGE: &str = "api://AzureADTokenExchange/.default";
const AGENT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

#[tokio::test]
async fn each_path_is_sent_last_and_has_a_token_of_its_own() {
    let provider = Provider::open();
    let client = provider.client();
    let plain = TokenRequest::new(EXCHANGE);
    let cases = [
        (plain.clone(), None),
        (plain.clone().fmi_path(AGENT), Some(AGENT)),
        // The second path replaces the first.
        (plain.clone().fmi_path(AGENT).fmi_path("a/b"), Some("a/b")),
    ];
    for _ in 0..2 {
        for (at, (request, path)) in cases.iter().enumerate() {
            let token = client.acquire_token_for_client(request).await.unwrap();
            assert_eq!(token.secret(), format!("token-{}", at + 1));
            assert_eq!(provider.field(at, "fmi_path").as_deref(), *path);
        }
    }
    assert!(
        provider
            .body(1)
            .ends_with(&format!("&client_info=2&fmi_path={AGENT}"))
    );
    // The raw parameter is the same request.
    let raw = plain.form_parameter("fmi_path", AGENT);
    let token = client.acquire_token_for_client(raw).await.unwrap();
    assert_eq!((token.secret(), provider.requests()), ("token-2", 3));
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_rejected_before_the_network() {
    let provider = Provider::open();
    let request = TokenRequest::new(EXCHANGE);
    let entra = || Authority::entra(Cloud::Public, "contoso.com");
    let openid = Authority::oidc("https://id.example").token_endpoint("https://id.example/t");
    for (authority, request, text) in [
        (
            entra(),
            request.clone().fmi_path(""),
            "the fmi_path \"\" is empty",
        ),
        (
            entra(),
            request.clone().fmi_path("a b"),
            "the fmi_path \"a b\"",
        ),
        (
            entra(),
            request
                .clone()
                .fmi_path("a")
                .form_parameter("fmi_path", "b"),
            "call fmi_path(..) once",
        ),
        (
            entra(),
            request
                .clone()
                .fmi_path("a")
                .form_parameter("FMI_Path", "b"),
            "call fmi_path(..) once",
        ),
        (
            entra(),
            request.clone().form_parameter("FMI_Path", ""),
            "the fmi_path \"\" is empty",
        ),
        (
            openid.clone(),
            request.clone().query_parameter("fmi_path", "a"),
            "the fmi_path \"a\" cannot be used: the OpenID provider has no federated identities",
        ),
        (
            openid,
            request.clone().fmi_path("a"),
            "the fmi_path \"a\" cannot be used: the OpenID provider has no federated identities",
        ),
        (
            Authority::parse("https://adfs.example.org/adfs"),
            request.clone().fmi_path("a"),
            "AD FS has no federated identities",
        ),
        (
            Authority::parse("https://contoso.b2clogin.com/tfp/contoso.com/policy"),
            request.fmi_path("a"),
            "Azure AD B2C has no federated identities",
        ),
    ] {
        let client = ConfidentialClient::builder("daemon")
            .authority(authority)
            .client_secret(SECRET)
            .transport(provider.transport())
            .build()
            .unwrap();
        let error = client.acquire_token_for_client(request).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(provider.requests(), 0);
}
