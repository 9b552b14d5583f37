//! The client certificate of a request, from the connection or from a header of a proxy.
#![warn(clippy::arithmetic_side_effects, reason = "the input is untrusted")]

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName};

use super::request::ResourceRequest;
use crate::crypto::asn1::{Asn1Reader, SEQUENCE};
use crate::error::Error;
use crate::token::Thumbprint;

/// The place where the validator finds the client certificate of a request.
///
/// A header is trustworthy only if a proxy sets it. The proxy must verify that the client has the
/// private key, must remove the header of the same name that a client sends, and must be the only
/// way to the API. Otherwise anybody who has a stolen token can send its certificate.
#[doc(alias("x-forwarded-client-cert", "X-ARR-ClientCert", "Client-Cert"))]
#[derive(Clone, Debug)]
pub struct CertificateSource(Place);

#[derive(Clone, Debug)]
enum Place {
    Connection,
    Header { name: String, form: CertificateForm },
}

/// The form of a certificate in a header.
#[derive(Clone, Copy, Debug)]
pub(super) enum CertificateForm {
    UrlEncodedPem,
    Base64Der,
    Envoy,
    Rfc9440,
}

impl CertificateSource {
    /// Uses the certificate of the TLS connection, which the server passes as a
    /// [`PeerCertificate`](super::PeerCertificate).
    pub fn connection() -> Self {
        Self(Place::Connection)
    }

    /// Uses a header with a URL-encoded certificate in PEM.
    ///
    /// nginx writes the form as `$ssl_client_escaped_cert`, and AWS Application Load Balancer as
    /// `x-amzn-mtls-clientcert-leaf`. The first certificate counts.
    pub fn url_encoded_pem(header: impl Into<String>) -> Self {
        Self::header(header, CertificateForm::UrlEncodedPem)
    }

    /// Uses a header with a certificate in DER as base64.
    ///
    /// HAProxy writes the form as `%[ssl_c_der,base64]`, Azure App Service as `X-ARR-ClientCert`,
    /// and Traefik as `X-Forwarded-Tls-Client-Cert`. The first certificate of a list counts.
    pub fn base64_der(header: impl Into<String>) -> Self {
        Self::header(header, CertificateForm::Base64Der)
    }

    /// Uses Envoy's `x-forwarded-client-cert`, with `Hash` or `Cert`.
    ///
    /// The header must have one element, as with `forward_client_cert_details: SANITIZE_SET`.
    pub fn envoy() -> Self {
        Self::header("x-forwarded-client-cert", CertificateForm::Envoy)
    }

    /// Uses the header `Client-Cert` ([RFC 9440]).
    ///
    /// [RFC 9440]: https://www.rfc-editor.org/rfc/rfc9440#section-2.2
    pub fn rfc9440() -> Self {
        Self::header("client-cert", CertificateForm::Rfc9440)
    }

    fn header(name: impl Into<String>, form: CertificateForm) -> Self {
        Self(Place::Header {
            name: name.into(),
            form,
        })
    }

    /// Checks the name of the header.
    pub(super) fn check(self) -> Result<CertificateReader, Error> {
        match self.0 {
            Place::Connection => Ok(CertificateReader::Connection),
            Place::Header { name, form } => match HeaderName::try_from(&name) {
                Ok(name) => Ok(CertificateReader::Header { name, form }),
                Err(_) => Err(Error::config(format!(
                    "certificate_bound(..) has the header name {name:?}, which is not the name of an HTTP header; pass the name that the proxy sets"
                ))),
            },
        }
    }
}

/// A checked [`CertificateSource`].
pub(super) enum CertificateReader {
    Connection,
    Header {
        name: HeaderName,
        form: CertificateForm,
    },
}

impl CertificateReader {
    /// Returns the thumbprint of the request's certificate.
    ///
    /// # Errors
    ///
    /// The text for the operator, which does not repeat the header.
    pub(super) fn thumbprint(&self, request: &ResourceRequest<'_>) -> Result<Thumbprint, String> {
        match self {
            Self::Connection => request.certificate.map(|certificate| certificate.0).ok_or_else(|| {
                "the request has no PeerCertificate, so the connection has no client certificate or the server does not pass it on".to_owned()
            }),
            Self::Header { name, form } => {
                let value = only_value(request.headers, name);
                let thumbprint = value.and_then(|value| form.thumbprint(value));
                thumbprint.map_err(|problem| format!("the header '{name}' {problem}"))
            }
        }
    }
}

/// Returns the value of a header that occurs once.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, &'static str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or("is not in the request")?;
    if values.next().is_some() {
        return Err("is in the request more than once; let the proxy replace it");
    }
    let value = value.to_str().map_err(|_| "is not ASCII")?;
    match value.trim_matches([' ', '\t']) {
        "" => Err("is empty, so the client presented no certificate to the proxy"),
        value => Ok(value),
    }
}

impl CertificateForm {
    fn thumbprint(self, value: &str) -> Result<Thumbprint, &'static str> {
        let certificate = match self {
            Self::Envoy => return envoy(value),
            Self::UrlEncodedPem => url_encoded_pem(value),
            Self::Base64Der => {
                let first = value.split(',').next().unwrap_or_default();
                base64_der(first).ok_or("is not a certificate in DER as base64")
            }
            Self::Rfc9440 => {
                let octets = value
                    .strip_prefix(':')
                    .and_then(|value| value.strip_suffix(':'));
                octets
                    .and_then(base64_der)
                    .ok_or("is not a certificate in DER as base64 between colons (RFC 9440)")
            }
        };
        certificate.map(|certificate| Thumbprint::of(&certificate))
    }
}

fn base64_der(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_matches([' ', '\t']);
    let decoded = BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(text));
    decoded.ok().filter(|der| is_certificate(der))
}

/// Returns whether the octets are one ASN.1 sequence, as a certificate is.
fn is_certificate(der: &[u8]) -> bool {
    let mut reader = Asn1Reader::new(der);
    reader.value(SEQUENCE).is_ok() && reader.is_empty()
}

/// Returns the first certificate of a URL-encoded text in PEM. `+` stands for itself.
fn url_encoded_pem(value: &str) -> Result<Vec<u8>, &'static str> {
    let certificate = || {
        let text = String::from_utf8(percent_decode(value)?).ok()?;
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
        let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
        let body: String = body.split_ascii_whitespace().collect();
        base64_der(&body)
    };
    certificate().ok_or("is not a URL-encoded certificate in PEM")
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut octets = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        // `from_str_radix` would accept a sign.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        octets.push(u8::from_str_radix(digits, 16).ok()?);
        octets.extend_from_slice(rest.as_bytes());
    }
    Some(octets)
}

/// Reads the only element of [`x-forwarded-client-cert`].
///
/// With several elements, a client could have written the first, and the last could be a proxy's.
///
/// [`x-forwarded-client-cert`]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
fn envoy(value: &str) -> Result<Thumbprint, &'static str> {
    let (mut hash, mut certificate) = (None, None);
    for pair in split_outside_quotes(value, ',')
        .ok_or("has an open quote")
        .and_then(|elements| match elements.as_slice() {
            [element] => split_outside_quotes(element, ';').ok_or("has an open quote"),
            _ => Err("has several elements; set forward_client_cert_details to SANITIZE_SET"),
        })?
    {
        let Some((name, value)) = pair.split_once('=') else {
            return Err("has a part that is not a pair of a key and a value");
        };
        let found = match name.trim().to_ascii_lowercase().as_str() {
            "hash" => &mut hash,
            "cert" => &mut certificate,
            _ => continue,
        };
        let value = value.trim();
        let unquoted = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'));
        if found.replace(unquoted.unwrap_or(value)).is_some() {
            return Err("has 'Hash' or 'Cert' twice");
        }
    }
    let hash = hash
        .map(|hash| from_hex(hash).ok_or("has a 'Hash' that is not a SHA-256 in hexadecimal"))
        .transpose()?;
    let certificate = certificate.map(url_encoded_pem).transpose();
    let certificate = certificate
        .map_err(|_| "has a 'Cert' that is not a URL-encoded certificate in PEM")?
        .map(|certificate| Thumbprint::of(&certificate));
    match (hash, certificate) {
        (Some(hash), Some(certificate)) if hash != certificate => {
            Err("has a 'Hash' that is not the hash of its 'Cert'")
        }
        (Some(thumbprint), _) | (None, Some(thumbprint)) => Ok(thumbprint),
        (None, None) => Err("has neither 'Hash' nor 'Cert'"),
    }
}

/// Splits a text at the separators that are not in quotes. Returns `None` for an open quote.
fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|c| {
        let is_separator = c == separator && !is_quoted;
        match c {
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        is_separator
    });
    let parts = parts.collect();
    (!is_quoted).then_some(parts)
}

fn from_hex(text: &str) -> Option<Thumbprint> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let octets: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from((digit(*high)? << 4) | digit(*low)?).ok(),
            _ => None,
        })
        .collect();
    octets?.try_into().ok().map(Thumbprint)
}
