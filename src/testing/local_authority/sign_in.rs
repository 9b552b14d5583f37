use url::{Url, form_urlencoded};

use super::LocalAuthority;
use crate::error::{Error, Escaped};
use crate::testing::aadsts::error::AadstsError;
use crate::testing::authorize::flow::SignInStep;

/// Sign-in without a browser.
impl LocalAuthority {
    /// Signs a user in without a browser and returns the URL that ends the sign-in.
    ///
    /// `url` is the URL of an authorization request. The user consents to all requested scopes. The
    /// returned URL is the redirect URI with `code` and `state`, or with `error`.
    ///
    /// No HTTP request is sent. The result is the same as with the pages. For
    /// `response_mode=form_post`, the query of the returned URL contains the fields of the form.
    ///
    /// ```
    /// use confidential_client::testing::{Application, LocalAuthority, User};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let local = LocalAuthority::start().await?;
    /// let web = Application::new("web").redirect_uri("https://web.example.org/signed-in");
    /// local.register("contoso.com", web);
    /// local.register_user("contoso.com", User::new("adele@contoso.com"));
    ///
    /// let url = format!(
    ///     "{}/contoso.com/oauth2/v2.0/authorize?client_id=web&response_type=code&scope=openid\
    ///      &redirect_uri=https%3A%2F%2Fweb.example.org%2Fsigned-in&state=7",
    ///     local.base_url(),
    /// );
    /// let redirect = local.sign_in(url, "adele@contoso.com").await?;
    /// assert!(redirect.starts_with("https://web.example.org/signed-in?code="));
    /// assert!(redirect.ends_with("&state=7"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the browser would show an error page: `url` does not belong to this
    /// authority, or the tenant, the client, the redirect URI or the user is not registered.
    pub async fn sign_in(
        &self,
        url: impl AsRef<str>,
        user_name: impl AsRef<str>,
    ) -> Result<String, Error> {
        let (tenant, query) = self.authorization_request(url.as_ref())?;
        let redirect = self.provider.sign_in(|mut flow| {
            let mut step = flow.begin(&query, &tenant)?;
            loop {
                step = match step {
                    SignInStep::ChooseUser { pending, .. } => {
                        flow.choose_user(&pending, user_name.as_ref())?
                    }
                    SignInStep::Consent { pending, .. } => flow.submit_consent(&pending, true)?,
                    SignInStep::Done(response) => return Ok(response.url()),
                };
            }
        });
        redirect.map_err(|error: AadstsError| {
            Error::config(format!(
                "the sign-in ends on an error page: AADSTS{}: {}",
                error.code,
                Escaped(&error.text)
            ))
        })
    }

    /// Returns the tenant and the query of the URL of an authorization request.
    fn authorization_request(&self, url: &str) -> Result<(String, Vec<(String, String)>), Error> {
        let base = &self.provider.base;
        let invalid = || {
            Error::config(format!(
                "the URL is not an authorization request to this LocalAuthority; pass a URL that begins with {base}"
            ))
        };
        let url = Url::parse(url).map_err(|_| invalid())?;
        let base_url = Url::parse(base).map_err(|_| invalid())?;
        let path = url.path().strip_prefix('/');
        let tenant = path.and_then(|path| path.strip_suffix("/oauth2/v2.0/authorize"));
        let tenant = tenant.filter(|_| url.origin() == base_url.origin());
        let query = form_urlencoded::parse(url.query().unwrap_or_default().as_bytes());
        let tenant = tenant.ok_or_else(invalid)?.to_owned();
        Ok((tenant, query.into_owned().collect()))
    }
}
