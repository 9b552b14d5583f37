use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use uuid::Uuid;

use super::request::{SignInError, SignInRequest, SignInSettings};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::tenant::Directory;
use crate::testing::recorded_request::RecordedRequest;
use crate::testing::token::client::AuthenticatedClient;
use crate::testing::token::issuer::TokenIssuer;
use crate::testing::token::proof::ReceivedProofs;
use crate::testing::token::random_secret;

/// Pushed authorization requests, by `request_uri` ([RFC 9126]).
///
/// [RFC 9126]: https://www.rfc-editor.org/rfc/rfc9126
#[derive(Default)]
pub(crate) struct PushedRequests(HashMap<String, PushedRequest>);

struct PushedRequest {
    tenant: Uuid,
    client_id: String,
    parameters: Vec<(String, String)>,
    expires: SystemTime,
}

impl PushedRequests {
    /// Returns the parameters of a pushed request, which is valid once and for the client that
    /// pushed the request.
    pub(crate) fn take(
        &mut self,
        request_uri: &str,
        query: &[(String, String)],
        directory: Option<&Directory>,
        now: SystemTime,
    ) -> Result<Vec<(String, String)>, AadstsError> {
        let client_id = query.iter().find(|(name, _)| name == "client_id");
        let Some((_, client_id)) = client_id else {
            return Err(AadstsError::missing_parameter("client_id"));
        };
        let is_of = |pushed: &PushedRequest| {
            directory.is_some_and(|directory| directory.id == pushed.tenant)
                && pushed.client_id.eq_ignore_ascii_case(client_id)
        };
        let known = self.0.get(request_uri).is_some_and(is_of);
        match known.then(|| self.0.remove(request_uri)).flatten() {
            Some(pushed) if now < pushed.expires => Ok(pushed.parameters),
            Some(_) | None => Err(AadstsError::unknown_request_uri()),
        }
    }

    /// Processes a pushed authorization request: the client's credential, then the parameters.
    pub(crate) fn push(
        &mut self,
        request: &RecordedRequest,
        tenant: &str,
        directories: &[Directory],
        issuer: &TokenIssuer<'_>,
        proofs: &mut ReceivedProofs,
    ) -> Result<Value, AadstsError> {
        let Some(directory) = directories.iter().find(|directory| directory.is(tenant)) else {
            return Err(AadstsError::tenant_not_found("invalid_request", tenant));
        };
        let client = AuthenticatedClient::authenticate(request, tenant, directory, issuer)?;
        if request.field("request_uri").is_some() {
            return Err(AadstsError::unknown_request_uri());
        }
        let proof_key = proofs.check_pushed_request(request, issuer)?;
        let is_parameter = |name: &str| !name.starts_with("client_") || name == "client_id";
        let parameters = request.form().iter();
        let parameters = parameters.filter(|(name, _)| is_parameter(name)).cloned();
        let mut parameters: Vec<(String, String)> = parameters.collect();
        if let Some(key) = proof_key.filter(|_| request.field(PROOF_KEY).is_none()) {
            parameters.push((PROOF_KEY.to_owned(), key.to_string()));
        }
        let settings = SignInSettings {
            base: issuer.base,
            rules: issuer.rules,
            now: issuer.now,
        };
        match SignInRequest::check(&parameters, tenant, directories, settings) {
            Ok(checked)
                if checked
                    .client_id
                    .eq_ignore_ascii_case(client.application.client_id()) => {}
            Ok(_) => return Err(AadstsError::other_client_pushed()),
            Err(SignInError::Page(error)) => return Err(error),
            Err(SignInError::Redirect(rejected)) => return Err(rejected.1),
        }
        let request_uri = format!("urn:ietf:params:oauth:request_uri:{}", random_secret());
        let pushed = PushedRequest {
            tenant: directory.id,
            client_id: client.application.client_id().to_owned(),
            parameters,
            expires: issuer.now + LIFETIME,
        };
        self.0.insert(request_uri.clone(), pushed);
        Ok(json!({ "request_uri": request_uri, "expires_in": LIFETIME.as_secs() }))
    }
}

/// The parameter with the thumbprint of the key that the code is bound to.
const PROOF_KEY: &str = "dpop_jkt";

/// Longest time between the push and the arrival of the user.
const LIFETIME: Duration = Duration::from_secs(60);
