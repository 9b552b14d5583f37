use super::resource::{GRAPH, is_same_resource};
use crate::testing::aadsts::error::AadstsError;

/// A parsed `scope` parameter of a request for a user.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopeParameter {
    pub(crate) openid: bool,
    pub(crate) profile: bool,
    pub(crate) email: bool,
    pub(crate) offline_access: bool,
    /// Resources in the order of the request.
    pub(crate) resources: Vec<RequestedScopes>,
}

/// The requested scopes of one resource.
#[derive(Clone, Debug)]
pub(crate) struct RequestedScopes {
    pub(crate) resource: String,
    /// The client's prefix for these scopes: `api://drive/`, or empty for the short names of Graph.
    pub(crate) prefix: String,
    /// Without the prefix. `.default` may be one of the names.
    pub(crate) names: Vec<String>,
}

impl ScopeParameter {
    pub(crate) fn parse(text: &str) -> Result<Self, AadstsError> {
        let mut scopes = Self::default();
        for scope in text.split_ascii_whitespace() {
            match scope {
                "openid" => scopes.openid = true,
                "profile" => scopes.profile = true,
                "email" => scopes.email = true,
                "offline_access" => scopes.offline_access = true,
                _ => scopes.add(scope, text)?,
            }
        }
        let has_openid_scope =
            scopes.openid || scopes.profile || scopes.email || scopes.offline_access;
        match scopes.resources.is_empty() && !has_openid_scope {
            true => Err(AadstsError::invalid_scope(text, "No scope is named.")),
            false => Ok(scopes),
        }
    }

    fn add(&mut self, scope: &str, text: &str) -> Result<(), AadstsError> {
        let (resource, prefix, name) = match scope.rsplit_once('/') {
            Some((resource, name)) => (resource, format!("{resource}/"), name),
            None => (GRAPH, String::new(), scope),
        };
        // `api://drive` is a resource without a scope.
        if resource.is_empty() || resource.ends_with(":/") || name.is_empty() {
            return Err(AadstsError::invalid_scope(
                text,
                "A scope consists of a resource, a slash and a name.",
            ));
        }
        let mut resources = self.resources.iter_mut();
        match resources.find(|known| is_same_resource(&known.resource, resource)) {
            Some(known) if known.names.iter().any(|known| known == name) => {}
            Some(known) => known.names.push(name.to_owned()),
            None => self.resources.push(RequestedScopes {
                resource: resource.to_owned(),
                prefix,
                names: vec![name.to_owned()],
            }),
        }
        Ok(())
    }

    /// Keeps the scopes of the first resource, as Entra does for a token request without `scope`.
    pub(crate) fn first_resource(mut self) -> Self {
        self.resources.truncate(1);
        self
    }

    /// Returns the scopes of the only resource. The default resource is Microsoft Graph.
    pub(crate) fn one_resource(&self) -> Result<RequestedScopes, AadstsError> {
        match self.resources.as_slice() {
            [] => Ok(RequestedScopes {
                resource: GRAPH.to_owned(),
                prefix: String::new(),
                names: Vec::new(),
            }),
            [requested] => Ok(requested.clone()),
            _ => Err(AadstsError::multiple_resources()),
        }
    }

    /// Returns the requested OpenID Connect scopes, without `offline_access`.
    pub(crate) fn openid_scopes(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("openid", self.openid),
            ("profile", self.profile),
            ("email", self.email),
        ];
        all.into_iter()
            .filter_map(|(name, is_requested)| is_requested.then_some(name))
    }
}

impl RequestedScopes {
    pub(crate) fn is_graph(&self) -> bool {
        is_same_resource(&self.resource, GRAPH)
    }
}
