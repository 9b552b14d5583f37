//! The managed identity endpoints of Azure's hosts on loopback, for programs in other languages and
//! for curl.
//!
//! ```sh
//! cargo run --example local_managed_identity -- app-service
//! ```
//!
//! The program prints the variables of the host, as lines of a shell. The kinds of hosts are
//! `imds`, `app-service`, `service-fabric`, `azure-arc`, `cloud-shell` and `azure-ml`. Then, in
//! another terminal with the variables:
//!
//! ```sh
//! curl -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" \
//!      "$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net"
//! ```
//!
//! With a folder as the second argument, the program writes the certificate of Service Fabric into
//! the folder, as `service-fabric.pem`.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::Path;

use confidential_client::testing::{AssignedIdentity, HostKind, LocalAuthority};

const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "imds".to_owned());
    let kind = match kind.as_str() {
        "imds" => HostKind::Imds,
        "app-service" => HostKind::AppService,
        "service-fabric" => HostKind::ServiceFabric,
        "azure-arc" => HostKind::AzureArc,
        "cloud-shell" => HostKind::CloudShell,
        "azure-ml" => HostKind::AzureMl,
        _ => return Err(format!("{kind:?} is no kind of host").into()),
    };

    let local = LocalAuthority::start().await?;
    let host = local.managed_identity(TENANT).await?;
    let identity = AssignedIdentity::new(CLIENT_ID).role("https://vault.azure.net", "Secrets.Read");
    println!("# keys {}/{TENANT}/discovery/v2.0/keys", local.base_url());
    println!("# issuer {}", host.issuer());
    if let Some(system) = host.system_assigned() {
        println!("# system-assigned {}", system.client_id());
    }
    println!("# user-assigned client_id {}", identity.client_id());
    println!("# user-assigned object_id {}", identity.object_id());
    println!("# user-assigned resource_id {}", identity.resource_id());
    host.assign(identity);

    if let Some(folder) = arguments.next() {
        std::fs::create_dir_all(&folder)?;
        let path = Path::new(&folder).join("service-fabric.pem");
        std::fs::write(path, host.service_fabric_certificate())?;
    }
    for (name, value) in host.variables(kind) {
        println!("export {name}={value}");
    }
    println!("# serving until Ctrl-C stops the program");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
