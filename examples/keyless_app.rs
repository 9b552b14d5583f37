//! An application whose only credential is a managed identity: no secret and no certificate.
//!
//! ```sh
//! cargo run --example keyless_app
//! ```
//!
//! A managed identity alone has tokens of its own tenant. An application with the identity as its
//! federated credential also has tokens of its customers' tenants, and tokens on behalf of a user.
//!
//! By default the identity provider and the host of the identity run inside this program, on
//! loopback. With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_MANAGED_IDENTITY_CLIENT_ID` in
//! the environment of a host in Azure, the program requests the token from Microsoft Entra ID.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::credential::{ClientAssertionProvider, ManagedIdentity};
use confidential_client::testing::{
    Application, AssignedIdentity, HostKind, LocalAuthority, LocalManagedIdentity,
};
use confidential_client::{ConfidentialClient, Error, ManagedIdentityClient};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TENANT: &str = "contoso.onmicrosoft.com";
const CUSTOMER: &str = "fabrikam.onmicrosoft.com";
const APPLICATION_ID: &str = "11111111-2222-3333-4444-555555555555";
const IDENTITY_ID: &str = "99999999-8888-7777-6666-555555555555";
const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";
const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";
/// The audience of a token that serves as a client assertion.
const EXCHANGE: &str = "api://AzureADTokenExchange";

#[tokio::main]
async fn main() -> Result<()> {
    match std::env::var("AZURE_MANAGED_IDENTITY_CLIENT_ID") {
        Ok(identity_id) => run_on_azure(&identity_id).await,
        Err(_) => run_on_loopback().await,
    }
}

async fn run_on_azure(identity_id: &str) -> Result<()> {
    let client = ConfidentialClient::builder(std::env::var("AZURE_CLIENT_ID")?)
        .tenant(std::env::var("AZURE_TENANT_ID")?)
        .client_assertion(ManagedIdentity::user_assigned_client_id(identity_id))
        .build()?;
    acquire(&client, GRAPH_SCOPE).await
}

async fn run_on_loopback() -> Result<()> {
    let local = LocalAuthority::start().await?;
    let host = local.managed_identity(TENANT).await?;
    let identity = AssignedIdentity::new(IDENTITY_ID);
    register(&local, &host, &identity);

    // Without the identity on the host, the application has no credential.
    let client = application_client(
        &local,
        TENANT,
        identity_client(&host, HostKind::AppService)?,
    )?;
    print_error(
        "not assigned",
        client.acquire_token_for_client(GRAPH_SCOPE).await,
    );
    host.assign(identity);

    for kind in [HostKind::Imds, HostKind::AppService] {
        let sent = host.requests().len();
        let identity = identity_client(&host, kind)?;
        for tenant in [TENANT, CUSTOMER] {
            let client = application_client(&local, tenant, identity.clone())?;
            acquire(&client, GRAPH_SCOPE).await?;
            acquire(&client, STORAGE_SCOPE).await?;
        }
        println!("{kind:?} requests {}", host.requests().len() - sent);
    }

    // The federated credential names another identity.
    register(&local, &host, &AssignedIdentity::new(IDENTITY_ID));
    let client = application_client(&local, TENANT, identity_client(&host, HostKind::Imds)?)?;
    print_error(
        "not trusted",
        client.acquire_token_for_client(GRAPH_SCOPE).await,
    );
    println!("token requests {}", local.token_requests().len());
    Ok(())
}

/// Registers the application with the identity as its federated credential.
///
/// The federated credential has the object ID of the identity as its subject.
fn register(local: &LocalAuthority, host: &LocalManagedIdentity, identity: &AssignedIdentity) {
    for tenant in [TENANT, CUSTOMER] {
        let application = Application::new(APPLICATION_ID);
        let subject = identity.object_id();
        local.register(
            tenant,
            application.federated_credential(host.issuer(), subject, EXCHANGE),
        );
    }
}

/// Builds the client of the identity on a host.
///
/// A real program passes the `ManagedIdentity` itself to `client_assertion`. The clients of several
/// tenants share the cached assertion of one `ManagedIdentityClient`.
fn identity_client(host: &LocalManagedIdentity, kind: HostKind) -> Result<ManagedIdentityClient> {
    let identity = ManagedIdentity::user_assigned_client_id(IDENTITY_ID);
    let builder = ManagedIdentityClient::builder(identity);
    Ok(builder.environment(host.environment(kind)).build()?)
}

fn application_client(
    local: &LocalAuthority,
    tenant: &str,
    assertions: impl ClientAssertionProvider,
) -> Result<ConfidentialClient> {
    Ok(ConfidentialClient::builder(APPLICATION_ID)
        .authority(local.authority(tenant))
        .client_assertion(assertions)
        .build()?)
}

async fn acquire(client: &ConfidentialClient, scope: &str) -> Result<()> {
    let token = client.acquire_token_for_client(scope).await?;
    let minutes = token.expires_in().as_secs() / 60;
    println!("a token of {scope} for {minutes} minutes");
    Ok(())
}

fn print_error(name: &str, result: std::result::Result<impl Sized, Error>) {
    match result {
        Ok(_) => println!("{name}: a token"),
        Err(error) => println!("{name}: {}", error.chain()),
    }
}
