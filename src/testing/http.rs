//! The HTTP server: connections, TLS, endpoints and raw responses.

pub(crate) mod client_certificate;
pub(crate) mod connection;
pub(crate) mod discovery;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod sign_in;
pub(crate) mod tls;
