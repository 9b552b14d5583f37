use std::collections::HashMap;
use std::time::SystemTime;

use uuid::Uuid;

use crate::testing::aadsts::AadstsError;
use crate::testing::authorize::steps::PendingSignIn;
use crate::testing::token::code::{AuthorizationCode, AuthorizationCodes, CodeRedemption};

/// What users' sign-ins wait for, and what they have left behind.
pub(crate) struct Sessions {
    /// Whether a refresh token may be used once only.
    strict_rotation: bool,
    refresh_tokens: HashMap<String, IssuedRefreshToken>,
    pub(crate) codes: AuthorizationCodes,
    /// By what their forms name them.
    pending: HashMap<String, PendingSignIn>,
}

/// What a refresh token stands for.
#[derive(Clone)]
pub(crate) struct IssuedRefreshToken {
    pub(crate) tenant: Uuid,
    pub(crate) client_id: String,
    pub(crate) user: Uuid,
    /// As asked for when the user signed in.
    pub(crate) scope: String,
    /// The sign-in that it goes back to.
    pub(crate) family: Uuid,
    state: RefreshTokenState,
}

#[derive(Clone, Copy, PartialEq)]
enum RefreshTokenState {
    Good,
    Used,
    /// A used one of its family was used again.
    Stolen,
    /// The user's sessions were ended.
    Ended,
}

impl IssuedRefreshToken {
    /// The first of a sign-in.
    pub(crate) fn first(tenant: Uuid, client_id: &str, user: Uuid, scope: &str) -> Self {
        Self {
            tenant,
            client_id: client_id.to_owned(),
            user,
            scope: scope.to_owned(),
            family: Uuid::new_v4(),
            state: RefreshTokenState::Good,
        }
    }
}

impl Sessions {
    pub(crate) fn new(strict_rotation: bool) -> Self {
        Self {
            strict_rotation,
            refresh_tokens: HashMap::new(),
            codes: AuthorizationCodes::default(),
            pending: HashMap::new(),
        }
    }

    /// Keeps an authorization request for its next form.
    pub(crate) fn wait(&mut self, pending: PendingSignIn) -> String {
        let id = random();
        self.pending.insert(id.clone(), pending);
        id
    }

    /// Takes it out again: each form is good once.
    pub(crate) fn resume(&mut self, id: &str) -> Option<PendingSignIn> {
        self.pending.remove(id)
    }

    /// What a code stands for. It is good until it is redeemed; where refresh tokens are good once,
    /// those that it brought end when it comes again ([RFC 6749 section 4.1.2]).
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
            self.change(|known| known.family == family, RefreshTokenState::Stolen);
        }
        checked
    }

    /// Makes a refresh token that stands for this.
    pub(crate) fn keep(&mut self, token: IssuedRefreshToken) -> String {
        let secret = random();
        self.refresh_tokens.insert(secret.clone(), token);
        secret
    }

    pub(crate) fn tenant_of(&self, secret: &str) -> Option<Uuid> {
        self.refresh_tokens.get(secret).map(|token| token.tenant)
    }

    /// What the refresh token of this client stands for. It is good until
    /// [`rotate`](Self::rotate).
    pub(crate) fn check(
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
            RefreshTokenState::Ended => Err(AadstsError::sessions_revoked()),
            RefreshTokenState::Stolen => Err(AadstsError::expired_grant()),
            // Who of the two is the thief, nobody can tell (RFC 9700 section 4.14.2).
            RefreshTokenState::Used if self.strict_rotation => {
                let family = token.family;
                self.change(|known| known.family == family, RefreshTokenState::Stolen);
                Err(AadstsError::expired_grant())
            }
            RefreshTokenState::Used | RefreshTokenState::Good => Ok(token),
        }
    }

    /// The next refresh token, after this one was used.
    pub(crate) fn rotate(&mut self, secret: &str, token: IssuedRefreshToken) -> String {
        if let Some(used) = self.refresh_tokens.get_mut(secret) {
            used.state = RefreshTokenState::Used;
        }
        self.keep(IssuedRefreshToken {
            state: RefreshTokenState::Good,
            ..token
        })
    }

    /// Ends the sessions of a user.
    pub(crate) fn end(&mut self, tenant: Uuid, user: Uuid) {
        self.change(
            |known| known.tenant == tenant && known.user == user,
            RefreshTokenState::Ended,
        );
    }

    fn change(&mut self, is_meant: impl Fn(&IssuedRefreshToken) -> bool, state: RefreshTokenState) {
        let tokens = self.refresh_tokens.values_mut();
        tokens
            .filter(|token| is_meant(token))
            .for_each(|token| token.state = state);
    }
}

/// 244 random bits, as a word of a URL.
pub(crate) fn random() -> String {
    let (one, other) = (Uuid::new_v4().simple(), Uuid::new_v4().simple());
    format!("1.{one}{other}")
}
