use url::{Url, form_urlencoded};

use super::LocalAuthority;
use crate::error::{Error, Escaped};
use crate::testing::aadsts::AadstsError;
use crate::testing::authorize::steps::{SignInStep, answer_consent, begin, choose_user};

impl LocalAuthority {
    /// Signs a user in without a browser, a shortcut for tests: opens the URL of an authorization
    /// request, chooses this user, accepts what is asked for, and returns the URL that the browser
    /// would be sent to: the redirect URI with `code` and `state`, or with `error`.
    ///
    /// The pages decide the same; no request is made. Where the client asked for
    /// `response_mode=form_post`, the URL's query holds the fields of the form.
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
    /// let back = local.sign_in(url, "adele@contoso.com").await?;
    /// assert!(back.starts_with("https://web.example.org/signed-in?code="));
    /// assert!(back.ends_with("&state=7"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where a browser would end on a page of this authority: the URL is not its
    /// own, the tenant, the client or the redirect URI is not registered, or the user is not.
    pub async fn sign_in(
        &self,
        url: impl AsRef<str>,
        user_name: impl AsRef<str>,
    ) -> Result<String, Error> {
        let not_ours = || {
            Error::config(format!(
                "the URL is no authorization request of this LocalAuthority; pass one that begins with {}",
                self.server.base
            ))
        };
        let parsed = Url::parse(url.as_ref()).map_err(|_| not_ours())?;
        let path = parsed.path().strip_prefix('/');
        let tenant = path.and_then(|path| path.strip_suffix("/oauth2/v2.0/authorize"));
        let base = Url::parse(&self.server.base).map_err(|_| not_ours())?;
        let tenant = tenant.filter(|_| parsed.origin() == base.origin());
        let tenant = tenant.ok_or_else(not_ours)?;
        let query = parsed.query().unwrap_or_default();
        let query: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let signed_in = self.server.decide(|directories, _, sessions| {
            let mut step = begin(&query, tenant, directories, sessions)?;
            loop {
                step = match step {
                    SignInStep::User { pending, .. } => {
                        choose_user(&pending, user_name.as_ref(), directories, sessions)?
                    }
                    SignInStep::Consent { pending, .. } => {
                        answer_consent(&pending, true, directories, sessions)?
                    }
                    SignInStep::Done(reply) => return Ok(reply.url()),
                };
            }
        });
        signed_in.map_err(|refusal: AadstsError| {
            Error::config(format!(
                "the sign-in ends on a page that says AADSTS{}: {}",
                refusal.code,
                Escaped(&refusal.text)
            ))
        })
    }
}
