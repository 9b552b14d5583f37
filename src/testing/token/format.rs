use serde_json::{Map, Value, json};

use crate::testing::directory::application::TokenSettings;
use crate::testing::directory::tenant::Directory;

/// How access tokens for a resource are written: its version of them.
pub(crate) struct AccessTokenFormat {
    pub(crate) audience: String,
    issuer: String,
    pub(crate) is_v1: bool,
}

impl AccessTokenFormat {
    pub(crate) fn of(directory: &Directory, resource: &str, base: &str) -> Self {
        let application = directory.application_of(resource);
        let version = application.and_then(|api| Some((api.token_version()?, api.client_id())));
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

    /// The claims that every access token has: its resource, issuer, client and time.
    pub(crate) fn claims(
        &self,
        directory: &Directory,
        client_id: &str,
        method: &str,
        (now, lifetime): (u64, u64),
        capabilities: &[String],
    ) -> Map<String, Value> {
        let (client, how, version) = match self.is_v1 {
            true => ("appid", "appidacr", "1.0"),
            false => ("azp", "azpacr", "2.0"),
        };
        let mut claims = Map::from_iter([
            ("aud".to_owned(), json!(self.audience)),
            ("iss".to_owned(), json!(self.issuer)),
            ("iat".to_owned(), json!(now)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now.saturating_add(lifetime))),
            (client.to_owned(), json!(client_id)),
            (how.to_owned(), json!(method)),
            ("tid".to_owned(), json!(directory.id.to_string())),
            ("ver".to_owned(), json!(version)),
        ]);
        if !capabilities.is_empty() {
            claims.insert("xms_cc".to_owned(), json!(capabilities));
        }
        claims
    }
}

/// The answer that every grant's begins with.
pub(crate) fn success(token: String, tokens: &TokenSettings, lifetime: u64) -> Map<String, Value> {
    let time = |seconds: u64| match tokens.numeric_strings {
        true => Value::from(seconds.to_string()),
        false => Value::from(seconds),
    };
    let mut body = Map::from_iter([
        ("token_type".to_owned(), json!("Bearer")),
        ("expires_in".to_owned(), time(lifetime)),
        ("ext_expires_in".to_owned(), time(lifetime)),
        ("access_token".to_owned(), json!(token)),
    ]);
    if let Some(refresh_in) = tokens.refresh_in {
        body.insert("refresh_in".to_owned(), time(refresh_in.as_secs()));
    }
    body
}
