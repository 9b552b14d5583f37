use std::fmt;

use url::Url;

use crate::transport::environment_proxy::EnvironmentProxy;

/// The proxies of a reqwest client, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    /// The proxy of the environment, if the client uses the environment.
    pub(super) environment: Option<EnvironmentProxy>,
    /// The other proxies, in the `Debug` output of reqwest.
    pub(super) shown: Option<String>,
    /// The place where the other proxies are set.
    pub(super) shown_set_by: String,
    /// True if there is no proxy, and `HTTPS_PROXY` could set one.
    pub(super) could_use_environment: bool,
}

/// The proxy of one request. `Display` prints the address without a password, and who set it.
pub(super) struct ProxyInUse {
    address: Url,
    /// The place where the proxy is set.
    set_by: String,
    /// False if the host may be exempt from the proxy.
    pub(super) is_certain: bool,
    /// True if the address holds the user name and the password, where the proxy has them.
    has_credentials: bool,
}

impl Proxies {
    /// Returns the proxy for a request to the URL, if its address is known.
    pub(super) fn for_url(&self, url: &Url) -> Option<ProxyInUse> {
        if let Some(proxy) = &self.environment {
            return proxy.is_for(url).then(|| ProxyInUse {
                address: proxy.url().clone(),
                set_by: proxy.variable().to_owned(),
                is_certain: true,
                has_credentials: true,
            });
        }
        let shown = self.shown.as_deref()?;
        Some(ProxyInUse {
            address: shown_address(shown, url.scheme())?,
            set_by: self.shown_set_by.clone(),
            is_certain: !shown.contains(" no: NoProxy"),
            has_credentials: false,
        })
    }
}

impl ProxyInUse {
    /// Returns the address. The address has the user name and the password if they are known.
    pub(super) fn address(&self) -> &Url {
        &self.address
    }

    pub(super) fn is_socks(&self) -> bool {
        self.address.scheme().starts_with("socks")
    }

    /// Returns whether a user name is sent to the proxy, or `None` if that is not known.
    pub(super) fn has_user_name(&self) -> Option<bool> {
        self.has_credentials
            .then(|| !self.address.username().is_empty())
    }
}

/// Returns the proxies in the `Debug` output of a reqwest client or builder.
///
/// reqwest has no other way to tell whether a proxy is set.
pub(super) fn shown_proxies(debug: &str) -> Option<String> {
    // The headers come later and could contain anything.
    let (settings, _) = debug.split_once("default_headers").unwrap_or((debug, ""));
    let (_, proxies) = settings.split_once(" proxies: [")?;
    Some(proxies.to_owned())
}

/// Returns whether the `Debug` output of [`shown_proxies`] has no proxy's address.
pub(super) fn is_without_address(shown: &str) -> bool {
    !shown.contains("Intercept {")
}

/// Returns the address of the only proxy for the scheme, or `None` if there are several.
fn shown_address(proxies: &str, scheme: &str) -> Option<Url> {
    let before = format!("{scheme}: Intercept {{ uri: ");
    let mut addresses = proxies.split(&before).skip(1);
    let address = addresses.next()?.split([' ', ',', '}']).next()?;
    let others = addresses.next();
    Url::parse(address).ok().filter(|_| others.is_none())
}

impl fmt::Display for ProxyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.address.scheme(), self.address.host_str());
        write!(f, "the proxy '{scheme}://{}", host.unwrap_or_default())?;
        if let Some(port) = self.address.port() {
            write!(f, ":{port}")?;
        }
        write!(f, "' ({})", self.set_by)
    }
}
