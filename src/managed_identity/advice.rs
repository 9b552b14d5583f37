//! Advice that several sources give.

use super::response::Rejection;
use super::{ManagedIdentity, Resource};

/// Returns what to do if the identity is not assigned to the host. `host` names the host's kind.
pub(super) fn not_assigned(identity: &ManagedIdentity, host: &str) -> String {
    match identity.id() {
        None => format!(
            "no system-assigned identity is assigned to {host}; turn the system-assigned identity on in the Azure portal under Identity, or name a user-assigned identity that is assigned"
        ),
        Some(id) => format!(
            "{identity} is not assigned to {host}; assign the identity in the Azure portal under Identity, or correct the {}",
            id.name()
        ),
    }
}

/// Returns what to do if the tenant does not know the resource.
pub(super) fn unknown_resource(resource: &Resource) -> String {
    format!(
        "the resource '{}' is not known in the tenant of the identity; check the scope, character by character, and whether the API has a service principal in the tenant",
        resource.as_str()
    )
}

/// Returns whether the text of a rejection contains a phrase, in any case.
pub(super) fn says(rejection: &Rejection<'_>, phrase: &str) -> bool {
    let text = rejection.text.unwrap_or_default().to_ascii_lowercase();
    text.contains(phrase)
}
