//! An agent identity acquires tokens with the credential of its blueprint: for itself, on behalf of
//! a user, and as its own user account.
//!
//! Runs against a `LocalAuthority`, without Azure:
//!
//! ```text
//! cargo run --example agent_identity
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;

use confidential_client::delegated::{UserAssertion, UserIdentifier};
use confidential_client::resource::{Claims, TokenValidator};
use confidential_client::testing::{Application, LocalAuthority, User};
use confidential_client::{AccessToken, ConfidentialClient};

const TENANT: &str = "contoso.onmicrosoft.com";
const BLUEPRINT: &str = "11111111-2222-3333-4444-555555555555";
const AGENT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
const ORDERS: &str = "api://orders";
const ADELE: &str = "adele@contoso.onmicrosoft.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let local = LocalAuthority::start().await?;
    let account = register(&local);
    let blueprint = ConfidentialClient::builder(BLUEPRINT)
        .authority(local.authority(TENANT))
        .client_secret("s3cret") // In production a certificate or a managed identity.
        .build()?;
    // The API at the other end.
    let orders = TokenValidator::builder(local.authority(TENANT))
        .audience(ORDERS)
        .single_tenant()
        .build()?;

    let agent = blueprint.agent_identity(AGENT)?;
    let token = agent
        .acquire_token_for_client(format!("{ORDERS}/.default"))
        .await?;
    show("for itself", &orders, &token).await?;

    // A user called the blueprint with this token.
    let received = local.user_token(TENANT, "spa", ADELE, "api://blueprint/Ask")?;
    let user = UserAssertion::new(received);
    let read = format!("{ORDERS}/Orders.Read");
    let token = agent.acquire_token_on_behalf_of(&user, &*read).await?;
    show("on behalf of a user", &orders, &token).await?;

    let account = UserIdentifier::object_id(account.object_id());
    let token = agent.acquire_token_by_user_fic(&account, &*read).await?;
    show("as its user account", &orders, &token).await?;
    // The second call is served from the cache.
    agent.acquire_token_by_user_fic(&account, &*read).await?;

    println!("{} token requests", local.token_requests().len());
    Ok(())
}

/// Registers the blueprint, its agent identity, and the user account of the agent.
fn register(local: &LocalAuthority) -> User {
    let blueprint = Application::new(BLUEPRINT).secret("s3cret");
    local.register(TENANT, blueprint.publishes("api://blueprint", ["Ask"]));
    let agent = Application::new(AGENT).agent_identity_of(BLUEPRINT);
    local.register(TENANT, agent.role(ORDERS, "Orders.Read.All"));
    let account = User::new("agent-1@contoso.onmicrosoft.com").of_agent_identity(AGENT);
    local.register_user(TENANT, account.clone());
    local.admin_consent(TENANT, AGENT, format!("{ORDERS}/Orders.Read"));

    local.register(TENANT, Application::new("spa"));
    local.register_user(TENANT, User::new(ADELE));
    local.consent(TENANT, "spa", ADELE, "api://blueprint/Ask");
    account
}

/// Prints what the API sees of a token.
async fn show(
    how: &str,
    orders: &TokenValidator,
    token: &AccessToken,
) -> Result<(), Box<dyn Error>> {
    let claims = orders.validate(token.secret()).await?;
    let is = |facet: u32| move |other: u32| other == facet;
    println!(
        "{how}: holder {:?}, client {}, blueprint {}, agent {}, agent's user {}",
        claims.holder(),
        claims.client_id().unwrap_or("none"),
        claims.parent_application_id().unwrap_or("none"),
        claims.actor_facets().any(is(Claims::AGENT_IDENTITY_FACET)),
        claims.subject_facets().any(is(Claims::AGENT_USER_FACET)),
    );
    Ok(())
}
