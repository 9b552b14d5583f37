//! The settings of tokens that are bound to a key.

use super::ConfidentialClientBuilder;
#[cfg(doc)]
use crate::authority::Authority;
use crate::authority::Rules;
use crate::client_auth::TokenEndpointAuthMethod;
use crate::credential::{CredentialConfig, DpopKey};
use crate::error::Error;
use crate::transport::MutualTls;

impl ConfidentialClientBuilder {
    /// Authenticates with the client certificate of the connection, issued by a CA, whose subject
    /// is registered with the OpenID provider ([RFC 8705 section 2.1]).
    ///
    /// The argument is a [`Certificate`](crate::Certificate), a
    /// [`CertificateFile`](crate::credential::CertificateFile) or a [`MutualTls`]. Set private CAs
    /// and a proxy on the `MutualTls`. The token request contains the client ID, and neither a
    /// secret nor an assertion. The request goes to the provider's alias for mutual TLS if the
    /// metadata has one ([RFC 8705 section 5]). Requests for metadata and keys carry no
    /// certificate.
    ///
    /// The client's tokens count as bound to the certificate ([RFC 8705 section 3]). Call the API
    /// with the HTTP client of [`MutualTls::client_for`].
    ///
    /// Needs the feature `rustls` or `ring`, and an authority of [`Authority::oidc`]. A custom
    /// transport is an error of [`build`](Self::build), because the client cannot know which
    /// certificate its connections carry.
    ///
    /// ```
    /// use confidential_client::{Authority, Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .tls_client_auth(Certificate::from_pem(pem)?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 8705 section 2.1]: https://www.rfc-editor.org/rfc/rfc8705#section-2.1
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    /// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    #[doc(alias = "mTLS")]
    pub fn tls_client_auth(self, certificate: impl Into<MutualTls>) -> Self {
        self.authenticate_by_tls(certificate.into(), TokenEndpointAuthMethod::TlsClientAuth)
    }

    /// Authenticates with the client certificate of the connection, which is registered with the
    /// OpenID provider itself, such as by a JWK Set ([RFC 8705 section 2.2]).
    ///
    /// No CA is needed. Everything else is as for [`tls_client_auth`](Self::tls_client_auth).
    ///
    /// [RFC 8705 section 2.2]: https://www.rfc-editor.org/rfc/rfc8705#section-2.2
    #[doc(alias = "mTLS")]
    pub fn self_signed_tls_client_auth(self, certificate: impl Into<MutualTls>) -> Self {
        let method = TokenEndpointAuthMethod::SelfSignedTlsClientAuth;
        self.authenticate_by_tls(certificate.into(), method)
    }

    /// Binds the client's tokens to the client certificate of the connection, whatever the client
    /// authenticates with ([RFC 8705 section 3]).
    ///
    /// For a client with a secret or an assertion. Token requests go over connections with the
    /// certificate, and to the provider's alias for mutual TLS. A provider whose metadata does not
    /// announce certificate-bound tokens is an error of the token request. Everything else is as
    /// for [`tls_client_auth`](Self::tls_client_auth), which binds tokens itself.
    ///
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    #[doc(alias = "mTLS")]
    #[doc(alias = "sender-constrained")]
    pub fn certificate_bound_tokens(mut self, certificate: impl Into<MutualTls>) -> Self {
        self.mutual_tls
            .push((certificate.into(), CertificateUse::Binding));
        self
    }

    /// Acquires certificate-bound tokens of Microsoft Entra ID by the client certificate of the
    /// connection: a **preview** of Entra's, which may change or end.
    ///
    /// Entra enables single applications, most of them Microsoft's own. Other applications get the
    /// error AADSTS51000. Token requests go to `mtlsauth.microsoft.com`, or to the host of the
    /// cloud that begins with `mtlsauth.`, with `token_type=mtls_pop` and without an assertion. The
    /// authority is [`Authority::entra`] with one tenant.
    ///
    /// The tokens have the scheme [`MtlsPop`](crate::TokenScheme::MtlsPop). Call the API with the
    /// HTTP client of [`MutualTls::client_for`]. Everything else is as for
    /// [`tls_client_auth`](Self::tls_client_auth).
    ///
    /// ```
    /// use confidential_client::{Certificate, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = confidential_client::testing::self_signed_certificate("daemon")?;
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .entra_mtls_pop_preview(Certificate::from_pem(pem)?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "mtls_pop")]
    #[doc(alias = "WithMtlsProofOfPossession")]
    pub fn entra_mtls_pop_preview(mut self, certificate: impl Into<MutualTls>) -> Self {
        let mutual_tls = certificate.into();
        let method = TokenEndpointAuthMethod::TlsClientAuth;
        let credential = CredentialConfig::Tls(mutual_tls.tls_certificate().clone(), method);
        self.credentials.push(credential);
        self.mutual_tls
            .push((mutual_tls, CertificateUse::EntraPreview));
        self
    }

    fn authenticate_by_tls(
        mut self,
        mutual_tls: MutualTls,
        method: TokenEndpointAuthMethod,
    ) -> Self {
        let certificate = mutual_tls.tls_certificate().clone();
        self.credentials
            .push(CredentialConfig::Tls(certificate, method));
        self.mutual_tls
            .push((mutual_tls, CertificateUse::Authentication(method)));
        self
    }

    /// Binds every token of the client to a proof key (DPoP, [RFC 9449]).
    ///
    /// A stolen bearer token works for everyone. A bound token works only together with a *proof*,
    /// a short signed text that names the method and the URI of one request.
    ///
    /// - Every token request carries a proof, and the client discards a token that is not bound.
    /// - Every request to an API needs a proof of its own. The adapters and
    ///   [`TokenProvider::authorize`](crate::TokenProvider::authorize) make it. The `Authorization`
    ///   header alone is not enough.
    /// - Nonces of servers are remembered by origin, for 100 origins, from every response that the
    ///   client or an adapter sees. A request that is rejected for its nonce is repeated once.
    /// - If a server rejects a proof and its `Date` differs from this machine's clock, the next
    ///   proofs to that origin have the server's time, up to a day of difference.
    ///
    /// ```
    /// use confidential_client::credential::DpopKey;
    /// use confidential_client::{Authority, ConfidentialClient};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("daemon")
    ///     .authority(Authority::oidc("https://id.example.org"))
    ///     .client_secret("the secret's value")
    ///     .dpop(DpopKey::generate()?)
    ///     .build()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The provider must be an OpenID provider ([`Authority::oidc`]). Microsoft Entra ID, AD FS and
    /// Azure AD B2C issue no such tokens. [`ManagedIdentityClient`] and [`CredentialChainClient`]
    /// have no proof key, and return bearer tokens. Refresh tokens are bound to the client's
    /// credential and not to the proof key ([RFC 9449 section 5]), so another process with another
    /// key may redeem them.
    ///
    /// [`CredentialChainClient`]: crate::CredentialChainClient
    /// [`ManagedIdentityClient`]: crate::ManagedIdentityClient
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
    /// [RFC 9449 section 5]: https://www.rfc-editor.org/rfc/rfc9449#section-5
    #[doc(alias("proof-of-possession", "sender-constrained"))]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.proof_key = Some(key);
        self
    }
}

/// The use of the client certificate of the connections.
#[derive(Clone, Copy)]
pub(super) enum CertificateUse {
    Authentication(TokenEndpointAuthMethod),
    /// Another credential authenticates the client.
    Binding,
    EntraPreview,
}

impl CertificateUse {
    /// Checks that the identity provider follows RFC 8705.
    pub(super) fn check(self, rules: Rules) -> Result<(), Error> {
        let name = rules.name();
        match self {
            _ if rules == Rules::OpenId => Ok(()),
            Self::Authentication(method) => Err(Error::config(format!(
                "{name} does not accept {}; use certificate(..), or Authority::oidc(..) for another provider",
                method.name()
            ))),
            Self::Binding | Self::EntraPreview => Err(Error::config(format!(
                "{name} does not bind tokens to client certificates as RFC 8705 says; leave certificate_bound_tokens(..) out, or use Authority::oidc(..) for another provider"
            ))),
        }
    }
}

/// Returns the client certificate of the connections.
pub(super) fn one_certificate(
    certificates: Vec<(MutualTls, CertificateUse)>,
) -> Result<Option<(MutualTls, CertificateUse)>, Error> {
    let count = certificates.len();
    let mut certificates = certificates.into_iter();
    match certificates.next() {
        Some(_) if count > 1 => Err(Error::config(format!(
            "{count} client certificates for connections were given; a client that authenticates by the certificate of the connection has bound tokens already, so leave certificate_bound_tokens(..) out, or give one certificate"
        ))),
        certificate => Ok(certificate),
    }
}

/// Checks that the tokens of a client can be bound to its proof key.
pub(super) fn check_proof_key(key: &DpopKey, rules: Rules, is_shared: bool) -> Result<(), Error> {
    if rules != Rules::OpenId {
        return Err(Error::config(format!(
            "{} issues no DPoP tokens, and dpop(..) was called; leave dpop(..) out (Microsoft Entra ID binds tokens to the certificate of mutual TLS, in a preview)",
            rules.name()
        )));
    }
    if key.is_generated() && is_shared {
        return Err(Error::config(
            "the proof key of dpop(..) was generated in this process, and shared_cache(..) was called; no other process could use a token that is bound to this key, so share a key with DpopKey::from_pem(..), or leave shared_cache(..) out",
        ));
    }
    Ok(())
}
