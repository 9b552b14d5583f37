use serde_json::{Map, Value, json};

use crate::testing::directory::application::TokenSettings;
use crate::testing::directory::tenant::Directory;
use crate::token::TokenScheme;

/// The format of the access tokens for one resource, which depends on the token version.
pub(crate) struct AccessTokenFormat {
    pub(crate) audience: String,
    issuer: String,
    pub(crate) is_v1: bool,
}

/// The credential that authenticated the client.
#[derive(Clone, Copy)]
pub(crate) enum ClientAuthMethod {
    Secret,
    Assertion,
}

impl ClientAuthMethod {
    /// Returns the value of the claim `azpacr`.
    fn azpacr(self) -> &'static str {
        match self {
            Self::Secret => "1",
            Self::Assertion => "2",
        }
    }
}

impl AccessTokenFormat {
    pub(crate) fn of(directory: &Directory, resource: &str, base: &str) -> Self {
        let web_api = directory.web_api(resource);
        let version = web_api.and_then(|api| Some((api.token_version()?, api.client_id())));
        let (audience, is_v1) = match version {
            Some((2, client_id)) => (client_id, false),
            version => (resource, version.is_some()),
        };
        Self {
            audience: audience.to_owned(),
            issuer: match is_v1 {
                true => format!("{base}/{}/", directory.id),
                false => directory.issuer(base),
            },
            is_v1,
        }
    }

    /// Returns the claims of every access token: resource, issuer, client and time.
    pub(crate) fn claims(
        &self,
        directory: &Directory,
        client_id: &str,
        auth_method: ClientAuthMethod,
        (now, lifetime): (u64, u64),
        capabilities: &[String],
    ) -> Map<String, Value> {
        let (client_claim, method_claim, version) = match self.is_v1 {
            true => ("appid", "appidacr", "1.0"),
            false => ("azp", "azpacr", "2.0"),
        };
        let mut claims = Map::from_iter([
            ("aud".to_owned(), json!(self.audience)),
            ("iss".to_owned(), json!(self.issuer)),
            ("iat".to_owned(), json!(now)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now.saturating_add(lifetime))),
            (client_claim.to_owned(), json!(client_id)),
            (method_claim.to_owned(), json!(auth_method.azpacr())),
            ("tid".to_owned(), json!(directory.id.to_string())),
            ("ver".to_owned(), json!(version)),
        ]);
        if !capabilities.is_empty() {
            claims.insert("xms_cc".to_owned(), json!(capabilities));
        }
        claims
    }
}

/// Builds the members that the token responses of all grants share.
///
/// `confirmation` is the claim `cnf` of the token.
pub(crate) fn token_response(
    token: String,
    settings: &TokenSettings,
    lifetime: u64,
    confirmation: Option<&Value>,
) -> Map<String, Value> {
    let seconds = |seconds: u64| match settings.numeric_strings {
        true => Value::from(seconds.to_string()),
        false => Value::from(seconds),
    };
    let is_proof_key = confirmation.is_some_and(|claim| claim.get("jkt").is_some());
    let token_type = match is_proof_key {
        true => TokenScheme::Dpop,
        false => TokenScheme::Bearer,
    };
    let token_type = token_type.as_str();
    let mut body = Map::from_iter([
        ("token_type".to_owned(), json!(token_type)),
        ("expires_in".to_owned(), seconds(lifetime)),
        ("ext_expires_in".to_owned(), seconds(lifetime)),
        ("access_token".to_owned(), json!(token)),
    ]);
    if let Some(refresh_in) = settings.refresh_in {
        body.insert("refresh_in".to_owned(), seconds(refresh_in.as_secs()));
    }
    body
}
