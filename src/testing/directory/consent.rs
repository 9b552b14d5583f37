use super::application::Application;
use super::scopes::{RequestedScopes, ScopeParameter};
use super::user::User;

/// A consent to one scope of a resource, of one user or of an administrator for all users.
pub(crate) struct Consent {
    client_id: String,
    /// A principal name or an object id. `None` for an administrator's consent.
    user: Option<String>,
    pub(crate) resource: String,
    pub(crate) scope: String,
}

impl Consent {
    /// Creates one consent for each scope of each resource, and one consent to the sign-in.
    ///
    /// The consent to the sign-in covers the scopes of OpenID Connect, which have no resource.
    pub(crate) fn to(client_id: &str, user: Option<&str>, scopes: &ScopeParameter) -> Vec<Self> {
        let mut consents = vec![Self {
            client_id: client_id.to_owned(),
            user: user.map(ToOwned::to_owned),
            resource: client_id.to_owned(),
            scope: "openid".to_owned(),
        }];
        for RequestedScopes {
            resource, names, ..
        } in &scopes.resources
        {
            consents.extend(names.iter().map(|scope| Self {
                client_id: client_id.to_owned(),
                user: user.map(ToOwned::to_owned),
                resource: resource.clone(),
                scope: scope.clone(),
            }));
        }
        consents
    }

    /// Creates an administrator's consent to the permissions that an application declares.
    pub(crate) fn to_declared(application: &Application) -> Vec<Self> {
        let client_id = application.client_id();
        let sign_in = (client_id, "openid");
        let declared = application.declared_permissions().chain([sign_in]);
        let consents = declared.map(|(resource, scope)| Self {
            client_id: client_id.to_owned(),
            user: None,
            resource: resource.to_owned(),
            scope: scope.to_owned(),
        });
        consents.collect()
    }

    pub(crate) fn applies_to(&self, client: &Application, user: &User) -> bool {
        let includes_user = self.user.as_deref().is_none_or(|name| user.is(name));
        includes_user && client.client_id().eq_ignore_ascii_case(&self.client_id)
    }
}
