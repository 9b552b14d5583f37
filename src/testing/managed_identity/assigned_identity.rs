use std::time::Duration;

use uuid::Uuid;

use super::host_kind::IdKind;
use crate::testing::directory::application::Application;

/// A managed identity, for [`LocalManagedIdentity::assign`].
///
/// The tokens of an identity are valid for 24 hours, as Entra's are.
///
/// [`LocalManagedIdentity::assign`]: super::LocalManagedIdentity::assign
///
/// ```
/// use confidential_client::testing::AssignedIdentity;
///
/// let orders = AssignedIdentity::new("11111111-2222-3333-4444-555555555555")
///     .role("https://graph.microsoft.com", "User.Read.All");
/// assert_eq!(orders.client_id(), "11111111-2222-3333-4444-555555555555");
/// assert!(orders.resource_id().starts_with("/subscriptions/"));
/// ```
#[derive(Clone, Debug)]
pub struct AssignedIdentity {
    pub(crate) application: Application,
    resource_id: String,
}

impl AssignedIdentity {
    /// Describes an identity with this client ID, a new object ID and a new resource ID.
    pub fn new(client_id: impl Into<String>) -> Self {
        let subscription = Uuid::new_v4();
        let name = Uuid::new_v4().simple().to_string();
        Self {
            application: Application::new(client_id).token_lifetime(LIFETIME),
            resource_id: format!(
                "/subscriptions/{subscription}/resourceGroups/tests/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            ),
        }
    }

    /// Grants an app role of a resource. `resource` is an application ID URI.
    ///
    /// Tokens for the resource contain the role in `roles`.
    #[must_use]
    pub fn role(mut self, resource: impl Into<String>, role: impl Into<String>) -> Self {
        self.application = self.application.role(resource, role);
        self
    }

    /// Sets the lifetime of the identity's tokens (whole seconds). The default is 24 hours.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.application = self.application.token_lifetime(lifetime);
        self
    }

    /// Returns the client ID.
    pub fn client_id(&self) -> &str {
        self.application.client_id()
    }

    /// Returns the object (principal) ID, which is the `sub` and the `oid` of the tokens.
    ///
    /// The subject of a [federated credential] is this id.
    ///
    /// [federated credential]: crate::testing::Application::federated_credential
    pub fn object_id(&self) -> String {
        self.application.subject()
    }

    /// Returns the resource ID, a path.
    pub fn resource_id(&self) -> &str {
        &self.resource_id
    }

    /// Returns whether the identity has this id. Azure ignores the case of ids.
    pub(crate) fn has(&self, kind: IdKind, id: &str) -> bool {
        match kind {
            IdKind::Client => self.client_id().eq_ignore_ascii_case(id),
            IdKind::Object => self.object_id().eq_ignore_ascii_case(id),
            IdKind::Resource => self.resource_id.eq_ignore_ascii_case(id),
        }
    }
}

const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
