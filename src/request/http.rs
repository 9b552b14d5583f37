use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::anchor_mailbox::ANCHOR_MAILBOX;
use super::headers::ExtraHeaders;
use super::parameters::{ParameterLocation, Parameters};
use crate::authority::Rules;
use crate::client_auth::ClientAuthentication;
use crate::error::Error;
use crate::grant::Grant;
use crate::secret::Secret;

/// A token request in wire form, for the token endpoint ([RFC 6749 section 3.2]).
///
/// [RFC 6749 section 3.2]: https://www.rfc-editor.org/rfc/rfc6749#section-3.2
pub(crate) struct TokenHttpRequest<'a> {
    pub(crate) endpoint: &'a Uri,
    pub(crate) client_id: &'a str,
    pub(crate) client_auth: &'a ClientAuthentication,
    pub(crate) grant: Grant<'a>,
    pub(crate) scopes: &'a str,
    pub(crate) parameters: &'a Parameters,
    pub(crate) headers: &'a ExtraHeaders,
    /// The user of the token request.
    pub(crate) anchor_mailbox: Option<&'a HeaderValue>,
    pub(crate) claims: Option<&'a str>,
    pub(crate) correlation_id: &'a str,
    pub(crate) rules: Rules,
    /// The type of the token, if the request has to name it.
    pub(crate) token_type: Option<&'static str>,
}

impl TokenHttpRequest<'_> {
    /// Builds the HTTP request.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the URL or a header value is invalid.
    pub(crate) fn to_http(&self) -> Result<http::Request<Bytes>, Error> {
        let (uri, form) = (self.uri()?, self.form());
        let mut request = post(uri, form, self.client_auth, self.correlation_id)?;
        let headers = request.headers_mut();
        // As MSAL: for Entra alone. A header of the caller's replaces this one.
        if let (Some(user), Rules::Entra) = (self.anchor_mailbox, self.rules) {
            headers.insert(ANCHOR_MAILBOX, user.clone());
        }
        self.headers.append_to(headers);
        Ok(request)
    }

    /// Returns the token endpoint with the extra parameters of the query, which are rare.
    fn uri(&self) -> Result<Uri, Error> {
        let mut parameters = self.parameters.of(ParameterLocation::Query).peekable();
        if parameters.peek().is_none() {
            return Ok(self.endpoint.clone());
        }
        let mut url = Url::parse(&self.endpoint.to_string()).map_err(|error| {
            Error::config(format!("the token request cannot be built: {error}"))
        })?;
        url.query_pairs_mut().extend_pairs(parameters);
        Uri::try_from(url.as_str()).map_err(build_error)
    }

    /// Builds the body, with the parameters in MSAL's order.
    fn form(&self) -> String {
        let mut form = Serializer::new(String::with_capacity(FORM_CAPACITY));
        // RFC 6749 section 2.3.1: the header carries the client id and the secret.
        if !matches!(self.client_auth, ClientAuthentication::Basic { .. }) {
            form.append_pair("client_id", self.client_id);
        }
        append_credential(self.client_auth, &mut form);
        if !self.scopes.is_empty() {
            form.append_pair("scope", self.scopes);
        }
        if let Some(claims) = self.claims {
            form.append_pair("claims", claims);
        }
        self.grant.append_to(&mut form);
        if let Some(token_type) = self.token_type {
            form.append_pair("token_type", token_type);
        }
        if self.rules == Rules::Entra {
            // As MSAL: 1 requests the user's ids in the response.
            let client_info = if self.grant.is_of_a_user() { "1" } else { "2" };
            form.append_pair("client_info", client_info);
        }
        form.extend_pairs(self.parameters.of(ParameterLocation::Form));
        form.finish()
    }
}

/// A pushed authorization request in wire form ([RFC 9126 section 2.1]).
///
/// [RFC 9126 section 2.1]: https://www.rfc-editor.org/rfc/rfc9126#section-2.1
pub(crate) struct PushedHttpRequest<'a> {
    pub(crate) endpoint: &'a Uri,
    pub(crate) client_auth: &'a ClientAuthentication,
    /// The parameters of the authorization request, with `client_id`.
    pub(crate) parameters: &'a [(&'a str, Cow<'a, str>)],
    pub(crate) headers: &'a ExtraHeaders,
    pub(crate) correlation_id: &'a str,
}

impl PushedHttpRequest<'_> {
    /// Builds the HTTP request.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a header value is invalid.
    pub(crate) fn to_http(&self) -> Result<http::Request<Bytes>, Error> {
        let mut form = Serializer::new(String::with_capacity(FORM_CAPACITY));
        form.extend_pairs(self.parameters);
        append_credential(self.client_auth, &mut form);
        let (uri, form) = (self.endpoint.clone(), form.finish());
        let mut request = post(uri, form, self.client_auth, self.correlation_id)?;
        self.headers.append_to(request.headers_mut());
        Ok(request)
    }
}

/// An introspection request in wire form ([RFC 7662 section 2.1]).
///
/// [RFC 7662 section 2.1]: https://www.rfc-editor.org/rfc/rfc7662#section-2.1
pub(crate) struct IntrospectionHttpRequest<'a> {
    pub(crate) endpoint: &'a Uri,
    pub(crate) client_id: &'a str,
    pub(crate) client_auth: &'a ClientAuthentication,
    pub(crate) token: &'a Secret,
    pub(crate) correlation_id: &'a str,
}

impl IntrospectionHttpRequest<'_> {
    /// Builds the HTTP request.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a header value is invalid.
    pub(crate) fn to_http(&self) -> Result<http::Request<Bytes>, Error> {
        let mut form = Serializer::new(String::with_capacity(FORM_CAPACITY));
        form.append_pair("token", self.token.expose());
        form.append_pair("token_type_hint", "access_token");
        if !matches!(self.client_auth, ClientAuthentication::Basic { .. }) {
            form.append_pair("client_id", self.client_id);
        }
        append_credential(self.client_auth, &mut form);
        post(
            self.endpoint.clone(),
            form.finish(),
            self.client_auth,
            self.correlation_id,
        )
    }
}

/// Builds a request with the form as the body, and with client authentication in the header if the
/// method wants it there.
fn post(
    uri: Uri,
    form: String,
    client_auth: &ClientAuthentication,
    correlation_id: &str,
) -> Result<http::Request<Bytes>, Error> {
    let mut request = http::Request::new(Bytes::from(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let id = HeaderValue::from_str(correlation_id).map_err(build_error)?;
    let headers = request.headers_mut();
    *headers = HEADERS.clone();
    headers.insert(CLIENT_REQUEST_ID, id);
    if let ClientAuthentication::Basic { credentials, .. } = client_auth {
        let value = Zeroizing::new(format!("Basic {}", credentials.expose()));
        let mut value = HeaderValue::from_str(&value).map_err(build_error)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Appends the credential of a client that authenticates in the form.
fn append_credential(client_auth: &ClientAuthentication, form: &mut Serializer<'_, String>) {
    match client_auth {
        // The header or the connection authenticates the client.
        ClientAuthentication::Basic { .. } | ClientAuthentication::Connection => {}
        ClientAuthentication::Secret(secret) => {
            form.append_pair("client_secret", secret.expose());
        }
        ClientAuthentication::Assertion(assertion) => {
            form.append_pair("client_assertion_type", JWT_BEARER);
            form.append_pair("client_assertion", assertion.expose());
        }
    }
}

fn build_error(error: impl Into<http::Error>) -> Error {
    let error = error.into();
    Error::config(format!("the token request cannot be built: {error}"))
}

/// The headers of all token requests. [`TokenHttpRequest::to_http`] replaces the correlation id.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let os = HeaderValue::from_static(std::env::consts::OS);
    HeaderMap::from_iter([
        (CONTENT_TYPE, FORM),
        (ACCEPT, HeaderValue::from_static("application/json")),
        (
            HeaderName::from_static("x-client-sku"),
            HeaderValue::from_static(SKU),
        ),
        (
            HeaderName::from_static("x-client-ver"),
            HeaderValue::from_static(VERSION),
        ),
        (HeaderName::from_static("x-client-os"), os),
        (CLIENT_REQUEST_ID, HeaderValue::from_static("")),
        (
            HeaderName::from_static("return-client-request-id"),
            HeaderValue::from_static("true"),
        ),
        (
            HeaderName::from_static("x-ms-lib-capability"),
            HeaderValue::from_static("retry-after, h429"),
        ),
    ])
});
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The name of this library in requests to the identity provider.
pub(crate) const SKU: &str = "confidential-client.rs";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// The length of most bodies with a secret, in bytes. A longer body grows.
const FORM_CAPACITY: usize = 512;
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests {
    use super::*;

    fn body(client_auth: ClientAuthentication) -> String {
        let endpoint = Uri::from_static("https://login.example.org/t/oauth2/v2.0/token");
        let request = TokenHttpRequest {
            endpoint: &endpoint,
            client_id: "client",
            client_auth: &client_auth,
            grant: Grant::ClientCredentials,
            scopes: "api://a/.default",
            parameters: &Parameters::default(),
            headers: &ExtraHeaders::default(),
            anchor_mailbox: None,
            claims: None,
            correlation_id: "id",
            rules: Rules::Entra,
            token_type: None,
        };
        let body = request.to_http().unwrap().into_body();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn the_form_has_msals_order() {
        assert_eq!(
            body(ClientAuthentication::Secret(Secret::from("a+b &ä"))),
            "client_id=client&client_secret=a%2Bb+%26%C3%A4&scope=api%3A%2F%2Fa%2F.default\
             &grant_type=client_credentials&client_info=2"
        );
        assert_eq!(
            body(ClientAuthentication::Assertion(Secret::from("e.y.J"))),
            "client_id=client\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion=e.y.J&scope=api%3A%2F%2Fa%2F.default\
             &grant_type=client_credentials&client_info=2"
        );
        assert_eq!(
            body(ClientAuthentication::Connection),
            "client_id=client&scope=api%3A%2F%2Fa%2F.default\
             &grant_type=client_credentials&client_info=2"
        );
    }
}
