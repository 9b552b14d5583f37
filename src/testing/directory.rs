use uuid::Uuid;

use super::application::{Application, is_same_resource};

/// A tenant: its domain or id as it was registered, its id, its app registrations and resources.
pub(super) struct Directory {
    pub(super) name: String,
    pub(super) id: Uuid,
    applications: Vec<Application>,
    /// Those it knows; where none was registered it knows all.
    resources: Vec<String>,
}

impl Directory {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: Uuid::try_parse(name).unwrap_or_else(|_| Uuid::new_v4()),
            applications: Vec::new(),
            resources: Vec::new(),
        }
    }

    /// A tenant answers to its domain and to its id.
    pub(super) fn is(&self, tenant: &str) -> bool {
        let by_id = || Uuid::try_parse(tenant).is_ok_and(|id| id == self.id);
        self.name.eq_ignore_ascii_case(tenant) || by_id()
    }

    pub(super) fn register(&mut self, application: Application) {
        self.applications
            .retain(|known| known.client_id() != application.client_id());
        self.applications.push(application);
    }

    pub(super) fn application(&self, client_id: &str) -> Option<&Application> {
        let mut applications = self.applications.iter();
        applications.find(|application| application.client_id().eq_ignore_ascii_case(client_id))
    }

    pub(super) fn register_resource(&mut self, resource: &str) {
        self.resources.push(resource.to_owned());
    }

    pub(super) fn knows(&self, resource: &str) -> bool {
        let granted = self.applications.iter().flat_map(Application::resources);
        let mut known = self.resources.iter().map(String::as_str).chain(granted);
        self.resources.is_empty() || known.any(|known| is_same_resource(known, resource))
    }

    pub(super) fn issuer(&self, base: &str) -> String {
        format!("{base}/{}/v2.0", self.id)
    }
}
