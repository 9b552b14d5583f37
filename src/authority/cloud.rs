use std::fmt;

use super::redacted;

/// A national cloud of Microsoft Entra ID, or a host that answers as one.
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
    /// Another host that speaks Entra's protocol, as `login.example.org` or with scheme and port
    /// as `https://login.example.org:8443`; one of the known clouds by any of its names is that
    /// cloud.
    ///
    /// The worldwide cloud is asked once a day whether it knows the host (instance discovery), before
    /// a credential is sent there: if it says no, that is an error; if it has never answered and
    /// cannot be reached within ten seconds, the host is trusted with a warning in the log, and the
    /// question is asked again five minutes later. In a network without the internet choose
    /// [`without_instance_discovery`](crate::Authority::without_instance_discovery). A loopback
    /// address such as `http://127.0.0.1:8080` is trusted as it is, and may be `http`.
    Custom(String),
}

impl Cloud {
    /// Scheme, host and port, as yet unchecked where the host is a custom one.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Public => https("login.microsoftonline.com"),
            Self::UsGovernment => https("login.microsoftonline.us"),
            // Entra's metadata names this host, not login.chinacloudapi.cn, as the one to send to.
            Self::China => https("login.partner.microsoftonline.cn"),
            Self::GovFr => https("login.sovcloud-identity.fr"),
            Self::GovDe => https("login.sovcloud-identity.de"),
            Self::GovSg => https("login.sovcloud-identity.sg"),
            Self::Custom(host) if host.contains("://") => host.trim_end_matches('/').to_owned(),
            Self::Custom(host) => https(host.trim_end_matches('/')),
        }
    }

    /// The cloud that has `host` as one of its names.
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

fn https(host: &str) -> String {
    format!("https://{host}")
}

/// The name by which a known cloud is to be sent to, for any of its names; `None` for an unknown
/// host. Both are in lower case.
pub(crate) fn preferred_host(host: &str) -> Option<&'static str> {
    let mut clouds = CLOUDS.iter();
    let names = clouds.find(|names| names.contains(&host))?;
    names.first().copied()
}

/// The clouds of Entra, each by the name to send to and then its others.
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

/// Shows the host, without a user name or password that somebody may have put before it.
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
