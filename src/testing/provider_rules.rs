use jsonwebtoken::Algorithm;

use crate::crypto::SigningAlgorithm;

/// The rules of a [`LocalAuthority`](super::LocalAuthority): those of Microsoft Entra ID, of
/// another OpenID provider, or of the FAPI 2.0 Security Profile.
///
/// | | [`entra`](Self::entra) | [`openid`](Self::openid) | [`fapi2`](Self::fapi2) |
/// |---|---|---|---|
/// | pushed authorization requests | none | accepted | required |
/// | introspection, token exchange | none | accepted | accepted |
/// | `iss` in authorization responses | no | yes | yes |
/// | client authentication | secret, assertion | secret, assertion | assertion |
/// | algorithm of an assertion | PS256, RS256 | also ES256, ES384, EdDSA | PS256, ES256, EdDSA |
/// | audience of an assertion | token endpoint | also issuer, endpoint for pushed requests | issuer |
/// | PKCE with S256 | optional | optional | required |
/// | access tokens | bearer, or bound | bearer, or bound | bound |
/// | redirect URI | any | any | https |
/// | signature of the tokens | RS256 | RS256 | PS256 |
/// | lifetime of a code | 10 minutes | 10 minutes | 1 minute |
///
/// Errors keep the body of Entra's errors. [`Authority::oidc`](crate::Authority::oidc) with the
/// [`issuer`](super::LocalAuthority::issuer) of a tenant is the authority of a client.
///
/// ```
/// use confidential_client::testing::{LocalAuthority, ProviderRules};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rules = ProviderRules::openid().require_pushed_requests();
/// let local = LocalAuthority::builder().rules(rules).start().await?;
/// # let _ = local;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ProviderRules {
    kind: RulesKind,
    requires_pushed_requests: bool,
    requires_issuer_audience: bool,
    requires_typed_assertions: bool,
    without_offline_access: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RulesKind {
    #[default]
    Entra,
    OpenId,
    Fapi2,
}

impl ProviderRules {
    /// Returns the rules of Microsoft Entra ID, which are the default.
    pub fn entra() -> Self {
        Self::default()
    }

    /// Returns the rules of an OpenID provider that accepts pushed authorization requests
    /// ([RFC 9126]) and names the issuer in authorization responses ([RFC 9207]).
    ///
    /// [RFC 9126]: https://www.rfc-editor.org/rfc/rfc9126
    /// [RFC 9207]: https://www.rfc-editor.org/rfc/rfc9207
    pub fn openid() -> Self {
        Self {
            kind: RulesKind::OpenId,
            ..Self::default()
        }
    }

    /// Returns the rules of the [FAPI 2.0 Security Profile], which rejects what the profile
    /// forbids.
    ///
    /// [FAPI 2.0 Security Profile]: https://openid.net/specs/fapi-security-profile-2_0-final.html
    pub fn fapi2() -> Self {
        Self {
            kind: RulesKind::Fapi2,
            requires_pushed_requests: true,
            requires_issuer_audience: true,
            requires_typed_assertions: false,
            without_offline_access: false,
        }
    }

    /// Rejects authorization requests that were not pushed, and announces so in the metadata.
    pub fn require_pushed_requests(mut self) -> Self {
        self.requires_pushed_requests = true;
        self
    }

    /// Accepts the issuer alone as the audience of an assertion, as one string.
    pub fn require_issuer_audience(mut self) -> Self {
        self.requires_issuer_audience = true;
        self
    }

    /// Rejects assertions whose `typ` is not `client-authentication+jwt`.
    pub fn require_typed_assertions(mut self) -> Self {
        self.requires_typed_assertions = true;
        self
    }

    /// Rejects the scope `offline_access`, and leaves the scope out of the metadata, as Google
    /// does.
    ///
    /// A sign-in with the query parameter `access_type=offline` yields a refresh token.
    pub fn without_offline_access(mut self) -> Self {
        self.without_offline_access = true;
        self
    }

    /// Returns the scopes of OpenID Connect.
    pub(crate) fn scopes(&self) -> &'static [&'static str] {
        match self.without_offline_access {
            true => &["openid", "profile", "email"],
            false => &["openid", "profile", "email", "offline_access"],
        }
    }

    /// Returns whether the scopes of a request contain a scope that there is not.
    pub(crate) fn rejects_scopes(&self, scopes: &str) -> bool {
        self.without_offline_access && scopes.split(' ').any(|scope| scope == "offline_access")
    }

    /// Returns whether an authorization request without the scope requests a refresh token.
    pub(crate) fn is_offline(&self, access_type: Option<&str>) -> bool {
        self.without_offline_access && access_type == Some("offline")
    }

    /// Returns whether there is an endpoint for pushed requests, and an `iss` in responses.
    pub(crate) fn is_openid(&self) -> bool {
        self.kind != RulesKind::Entra
    }

    pub(crate) fn is_fapi2(&self) -> bool {
        self.kind == RulesKind::Fapi2
    }

    pub(crate) fn requires_pushed(&self) -> bool {
        self.requires_pushed_requests
    }

    pub(crate) fn requires_issuer(&self) -> bool {
        self.requires_issuer_audience
    }

    pub(crate) fn accepts_type(&self, typ: Option<&str>) -> bool {
        !self.requires_typed_assertions || typ == Some(ASSERTION_TYPE)
    }

    /// Returns the algorithms of client assertions.
    pub(crate) fn assertion_algorithms(&self) -> &'static [(Algorithm, SigningAlgorithm)] {
        const PS256: (Algorithm, SigningAlgorithm) = (Algorithm::PS256, SigningAlgorithm::PS256);
        const RS256: (Algorithm, SigningAlgorithm) = (Algorithm::RS256, SigningAlgorithm::RS256);
        const ES256: (Algorithm, SigningAlgorithm) = (Algorithm::ES256, SigningAlgorithm::ES256);
        const ES384: (Algorithm, SigningAlgorithm) = (Algorithm::ES384, SigningAlgorithm::ES384);
        const EDDSA: (Algorithm, SigningAlgorithm) = (Algorithm::EdDSA, SigningAlgorithm::EdDSA);
        match self.kind {
            RulesKind::Entra => &[PS256, RS256],
            RulesKind::OpenId => &[PS256, RS256, ES256, ES384, EDDSA],
            RulesKind::Fapi2 => &[PS256, ES256, EDDSA],
        }
    }

    /// Returns the algorithm that signs tokens.
    pub(crate) fn token_algorithm(&self) -> SigningAlgorithm {
        match self.is_fapi2() {
            true => SigningAlgorithm::PS256,
            false => SigningAlgorithm::RS256,
        }
    }
}

const ASSERTION_TYPE: &str = "client-authentication+jwt";
