use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Uri};
use url::{Host, Url};

use super::roots::RootsSource;
use crate::authority::address;
use crate::credential::pasted::bare;
use crate::error::Error;

/// The variables of an identity binding.
#[derive(Clone, Debug)]
pub(super) struct BindingSettings {
    /// The URL of the proxy.
    pub(super) proxy: Url,
    /// The name in the handshake and in the certificate, where the name differs from the proxy's
    /// host.
    pub(super) server_name: Option<String>,
    pub(super) roots: RootsSource,
}

impl BindingSettings {
    /// Reads the variables. `None` if there is no identity binding.
    pub(super) fn read(read: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        // Kubernetes cannot tell an empty variable from an unset one.
        let value = |name: &str| {
            let is_set =
                |value: &OsString| value.to_str().is_none_or(|text| !bare(text).is_empty());
            read(name).filter(is_set)
        };
        let text = |name: &str| match value(name).map(OsString::into_string) {
            Some(Ok(text)) => Ok(Some(text)),
            None => Ok(None),
            Some(Err(_)) => Err(Error::config(format!(
                "the variable {name} is not text in UTF-8; set {name} anew"
            ))),
        };
        let Some(proxy) = text(PROXY)? else {
            let others = [SERVER_NAME, CA_FILE, CA_DATA].into_iter();
            let others: Vec<&str> = others.filter(|name| value(name).is_some()).collect();
            return match others.as_slice() {
                [] => Ok(None),
                others => Err(Error::config(format!(
                    "the variable {PROXY} of the identity binding is not set, and {} is set; set {PROXY} to the URL of the cluster's token proxy, or remove the others",
                    others.join(" and ")
                ))),
            };
        };
        let roots = match (value(CA_FILE), text(CA_DATA)?) {
            (Some(_), Some(_)) => {
                return Err(Error::config(format!(
                    "both {CA_FILE} and {CA_DATA} are set for the identity binding; remove one"
                )));
            }
            (Some(path), None) => RootsSource::File(PathBuf::from(path)),
            (None, Some(pem)) => RootsSource::Text(pem),
            (None, None) => RootsSource::System,
        };
        Ok(Some(Self {
            proxy: proxy_url(&proxy)?,
            server_name: text(SERVER_NAME)?.map(server_name).transpose()?,
            roots,
        }))
    }

    /// Returns the URL at which the HTTP client connects: the server's name, and the proxy's port.
    ///
    /// The client sends the host of a URL as the name in the handshake and compares the certificate
    /// with the host. There is no other way to set the name.
    pub(super) fn origin(&self) -> Url {
        let mut origin = self.proxy.clone();
        if let Some(name) = &self.server_name {
            // `read` has checked that the name is a host.
            let _ = origin.set_host(Some(name));
        }
        origin
    }

    /// Returns the proxy's host and port, as the header `Host` has them.
    pub(super) fn proxy_authority(&self) -> String {
        let host = self.proxy.host_str().unwrap_or_default();
        match self.proxy.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Replaces scheme, host and port of a request by the proxy's, and puts the proxy's path in
    /// front.
    pub(super) fn redirect(&self, mut request: Request<Bytes>) -> Result<Request<Bytes>, Error> {
        let invalid = |error: http::Error| {
            Error::config(format!(
                "a request to the proxy of the identity binding cannot be built: {error}"
            ))
        };
        let origin = self.origin();
        let base = origin.path().trim_end_matches('/');
        let path_and_query = request.uri().path_and_query();
        let path_and_query = path_and_query.map_or("/", |path| path.as_str());
        let origin = origin.origin().ascii_serialization();
        let uri: Uri = format!("{origin}{base}{path_and_query}")
            .parse()
            .map_err(|error| invalid(http::Error::from(error)))?;
        let host = HeaderValue::from_str(&self.proxy_authority());
        let host = host.map_err(|error| invalid(http::Error::from(error)))?;
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }
}

fn proxy_url(text: &str) -> Result<Url, Error> {
    let label = format!("the variable {PROXY} of the identity binding:");
    let url = address::parse(&label, text)?;
    let invalid = |reason: &str| Err(address::invalid_url(&label, text, reason));
    match url.scheme() {
        "https" if url.query().is_some() => invalid("it has a query; remove the query"),
        "https" => Ok(url),
        _ => invalid(
            "the scheme must be https, because the requests carry the token of the service account",
        ),
    }
}

/// Checks a name for the handshake, which must be a DNS name.
fn server_name(name: String) -> Result<String, Error> {
    let invalid = |reason: &str| {
        Err(Error::config(format!(
            "the variable {SERVER_NAME} {name:?} of the identity binding cannot be used: {reason}"
        )))
    };
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    if is_address(name.trim_start_matches('[').trim_end_matches(']')) {
        return invalid(
            "it is an address, and TLS has no server name that is an address; set a name",
        );
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = name.chars().all(is_plain) && !name.starts_with('.') && !name.ends_with('.');
    match Host::parse(&name) {
        Ok(Host::Domain(_)) if is_name => Ok(name.to_ascii_lowercase()),
        _ => invalid("it is no host name such as 'token-proxy.example'"),
    }
}

const PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
const SERVER_NAME: &str = "AZURE_KUBERNETES_SNI_NAME";
pub(super) const CA_FILE: &str = "AZURE_KUBERNETES_CA_FILE";
pub(super) const CA_DATA: &str = "AZURE_KUBERNETES_CA_DATA";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<BindingSettings>, Error> {
        BindingSettings::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn wrong_variables_are_named() {
        const URL: (&str, &str) = (PROXY, "https://10.0.0.1:6443/proxy");
        for (variables, expected) in [
            (
                &[(SERVER_NAME, "x")][..],
                "AZURE_KUBERNETES_TOKEN_PROXY of the identity binding is not set, and AZURE_KUBERNETES_SNI_NAME is set",
            ),
            (
                &[(PROXY, ""), (CA_FILE, "/x"), (CA_DATA, "y")],
                "and AZURE_KUBERNETES_CA_FILE and AZURE_KUBERNETES_CA_DATA is set",
            ),
            (
                &[URL, (CA_FILE, "/x"), (CA_DATA, "y")],
                "both AZURE_KUBERNETES_CA_FILE and AZURE_KUBERNETES_CA_DATA are set",
            ),
            (&[(PROXY, "http://10.0.0.1")], "the scheme must be https"),
            (&[(PROXY, "10.0.0.1:6443")], "cannot be used"),
            (
                &[(PROXY, "https://user:hunter2@10.0.0.1")],
                "it contains '@'",
            ),
            (
                &[(PROXY, "https://10.0.0.1/?key=hunter2")],
                "it has a query",
            ),
            (&[(PROXY, "https://10.0.0.1/#x")], "it has a fragment"),
            (
                &[URL, (SERVER_NAME, "10.0.0.1")],
                "AZURE_KUBERNETES_SNI_NAME \"10.0.0.1\" of the identity binding cannot be used: it is an address",
            ),
            (&[URL, (SERVER_NAME, "[::1]")], "it is an address"),
            (&[URL, (SERVER_NAME, "::1")], "it is an address"),
            (&[URL, (SERVER_NAME, "https://x")], "it is no host name"),
            (&[URL, (SERVER_NAME, "x:443")], "it is no host name"),
            (&[URL, (SERVER_NAME, "x/y")], "it is no host name"),
            (&[URL, (SERVER_NAME, "x.")], "it is no host name"),
            (&[URL, (SERVER_NAME, "127.1")], "it is no host name"),
        ] {
            let error = read(variables).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(PROXY, " "), (CA_DATA, "")]).unwrap().is_none());
    }

    #[test]
    fn a_request_goes_to_the_proxy_under_the_servers_name() {
        let token = "https://login.microsoftonline.com/t/oauth2/v2.0/token?x=1";
        for (variables, url, uri, host) in [
            (
                &[
                    (PROXY, "https://10.0.0.1:6443"),
                    (SERVER_NAME, "Token.example"),
                ][..],
                token,
                "https://token.example:6443/t/oauth2/v2.0/token?x=1",
                "10.0.0.1:6443",
            ),
            (
                &[(PROXY, "https://proxy.local/base/")],
                token,
                "https://proxy.local/base/t/oauth2/v2.0/token?x=1",
                "proxy.local",
            ),
            (
                &[
                    (PROXY, "https://[fd00::1]:8443/base"),
                    (SERVER_NAME, "token"),
                ],
                "https://login.microsoftonline.com",
                "https://token:8443/base/",
                "[fd00::1]:8443",
            ),
        ] {
            let settings = read(variables).unwrap().unwrap();
            let request = Request::post(url).body(Bytes::from("body")).unwrap();
            let request = settings.redirect(request).unwrap();
            assert_eq!(request.uri(), uri);
            assert_eq!(request.headers()[HOST], host);
            assert_eq!(request.method(), http::Method::POST);
            assert_eq!(&request.body()[..], b"body");
        }
    }
}
