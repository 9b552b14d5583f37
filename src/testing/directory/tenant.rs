use uuid::Uuid;

use super::application::Application;
use super::consent::Consent;
use super::resource::{DEFAULT_SCOPE, is_same_resource};
use super::scopes::RequestedScopes;
use super::user::User;

/// A tenant, with its applications, resources, users and consents.
pub(crate) struct Directory {
    /// The domain or the id, as registered.
    pub(crate) name: String,
    pub(crate) id: Uuid,
    applications: Vec<Application>,
    /// The registered resources. If empty, every resource is known.
    resources: Vec<String>,
    pub(crate) users: Vec<User>,
    pub(crate) consents: Vec<Consent>,
}

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v4()),
            applications: Vec::new(),
            resources: Vec::new(),
            users: Vec::new(),
            consents: Vec::new(),
        }
    }

    /// Returns whether `tenant` is the domain or the id of this tenant.
    pub(crate) fn is(&self, tenant: &str) -> bool {
        let has_id = || Uuid::try_parse(tenant).is_ok_and(|id| id == self.id);
        self.name.eq_ignore_ascii_case(tenant) || has_id()
    }

    pub(crate) fn register(&mut self, application: Application) {
        self.applications
            .retain(|known| known.client_id() != application.client_id());
        self.applications.push(application);
    }

    pub(crate) fn application(&self, client_id: &str) -> Option<&Application> {
        let mut applications = self.applications.iter();
        applications.find(|application| application.client_id().eq_ignore_ascii_case(client_id))
    }

    pub(crate) fn register_resource(&mut self, resource: &str) {
        self.resources.push(resource.to_owned());
    }

    pub(crate) fn has_resource(&self, resource: &str) -> bool {
        let with_roles = self.applications.iter().flat_map(Application::resources);
        let registered = self.resources.iter().map(String::as_str);
        let mut resources = registered.chain(with_roles);
        self.resources.is_empty()
            || resources.any(|known| is_same_resource(known, resource))
            || self.web_api(resource).is_some()
    }

    /// Returns the application that is registered for a resource.
    pub(crate) fn web_api(&self, resource: &str) -> Option<&Application> {
        let mut applications = self.applications.iter();
        applications.find(|application| application.is_resource(resource))
    }

    /// Returns whether two names identify one resource. A web API has several names.
    pub(crate) fn is_one_resource(&self, one: &str, other: &str) -> bool {
        let web_api = self.web_api(one);
        is_same_resource(one, other) || web_api.is_some_and(|api| api.is_resource(other))
    }

    /// Returns the first requested scope that the resource does not publish.
    ///
    /// A resource that publishes no scopes accepts every scope.
    pub(crate) fn first_unpublished_scope<'a>(
        &self,
        requested: &'a RequestedScopes,
    ) -> Option<&'a str> {
        let web_api = self.web_api(&requested.resource)?;
        let published: Vec<_> = web_api.published_scopes().collect();
        let mut names = requested.names.iter().map(String::as_str);
        let is_unknown = |name: &&str| *name != DEFAULT_SCOPE && !published.contains(name);
        names.find(|name| !published.is_empty() && is_unknown(name))
    }

    /// Adds a user, and removes the user of the same name.
    pub(crate) fn register_user(&mut self, user: User) {
        self.users.retain(|known| !known.is(user.principal_name()));
        self.users.push(user);
    }

    /// Returns the user with this principal name or object id.
    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.is(name))
    }

    pub(crate) fn issuer(&self, base: &str) -> String {
        format!("{base}/{}/v2.0", self.id)
    }
}

/// Returns the tenants whose users may sign in to a tenant of this name.
pub(crate) fn sign_in_tenants<'a>(
    tenant: &str,
    directories: &'a [Directory],
) -> impl Iterator<Item = &'a Directory> {
    let directories = directories.iter();
    directories.filter(move |directory| accepts_sign_in(tenant, directory))
}

pub(crate) fn accepts_sign_in(tenant: &str, directory: &Directory) -> bool {
    is_multi_tenant(tenant) || directory.is(tenant)
}

/// Returns whether a name stands for every tenant: `organizations` or `common`.
pub(crate) fn is_multi_tenant(tenant: &str) -> bool {
    let names = ["organizations", "common"];
    names.iter().any(|name| tenant.eq_ignore_ascii_case(name))
}
