//! The requests for tokens, as values.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Request};
use url::Url;

use super::{ManagedIdentity, Resource, UserAssignedId};
use crate::error::Error;
use crate::request::SKU;
use crate::secret::Secret;
use crate::token::TokenHash;

/// The values of a token request that do not depend on the host.
#[derive(Clone, Copy)]
pub(super) struct RequestValues<'a> {
    pub(super) identity: &'a ManagedIdentity,
    pub(super) resource: &'a Resource,
    pub(super) correlation_id: &'a str,
    pub(super) revocation: Option<Revocation<'a>>,
}

/// The token that the API rejected, and the abilities of the client. Service Fabric alone reads
/// the two.
#[derive(Clone, Copy)]
pub(super) struct Revocation<'a> {
    pub(super) capabilities: &'a [String],
    pub(super) rejected_token: Option<TokenHash>,
}

impl Revocation<'_> {
    /// Returns the query parameters.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        if !self.capabilities.is_empty() {
            parameters.push(("xms_cc", self.capabilities.join(",")));
        }
        if let Some(token) = self.rejected_token {
            parameters.push(("token_sha256_to_refresh", token.to_hex()));
        }
        parameters
    }
}

/// A token request in parts. Each source has its own parameters and headers.
pub(super) struct Parts<'a> {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Bytes,
    correlation_id: &'a str,
}

impl<'a> Parts<'a> {
    /// Begins a `GET` request with the version of the endpoint and the resource.
    pub(super) fn get(endpoint: &Url, api_version: &str, values: &RequestValues<'a>) -> Self {
        let mut parts = Self {
            method: Method::GET,
            url: endpoint.clone(),
            headers: Vec::new(),
            body: Bytes::new(),
            correlation_id: values.correlation_id,
        };
        parts.add_parameter("api-version", api_version);
        parts.add_parameter("resource", values.resource.as_str());
        parts
    }

    /// Begins a `POST` request with a form.
    pub(super) fn post(endpoint: &Url, form: String, values: &RequestValues<'a>) -> Self {
        Self {
            method: Method::POST,
            url: endpoint.clone(),
            headers: Vec::new(),
            body: Bytes::from(form),
            correlation_id: values.correlation_id,
        }
    }

    pub(super) fn add_parameter(&mut self, name: &str, value: &str) {
        self.url.query_pairs_mut().append_pair(name, value);
    }

    /// Adds a user-assigned identity under the source's name of the parameter.
    pub(super) fn add_id(
        &mut self,
        identity: &ManagedIdentity,
        name: impl Fn(&UserAssignedId) -> &'static str,
    ) {
        if let Some(id) = identity.id() {
            self.add_parameter(name(id), id.value());
        }
    }

    pub(super) fn add_header(&mut self, name: &'static str, value: &'static str) {
        self.headers.push((name, HeaderValue::from_static(value)));
    }

    /// Adds a header with a secret. `origin` says where the secret comes from, for the message.
    pub(super) fn add_secret(
        &mut self,
        name: &'static str,
        secret: &Secret,
        origin: &str,
    ) -> Result<(), Error> {
        // The error of `http` is dropped, because the value is secret.
        let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| {
            Error::config(format!(
                "{origin} cannot be sent in a header, because the value has a line break or another control character; restore the value of the host"
            ))
        })?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(())
    }

    pub(super) fn build(self) -> Result<Request<Bytes>, Error> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.url.as_str())
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header("x-client-sku", HeaderValue::from_static(SKU))
            .header(
                "x-client-ver",
                HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
            )
            .header("client-request-id", self.correlation_id);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).map_err(|error| {
            Error::config(format!(
                "the request for a managed identity's token cannot be built: {error}"
            ))
        })
    }
}

/// Requests as tests read them.
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::managed_identity) const RESOURCE: &str = "https://vault.azure.net";

    /// Returns the query parameters of a request, in their order.
    pub(in crate::managed_identity) fn query(request: &Request<Bytes>) -> Vec<(String, String)> {
        let url = Url::parse(&request.uri().to_string()).unwrap();
        url.query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    /// Returns the headers of a request, except those that every request has.
    pub(in crate::managed_identity) fn headers(request: &Request<Bytes>) -> Vec<(&str, &str)> {
        let common = [
            "accept",
            "x-client-sku",
            "x-client-ver",
            "client-request-id",
        ];
        for name in common {
            assert!(request.headers().contains_key(name), "{name}");
        }
        assert_eq!(request.headers()["client-request-id"], "our-id");
        let headers = request.headers().iter();
        headers
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .filter(|(name, _)| !common.contains(name))
            .collect()
    }

    /// Calls a function with the values of a request for [`RESOURCE`].
    pub(in crate::managed_identity) fn with_values<T>(
        identity: &ManagedIdentity,
        call: impl FnOnce(&RequestValues<'_>) -> T,
    ) -> T {
        call(&RequestValues {
            identity,
            resource: &Resource::of_scopes(RESOURCE).unwrap(),
            correlation_id: "our-id",
            revocation: None,
        })
    }

    /// Returns the three user-assigned identities, and the system-assigned identity.
    pub(in crate::managed_identity) fn identities() -> [ManagedIdentity; 4] {
        [
            ManagedIdentity::system_assigned(),
            ManagedIdentity::user_assigned_client_id("client"),
            ManagedIdentity::user_assigned_object_id("object"),
            ManagedIdentity::user_assigned_resource_id("/resource"),
        ]
    }

    #[test]
    fn a_secret_with_a_line_break_is_named_and_not_shown() {
        let identity = ManagedIdentity::system_assigned();
        let endpoint = Url::parse("http://127.0.0.1/").unwrap();
        with_values(&identity, |values| {
            let mut parts = Parts::get(&endpoint, "1", values);
            let secret = Secret::from("hunter2\nX: y");
            let added = parts.add_secret("secret", &secret, "the variable MSI_SECRET");
            let error = added.unwrap_err().to_string();
            assert!(
                error.starts_with("the variable MSI_SECRET cannot be sent"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        });
    }

    #[test]
    fn the_secret_of_a_request_is_sensitive() {
        let identity = ManagedIdentity::system_assigned();
        let endpoint = Url::parse("http://127.0.0.1/").unwrap();
        let request = with_values(&identity, |values| {
            let mut parts = Parts::get(&endpoint, "1", values);
            parts
                .add_secret("secret", &Secret::from("hunter2"), "the secret")
                .unwrap();
            parts.build().unwrap()
        });
        assert!(request.headers()["secret"].is_sensitive());
    }
}
