use std::collections::HashMap;
use std::time::SystemTime;

use uuid::Uuid;

use super::code::{AuthorizationCode, AuthorizationCodes, CodeRedemption};
use super::random_secret;
use crate::testing::aadsts::error::AadstsError;

/// Codes and refresh tokens of all signed-in users.
pub(crate) struct Sessions {
    /// True if a refresh token can be used only once.
    strict_rotation: bool,
    refresh_tokens: HashMap<String, IssuedRefreshToken>,
    pub(crate) codes: AuthorizationCodes,
}

/// The client, user and scope that a refresh token stands for.
#[derive(Clone)]
pub(crate) struct IssuedRefreshToken {
    pub(crate) tenant: Uuid,
    pub(crate) client_id: String,
    pub(crate) user: Uuid,
    /// The requested scope of the sign-in.
    pub(crate) scope: String,
    /// Id of the sign-in, shared by all refresh tokens of the sign-in.
    pub(crate) family: Uuid,
    state: RefreshTokenState,
}

#[derive(Clone, Copy, PartialEq)]
enum RefreshTokenState {
    Valid,
    Used,
    /// A used token of the family was used again.
    Stolen,
    /// The sessions of the user were revoked.
    Revoked,
}

impl IssuedRefreshToken {
    /// Creates the first refresh token of a sign-in.
    pub(crate) fn first(tenant: Uuid, client_id: &str, user: Uuid, scope: &str) -> Self {
        Self {
            tenant,
            client_id: client_id.to_owned(),
            user,
            scope: scope.to_owned(),
            family: Uuid::new_v4(),
            state: RefreshTokenState::Valid,
        }
    }
}

impl Sessions {
    pub(crate) fn new(strict_rotation: bool) -> Self {
        Self {
            strict_rotation,
            refresh_tokens: HashMap::new(),
            codes: AuthorizationCodes::default(),
        }
    }

    /// Checks a code, which stays valid until [`AuthorizationCodes::redeem`].
    ///
    /// With strict rotation, a redeemed code invalidates all refresh tokens of the sign-in
    /// ([RFC 6749 section 4.1.2]).
    ///
    /// [RFC 6749 section 4.1.2]: https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
    pub(crate) fn check_code(
        &mut self,
        secret: &str,
        redemption: &CodeRedemption<'_>,
        now: SystemTime,
    ) -> Result<AuthorizationCode, AadstsError> {
        let checked = self.codes.check(secret, redemption, now);
        if let (true, Some(code)) = (self.strict_rotation, self.codes.find(secret))
            && code.is_redeemed
        {
            let family = code.family;
            self.set_state(RefreshTokenState::Stolen, |token| token.family == family);
        }
        checked
    }

    /// Stores a refresh token and returns its secret.
    pub(crate) fn issue_refresh_token(&mut self, token: IssuedRefreshToken) -> String {
        let secret = random_secret();
        self.refresh_tokens.insert(secret.clone(), token);
        secret
    }

    /// Returns the tenant of a refresh token.
    pub(crate) fn tenant_of(&self, secret: &str) -> Option<Uuid> {
        self.refresh_tokens.get(secret).map(|token| token.tenant)
    }

    /// Checks a refresh token, which stays valid until [`rotate`](Self::rotate).
    pub(crate) fn check_refresh_token(
        &mut self,
        secret: &str,
        client_id: &str,
    ) -> Result<IssuedRefreshToken, AadstsError> {
        let Some(token) = self.refresh_tokens.get(secret).cloned() else {
            return Err(AadstsError::malformed_grant());
        };
        if !token.client_id.eq_ignore_ascii_case(client_id) {
            return Err(AadstsError::issued_to_other_client("refresh_token"));
        }
        match token.state {
            RefreshTokenState::Revoked => Err(AadstsError::sessions_revoked()),
            RefreshTokenState::Stolen => Err(AadstsError::expired_grant()),
            // The server cannot tell the thief from the client (RFC 9700 section 4.14.2).
            RefreshTokenState::Used if self.strict_rotation => {
                let family = token.family;
                self.set_state(RefreshTokenState::Stolen, |token| token.family == family);
                Err(AadstsError::expired_grant())
            }
            RefreshTokenState::Used | RefreshTokenState::Valid => Ok(token),
        }
    }

    /// Marks a refresh token as used and returns the secret of the next one.
    pub(crate) fn rotate(&mut self, secret: &str, token: IssuedRefreshToken) -> String {
        if let Some(used) = self.refresh_tokens.get_mut(secret) {
            used.state = RefreshTokenState::Used;
        }
        self.issue_refresh_token(IssuedRefreshToken {
            state: RefreshTokenState::Valid,
            ..token
        })
    }

    /// Revokes all refresh tokens of a user.
    pub(crate) fn revoke_user(&mut self, tenant: Uuid, user: Uuid) {
        self.set_state(RefreshTokenState::Revoked, |token| {
            token.tenant == tenant && token.user == user
        });
    }

    fn set_state(
        &mut self,
        state: RefreshTokenState,
        is_affected: impl Fn(&IssuedRefreshToken) -> bool,
    ) {
        let tokens = self.refresh_tokens.values_mut();
        tokens
            .filter(|token| is_affected(token))
            .for_each(|token| token.state = state);
    }
}
