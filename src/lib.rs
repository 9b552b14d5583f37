//! An MSAL-style confidential client.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod assertion;
mod authority;
mod builder;
mod cache;
mod certificate;
mod client;
mod credential;
mod endpoint;
mod error;
mod provider;
mod request;
mod response;
mod scope;
mod secret;
mod time;
mod token;
mod transport;

#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

pub use authority::{Authority, Cloud};
pub use builder::ConfidentialClientBuilder;
pub use certificate::Certificate;
pub use client::ConfidentialClient;
pub use error::{Error, ErrorDetails, ServerError};
pub use provider::TokenProvider;
pub use request::TokenRequest;
pub use secret::Secret;
pub use time::Clock;
pub use token::{AccessToken, TokenSource};
pub use transport::{Transport, TransportFuture};
