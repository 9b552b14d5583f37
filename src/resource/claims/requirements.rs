//! The requirements that an API puts on a token and on its user.

use serde_json::json;

use super::Claims;
use crate::error::Error;
use crate::jwt::{self, is_guid};
use crate::resource::access_denied::UserNotAllowed;
use crate::resource::holder::Holder;
use crate::resource::rejection::{RejectionReason, TokenRejection};

impl Claims {
    /// Requires a client that acts for a user and was granted `scope`, such as `Files.Read`.
    ///
    /// An application token never passes. The scope says nothing about the rights of the user. Call
    /// [`authorize_user`](Self::authorize_user) or [`require_user_role`](Self::require_user_role)
    /// for the user.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope` and the scope.
    #[doc(alias("RequiredScope", "VerifyUserHasAnyAcceptedScope"))]
    pub fn require_scope(&self, scope: &str) -> Result<(), TokenRejection> {
        self.require_any(&[scope], &[])
    }

    /// Requires an application that acts without a user and was granted `role`, such as
    /// `Files.Read.All`.
    ///
    /// A user token never passes, even if the user has a role of that name.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope`.
    #[doc(alias("RequiredScopeOrAppPermission", "ValidateAppRole"))]
    pub fn require_application_role(&self, role: &str) -> Result<(), TokenRejection> {
        self.require_any(&[], &[role])
    }

    /// Requires a user who has the app role `role`, such as `Editor`.
    ///
    /// App roles are defined in the API's registration and assigned to users or groups there. An
    /// application token never passes, even if the application has a role of that name. The role
    /// says nothing about the permissions of the client. Call
    /// [`require_scope`](Self::require_scope) first.
    ///
    /// ```
    /// use confidential_client::resource::{AccessDenied, Claims};
    ///
    /// fn may_edit(token: &Claims) -> Result<(), AccessDenied> {
    ///     token.require_scope("Files.ReadWrite")?; // The client was granted the scope.
    ///     token.require_user_role("Editor")?; // The user has the role.
    ///     Ok(())
    /// }
    /// # let _ = may_edit;
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`UserNotAllowed`], a 403 without a challenge, because another token does not help.
    #[doc(alias("IsInRole", "RequireRole", "require_role"))]
    pub fn require_user_role(&self, role: &str) -> Result<(), UserNotAllowed> {
        if !self.is_user() {
            return Err(self.denied(UserNotAllowed::no_user()));
        }
        match self.roles().any(|assigned| assigned == role) {
            true => Ok(()),
            false => Err(self.denied(UserNotAllowed::missing_role(role))),
        }
    }

    /// Requires one of `scopes` from a user token, or one of `roles` from an application token.
    ///
    /// A user token passes with a scope only, and an application token with a role only. An empty
    /// list rejects every token of that kind.
    ///
    /// # Errors
    ///
    /// Returns a 403 rejection with `insufficient_scope` and the scopes.
    pub fn require_any(&self, scopes: &[&str], roles: &[&str]) -> Result<(), TokenRejection> {
        let rejected = |reason, message| {
            let detail = self.description();
            let rejection = TokenRejection::insufficient(reason, message, detail, scopes);
            Err(self.rejected(rejection))
        };
        match self.holder() {
            Holder::User if !scopes.is_empty() => {
                if self.scopes().any(|granted| scopes.contains(&granted)) {
                    return Ok(());
                }
                rejected(
                    RejectionReason::MissingScope,
                    format!("the client was not granted {}", any_of("scope", scopes)),
                )
            }
            Holder::Application if !roles.is_empty() => {
                if self.roles().any(|granted| roles.contains(&granted)) {
                    return Ok(());
                }
                rejected(
                    RejectionReason::MissingRole,
                    format!("the application was not granted {}", any_of("role", roles)),
                )
            }
            _ if scopes.is_empty() => rejected(
                RejectionReason::NeedsApplication,
                format!(
                    "this operation requires an application token with {}",
                    any_of("role", roles)
                ),
            ),
            _ => rejected(
                RejectionReason::NeedsUser,
                format!(
                    "this operation requires a user token with {}",
                    any_of("scope", scopes)
                ),
            ),
        }
    }

    /// Requires a user who has met the authentication context `id`, such as `c1`.
    ///
    /// A Conditional Access policy defines the context, for example a second factor.
    ///
    /// A client answers a claims challenge only if the client declares the capability `cp1`. Entra
    /// writes the client's capabilities into the optional claim `xms_cc`. Request that claim in the
    /// API's registration, because without `xms_cc` no client gets a challenge.
    ///
    /// # Errors
    ///
    /// - A claims challenge for a client with the capability `cp1`. The response is a 401 with
    ///   `insufficient_claims`. The client requests a token with the challenge's claims, and the
    ///   identity provider issues such a token after the user has met the context.
    /// - A 403 without a claims challenge for every other client.
    /// - A 403 with `insufficient_scope` for a token that does not act for a user.
    #[doc(alias("acrs", "step_up", "xms_cc"))]
    pub fn require_authentication_context(&self, id: &str) -> Result<(), TokenRejection> {
        if !self.is_user() {
            return Err(self.rejected(TokenRejection::insufficient(
                RejectionReason::NeedsUser,
                format!(
                    "this operation requires a user token with the authentication context '{id}'"
                ),
                self.description(),
                &[],
            )));
        }
        let met = || self.0.claims.strings("acrs");
        if met().any(|met| met == id) {
            return Ok(());
        }
        let acrs = json!({ "essential": true, "value": id });
        let claims = json!({ "access_token": { "acrs": acrs } }).to_string();
        let has_capability = self.answers_challenges();
        let message =
            format!("the token does not show that the user met the authentication context '{id}'");
        let message = match has_capability {
            true => message,
            false => format!(
                "{message}, and the client does not declare that it can answer a claims challenge (cp1)"
            ),
        };
        let detail = format!(
            "the token's contexts (acrs) are {}, and the client's capabilities (xms_cc, an optional claim that the API's registration requests) are {}; {}",
            jwt::listed(met()),
            jwt::listed(self.capabilities()),
            self.description(),
        );
        Err(self.rejected(TokenRejection::needs_authentication_context(
            message,
            detail,
            has_capability.then_some(claims),
            self.0.authorization_uri.clone(),
        )))
    }

    /// Creates the claims challenge that hands an error of an on-behalf-of call on to the client.
    ///
    /// An API that calls another API for the user cannot show the user a page. If the identity
    /// provider demands another factor, [`Error::claims_challenge`] has the claims. The challenge
    /// is a 401 response with these claims and `insufficient_claims`. The client requests a token
    /// with the claims and calls this API again. The response contains neither the provider's text
    /// nor its ids. [`TokenRejection::chain`] has the provider's error.
    ///
    /// The capability `cp1` is not required, because no other response helps a client.
    ///
    /// Returns `None` if the error has no claims, or claims that are not a JSON object of at most
    /// 6 KB. If [`Error::needs_user_interaction`] is true then, for example because the user did
    /// not consent, no challenge helps the client. Respond 403, and let the user or an
    /// administrator consent in the client's own sign-in.
    ///
    /// ```
    /// use confidential_client::delegated::UserAssertion;
    /// use confidential_client::resource::{Claims, TokenRejection};
    /// use confidential_client::{AccessToken, ConfidentialClient, Error};
    ///
    /// enum Failed {
    ///     Rejected(TokenRejection), // The response is the claims challenge.
    ///     Unavailable(Error),
    /// }
    ///
    /// async fn mail(client: &ConfidentialClient, token: &Claims) -> Result<AccessToken, Failed> {
    ///     let user = UserAssertion::new(token.token());
    ///     let scope = "https://graph.microsoft.com/Mail.Read";
    ///     let outcome = client.acquire_token_on_behalf_of(&user, scope).await;
    ///     outcome.map_err(|error| match token.challenge_from(&error) {
    ///         Some(challenge) => Failed::Rejected(challenge),
    ///         None => Failed::Unavailable(error),
    ///     })
    /// }
    /// # let _ = mail;
    /// ```
    #[doc(alias("ReplyForbiddenWithWwwAuthenticateHeader", "claims_challenge"))]
    pub fn challenge_from(&self, error: &Error) -> Option<TokenRejection> {
        let challenge = TokenRejection::needs_claims(error, self.0.authorization_uri.clone())?;
        Some(self.rejected(challenge))
    }

    /// Requires a user that `is_allowed` accepts, such as the owner of a file.
    ///
    /// Call [`require_scope`](Self::require_scope) first, because the rights of the user say
    /// nothing about the permissions of the client. The closure is synchronous. Load the data for
    /// the decision before the call.
    ///
    /// # Errors
    ///
    /// Returns [`UserNotAllowed`] if `is_allowed` returns `false`, or if the token does not act for
    /// a user. The response is a 403 without a challenge, because another token does not help.
    pub fn authorize_user(
        &self,
        is_allowed: impl FnOnce(&Self) -> bool,
    ) -> Result<(), UserNotAllowed> {
        if !self.is_user() {
            return Err(self.denied(UserNotAllowed::no_user()));
        }
        match is_allowed(self) {
            true => Ok(()),
            false => Err(self.denied(UserNotAllowed::not_allowed())),
        }
    }

    /// Returns the capabilities that the client declares (`xms_cc`), such as `cp1`.
    fn capabilities(&self) -> impl Iterator<Item = &str> {
        let names = self.0.claims.strings("xms_cc");
        let names = names.flat_map(|names| names.split([' ', ',']));
        names.filter(|name| !name.is_empty())
    }

    fn answers_challenges(&self) -> bool {
        self.capabilities()
            .any(|name| name.eq_ignore_ascii_case("cp1"))
    }

    /// Describes the token for the operator, without claims that name a person.
    fn description(&self) -> String {
        let id = |id: Option<&str>| jwt::listed(id.filter(|id| is_guid(id)));
        format!(
            "the holder is {:?}, the client is {}, the tenant is {}, the object id is {}, the scopes are {}, and the roles are {}",
            self.holder(),
            jwt::listed(self.client_id()),
            id(self.tenant_id()),
            id(self.object_id()),
            jwt::listed(self.scopes()),
            jwt::listed(self.roles()),
        )
    }

    fn rejected(&self, rejection: TokenRejection) -> TokenRejection {
        let rejection = match &self.0.schemes {
            Some((schemes, used)) => rejection.with_schemes(schemes, *used, None),
            None => rejection,
        };
        self.0.log.token(&rejection);
        rejection
    }

    fn denied(&self, denial: UserNotAllowed) -> UserNotAllowed {
        self.0.log.user(&denial, &self.description());
        denial
    }
}

fn any_of(noun: &str, names: &[&str]) -> String {
    match names {
        [name] => format!("the {noun} '{name}'"),
        names => format!("any of the {noun}s '{}'", names.join("', '")),
    }
}
