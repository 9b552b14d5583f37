//! Clients of the three libraries with the same authority.

use std::sync::Arc;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{Secret, SecretBytes, TokenCredential};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport};
use azure_identity::{
    ClientCertificateCredential, ClientCertificateCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions,
};
use confidential_client::{
    Authority, CacheOptions, Cloud, ConfidentialClient, ConfidentialClientBuilder,
};
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, Scope, TokenUrl};

use crate::{CLIENT_ID, Result, SECRET, TENANT};

/// Returns a builder of this crate's client.
pub fn ours(base_url: &str) -> ConfidentialClientBuilder {
    ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::entra(Cloud::Custom(base_url.to_owned()), TENANT))
        .cache(CacheOptions::default().max_entries(200_000))
}

pub fn azure_identity(base_url: &str) -> Result<Arc<dyn TokenCredential>> {
    azure_identity_for(TENANT, azure_options(base_url))
}

/// Returns a credential for one tenant. The credentials share the HTTP client of the options.
pub fn azure_identity_for(
    tenant: &str,
    client_options: ClientOptions,
) -> Result<Arc<dyn TokenCredential>> {
    Ok(ClientSecretCredential::new(
        tenant,
        CLIENT_ID.to_owned(),
        Secret::new(SECRET),
        Some(ClientSecretCredentialOptions { client_options }),
    )?)
}

pub fn azure_identity_with_certificate(
    base_url: &str,
    pkcs12: Vec<u8>,
) -> Result<Arc<dyn TokenCredential>> {
    Ok(ClientCertificateCredential::new(
        TENANT.to_owned(),
        CLIENT_ID.to_owned(),
        SecretBytes::new(pkcs12),
        Some(ClientCertificateCredentialOptions {
            client_options: azure_options(base_url),
            ..ClientCertificateCredentialOptions::default()
        }),
    )?)
}

pub fn azure_options(base_url: &str) -> ClientOptions {
    let mut cloud = CustomConfiguration::default();
    cloud.authority_host = base_url.replace("http://", "https://");
    let transport = Transport::new(Arc::new(PlainHttp(reqwest::Client::new())));
    ClientOptions {
        transport: Some(transport),
        cloud: Some(Arc::new(cloud.into())),
        ..ClientOptions::default()
    }
}

/// An HTTP client that sends https requests as plain http.
///
/// `azure_identity` accepts only an https authority, and the benchmark's authority has no TLS.
#[derive(Debug)]
struct PlainHttp(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for PlainHttp {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut request = request.clone();
        let plain = request.url().as_str().replacen("https://", "http://", 1);
        *request.url_mut() = plain.parse()?;
        self.0.execute_request(&request).await
    }
}

/// Returns an HTTP client for `oauth2`, as that crate's documentation shows.
pub fn oauth2_http() -> Result<oauth2::reqwest::Client> {
    Ok(oauth2::reqwest::Client::builder()
        .redirect(oauth2::reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?)
}

/// A client of the `oauth2` crate, which has no cache.
pub struct OAuth2 {
    client:
        BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>,
    http: oauth2::reqwest::Client,
}

impl OAuth2 {
    pub fn new(base_url: &str) -> Result<Self> {
        Self::for_tenant(base_url, TENANT, oauth2_http()?)
    }

    /// Returns a client for one tenant.
    pub fn for_tenant(base_url: &str, tenant: &str, http: oauth2::reqwest::Client) -> Result<Self> {
        let endpoint = format!("{base_url}/{tenant}/oauth2/v2.0/token");
        Ok(Self {
            client: BasicClient::new(ClientId::new(CLIENT_ID.to_owned()))
                .set_client_secret(ClientSecret::new(SECRET.to_owned()))
                .set_token_uri(TokenUrl::new(endpoint)?)
                .set_auth_type(AuthType::RequestBody),
            http,
        })
    }

    pub async fn acquire(&self, scope: String) -> Result<BasicTokenResponse> {
        let request = self.client.exchange_client_credentials();
        let request = request.add_scope(Scope::new(scope));
        Ok(request.request_async(&self.http).await?)
    }
}
