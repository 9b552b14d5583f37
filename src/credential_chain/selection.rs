//! The links of the default chain, and the variable that selects from these links.

use super::variables::CLIENT_ID;
use super::{AzureCli, AzureDeveloperCli, ChainLink};
use crate::error::Error;
use crate::managed_identity::{HostEnvironment, ManagedIdentity};

/// The links of the default chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DefaultLink {
    Environment,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
    AzureDeveloperCli,
}

use DefaultLink as D;

impl DefaultLink {
    /// All links, in the order of Azure's SDKs.
    const ALL: &[Self] = &[
        D::Environment,
        D::WorkloadIdentity,
        D::ManagedIdentity,
        D::AzureCli,
        D::AzureDeveloperCli,
    ];
    /// The links of a deployed program.
    const PRODUCTION: &[Self] = &[D::Environment, D::WorkloadIdentity, D::ManagedIdentity];
    /// The links of a developer's machine.
    const DEVELOPMENT: &[Self] = &[D::AzureCli, D::AzureDeveloperCli];

    fn link(self, environment: &HostEnvironment) -> Result<ChainLink, Error> {
        Ok(match self {
            Self::Environment => ChainLink::environment(),
            Self::WorkloadIdentity => ChainLink::workload_identity(),
            // As Azure's SDKs do.
            Self::ManagedIdentity => match environment.text(CLIENT_ID)? {
                Some(id) => ManagedIdentity::user_assigned_client_id(id.trim()).into(),
                None => ManagedIdentity::system_assigned().into(),
            },
            Self::AzureCli => AzureCli::new().into(),
            Self::AzureDeveloperCli => AzureDeveloperCli::new().into(),
        })
    }
}

/// Returns the links of the default chain that `AZURE_TOKEN_CREDENTIALS` selects.
pub(super) fn default_links(environment: &HostEnvironment) -> Result<Vec<ChainLink>, Error> {
    let value = environment.text(VARIABLE)?;
    let selected = match value.as_deref().map(str::trim) {
        None => DefaultLink::ALL,
        Some(value) => selected(value)?,
    };
    let links = selected.iter().map(|link| link.link(environment));
    links.collect()
}

/// Returns the links of a value of the variable, in any case.
fn selected(value: &str) -> Result<&'static [DefaultLink], Error> {
    let known = SELECTIONS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value));
    match known {
        Some((_, links)) => Ok(links),
        None => {
            let accepted: Vec<&str> = SELECTIONS.iter().map(|(name, _)| *name).collect();
            let accepted = accepted.join(", ");
            let is_other = OTHER_SDKS
                .iter()
                .any(|name| name.eq_ignore_ascii_case(value));
            let reason = match is_other {
                true => "names a credential that this library does not have",
                false => "is not known",
            };
            Err(Error::config(format!(
                "the value {value:?} of the variable {VARIABLE} {reason}; set one of {accepted}, or remove the variable"
            )))
        }
    }
}

const VARIABLE: &str = "AZURE_TOKEN_CREDENTIALS";

const SELECTIONS: [(&str, &[DefaultLink]); 7] = [
    ("dev", DefaultLink::DEVELOPMENT),
    ("prod", DefaultLink::PRODUCTION),
    ("EnvironmentCredential", &[D::Environment]),
    ("WorkloadIdentityCredential", &[D::WorkloadIdentity]),
    ("ManagedIdentityCredential", &[D::ManagedIdentity]),
    ("AzureCliCredential", &[D::AzureCli]),
    ("AzureDeveloperCliCredential", &[D::AzureDeveloperCli]),
];

/// The values that other SDKs of Azure accept.
const OTHER_SDKS: [&str; 6] = [
    "AzurePowerShellCredential",
    "BrokerCredential",
    "InteractiveBrowserCredential",
    "SharedTokenCacheCredential",
    "VisualStudioCodeCredential",
    "VisualStudioCredential",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential_chain::{CredentialChain, Link, PlannedLink};

    /// Returns the names of the planned links.
    fn plan(chain: &CredentialChain, variables: &[(&str, &str)]) -> Result<Vec<String>, Error> {
        let environment = HostEnvironment::from_variables(variables.iter().copied());
        let names = chain
            .plan(&environment)?
            .into_iter()
            .map(|link| match link {
                PlannedLink::Environment => "environment".to_owned(),
                PlannedLink::WorkloadIdentity => "workload".to_owned(),
                PlannedLink::ManagedIdentity {
                    identity,
                    is_probed,
                } => format!("{identity}{}", if is_probed { ", probed" } else { "" }),
                PlannedLink::AzureCli(_) => "az".to_owned(),
                PlannedLink::AzureDeveloperCli(_) => "azd".to_owned(),
                PlannedLink::Custom(link) => link.name().to_owned(),
            });
        Ok(names.collect())
    }

    #[test]
    fn the_variable_selects_from_the_default_links() {
        let system = "the system-assigned identity";
        let probed = "the system-assigned identity, probed";
        for (value, expected) in [
            ("", &["environment", "workload", probed, "az", "azd"][..]),
            ("dev", &["az", "azd"]),
            (" Dev ", &["az", "azd"]),
            ("prod", &["environment", "workload", probed]),
            ("EnvironmentCredential", &["environment"]),
            ("workloadidentitycredential", &["workload"]),
            // A link alone is not probed.
            ("ManagedIdentityCredential", &[system]),
            ("AzureCliCredential", &["az"]),
            ("AzureDeveloperCliCredential", &["azd"]),
        ] {
            let links = plan(&CredentialChain::default(), &[(VARIABLE, value)]).unwrap();
            assert_eq!(links, expected, "{value}");
        }
    }

    #[test]
    fn an_unknown_value_is_rejected_with_the_accepted_names() {
        for (value, reason) in [
            (
                "production",
                "the value \"production\" of the variable AZURE_TOKEN_CREDENTIALS is not known",
            ),
            (
                "azurepowershellcredential",
                "names a credential that this library does not have",
            ),
        ] {
            let error = plan(&CredentialChain::default(), &[(VARIABLE, value)]).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(reason), "{text}");
            assert!(
                text.contains("set one of dev, prod, EnvironmentCredential, WorkloadIdentityCredential, ManagedIdentityCredential, AzureCliCredential, AzureDeveloperCliCredential, or"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_default_identity_is_the_one_of_the_variable() {
        let id = "11111111-2222-3333-4444-555555555555";
        let variables = [(VARIABLE, "ManagedIdentityCredential"), (CLIENT_ID, id)];
        let links = plan(&CredentialChain::default(), &variables).unwrap();
        let expected = format!("the user-assigned identity with the client id '{id}'");
        assert_eq!(links, [expected]);
    }

    #[test]
    fn a_chain_of_the_caller_ignores_the_variable() {
        let chain = CredentialChain::new()
            .then(AzureDeveloperCli::new())
            .then(ManagedIdentity::system_assigned());
        let links = plan(&chain, &[(VARIABLE, "prod")]).unwrap();
        assert_eq!(links, ["azd", "the system-assigned identity, probed"]);
        let error = plan(&CredentialChain::new(), &[]).unwrap_err();
        assert!(error.to_string().contains("no link"), "{error}");
        // The caller's link comes after the selected links.
        let chain = CredentialChain::default().then(AzureCli::new());
        let links = plan(&chain, &[(VARIABLE, "EnvironmentCredential")]).unwrap();
        assert_eq!(links, ["environment", "az"]);
    }
}
