use crate::testing::aadsts::AadstsError;
use crate::testing::directory::application::is_same_resource;

/// The scopes that a client asks for in a user's name, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScopeParameter {
    pub(crate) openid: bool,
    pub(crate) profile: bool,
    pub(crate) email: bool,
    pub(crate) offline_access: bool,
    /// In the order they were named.
    pub(crate) resources: Vec<RequestedScopes>,
}

/// What is asked for of one resource.
#[derive(Clone, Debug)]
pub(crate) struct RequestedScopes {
    pub(crate) resource: String,
    /// What its scopes are written with: `api://drive/`, and nothing for Graph's short ones.
    pub(crate) prefix: String,
    /// Without the prefix; `.default` may be one.
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
        let reserved = scopes.openid || scopes.profile || scopes.email || scopes.offline_access;
        match scopes.resources.is_empty() && !reserved {
            true => Err(AadstsError::invalid_scope(text, "It names no scope.")),
            false => Ok(scopes),
        }
    }

    fn add(&mut self, scope: &str, text: &str) -> Result<(), AadstsError> {
        let (resource, prefix, name) = match scope.rsplit_once('/') {
            Some((resource, name)) => (resource, format!("{resource}/"), name),
            None => (GRAPH, String::new(), scope),
        };
        // As of `api://drive`, where the scope is missing.
        if resource.is_empty() || resource.ends_with(":/") || name.is_empty() {
            return Err(AadstsError::invalid_scope(
                text,
                "Each is a resource, a slash and a name.",
            ));
        }
        let mut known = self.resources.iter_mut();
        match known.find(|asked| is_same_resource(&asked.resource, resource)) {
            Some(asked) if asked.names.iter().any(|known| known == name) => {}
            Some(asked) => asked.names.push(name.to_owned()),
            None => self.resources.push(RequestedScopes {
                resource: resource.to_owned(),
                prefix,
                names: vec![name.to_owned()],
            }),
        }
        Ok(())
    }

    /// The same of one resource alone: the one named first, as Entra takes it where a token request
    /// names none.
    pub(crate) fn first_resource(mut self) -> Self {
        self.resources.truncate(1);
        self
    }

    /// The one resource that an access token is for: Graph, where none is named.
    pub(crate) fn one_resource(&self) -> Result<RequestedScopes, AadstsError> {
        match self.resources.as_slice() {
            [] => Ok(RequestedScopes {
                resource: GRAPH.to_owned(),
                prefix: String::new(),
                names: Vec::new(),
            }),
            [asked] => Ok(asked.clone()),
            _ => Err(AadstsError::multiple_resources()),
        }
    }

    /// The scopes of OpenID Connect that were asked for, `offline_access` excepted.
    pub(crate) fn of_openid(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("openid", self.openid),
            ("profile", self.profile),
            ("email", self.email),
        ];
        all.into_iter()
            .filter_map(|(name, asked)| asked.then_some(name))
    }
}

impl RequestedScopes {
    pub(crate) fn is_graph(&self) -> bool {
        is_same_resource(&self.resource, GRAPH)
    }
}

/// Whose scopes are named without a resource.
const GRAPH: &str = "https://graph.microsoft.com";
