use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::http::client_certificate::ClientCertificate;
use crate::certificate::hexadecimal;

/// A token request that a [`LocalAuthority`](super::LocalAuthority) or a
/// [`LocalManagedIdentity`](super::LocalManagedIdentity) received.
///
/// `Debug` hides every field that can be a credential. [`field`](Self::field) returns such fields
/// too.
///
/// ```
/// # use confidential_client::{Certificate, ConfidentialClient};
/// # use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let local = LocalAuthority::start().await?;
/// # let certificate = Certificate::from_pem(self_signed_certificate("daemon")?)?;
/// # local.register("contoso.com", Application::new("client").certificate(&certificate));
/// # let client = ConfidentialClient::builder("client")
/// #     .authority(local.authority("contoso.com"))
/// #     .certificate(certificate)
/// #     .build()?;
/// client.acquire_token_for_client("api://orders/.default").await?;
///
/// let request = &local.token_requests()[0];
/// assert_eq!(request.field("scope"), Some("api://orders/.default"));
/// assert_eq!(request.header("x-client-sku"), Some("confidential-client.rs"));
/// assert!(request.assertion_header().unwrap().contains(r#""alg":"PS256""#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RecordedRequest {
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    form: Vec<(String, String)>,
    client_certificate: Option<ClientCertificate>,
}

impl RecordedRequest {
    pub(crate) fn new(path: &str, headers: HeaderMap, body: &[u8]) -> Self {
        // A body without the content type of a form has no fields.
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let form = match content_type {
            Some(content_type)
                if content_type.starts_with(b"application/x-www-form-urlencoded") =>
            {
                url::form_urlencoded::parse(body).into_owned().collect()
            }
            _ => Vec::new(),
        };
        Self {
            path: path.to_owned(),
            query: Vec::new(),
            headers,
            form,
            client_certificate: None,
        }
    }

    /// Sets the certificate that the client presented on the connection.
    pub(crate) fn with_client_certificate(
        mut self,
        certificate: Option<ClientCertificate>,
    ) -> Self {
        self.client_certificate = certificate;
        self
    }

    /// Sets the query of the URL.
    pub(crate) fn with_query(mut self, query: Option<&str>) -> Self {
        let query = query.unwrap_or_default().as_bytes();
        self.query = url::form_urlencoded::parse(query).into_owned().collect();
        self
    }

    /// Returns the path of the URL, such as `/contoso.onmicrosoft.com/oauth2/v2.0/token`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the decoded parameters of the URL's query, in the order of the request.
    ///
    /// The requests of a [`LocalManagedIdentity`](super::LocalManagedIdentity) have parameters. The
    /// requests of a `LocalAuthority` have none.
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// Returns the first parameter of the query with this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// Returns all headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns a header, if the header was sent once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        only.to_str().ok()
    }

    /// Returns the decoded fields of the form, in the order of the request.
    pub fn form(&self) -> &[(String, String)] {
        &self.form
    }

    /// Returns the SHA-256 thumbprint of the certificate that the client presented on the
    /// connection, in upper-case hexadecimal.
    ///
    /// Only a `LocalAuthority` with [`mutual_tls`](super::LocalAuthorityBuilder::mutual_tls)
    /// requests certificates.
    pub fn client_certificate_sha256(&self) -> Option<String> {
        let certificate = self.client_certificate.as_ref()?;
        Some(hexadecimal(&certificate.sha256()))
    }

    pub(crate) fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// Returns the claim `cnf` of a token that is bound to the certificate ([RFC 8705 section
    /// 3.1]).
    ///
    /// [RFC 8705 section 3.1]: https://www.rfc-editor.org/rfc/rfc8705#section-3.1
    pub(crate) fn confirmation(&self) -> Option<Value> {
        let certificate = self.client_certificate.as_ref()?;
        Some(json!({ "x5t#S256": certificate.x5t_s256() }))
    }

    /// Returns the decoded header of the client assertion, a JSON object.
    ///
    /// This method does not check the signature. Returns `None` if the form contains no JWT.
    pub fn assertion_header(&self) -> Option<String> {
        self.assertion_part(0)
    }

    /// Returns the decoded claims of the client assertion, a JSON object.
    pub fn assertion_claims(&self) -> Option<String> {
        self.assertion_part(1)
    }

    fn assertion_part(&self, index: usize) -> Option<String> {
        let part = self.field("client_assertion")?.split('.').nth(index)?;
        String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }

    /// Returns the first field of the form with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.form, name)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let pair = pairs.iter().find(|(key, _)| key == name);
    pair.map(|(_, value)| value.as_str())
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = self.form.iter().map(|(name, value)| match name.as_str() {
            "client_id"
            | "scope"
            | "grant_type"
            | "client_assertion_type"
            | "client_info"
            | "redirect_uri"
            | "requested_token_use"
            | "claims" => (name.as_str(), value.as_str()),
            _ => (name.as_str(), "[redacted]"),
        });
        let query = self.query.iter().map(|(name, value)| match name.as_str() {
            "api-version" | "resource" | "client_id" | "clientid" | "object_id"
            | "principal_id" | "principalId" | "msi_res_id" | "mi_res_id" | "xms_cc" => {
                (name.as_str(), value.as_str())
            }
            _ => (name.as_str(), "[redacted]"),
        });
        f.debug_struct("RecordedRequest")
            .field("path", &self.path)
            .field("query", &query.collect::<Vec<_>>())
            .field("form", &form.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
