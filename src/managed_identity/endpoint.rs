//! The URLs of token endpoints, as the host's variables give them.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

use super::environment::HostEnvironment;
use crate::authority::address;
use crate::error::Error;

/// The servers that a source's endpoint may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A server of this machine. `localhost` counts, because the Azure Arc agent writes the name.
    Loopback,
    /// A server of this network, or any server with https.
    Local,
    /// Any server with https.
    Https,
}

/// Reads the endpoint of a variable. `source` is the name of the source, for messages.
pub(super) fn endpoint(
    environment: &HostEnvironment,
    variable: &str,
    source: &str,
    reach: Reach,
) -> Result<Url, Error> {
    let text = environment.required(variable)?;
    let label = format!("the variable {variable} of {source}:");
    check(&label, &text, reach)
}

fn check(label: &str, text: &str, reach: Reach) -> Result<Url, Error> {
    // The text may be a secret of another variable, so it is not shown.
    if !text.contains("://") {
        return Err(Error::config(format!(
            "{label} the value is no URL, because nothing like 'http://' stands in front; restore the value of the host"
        )));
    }
    let url = address::parse(label, text)?;
    let invalid = |reason: &str| Err(address::invalid_url(label, text, reason));
    match (url.scheme(), reach) {
        ("http" | "https", Reach::Loopback) if is_this_machine(&url) => Ok(url),
        ("http" | "https", Reach::Loopback) => invalid(
            "its host must be this machine (127.0.0.1, [::1] or localhost), because the request carries a key of this machine; restore the value of the host",
        ),
        ("https", _) => Ok(url),
        ("http", Reach::Https) => invalid(
            "the scheme must be https, because the request carries a secret; restore the value of the host",
        ),
        ("http", Reach::Local) if is_local(&url) => Ok(url),
        ("http", Reach::Local) => invalid(
            "http would send a secret across the internet; use an address of this network, or https",
        ),
        _ => invalid("the scheme must be http or https"),
    }
}

/// Returns whether the host of a URL is this machine.
fn is_this_machine(url: &Url) -> bool {
    address::is_loopback(url) || matches!(url.host(), Some(Host::Domain("localhost")))
}

/// Returns whether the host of a URL is in a private network, by address or by name.
fn is_local(url: &Url) -> bool {
    let is_internal = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || is_unicast_internal(v6),
    };
    match url.host() {
        Some(Host::Ipv4(address)) => is_internal(address.into()),
        Some(Host::Ipv6(address)) => is_internal(address.into()),
        Some(Host::Domain(name)) => {
            !name.contains('.')
                || [".local", ".internal"]
                    .iter()
                    .any(|end| name.ends_with(end))
        }
        None => false,
    }
}

/// Returns whether an address is link-local or unique local ([RFC 4291 section 2.5.6], RFC 4193).
///
/// [RFC 4291 section 2.5.6]: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.6
fn is_unicast_internal(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first & 0xffc0 == 0xfe80 || first & 0xfe00 == 0xfc00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_where_its_source_must_be() {
        for (text, reach, reason) in [
            ("http://127.0.0.1:41741/msi/token", Reach::Local, None),
            ("http://localhost:41741/msi/token", Reach::Local, None),
            ("http://169.254.129.2:8081/msi/token", Reach::Local, None),
            ("http://10.0.3.4/msi/token", Reach::Local, None),
            ("http://[fe80::1]/msi/token", Reach::Local, None),
            ("http://[fd00::1]/msi/token", Reach::Local, None),
            ("http://identity/msi/token", Reach::Local, None),
            (
                "http://identity.kube-system.svc.cluster.local/",
                Reach::Local,
                None,
            ),
            ("https://identity.example/msi/token", Reach::Local, None),
            (
                "http://identity.example/msi/token",
                Reach::Local,
                Some("across the internet"),
            ),
            (
                "http://8.8.8.8/msi/token",
                Reach::Local,
                Some("across the internet"),
            ),
            (
                "http://[2001:db8::1]/msi/token",
                Reach::Local,
                Some("across the internet"),
            ),
            (
                "ftp://127.0.0.1/msi/token",
                Reach::Local,
                Some("must be http or https"),
            ),
            (
                "127.0.0.1/msi/token",
                Reach::Local,
                Some("the value is no URL"),
            ),
            ("hunter2", Reach::Local, Some("the value is no URL")),
            (
                "http://user:hunter2@127.0.0.1/",
                Reach::Local,
                Some("contains '@'"),
            ),
            ("http://127.0.0.1/#x", Reach::Local, Some("fragment")),
            ("http://127.0.0.1:40342/x", Reach::Loopback, None),
            ("http://localhost:40342/x", Reach::Loopback, None),
            ("http://[::1]:40342/x", Reach::Loopback, None),
            (
                "http://10.0.3.4:40342/x",
                Reach::Loopback,
                Some("must be this machine"),
            ),
            (
                "http://localhost.example:40342/x",
                Reach::Loopback,
                Some("must be this machine"),
            ),
            (
                "https://agent.example/x",
                Reach::Loopback,
                Some("must be this machine"),
            ),
            ("https://localhost:2377/x", Reach::Https, None),
            (
                "http://localhost:2377/x",
                Reach::Https,
                Some("must be https"),
            ),
        ] {
            let label = "the variable IDENTITY_ENDPOINT of App Service:";
            match (check(label, text, reach), reason) {
                (Ok(_), None) => {}
                (Err(error @ Error::Config(_)), Some(reason)) => {
                    let error = error.to_string();
                    assert!(error.starts_with(label), "{error}");
                    assert!(error.contains(reason), "{error}");
                    assert!(!error.contains("hunter2"), "{error}");
                }
                other => panic!("{text} {reach:?}: {other:?}"),
            }
        }
    }
}
