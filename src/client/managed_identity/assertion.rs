//! The token of a managed identity as the client assertion of an application.

use std::error::Error as StdError;
use std::sync::Arc;

use http::Uri;

use super::ManagedIdentityClient;
use crate::authority::token_exchange_scope;
use crate::credential::{
    AssertionContext, ClientAssertionFuture, ClientAssertionProvider, ProviderSettings,
};
use crate::error::Error;
use crate::managed_identity::ManagedIdentity;
use crate::request::TokenRequest;

/// The token of a user-assigned identity as a client assertion.
///
/// A client that receives the identity in
/// [`client_assertion`](crate::ConfidentialClientBuilder::client_assertion) caches the assertion,
/// and refreshes the assertion ahead of its expiry. An assertion that Microsoft Entra ID rejects as
/// expired (AADSTS700024) is removed from the cache. A [`ManagedIdentityClient`] in the place of
/// the identity has other settings and shares its cache.
///
/// The scope follows the cloud of the token endpoint: `api://AzureADTokenExchange/.default`,
/// `api://AzureADTokenExchangeUSGov/.default` or `api://AzureADTokenExchangeChina/.default`.
/// Microsoft Entra ID accepts user-assigned identities of the app registration's own tenant, so
/// `build()` rejects the system-assigned identity.
impl ClientAssertionProvider for ManagedIdentity {
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(async move {
            let client = ManagedIdentityClient::new(self.clone())?;
            assertion(&client, self, &context).await
        })
    }

    fn describe(&self) -> String {
        format!("token of {self}")
    }

    fn prepare(
        &self,
        settings: &ProviderSettings,
    ) -> Option<Result<Arc<dyn ClientAssertionProvider>, Error>> {
        let mut builder = ManagedIdentityClient::builder(self.clone());
        builder.clock = settings.clock.clone();
        Some(builder.build().and_then(user_assigned))
    }
}

/// The token of a user-assigned identity as a client assertion, as for [`ManagedIdentity`].
impl ClientAssertionProvider for ManagedIdentityClient {
    fn client_assertion(&self, context: AssertionContext) -> ClientAssertionFuture<'_> {
        Box::pin(async move { assertion(self, self.identity(), &context).await })
    }

    fn describe(&self) -> String {
        format!("token of {}", self.identity())
    }

    fn prepare(
        &self,
        _: &ProviderSettings,
    ) -> Option<Result<Arc<dyn ClientAssertionProvider>, Error>> {
        Some(user_assigned(self.clone()))
    }
}

async fn assertion(
    client: &ManagedIdentityClient,
    identity: &ManagedIdentity,
    context: &AssertionContext,
) -> Result<String, Box<dyn StdError + Send + Sync>> {
    check_kind(identity)?;
    let endpoint = context.token_endpoint().parse::<Uri>();
    let host = endpoint.as_ref().ok().and_then(Uri::host);
    let scope = token_exchange_scope(host.unwrap_or_default());
    let request = match context.claims() {
        None => TokenRequest::new(scope),
        // The cached assertion may be the reason of the challenge.
        Some(claims) => TokenRequest::new(scope).claims(claims),
    };
    let token = client.acquire_token(&request).await?;
    // Another token request may have replaced the rejected assertion.
    let token = match context.rejected_assertion() == Some(token.secret()) {
        true => client.acquire_token(request.rejected_token(&token)).await?,
        false => token,
    };
    Ok(token.secret().to_owned())
}

fn user_assigned(client: ManagedIdentityClient) -> Result<Arc<dyn ClientAssertionProvider>, Error> {
    check_kind(client.identity())?;
    Ok(Arc::new(client))
}

/// Rejects the system-assigned identity, which no federated credential can name.
fn check_kind(identity: &ManagedIdentity) -> Result<(), Error> {
    match identity.id() {
        Some(_) => Ok(()),
        None => Err(Error::config(
            "the system-assigned identity cannot be the credential of an application: Microsoft Entra ID accepts user-assigned identities alone as federated credentials; assign a user-assigned identity to the host, and use ManagedIdentity::user_assigned_client_id(..)",
        )),
    }
}
