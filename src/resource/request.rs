use std::fmt;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri};

use crate::token::Thumbprint;

/// A request to the API, with everything that a bound token is checked against.
///
/// Create one from an `http::Request` or its `http::request::Parts`, which may have a
/// [`PeerCertificate`] and an [`ExternalUri`] as extensions. For other types of requests, call
/// [`new`](Self::new).
///
/// ```
/// use confidential_client::resource::{PeerCertificate, ResourceRequest};
/// # use http::Request;
///
/// # fn main() -> Result<(), http::Error> {
/// # let certificate = b"0".to_vec();
/// let request = Request::get("/files")
///     .header("authorization", "Bearer eyJ..")
///     // A server inserts the client certificate of the TLS connection.
///     .extension(PeerCertificate::from_der(&certificate))
///     .body(())?;
/// let resource_request = ResourceRequest::from(&request);
/// # let _ = resource_request;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct ResourceRequest<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The method and the URI. `None` if only the headers are known.
    pub(super) target: Option<(&'a Method, &'a Uri)>,
    pub(super) certificate: Option<&'a PeerCertificate>,
}

/// The client certificate of a TLS connection.
///
/// Only the SHA-256 thumbprint is kept ([RFC 8705 section 3.1]). Create the value once for each
/// connection, and insert a clone into the extensions of each request.
///
/// The TLS library must have verified that the client has the private key. The validator compares
/// the certificate with the token, and does not check the validity, the name or the issuer of the
/// certificate.
///
/// [RFC 8705 section 3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate(pub(super) Thumbprint);

/// The URI of a request as it arrived, in a framework that changes the URI on the way.
///
/// A nested router of axum removes the prefix from the URI of the request. A middleware before the
/// routing inserts the URI into the extensions of the request:
///
/// ```
/// use axum::Router;
/// use axum::extract::Request;
/// use axum::middleware::map_request;
/// use confidential_client::resource::ExternalUri;
///
/// async fn keep_uri(mut request: Request) -> Request {
///     let uri = ExternalUri(request.uri().clone());
///     request.extensions_mut().insert(uri);
///     request
/// }
///
/// let files: Router = Router::new();
/// let router: Router = Router::new().nest("/v1", files).layer(map_request(keep_uri));
/// # let _ = router;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalUri(pub Uri);

impl<'a> ResourceRequest<'a> {
    /// Creates a request from its method, its URI and its headers.
    ///
    /// Only the path of the URI is used. The scheme and the host are those of
    /// [`DpopPolicy::new`](super::DpopPolicy::new).
    pub fn new(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self {
            headers,
            target: Some((method, uri)),
            certificate: None,
        }
    }

    /// Sets the client certificate of the TLS connection.
    pub fn peer_certificate(self, certificate: &'a PeerCertificate) -> Self {
        Self {
            certificate: Some(certificate),
            ..self
        }
    }

    pub(super) fn of_headers(headers: &'a HeaderMap) -> Self {
        Self {
            headers,
            target: None,
            certificate: None,
        }
    }

    fn of(
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        extensions: &'a http::Extensions,
    ) -> Self {
        let uri = extensions.get().map_or(uri, |ExternalUri(uri)| uri);
        Self {
            certificate: extensions.get(),
            ..Self::new(method, uri, headers)
        }
    }
}

impl<'a> From<&'a Parts> for ResourceRequest<'a> {
    fn from(parts: &'a Parts) -> Self {
        Self::of(&parts.method, &parts.uri, &parts.headers, &parts.extensions)
    }
}

impl<'a, B> From<&'a Request<B>> for ResourceRequest<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self::of(
            request.method(),
            request.uri(),
            request.headers(),
            request.extensions(),
        )
    }
}

impl PeerCertificate {
    /// Hashes an X.509 certificate in DER.
    pub fn from_der(certificate: impl AsRef<[u8]>) -> Self {
        Self(Thumbprint::of(certificate.as_ref()))
    }
}

impl fmt::Debug for ResourceRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceRequest")
            .field("method", &self.target.map(|(method, _)| method))
            .field("path", &self.target.map(|(_, uri)| uri.path()))
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ExternalUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may have a secret.
        f.debug_tuple("ExternalUri").field(&self.0.path()).finish()
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({})", self.0)
    }
}
