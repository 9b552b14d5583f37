//! Adapters for other crates and for key stores.
//!
//! | Adapter | Feature | Works with |
//! | --- | --- | --- |
//! | [`BearerAuth`] | `reqwest-middleware` | reqwest, as a middleware of reqwest-middleware |
//! | [`BearerAuthLayer`] | `tower` | tower services over `http::Request`, such as hyper and tonic |
//! | [`AzureCredential`] | `azure-core` | the clients of the Azure SDK for Rust |
//! | [`KeyVaultCertificate`], [`KeyVaultSigner`] | `key-vault` | a certificate or a key in Azure Key Vault, as the client's credential |
//! | [`Pkcs11Token`], [`Pkcs11Key`] | `pkcs11` | private keys and certificates in an HSM or a smart card |
//! | [`AcceptedToken`], [`PermittedToken`] | `axum` | axum handlers of a web API |
//! | [`OpenTelemetryMetrics`] | `opentelemetry` | OpenTelemetry's meters |
//! | [`FacadeMetrics`] | `metrics` | recorders of the `metrics` facade |
//!
//! # Attached tokens
//!
//! [`BearerAuth`] holds a token provider and a list of origins. Only calls to the origins you name
//! get the token. After a 401 the call is retried once with a fresh token. The section
//! [Retries](BearerAuth#retries) has the rules.
//!
//! # Claims challenges
//!
//! Microsoft's APIs send claims challenges only to clients that declare the capability `cp1`. Call
//! [`client_capabilities(["cp1"])`](crate::ConfidentialClientBuilder::client_capabilities) if every
//! call of the client goes through [`BearerAuth`] or [`BearerAuthLayer`].

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "azure-core")]
mod azure_core;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
mod bearer_auth;
#[cfg(feature = "metrics")]
mod facade_metrics;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod instruments;
#[cfg(feature = "key-vault")]
mod key_vault;
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod observed_clients;
#[cfg(feature = "opentelemetry")]
mod open_telemetry_metrics;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
mod origin;
#[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
mod packed;
#[cfg(feature = "pkcs11")]
mod pkcs11;
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
#[cfg(feature = "metrics")]
pub use facade_metrics::FacadeMetrics;
#[cfg(feature = "key-vault")]
pub use key_vault::{KeyVaultCertificate, KeyVaultSigner};
#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
pub use observed_clients::ObservableClient;
#[cfg(feature = "opentelemetry")]
pub use open_telemetry_metrics::OpenTelemetryMetrics;
#[cfg(feature = "pkcs11")]
pub use pkcs11::{Pkcs11Key, Pkcs11Token};
#[cfg(feature = "tower")]
pub use tower::{BearerAuthError, BearerAuthFuture, BearerAuthLayer, BearerAuthService};
