use super::Application;
use crate::testing::directory::resource::is_same_resource;

/// Settings for users.
impl Application {
    /// Adds a redirect URI. An authorization request must name a redirect URI of the application
    /// exactly ([RFC 9700 section 2.1]).
    ///
    /// [RFC 9700 section 2.1]: https://www.rfc-editor.org/rfc/rfc9700#section-2.1
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// Registers a URI to return to after a sign-out, which is compared exactly
    /// ([OpenID Connect RP-Initiated Logout section 3.1]).
    ///
    /// [OpenID Connect RP-Initiated Logout section 3.1]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html#ClientMetadata
    pub fn post_logout_redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.post_logout_redirect_uris.push(uri.into());
        self
    }

    /// Declares a delegated permission: a scope of a resource. `resource` is an application ID URI.
    ///
    /// In a request for a user, `/.default` stands for the declared permissions. Declaring a
    /// permission grants no consent; see [`LocalAuthority::consent`].
    ///
    /// [`LocalAuthority::consent`]: crate::testing::LocalAuthority::consent
    pub fn delegated(mut self, resource: impl Into<String>, scope: impl Into<String>) -> Self {
        self.declared.push((resource.into(), scope.into()));
        self
    }

    /// Registers the application as a web API with this application ID URI, such as `api://drive`,
    /// and these scopes.
    ///
    /// Requests for other scopes of the resource are rejected. A resource that no application
    /// publishes accepts every scope.
    pub fn publishes(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        self.published.push((resource.into(), scopes));
        self
    }

    /// Sets the version of the access tokens for this web API.
    ///
    /// | version | `aud` |
    /// |---|---|
    /// | 1 | the application ID URI, as requested |
    /// | 2 | the client id |
    /// | not set | the application ID URI, in a token of version 2 |
    ///
    /// Set the version of the API's registration (`accessTokenAcceptedVersion`, which is 1 by
    /// default) in a test of the API's audiences. Entra does not issue the mix of the last row.
    ///
    /// # Panics
    ///
    /// If `version` is neither 1 nor 2.
    #[track_caller]
    #[expect(clippy::panic, reason = "an invalid version is a mistake in the test")]
    pub fn access_token_version(mut self, version: u8) -> Self {
        match version {
            1 | 2 => self.access_token_version = Some(version),
            _ => panic!("access token version {version} does not exist; use 1 or 2"),
        }
        self
    }

    /// Issues opaque access tokens for this web API, which the API has to introspect ([RFC 7662]).
    ///
    /// The authority has an introspection endpoint with the rules of
    /// [`ProviderRules::openid`](crate::testing::ProviderRules::openid).
    ///
    /// [RFC 7662]: https://www.rfc-editor.org/rfc/rfc7662
    pub fn opaque_access_tokens(mut self) -> Self {
        self.has_opaque_tokens = true;
        self
    }

    /// Permits the application to exchange users' tokens ([RFC 8693]) for tokens of this resource
    /// with these scopes.
    ///
    /// The application exchanges a token whose audience it is, or a token that was issued to it.
    /// The permission stands for the users' consent. The authority exchanges tokens with the rules
    /// of [`ProviderRules::openid`](crate::testing::ProviderRules::openid).
    ///
    /// [RFC 8693]: https://www.rfc-editor.org/rfc/rfc8693
    pub fn exchange(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        self.exchanges.push((resource.into(), scopes));
        self
    }

    pub(crate) fn has_opaque_tokens(&self) -> bool {
        self.has_opaque_tokens
    }

    /// Returns the resources and the scopes that the application may exchange a token for.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = (&str, &[String])> {
        let exchanges = self.exchanges.iter();
        exchanges.map(|(resource, scopes)| (resource.as_str(), scopes.as_slice()))
    }

    pub(crate) fn has_redirect_uri(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|known| known == uri)
    }

    pub(crate) fn has_post_logout_redirect_uri(&self, uri: &str) -> bool {
        self.post_logout_redirect_uris
            .iter()
            .any(|known| known == uri)
    }

    pub(crate) fn token_version(&self) -> Option<u8> {
        self.access_token_version
    }

    /// Returns the declared permissions as pairs of a resource and a scope.
    pub(crate) fn declared_permissions(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = self.declared.iter();
        declared.map(|(resource, scope)| (resource.as_str(), scope.as_str()))
    }

    /// Returns all published scopes.
    pub(crate) fn published_scopes(&self) -> impl Iterator<Item = &str> {
        let scopes = self.published.iter().flat_map(|(_, scopes)| scopes);
        scopes.map(String::as_str)
    }

    /// Returns whether the application is the resource of this name.
    ///
    /// The name can be a published URI, the client id, or `api://` with the client id.
    pub(crate) fn is_resource(&self, resource: &str) -> bool {
        let id = resource.strip_prefix("api://").unwrap_or(resource);
        let mut published = self.published.iter();
        published.any(|(known, _)| is_same_resource(known, resource))
            || self
                .client_id
                .eq_ignore_ascii_case(id.trim_end_matches('/'))
    }
}
