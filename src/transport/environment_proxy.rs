use std::env;
use std::ffi::OsString;
use std::fmt;

use http::Uri;
use url::Url;

use crate::error::Error;
use crate::transport::no_proxy::NoProxy;

/// The proxy variables of the environment for one scheme.
///
/// reqwest reads the variables too, but connects directly, without a word, if the value is not a
/// URL, such as a URL in quotes.
pub(super) struct ProxyEnvironment {
    /// The name of the variable, and the value.
    value: Option<(&'static str, OsString)>,
    no_proxy: NoProxy,
}

/// A proxy that a variable of the environment names.
#[derive(Clone)]
pub(super) struct EnvironmentProxy {
    variable: &'static str,
    url: Url,
    no_proxy: NoProxy,
    /// True if reqwest reads the variable in the same way.
    is_read_by_reqwest: bool,
}

impl ProxyEnvironment {
    /// Reads the variables of this process.
    pub(super) fn of_process(origin: &Url) -> Self {
        Self::read(origin, |name| env::var_os(name))
    }

    /// Reads the variables in the order of reqwest: the upper case counts before the lower case,
    /// and an empty variable hides the other case.
    fn read(origin: &Url, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // A CGI program gets a client's header `Proxy` as HTTP_PROXY.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let first = |names: [&'static str; 2]| {
            let mut set = names
                .into_iter()
                .filter_map(|name| Some((name, variable(name)?)));
            set.next().filter(|(_, value)| !is_blank(value) && !is_cgi)
        };
        let of_scheme = match origin.scheme() {
            "http" => ["HTTP_PROXY", "http_proxy"],
            _ => ["HTTPS_PROXY", "https_proxy"],
        };
        let list = variable("NO_PROXY").or_else(|| variable("no_proxy"));
        Self {
            value: first(of_scheme).or_else(|| first(["ALL_PROXY", "all_proxy"])),
            no_proxy: NoProxy::parse(&list.unwrap_or_default().to_string_lossy()),
        }
    }

    /// Returns whether `NO_PROXY` exempts the URL's host from the proxy.
    pub(super) fn exempts(&self, url: &Url) -> bool {
        self.no_proxy.contains(url)
    }

    /// Returns the proxy, or `None` if no variable is set.
    ///
    /// # Errors
    ///
    /// The value cannot be read as one URL. The error names the variable, and shows no part of the
    /// value, which may hold a password.
    pub(super) fn proxy(&self) -> Result<Option<EnvironmentProxy>, Error> {
        let Some((variable, value)) = &self.value else {
            return Ok(None);
        };
        let unusable = |why: &str| {
            Error::config(format!(
                "the proxy in the environment variable {variable} cannot be used: {why}; write http://host:port or http://user:password@host:port, or remove the variable"
            ))
        };
        let value = value.to_str().ok_or_else(|| unusable("it is not UTF-8"))?;
        let url = parse(value).map_err(|why| unusable(&why))?;
        Ok(Some(EnvironmentProxy {
            variable,
            is_read_by_reqwest: as_reqwest_reads(value).is_some_and(|read| read == url),
            url,
            no_proxy: self.no_proxy.clone(),
        }))
    }
}

impl EnvironmentProxy {
    /// Returns the name of the variable.
    pub(super) fn variable(&self) -> &'static str {
        self.variable
    }

    /// Returns the URL, with the password.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns whether requests to the URL use the proxy.
    pub(super) fn is_for(&self, url: &Url) -> bool {
        !self.no_proxy.contains(url)
    }

    /// Returns an error if reqwest would ignore the variable or read another proxy.
    pub(super) fn check_read_by_reqwest(&self, builder: &str) -> Result<(), Error> {
        match self.is_read_by_reqwest {
            true => Ok(()),
            false => Err(Error::config(format!(
                "the proxy in the environment variable {} is not written as a URL, so that reqwest would not use the proxy; remove quotes, white space and other characters around the URL, percent-encode the password, or set the proxy in {builder}::reqwest(..)",
                self.variable
            ))),
        }
    }

    /// Returns the proxy for reqwest.
    pub(super) fn to_reqwest(&self) -> reqwest::Proxy {
        let proxy = self.clone();
        reqwest::Proxy::custom(move |url| proxy.is_for(url).then(|| proxy.url.clone()))
    }
}

impl fmt::Debug for EnvironmentProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentProxy")
            .field("variable", &self.variable)
            .finish_non_exhaustive()
    }
}

fn is_blank(value: &OsString) -> bool {
    value
        .to_str()
        .is_some_and(|value| trimmed(value).is_empty())
}

/// Removes what configuration files leave around a value.
fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ';' | ',' | '\u{feff}')
    })
}

/// Reads a proxy as people write it: in quotes, with a line break, a semicolon or a path behind,
/// with one slash, without a scheme, or with special characters in the password.
fn parse(value: &str) -> Result<Url, String> {
    let (scheme, rest) = scheme_and_rest(trimmed(value));
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&&*scheme) {
        return Err("its scheme is neither http nor https".to_owned());
    }
    // A proxy's URL has no path, so that every character before the last `@` belongs to the
    // password.
    let (user_info, host) = match rest.rsplit_once('@') {
        Some((user_info, host)) => (Some(user_info), host),
        None => (None, rest),
    };
    let host = host.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let mut url = Url::parse(&format!("{scheme}://{host}/"))
        .map_err(|error| format!("its host and port are no valid address ({error})"))?;
    if let Some(user_info) = user_info {
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        let set = url.set_username(user).is_ok() && url.set_password(password).is_ok();
        if !set {
            return Err("it has a user name and no host".to_owned());
        }
    }
    // A stricter parser than `Url`'s, and the one that decides in reqwest.
    match url.as_str().parse::<Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(url),
        _ => Err("its host has characters that no host name has".to_owned()),
    }
}

/// Splits `scheme://rest`, also with one slash or with backslashes. The default is `http`.
fn scheme_and_rest(value: &str) -> (&str, &str) {
    const SLASHES: [char; 2] = ['/', '\\'];
    match value.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) && rest.starts_with(SLASHES) => {
            (scheme, rest.trim_start_matches(SLASHES))
        }
        _ => ("http", value.trim_start_matches(SLASHES)),
    }
}

fn is_scheme(text: &str) -> bool {
    let is_scheme_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    !text.is_empty() && text.chars().all(is_scheme_character)
}

/// Returns the proxy that reqwest reads from the value (`Matcher::from_env` of hyper-util).
fn as_reqwest_reads(value: &str) -> Option<Url> {
    let uri: Uri = value.parse().ok()?;
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority()?.as_str();
    // The matcher splits at the first `@`.
    (authority.matches('@').count() <= 1)
        .then(|| Url::parse(&format!("{scheme}://{authority}/")).ok())?
}

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> ProxyEnvironment {
        let origin = Url::parse("https://login.microsoftonline.com/").unwrap();
        ProxyEnvironment::read(&origin, |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        })
    }

    fn proxy(value: &str) -> EnvironmentProxy {
        let proxy = environment(&[("HTTPS_PROXY", value)]).proxy();
        proxy
            .unwrap_or_else(|error| panic!("{value}: {error}"))
            .unwrap()
    }

    #[test]
    fn a_proxy_with_one_reading_is_used() {
        for (value, url) in [
            ("http://proxy.example:3128", "http://proxy.example:3128/"),
            ("http://proxy.example:3128/", "http://proxy.example:3128/"),
            ("https://proxy.example", "https://proxy.example/"),
            ("proxy.example:3128", "http://proxy.example:3128/"),
            ("PROXY.example", "http://proxy.example/"),
            ("http:3128", "http://http:3128/"),
            ("10.0.0.1:3128", "http://10.0.0.1:3128/"),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128/"),
            (
                "\"http://proxy.example:3128\"",
                "http://proxy.example:3128/",
            ),
            ("'http://proxy.example:3128'", "http://proxy.example:3128/"),
            ("http://proxy.example:3128\n", "http://proxy.example:3128/"),
            (
                " http://proxy.example:3128\r\n",
                "http://proxy.example:3128/",
            ),
            (
                "\u{feff}http://proxy.example:3128",
                "http://proxy.example:3128/",
            ),
            ("http://proxy.example:3128;", "http://proxy.example:3128/"),
            (
                "\"http://proxy.example:3128\";\n",
                "http://proxy.example:3128/",
            ),
            ("http:/proxy.example:3128", "http://proxy.example:3128/"),
            ("http:\\\\proxy.example:3128", "http://proxy.example:3128/"),
            ("HTTP://proxy.example:3128", "http://proxy.example:3128/"),
            ("//proxy.example:3128", "http://proxy.example:3128/"),
            (
                "http://proxy.example:3128/path?q#f",
                "http://proxy.example:3128/",
            ),
            (
                "http://u:p@proxy.example:3128",
                "http://u:p@proxy.example:3128/",
            ),
            ("u:p@proxy.example:3128", "http://u:p@proxy.example:3128/"),
            (
                "http://u@proxy.example:3128",
                "http://u@proxy.example:3128/",
            ),
            (
                "http://u:p#q@proxy.example:1",
                "http://u:p%23q@proxy.example:1/",
            ),
            (
                "http://u:p/q@proxy.example:1",
                "http://u:p%2Fq@proxy.example:1/",
            ),
            (
                "http://u:p\\q@proxy.example:1",
                "http://u:p%5Cq@proxy.example:1/",
            ),
            (
                "http://DOM\\u:p@proxy.example:1",
                "http://DOM%5Cu:p@proxy.example:1/",
            ),
            (
                "http://u:p?q@proxy.example:1",
                "http://u:p%3Fq@proxy.example:1/",
            ),
            (
                "http://u:p@q@proxy.example:1",
                "http://u:p%40q@proxy.example:1/",
            ),
            (
                "http://u:p:q@proxy.example:1",
                "http://u:p%3Aq@proxy.example:1/",
            ),
            (
                "http://u:p q@proxy.example:1",
                "http://u:p%20q@proxy.example:1/",
            ),
            (
                "http://u:p%23q@proxy.example:1",
                "http://u:p%23q@proxy.example:1/",
            ),
            ("socks5://proxy.example:1080", "socks5://proxy.example:1080"),
        ] {
            assert_eq!(
                proxy(value).url().as_str().trim_end_matches('/'),
                url.trim_end_matches('/'),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_proxy_without_one_reading_is_an_error_that_names_the_variable_and_no_password() {
        for value in [
            "http://",
            "http://user:hunter2@",
            "http://proxy.example:port",
            "http://proxy.example:99999",
            "ftp://user:hunter2@proxy.example:21",
            "http://<proxy>:3128",
            "http://user:hunter2@${PROXY}:3128",
            "http=proxy.example:80;https=proxy.example:443",
            "http://user:hunter2@a.example:1,http://user:hunter2@b.example:2,c:d",
            "http://proxy example:3128",
            "http://user:hunter2:proxy.example:3128",
        ] {
            let error = environment(&[("HTTPS_PROXY", value)]).proxy().unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            let text = format!("{} {error:?}", error.chain());
            for part in [
                "environment variable HTTPS_PROXY",
                "http://user:password@host:port",
            ] {
                assert!(text.contains(part), "{value:?}: {text}");
            }
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn only_what_reqwest_reads_too_passes_as_read_by_reqwest() {
        for (value, same) in [
            ("http://proxy.example:3128", true),
            ("http://u:p@proxy.example:3128/", true),
            ("proxy.example:3128", true),
            ("http://proxy.example:3128/path", true),
            ("\"http://proxy.example:3128\"", false),
            ("http://proxy.example:3128\n", false),
            ("http://proxy.example:3128;", false),
            ("http:/proxy.example:3128", false),
            ("http://u:p#q@proxy.example:1", false),
            ("http://u:p/q@proxy.example:1", false),
            ("http://u:p\\q@proxy.example:1", false),
        ] {
            let checked = proxy(value).check_read_by_reqwest("ConfidentialClientBuilder");
            assert_eq!(checked.is_ok(), same, "{value:?} {checked:?}");
        }
    }

    #[test]
    fn the_variables_count_in_the_order_of_reqwest() {
        let a = "http://a.example:1";
        let b = "http://b.example:2";
        for (variables, host) in [
            (&[][..], None),
            (&[("HTTP_PROXY", a)], None),
            (&[("HTTPS_PROXY", a), ("https_proxy", b)], Some("a.example")),
            (&[("https_proxy", b)], Some("b.example")),
            (&[("HTTPS_PROXY", ""), ("https_proxy", b)], None),
            (
                &[("HTTPS_PROXY", "\"\""), ("ALL_PROXY", b)],
                Some("b.example"),
            ),
            (&[("ALL_PROXY", a)], Some("a.example")),
            (&[("all_proxy", a)], Some("a.example")),
            (&[("HTTPS_PROXY", a), ("REQUEST_METHOD", "GET")], None),
        ] {
            let proxy = environment(variables).proxy().unwrap();
            let found = proxy.as_ref().and_then(|proxy| proxy.url().host_str());
            assert_eq!(found, host, "{variables:?}");
        }
    }

    #[test]
    fn a_password_is_not_in_the_debug_output() {
        let proxy = proxy("http://user:hunter2@proxy.example:1");
        assert!(!format!("{proxy:?}").contains("hunter2"));
    }
}
