use std::sync::Arc;

use url::Url;

use super::TokenEndpoint;
use super::cached_lookup::{A_DAY, CachedLookup};
use super::document::{Document, truncated};
use super::lookup::Lookup;
use crate::authority::Rules;
use crate::authority::address::{invalid_url, parse_url};
use crate::client_auth::SupportedAuthMethods;
use crate::error::Error;
use crate::time::TimeSource;

/// An OpenID provider, which publishes its endpoints in metadata ([OpenID Connect Discovery
/// section 4]).
///
/// [OpenID Connect Discovery section 4]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
pub(super) struct OpenIdProvider {
    /// The issuer as the caller wrote it. Issuers are compared letter by letter.
    issuer: String,
    url: Url,
    audience: Option<String>,
    /// A token endpoint from the caller, which replaces the published one.
    custom_token_endpoint: Option<Url>,
    metadata: CachedLookup<ProviderMetadata>,
}

/// The metadata that this crate uses.
struct ProviderMetadata {
    token_endpoint: Url,
    authorization_endpoint: Option<Url>,
    methods: SupportedAuthMethods,
}

impl OpenIdProvider {
    pub(super) fn new(
        issuer: &str,
        token_endpoint: Option<&str>,
        audience: Option<&str>,
    ) -> Result<Self, Error> {
        let url = parse_url(ISSUER, issuer)?;
        if url.query().is_some() {
            return Err(invalid_url(ISSUER, issuer, "an issuer has no query"));
        }
        let custom_token_endpoint = token_endpoint.map(|url| parse_url(TOKEN_ENDPOINT, url));
        Ok(Self {
            issuer: issuer.to_owned(),
            url,
            audience: audience.map(ToOwned::to_owned),
            custom_token_endpoint: custom_token_endpoint.transpose()?,
            metadata: CachedLookup::new(),
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn metadata_url(&self) -> String {
        let issuer = self.url.as_str();
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        format!("{issuer}{METADATA_PATH}")
    }

    /// Returns the custom token endpoint, or else the issuer.
    pub(super) fn origin(&self) -> &Url {
        self.custom_token_endpoint.as_ref().unwrap_or(&self.url)
    }

    /// Returns the token endpoint. The audience of an assertion is the issuer, because a published
    /// endpoint may be an attacker's choice.
    pub(super) async fn token_endpoint(&self, lookup: &Lookup<'_>) -> Result<TokenEndpoint, Error> {
        let audience = self.audience.as_ref().unwrap_or(&self.issuer).clone();
        if let Some(url) = &self.custom_token_endpoint {
            return Ok(TokenEndpoint {
                url: url.clone(),
                audience,
                methods: SupportedAuthMethods::for_rules(Rules::OpenId),
            });
        }
        let metadata = self.metadata(lookup).await?;
        Ok(TokenEndpoint {
            url: metadata.token_endpoint.clone(),
            audience,
            methods: metadata.methods.clone(),
        })
    }

    /// Returns the page where users sign in.
    pub(super) async fn authorization_endpoint(&self, lookup: &Lookup<'_>) -> Result<Url, Error> {
        let metadata = self.metadata(lookup).await?;
        let endpoint = metadata.authorization_endpoint.clone();
        endpoint.ok_or_else(|| {
            Error::config(format!(
                "the OpenID provider '{}' publishes no valid 'authorization_endpoint', so users cannot sign in",
                self.issuer
            ))
        })
    }

    async fn metadata(&self, lookup: &Lookup<'_>) -> Result<Arc<ProviderMetadata>, Error> {
        let fetch = |lookup, _| async move { Ok((self.fetch(&lookup).await?, A_DAY)) };
        self.metadata.get(lookup, fetch).await
    }

    /// Expires the metadata. The next use fetches new metadata.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        self.metadata.force_refresh(clock);
    }

    /// Expires metadata that are older than a minute, after a token request failed.
    pub(super) fn mark_suspect(&self, clock: &TimeSource) {
        self.metadata.mark_suspect(clock);
    }

    /// Fetches and checks the metadata.
    async fn fetch(&self, lookup: &Lookup<'_>) -> Result<ProviderMetadata, Error> {
        let url = self.metadata_url();
        let document = Document::get(lookup, METADATA_NAME, &url, HINT).await?;
        let invalid = |why: &str| document.invalid(why);
        match document.text("issuer") {
            Some(issuer) if issuer == self.issuer => {}
            Some(published) => {
                return Err(Error::config(format!(
                    "the OpenID configuration at {url} is that of {:?}, and not of the issuer '{}'; pass the published issuer to Authority::oidc(..), to the letter",
                    truncated(published),
                    self.issuer
                )));
            }
            None => return Err(invalid("it has no 'issuer'")),
        }
        let Some(endpoint) = document.text("token_endpoint") else {
            return Err(invalid("it has no 'token_endpoint'"));
        };
        let token_endpoint = parse_url(TOKEN_ENDPOINT, endpoint)
            .map_err(|error| invalid(&truncated(&error.to_string())))?;
        if token_endpoint.scheme() != "https" && self.url.scheme() == "https" {
            return Err(invalid("its 'token_endpoint' is not https"));
        }
        // A daemon needs no authorization endpoint, so an invalid one is ignored.
        let authorization_endpoint = document.text("authorization_endpoint");
        let authorization_endpoint = authorization_endpoint
            .and_then(|url| parse_url(AUTHORIZATION_ENDPOINT, url).ok())
            .filter(|url| url.scheme() == "https" || self.url.scheme() != "https");
        Ok(ProviderMetadata {
            token_endpoint,
            authorization_endpoint,
            methods: SupportedAuthMethods::from_metadata(document.members()),
        })
    }
}

const METADATA_NAME: &str = "the OpenID configuration";
const HINT: &str = "is the issuer right?";
const ISSUER: &str = "the issuer";
const TOKEN_ENDPOINT: &str = "the token endpoint";
const AUTHORIZATION_ENDPOINT: &str = "the authorization endpoint";

pub(super) const METADATA_PATH: &str = "/.well-known/openid-configuration";
