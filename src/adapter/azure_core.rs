use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;

use crate::client::{
    ConfidentialClient, CredentialChainClient, ManagedIdentityClient, Subject, TokenAcquirer,
    TokenProvider,
};
use crate::error::Error;
use crate::request::TokenRequest;
use crate::token::{AccessToken as Token, TokenScheme};

/// A credential for the clients of the Azure SDK for Rust.
///
/// Every client of the SDK that accepts a `TokenCredential` accepts this type. Clones are cheap and
/// share the cache of the client.
///
/// ```
/// # use bytes::Bytes;
/// use std::sync::Arc;
///
/// use azure_core::credentials::TokenCredential;
/// use confidential_client::ConfidentialClient;
/// use confidential_client::adapter::AzureCredential;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
///     .tenant("contoso.onmicrosoft.com")
///     .client_secret("the secret's value")
/// #   .transport(|_: http::Request<Bytes>| async {
/// #       let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
/// #       Ok(http::Response::new(Bytes::from(body)))
/// #   })
///     .build()?;
/// let credential: Arc<dyn TokenCredential> = Arc::new(AzureCredential::new(client));
///
/// // Clients of the SDK, such as the Key Vault client, call this method.
/// let token = credential.get_token(&["https://vault.azure.net/.default"], None).await?;
/// assert_eq!(token.token.secret(), "abc");
/// # Ok(())
/// # }
/// ```
///
/// The SDK passes the scopes with each call, and calls from within a tokio runtime. Each client of
/// the SDK keeps a token until 5 minutes before the token expires. After that, the client calls the
/// credential for every request, and the cache of this crate returns the token.
///
/// # Retries
///
/// This crate retries transient failures of token requests, as [`RetryPolicy`](crate::RetryPolicy)
/// says. The SDK does not retry after an error of the credential.
///
/// # Limits
///
/// azure_core 1.1 passes neither the claims of an API's challenge nor a rejected token to a
/// credential. After a 401 the SDK may call the credential again, and the credential returns the
/// same cached token.
///
/// The SDK sends every token with the scheme `Bearer`. A client whose tokens have another
/// [scheme](crate::TokenScheme), such as one with a
/// [proof key](crate::ConfidentialClientBuilder::dpop), is an error of the first call.
///
/// Do not declare the capability `cp1` for a client that the SDK uses. Tokens would be valid for a
/// day, and a claims challenge would have no effect. The setter is
/// [`client_capabilities`](crate::ConfidentialClientBuilder::client_capabilities).
///
/// # Errors
///
/// `get_token` returns an error of the kind `Credential` that contains the
/// [`Error`](crate::Error). A client of the SDK may wrap that error. Call
/// `downcast_ref::<Error>()` on the SDK's error and on each `source()`.
#[doc(alias(
    "TokenCredential",
    "ClientSecretCredential",
    "ClientCertificateCredential",
    "ClientAssertionCredential",
    "WorkloadIdentityCredential",
    "azure_identity"
))]
#[derive(Clone, Debug)]
pub struct AzureCredential {
    tokens: AzureTokenSource,
    tenant: Option<String>,
}

/// The source of the tokens for the SDK.
#[derive(Clone, Debug)]
enum AzureTokenSource {
    Client(TokenAcquirer),
    Provider(TokenProvider),
}

impl AzureCredential {
    /// Creates a credential for the client's tenant. Does no I/O.
    ///
    /// `client` is a [`ConfidentialClient`], a [`ManagedIdentityClient`] or a
    /// [`CredentialChainClient`]. Such a client acquires tokens for every scope that the SDK
    /// requests.
    ///
    /// A [`TokenProvider`] works, too. The SDK then gets tokens for the provider's scope only, and
    /// a request for another scope is an error of the call.
    pub fn new(client: impl Into<Self>) -> Self {
        client.into()
    }

    fn of(client: &TokenAcquirer) -> Self {
        Self::from_source(AzureTokenSource::Client(client.clone()))
    }

    fn from_source(tokens: AzureTokenSource) -> Self {
        Self {
            tokens,
            tenant: None,
        }
    }

    /// Sets the tenant that issues the tokens, for a daemon that serves many customers.
    ///
    /// [`TokenRequest::tenant`] has the rules. An invalid tenant is an error of the first call, and
    /// so is a tenant for a [`ManagedIdentityClient`], a [`CredentialChainClient`] or a
    /// [`TokenProvider`].
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    async fn token(&self, scopes: &[&str]) -> Result<Token, Error> {
        let scheme = match &self.tokens {
            AzureTokenSource::Client(client) => client.scheme(),
            AzureTokenSource::Provider(provider) => provider.scheme(),
        };
        if scheme != TokenScheme::Bearer {
            return Err(Error::config(format!(
                "the SDK sends every token with the scheme Bearer, and the tokens of this client have the scheme {}; use a client without a bound key for the Azure SDK",
                scheme.as_str()
            )));
        }
        match (&self.tokens, &self.tenant) {
            (AzureTokenSource::Client(client), tenant) => {
                let request = TokenRequest::new("").scopes(scopes);
                let request = match tenant {
                    Some(tenant) => request.tenant(tenant),
                    None => request,
                };
                client
                    .resolve_and_acquire(request, Subject::Application)
                    .await
            }
            (AzureTokenSource::Provider(_), Some(tenant)) => Err(Error::config(format!(
                "the tenant {tenant:?} was set for a credential of a token provider, whose request has the tenant; set the tenant in the request of token_provider(..)"
            ))),
            // A token goes only to the API that requests it.
            (AzureTokenSource::Provider(provider), None) => match same(provider.scopes(), scopes) {
                true => provider.token().await,
                false => Err(Error::config(format!(
                    "the SDK requests a token for '{}', and the token provider is for '{}'; create the provider for that scope, or pass the client",
                    scopes.join(" "),
                    provider.scopes()
                ))),
            },
        }
    }
}

impl From<TokenProvider> for AzureCredential {
    fn from(provider: TokenProvider) -> Self {
        Self::from_source(AzureTokenSource::Provider(provider))
    }
}

impl From<ConfidentialClient> for AzureCredential {
    fn from(client: ConfidentialClient) -> Self {
        Self::of(client.acquirer())
    }
}

impl From<CredentialChainClient> for AzureCredential {
    fn from(client: CredentialChainClient) -> Self {
        Self::of(client.acquirer())
    }
}

impl From<ManagedIdentityClient> for AzureCredential {
    fn from(client: ManagedIdentityClient) -> Self {
        Self::of(client.acquirer())
    }
}

#[async_trait::async_trait]
impl TokenCredential for AzureCredential {
    // The options concern credentials that use the SDK's HTTP pipeline.
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let token = self.token(scopes).await;
        let token = token.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let expires_on = to_offset_date_time(token.expires_on());
        Ok(AccessToken::new(token.secret().to_owned(), expires_on))
    }
}

/// Returns whether the scopes are the same set. The scope of a managed identity may be a resource.
fn same(provided: &str, requested: &[&str]) -> bool {
    let resource = |scope: &str| scope.strip_suffix("/.default").unwrap_or(scope).to_owned();
    let provided: BTreeSet<String> = provided.split_whitespace().map(resource).collect();
    let requested: BTreeSet<String> = requested.iter().map(|scope| resource(scope)).collect();
    provided == requested
}

/// Converts a time into the SDK's type, and a time after the year 9999 into the Unix epoch.
///
/// The SDK's own conversion panics after the year 9999. A token that expired at the epoch makes the
/// SDK call the credential again.
fn to_offset_date_time(time: SystemTime) -> OffsetDateTime {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since_epoch.as_nanos())
        .ok()
        .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_after_the_year_9999_counts_as_expired() {
        let year_9999 = Duration::from_secs(253_402_300_799);
        for (since, expected) in [
            (Duration::ZERO, 0),
            (Duration::new(1_600_000_000, 7), 1_600_000_000_000_000_007),
            (year_9999, 253_402_300_799_000_000_000),
            (year_9999 + Duration::from_secs(1), 0),
            (Duration::from_secs(1 << 40), 0),
        ] {
            let time = to_offset_date_time(UNIX_EPOCH + since);
            assert_eq!(time.unix_timestamp_nanos(), expected, "{since:?}");
        }
        let before = to_offset_date_time(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before, OffsetDateTime::UNIX_EPOCH);
    }
}
