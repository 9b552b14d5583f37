//! The checks of all settings, and the client that they build.

use std::sync::Arc;
use std::time::Duration;

use super::ConfidentialClientBuilder;
use super::bound_tokens::{CertificateUse, check_proof_key, one_certificate};
use crate::authority::{Authority, Cloud};
use crate::client::proofs::Proofs;
use crate::client::{ConfidentialClient, TokenFetcher, fapi2};
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{CredentialConfig, CredentialStore, ProviderSettings};
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::request::claims::Capabilities;
use crate::retry::RetryBudget;
use crate::shared_cache::SharedLevel;
use crate::transport::{TokenTransport, zero_timeout};

impl ConfidentialClientBuilder {
    /// Checks all settings, and builds the client.
    ///
    /// Does no network I/O, and does not read credential sources. Whether the identity provider
    /// accepts the credential is known after the first token request.
    ///
    /// aws-lc collects entropy for some 30 milliseconds, once per process, before the first TLS
    /// handshake or signature. `build()` starts this work on a short thread of its own. A program
    /// that builds its client 30 milliseconds before its first token does not wait. A client that
    /// uses http and a secret starts no such thread, and neither does a program without aws-lc
    /// (feature `ring`).
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: an empty client ID; no tenant, or two that differ; a tenant that is
    ///   neither ID nor domain; an authority that is not https (loopback addresses excepted); a URL
    ///   given to [`Authority::parse`] that is no authority; no credential, or two; an empty
    ///   secret, or one with white space around it; no transport, or https without TLS compiled in;
    ///   a proxy variable that is no proxy; a machine without CA certificates; a proof key for an
    ///   authority of Microsoft's, or a generated one with a shared cache. The message says what to
    ///   do.
    /// - [`Error::Credential`]: a certificate outside its validity, with an algorithm that does not
    ///   fit its key, or with another key than RSA for Microsoft Entra ID.
    pub fn build(self) -> Result<ConfidentialClient, Error> {
        check_client_id(&self.client_id)?;
        let authority = authority(self.tenant, self.authority)?;
        let mut endpoints = Endpoints::of(&authority)?;
        self.cache.check()?;
        let settings = ProviderSettings {
            clock: self.clock.clone(),
        };
        let config = one_credential(self.credentials)?.prepare(&settings)?;
        self.retry.check()?;
        let now = self.clock.wall();
        let credential =
            CredentialStore::new(config, endpoints.rules(), self.retry.step_limit(), now)?;
        check_auth_method(self.auth_method, &credential)?;
        let mutual_tls = one_certificate(self.mutual_tls)?;
        if let Some((mutual_tls, usage)) = &mutual_tls {
            mutual_tls.tls_certificate().check(now)?;
            match usage {
                CertificateUse::EntraPreview => endpoints.use_mtls_pop(&authority)?,
                usage => {
                    usage.check(endpoints.rules())?;
                    endpoints.use_mutual_tls();
                }
            }
        }
        if authority.is_fapi2 {
            let mutual_tls = mutual_tls.as_ref().map(|(mutual_tls, _)| mutual_tls);
            let proof_key = self.proof_key.as_ref();
            fapi2::check_settings(&authority, &credential, mutual_tls, proof_key)?;
        }
        check_capabilities(&self.capabilities)?;
        if let Some(key) = &self.proof_key {
            check_proof_key(key, endpoints.rules(), self.shared_cache.is_some())?;
            if mutual_tls.is_some() && credential.tls_method().is_none() {
                return Err(Error::config(
                    "dpop(..) and certificate_bound_tokens(..) were called, and a token is bound to one key; leave one of the two out",
                ));
            }
        }
        if self.attempt_timeout.is_zero() {
            return Err(zero_timeout("attempt_timeout"));
        }
        if self.assumed_lifetime.is_zero() || self.assumed_lifetime > MAX_ASSUMED_LIFETIME {
            return Err(Error::config(format!(
                "assumed_token_lifetime must be greater than zero and at most 24 hours, but is {:?}",
                self.assumed_lifetime
            )));
        }
        #[cfg(feature = "aws-lc-rs")]
        if credential.signs() {
            crate::crypto::random::draw_ahead();
        }
        let (mutual_tls, config) = match mutual_tls {
            Some((mutual_tls, _)) => {
                let origin = endpoints.token_origin();
                let (transport, config) = TokenTransport::new(mutual_tls, self.transport, origin)?;
                (Some(transport), config)
            }
            None => (None, self.transport),
        };
        let transport = match self.identity_binding {
            Some(proxy) if config.is_default() => {
                Arc::new(proxy.connect_timeout(config.connect_timeout)?)
            }
            _ => config.transport(endpoints.origin())?,
        };
        let shared = match self.shared_cache {
            None => None,
            Some((store, options)) => {
                let level = SharedLevel::new(
                    store,
                    options,
                    &endpoints.identity(),
                    &self.client_id,
                    &self.capabilities,
                    self.clock.clone(),
                );
                Some(Arc::new(level?))
            }
        };
        let proofs = self.proof_key.map(|key| {
            let limit = self.retry.step_limit();
            Arc::new(Proofs::new(key, self.clock.clone(), limit))
        });
        // FAPI 2.0 section 5.3.2.1: a client may retry with the refresh token that was sent before.
        let rotates = endpoints.rules().may_rotate_refresh_tokens() && !authority.is_fapi2;
        let fetcher = TokenFetcher {
            client_id: self.client_id,
            endpoints,
            credential,
            auth_method: self.auth_method,
            capabilities: Capabilities::new(&self.capabilities),
            refresh_token_rotation: self.refresh_token_rotation.unwrap_or(rotates),
            id_token_audiences: self.id_token_audiences,
            keeps_id_tokens: self.keeps_id_tokens,
            retry: self.retry,
            budget: RetryBudget::default(),
            attempt_timeout: self.attempt_timeout,
            assumed_lifetime: self.assumed_lifetime,
            observer: self.observer,
            transport,
            mutual_tls,
            proofs,
            shared,
            clock: self.clock,
            assumed_a_lifetime: Default::default(),
        };
        Ok(ConfidentialClient::from_parts(&self.cache, fetcher))
    }
}

fn check_client_id(client_id: &str) -> Result<(), Error> {
    if client_id.trim().is_empty() {
        return Err(Error::config(
            "the client id is empty; use the application (client) id of the app registration",
        ));
    }
    if client_id.trim() != client_id {
        return Err(Error::config(format!(
            "the client id {client_id:?} begins or ends with white space; trim it"
        )));
    }
    Ok(())
}

pub(in crate::client) fn check_capabilities(capabilities: &[String]) -> Result<(), Error> {
    match capabilities.iter().any(|name| name.trim().is_empty()) {
        true => Err(Error::config(
            "a client capability has no name; declare one such as 'cp1', or leave client_capabilities(..) out",
        )),
        false => Ok(()),
    }
}

/// Combines tenant and authority.
fn authority(tenant: Option<String>, authority: Option<Authority>) -> Result<Authority, Error> {
    match (tenant, authority) {
        (None, None) => Err(Error::config(
            "no tenant; call tenant(..) with the directory's id or domain, or authority(..)",
        )),
        (Some(tenant), None) => Ok(Authority::entra(Cloud::Public, tenant)),
        // `Endpoints::of` returns the reason.
        (Some(_), Some(authority)) if authority.is_invalid() => Ok(authority),
        (Some(tenant), Some(mut authority)) => match authority.tenant_mut() {
            // The authority was a cloud without a tenant.
            Some(named) if named.is_empty() => {
                *named = tenant;
                Ok(authority)
            }
            Some(named) if tenant.eq_ignore_ascii_case(named) => Ok(authority),
            Some(named) => Err(Error::config(format!(
                "two tenants were given, {tenant:?} by tenant(..) and {named:?} by authority(..); give one"
            ))),
            None => Err(Error::config(format!(
                "the tenant {tenant:?} cannot be used: the authority '{authority}' has no tenants; leave tenant(..) out"
            ))),
        },
        (None, Some(authority)) => Ok(authority),
    }
}

fn check_auth_method(
    method: Option<TokenEndpointAuthMethod>,
    credential: &CredentialStore,
) -> Result<(), Error> {
    let is_secret = credential.is_secret();
    match method {
        Some(method) if method.is_mutual_tls() && credential.tls_method() != Some(method) => {
            let name = method.name();
            Err(Error::config(format!(
                "{name} authenticates by the client certificate of the connection; call {name}(..) of the builder with the certificate, and leave token_endpoint_auth_method(..) out"
            )))
        }
        Some(TokenEndpointAuthMethod::PrivateKeyJwt) if credential.tls_method().is_some() => {
            Err(Error::config(
                "private_key_jwt sends an assertion and the credential is a certificate of the connection; use certificate(..) and certificate_bound_tokens(..), or leave token_endpoint_auth_method(..) out",
            ))
        }
        Some(TokenEndpointAuthMethod::PrivateKeyJwt) if is_secret => Err(Error::config(
            "private_key_jwt sends an assertion and the credential is a secret; use certificate(..) or client_assertion(..), or leave token_endpoint_auth_method(..) out",
        )),
        Some(
            TokenEndpointAuthMethod::ClientSecretPost | TokenEndpointAuthMethod::ClientSecretBasic,
        ) if !is_secret => Err(Error::config(
            "token_endpoint_auth_method(..) applies to a secret and the credential is not a secret; leave token_endpoint_auth_method(..) out",
        )),
        _ => Ok(()),
    }
}

fn one_credential(credentials: Vec<CredentialConfig>) -> Result<CredentialConfig, Error> {
    let count = credentials.len();
    let mut credentials = credentials.into_iter();
    match credentials.next() {
        Some(credential) if count == 1 => Ok(credential),
        Some(_) => Err(Error::config(format!(
            "{count} credentials were given; a client authenticates with one, so leave the others out"
        ))),
        None => Err(Error::config(
            "no credential; call client_secret(..), certificate(..) or client_assertion(..)",
        )),
    }
}

const MAX_ASSUMED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
