//! The hosts of Entra's preview of certificate-bound tokens (`mtls_pop`).

use url::Url;

use crate::authority::Authority;
use crate::error::Error;

/// Returns the host for token requests, by the host that the caller named and the preferred host of
/// its cloud.
///
/// # Errors
///
/// [`Error::Config`] for a host without the preview.
pub(super) fn token_base(named: &str, preferred: &Url) -> Result<Url, Error> {
    let named = Url::parse(named).ok();
    let named = named.as_ref().and_then(Url::host_str).unwrap_or_default();
    let host = preferred.host_str().unwrap_or_default();
    let refused = || {
        Error::config(format!(
            "the host '{named}' has no preview of certificate-bound tokens (mtls_pop); use Cloud::Public, Cloud::UsGovernment or Cloud::China, or a custom host that begins with 'login.'"
        ))
    };
    if WITHOUT_PREVIEW.contains(&named) {
        return Err(refused());
    }
    let host = match host.strip_prefix("login.") {
        Some("microsoftonline.com") => "mtlsauth.microsoft.com".to_owned(),
        Some(domain) => format!("mtlsauth.{domain}"),
        None => return Err(refused()),
    };
    let mut base = preferred.clone();
    base.set_host(Some(&host)).map_err(|_| refused())?;
    Ok(base)
}

/// Returns the error for an authority other than Microsoft Entra ID.
pub(super) fn unsupported(authority: &Authority) -> Error {
    Error::config(format!(
        "the authority '{authority}' has no preview of certificate-bound tokens (mtls_pop), which Authority::entra(..) alone has; use tls_client_auth(..) for an OpenID provider"
    ))
}

/// Aliases whose clouds have the preview under the preferred names alone.
const WITHOUT_PREVIEW: [&str; 2] = ["login.usgovcloudapi.net", "login.chinacloudapi.cn"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::preferred_host;

    #[test]
    fn each_cloud_has_its_host() {
        for (named, expected) in [
            ("login.microsoftonline.com", Some("mtlsauth.microsoft.com")),
            ("login.windows.net", Some("mtlsauth.microsoft.com")),
            (
                "login.microsoftonline.us",
                Some("mtlsauth.microsoftonline.us"),
            ),
            (
                "login.partner.microsoftonline.cn",
                Some("mtlsauth.partner.microsoftonline.cn"),
            ),
            (
                "login.sovcloud-identity.fr",
                Some("mtlsauth.sovcloud-identity.fr"),
            ),
            ("login.contoso.example", Some("mtlsauth.contoso.example")),
            ("login.usgovcloudapi.net", None),
            ("login.chinacloudapi.cn", None),
            ("login-us.microsoftonline.com", None),
            ("id.contoso.example", None),
            ("127.0.0.1", None),
        ] {
            let preferred = preferred_host(named).unwrap_or(named);
            let preferred = Url::parse(&format!("https://{preferred}:8443/")).unwrap();
            let base = token_base(&format!("https://{named}"), &preferred);
            match (base, expected) {
                (Ok(base), Some(host)) => {
                    assert_eq!(base.as_str(), format!("https://{host}:8443/"), "{named}");
                }
                (Err(error), None) => {
                    assert!(error.to_string().contains(named), "{named}: {error}");
                }
                (base, _) => panic!("{named}: {base:?}"),
            }
        }
    }
}
