use std::time::{SystemTime, UNIX_EPOCH};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;

use crate::client::ConfidentialClient;
use crate::request::TokenRequest;

/// A client as the credential of the Azure SDK for Rust: every client of the SDK that takes a
/// `TokenCredential` takes it. Cheap to clone.
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
/// // What a client of the SDK does with it, such as Key Vault's:
/// let token = credential.get_token(&["https://vault.azure.net/.default"], None).await?;
/// assert_eq!(token.token.secret(), "abc");
/// # Ok(())
/// # }
/// ```
///
/// The SDK says which scopes, call by call, and asks within a tokio runtime. Its clients keep a token
/// until five minutes before its end, each its own; then they ask again, and this crate's cache
/// answers all of them. It repeats no call for an error of its credential, as this crate has done so.
///
/// azure_core 1.1 tells a credential neither the claims of an API's challenge nor that a token was
/// turned down. So declare no `cp1`
/// ([`client_capabilities`](crate::ConfidentialClientBuilder::client_capabilities)) for a client
/// that the SDK uses: its tokens would live for a day, and nobody would answer the API that
/// takes one back.
#[derive(Clone, Debug)]
pub struct AzureCredential {
    client: ConfidentialClient,
    tenant: Option<String>,
}

impl AzureCredential {
    /// A credential of the client's own tenant. Does no I/O.
    pub fn new(client: ConfidentialClient) -> Self {
        Self {
            client,
            tenant: None,
        }
    }

    /// The tenant of the tokens, for a daemon that serves many customers: see
    /// [`TokenRequest::tenant`]. One that is none is an error of the first call.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }
}

/// An error is of the kind `Credential` and holds this crate's [`Error`](crate::Error):
/// `downcast_ref::<Error>()` finds it there, or in a `source()` where the SDK has added its own words.
#[async_trait::async_trait]
impl TokenCredential for AzureCredential {
    // Its options are for credentials that use the SDK's HTTP pipeline.
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let request = TokenRequest::new("").scopes(scopes);
        let request = match &self.tenant {
            Some(tenant) => request.tenant(tenant),
            None => request,
        };
        let token = self.client.acquire_token_for_client(request).await;
        let token = token.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let expires_on = in_their_time(token.expires_on());
        Ok(AccessToken::new(token.secret().to_owned(), expires_on))
    }
}

/// A time that theirs cannot hold, after the year 9999, has passed: they ask again, and nothing is
/// believed for ever. Their own conversion panics there.
fn in_their_time(time: SystemTime) -> OffsetDateTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos())
        .ok()
        .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_theirs_or_has_passed() {
        let year_9999 = Duration::from_secs(253_402_300_799);
        for (since, expected) in [
            (Duration::ZERO, 0),
            (Duration::new(1_600_000_000, 7), 1_600_000_000_000_000_007),
            (year_9999, 253_402_300_799_000_000_000),
            (year_9999 + Duration::from_secs(1), 0),
            (Duration::from_secs(1 << 40), 0),
        ] {
            let time = in_their_time(UNIX_EPOCH + since);
            assert_eq!(time.unix_timestamp_nanos(), expected, "{since:?}");
        }
        let before = in_their_time(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before, OffsetDateTime::UNIX_EPOCH);
    }
}
