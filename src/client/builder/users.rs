//! The settings of users' tokens.

use super::ConfidentialClientBuilder;
#[cfg(doc)]
use crate::{Authority, ConfidentialClient, Error, RetryPolicy};

impl ConfidentialClientBuilder {
    /// Sets whether the identity provider may treat a second use of a refresh token as theft, as
    /// providers that rotate refresh tokens do ([RFC 9700 section 4.14.2]).
    ///
    /// A request with a refresh token is sent once, and [`RetryPolicy`] does not apply. After a
    /// timeout, a lost connection, 408, 425, 429, 5xx, or a success that cannot be read, the
    /// refresh token is *in doubt*, because the provider may have redeemed the refresh token. The
    /// refresh token is also in doubt after the request's task was dropped. A connection that could
    /// not be opened, a redirect, and any other 4xx leave no doubt.
    ///
    /// | authority | default | a refresh token in doubt |
    /// |---|---|---|
    /// | [`entra`](Authority::entra), [`external_id`](Authority::external_id) | `false` | is sent again with the next request |
    /// | [`b2c`](Authority::b2c) | `false` | is sent again with the next request |
    /// | [`adfs`](Authority::adfs) | `false` | is sent again with the next request |
    /// | [`oidc`](Authority::oidc) | `true` | is not sent again, and the user signs in again |
    /// | [`oidc`](Authority::oidc) with [`fapi2`](Authority::fapi2) | `false` | is sent again with the next request |
    ///
    /// Where the user has to sign in again, the client returns cached access tokens until they
    /// expire, and then [`Error::InteractionRequired`]. An on-behalf-of request falls back to the
    /// user assertion, which is valid more than once. An authorization code in doubt is never sent
    /// again.
    ///
    /// [RFC 9700 section 4.14.2]: https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2
    pub fn refresh_token_rotation(mut self, rotates: bool) -> Self {
        self.refresh_token_rotation = Some(rotates);
        self
    }

    /// Adds audiences that an ID token may have besides the client ID. The default is none.
    ///
    /// A sign-in rejects an ID token with any other audience ([OpenID Connect Core section
    /// 3.1.3.7]). Some providers add all clients of a project.
    ///
    /// [OpenID Connect Core section 3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub fn id_token_audiences<A: Into<String>>(
        mut self,
        audiences: impl IntoIterator<Item = A>,
    ) -> Self {
        let audiences = audiences.into_iter().map(Into::into);
        self.id_token_audiences.extend(audiences);
        self
    }

    /// Keeps the latest ID token of each signed-in user, for
    /// [`ConfidentialClient::acquire_id_token_silent`]. By default no ID token is kept.
    ///
    /// A client that keeps ID tokens requests a new one with each refresh of a user's tokens: the
    /// scope `openid` is added to the refresh at an OpenID provider, which grants `openid` at every
    /// sign-in. Microsoft's authorities receive the scope in any case. A refreshed ID token is
    /// validated as at the sign-in, and a session of
    /// [`import_refresh_token`](ConfidentialClient::import_refresh_token) has an ID token after its
    /// first refresh. An ID token takes one to two kilobytes of memory for each user.
    ///
    /// With a [shared cache](Self::shared_cache) the ID token is in the record of the user's
    /// session, so every process has the ID token. All processes should have the same setting. A
    /// process without the setting keeps the ID token that it finds.
    pub fn keep_id_tokens(mut self) -> Self {
        self.keeps_id_tokens = true;
        self
    }
}
