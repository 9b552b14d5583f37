use super::{Application, is_same_resource};

/// What users sign in to, and what is done in their names.
impl Application {
    /// Where a sign-in may end: an authorization request names one of these to the letter
    /// ([RFC 9700 section 2.1]).
    ///
    /// [RFC 9700 section 2.1]: https://www.rfc-editor.org/rfc/rfc9700#section-2.1
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// Declares a delegated permission: a scope of a resource, named by its application ID URI.
    /// `/.default` stands for those declared, in a user's name. Declaring is no consent: see
    /// [`LocalAuthority::consent`](crate::testing::LocalAuthority::consent).
    pub fn delegated(mut self, resource: impl Into<String>, scope: impl Into<String>) -> Self {
        self.delegated.push((resource.into(), scope.into()));
        self
    }

    /// Makes it a web API of this application ID URI, such as `api://drive`, with these scopes:
    /// others of the resource are refused. What no application publishes takes any scope.
    pub fn publishes(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        self.publishes.push((resource.into(), scopes));
        self
    }

    /// The version of the access tokens for this web API: 2, whose `aud` is its client id, or 1,
    /// whose `aud` is the application ID URI as it was asked for. Where nothing is set it is 2 with
    /// the URI as `aud`.
    ///
    /// # Panics
    ///
    /// If `version` is neither 1 nor 2.
    #[track_caller]
    #[expect(
        clippy::panic,
        reason = "a wrong number is a mistake in the test's own text"
    )]
    pub fn access_token_version(mut self, version: u8) -> Self {
        match version {
            1 | 2 => self.access_token_version = Some(version),
            _ => panic!("{version} is no version of access tokens: 1 and 2 are"),
        }
        self
    }

    pub(crate) fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|known| known == uri)
    }

    pub(crate) fn token_version(&self) -> Option<u8> {
        self.access_token_version
    }

    /// The delegated permissions declared: resource and scope.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&str, &str)> {
        let declared = self.delegated.iter();
        declared.map(|(resource, scope)| (resource.as_str(), scope.as_str()))
    }

    /// Every scope that it publishes.
    pub(crate) fn published(&self) -> impl Iterator<Item = &str> {
        let scopes = self.publishes.iter().flat_map(|(_, scopes)| scopes);
        scopes.map(String::as_str)
    }

    /// Whether it is the resource of this name: a URI that it publishes, its client id, or
    /// `api://` and that.
    pub(crate) fn is_resource(&self, resource: &str) -> bool {
        let id = resource.strip_prefix("api://").unwrap_or(resource);
        let mut published = self.publishes.iter();
        published.any(|(known, _)| is_same_resource(known, resource))
            || self
                .client_id
                .eq_ignore_ascii_case(id.trim_end_matches('/'))
    }
}
