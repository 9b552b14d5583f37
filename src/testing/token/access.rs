use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::Application;
use crate::testing::directory::consent;
use crate::testing::directory::scopes::{RequestedScopes, ScopeParameter};
use crate::testing::directory::tenant::Directory;
use crate::testing::directory::user::User;
use crate::testing::token::format::{self, AccessTokenFormat};
use crate::testing::token::issuer::TokenIssuer;

/// What a client was granted in a user's name, and what the tokens that say so are made of.
pub(crate) struct DelegatedAccess<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) client: &'a Application,
    pub(crate) method: &'static str,
    pub(crate) user: &'a User,
    scopes: &'a ScopeParameter,
    asked: RequestedScopes,
    granted: Vec<String>,
    capabilities: Vec<String>,
    nonce: Option<String>,
}

impl<'a> DelegatedAccess<'a> {
    /// Decides what is asked for: whether the resource and its scopes are known, and whether the
    /// user or an administrator has consented.
    pub(crate) fn decide(
        directory: &'a Directory,
        (client, method): (&'a Application, &'static str),
        user: &'a User,
        scopes: &'a ScopeParameter,
        capabilities: Vec<String>,
    ) -> Result<Self, AadstsError> {
        let asked = scopes.one_resource()?;
        if !asked.names.is_empty() && !directory.knows(&asked.resource) {
            let refusal = AadstsError::resource_not_found(&asked.resource, &directory.name);
            return Err(refusal);
        }
        if let Some(unknown) = directory.unpublished(&asked) {
            let why = format!("The resource '{}' does not publish it.", asked.resource);
            return Err(AadstsError::invalid_scope(unknown, &why));
        }
        match consent::granted(directory, client, user, &asked) {
            Ok(granted) => Ok(Self {
                directory,
                client,
                method,
                user,
                scopes,
                asked,
                granted,
                capabilities,
                nonce: None,
            }),
            Err(_) => Err(AadstsError::consent_required(client.client_id())),
        }
    }

    /// Repeats this in the ID token.
    pub(crate) fn nonce(mut self, nonce: Option<String>) -> Self {
        self.nonce = nonce;
        self
    }

    /// The answer to the token request, but for a refresh token.
    pub(crate) fn answer(
        &self,
        issuer: &TokenIssuer<'_>,
        now: u64,
        client_info: bool,
    ) -> Result<Value, AadstsError> {
        let token = self.access_token(issuer, now)?;
        let mut body = format::success(token, &self.client.tokens, self.lifetime());
        body.insert("scope".to_owned(), self.granted_as_asked().into());
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
        let form = AccessTokenFormat::of(self.directory, &self.asked.resource, issuer.base);
        let time = (now, self.lifetime());
        let mut claims = form.claims(
            self.directory,
            self.client.client_id(),
            self.method,
            time,
            &self.capabilities,
        );
        let user = self.user;
        let sub = self.pairwise(&form.audience);
        let mut add = |name: &str, value: &str| claims.insert(name.to_owned(), json!(value));
        add("name", user.display_name());
        add("oid", &user.object_id());
        add("sub", &sub);
        add("uti", &issuer.uti());
        match form.is_v1 {
            true => {
                add("unique_name", user.principal_name());
                add("upn", user.principal_name());
            }
            false => {
                add("preferred_username", user.principal_name());
            }
        }
        let mut scopes: Vec<_> = self.granted.iter().map(String::as_str).collect();
        scopes.extend(self.of_graph());
        if !scopes.is_empty() {
            add("scp", &scopes.join(" "));
        }
        issuer.sign(&claims.into())
    }

    /// Who signed in, for the client itself ([OpenID Connect Core 1.0 section 2]).
    ///
    /// [OpenID Connect Core 1.0 section 2]: https://openid.net/specs/openid-connect-core-1_0.html#IDToken
    fn id_token(&self, issuer: &TokenIssuer<'_>, now: u64) -> Result<String, AadstsError> {
        let audience = self.client.client_id();
        let mut claims = json!({
            "aud": audience,
            "iss": self.directory.issuer(issuer.base),
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(ID_TOKEN_LIFETIME),
            "sub": self.pairwise(audience),
            "tid": self.directory.id.to_string(),
            "uti": issuer.uti(),
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
        issuer.sign(&claims)
    }

    fn lifetime(&self) -> u64 {
        self.client.tokens.lifetime(&self.capabilities).as_secs()
    }

    /// The granted scopes, written as the client wrote those that it asked for.
    fn granted_as_asked(&self) -> String {
        let granted = self.granted.iter();
        let mut scopes: Vec<_> = granted
            .map(|scope| format!("{}{scope}", self.asked.prefix))
            .collect();
        scopes.extend(self.of_graph().into_iter().map(ToOwned::to_owned));
        scopes.join(" ")
    }

    /// The scopes of OpenID Connect are Graph's too, and no other resource's.
    fn of_graph(&self) -> Vec<&'static str> {
        match self.asked.is_graph() {
            true => self.scopes.of_openid().collect(),
            false => Vec::new(),
        }
    }

    /// The `sub` of this user for one audience, and for no other.
    fn pairwise(&self, audience: &str) -> String {
        let user = format!("{}/{}/{audience}", self.directory.id, self.user.id());
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(user))
    }
}

const ID_TOKEN_LIFETIME: u64 = 3600;
