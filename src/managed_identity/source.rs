//! The source of tokens: which of Azure's endpoints serves this host.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response};
use url::Url;

use super::app_service::AppService;
use super::azure_arc::AzureArc;
use super::azure_ml::AzureMl;
use super::cloud_shell::CloudShell;
use super::environment::{
    HostEnvironment, IDENTITY_ENDPOINT, IDENTITY_HEADER, IDENTITY_SERVER_THUMBPRINT, IMDS_ENDPOINT,
    MSI_ENDPOINT, MSI_SECRET,
};
use super::imds::Imds;
use super::request::RequestValues;
use super::response::Rejection;
use super::service_fabric::{ServiceFabric, Thumbprint};
use super::{ManagedIdentity, Resource};
use crate::error::Error;
use crate::secret::Secret;

/// The kinds of sources, in the order of detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceKind {
    ServiceFabric,
    AppService,
    AzureMl,
    CloudShell,
    AzureArc,
    Imds,
}

impl SourceKind {
    /// Detects the source by the variables alone. `None` leaves the Azure Arc agent and IMDS.
    ///
    /// The order is MSAL's. IMDS is not probed.
    pub(super) fn of_variables(environment: &HostEnvironment) -> Option<Self> {
        let all = |names: &[&str]| names.iter().all(|name| environment.is_set(name));
        Some(match () {
            () if all(&[
                IDENTITY_ENDPOINT,
                IDENTITY_HEADER,
                IDENTITY_SERVER_THUMBPRINT,
            ]) =>
            {
                Self::ServiceFabric
            }
            () if all(&[IDENTITY_ENDPOINT, IDENTITY_HEADER]) => Self::AppService,
            () if all(&[MSI_ENDPOINT, MSI_SECRET]) => Self::AzureMl,
            () if all(&[MSI_ENDPOINT]) => Self::CloudShell,
            () if all(&[IDENTITY_ENDPOINT, IMDS_ENDPOINT]) => Self::AzureArc,
            () => return None,
        })
    }

    /// Detects the source. `has_arc_agent` tells whether the Azure Arc agent is installed.
    pub(super) fn detect(environment: &HostEnvironment, has_arc_agent: bool) -> Self {
        Self::of_variables(environment).unwrap_or(match has_arc_agent {
            true => Self::AzureArc,
            false => Self::Imds,
        })
    }

    /// Checks that the source accepts the identity's kind of id.
    fn check_id(self, identity: &ManagedIdentity) -> Result<(), Error> {
        match self {
            Self::ServiceFabric => ServiceFabric::check_id(identity),
            Self::AzureMl => AzureMl::check_id(identity),
            Self::CloudShell => CloudShell::check_id(identity),
            Self::AppService | Self::AzureArc | Self::Imds => Ok(()),
        }
    }

    /// Returns the name of the source for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ServiceFabric => "Service Fabric",
            Self::AppService => "App Service",
            Self::AzureMl => "Azure Machine Learning",
            Self::CloudShell => "Cloud Shell",
            Self::AzureArc => "Azure Arc",
            Self::Imds => "the instance metadata service (IMDS)",
        }
    }

    /// Returns the variables that decide for this source and against the sources before it.
    fn deciding_variables(self) -> &'static [&'static str] {
        match self {
            Self::ServiceFabric | Self::AppService => &[
                IDENTITY_ENDPOINT,
                IDENTITY_HEADER,
                IDENTITY_SERVER_THUMBPRINT,
            ],
            Self::AzureMl | Self::CloudShell => &[MSI_ENDPOINT, MSI_SECRET],
            Self::AzureArc | Self::Imds => &[
                IDENTITY_ENDPOINT,
                IDENTITY_HEADER,
                MSI_ENDPOINT,
                IMDS_ENDPOINT,
            ],
        }
    }
}

/// Checks that the host accepts the identity's kind of id, as far as the variables tell.
///
/// # Errors
///
/// [`Error::Config`] with the identity and the host.
pub(crate) fn check_id_on_host(
    identity: &ManagedIdentity,
    environment: &HostEnvironment,
) -> Result<(), Error> {
    let kind = SourceKind::of_variables(environment);
    kind.map_or(Ok(()), |kind| kind.check_id(identity))
}

/// The reason why a source was selected, in the names of variables and never in their values.
pub(super) struct Evidence {
    source: SourceKind,
    set: Vec<&'static str>,
    unset: Vec<&'static str>,
    /// The state of the Azure Arc agent, where it decided.
    agent: Option<String>,
}

impl Evidence {
    pub(super) fn of(source: SourceKind, environment: &HostEnvironment) -> Self {
        let variables = source.deciding_variables().iter().copied();
        let (set, unset) = variables.partition(|name| environment.is_set(name));
        let agent = environment.arc_agent_path().map(|path| path.display());
        let agent = match (source, SourceKind::of_variables(environment), agent) {
            (SourceKind::AzureArc, None, Some(path)) => Some(format!("{path} exists")),
            (SourceKind::Imds, _, Some(path)) => Some(format!("{path} does not exist")),
            _ => None,
        };
        Self {
            source,
            set,
            unset,
            agent,
        }
    }
}

/// Names the endpoint, and the conditions that selected it.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |names: &[&str]| match names.len() {
            1 => "is",
            _ => "are",
        };
        let mut parts = Vec::new();
        if !self.set.is_empty() {
            parts.push(format!("{} {} set", list(&self.set), verb(&self.set)));
        }
        if !self.unset.is_empty() {
            let unset = &self.unset;
            parts.push(format!("{} {} not set", list(unset), verb(unset)));
        }
        parts.extend(self.agent.clone());
        let name = self.source.name();
        write!(
            f,
            "the managed identity endpoint of {name} (selected because {})",
            parts.join("; ")
        )
    }
}

/// Joins names as `a, b and c`.
fn list(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// The endpoint of a host, with the checked values of the host's variables.
pub(super) enum Source {
    ServiceFabric(ServiceFabric),
    AppService(AppService),
    AzureMl(AzureMl),
    CloudShell(CloudShell),
    AzureArc(AzureArc),
    Imds(Imds),
}

impl Source {
    /// Reads and checks the variables of the source, and checks that the source accepts the
    /// identity's kind of id. Does no I/O.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the name of the variable.
    pub(super) fn read(
        kind: SourceKind,
        environment: &HostEnvironment,
        identity: &ManagedIdentity,
    ) -> Result<Self, Error> {
        Ok(match kind {
            SourceKind::ServiceFabric => {
                Self::ServiceFabric(ServiceFabric::read(environment, identity)?)
            }
            SourceKind::AppService => Self::AppService(AppService::read(environment)?),
            SourceKind::AzureMl => Self::AzureMl(AzureMl::read(environment, identity)?),
            SourceKind::CloudShell => Self::CloudShell(CloudShell::read(environment, identity)?),
            SourceKind::AzureArc => Self::AzureArc(AzureArc::read(environment)?),
            SourceKind::Imds => Self::Imds(Imds::read(environment)?),
        })
    }

    pub(super) fn kind(&self) -> SourceKind {
        match self {
            Self::ServiceFabric(_) => SourceKind::ServiceFabric,
            Self::AppService(_) => SourceKind::AppService,
            Self::AzureMl(_) => SourceKind::AzureMl,
            Self::CloudShell(_) => SourceKind::CloudShell,
            Self::AzureArc(_) => SourceKind::AzureArc,
            Self::Imds(_) => SourceKind::Imds,
        }
    }

    pub(super) fn endpoint(&self) -> &Url {
        match self {
            Self::ServiceFabric(source) => &source.endpoint,
            Self::AppService(source) => &source.endpoint,
            Self::AzureMl(source) => &source.endpoint,
            Self::CloudShell(source) => &source.endpoint,
            Self::AzureArc(source) => &source.endpoint,
            Self::Imds(source) => &source.endpoint,
        }
    }

    /// Returns the thumbprint that the server's certificate must have.
    pub(super) fn thumbprint(&self) -> Option<Thumbprint> {
        match self {
            Self::ServiceFabric(source) => Some(source.thumbprint),
            _ => None,
        }
    }

    /// Returns the secret that the requests carry, which no error may repeat.
    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ServiceFabric(source) => Some(&source.secret),
            Self::AppService(source) => Some(&source.secret),
            Self::AzureMl(source) => Some(&source.secret),
            Self::CloudShell(_) | Self::AzureArc(_) | Self::Imds(_) => None,
        }
    }

    /// Builds the token request.
    pub(super) fn request(&self, values: &RequestValues<'_>) -> Result<Request<Bytes>, Error> {
        match self {
            Self::ServiceFabric(source) => source.request(values),
            Self::AppService(source) => source.request(values),
            Self::AzureMl(source) => source.request(values),
            Self::CloudShell(source) => source.request(values),
            Self::AzureArc(source) => source.request(values, None),
            Self::Imds(source) => source.request(values),
        }
    }

    /// Builds the second request, where the response to the first one is a challenge.
    ///
    /// Reads the key file of the challenge. `None` leaves the response as it is.
    pub(super) async fn answer_challenge(
        &self,
        response: &Response<Bytes>,
        values: &RequestValues<'_>,
    ) -> Result<Option<(Request<Bytes>, Secret)>, Error> {
        match self {
            Self::AzureArc(source) => source.answer_challenge(response, values).await,
            _ => Ok(None),
        }
    }

    /// Returns whether a response without a named identity proves nothing, because the endpoint
    /// may have ignored the id of the request.
    pub(super) fn may_ignore_id(&self) -> bool {
        matches!(self, Self::AzureArc(_))
    }

    /// Returns what to do about a rejection.
    pub(super) fn advice(
        &self,
        rejection: &Rejection<'_>,
        identity: &ManagedIdentity,
        resource: &Resource,
    ) -> Option<String> {
        match self {
            Self::ServiceFabric(_) => ServiceFabric::advice(rejection, identity),
            Self::AppService(_) => AppService::advice(rejection, identity),
            Self::AzureMl(_) => AzureMl::advice(rejection, identity),
            Self::CloudShell(_) => CloudShell::advice(rejection, resource),
            Self::AzureArc(_) => AzureArc::advice(rejection, identity, resource),
            Self::Imds(_) => Imds::advice(rejection, identity, resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_detected_in_msals_order_and_says_why() {
        let all = [
            IDENTITY_ENDPOINT,
            IDENTITY_HEADER,
            IDENTITY_SERVER_THUMBPRINT,
            MSI_ENDPOINT,
            MSI_SECRET,
            IMDS_ENDPOINT,
        ];
        for (set, has_agent, expected, evidence) in [
            (
                &all[..],
                true,
                SourceKind::ServiceFabric,
                "IDENTITY_ENDPOINT, IDENTITY_HEADER and IDENTITY_SERVER_THUMBPRINT are set",
            ),
            (
                &[
                    IDENTITY_ENDPOINT,
                    IDENTITY_HEADER,
                    MSI_ENDPOINT,
                    MSI_SECRET,
                    IMDS_ENDPOINT,
                ],
                true,
                SourceKind::AppService,
                "IDENTITY_ENDPOINT and IDENTITY_HEADER are set; IDENTITY_SERVER_THUMBPRINT is not set",
            ),
            (
                &[IDENTITY_ENDPOINT, MSI_ENDPOINT, MSI_SECRET, IMDS_ENDPOINT],
                true,
                SourceKind::AzureMl,
                "MSI_ENDPOINT and MSI_SECRET are set",
            ),
            (
                &[IDENTITY_ENDPOINT, MSI_ENDPOINT, IMDS_ENDPOINT],
                true,
                SourceKind::CloudShell,
                "MSI_ENDPOINT is set; MSI_SECRET is not set",
            ),
            (
                &[IDENTITY_ENDPOINT, IMDS_ENDPOINT],
                false,
                SourceKind::AzureArc,
                "IDENTITY_ENDPOINT and IMDS_ENDPOINT are set; IDENTITY_HEADER and MSI_ENDPOINT are not set",
            ),
            (
                &[],
                true,
                SourceKind::AzureArc,
                "IDENTITY_ENDPOINT, IDENTITY_HEADER, MSI_ENDPOINT and IMDS_ENDPOINT are not set; /himds exists",
            ),
            (
                &[IDENTITY_ENDPOINT],
                false,
                SourceKind::Imds,
                "IDENTITY_ENDPOINT is set; IDENTITY_HEADER, MSI_ENDPOINT and IMDS_ENDPOINT are not set; /himds does not exist",
            ),
            (
                &[
                    IDENTITY_HEADER,
                    IDENTITY_SERVER_THUMBPRINT,
                    MSI_SECRET,
                    IMDS_ENDPOINT,
                ],
                false,
                SourceKind::Imds,
                "IDENTITY_HEADER and IMDS_ENDPOINT are set; IDENTITY_ENDPOINT and MSI_ENDPOINT are not set; /himds does not exist",
            ),
        ] {
            let variables = set.iter().map(|name| (*name, "hunter2"));
            let environment = HostEnvironment::from_variables(variables).arc_agent("/himds");
            let source = SourceKind::detect(&environment, has_agent);
            assert_eq!(source, expected, "{set:?}");
            let text = Evidence::of(source, &environment).to_string();
            let name = source.name();
            let whole =
                format!("the managed identity endpoint of {name} (selected because {evidence})");
            assert_eq!(text, whole);
        }
    }
}
