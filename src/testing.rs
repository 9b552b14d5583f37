//! An identity provider for tests, in the process: no account, no network, no mocks (feature
//! `testing`).
//!
//! [`LocalAuthority`] is a real HTTP server on loopback. It checks secrets and assertions as
//! Microsoft Entra ID does, issues signed tokens for applications and in users' names, and refuses
//! in Entra's words and codes, so that what a daemon does with a wrong secret can be tested with a
//! wrong secret.
//!
//! A [`User`] signs in on its pages, in a browser or by [`sign_in`](LocalAuthority::sign_in), and
//! consents there or [beforehand](LocalAuthority::consent). A test of a web API starts from a
//! [user's token](LocalAuthority::user_token).
//!
//! What else can happen on a network is [scripted](LocalAuthority::script) with [`Fault`], and
//! what came in is [recorded](LocalAuthority::token_requests). To move the time, use
//! [`ManualClock`] over an in-memory [`Transport`](crate::transport::Transport).
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
//!         .secret("s3cret")
//!         .role("https://graph.microsoft.com", "User.Read.All"),
//! );
//!
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .authority(local.authority("contoso.onmicrosoft.com"))
//!     .client_secret("s3cret")
//!     .build()?;
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! assert_eq!(local.token_requests().len(), 1); // the second came from the cache
//! # Ok(())
//! # }
//! ```

mod aadsts;
mod authorize;
mod certificate;
mod clock;
mod directory;
mod fault;
mod http;
mod local_authority;
mod protected_api;
mod recorded_request;
mod token;

pub use certificate::self_signed_certificate;
pub use clock::ManualClock;
pub use directory::application::Application;
pub use directory::user::User;
pub use fault::Fault;
pub use local_authority::{LocalAuthority, LocalAuthorityBuilder};
pub use protected_api::ProtectedApi;
pub use recorded_request::RecordedRequest;
