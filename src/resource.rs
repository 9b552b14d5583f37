//! The other end: a web API that checks the tokens it is sent (feature `resource`).
//!
//! An API asks two questions of a request that comes with a user's token. May this *client* do
//! that? The scopes say so that it was granted. May this *user*? That the application knows: by
//! roles, ownership, a list. **Both must pass**, and the answers stay apart: a [`TokenRejection`] is about
//! the token and tells the client what it lacks, [`UserNotAllowed`] is about the user.
//!
//! ```
//! # use confidential_client::ConfidentialClient;
//! # use confidential_client::testing::{Application, LocalAuthority};
//! use confidential_client::resource::{AccessDenied, RejectionReason, TokenValidator};
//! use http::HeaderMap;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let local = LocalAuthority::start().await?;
//! # let daemon = Application::new("daemon").secret("s3cret").role("api://drive", "Files.Read.All");
//! # local.register("contoso.onmicrosoft.com", daemon);
//! # let authority = local.authority("contoso.onmicrosoft.com");
//! // Once per process, with Authority::entra(Cloud::Public, "contoso.onmicrosoft.com"):
//! let validator = TokenValidator::builder(authority)
//!     .audience("api://drive") // The application ID URI, as in tokens of version 1,
//!     .audience("11111111-2222-3333-4444-555555555555") // and the client id, as in version 2.
//!     .single_tenant()
//!     .build()?;
//!
//! // For each request:
//! async fn read(validator: &TokenValidator, headers: &HeaderMap, owner: &str) -> Result<(), AccessDenied> {
//!     let token = validator.validate_headers(headers).await?;
//!     token.require_scope("Files.Read")?; // The client may.
//!     token.authorize_user(|user| user.object_id() == Some(owner))?; // And the user may.
//!     Ok(())
//! }
//! # let client = ConfidentialClient::builder("daemon")
//! #     .authority(local.authority("contoso.onmicrosoft.com"))
//! #     .client_secret("s3cret")
//! #     .build()?;
//! # let token = client.acquire_token_for_client("api://drive/.default").await?;
//! # let mut headers = HeaderMap::new();
//! # headers.insert("authorization", token.authorization_header());
//!
//! // A daemon's own token has no user, and does not pass for one.
//! match read(&validator, &headers, "adele").await {
//!     Err(AccessDenied::Client(refusal)) => {
//!         assert_eq!(refusal.reason(), RejectionReason::NeedsUser);
//!         assert_eq!(refusal.status(), 403);
//!     }
//!     other => panic!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An application that acts for itself has roles instead of scopes, and no user:
//! [`require_application_role`](Claims::require_application_role) lets it through, and
//! [`require_any`](Claims::require_any) both. No token passes for the other kind.
//!
//! Which tenants are let in has to be said; there is no default. The feature `axum` makes a
//! protected route one line, with `adapter::AcceptedToken`.
//!
//! What it does not do: it asks nobody whether a token was revoked, keeps no list of tokens it has
//! seen, and decrypts none.

mod access_denied;
mod bearer;
mod builder;
mod claims;
mod permission;
mod rejection;
mod tenants;
mod validator;

pub use access_denied::{AccessDenied, UserNotAllowed};
pub use builder::TokenValidatorBuilder;
pub use claims::Claims;
pub use permission::Permission;
pub use rejection::{RejectionReason, TokenRejection};
pub use validator::TokenValidator;
