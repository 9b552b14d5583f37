use std::time::SystemTime;

use super::LocalAuthority;
use crate::error::{Error, Escaped};
use crate::testing::aadsts::AadstsError;
use crate::testing::directory::consent::Consent;
use crate::testing::directory::scopes::ScopeParameter;
use crate::testing::directory::user::User;
use crate::testing::http::server::lock;
use crate::testing::token::access::DelegatedAccess;
use crate::time::unix_seconds;

/// Users, and what they let applications do.
impl LocalAuthority {
    /// Adds a user to a tenant, which is made if there is none of that name; a user of the same
    /// principal name is replaced.
    pub fn register_user(&self, tenant: impl AsRef<str>, user: User) {
        self.in_directory(tenant.as_ref(), |known| known.register_user(user));
    }

    /// A user's own consent, given beforehand: the application may have these scopes in the user's
    /// name. `scopes` are written as in a request, such as `api://drive/Files.Read`; of several
    /// resources if need be; `/.default` is what the application
    /// [declares](super::Application::delegated).
    ///
    /// # Panics
    ///
    /// If `scopes` cannot be read.
    #[track_caller]
    pub fn consent(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        user_name: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) {
        let user = Some(user_name.as_ref());
        let consents = Consent::to(client_id.as_ref(), user, &read(scopes.as_ref()));
        self.in_directory(tenant.as_ref(), |known| known.consents.extend(consents));
    }

    /// An administrator's consent: as [`consent`](Self::consent), for every user of the tenant.
    ///
    /// # Panics
    ///
    /// If `scopes` cannot be read.
    #[track_caller]
    pub fn admin_consent(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) {
        let consents = Consent::to(client_id.as_ref(), None, &read(scopes.as_ref()));
        self.in_directory(tenant.as_ref(), |known| known.consents.extend(consents));
    }

    /// The access token that an application would have if this user had just signed in to it: what
    /// a test of a web API starts from, or of acting on behalf of its caller.
    ///
    /// It makes no request, and nothing is recorded.
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
    /// [`Error::Config`] where the tenant, the application or the user is not registered, where the
    /// scopes are not good, and where the user has not consented: see [`consent`](Self::consent).
    pub fn user_token(
        &self,
        tenant: impl AsRef<str>,
        client_id: impl AsRef<str>,
        user_name: impl AsRef<str>,
        scopes: impl AsRef<str>,
    ) -> Result<String, Error> {
        let (tenant, client_id) = (tenant.as_ref(), client_id.as_ref());
        let user_name = user_name.as_ref();
        let token = || {
            let scopes = ScopeParameter::parse(scopes.as_ref())?;
            self.server.decide(|directories, issuer, _| {
                let mut directories = directories.iter();
                let Some(directory) = directories.find(|known| known.is(tenant)) else {
                    return Err(AadstsError::tenant_not_found("invalid_request", tenant));
                };
                let Some(client) = directory.application(client_id) else {
                    return Err(AadstsError::application_not_found(client_id, tenant));
                };
                let Some(user) = directory.user(user_name) else {
                    return Err(AadstsError::user_not_found(user_name, tenant));
                };
                let client = (client, BY_SECRET);
                let access = DelegatedAccess::decide(directory, client, user, &scopes, Vec::new())?;
                access.access_token(issuer, unix_seconds(SystemTime::now()))
            })
        };
        token().map_err(|refusal: AadstsError| {
            Error::config(format!(
                "there is no token for this user, register what is missing or call consent(): AADSTS{}: {}",
                refusal.code,
                Escaped(&refusal.text)
            ))
        })
    }

    /// Ends a user's sessions, as a new password does: the refresh tokens issued so far are refused
    /// with 50173. Access tokens go on until they end.
    pub fn revoke_user_sessions(&self, tenant: impl AsRef<str>, user_name: impl AsRef<str>) {
        let directories = lock(&self.server.directories);
        let mut known = directories.iter();
        if let Some(directory) = known.find(|known| known.is(tenant.as_ref()))
            && let Some(user) = directory.user(user_name.as_ref())
        {
            lock(&self.server.sessions).end(directory.id, user.id());
        }
    }
}

#[track_caller]
#[expect(
    clippy::panic,
    reason = "scopes that cannot be read are a mistake in the test's own text"
)]
fn read(scopes: &str) -> ScopeParameter {
    match ScopeParameter::parse(scopes) {
        Ok(scopes) => scopes,
        Err(refusal) => panic!("{}", refusal.text),
    }
}

/// The `azpacr` claim of a client with a secret.
const BY_SECRET: &str = "1";
