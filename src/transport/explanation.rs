use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;
use url::Url;

use crate::transport::connection_failure::{ConnectionFailure, causes};
use crate::transport::proxies::{Proxies, ProxyInUse};
use crate::transport::tunnel;

/// Turns an error of reqwest into an error that says what to do.
pub(super) struct Explanation<'a> {
    pub(super) error: reqwest::Error,
    pub(super) url: &'a Url,
    pub(super) proxies: &'a Proxies,
    pub(super) names: &'a SettingNames,
    /// The longest time of a request to a proxy.
    pub(super) limit: Duration,
}

/// The names of the settings that a message suggests.
pub(super) struct SettingNames {
    /// The method that takes a reqwest builder.
    reqwest: String,
    /// The setting that adds a trusted CA.
    trusted_ca: String,
    /// The subject of the certificate that the connections carry.
    #[cfg_attr(
        not(any(feature = "ring", feature = "rustls")),
        expect(dead_code, reason = "only TLS by rustls sends a certificate")
    )]
    certificate: Option<String>,
}

impl SettingNames {
    /// Names the settings of a builder with the method `reqwest`.
    pub(super) fn of_builder(builder: &str) -> Self {
        let reqwest = format!("{builder}::reqwest(..)");
        Self {
            trusted_ca: format!("reqwest::ClientBuilder::tls_certs_merge(..) in {reqwest}"),
            reqwest,
            certificate: None,
        }
    }

    /// Names the settings of [`MutualTls`](super::MutualTls).
    #[cfg(any(feature = "ring", feature = "rustls"))]
    pub(super) fn of_mutual_tls(certificate: Option<&str>) -> Self {
        Self {
            reqwest: "MutualTls::reqwest(..)".to_owned(),
            trusted_ca: "MutualTls::trusted_roots_pem(..)".to_owned(),
            certificate: certificate.map(ToOwned::to_owned),
        }
    }
}

impl Explanation<'_> {
    pub(super) async fn explain(self) -> Box<dyn StdError + Send + Sync> {
        let proxy = self.proxies.for_url(self.url);
        if let Some(problem) = TunnelProblem::of(&self.error) {
            return self.tunnel_failed(problem, proxy).await.into();
        }
        let proxy = proxy.filter(|proxy| proxy.is_certain);
        if let Some((message, is_permanent)) = self.tls_problem(proxy.as_ref()) {
            return match is_permanent {
                true => ConnectionFailure::permanent(message, self.error).into(),
                false => ConnectionFailure::transient(message, self.error).into(),
            };
        }
        if let Some(message) = self.head_problem() {
            return ConnectionFailure::transient(message, self.error).into();
        }
        match proxy {
            Some(proxy) if self.error.is_connect() || self.error.is_timeout() => {
                let message = format!("the connection through {proxy} failed");
                ConnectionFailure::transient(message, self.error).into()
            }
            None if self.proxies.could_use_environment && self.is_unknown_host() => {
                let host = self.url.host_str().unwrap_or_default();
                let message = format!(
                    "no address was found for the host '{host}'; if this network reaches the internet through a proxy only, set HTTPS_PROXY"
                );
                ConnectionFailure::transient(message, self.error).into()
            }
            _ => self.error.into(),
        }
    }

    /// Returns whether the look-up of a host on the internet failed.
    ///
    /// A name without a dot belongs to the local network. reqwest has no proxy for http here.
    fn is_unknown_host(&self) -> bool {
        let is_on_the_internet = self.url.host_str().is_some_and(|host| host.contains('.'));
        self.url.scheme() == "https"
            && is_on_the_internet
            && causes(&self.error).any(|cause| cause.to_string().starts_with("dns error"))
    }

    async fn tunnel_failed(
        self,
        problem: TunnelProblem,
        proxy: Option<ProxyInUse>,
    ) -> ConnectionFailure {
        let target = target(self.url);
        let shown = match &proxy {
            Some(proxy) => proxy.to_string(),
            None => "the proxy".to_owned(),
        };
        let error = self.error;
        match problem {
            TunnelProblem::NoConnection => {
                if let Some(problem) = proxy_tls_problem(&error, self.names) {
                    return ConnectionFailure::permanent(format!("{shown} {problem}"), error);
                }
                if proxy.as_ref().is_some_and(ProxyInUse::is_socks) {
                    let message = format!(
                        "{shown} is a SOCKS proxy; enable the feature 'socks' of reqwest, or name an HTTP proxy"
                    );
                    return ConnectionFailure::permanent(message, error);
                }
                let message = format!(
                    "{shown} cannot be reached; correct the proxy, or list '{}' in NO_PROXY",
                    self.url.host_str().unwrap_or_default()
                );
                ConnectionFailure::transient(message, error)
            }
            TunnelProblem::NeedsPassword => {
                let has_user_name = proxy.as_ref().and_then(ProxyInUse::has_user_name);
                let message = match has_user_name {
                    Some(false) => format!(
                        "{shown} requires a user name and a password (407 Proxy Authentication Required); write http://user:password@host:port"
                    ),
                    Some(true) => format!(
                        "{shown} rejected the user name and the password, or requires another kind of authentication than Basic (407 Proxy Authentication Required)"
                    ),
                    None => format!(
                        "{shown} requires a valid user name and password, or another kind of authentication than Basic (407 Proxy Authentication Required)"
                    ),
                };
                ConnectionFailure::permanent(message, error)
            }
            TunnelProblem::Rejected => {
                match rejection_status(proxy.as_ref(), &target, self.limit).await {
                    Some(status) => {
                        let message = format!(
                            "{shown} rejected the connection to '{target}' with {status}; {}",
                            advice(status)
                        );
                        match is_passing(status) {
                            true => ConnectionFailure::transient(message, error),
                            false => ConnectionFailure::permanent(message, error),
                        }
                    }
                    None => ConnectionFailure::transient(
                        format!(
                            "{shown} rejected the connection to '{target}', or does not speak HTTP; {EXPECTS_TLS}"
                        ),
                        error,
                    ),
                }
            }
            TunnelProblem::Closed => ConnectionFailure::transient(
                format!(
                    "{shown} closed the connection before it was a tunnel to '{target}'; {EXPECTS_TLS}"
                ),
                error,
            ),
        }
    }

    /// Returns the message for a failed TLS handshake, and whether the failure is permanent.
    fn tls_problem(&self, proxy: Option<&ProxyInUse>) -> Option<(String, bool)> {
        let host = authority(self.url);
        let by_way = match proxy {
            Some(proxy) => format!(
                " (by way of {proxy}; a proxy that inspects TLS presents certificates of its own CA)"
            ),
            None => String::new(),
        };
        let problem = tls_problem(&self.error, self.names)?;
        Some(match problem {
            TlsProblem::Certificate(problem) => (
                format!("the TLS certificate of '{host}' is not accepted: {problem}{by_way}"),
                true,
            ),
            TlsProblem::Handshake(problem) => (format!("'{host}' {problem}{by_way}"), false),
            TlsProblem::ClientCertificate(problem) => (format!("'{host}' {problem}{by_way}"), true),
        })
    }

    /// Returns the message for a response whose head hyper rejected.
    fn head_problem(&self) -> Option<String> {
        let error = causes(&self.error).find_map(|cause| cause.downcast_ref::<hyper::Error>())?;
        if !error.is_parse() {
            return None;
        }
        let reqwest = &self.names.reqwest;
        let problem = match error.to_string().as_str() {
            text if text.starts_with("message head is too large") => format!(
                "it has more than 100 headers, or more than some hundred kilobytes; remove headers on the server, or set http1_max_headers(..) in {reqwest}"
            ),
            _ if error.is_parse_status() => {
                "its status code is not a number of three digits".to_owned()
            }
            text if text.starts_with("invalid HTTP header") => format!(
                "the name or the value of a header has a character that HTTP does not allow, or a header has no colon; correct the header on the server, or set http1_ignore_invalid_headers_in_responses(true) in {reqwest}"
            ),
            text if text.starts_with("invalid content-length") => {
                "its headers Content-Length contradict each other, or are no number".to_owned()
            }
            text if text.starts_with("unexpected transfer-encoding") => {
                "it has a header Transfer-Encoding in a version of HTTP that has none".to_owned()
            }
            text if text.starts_with("invalid HTTP version") => {
                "it does not begin with an HTTP status line; check the host and the port".to_owned()
            }
            _ => "it is not valid HTTP".to_owned(),
        };
        Some(format!(
            "the head of the response cannot be read: {problem}"
        ))
    }
}

/// A failed request for a proxy's tunnel.
#[derive(Clone, Copy)]
enum TunnelProblem {
    NoConnection,
    NeedsPassword,
    Rejected,
    Closed,
}

impl TunnelProblem {
    /// Reads the text, because hyper-util's type of the error is not public.
    fn of(error: &reqwest::Error) -> Option<Self> {
        let texts = causes(error).map(ToString::to_string);
        let text = texts
            .into_iter()
            .find_map(|text| Some(text.strip_prefix("tunnel error: ")?.to_owned()))?;
        Some(match text.as_str() {
            "failed to create underlying connection" => Self::NoConnection,
            "proxy authorization required" => Self::NeedsPassword,
            "unsuccessful" => Self::Rejected,
            _ => Self::Closed,
        })
    }
}

/// A failed TLS handshake.
enum TlsProblem {
    /// The server's certificate is not accepted, with the reason.
    Certificate(String),
    /// Another failure. The text follows the name of the host.
    #[cfg_attr(
        not(any(feature = "ring", feature = "rustls")),
        expect(
            dead_code,
            reason = "only the errors of rustls tell the failures apart"
        )
    )]
    Handshake(String),
    /// The server rejects the certificate of the client. The text follows the name of the host.
    #[cfg_attr(
        not(any(feature = "ring", feature = "rustls")),
        expect(dead_code, reason = "only TLS by rustls sends a certificate")
    )]
    ClientCertificate(String),
}

#[cfg(any(feature = "ring", feature = "rustls"))]
fn tls_problem(error: &reqwest::Error, names: &SettingNames) -> Option<TlsProblem> {
    use rustls::{AlertDescription, Error};

    use crate::transport::certificate_problem::certificate_problem;

    let found = causes(error).find_map(|cause| cause.downcast_ref::<Error>());
    Some(match found {
        Some(Error::InvalidCertificate(error)) => {
            TlsProblem::Certificate(certificate_problem(error, &how_to_trust(names)))
        }
        Some(Error::InvalidMessage(_)) => TlsProblem::Handshake(
            "does not speak TLS on this port; check the port, and whether the URL is https"
                .to_owned(),
        ),
        Some(
            Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion),
        ) => TlsProblem::Handshake(
            "supports no version and cipher of TLS that this client accepts (1.2 and 1.3)"
                .to_owned(),
        ),
        Some(Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        )) => match &names.certificate {
            Some(subject) => TlsProblem::ClientCertificate(rejected_certificate(subject, alert)),
            None => TlsProblem::Handshake(format!(
                "requires another TLS client certificate ({alert:?}); set identity(..) in {}",
                names.reqwest
            )),
        },
        // The server knows a CA of the same name with another key, or the signature is wrong.
        Some(Error::AlertReceived(alert @ AlertDescription::DecryptError)) => {
            TlsProblem::ClientCertificate(rejected_certificate(names.certificate.as_ref()?, alert))
        }
        Some(_) => return None,
        None => return certificate_by_text(error, names),
    })
}

#[cfg(any(feature = "ring", feature = "rustls"))]
fn rejected_certificate(subject: &str, alert: &rustls::AlertDescription) -> String {
    format!(
        "rejected the client certificate of '{subject}' ({alert:?}); use a certificate that the server accepts, with its chain, or register this one"
    )
}

#[cfg(not(any(feature = "ring", feature = "rustls")))]
fn tls_problem(error: &reqwest::Error, names: &SettingNames) -> Option<TlsProblem> {
    certificate_by_text(error, names)
}

/// Finds an error of another TLS library, such as OpenSSL, by its text.
fn certificate_by_text(error: &reqwest::Error, names: &SettingNames) -> Option<TlsProblem> {
    let last = causes(error).last()?.to_string();
    last.contains("certificate").then(|| {
        TlsProblem::Certificate(format!(
            "{last}; if a private CA issued it, {}",
            how_to_trust(names)
        ))
    })
}

fn how_to_trust(names: &SettingNames) -> String {
    format!(
        "add that CA to the machine's trusted CAs, or to {}",
        names.trusted_ca
    )
}

/// Returns the reason why no TLS connection to a proxy was possible.
fn proxy_tls_problem(error: &reqwest::Error, names: &SettingNames) -> Option<String> {
    Some(match tls_problem(error, names)? {
        TlsProblem::Certificate(problem) => {
            format!("has a TLS certificate that is not accepted: {problem}")
        }
        TlsProblem::Handshake(_) | TlsProblem::ClientCertificate(_) => {
            "does not speak TLS; write http:// in place of https://".to_owned()
        }
    })
}

/// Returns the status with which the proxy rejects a tunnel to `target`.
async fn rejection_status(
    proxy: Option<&ProxyInUse>,
    target: &str,
    limit: Duration,
) -> Option<StatusCode> {
    let address = proxy?.address();
    let status = timeout(limit, tunnel::status_of(address, target))
        .await
        .ok()??;
    // Without the caller's password, the proxy asks for one, and did not before.
    let is_other = status.is_success() || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    (!is_other).then_some(status)
}

/// Returns whether a retry may get another status from the proxy.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "a redirect leads to a sign-in page or another proxy, and is not followed",
        400..=499 => "allow the host and the port in the rules of the proxy",
        _ => "the proxy cannot reach the host, or is overloaded",
    }
}

/// Returns host and port as `CONNECT` sends them.
fn target(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// Returns host and port, without a default port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

const EXPECTS_TLS: &str = "a proxy that expects TLS is written https://host:port";
