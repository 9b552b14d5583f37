//! An MSAL-style confidential client: a daemon proves its own identity to Microsoft Entra ID, gets
//! an access token for itself, keeps it until near its end, and attaches it to its calls to a web
//! API.
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
//! # Where to start
//!
//! - [`ConfidentialClient`]: made once per process; holds the cache and the connections. Ask it
//!   for a token before every call to the API: it answers from memory unless the token is near its
//!   end, and renews it in the background before that.
//! - [`TokenProvider`]: one request bound to its place in the cache, the fastest path.
//! - [`TokenRequest`]: a scope and, for a daemon that serves many customers, a tenant.
//! - [`WarmUp`]: many tokens at the start, for that daemon.
//! - [`Certificate`] and [`Secret`]: what the application proves its identity with. A certificate
//!   is better: its key never leaves the machine, or even the vault it is in ([`Signer`]).
//! - [`CertificateFile`], [`SecretFile`] and [`CredentialSource`]: the same from where it is replaced
//!   while the program runs. [`ConfidentialClient::from_env`] reads its path from the environment.
//! - [`ClientAssertionProvider`]: neither; somebody else vouches for the application, as Kubernetes
//!   does by a [`FederatedTokenFile`].
//! - [`Authority`]: which identity provider, where it is not the worldwide cloud's tenant:
//!   [`Authority::parse`] reads what people paste.
//! - [`RetryPolicy`]: how often a token request is repeated, and how long it may take.
//! - [`UserAssertion`]: the token that a user called an API with, to call another on their behalf.
//! - [`AuthorizationRequest`]: how a user signs in to a web app; [`AuthenticationResult`] and [`Account`] are what
//!   comes of it, [`AuthorizationCodeFlow`] is what is kept meanwhile.
//! - [`AdminConsent`]: what a customer's administrator brought back, for an ISV.
//! - [`Challenge`]: what an API wants that did not take a token. The module `adapter` (features
//!   `reqwest-middleware`, `tower` and `azure-core`) attaches tokens, and answers it once.
//! - [`Acquisition`]: what an observer is told, for metrics.
//! - [`Error`]: says who must act, and whether time may cure it.
//! - [`resource`]: the other end, a web API that checks the tokens it is sent (feature `resource`;
//!   as an axum extractor, feature `axum`).
//! - [`testing`]: an identity provider for tests, which needs no account.
//!
//! # What goes on behind a call
//!
//! A token in memory is returned at once. Where there is none, one request is made for all who
//! wait, as a task of its own on the caller's tokio runtime; they share its token or its error.
//! A token that is due is renewed by such a task too: in a synchronous program that enters a
//! runtime for one call at a time, that task gets no time to run, and the token is renewed when it
//! has ended, while the caller waits. The network is used by the `acquire_token_..` methods,
//! `token`, `authorize` and `WarmUp::next`, and, for an OpenID provider's metadata, by
//! `authorization_request_url`.
//!
//! A token is due when the provider says so (`refresh_in`), else at half its life if that is two
//! hours or more, else five minutes before its end, and up to five minutes earlier by chance, so that
//! a fleet does not renew in step. It is served until ten seconds before its end; tokens of a few
//! minutes have margins in proportion. Two clocks are read, and a token has ended as soon as either
//! says so: one stops while a machine sleeps, the other is set by operators.
//!
//! A failure never removes a token that is still valid, and is remembered for a moment, so that a
//! daemon in a loop does not storm an identity provider that is down. A token request that got no
//! answer, 408 or a 5xx is repeated first: three attempts within 30 seconds, unless [`RetryPolicy`]
//! says otherwise. What failed then answers for as long as its `Retry-After` says, else from one
//! second to about half a minute, or up to one minute for a refusal. After three tenants or scopes
//! in a row got no answer, or a 5xx, the others wait too, and one request at a time tries whether
//! the provider is back.
//!
//! # Logging
//!
//! Events go to [`tracing`](https://docs.rs/tracing). A failed token request is a `WARN`, `a token
//! request failed`, with the whole chain of causes, the correlation id, `still_served` and
//! `still_served_s`: whether there is a token that callers are served meanwhile, as when a renewal
//! fails in the background, and for how many seconds more. Alarm on it: what begins with hundreds
//! of seconds left ends in callers' errors. Two more `WARN`s say when the provider is taken to be
//! down, and when a caller who asked for another token is served the one at hand. An attempt that
//! is repeated is an `INFO`, requests and answers are `DEBUG`. [`TokenCache::stats`] has
//! the same in numbers. A certificate with less than 30 days left is a `WARN` once a day, a source
//! without a credential that can be used one at every token request. No event carries a token, a
//! secret, an assertion or a scope.
//!
//! # What it does not do
//!
//! It does not write tokens to disk or share them between processes, does not read what is in an
//! access token it got (that is the API's: [`resource`]), and keeps no user signed in beyond the
//! process.
#![cfg_attr(not(feature = "testing"), doc = "")]
#![cfg_attr(
    not(feature = "testing"),
    doc = "[`testing`]: https://docs.rs/confidential-client/latest/confidential_client/testing"
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod authority;
mod cache;
mod certificate;
mod challenge;
mod client;
mod client_auth;
mod crypto;
mod endpoint;
mod error;
mod grant;
mod jwt;
mod lease;
mod request;
mod response;
mod retry;
mod scope;
mod secret;
mod token;

#[cfg(any(
    feature = "axum",
    feature = "azure-core",
    feature = "reqwest-middleware",
    feature = "tower"
))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(
        feature = "axum",
        feature = "azure-core",
        feature = "reqwest-middleware",
        feature = "tower"
    )))
)]
pub mod adapter;
pub mod credential;
pub mod delegated;
pub mod metrics;
pub mod resource;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod time;
pub mod transport;

pub use authority::{Authority, Cloud};
pub use cache::{CacheOptions, CacheStats};
pub use certificate::Certificate;
pub use challenge::Challenge;
pub use client::{
    ConfidentialClient, ConfidentialClientBuilder, TokenCache, TokenProvider, WarmUp,
};
pub use error::{Error, ErrorDetails, ServerError};
pub use request::TokenRequest;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use token::{AccessToken, TokenSource};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
