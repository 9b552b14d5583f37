use std::sync::Mutex;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::issued_tokens::IssuedTokens;
use super::jwt::ReceivedJwt;
use super::signing_key::TokenSigningKey;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::tenant::Directory;
use crate::testing::provider::lock;
use crate::testing::provider_rules::ProviderRules;

/// Signs and verifies the tokens of this authority.
pub(crate) struct TokenIssuer<'a> {
    pub(crate) base: &'a str,
    /// The time of the request.
    pub(crate) now: SystemTime,
    /// The last key of the tenants or of an application signs. The older keys only verify.
    pub(crate) keys: &'a [TokenSigningKey],
    pub(crate) rules: &'a ProviderRules,
    /// The number of the next token.
    pub(crate) number: u64,
    pub(crate) issued: &'a Mutex<IssuedTokens>,
}

impl TokenIssuer<'_> {
    /// Signs a token for an application, with the application's own key if there is one.
    pub(crate) fn sign(
        &self,
        claims: &Value,
        application: Option<&str>,
    ) -> Result<String, AadstsError> {
        let newest = |application| self.keys.iter().rfind(|key| key.is_of(application));
        let Some(key) = newest(application).or_else(|| newest(None)) else {
            return Err(AadstsError::of_status(StatusCode::INTERNAL_SERVER_ERROR));
        };
        let algorithm = self.rules.token_algorithm();
        key.sign(claims, algorithm).map_err(|error| AadstsError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..AadstsError::bad_request("server_error", 90014, error.to_string())
        })
    }

    /// Issues an access token for a resource: a signed JWT, or an opaque token.
    pub(crate) fn access_token(
        &self,
        claims: Map<String, Value>,
        directory: &Directory,
        resource: &str,
    ) -> Result<String, AadstsError> {
        let web_api = directory.web_api(resource);
        match web_api.is_some_and(Application::has_opaque_tokens) {
            true => Ok(lock(self.issued).issue(claims)),
            false => self.sign(&claims.into(), web_api.map(Application::client_id)),
        }
    }

    /// Returns whether one of the keys signed the JWT.
    pub(crate) fn verifies<C>(&self, jwt: &ReceivedJwt<'_, C>) -> bool {
        self.keys.iter().any(|key| key.verifies(jwt))
    }

    /// Returns a token id (`uti`) that starts with the number of the token.
    pub(crate) fn token_id(&self) -> String {
        format!("{:016x}{}", self.number, Uuid::new_v4().simple())
    }
}
