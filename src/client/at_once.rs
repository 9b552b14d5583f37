//! What callers that do not await get without I/O: cached tokens, pages and sessions in memory.

use tokio::runtime::Handle;

use super::acquire::LookUp;
use super::resolve::{ResolvedRequest, Subject};
use super::{ConfidentialClient, TokenAcquirer};
use crate::error::Error;
use crate::request::{IntoTokenRequest, TokenRequest};
use crate::token::AccessToken;

impl TokenAcquirer {
    /// Acquires a token for the application itself.
    ///
    /// `acquire` receives a request whose slot has no fresh token.
    #[inline]
    pub(crate) fn acquire_for_application_with(
        &self,
        request: impl IntoTokenRequest,
        acquire: impl FnOnce(ResolvedRequest) -> Result<AccessToken, Error>,
    ) -> Result<AccessToken, Error> {
        let (request, scope) = match self.look_up(&request) {
            LookUp::Token(token) => {
                self.count_hit();
                return Ok(token);
            }
            LookUp::Request(request) => (request, None),
            LookUp::NewScope(scope) => (TokenRequest::new(&scope), Some(scope)),
            LookUp::Nothing => (request.into_token_request(), None),
        };
        let resolved = self.resolve(request.clone(), Subject::Application)?;
        let token = acquire(resolved)?;
        if let Some(scope) = scope {
            self.keep(&scope, &request, &token);
        }
        Ok(token)
    }

    /// Returns the cached token of a request if the token is valid. Does not wait.
    ///
    /// A token that is due is refreshed in the background, on the runtime that `runtime` returns.
    pub(crate) fn cached_token(
        &self,
        request: &ResolvedRequest,
        runtime: impl FnOnce() -> Option<Handle>,
    ) -> Option<Result<AccessToken, Error>> {
        match self.fresh_token(request) {
            Some(token) => Some(Ok(token)),
            None => self.cached_or_refreshed(&self.slot(request), request, runtime),
        }
    }

    /// Returns `true` if [`prove`](Self::prove) neither waits nor needs a runtime.
    pub(crate) fn proves_at_once(&self) -> bool {
        // Without a proof key, the proof is an error.
        self.proofs().is_none_or(|proofs| proofs.signs_at_once())
    }
}

impl ConfidentialClient {
    /// Returns `true` if the pages of sign-in and sign-out are known without I/O.
    pub(crate) fn knows_pages(&self) -> bool {
        self.fetcher.endpoints.issuer().is_none()
    }

    /// Returns `true` if the sessions of users are in memory alone.
    pub(crate) fn keeps_sessions_in_memory(&self) -> bool {
        self.acquirer.shared().is_none()
    }
}
