//! Behaviour through the public API: over loopback sockets in real time, and over an in-memory
//! transport where the test decides when an answer comes and what time it is.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are one binary"
)]

mod adapters;
mod admin_consent;
mod assertions;
mod authorities;
mod azure;
mod before_the_network;
mod cache;
mod callbacks;
mod concurrency;
mod credential_files;
mod discovery;
mod discovery_failures;
mod environment;
mod fault_matrix;
mod faults;
mod independent;
mod issuer;
mod limits;
mod local_authority;
mod local_authority_sign_in;
mod local_authority_users;
mod log;
mod logs;
mod machine;
mod observed;
mod oidc_provider;
mod on_behalf_of;
mod openid_provider;
mod outages;
mod properties;
mod protected_api;
mod protected_route;
mod raw;
mod refusals;
mod renewals;
mod retries;
mod rotation;
mod runtimes;
mod secrecy;
mod signing_in;
mod support;
mod token_validator;
mod token_validator_keys;
mod users_apart;
mod warm_up;
mod week;
mod wire;
