use std::net::IpAddr;

use url::{Host, Url};

/// The hosts that are reached without a proxy, in the forms in which people write `NO_PROXY`.
///
/// curl, Go and Python read the variable differently, and each form here is read by one of them.
///
/// | entry | hosts |
/// |---|---|
/// | `*` | every host |
/// | `contoso.com`, `.contoso.com` | the domain and its subdomains |
/// | `*.contoso.com`, `10.*` | names and addresses that fit the pattern |
/// | `10.1.2.3`, `10.0.0.0/8`, `[::1]`, `fd00::/8` | addresses |
/// | `<local>` | names without a dot |
/// | any of these with `:443` behind | the same hosts, with this port only |
///
/// Commas, semicolons or white space stand between entries. A scheme, a path and quotes are
/// ignored.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    /// A domain and its subdomains.
    Domain(String),
    /// A pattern with at least one `*`.
    Pattern(String),
    /// An address and the number of its significant bits.
    Network(IpAddr, u8),
    WithoutDot,
}

impl NoProxy {
    pub(super) fn parse(list: &str) -> Self {
        let is_separator = |c: char| matches!(c, ',' | ';') || c.is_whitespace();
        let entries = list
            .split(is_separator)
            .map(|entry| entry.trim_matches(|c: char| matches!(c, '"' | '\'' | '`' | '\u{feff}')));
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// Returns whether the URL's host is reached without a proxy.
    pub(super) fn contains(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.0.iter().any(|entry| {
            (entry.port.is_none() || entry.port == port)
                && url.host().is_some_and(|host| entry.hosts.contain(&host))
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        let entry = entry.split_once("://").map_or(&*entry, |(_, rest)| rest);
        if let Some(hosts) = Hosts::network(entry) {
            return Some(Self { hosts, port: None });
        }
        // A path, after the form `address/bits` has been read.
        let entry = entry.split('/').next().unwrap_or_default();
        let (hosts, port) = match entry.rsplit_once(':') {
            Some((hosts, port)) => match port.parse() {
                Ok(port) => (hosts, Some(port)),
                Err(_) => (entry, None),
            },
            None => (entry, None),
        };
        let hosts = Hosts::network(hosts).or_else(|| Hosts::names(hosts))?;
        Some(Self { hosts, port })
    }
}

impl Hosts {
    /// Reads an address, with or without brackets and the number of significant bits.
    fn network(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address: IpAddr = bare.unwrap_or(address).parse().ok()?;
        let length = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(length), |bits| bits.parse().ok())?;
        (bits <= length).then_some(Self::Network(address, bits))
    }

    fn names(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('.');
        match text {
            "<local>" => Some(Self::WithoutDot),
            _ if text.contains('*') => Some(Self::Pattern(text.to_owned())),
            _ => {
                let domain = text.trim_start_matches('.');
                (!domain.is_empty()).then(|| Self::Domain(domain.to_owned()))
            }
        }
    }

    fn contain(&self, host: &Host<&str>) -> bool {
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        };
        match (self, host) {
            (Self::Network(network, bits), _) => {
                address.is_some_and(|address| is_in_network(address, *network, *bits))
            }
            (Self::Pattern(pattern), Host::Domain(name)) => {
                fits(pattern, name.trim_end_matches('.'))
            }
            (Self::Pattern(pattern), _) => {
                address.is_some_and(|address| fits(pattern, &address.to_string()))
            }
            (Self::Domain(domain), Host::Domain(name)) => {
                let rest = name.trim_end_matches('.').strip_suffix(domain.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::WithoutDot, Host::Domain(name)) => !name.trim_end_matches('.').contains('.'),
            (Self::Domain(_) | Self::WithoutDot, _) => false,
        }
    }
}

fn is_in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, length) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u32::from(address).into(), u32::from(network).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address), u128::from(network), 128)
        }
        _ => return false,
    };
    // A shift by the whole width has no result, and then every bit differs or none counts.
    let shift = u32::from(u8::saturating_sub(length, bits));
    let significant = |address: u128| address.checked_shr(shift).unwrap_or(0);
    significant(address) == significant(network)
}

/// Returns whether `name` fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            let Some(rest) = name.strip_prefix(before) else {
                return false;
            };
            let mut starts = rest
                .char_indices()
                .map(|(start, _)| start)
                .chain([rest.len()]);
            starts.any(|start| rest.get(start..).is_some_and(|rest| fits(after, rest)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_people_write_it() {
        let entra = "https://login.microsoftonline.com/";
        for (list, url, direct) in [
            ("", entra, false),
            (" , ;", entra, false),
            ("*", entra, true),
            ("login.microsoftonline.com", entra, true),
            ("LOGIN.MicrosoftOnline.com", entra, true),
            ("microsoftonline.com", entra, true),
            ("online.com", entra, false),
            (".microsoftonline.com", entra, true),
            ("*.microsoftonline.com", entra, true),
            (
                "*.microsoftonline.com",
                "https://microsoftonline.com/",
                false,
            ),
            (".microsoftonline.com", "https://microsoftonline.com/", true),
            ("*microsoftonline.com", entra, true),
            ("login.*", entra, true),
            ("*.example", entra, false),
            ("login.microsoftonline.com:443", entra, true),
            ("login.microsoftonline.com:8443", entra, false),
            ("*.microsoftonline.com:443", entra, true),
            (
                "microsoftonline.com:8443",
                "https://login.microsoftonline.com:8443/",
                true,
            ),
            ("https://login.microsoftonline.com", entra, true),
            ("https://login.microsoftonline.com/", entra, true),
            ("login.microsoftonline.com.", entra, true),
            (
                "login.microsoftonline.com",
                "https://login.microsoftonline.com./",
                true,
            ),
            ("localhost, .microsoftonline.com", entra, true),
            ("localhost .microsoftonline.com", entra, true),
            ("localhost;*.microsoftonline.com;", entra, true),
            ("\"localhost,login.microsoftonline.com\"", entra, true),
            ("localhost,\nlogin.microsoftonline.com\n", entra, true),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.33/", false),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("0.0.0.0/0", "https://11.1.2.3/", true),
            ("10.1.2.3/33", "https://10.1.2.3/", true),
            ("10.*", "https://10.1.2.3/", true),
            ("10.1.2.3:8443", "https://10.1.2.3/", false),
            ("10.1.2.3:443", "https://10.1.2.3/", true),
            ("::1", "https://[::1]/", true),
            ("[::1]", "https://[::1]/", true),
            ("[::1]:443", "https://[::1]/", true),
            ("[::1]:8443", "https://[::1]/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("::/0", "https://10.1.2.3/", false),
            ("<local>", "https://adfs/adfs", true),
            ("<local>", entra, false),
            ("2.3", "https://10.1.2.3/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(
                NoProxy::parse(list).contains(&url),
                direct,
                "{list:?} {url}"
            );
        }
    }
}
