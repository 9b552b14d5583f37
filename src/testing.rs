//! An identity provider for tests, in the test's process (feature `testing`).
//!
//! [`LocalAuthority`] is an HTTP server on loopback. The server checks secrets and assertions as
//! Microsoft Entra ID does, issues signed tokens for applications and users, and responds with
//! Entra's errors. A test needs no account, no network and no mocks. A test of a wrong secret uses
//! a wrong secret.
//!
//! - [`Application`] and [`User`] are registered in the tenants of a `LocalAuthority`.
//! - A user signs in on the server's pages, in a browser or with
//!   [`sign_in`](LocalAuthority::sign_in). The user consents on the pages or
//!   [beforehand](LocalAuthority::consent).
//! - A test of a web API starts with a [user's token](LocalAuthority::user_token).
//! - [`Fault`] [scripts](LocalAuthority::script) errors of Entra and of the network.
//! - [`ProviderRules`] let the `LocalAuthority` behave as another OpenID provider, or as FAPI 2.0
//!   demands.
//! - [`RecordedRequest`] is a [received](LocalAuthority::token_requests) token request.
//! - [`LocalManagedIdentity`] plays the managed identity endpoints of Azure's hosts, of each
//!   [`HostKind`], for each [`AssignedIdentity`].
//! - [`LocalSharedCache`] stands in for Redis, with a [`StoreFault`] to order.
//! - [`ManualClock`] changes the time of a client, and of a `LocalAuthority` that was built with
//!   the same [`clock`](LocalAuthorityBuilder::clock).
//!
//! ```
//! use confidential_client::ConfidentialClient;
//! use confidential_client::testing::{Application, LocalAuthority};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let local = LocalAuthority::start().await?;
//! local.register(
//!     "contoso.onmicrosoft.com",
//!     Application::new("11111111-2222-3333-4444-555555555555")
//!         .secret("the secret's value")
//!         .role("https://graph.microsoft.com", "User.Read.All"),
//! );
//!
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .authority(local.authority("contoso.onmicrosoft.com"))
//!     .client_secret("the secret's value")
//!     .build()?;
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! assert_eq!(local.token_requests().len(), 1); // the second token came from the cache
//! # Ok(())
//! # }
//! ```

mod aadsts;
mod authorize;
#[cfg(feature = "blocking")]
mod block_on;
mod certificate;
mod clock;
mod directory;
mod fault;
mod http;
mod local_authority;
mod managed_identity;
mod protected_api;
mod provider;
mod provider_rules;
mod recorded_request;
mod shared_cache;
mod token;
mod traffic;

#[cfg(feature = "blocking")]
pub use block_on::block_on;
pub use certificate::self_signed_certificate;
pub use clock::ManualClock;
pub use directory::application::Application;
pub use directory::user::User;
pub use fault::Fault;
pub use local_authority::{LocalAuthority, LocalAuthorityBuilder};
pub use managed_identity::{AssignedIdentity, HostKind, LocalManagedIdentity};
pub use protected_api::ProtectedApi;
pub use provider_rules::ProviderRules;
pub use recorded_request::RecordedRequest;
pub use shared_cache::{LocalSharedCache, StoreFault};
