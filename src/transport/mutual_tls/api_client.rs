use std::sync::OnceLock;
use std::time::Duration;

use super::{MutualTls, TlsIdentity};
use crate::error::{Error, Failure};
use crate::time::TimeSource;
use crate::token::AccessToken;

/// The HTTP client of one certificate for calls to an API, built at the first call.
pub(super) type ApiClient = OnceLock<reqwest::Client>;

impl MutualTls {
    /// Returns an HTTP client whose connections carry the certificate that the token is bound
    /// to.
    ///
    /// The client has the settings of [`reqwest`](Self::reqwest) and is cached, so a call is
    /// cheap. Do not keep the client: after a rotation, a new token needs another client. The
    /// caller attaches the token, as in
    /// `client.get(url).header(AUTHORIZATION, token.authorization_header())`.
    ///
    /// ```
    /// # use confidential_client::testing::{Application, LocalAuthority, self_signed_certificate};
    /// # use confidential_client::transport::MutualTls;
    /// # use confidential_client::{Authority, Certificate, ConfidentialClient};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let local = LocalAuthority::builder().mutual_tls().start().await?;
    /// # let certificate = Certificate::from_pem(self_signed_certificate("daemon")?)?;
    /// # let application = Application::new("daemon").self_signed_tls_client_auth(&certificate);
    /// # local.register("contoso.com", application);
    /// # let authority = Authority::oidc(local.issuer("contoso.com").expect("registered"));
    /// # let ca = local.ca_pem().expect("started with TLS");
    /// let mutual_tls = MutualTls::from(certificate).trusted_roots_pem(ca);
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(authority)
    ///     .self_signed_tls_client_auth(mutual_tls.clone())
    ///     .build()?;
    ///
    /// let token = client.acquire_token_for_client("api://orders/.default").await?;
    /// let http = mutual_tls.client_for(&token).await?;
    /// # let url = local.base_url();
    /// let request = http.get(url).header("authorization", token.authorization_header());
    /// # request.send().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: the token is not bound to a certificate; PEM without a CA
    ///   certificate; reqwest settings that reqwest rejects.
    /// - [`Error::Credential`]: the certificate of the token has expired, or was replaced twice.
    ///   Acquire a new token.
    pub async fn client_for(&self, token: &AccessToken) -> Result<reqwest::Client, Error> {
        let thumbprint = token.issued().binding().certificate().ok_or_else(|| {
            Error::config(
                "the token is not bound to a certificate; acquire it from a client with tls_client_auth(..), self_signed_tls_client_auth(..) or certificate_bound_tokens(..), or call the API with any HTTP client",
            )
        })?;
        let now = TimeSource::System.wall();
        if self.identities.is_check_due() {
            // A failure is logged, and does not concern this token.
            let _ = self.identity(now, SOURCE_LIMIT).await;
        }
        let identity = self.identities.find(thumbprint).ok_or_else(|| {
            Error::credential(format!(
                "the certificate with the thumbprint {thumbprint}, which the token is bound to, is not known to this MutualTls, or was replaced twice; acquire a new token from the client that this MutualTls belongs to"
            ))
        })?;
        identity.certificate().check_validity(now)?;
        match identity.api_client().get() {
            Some(client) => Ok(client.clone()),
            None => {
                let client = self.build_api_client(&identity)?;
                // Another caller may have built a client, whose connections are used.
                Ok(identity.api_client().get_or_init(|| client).clone())
            }
        }
    }

    fn build_api_client(&self, identity: &TlsIdentity) -> Result<reqwest::Client, Error> {
        let builder = self.reqwest_builder().unwrap_or_default();
        let client = identity.tls().configure(builder).build();
        client.map_err(|error| {
            let failure = Failure::new(
                "the HTTP client cannot be built; correct the settings of MutualTls::reqwest(..)",
            );
            Error::Config(failure.source(Box::new(error.without_url())).into())
        })
    }
}

/// The longest time of a call to a source, as for every credential.
const SOURCE_LIMIT: Duration = Duration::from_secs(10);
