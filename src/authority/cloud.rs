use std::fmt;

use super::redacted;

/// A national cloud of Microsoft Entra ID, or a custom host with Entra's protocol.
#[doc(alias = "AzureCloudInstance")]
#[doc(alias = "AzureAuthorityHosts")]
#[doc(alias = "national cloud")]
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cloud {
    /// The worldwide cloud, `login.microsoftonline.com`.
    Public,
    /// Azure Government, `login.microsoftonline.us`.
    UsGovernment,
    /// Azure operated by 21Vianet in China, `login.partner.microsoftonline.cn`.
    China,
    /// The sovereign cloud of France, `login.sovcloud-identity.fr`.
    GovFr,
    /// The sovereign cloud of Germany, `login.sovcloud-identity.de`.
    GovDe,
    /// The sovereign cloud of Singapore, `login.sovcloud-identity.sg`.
    GovSg,
    /// A custom host, such as `login.example.org` or `https://login.example.org:8443`.
    ///
    /// The host name of a known cloud, or an alias of one, selects that cloud.
    ///
    /// Before the client sends a credential to the host, the client queries
    /// `login.microsoftonline.com` for the host, once a day (instance discovery). If the worldwide
    /// cloud does not know the host, the token request fails. If the worldwide cloud has never
    /// responded and cannot be reached within ten seconds, the client trusts the host, logs a
    /// warning, and queries again five minutes later. In a network without internet access, call
    /// [`without_instance_discovery`](crate::Authority::without_instance_discovery).
    ///
    /// A loopback address such as `http://127.0.0.1:8080` is trusted without instance discovery and
    /// can be `http`.
    Custom(String),
}

impl Cloud {
    /// Returns scheme, host and port. A custom host is not validated yet.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Public => https("login.microsoftonline.com"),
            Self::UsGovernment => https("login.microsoftonline.us"),
            // Entra's metadata prefers this host to login.chinacloudapi.cn.
            Self::China => https("login.partner.microsoftonline.cn"),
            Self::GovFr => https("login.sovcloud-identity.fr"),
            Self::GovDe => https("login.sovcloud-identity.de"),
            Self::GovSg => https("login.sovcloud-identity.sg"),
            Self::Custom(host) if host.contains("://") => host.trim_end_matches('/').to_owned(),
            Self::Custom(host) => https(host.trim_end_matches('/')),
        }
    }

    /// Returns the known cloud with the host name or alias `host`.
    pub(super) fn from_host(host: &str) -> Option<Self> {
        Some(match preferred_host(host)? {
            "login.microsoftonline.com" => Self::Public,
            "login.microsoftonline.us" => Self::UsGovernment,
            "login.partner.microsoftonline.cn" => Self::China,
            "login.sovcloud-identity.fr" => Self::GovFr,
            "login.sovcloud-identity.de" => Self::GovDe,
            "login.sovcloud-identity.sg" => Self::GovSg,
            other => Self::Custom(other.to_owned()),
        })
    }
}

/// Returns the scope of a federated credential's assertion, by the token endpoint's host.
///
/// Each cloud accepts assertions of the managed identities in the same cloud alone.
pub(crate) fn token_exchange_scope(host: &str) -> &'static str {
    match preferred_host(host) {
        Some("login.microsoftonline.us" | "login-us.microsoftonline.com") => {
            "api://AzureADTokenExchangeUSGov/.default"
        }
        Some("login.partner.microsoftonline.cn") => "api://AzureADTokenExchangeChina/.default",
        _ => "api://AzureADTokenExchange/.default",
    }
}

fn https(host: &str) -> String {
    format!("https://{host}")
}

/// Returns the host name for requests to a known cloud, given any of the cloud's host names.
///
/// Returns `None` for an unknown host. `host` and the result are in lower case.
pub(crate) fn preferred_host(host: &str) -> Option<&'static str> {
    let mut clouds = CLOUDS.iter();
    let names = clouds.find(|names| names.contains(&host))?;
    names.first().copied()
}

/// The host names of Entra's clouds. Each row begins with the host name for requests.
const CLOUDS: &[&[&str]] = &[
    &[
        "login.microsoftonline.com",
        "login.windows.net",
        "login.microsoft.com",
        "sts.windows.net",
    ],
    &["login.microsoftonline.us", "login.usgovcloudapi.net"],
    &["login.partner.microsoftonline.cn", "login.chinacloudapi.cn"],
    &["login-us.microsoftonline.com"],
    &["login.microsoftonline.de"],
    &["login.sovcloud-identity.fr"],
    &["login.sovcloud-identity.de"],
    &["login.sovcloud-identity.sg"],
    &[
        "login.windows-ppe.net",
        "sts.windows-ppe.net",
        "login.microsoft-ppe.com",
    ],
];

/// Writes a custom host without a user name, a password or a query.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("Public"),
            Self::UsGovernment => f.write_str("UsGovernment"),
            Self::China => f.write_str("China"),
            Self::GovFr => f.write_str("GovFr"),
            Self::GovDe => f.write_str("GovDe"),
            Self::GovSg => f.write_str("GovSg"),
            Self::Custom(host) => f.debug_tuple("Custom").field(&redacted(host)).finish(),
        }
    }
}
