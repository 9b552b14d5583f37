//! The redemption of an authorization code.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::authority::Tenant;
use crate::client::ConfidentialClient;
use crate::client::fetch::{Fetch, IdTokenFailure};
use crate::client::resolve::Subject;
use crate::delegated::{
    Account, AuthorizationCodeFlow, SignInResponse, UserIdentity, invalid_id_token,
    invalid_response,
};
use crate::endpoint::{Lookup, ResponseIssuer};
use crate::error::Error;
use crate::request::TokenRequest;
use crate::response::TokenResponse;
use crate::secret::Secret;
use crate::token::{CacheKey, IssuedToken, UserKey};

impl ConfidentialClient {
    /// Redeems the code, and validates the ID token.
    pub(super) async fn sign_in(
        &self,
        flow: &AuthorizationCodeFlow,
        authorization: &SignInResponse,
    ) -> Result<SignedIn, Error> {
        let fetcher = &self.fetcher;
        let request = flow.request();
        let requested = self
            .fetcher
            .resolve_tenant(&request, &Subject::Application)?;
        let (key, response) = self.redeem(flow, authorization).await?;
        let Some(id_token) = response.id_token else {
            return Err(invalid_id_token("the provider sent none"));
        };
        let correlation_id = response.issued.correlation_id().to_owned();
        let lookup = fetcher.lookup(&correlation_id);
        let claims = fetcher.validate_id_token(&id_token, requested, flow.max_age(), &lookup);
        let claims = claims.await.map_err(IdTokenFailure::into_error)?;
        if let Some(issuer) = authorization.issuer()
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(invalid_id_token(
                "its issuer is not the issuer that the authorization response named",
            ));
        }
        let client_info = response.client_info.as_deref();
        let rules = fetcher.endpoints.rules();
        let account = Account::from_id_token(&claims, client_info, flow.nonce(), rules)?;
        let identity = UserIdentity::of_sign_in(&claims, client_info, rules)?;
        let tenant = requested
            .filter(|tenant| !tenant.is_multi_tenant())
            .or(account.tenant());
        let key = CacheKey {
            tenant: tenant.cloned(),
            user: Some(Arc::clone(account.user())),
            ..CacheKey::clone(&key)
        };
        Ok(SignedIn {
            issued: response.issued.belonging_to(Arc::new(key)),
            refresh_token: response.refresh_token,
            account,
            identity,
            id_token,
            claims,
        })
    }

    /// Redeems the code. The key of the token has no user.
    pub(super) async fn redeem(
        &self,
        flow: &AuthorizationCodeFlow,
        authorization: &SignInResponse,
    ) -> Result<(Arc<CacheKey>, TokenResponse), Error> {
        let fetcher = &self.fetcher;
        let request = flow.request();
        let requested = self
            .fetcher
            .resolve_tenant(&request, &Subject::Application)?;
        let fetch = self.fetch_of(flow, requested, correlation_id(&request)?)?;
        let lookup = fetcher.lookup(&fetch.correlation_id);
        self.check_before_redemption(flow, authorization, requested, &lookup)
            .await?;
        fetch.set_anchor_mailbox(flow.anchor_mailbox());
        let deadline = Instant::now() + fetcher.retry.total_timeout();
        let verifier = flow.verifier();
        let code = authorization.code()?;
        let grant = flow.grant(code, &verifier);
        let span = fetch.span();
        let response = fetcher.redeem(&fetch, grant, deadline).instrument(span);
        let response = response.await.map_err(|error| match code.is_in_doubt() {
            true => error.with_lost_code(),
            false => error,
        })?;
        Ok((Arc::clone(&fetch.key), response))
    }

    /// Returns the progress of the requests of a sign-in. The key of the token has no user.
    pub(super) fn fetch_of(
        &self,
        flow: &AuthorizationCodeFlow,
        requested: Option<&Tenant>,
        correlation_id: String,
    ) -> Result<Fetch, Error> {
        let fetcher = &self.fetcher;
        let request = flow.request();
        let scopes = request.requested_scopes();
        let scopes_to_send = flow.scopes_to_send(scopes)?;
        let scopes = match flow.is_without_id_token() {
            true => scopes.set(),
            false => &scopes.for_user()?.set,
        };
        Ok(Fetch {
            // The user is not known before the response.
            key: Arc::new(CacheKey {
                tenant: requested.cloned(),
                scopes: scopes.clone(),
                user: Some(Arc::new(UserKey::Account("".into()))),
                parameters: request.extra_parameters()?.clone(),
            }),
            tenant: requested.cloned(),
            scopes: scopes_to_send,
            claims: request.requested_claims()?,
            headers: request.extra_headers().clone(),
            rejected: None,
            correlation_id,
            is_refresh: false,
            requirements: Default::default(),
            has_token: false,
            binding: fetcher.token_binding(),
            anchor_mailbox: Default::default(),
            identity: Default::default(),
            progress: Default::default(),
            agent: None,
        })
    }

    /// Checks everything that needs the authority's metadata: the code is valid for one request.
    async fn check_before_redemption(
        &self,
        flow: &AuthorizationCodeFlow,
        authorization: &SignInResponse,
        tenant: Option<&Tenant>,
        lookup: &Lookup<'_>,
    ) -> Result<(), Error> {
        let endpoints = &self.fetcher.endpoints;
        let issuer = endpoints.response_issuer(tenant, lookup).await?;
        check_issuer(authorization, &issuer)?;
        if !flow.is_without_id_token() {
            endpoints.check_id_tokens(lookup).await?;
            endpoints.issuer_keys(tenant, lookup).await?;
        }
        Ok(())
    }
}

/// A user's tokens, and the user that the validated ID token names.
pub(super) struct SignedIn {
    pub(super) issued: IssuedToken,
    pub(super) refresh_token: Option<Secret>,
    pub(super) account: Account,
    pub(super) identity: UserIdentity,
    pub(super) id_token: Secret,
    pub(super) claims: Map<String, Value>,
}

pub(super) fn check_issuer(
    authorization: &SignInResponse,
    issuer: &ResponseIssuer,
) -> Result<(), Error> {
    let checked = issuer.check(authorization.issuer());
    checked.map_err(|reason| invalid_response(&reason))
}

pub(super) fn correlation_id(request: &TokenRequest) -> Result<String, Error> {
    let requested = request.requested_correlation_id()?;
    Ok(requested.unwrap_or_else(Uuid::new_v4).to_string())
}
