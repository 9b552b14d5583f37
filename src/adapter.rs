//! Attaches tokens to an application's own calls: written once, where its HTTP client is made.
//!
//! [`BearerAuth`] knows whose token it is and which APIs may have it. It goes into a chain of
//! reqwest-middleware (feature `reqwest-middleware`) or, as [`BearerAuthLayer`], before any tower
//! service over `http::Request` (feature `tower`).
//!
//! When an API answers with a challenge, the right thing happens once: a 401 that asks for claims
//! brings a token with them, a 401 that says `invalid_token` another token, and the request is
//! repeated with it, whatever its method: who answers 401 has done nothing. Both are rationed for
//! all callers together, so an API that takes no token causes no storm. A 403 is handed through:
//! another token would not help, and so is a 401 for which there is no other.
//!
//! Microsoft's APIs ask for claims only where the client says that it answers:
//! [`client_capabilities(["cp1"])`](crate::ConfidentialClientBuilder::client_capabilities).
//!
//! The clients of the Azure SDK for Rust attach tokens themselves and ask a credential for them:
//! [`AzureCredential`] (feature `azure-core`).
//!
//! At the other end, an API takes tokens out of the requests to its axum routes:
//! [`AcceptedToken`] and [`PermittedToken`] (feature `axum`).

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "azure-core")]
mod azure_core;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
mod bearer_auth;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
mod origin;
#[cfg(feature = "reqwest-middleware")]
mod reqwest_middleware;
#[cfg(feature = "tower")]
mod tower;

#[cfg(feature = "axum")]
pub use self::axum::{AcceptedToken, PermittedToken};
#[cfg(feature = "azure-core")]
pub use self::azure_core::AzureCredential;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
pub use bearer_auth::BearerAuth;
#[cfg(feature = "tower")]
pub use tower::{BearerAuthError, BearerAuthFuture, BearerAuthLayer, BearerAuthService};
