/// The kinds of Azure's hosts, each of which has its own endpoint for managed identity tokens.
///
/// | kind | request | accepted `api-version` | header | parameter of an identity |
/// |---|---|---|---|---|
/// | `Imds` | GET | 2018-02-01, 2019-08-01 | `Metadata: true` | `client_id`, `object_id`, `msi_res_id` |
/// | `AppService` | GET | 2019-08-01 | `X-IDENTITY-HEADER` with the secret | `client_id`, `object_id`, `principal_id`, `mi_res_id` |
/// | `ServiceFabric` | GET, https | 2020-05-01, 2019-07-01-preview | `secret` with the secret | `principalId` |
/// | `AzureArc` | GET twice, with a challenge | 2020-06-01, 2021-02-01, 2019-11-01 | `Metadata: true` | `client_id`, `object_id`, `msi_res_id` |
/// | `CloudShell` | POST of a form | none | `Metadata: true` | none |
/// | `AzureMl` | GET | 2017-09-01 | `secret` with the secret | `clientid` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostKind {
    /// A virtual machine, a scale set, an AKS node or a container group, whose endpoint is the
    /// instance metadata service.
    Imds,
    /// App Service, Functions and Container Apps.
    AppService,
    /// An application of a Service Fabric cluster.
    ServiceFabric,
    /// A server outside of Azure with the Azure Arc agent.
    AzureArc,
    /// Azure Cloud Shell.
    CloudShell,
    /// A compute of Azure Machine Learning.
    AzureMl,
}

/// The kinds of ids of a user-assigned identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdKind {
    Client,
    Object,
    Resource,
}

impl HostKind {
    /// Every kind, in the order of the variants.
    pub const ALL: [Self; 6] = [
        Self::Imds,
        Self::AppService,
        Self::ServiceFabric,
        Self::AzureArc,
        Self::CloudShell,
        Self::AzureMl,
    ];

    /// Returns the path of the token endpoint, which differs for each kind.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Imds => "/metadata/identity/oauth2/token",
            Self::AppService => "/msi/token",
            Self::ServiceFabric => "/fabric/identity/oauth2/token",
            Self::AzureArc => "/arc/metadata/identity/oauth2/token",
            Self::CloudShell => "/cloud-shell/oauth2/token",
            Self::AzureMl => "/azure-ml/MSI/auth",
        }
    }

    /// Returns the accepted versions, or none if the endpoint has no versions.
    pub(crate) fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Imds => &["2018-02-01", "2019-08-01"],
            Self::AppService => &["2019-08-01"],
            Self::ServiceFabric => &["2020-05-01", "2019-07-01-preview"],
            Self::AzureArc => &["2020-06-01", "2021-02-01", "2019-11-01"],
            Self::CloudShell => &[],
            Self::AzureMl => &["2017-09-01"],
        }
    }

    /// Returns the header that carries the secret, or `None` if the endpoint requires
    /// `Metadata: true`.
    pub(crate) fn secret_header(self) -> Option<&'static str> {
        match self {
            Self::AppService => Some("x-identity-header"),
            Self::ServiceFabric | Self::AzureMl => Some("secret"),
            Self::Imds | Self::AzureArc | Self::CloudShell => None,
        }
    }

    /// Returns the names of the parameters that select an identity.
    pub(crate) fn id_parameters(self) -> &'static [(&'static str, IdKind)] {
        match self {
            Self::Imds | Self::AzureArc => &[
                ("client_id", IdKind::Client),
                ("object_id", IdKind::Object),
                ("msi_res_id", IdKind::Resource),
            ],
            Self::AppService => &[
                ("client_id", IdKind::Client),
                ("object_id", IdKind::Object),
                ("principal_id", IdKind::Object),
                ("mi_res_id", IdKind::Resource),
            ],
            Self::ServiceFabric => &[("principalId", IdKind::Object)],
            Self::CloudShell => &[],
            Self::AzureMl => &[("clientid", IdKind::Client)],
        }
    }

    /// Returns the other parameters beside the version, the resource and the identity.
    pub(crate) fn other_parameters(self) -> &'static [&'static str] {
        match self {
            Self::ServiceFabric => &["xms_cc", "token_sha256_to_refresh"],
            _ => &[],
        }
    }
}
