use uuid::Uuid;

use crate::testing::directory::application::{Application, is_same_resource};
use crate::testing::directory::consent::{Consent, DEFAULT};
use crate::testing::directory::scopes::RequestedScopes;
use crate::testing::directory::user::User;

/// A tenant: its domain or id as it was registered, its id, its app registrations, resources and
/// users.
pub(crate) struct Directory {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    applications: Vec<Application>,
    /// Those it knows; where none was registered it knows all.
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

    /// A tenant answers to its domain and to its id.
    pub(crate) fn is(&self, tenant: &str) -> bool {
        let by_id = || Uuid::try_parse(tenant).is_ok_and(|id| id == self.id);
        self.name.eq_ignore_ascii_case(tenant) || by_id()
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

    pub(crate) fn knows(&self, resource: &str) -> bool {
        let granted = self.applications.iter().flat_map(Application::resources);
        let mut known = self.resources.iter().map(String::as_str).chain(granted);
        self.resources.is_empty()
            || known.any(|known| is_same_resource(known, resource))
            || self.application_of(resource).is_some()
    }

    /// The application that a resource is, if one is registered for it.
    pub(crate) fn application_of(&self, resource: &str) -> Option<&Application> {
        let mut applications = self.applications.iter();
        applications.find(|application| application.is_resource(resource))
    }

    /// Whether two names are one resource: a web API has several.
    pub(crate) fn is_one_resource(&self, one: &str, other: &str) -> bool {
        let application = self.application_of(one);
        is_same_resource(one, other)
            || application.is_some_and(|application| application.is_resource(other))
    }

    /// The first scope that the resource does not have, if its scopes are published.
    pub(crate) fn unpublished<'a>(&self, asked: &'a RequestedScopes) -> Option<&'a str> {
        let published: Vec<_> = self.application_of(&asked.resource)?.published().collect();
        let mut names = asked.names.iter().map(String::as_str);
        let is_unknown = |name: &&str| *name != DEFAULT && !published.contains(name);
        names.find(|name| !published.is_empty() && is_unknown(name))
    }

    /// Adds a user, in the place of one of the same name.
    pub(crate) fn register_user(&mut self, user: User) {
        self.users.retain(|known| !known.is(user.principal_name()));
        self.users.push(user);
    }

    /// By principal name or object id.
    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.is(name))
    }

    pub(crate) fn issuer(&self, base: &str) -> String {
        format!("{base}/{}/v2.0", self.id)
    }
}
