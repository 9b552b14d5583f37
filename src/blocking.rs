//! Clients for programs that are not async (feature `blocking`).
//!
//! The types have the names and the methods of the async types, without `async`. `build_blocking()`
//! of a builder creates a client. No runtime and no tokio dependency of the program is needed.
//!
//! ```
//! # use bytes::Bytes;
//! use confidential_client::blocking::ConfidentialClient;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//!         .tenant("contoso.onmicrosoft.com")
//!         .client_secret("the secret's value")
//! #       .transport(|_: http::Request<Bytes>| async {
//! #           let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
//! #           Ok(http::Response::new(Bytes::from(body)))
//! #       })
//!         .build_blocking()?;
//!     let graph = client.token_provider("https://graph.microsoft.com/.default")?;
//!
//!     let mut request = http::Request::get("https://graph.microsoft.com/v1.0/users").body(())?;
//!     graph.authorize(&mut request)?; // Call this before each request. ureq sends the request.
//!     assert_eq!(request.headers()["authorization"], "Bearer abc");
//!     Ok(())
//! }
//! ```
//!
//! # The hidden thread
//!
//! A call without a cached token runs on a thread of the client, and the caller waits. The thread
//! is named `confidential-client`, starts with the first such call, and is shared by the clones and
//! the providers of the client. Between the calls the thread refreshes tokens that are due. A
//! cached token is returned on the caller's own thread, also while the token is refreshed.
//!
//! The thread ends when the last clone and provider are dropped. No drop and no exit of the process
//! waits for the thread. A client may be dropped everywhere, in async code, too.
//!
//! # Callbacks
//!
//! Credential sources, signers, observers and transports run on the hidden thread. They are async
//! and may use tokio. A callback that blocks the thread delays the other token requests of the same
//! client. After 30 seconds the waiting calls fail, and later calls fail after a second until the
//! callback ends. A callback that joins a [`std::thread`] with a call of the same client is such a
//! callback: the thread and the callback wait for each other.
//!
//! A callback that needs a token of a blocking client uses [`as_async`](TokenProvider::as_async),
//! because the callback is async code:
//!
//! ```
//! # use bytes::Bytes;
//! # use http::{Request, Response};
//! use confidential_client::blocking::ConfidentialClient;
//!
//! # fn main() -> Result<(), confidential_client::Error> {
//! # let provider = || ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
//! #     .tenant("contoso.onmicrosoft.com")
//! #     .transport(|_: Request<Bytes>| async {
//! #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a.b.c"}"#;
//! #         Ok(Response::new(Bytes::from(body)))
//! #     });
//! # let [identity, builder] = [provider().client_secret("the secret's value"), provider()];
//! let identity = identity.build_blocking()?;
//! let assertion = identity.token_provider("api://AzureADTokenExchange/.default")?;
//! let client = builder.client_assertion(assertion.as_async().clone()).build_blocking()?;
//! # client.acquire_token_for_client("https://graph.microsoft.com/.default")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Inside a tokio runtime
//!
//! A cached token is returned everywhere, and a call that does no I/O works everywhere. A call that
//! has to wait is an error inside a tokio runtime, because the other tasks of the caller's thread
//! would stand still:
//!
//! | the caller | calls instead |
//! |---|---|
//! | async code | the async client, [`as_async`](ConfidentialClient::as_async) |
//! | [`spawn_blocking`] or `block_in_place` | `Handle::current().block_on(..)` and the async client |
//! | a thread of [`std::thread`] | the blocking client, also if a runtime started the thread |
//!
//! tokio does not tell the first two apart, so both are errors.
//!
//! # Errors
//!
//! A blocking call returns the errors of the async method, and these:
//!
//! - [`Error::Config`](crate::Error::Config) inside a tokio runtime. Nothing was sent, and the
//!   message names the call to write instead.
//! - [`Error::Config`](crate::Error::Config) after a fork, if the client was used before. The
//!   hidden thread does not exist in the child. Build another client in the child. Cached tokens
//!   are still returned, unless another thread used the client during the fork.
//! - [`Error::Transport`](crate::Error::Transport) if a callback panicked. The next call works.
//! - [`Error::Transport`](crate::Error::Transport) if a callback has blocked the hidden thread for
//!   30 seconds. The call works after the end of the callback.
//! - [`Error::Transport`](crate::Error::Transport) if the operating system starts no further
//!   thread.
//!
//! # Tests
//!
//! With the feature `testing`, [`block_on`] starts the identity provider for tests.
//!
//! [`spawn_blocking`]: https://docs.rs/tokio/1/tokio/task/fn.spawn_blocking.html
#![cfg_attr(feature = "testing", doc = "[`block_on`]: crate::testing::block_on")]
#![cfg_attr(
    not(feature = "testing"),
    doc = "[`block_on`]: https://docs.rs/confidential-client/latest/confidential_client/testing/fn.block_on.html"
)]

mod agent_identity;
mod confidential_client;
mod credential_chain_client;
mod delegated;
mod managed_identity_client;
mod thread;
mod token_provider;
mod warm_up;

pub use agent_identity::AgentIdentity;
pub use confidential_client::ConfidentialClient;
pub use credential_chain_client::CredentialChainClient;
pub use managed_identity_client::ManagedIdentityClient;
pub use token_provider::TokenProvider;
pub use warm_up::WarmUp;
