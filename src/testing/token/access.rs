use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::agent;
use super::client::AuthenticatedClient;
use super::format::{self, AccessTokenFormat, ClientAuthMethod};
use super::issuer::TokenIssuer;
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::permissions;
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;

/// Scopes that are granted to a client for a user, and the tokens for these scopes.
pub(crate) struct DelegatedAccess<'a> {
    directory: &'a Directory,
    client: &'a Application,
    auth_method: ClientAuthMethod,
    user: &'a User,
    scopes: &'a ScopeParameter,
    requested: RequestedScopes,
    granted: Vec<String>,
    capabilities: Vec<String>,
    nonce: Option<String>,
    /// The claim `cnf` of the access token.
    confirmation: Option<Value>,
    /// The claim `act` of the access token.
    actor: Option<Value>,
}

impl<'a> DelegatedAccess<'a> {
    /// Checks that the resource and its scopes exist, and that a user or an administrator has
    /// consented.
    pub(crate) fn check(
        directory: &'a Directory,
        client: &'a Application,
        auth_method: ClientAuthMethod,
        user: &'a User,
        scopes: &'a ScopeParameter,
        capabilities: Vec<String>,
    ) -> Result<Self, AadstsError> {
        let requested = scopes.one_resource()?;
        let resource = &requested.resource;
        if !requested.names.is_empty() && !directory.has_resource(resource) {
            return Err(AadstsError::resource_not_found(resource, &directory.name));
        }
        if let Some(unknown) = directory.first_unpublished_scope(&requested) {
            let reason = format!("The resource '{resource}' does not publish this scope.");
            return Err(AadstsError::invalid_scope(unknown, &reason));
        }
        match permissions::granted_scopes(directory, client, user, &requested) {
            Ok(granted) => Ok(Self {
                directory,
                client,
                auth_method,
                user,
                scopes,
                requested,
                granted,
                capabilities,
                nonce: None,
                confirmation: None,
                actor: None,
            }),
            Err(_) => Err(AadstsError::consent_required(client.client_id())),
        }
    }

    /// Returns the access that a token exchange grants. An administrator's permission stands for
    /// the consent.
    pub(crate) fn exchanged(
        client: &AuthenticatedClient<'a>,
        user: &'a User,
        scopes: &'a ScopeParameter,
        requested: RequestedScopes,
        granted: Vec<String>,
    ) -> Self {
        Self {
            directory: client.directory,
            client: client.application,
            auth_method: client.auth_method,
            user,
            scopes,
            requested,
            granted,
            capabilities: client.capabilities(),
            nonce: None,
            confirmation: None,
            actor: None,
        }
    }

    /// Sets the party that acts for the user ([RFC 8693 section 4.1]).
    ///
    /// [RFC 8693 section 4.1]: https://www.rfc-editor.org/rfc/rfc8693#section-4.1
    pub(crate) fn acting(mut self, actor: Option<Value>) -> Self {
        self.actor = actor;
        self
    }

    /// Sets the nonce of the ID token.
    pub(crate) fn nonce(mut self, nonce: Option<String>) -> Self {
        self.nonce = nonce;
        self
    }

    /// Binds the access token to a key.
    pub(crate) fn confirmed_by(mut self, confirmation: Option<Value>) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// Builds the token response without a refresh token.
    pub(crate) fn token_response(
        &self,
        issuer: &TokenIssuer<'_>,
        now: u64,
        client_info: bool,
    ) -> Result<Value, AadstsError> {
        let token = self.access_token(issuer, now)?;
        let settings = &self.client.token_settings;
        let confirmation = self.confirmation.as_ref();
        let mut body = format::token_response(token, settings, self.lifetime(), confirmation);
        body.insert("scope".to_owned(), self.granted_scope().into());
        if self.scopes.openid {
            body.insert("id_token".to_owned(), self.id_token(issuer, now)?.into());
        }
        if client_info {
            let user = json!({
                "uid": self.user.object_id(),
                "utid": self.directory.id.to_string(),
            });
            let encoded = BASE64_URL_SAFE_NO_PAD.encode(user.to_string());
            body.insert("client_info".to_owned(), encoded.into());
        }
        Ok(body.into())
    }

    pub(crate) fn access_token(
        &self,
        issuer: &TokenIssuer<'_>,
        now: u64,
    ) -> Result<String, AadstsError> {
        let resource = &self.requested.resource;
        let format = AccessTokenFormat::of(self.directory, resource, issuer.base);
        let mut claims = format.claims(
            self.directory,
            self.client.client_id(),
            self.auth_method,
            (now, self.lifetime()),
            &self.capabilities,
        );
        let user = self.user;
        let subject = self.pairwise_subject(&format.audience);
        let mut add = |name: &str, value: &str| claims.insert(name.to_owned(), json!(value));
        add("name", user.display_name());
        add("oid", &user.object_id());
        add("sub", &subject);
        add("uti", &issuer.token_id());
        match format.is_v1 {
            true => {
                add("unique_name", user.principal_name());
                add("upn", user.principal_name());
            }
            false => {
                add("preferred_username", user.principal_name());
            }
        }
        let mut scopes: Vec<_> = self.granted.iter().map(String::as_str).collect();
        scopes.extend(self.graph_scopes());
        if !scopes.is_empty() {
            add("scp", &scopes.join(" "));
        }
        if let Some(confirmation) = &self.confirmation {
            claims.insert("cnf".to_owned(), confirmation.clone());
        }
        claims.extend(agent::agent_claims(self.client, Some(user)));
        if let Some(actor) = &self.actor {
            claims.insert("act".to_owned(), actor.clone());
        }
        issuer.access_token(claims, self.directory, resource)
    }

    /// Builds the ID token ([OpenID Connect Core 1.0 section 2]).
    ///
    /// [OpenID Connect Core 1.0 section 2]: https://openid.net/specs/openid-connect-core-1_0.html#IDToken
    pub(crate) fn id_token(
        &self,
        issuer: &TokenIssuer<'_>,
        now: u64,
    ) -> Result<String, AadstsError> {
        let audience = self.client.client_id();
        let mut claims = json!({
            "aud": audience,
            "iss": self.directory.issuer(issuer.base),
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(ID_TOKEN_LIFETIME),
            "sub": self.pairwise_subject(audience),
            "tid": self.directory.id.to_string(),
            "uti": issuer.token_id(),
            "ver": "2.0",
        });
        let profile = [
            ("oid", self.user.object_id()),
            ("name", self.user.display_name().to_owned()),
            ("preferred_username", self.user.principal_name().to_owned()),
        ];
        let profile = profile.into_iter().filter(|_| self.scopes.profile);
        if let Some(members) = claims.as_object_mut() {
            let nonce = self.nonce.clone().map(|nonce| ("nonce", nonce));
            members.extend(
                profile
                    .chain(nonce)
                    .map(|(name, value)| (name.to_owned(), value.into())),
            );
        }
        issuer.sign(&claims, Some(audience))
    }

    fn lifetime(&self) -> u64 {
        let settings = &self.client.token_settings;
        settings.lifetime(&self.capabilities).as_secs()
    }

    /// Returns the granted scopes with the prefix of the client's request.
    fn granted_scope(&self) -> String {
        let granted = self.granted.iter();
        let mut scopes: Vec<_> = granted
            .map(|scope| format!("{}{scope}", self.requested.prefix))
            .collect();
        scopes.extend(self.graph_scopes().into_iter().map(ToOwned::to_owned));
        scopes.join(" ")
    }

    /// Returns the OpenID Connect scopes, which belong to Microsoft Graph only.
    fn graph_scopes(&self) -> Vec<&'static str> {
        match self.requested.is_graph() {
            true => self.scopes.openid_scopes().collect(),
            false => Vec::new(),
        }
    }

    /// Returns the `sub` of the user, which differs for each audience.
    fn pairwise_subject(&self, audience: &str) -> String {
        let user = format!("{}/{}/{audience}", self.directory.id, self.user.id());
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(user))
    }
}

/// 90 days, as long as Entra's refresh tokens live. Entra's ID tokens live for an hour. The clock
/// of a test may be far ahead of the clock of the server, and a refresh validates the ID token.
const ID_TOKEN_LIFETIME: u64 = 90 * 24 * 3600;
