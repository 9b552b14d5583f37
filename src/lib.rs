//! An OAuth 2.0 confidential client in the style of MSAL: daemons, services and web APIs acquire,
//! cache and refresh access tokens from Microsoft Entra ID.
//!
//! ```
//! # use bytes::Bytes;
//! use confidential_client::ConfidentialClient;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!     .tenant("contoso.onmicrosoft.com")
//!     .client_secret("the secret's value")
//! #   .transport(|_: http::Request<Bytes>| async {
//! #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #       Ok(http::Response::new(Bytes::from(body)))
//! #   })
//!     .build()?;
//!
//! let token = client.acquire_token_for_client("https://graph.microsoft.com/.default").await?;
//! let request = http::Request::get("https://graph.microsoft.com/v1.0/users")
//!     .header("authorization", token.authorization_header());
//! # assert_eq!(request.headers_ref().unwrap()["authorization"], "Bearer abc");
//! # Ok(())
//! # }
//! ```
//!
//! # Start here
//!
//! - [`ConfidentialClient`] holds the cache and the connections. Create one per process and call
//!   [`acquire_token_for_client`](ConfidentialClient::acquire_token_for_client) before every API
//!   call.
//! - [`ManagedIdentityClient`] has the tokens of the identity that Azure gives to the host of the
//!   program. No secret and no app registration is needed.
//! - [`TokenProvider`] is a request bound to a cache entry. A provider is the fastest path to a
//!   token, and the adapters that attach tokens to API calls need one.
//! - [`credential`] has certificate files, secret files, signers and workload identity.
//!   [`Certificate`] is the safer credential, because the private key is never sent.
//! - `blocking` has the same clients for programs that are not async.
//! - [`testing`] is an identity provider for tests, in the process.
//! - [`guides`] answer longer questions: which authority, why an API responds 401 or 403, how to
//!   test, how to sign users in and act for them, how to come from MSAL or azure_identity, how to
//!   operate a daemon, how several processes share tokens.
//!
//! # The result of a call
//!
//! | cached token | the call returns | token requests |
//! |---|---|---|
//! | fresh | the cached token, without I/O | none |
//! | due for refresh | the cached token, without waiting | one in the background |
//! | expired or absent | a new token | one, shared by every caller that waits |
//! | valid, after a failed refresh | the cached token until the token expires | one after each cool-down |
//! | expired or absent, after a failed request | the remembered error, with [`retry_after`](Error::retry_after) | none during that time |
//! | valid, while the provider is down | the cached token until the token expires | one probe at a time |
//! | expired or absent, while the provider is down | [`Error::Transport`] at once | one probe at a time |
//!
//! A token request retries transient failures first: three attempts within 30 seconds, unless
//! [`RetryPolicy`] sets other limits. The [operating guide](guides::operating) has the exact times.
//! Users' tokens, from [on-behalf-of](ConfidentialClient::acquire_token_on_behalf_of) and
//! [sign-in](ConfidentialClient::authorization_request_url), follow the same table.
//! A signed-in user without a refresh token gets no refresh, and signs in again after the token
//! expires. The provider counts as down after three failures in a row for different entries.
//!
//! # Errors
//!
//! The variant of [`Error`] names the party that must act. [`is_transient`](Error::is_transient)
//! separates failures that may pass from failures that need a person.
//!
//! ```
//! # use bytes::Bytes;
//! use std::time::Duration;
//!
//! use confidential_client::{ConfidentialClient, Error};
//!
//! /// Returns the time to wait before the next run, or the text of an alarm.
//! async fn run(client: &ConfidentialClient) -> Result<Duration, String> {
//!     match client.acquire_token_for_client("https://graph.microsoft.com/.default").await {
//!         Ok(_token) => Ok(Duration::from_secs(60)), // Call the API here.
//!         Err(error) if error.is_transient() => {
//!             Ok(error.retry_after().unwrap_or(Duration::from_secs(1)))
//!         }
//!         // A rejection by the identity provider. `help` says what to do about common codes.
//!         Err(Error::Server(server)) => {
//!             Err(format!("{}: {}", server.error(), server.help().unwrap_or("unknown")))
//!         }
//!         // The error and its causes on one line.
//!         Err(error) => Err(error.chain().to_string()),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//! #     .tenant("contoso.onmicrosoft.com")
//! #     .client_secret("the secret's id")
//! #     .transport(|_: http::Request<Bytes>| async {
//! #         let body = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
//! #         Ok(http::Response::builder().status(401).body(Bytes::from(body))?)
//! #     })
//! #     .build()?;
//! // The program sent the secret's id instead of the secret's value.
//! let alarm = run(&client).await.unwrap_err();
//! assert!(alarm.starts_with("invalid_client: ") && alarm.contains("secret"));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! ```toml
//! [dependencies]
//! # reqwest, rustls, aws-lc-rs and system-proxy are on by default.
//! confidential-client = { version = "0.1", features = ["reqwest-middleware"] }
//! # Without the defaults, for example with TLS by the operating system:
//! # confidential-client = { version = "0.1", default-features = false,
//! #     features = ["aws-lc-rs", "native-tls"] }
//! # Without aws-lc, for a faster build:
//! # confidential-client = { version = "0.1", default-features = false,
//! #     features = ["reqwest", "ring", "system-proxy"] }
//!
//! [dev-dependencies]
//! confidential-client = { version = "0.1", features = ["testing"] }
//! ```
//!
//! | feature | adds |
//! |---|---|
//! | `reqwest` (default) | the HTTP client that sends token requests |
//! | `rustls` (default) | TLS by rustls, with the operating system's trusted certificates |
//! | `native-tls` | TLS by the operating system's library, OpenSSL on Linux |
//! | `system-proxy` (default) | the proxy settings of macOS and Windows |
//! | `http2` | HTTP/2 to the identity provider |
//! | `aws-lc-rs` (default) | signatures, which certificates and token validation need |
//! | `ring` | TLS where `rustls` is off, and signatures where `aws-lc-rs` is off |
//! | `rust-crypto` | signatures without C, where `aws-lc-rs` and `ring` are off; contains [RUSTSEC-2023-0071] |
//! | `pkcs12` | PKCS#12 files and encrypted private keys |
//! | `redis` | `cache::RedisCache`: processes share tokens and users' sessions |
//! | `blocking` | `blocking`: clients for programs that are not async |
//! | `reqwest-middleware` | `adapter::BearerAuth`, a middleware |
//! | `tower` | `adapter::BearerAuthLayer`, a tower layer |
//! | `azure-core` | `adapter::AzureCredential`, a credential for the Azure SDK for Rust |
//! | `key-vault` | `adapter::KeyVaultCertificate` and `adapter::KeyVaultSigner`, a certificate or a key in Azure Key Vault |
//! | `pkcs11` | `adapter::Pkcs11Token`, [private keys in an HSM](guides::keys_in_an_hsm) or on a smart card |
//! | `opentelemetry` | `adapter::OpenTelemetryMetrics`, metrics for OpenTelemetry |
//! | `metrics` | `adapter::FacadeMetrics`, metrics for the `metrics` facade |
//! | `axum` | `adapter::AcceptedToken`, an extractor that validates tokens |
//! | `testing` | [`testing`] |
//!
//! # Limits
//!
//! The authors have never run this crate against the live Microsoft Entra ID. The crate does not
//! write tokens to disk. Processes share tokens, and a user stays signed in after a restart, only
//! with a [shared cache](guides::more_than_one_replica). The client does not read access tokens. An
//! API reads them, with [`resource`].
//! The [overview](guides::overview) has the complete list.
//!
//! [RUSTSEC-2023-0071]: https://rustsec.org/advisories/RUSTSEC-2023-0071
#![cfg_attr(not(feature = "testing"), doc = "")]
#![cfg_attr(
    not(feature = "testing"),
    doc = "[`testing`]: https://docs.rs/confidential-client/latest/confidential_client/testing"
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod authority;
pub mod cache;
mod certificate;
mod challenge;
mod client;
mod client_auth;
mod counter;
mod credential_chain;
mod crypto;
mod dpop;
mod endpoint;
mod error;
mod grant;
mod heartbeat;
mod identity_binding;
mod jwt;
mod lease;
mod managed_identity;
mod request;
mod response;
mod retry;
#[cfg(any(feature = "blocking", feature = "reqwest"))]
mod runtime_thread;
mod scope;
mod secret;
mod shared_cache;
mod thread_number;
mod token;

// Without a `cfg`, so that docs.rs shows the feature of each item, and not four for each.
#[cfg_attr(
    not(docsrs),
    allow(rustdoc::broken_intra_doc_links, reason = "the items need features")
)]
pub mod adapter;
#[cfg(feature = "blocking")]
pub mod blocking;
pub mod credential;
pub mod delegated;
#[cfg(any(doc, doctest))]
pub mod guides;
pub mod metrics;
pub mod resource;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod transport;

pub use authority::{Authority, Cloud};
pub use cache::{CacheOptions, CacheStats};
pub use certificate::Certificate;
pub use challenge::Challenge;
pub use client::{
    AgentIdentity, AuthorizeRequest, ConfidentialClient, ConfidentialClientBuilder,
    CredentialChainClient, CredentialChainClientBuilder, ManagedIdentityClient,
    ManagedIdentityClientBuilder, TokenCache, TokenProvider, WarmUp,
};
pub use error::{Error, ErrorDetails, ErrorKind, ServerError};
pub use request::{IntoTokenRequest, TokenRequest};
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use token::{AccessToken, TokenScheme, TokenSource};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
