//! Managed identities: the token endpoints of Azure's hosts.
//!
//! `HostEnvironment` describes the host. `source` selects the endpoint and builds the requests.
//! `fetch` sends and retries them.

use std::fmt;

use uuid::Uuid;

use crate::error::Error;

mod advice;
mod app_service;
mod azure_arc;
mod azure_ml;
mod cloud_shell;
mod date;
mod endpoint;
mod environment;
mod fetch;
mod imds;
mod probe;
mod request;
mod resource;
mod response;
mod retry;
mod service_fabric;
mod source;
mod transport;

pub(crate) use advice::has_no_identity;
pub(crate) use date::time;
pub use environment::HostEnvironment;
pub(crate) use fetch::{FetcherSettings, IdentityTokenRequest, ManagedIdentityFetcher};
pub(crate) use probe::{Availability, ImdsProbe};
pub(crate) use resource::Resource;
pub(crate) use response::IdentityToken;
pub(crate) use source::check_id_on_host;

/// An identity that Azure gives to the host of the program, so that the program needs no secret.
///
/// A host has at most one system-assigned identity, which is deleted with the host. A user-assigned
/// identity is a resource of its own and can be assigned to many hosts. A user-assigned identity is
/// named by one of three ids.
///
/// The value is a description. Creating one cannot fail, and the client's `build()` validates it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ManagedIdentityId")]
#[doc(alias = "ManagedIdentityCredential")]
pub struct ManagedIdentity {
    id: Option<UserAssignedId>,
}

/// The id of a user-assigned identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UserAssignedId {
    Client(String),
    Object(String),
    Resource(String),
}

impl ManagedIdentity {
    /// Describes the system-assigned identity of the host.
    ///
    /// A host without a system-assigned identity and with one user-assigned identity returns a
    /// token of the user-assigned identity.
    #[doc(alias = "SystemAssigned")]
    pub fn system_assigned() -> Self {
        Self { id: None }
    }

    /// Describes a user-assigned identity by its client ID, a GUID.
    #[doc(alias = "WithUserAssignedClientId")]
    pub fn user_assigned_client_id(client_id: impl Into<String>) -> Self {
        Self {
            id: Some(UserAssignedId::Client(client_id.into())),
        }
    }

    /// Describes a user-assigned identity by its object (principal) ID, a GUID.
    #[doc(alias = "WithUserAssignedObjectId")]
    pub fn user_assigned_object_id(object_id: impl Into<String>) -> Self {
        Self {
            id: Some(UserAssignedId::Object(object_id.into())),
        }
    }

    /// Describes a user-assigned identity by its resource ID.
    ///
    /// The resource ID is a path such as `/subscriptions/{subscription}/resourceGroups/{group}/`
    /// `providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}`.
    #[doc(alias = "WithUserAssignedResourceId")]
    pub fn user_assigned_resource_id(resource_id: impl Into<String>) -> Self {
        Self {
            id: Some(UserAssignedId::Resource(resource_id.into())),
        }
    }

    /// Returns the id, or `None` for the system-assigned identity.
    pub(crate) fn id(&self) -> Option<&UserAssignedId> {
        self.id.as_ref()
    }

    /// Checks the form of the id.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.id.as_ref().map_or(Ok(()), UserAssignedId::check)
    }
}

impl fmt::Display for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            None => f.write_str("the system-assigned identity"),
            Some(id) => write!(
                f,
                "the user-assigned identity with the {} '{}'",
                id.name(),
                id.value()
            ),
        }
    }
}

impl UserAssignedId {
    pub(crate) fn value(&self) -> &str {
        match self {
            Self::Client(id) | Self::Object(id) | Self::Resource(id) => id,
        }
    }

    /// Returns the kind of the id in words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Client(_) => "client id",
            Self::Object(_) => "object id",
            Self::Resource(_) => "resource id",
        }
    }

    fn check(&self) -> Result<(), Error> {
        let value = self.value();
        let invalid = |reason: &str| {
            let name = self.name();
            Err(Error::config(format!(
                "the {name} {value:?} of the managed identity cannot be used: {reason}"
            )))
        };
        if value.trim().is_empty() {
            return invalid("it is empty; give the id, or use ManagedIdentity::system_assigned()");
        }
        if value.trim() != value {
            return invalid("it begins or ends with white space; trim it");
        }
        let is_path = value.starts_with('/');
        match self {
            Self::Client(_) | Self::Object(_) if is_path => {
                invalid("it is a resource id; use ManagedIdentity::user_assigned_resource_id(..)")
            }
            Self::Client(_) | Self::Object(_) if !is_guid(value) => invalid(
                "it is not a GUID such as '11111111-2222-3333-4444-555555555555'; copy the id of the identity from the Azure portal",
            ),
            Self::Resource(_) if is_guid(value) => invalid(
                "it is a GUID; use ManagedIdentity::user_assigned_client_id(..) or user_assigned_object_id(..)",
            ),
            Self::Resource(_) if !is_resource_id(value) => invalid(
                "it is not '/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}'; copy the resource id of the identity from the Azure portal",
            ),
            _ => Ok(()),
        }
    }
}

/// Returns whether a text is a GUID with hyphens and without braces.
fn is_guid(text: &str) -> bool {
    text.len() == GUID_LENGTH && Uuid::try_parse(text).is_ok()
}

/// Returns whether a text is the resource id of a user-assigned identity. Azure ignores the case.
fn is_resource_id(text: &str) -> bool {
    let folded = text.to_ascii_lowercase();
    let segments: Vec<&str> = folded.split('/').collect();
    let is_known = matches!(
        segments.as_slice(),
        [
            "",
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            "microsoft.managedidentity",
            "userassignedidentities",
            _,
        ]
    );
    let is_plain = |c: char| c.is_ascii_graphic() && !"?#&\\%{}<>".contains(c);
    is_known && segments.iter().skip(1).all(|part| !part.is_empty()) && text.chars().all(is_plain)
}

const GUID_LENGTH: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "11111111-2222-3333-4444-555555555555";
    const RESOURCE: &str = "/subscriptions/1/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n";

    #[test]
    fn an_id_of_another_form_is_rejected_with_the_value_and_the_remedy() {
        use ManagedIdentity as Identity;
        for (identity, expected) in [
            (Identity::system_assigned(), None),
            (Identity::user_assigned_client_id(GUID), None),
            (Identity::user_assigned_object_id(GUID), None),
            (Identity::user_assigned_resource_id(RESOURCE), None),
            (
                Identity::user_assigned_client_id(""),
                Some("client id \"\" of the managed identity cannot be used: it is empty"),
            ),
            (Identity::user_assigned_object_id(" "), Some("it is empty")),
            (
                Identity::user_assigned_client_id(format!("{GUID}\n")),
                Some("white space"),
            ),
            (
                Identity::user_assigned_client_id(RESOURCE),
                Some("user_assigned_resource_id(..)"),
            ),
            (
                Identity::user_assigned_object_id(RESOURCE),
                Some("object id \"/subscriptions"),
            ),
            (
                Identity::user_assigned_client_id("my-identity"),
                Some("not a GUID"),
            ),
            (
                Identity::user_assigned_client_id(format!("{{{GUID}}}")),
                Some("not a GUID"),
            ),
            (
                Identity::user_assigned_object_id(GUID.replace('-', "")),
                Some("not a GUID"),
            ),
            (
                Identity::user_assigned_resource_id(GUID),
                Some("it is a GUID; use"),
            ),
            (
                Identity::user_assigned_resource_id("my-identity"),
                Some("it is not '/subscriptions/"),
            ),
            (
                Identity::user_assigned_resource_id(format!("{RESOURCE}/")),
                Some("it is not '/subscriptions/"),
            ),
            (
                Identity::user_assigned_resource_id(RESOURCE.replace("/g/", "//")),
                Some("it is not '/subscriptions/"),
            ),
            (
                Identity::user_assigned_resource_id(format!("{RESOURCE}?x=1")),
                Some("it is not '/subscriptions/"),
            ),
            (
                Identity::user_assigned_resource_id(
                    RESOURCE.replace("userAssignedIdentities", "virtualMachines"),
                ),
                Some("it is not '/subscriptions/"),
            ),
        ] {
            match (identity.check(), expected) {
                (Ok(()), None) => {}
                (Err(error @ Error::Config(_)), Some(text)) => {
                    assert!(error.to_string().contains(text), "{error}");
                }
                other => panic!("{identity}: {other:?}"),
            }
        }
    }
}
