//! Behaviour of the public API, over loopback sockets in real time and over in-memory transports
//! with a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are one binary"
)]

mod adapter_axum;
mod adapter_azure_core;
mod adapter_bearer_auth;
mod adapter_retry;
mod adapter_tonic;
mod additional_parameters;
mod admin_consent;
mod anchor_mailbox;
mod assertion_by_pyjwt;
mod authorities;
mod blocking;
mod blocking_credentials;
mod bound_tokens;
mod bound_tokens_axum;
mod bound_tokens_certificate;
mod cache;
mod cache_properties;
mod callbacks;
mod certificate_cases;
mod certificate_formats;
mod certificate_vectors;
mod client_assertion_claims;
mod client_assertion_providers;
mod concurrency_limits;
mod configuration_errors;
mod credential_chain;
mod credential_chain_hosts;
mod credential_rotation;
mod curves;
mod discovery;
mod discovery_failures;
mod dpop;
mod dpop_adapters;
mod dpop_keys;
mod dpop_nonces;
mod dpop_refusals;
mod dpop_users;
mod fapi2;
mod fleet_by_order;
mod fleet_of_processes;
mod fleet_redis_circuit;
mod fleet_redis_faults;
mod fmi_path;
mod forced_refresh;
mod foreign_clients;
mod from_env;
mod id_tokens;
mod introspection;
mod key_vault;
mod key_vault_errors;
mod local_authority;
mod local_authority_addresses;
mod local_authority_clock;
mod local_authority_exchange;
mod local_authority_faults;
mod local_authority_sign_in;
mod local_authority_users;
mod local_managed_identity;
mod long_running;
mod managed_identity;
mod managed_identity_assertion;
mod metrics;
mod metrics_adapters;
mod mix_up;
mod mutual_tls;
mod mutual_tls_entra;
mod mutual_tls_rotation;
mod mutual_tls_signer;
mod network_environment;
mod npm_oidc_provider;
mod on_behalf_of;
mod openid_provider;
mod optional_scopes;
mod outages;
mod presented_once;
mod proxies;
mod pushed_requests;
mod redis_cache;
mod redis_dump;
mod redis_faults;
mod redis_server;
mod refreshed_identity;
mod rejection_responses;
mod rejection_texts;
mod remembered_requests;
mod request_extras;
mod resource_indicators;
mod retries;
mod secrecy;
mod session_protocol;
mod shared_cache;
mod shared_cache_decisions;
mod shared_cache_metrics;
mod shared_cache_races;
mod shared_sessions;
mod sign_in;
mod signing_keys;
mod simulated_week;
mod single_flight;
mod socket_faults;
mod support;
mod testing_protected_api;
mod tls_certificates;
mod token_exchange;
mod token_holder;
mod token_request_wire;
mod token_validator;
mod token_validator_keys;
mod tokio_runtimes;
mod tracing_events;
mod user_isolation;
mod warm_up;
