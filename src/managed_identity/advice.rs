//! Advice that several sources give.

use super::response::Rejection;
use super::{ManagedIdentity, Resource};
use crate::error::Error;

/// Returns what to do if the identity is not assigned to the host. `host` names the host's kind.
pub(super) fn not_assigned(identity: &ManagedIdentity, host: &str) -> String {
    match identity.id() {
        None => format!(
            "{NO_IDENTITY} to {host}; turn the system-assigned identity on in the Azure portal under Identity, or name a user-assigned identity that is assigned"
        ),
        Some(id) => format!(
            "{identity} is not assigned to {host}; assign the identity in the Azure portal under Identity, or correct the {}",
            id.name()
        ),
    }
}

/// Returns whether the host of a failed token request has no system-assigned identity.
///
/// `false` for a user-assigned identity, which the request named.
pub(crate) fn has_no_identity(error: &Error) -> bool {
    let help = error.server_error().and_then(|server| server.help());
    help.is_some_and(|help| help.starts_with(NO_IDENTITY))
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

/// The begin of the advice that [`has_no_identity`] recognises.
const NO_IDENTITY: &str = "no system-assigned identity is assigned";
