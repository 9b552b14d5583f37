use super::LocalAuthority;
use crate::error::{Error, Escaped};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::directory::consent::Consent;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::user::User;
use crate::testing::provider::lock;
use crate::testing::token::access::DelegatedAccess;
use crate::testing::token::format::ClientAuthMethod;
use crate::time::unix_seconds;

/// Users and their consents.
impl LocalAuthority {
    /// Adds a user to a tenant.
    ///
    /// A tenant is created with its first application, resource or user. A user with the same
    /// principal name is replaced.
    pub fn register_user(&self, tenant: impl AsRef<str>, user: User) {
        self.with_directory(tenant.as_ref(), |directory| directory.register_user(user));
    }

    /// Grants a user's consent: the application may use these scopes for the user.
    ///
    /// `scopes` has the form of a `scope` parameter, such as `api://drive/Files.Read`, and can name
    /// several resources. `/.default` stands for the scopes that the application
    /// [declares](crate::testing::Application::delegated).
    ///
    /// # Panics
    ///
    /// If `scopes` cannot be parsed.
    #[track_caller]
    pub fn consent(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        user_name: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) {
        let user = Some(user_name.as_ref());
        let consents = Consent::to(client_id.as_ref(), user, &parse(scopes.as_ref()));
        self.with_directory(tenant.as_ref(), |directory| {
            directory.consents.extend(consents);
        });
    }

    /// Grants an administrator's consent, which applies to every user of the tenant.
    ///
    /// `scopes` is the same as for [`consent`](Self::consent).
    ///
    /// A GET of [`admin_consent_url`](crate::ConfidentialClient::admin_consent_url) grants the
    /// consent to the declared permissions, and redirects without a page. An application of another
    /// tenant is thereby added to the tenant, which [`register_user`](Self::register_user) may have
    /// created. Before the consent, token requests in that tenant fail with AADSTS700016.
    /// `organizations` stands for the first tenant without the application.
    ///
    /// # Panics
    ///
    /// If `scopes` cannot be parsed.
    #[track_caller]
    pub fn admin_consent(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) {
        let consents = Consent::to(client_id.as_ref(), None, &parse(scopes.as_ref()));
        self.with_directory(tenant.as_ref(), |directory| {
            directory.consents.extend(consents);
        });
    }

    /// Returns the access token that an application gets for a user who just signed in.
    ///
    /// A test of a web API, or of an on-behalf-of request, starts with such a token. No HTTP
    /// request is sent or recorded.
    ///
    /// ```
    /// use confidential_client::testing::{Application, LocalAuthority, User};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// local.register("contoso.com", Application::new("app"));
    /// local.register_user("contoso.com", User::new("adele@contoso.com").name("Adele Vance"));
    /// local.consent("contoso.com", "app", "adele@contoso.com", "api://drive/Files.Read");
    ///
    /// let adele = ("contoso.com", "app", "adele@contoso.com");
    /// let token = local.user_token(adele.0, adele.1, adele.2, "api://drive/Files.Read")?;
    /// assert_eq!(token.split('.').count(), 3);
    /// let error = local.user_token(adele.0, adele.1, adele.2, "api://drive/Files.Write");
    /// assert!(error.unwrap_err().to_string().contains("has not consented"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the tenant, the application or the user is not registered, if the
    /// scopes are invalid, or if there is no [`consent`](Self::consent) of the user or of an
    /// administrator.
    pub fn user_token(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        user_name: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) -> Result<String, Error> {
        let token = self.issue_user_token(
            tenant.as_ref(),
            client_id.as_ref(),
            user_name.as_ref(),
            scopes.as_ref(),
        );
        token.map_err(|error| {
            Error::config(format!(
                "no token can be issued for the user; register what is missing or call consent(): AADSTS{}: {}",
                error.code,
                Escaped(&error.text)
            ))
        })
    }

    /// Revokes a user's sessions, as a change of password does.
    ///
    /// Refresh tokens that were issued before are rejected with 50173. Access tokens stay valid
    /// until they expire.
    pub fn revoke_user_sessions(&self, tenant: impl AsRef<str>, user_name: impl AsRef<str>) {
        let directories = lock(&self.provider.directories);
        let mut directories = directories.iter();
        if let Some(directory) = directories.find(|directory| directory.is(tenant.as_ref()))
            && let Some(user) = directory.user(user_name.as_ref())
        {
            lock(&self.provider.sessions).revoke_user(directory.id, user.id());
        }
    }

    /// Revokes an access token. The introspection endpoint then says that the token is not active,
    /// and an exchange of the token is rejected.
    pub fn revoke_access_token(&self, token: impl AsRef<str>) {
        lock(&self.provider.issued_tokens).revoke(token.as_ref());
    }

    fn issue_user_token(
        &self,
        tenant: &str,
        client_id: &str,
        user_name: &str,
        scopes: &str,
    ) -> Result<String, AadstsError> {
        let scopes = ScopeParameter::parse(scopes)?;
        self.provider.with_issuer(|directories, issuer, _| {
            let mut directories = directories.iter();
            let Some(directory) = directories.find(|directory| directory.is(tenant)) else {
                return Err(AadstsError::tenant_not_found("invalid_request", tenant));
            };
            let Some(client) = directory.application(client_id) else {
                return Err(AadstsError::application_not_found(client_id, tenant));
            };
            let Some(user) = directory.user(user_name) else {
                return Err(AadstsError::user_not_found(user_name, tenant));
            };
            let auth_method = ClientAuthMethod::Secret;
            let capabilities = Vec::new();
            let access = DelegatedAccess::check(
                directory,
                client,
                auth_method,
                user,
                &scopes,
                capabilities,
            )?;
            access.access_token(issuer, unix_seconds(issuer.now))
        })
    }
}

#[track_caller]
#[expect(clippy::panic, reason = "invalid scopes are a mistake in the test")]
fn parse(scopes: &str) -> ScopeParameter {
    match ScopeParameter::parse(scopes) {
        Ok(scopes) => scopes,
        Err(error) => panic!("{}", error.text),
    }
}
