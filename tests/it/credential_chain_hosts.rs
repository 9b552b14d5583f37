//! The links of a chain that the host has, and cannot use.

use bytes::Bytes;
use confidential_client::credential::{
    ChainLink, CredentialChain, HostEnvironment, LinkUnavailable, ManagedIdentity,
};
use confidential_client::{CredentialChainClient, Error};
use http::{Request, Response};

use crate::support::unsigned_jwt;

const VAULT: &str = "https://vault.azure.net/.default";
const CLIENT_ID: (&str, &str) = ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555");
const CLOUD_SHELL: &[(&str, &str)] = &[("MSI_ENDPOINT", "http://localhost:50342/oauth2/token")];
const MACHINE_LEARNING: &[(&str, &str)] = &[
    ("MSI_ENDPOINT", "http://127.0.0.1:4/token"),
    ("MSI_SECRET", "s"),
];
const SERVICE_FABRIC: &[(&str, &str)] = &[
    ("IDENTITY_ENDPOINT", "https://localhost:2377/token"),
    ("IDENTITY_HEADER", "s3cret"),
    (
        "IDENTITY_SERVER_THUMBPRINT",
        "00112233445566778899AABBCCDDEEFF00112233",
    ),
];

/// Builds a client whose endpoints all issue a token.
fn build(
    chain: CredentialChain,
    variables: &[&[(&'static str, &str)]],
) -> Result<CredentialChainClient, Error> {
    let environment = HostEnvironment::from_variables(variables.concat());
    CredentialChainClient::builder(chain)
        .environment(environment)
        .transport(|_: Request<Bytes>| async {
            let body = r#"{"token_type":"Bearer","expires_in":"3599","access_token":"abc"}"#;
            Ok(Response::new(Bytes::from(body)))
        })
        .build()
}

fn unavailable(name: &str) -> ChainLink {
    ChainLink::from_fn(name, |_| async {
        Err(LinkUnavailable::new("no socket").into())
    })
}

fn default_and_broker() -> CredentialChain {
    CredentialChain::default().then(unavailable("broker"))
}

/// As `@azure/identity` does. PyPI's `azure-identity` ignores the id in Cloud Shell.
#[tokio::test]
async fn an_id_that_the_host_does_not_accept_passes_the_managed_identity_over() {
    let prod: &[_] = &[CLIENT_ID, ("AZURE_TOKEN_CREDENTIALS", "prod")];
    let by_name: &[_] = &[
        CLIENT_ID,
        ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"),
    ];
    let object = || ManagedIdentity::user_assigned_object_id(CLIENT_ID.1);
    for (host, refusal) in [
        (CLOUD_SHELL, "cannot be used in Cloud Shell"),
        (SERVICE_FABRIC, "cannot be used on Service Fabric"),
    ] {
        let client = build(default_and_broker(), &[prod, host]).unwrap();
        let error = client.acquire_token(VAULT).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        let reason = format!("'{}' {refusal}", CLIENT_ID.1);
        assert!(
            text.contains("; managed identity: the user-assigned"),
            "{text}"
        );
        assert!(text.contains(&reason), "{text}");
        assert!(text.contains("; broker: no socket"), "{text}");
        let error = build(CredentialChain::default(), &[by_name, host]).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(refusal), "{error}");
    }
    let own = |identity| {
        CredentialChain::new()
            .then(identity)
            .then(unavailable("broker"))
    };
    let client = build(own(object()), &[MACHINE_LEARNING]).unwrap();
    let error = client.acquire_token(VAULT).await.unwrap_err();
    assert!(
        error.to_string().contains("Azure Machine Learning"),
        "{error}"
    );
    // What the host accepts issues the token, and a wrong id is an error of `build`.
    for (identity, host) in [
        (ManagedIdentity::system_assigned(), CLOUD_SHELL),
        (object(), SERVICE_FABRIC),
    ] {
        let client = build(own(identity), &[host]).unwrap();
        client.acquire_token(VAULT).await.unwrap();
    }
    let error = build(
        own(ManagedIdentity::user_assigned_client_id("me")),
        &[CLOUD_SHELL],
    );
    assert!(error.unwrap_err().to_string().contains("\"me\""));
}

#[tokio::test]
async fn a_token_file_that_does_not_exist_passes_the_workload_identity_over() {
    let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("token");
    let prod: &[_] = &[
        CLIENT_ID,
        ("AZURE_TENANT_ID", "contoso.com"),
        ("AZURE_TOKEN_CREDENTIALS", "prod"),
        ("AZURE_FEDERATED_TOKEN_FILE", path.to_str().unwrap()),
    ];
    let client = || build(default_and_broker(), &[prod, CLOUD_SHELL]);
    let waiting = client().unwrap();
    let error = waiting.acquire_token(VAULT).await.unwrap_err();
    let expected = format!(
        "; workload identity: the file {} of AZURE_FEDERATED_TOKEN_FILE does not exist; managed identity: ",
        path.display()
    );
    assert!(error.to_string().contains(&expected), "{error}");

    // A file of another kind was meant, and ends the chain.
    std::fs::write(&path, "no token").unwrap();
    let error = client().unwrap_err();
    assert!(error.to_string().contains("is not a token"), "{error}");
    let error = waiting.acquire_token("api://a/.default").await.unwrap_err();
    let ended = "the credential chain ended at workload identity";
    assert!(error.to_string().contains(ended), "{error}");

    std::fs::write(&path, unsigned_jwt("pod")).unwrap();
    for client in [waiting, client().unwrap()] {
        client.acquire_token("api://b/.default").await.unwrap();
        assert_eq!(client.selected_link(), Some("workload identity"));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
