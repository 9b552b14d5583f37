use std::sync::Arc;

use serde_json::{Map, Value};
use url::Url;

use super::TokenEndpoint;
use super::cached_lookup::{A_DAY, CachedLookup};
use super::document::{Document, shortened};
use super::lookup::Lookup;
use crate::authority::Rules;
use crate::authority::address::{checked, refusal};
use crate::client_auth::TokenEndpointAuthMethod;
use crate::crypto::SigningAlgorithm;
use crate::error::Error;
use crate::time::TimeSource;

/// An OpenID provider, whose metadata tells where its token endpoint is ([OpenID Connect Discovery
/// section 4]).
///
/// [OpenID Connect Discovery section 4]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
pub(super) struct Provider {
    /// As it was written: an issuer is compared letter by letter.
    issuer: String,
    url: Url,
    audience: Option<String>,
    /// In place of what the metadata says.
    told: Option<Url>,
    metadata: CachedLookup<Metadata>,
}

struct Metadata {
    token_endpoint: Url,
    authorization_endpoint: Option<Url>,
    methods: SupportedAuthMethods,
}

/// In which ways a client may prove its identity.
#[derive(Clone, Debug)]
pub(crate) struct SupportedAuthMethods {
    secret: Option<TokenEndpointAuthMethod>,
    assertion: bool,
    /// Of ours, the better before the good.
    algorithms: Vec<SigningAlgorithm>,
}

impl Provider {
    pub(super) fn new(
        issuer: &str,
        token_endpoint: Option<&str>,
        audience: Option<&str>,
    ) -> Result<Self, Error> {
        let url = checked(ISSUER, issuer)?;
        if url.query().is_some() {
            return Err(refusal(ISSUER, issuer, "an issuer has no query"));
        }
        let told = token_endpoint.map(|url| checked(TOKEN_ENDPOINT, url));
        Ok(Self {
            issuer: issuer.to_owned(),
            url,
            audience: audience.map(ToOwned::to_owned),
            told: told.transpose()?,
            metadata: CachedLookup::new(),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn metadata_url(&self) -> String {
        let issuer = self.url.as_str();
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        format!("{issuer}/.well-known/openid-configuration")
    }

    #[cfg(feature = "reqwest")]
    pub(super) fn target(&self) -> &Url {
        self.told.as_ref().unwrap_or(&self.url)
    }

    /// The endpoint may be somebody else's choice, so an assertion is for the issuer.
    pub(super) async fn token_endpoint(&self, lookup: &Lookup<'_>) -> Result<TokenEndpoint, Error> {
        let audience = self.audience.as_ref().unwrap_or(&self.issuer).clone();
        if let Some(url) = &self.told {
            return Ok(TokenEndpoint {
                url: url.clone(),
                audience,
                methods: SupportedAuthMethods::known(Rules::OpenId),
            });
        }
        let metadata = self.metadata(lookup).await?;
        Ok(TokenEndpoint {
            url: metadata.token_endpoint.clone(),
            audience,
            methods: metadata.methods.clone(),
        })
    }

    /// Where users sign in.
    pub(super) async fn authorization_endpoint(&self, lookup: &Lookup<'_>) -> Result<Url, Error> {
        let metadata = self.metadata(lookup).await?;
        let endpoint = metadata.authorization_endpoint.clone();
        endpoint.ok_or_else(|| {
            Error::config(format!(
                "the OpenID provider '{}' names no 'authorization_endpoint' that can be used, so no user can sign in there",
                self.issuer
            ))
        })
    }

    async fn metadata(&self, lookup: &Lookup<'_>) -> Result<Arc<Metadata>, Error> {
        let look_up = |lookup, _| async move { Ok((self.look_up(&lookup).await?, A_DAY)) };
        self.metadata.get(lookup, look_up).await
    }

    /// Looks the metadata up again before they are used.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        self.metadata.force_refresh(clock);
    }

    /// The same, at most once a minute: what they say did not work.
    pub(super) fn mark_suspect(&self, clock: &TimeSource) {
        self.metadata.mark_suspect(clock);
    }

    async fn look_up(&self, lookup: &Lookup<'_>) -> Result<Metadata, Error> {
        let url = self.metadata_url();
        let document = Document::get(lookup, WHAT, &url, HINT).await?;
        let invalid = |why: &str| document.invalid(why);
        match document.text("issuer") {
            Some(issuer) if issuer == self.issuer => {}
            Some(other) => {
                return Err(Error::config(format!(
                    "the OpenID configuration at {url} is that of {:?}, and not of the issuer '{}'; give Authority::oidc(..) the issuer as its provider writes it, to the letter",
                    shortened(other),
                    self.issuer
                )));
            }
            None => return Err(invalid("it has no 'issuer'")),
        }
        let Some(endpoint) = document.text("token_endpoint") else {
            return Err(invalid("it has no 'token_endpoint'"));
        };
        let token_endpoint = checked(TOKEN_ENDPOINT, endpoint)
            .map_err(|error| invalid(&shortened(&error.to_string())))?;
        if token_endpoint.scheme() != "https" && self.url.scheme() == "https" {
            return Err(invalid("its 'token_endpoint' is not https"));
        }
        // A daemon needs none, so a wrong one is no reason to refuse the rest.
        let authorization_endpoint = document.text("authorization_endpoint");
        let authorization_endpoint = authorization_endpoint
            .and_then(|url| checked(AUTHORIZATION_ENDPOINT, url).ok())
            .filter(|url| url.scheme() == "https" || self.url.scheme() != "https");
        Ok(Metadata {
            token_endpoint,
            authorization_endpoint,
            methods: SupportedAuthMethods::of(document.members()),
        })
    }
}

impl SupportedAuthMethods {
    /// What is not listed has the default that the standard gives it.
    fn of(document: &Map<String, Value>) -> Self {
        let list = |name: &str| {
            let list = document.get(name)?.as_array()?;
            let texts = list.iter().filter_map(Value::as_str);
            Some(texts.map(ToOwned::to_owned).collect::<Vec<String>>())
        };
        let algorithms = match list("token_endpoint_auth_signing_alg_values_supported") {
            None => Self::known(Rules::OpenId).algorithms,
            Some(taken) => OURS
                .iter()
                .filter(|algorithm| taken.contains(&algorithm.to_string()))
                .copied()
                .collect(),
        };
        let Some(methods) = list("token_endpoint_auth_methods_supported") else {
            return Self {
                secret: Some(TokenEndpointAuthMethod::ClientSecretBasic),
                assertion: true,
                algorithms,
            };
        };
        let takes = |method: TokenEndpointAuthMethod| {
            methods
                .iter()
                .any(|listed| listed == method.name())
                .then_some(method)
        };
        Self {
            secret: takes(TokenEndpointAuthMethod::ClientSecretPost)
                .or_else(|| takes(TokenEndpointAuthMethod::ClientSecretBasic)),
            assertion: takes(TokenEndpointAuthMethod::PrivateKeyJwt).is_some(),
            algorithms,
        }
    }

    /// How a secret is sent.
    pub(crate) fn of_a_secret(&self) -> Result<TokenEndpointAuthMethod, Error> {
        self.secret.ok_or_else(|| {
            refused_here(
                "secret",
                "neither client_secret_post nor client_secret_basic",
            )
        })
    }

    /// Whether an assertion is taken.
    pub(crate) fn of_an_assertion(&self) -> Result<TokenEndpointAuthMethod, Error> {
        match self.assertion {
            true => Ok(TokenEndpointAuthMethod::PrivateKeyJwt),
            false => Err(refused_here("assertion", "no private_key_jwt")),
        }
    }

    /// What an assertion may be signed by.
    pub(crate) fn algorithms(&self) -> &[SigningAlgorithm] {
        &self.algorithms
    }

    /// Where there is no metadata: any of ours.
    pub(super) fn known(rules: Rules) -> Self {
        Self {
            secret: Some(TokenEndpointAuthMethod::default()),
            assertion: true,
            algorithms: match rules.take_pss() {
                true => vec![SigningAlgorithm::PS256],
                false => vec![SigningAlgorithm::RS256, SigningAlgorithm::ES256],
            },
        }
    }
}

fn refused_here(what: &str, listed: &str) -> Error {
    Error::config(format!(
        "the OpenID provider takes no {what} (its token_endpoint_auth_methods_supported has {listed}); use another credential, or say how to send this one with token_endpoint_auth_method(..)"
    ))
}

const WHAT: &str = "the OpenID configuration";
const HINT: &str = "is the issuer right?";
const ISSUER: &str = "the issuer";
const TOKEN_ENDPOINT: &str = "the token endpoint";
const AUTHORIZATION_ENDPOINT: &str = "the authorization endpoint";

const OURS: [SigningAlgorithm; 3] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::RS256,
    SigningAlgorithm::ES256,
];
