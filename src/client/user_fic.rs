use tokio::time::Instant;

use super::fetch::{Fetch, Phase, TokenFetcher};
use super::fetch_for_user::Refreshed;
use super::resolve::Subject;
use super::{ConfidentialClient, TokenProvider};
use crate::authority::Rules;
use crate::credential::{UserFederatedCredential, rejects_exchanged_token};
use crate::delegated::UserIdentifier;
use crate::error::Error;
use crate::grant::{Grant, UserName};
use crate::request::IntoTokenRequest;
use crate::request::anchor_mailbox::AnchorMailbox;
use crate::secret::Secret;
use crate::token::AccessToken;

/// # Acting as a user
impl ConfidentialClient {
    /// Acquires a token for a user whom the application names, with a token of the application for
    /// the user (Entra's grant `user_fic`).
    ///
    /// Microsoft Entra ID has this grant for agent identities. The
    /// [method of an agent identity](crate::AgentIdentity::acquire_token_by_user_fic) acquires the
    /// credential by itself. This method is for a client whose client ID is the agent
    /// identity, and whose credential is the blueprint's token.
    ///
    /// Returns the cached token while the token is valid, else redeems the refresh token of the
    /// last response, else uses the credential. The tokens are cached by user. They are shared,
    /// refreshed and bounded like the tokens of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client). `openid`, `profile` and
    /// `offline_access` are added to the scopes. A response that names another user than the first
    /// response is an error, and nothing of the response is cached.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] before the network: an object ID that is no GUID, an empty username, no
    /// scope, or another provider than Microsoft Entra ID. [`Error::Credential`]: the credential is
    /// no token, or its provider failed. After it, the errors of
    /// [`acquire_token_for_client`](Self::acquire_token_for_client).
    #[doc(alias = "AcquireTokenByUserFederatedIdentityCredential")]
    pub async fn acquire_token_by_user_fic(
        &self,
        user: &UserIdentifier,
        credential: impl Into<UserFederatedCredential>,
        request: impl IntoTokenRequest,
    ) -> Result<AccessToken, Error> {
        let user = FederatedUser::new(user.clone(), credential.into());
        let request = request.into_token_request();
        let request = self.fetcher.resolve(request, Subject::Federated(user))?;
        self.acquirer.acquire(request).await
    }
}

/// The credential is the provider's token, which each token request that needs it acquires.
impl From<TokenProvider> for UserFederatedCredential {
    fn from(provider: TokenProvider) -> Self {
        Self::from_provider(provider)
    }
}

impl From<&TokenProvider> for UserFederatedCredential {
    fn from(provider: &TokenProvider) -> Self {
        Self::from_provider(provider.clone())
    }
}

/// A user whom the application names, and the application's credential for the user.
#[derive(Clone)]
pub(crate) struct FederatedUser {
    pub(super) user: UserIdentifier,
    credential: UserFederatedCredential,
}

impl FederatedUser {
    pub(crate) fn new(user: UserIdentifier, credential: UserFederatedCredential) -> Self {
        Self { user, credential }
    }
}

impl TokenFetcher {
    /// Checks the user, and that the provider has the grant.
    pub(super) fn check_user_fic(&self, user: &FederatedUser) -> Result<(), Error> {
        user.user.name()?;
        match self.endpoints.rules() {
            Rules::Entra => Ok(()),
            other => Err(Error::config(format!(
                "acquire_token_by_user_fic(..) cannot be used: {} has no grant 'user_fic', which is of Microsoft Entra ID alone; to act for the user of an API call, call acquire_token_on_behalf_of(..), or exchange_token(..) at an OpenID provider",
                other.name()
            ))),
        }
    }

    /// Acquires a token for the named user. A rejected credential is replaced once.
    pub(super) async fn redeem_federated(
        &self,
        fetch: &Fetch,
        user: &FederatedUser,
        deadline: Instant,
    ) -> Result<Refreshed, Error> {
        let FederatedUser { user, credential } = user;
        let user = user.name()?;
        fetch.set_anchor_mailbox(anchor_mailbox(user, fetch));
        let token = self.user_credential(fetch, credential, None).await?;
        let grant = |credential| Grant::UserFic { user, credential };
        let rejection = match self.redeem_grant(fetch, grant(&token), deadline).await {
            Err(error) if credential.is_renewable() && rejects_exchanged_token(&error) => error,
            result => return result,
        };
        match self.user_credential(fetch, credential, Some(&token)).await {
            Ok(other) if other.expose() != token.expose() => {
                tracing::warn!(
                    correlation_id = fetch.correlation_id,
                    "the identity provider rejected the user federated identity credential; the request is retried with another"
                );
                self.redeem_grant(fetch, grant(&other), deadline).await
            }
            // The rejection says more than the failure of a search for another credential.
            Ok(_) | Err(_) => Err(rejection),
        }
    }

    /// Returns the token of the credential, other than a rejected one if there is another.
    async fn user_credential(
        &self,
        fetch: &Fetch,
        credential: &UserFederatedCredential,
        rejected: Option<&Secret>,
    ) -> Result<Secret, Error> {
        let lookup = self.lookup(&fetch.correlation_id);
        let tenant = fetch.tenant.as_ref();
        let endpoint = self.endpoints.token_endpoint(tenant, &lookup).await?;
        fetch.enter(Phase::Credential);
        let mut context = self.assertion_context(fetch, &endpoint, 1);
        context.rejected_assertion = rejected.cloned();
        credential.fetch(context, self.retry.step_limit()).await
    }
}

/// Returns the user as the header `x-anchormailbox` names the user.
fn anchor_mailbox<'a>(user: UserName<'a>, fetch: &'a Fetch) -> Option<AnchorMailbox<'a>> {
    match user {
        UserName::ObjectId(object_id) => {
            let tenant = fetch.tenant.as_ref()?.as_str();
            Some(AnchorMailbox::ObjectId { object_id, tenant })
        }
        UserName::Username(name) => Some(AnchorMailbox::Username(name)),
    }
}
