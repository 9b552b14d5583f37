//! Tokens of a managed identity on every kind of host that Azure has.
//!
//! ```sh
//! cargo run --example managed_identity
//! ```
//!
//! The hosts are endpoints in the process, so the program needs no Azure. A real program calls
//! `ManagedIdentityClient::new(..)` and leaves `environment(..)` out.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use confidential_client::ManagedIdentityClient;
use confidential_client::credential::ManagedIdentity;
use confidential_client::testing::{AssignedIdentity, HostKind, LocalManagedIdentity};

const VAULT: &str = "https://vault.azure.net/.default";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let azure = LocalManagedIdentity::start().await?;
    let assigned = AssignedIdentity::new(CLIENT_ID);
    azure.assign(assigned.clone());
    for host in HostKind::ALL {
        // Service Fabric names an identity by its object ID.
        let user_assigned = match host {
            HostKind::ServiceFabric => {
                ManagedIdentity::user_assigned_object_id(assigned.object_id())
            }
            _ => ManagedIdentity::user_assigned_client_id(CLIENT_ID),
        };
        for identity in [ManagedIdentity::system_assigned(), user_assigned] {
            let name = identity.to_string();
            let client = ManagedIdentityClient::builder(identity)
                .environment(azure.environment(host))
                .build();
            let token = match client {
                Ok(client) => client.acquire_token(VAULT).await,
                Err(error) => Err(error),
            };
            match token {
                Ok(token) => {
                    let minutes = token.expires_in().as_secs() / 60;
                    println!("{host:?}: {name}: a token for {minutes} minutes");
                }
                Err(error) => println!("{host:?}: {name}: {}", error.chain()),
            }
        }
    }
    Ok(())
}
