//! An in-memory identity provider that responds at once, and the requests of the benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use confidential_client::{
    CacheOptions, ConfidentialClient, ConfidentialClientBuilder, TokenRequest,
};
use http::{Request, Response};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Returns a builder with the in-memory identity provider.
pub(crate) fn builder() -> ConfidentialClientBuilder {
    let issued = AtomicU64::new(0);
    bare_builder().transport(move |_: Request<Bytes>| {
        let body = token_response(issued.fetch_add(1, Ordering::Relaxed));
        async { Ok(Response::new(body)) }
    })
}

/// Returns a builder without a transport.
pub(crate) fn bare_builder() -> ConfidentialClientBuilder {
    ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("s3cret")
        .cache(CacheOptions::default().max_entries(200_000))
}

/// Returns the response with a token as long as Entra's tokens. Each number gives another token.
pub(crate) fn token_response(number: u64) -> Bytes {
    let token = format!("{number:0>TOKEN_BYTES$}");
    let body = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#);
    Bytes::from(body)
}

/// Returns the access token of a user's call, as long as Entra's tokens.
pub(crate) fn user_token() -> String {
    format!("{:u>TOKEN_BYTES$}", "ser")
}

/// Returns the request for the tenant of one of many customers.
pub(crate) fn request(tenant: usize) -> TokenRequest {
    TokenRequest::new(SCOPE).tenant(format!("t{tenant}.example.org"))
}

pub(crate) const SCOPE: &str = "https://graph.microsoft.com/.default";
pub(crate) const TOKEN_BYTES: usize = 1_492;
