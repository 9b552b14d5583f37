use serde_json::{Map, Value, json};

use super::agent;
use super::format::{AccessTokenFormat, ClientAuthMethod};
use super::issuer::TokenIssuer;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::tenant::Directory;
use crate::time::unix_seconds;

/// An access token of an application for itself, without a user.
pub(crate) struct AppToken<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) application: &'a Application,
    pub(crate) auth_method: ClientAuthMethod,
    pub(crate) resource: &'a str,
    pub(crate) capabilities: &'a [String],
    /// Further claims.
    pub(crate) claims: Map<String, Value>,
}

impl AppToken<'_> {
    /// Returns the lifetime in seconds.
    pub(crate) fn lifetime(&self) -> u64 {
        let settings = &self.application.token_settings;
        settings.lifetime(self.capabilities).as_secs()
    }

    /// Signs the token.
    pub(crate) fn issue(self, issuer: &TokenIssuer<'_>) -> Result<String, AadstsError> {
        let (directory, application) = (self.directory, self.application);
        let object_id = application.subject();
        let format = AccessTokenFormat::of(directory, self.resource, issuer.base);
        let mut claims = format.claims(
            directory,
            application.client_id(),
            self.auth_method,
            (unix_seconds(issuer.now), self.lifetime()),
            self.capabilities,
        );
        for (name, value) in [
            ("idtyp", json!("app")),
            ("oid", json!(object_id)),
            ("sub", json!(object_id)),
            ("roles", json!(application.roles_of(self.resource))),
            ("uti", json!(issuer.token_id())),
        ] {
            claims.insert(name.to_owned(), value);
        }
        claims.extend(agent::agent_claims(application, None));
        claims.extend(self.claims);
        issuer.access_token(claims, directory, self.resource)
    }
}
