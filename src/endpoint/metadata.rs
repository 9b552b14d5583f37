use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde_json::{Map, Value};
use url::Url;

use super::cached_lookup::CachedLookup;
use super::document::{Document, truncated};
use super::lookup::Lookup;
use super::{IntrospectionEndpoint, PushedEndpoint, TokenEndpoint, request_uri};
use crate::authority::address::invalid_url;
use crate::authority::{AssertionAudience, HttpHosts, Rules, preferred_host};
use crate::client_auth::{AssertionForm, SupportedAuthMethods};
use crate::crypto::SigningAlgorithm;
use crate::error::Error;
use crate::scope::OPTIONAL;
use crate::time::TimeSource;

/// An OpenID provider, which publishes its endpoints in metadata ([OpenID Connect Discovery
/// section 4]).
///
/// [OpenID Connect Discovery section 4]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
pub(super) struct OpenIdProvider {
    /// The issuer as the caller wrote it. Issuers are compared letter by letter.
    issuer: String,
    url: Url,
    /// The audience of an assertion. `None` for the token endpoint.
    audience: Option<Arc<str>>,
    assertion_form: AssertionForm,
    /// True if the FAPI 2.0 Security Profile applies.
    is_fapi2: bool,
    http_hosts: HttpHosts,
    /// A token endpoint from the caller, which replaces the published one.
    custom_token_endpoint: Option<(Url, Uri)>,
    /// True if requests to the endpoints go over mutual TLS.
    uses_mutual_tls: bool,
    metadata: CachedLookup<ProviderMetadata>,
}

/// The metadata that this crate uses.
struct ProviderMetadata {
    token_endpoint: Uri,
    authorization_endpoint: Option<Url>,
    /// The page that ends a user's session ([OpenID Connect RP-Initiated Logout section 2.1]).
    ///
    /// [OpenID Connect RP-Initiated Logout section 2.1]: https://openid.net/specs/openid-connect-rpinitiated-1_0.html#OPMetadata
    end_session_endpoint: Option<Url>,
    /// The endpoint for pushed authorization requests ([RFC 9126 section 5]).
    ///
    /// [RFC 9126 section 5]: https://www.rfc-editor.org/rfc/rfc9126#section-5
    pushed_endpoint: Option<Uri>,
    requires_pushed_requests: bool,
    /// The endpoint that says whether a token is active ([RFC 8414 section 2]).
    ///
    /// [RFC 8414 section 2]: https://www.rfc-editor.org/rfc/rfc8414#section-2
    introspection_endpoint: Option<Uri>,
    /// The client authentication of the introspection endpoint.
    introspection_methods: SupportedAuthMethods,
    methods: SupportedAuthMethods,
    /// True if tokens can be bound to the certificate of the connection ([RFC 8705 section 3.3]).
    ///
    /// [RFC 8705 section 3.3]: https://www.rfc-editor.org/rfc/rfc8705#section-3.3
    binds_to_certificates: bool,
    proof_algorithms: Option<Arc<[String]>>,
    responses_name_issuer: bool,
    /// The scopes that the client adds to a sign-in and that the provider does not have.
    unsupported_scopes: Vec<String>,
    /// The reason why the provider issues no ID token that this crate can validate.
    without_id_tokens: Option<String>,
}

impl OpenIdProvider {
    pub(super) fn new(
        issuer: &str,
        token_endpoint: Option<&str>,
        audience: AssertionAudience,
        assertion_form: AssertionForm,
        is_fapi2: bool,
        http_hosts: HttpHosts,
    ) -> Result<Self, Error> {
        audience.check()?;
        let url = http_hosts.parse_url(ISSUER, issuer)?;
        if url.query().is_some() {
            return Err(invalid_url(ISSUER, issuer, "an issuer has no query"));
        }
        if url.path().contains(WELL_KNOWN) {
            return Err(invalid_url(
                ISSUER,
                issuer,
                "it is the URL of the provider's metadata; pass the metadata's member 'issuer', or call Authority::parse(..) with the URL",
            ));
        }
        if let Some(constructor) = microsoft_constructor(url.host_str().unwrap_or_default()) {
            return Err(invalid_url(
                ISSUER,
                issuer,
                &format!(
                    "Microsoft's providers have separate rules; use {constructor}, or Authority::parse(..)"
                ),
            ));
        }
        let custom_token_endpoint = token_endpoint.map(|url| {
            let url = http_hosts.parse_url(TOKEN_ENDPOINT, url)?;
            let uri = request_uri(url.to_string())?;
            Ok((url, uri))
        });
        Ok(Self {
            issuer: issuer.to_owned(),
            url,
            audience: match &audience {
                AssertionAudience::Issuer => Some(issuer.into()),
                AssertionAudience::TokenEndpoint => None,
                AssertionAudience::Custom(audience) => Some(audience.as_str().into()),
            },
            assertion_form,
            is_fapi2,
            http_hosts,
            custom_token_endpoint: custom_token_endpoint.transpose()?,
            uses_mutual_tls: false,
            metadata: CachedLookup::new(),
        })
    }

    /// Selects the endpoints for connections with a client certificate.
    pub(super) fn use_mutual_tls(&mut self) {
        self.uses_mutual_tls = true;
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn is_fapi2(&self) -> bool {
        self.is_fapi2
    }

    pub(super) fn metadata_url(&self) -> String {
        let issuer = self.url.as_str();
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        format!("{issuer}{METADATA_PATH}")
    }

    /// Returns the custom token endpoint, or else the issuer.
    pub(super) fn origin(&self) -> &Url {
        match &self.custom_token_endpoint {
            Some((url, _)) => url,
            None => &self.url,
        }
    }

    /// Returns the token endpoint. The audience of an assertion is the issuer unless the caller
    /// chose another, because a published endpoint may be an attacker's choice.
    pub(super) async fn token_endpoint(&self, lookup: &Lookup<'_>) -> Result<TokenEndpoint, Error> {
        let audience = self.audience.clone();
        if let Some((_, uri)) = &self.custom_token_endpoint {
            return Ok(TokenEndpoint {
                uri: uri.clone(),
                audience,
                assertion_form: self.assertion_form,
                methods: SupportedAuthMethods::for_rules(Rules::OpenId),
                binds_to_certificates: None,
                proof_algorithms: None,
            });
        }
        let metadata = self.metadata(lookup).await?;
        Ok(TokenEndpoint {
            uri: metadata.token_endpoint.clone(),
            audience,
            assertion_form: self.assertion_form,
            methods: metadata.methods.clone(),
            binds_to_certificates: Some(metadata.binds_to_certificates),
            proof_algorithms: metadata.proof_algorithms.clone(),
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

    /// Returns the page that ends a user's session.
    pub(super) async fn end_session_endpoint(&self, lookup: &Lookup<'_>) -> Result<Url, Error> {
        let metadata = self.metadata(lookup).await?;
        let endpoint = metadata.end_session_endpoint.clone();
        endpoint.ok_or_else(|| {
            Error::config(format!(
                "the OpenID provider '{}' publishes no valid 'end_session_endpoint', so its session cannot be ended; end the session of the application alone",
                self.issuer
            ))
        })
    }

    /// Returns the endpoint for pushed authorization requests. Returns `None` if the parameters may
    /// be in the URL of the sign-in page.
    ///
    /// `is_requested` is true for a request that must be pushed.
    pub(super) async fn pushed_endpoint(
        &self,
        is_requested: bool,
        lookup: &Lookup<'_>,
    ) -> Result<Option<PushedEndpoint>, Error> {
        let metadata = self.metadata(lookup).await?;
        let reason = match (self.is_fapi2, metadata.requires_pushed_requests) {
            (true, _) => "FAPI 2.0 demands it (Security Profile, section 5.3.3.2)",
            (false, true) => "the metadata have 'require_pushed_authorization_requests'",
            (false, false) if is_requested => "the request is pushed()",
            (false, false) => return Ok(None),
        };
        let Some(uri) = metadata.pushed_endpoint.clone() else {
            return Err(Error::config(format!(
                "the authorization request cannot be pushed: {reason}, and the OpenID provider '{}' publishes no valid 'pushed_authorization_request_endpoint'",
                self.issuer
            )));
        };
        let token = self.token_endpoint(lookup).await?;
        Ok(Some(PushedEndpoint { uri, token }))
    }

    /// Returns the introspection endpoint: the one from the caller, or else the published one.
    pub(super) async fn introspection_endpoint(
        &self,
        custom: Option<&Uri>,
        lookup: &Lookup<'_>,
    ) -> Result<IntrospectionEndpoint, Error> {
        let mut token = self.token_endpoint(lookup).await?;
        if let Some(custom) = custom {
            let uri = custom.clone();
            return Ok(IntrospectionEndpoint { uri, token });
        }
        let metadata = self.metadata(lookup).await?;
        let Some(uri) = metadata.introspection_endpoint.clone() else {
            return Err(Error::config(format!(
                "the OpenID provider '{}' publishes no valid 'introspection_endpoint', so no token can be introspected; call introspection_endpoint(..) on the TokenValidatorBuilder, or validate signed tokens with TokenValidator::builder(..)",
                self.issuer
            )));
        };
        token.methods = metadata.introspection_methods.clone();
        Ok(IntrospectionEndpoint { uri, token })
    }

    /// Returns whether every authorization response names the issuer ([RFC 9207 section 3]).
    ///
    /// [RFC 9207 section 3]: https://www.rfc-editor.org/rfc/rfc9207#section-3
    pub(super) async fn responses_name_issuer(&self, lookup: &Lookup<'_>) -> Result<bool, Error> {
        Ok(self.metadata(lookup).await?.responses_name_issuer)
    }

    /// Checks that the metadata do not rule out ID tokens.
    pub(super) async fn check_id_tokens(&self, lookup: &Lookup<'_>) -> Result<(), Error> {
        match &self.metadata(lookup).await?.without_id_tokens {
            None => Ok(()),
            Some(reason) => Err(Error::config(format!(
                "a sign-in at '{}' yields no account: {reason}; call without_id_token() on the AuthorizationRequest if an access token alone is enough",
                self.issuer
            ))),
        }
    }

    /// Returns the scopes that the client adds to a sign-in and that the provider does not have.
    pub(super) async fn unsupported_scopes(
        &self,
        lookup: &Lookup<'_>,
    ) -> Result<Vec<String>, Error> {
        Ok(self.metadata(lookup).await?.unsupported_scopes.clone())
    }

    async fn metadata(&self, lookup: &Lookup<'_>) -> Result<Arc<ProviderMetadata>, Error> {
        let fetch = |lookup, _| async move { self.fetch(&lookup).await };
        Ok(self.metadata.get(lookup, fetch).await?.value)
    }

    /// Expires the metadata. The next use fetches new metadata.
    pub(super) fn force_refresh(&self, clock: &TimeSource) {
        self.metadata.force_refresh(clock);
    }

    /// Expires metadata that are older than a minute, after a token request failed.
    pub(super) fn mark_suspect(&self, clock: &TimeSource) {
        self.metadata.mark_suspect(clock);
    }

    /// Returns the published URL of an endpoint that authenticates the client.
    ///
    /// With mutual TLS, the alias of the endpoint wins if the provider publishes one ([RFC 8705
    /// section 5]). The keys and the page where users sign in have no alias.
    ///
    /// [RFC 8705 section 5]: https://www.rfc-editor.org/rfc/rfc8705#section-5
    fn endpoint<'a>(&self, document: &'a Document, name: &str) -> Option<&'a str> {
        let alias = || {
            let aliases = document.members().get("mtls_endpoint_aliases")?;
            aliases.get(name)?.as_str()
        };
        let alias = self.uses_mutual_tls.then(alias).flatten();
        alias.or_else(|| document.text(name))
    }

    /// Fetches and checks the metadata. Returns the metadata and their time to live.
    async fn fetch(&self, lookup: &Lookup<'_>) -> Result<(ProviderMetadata, Duration), Error> {
        let url = self.metadata_url();
        let document = Document::get(lookup, METADATA_NAME, &url, HINT).await?;
        let invalid = |why: &str| document.invalid(why);
        match document.text("issuer") {
            Some(issuer) if issuer == self.issuer => {}
            Some(published) => {
                let is_slash = published.trim_end_matches('/') == self.issuer.trim_end_matches('/');
                let difference = match is_slash {
                    true => " (a slash at the end is part of the issuer)",
                    false => "",
                };
                return Err(Error::config(format!(
                    "the OpenID configuration at {url} is that of {:?}, and not of the issuer '{}'; pass the published issuer to Authority::oidc(..), to the letter{difference}",
                    truncated(published),
                    self.issuer
                )));
            }
            None => return Err(invalid("it has no 'issuer'")),
        }
        let Some(endpoint) = self.endpoint(&document, "token_endpoint") else {
            return Err(invalid("it has no 'token_endpoint'"));
        };
        let token_endpoint = self
            .http_hosts
            .parse_url(TOKEN_ENDPOINT, endpoint)
            .map_err(|error| invalid(&truncated(&error.to_string())))?;
        if token_endpoint.scheme() != "https" && self.url.scheme() == "https" {
            return Err(invalid("its 'token_endpoint' is not https"));
        }
        // A daemon needs no endpoint for sign-ins, so an invalid one is ignored.
        let valid = |published: Option<&str>, name: &str| {
            let url = self.http_hosts.parse_url(name, published?).ok();
            url.filter(|url| url.scheme() == "https" || self.url.scheme() != "https")
        };
        let authorization_endpoint = document.text("authorization_endpoint");
        let authorization_endpoint = valid(authorization_endpoint, AUTHORIZATION_ENDPOINT);
        let end_session_endpoint = document.text("end_session_endpoint");
        let end_session_endpoint = valid(end_session_endpoint, END_SESSION_ENDPOINT);
        let pushed_endpoint = self.endpoint(&document, "pushed_authorization_request_endpoint");
        let pushed_endpoint = valid(pushed_endpoint, PUSHED_ENDPOINT);
        let introspection_endpoint = self.endpoint(&document, "introspection_endpoint");
        let introspection_endpoint = valid(introspection_endpoint, INTROSPECTION_ENDPOINT);
        let flag = |member: &str| document.members().get(member).and_then(Value::as_bool);
        let metadata = ProviderMetadata {
            pushed_endpoint: pushed_endpoint.and_then(|url| request_uri(url.to_string()).ok()),
            requires_pushed_requests: flag("require_pushed_authorization_requests")
                .unwrap_or_default(),
            introspection_endpoint: introspection_endpoint
                .and_then(|url| request_uri(url.to_string()).ok()),
            introspection_methods: introspection_methods(document.members(), self.is_fapi2),
            token_endpoint: request_uri(token_endpoint.to_string())?,
            authorization_endpoint,
            end_session_endpoint,
            methods: SupportedAuthMethods::from_metadata(document.members(), self.is_fapi2),
            binds_to_certificates: is_true(&document, BINDS_TO_CERTIFICATES),
            proof_algorithms: proof_algorithms(document.members()),
            responses_name_issuer: responses_name_issuer(&document),
            unsupported_scopes: unsupported_scopes(document.members()),
            without_id_tokens: without_id_tokens(document.members(), self.is_fapi2),
        };
        Ok((metadata, document.time_to_live()))
    }
}

/// Returns the constructor for the authority of a host of Microsoft's.
fn microsoft_constructor(host: &str) -> Option<&'static str> {
    match host {
        _ if preferred_host(host).is_some() => Some("Authority::entra(..)"),
        _ if host.ends_with(".ciamlogin.com") => Some("Authority::external_id(..)"),
        _ if host.ends_with(".b2clogin.com") => Some("Authority::b2c(..)"),
        _ => None,
    }
}

/// Returns the client authentication of the introspection endpoint. Without a separate list, the
/// token endpoint's list applies.
fn introspection_methods(metadata: &Map<String, Value>, is_fapi2: bool) -> SupportedAuthMethods {
    let mut metadata = metadata.clone();
    for (own, of_token_endpoint) in [
        (
            "introspection_endpoint_auth_methods_supported",
            "token_endpoint_auth_methods_supported",
        ),
        (
            "introspection_endpoint_auth_signing_alg_values_supported",
            "token_endpoint_auth_signing_alg_values_supported",
        ),
    ] {
        if let Some(list) = metadata.remove(own) {
            metadata.insert(of_token_endpoint.to_owned(), list);
        }
    }
    SupportedAuthMethods::from_metadata(&metadata, is_fapi2)
}

/// Returns whether the metadata announce that every authorization response names the issuer
/// ([RFC 9207 section 3]).
///
/// [RFC 9207 section 3]: https://www.rfc-editor.org/rfc/rfc9207#section-3
pub(super) fn responses_name_issuer(document: &Document) -> bool {
    is_true(document, RESPONSES_NAME_ISSUER)
}

/// Returns whether a member is `true`. An absent member is `false`.
fn is_true(document: &Document, name: &str) -> bool {
    let member = document.members().get(name);
    member.and_then(Value::as_bool).unwrap_or_default()
}

/// Returns the algorithms of DPoP proofs in metadata ([RFC 9449 section 5.1]). An absent list says
/// nothing.
///
/// [RFC 9449 section 5.1]: https://www.rfc-editor.org/rfc/rfc9449#section-5.1
fn proof_algorithms(metadata: &Map<String, Value>) -> Option<Arc<[String]>> {
    let list = metadata.get("dpop_signing_alg_values_supported")?;
    let names = list.as_array()?.iter().filter_map(Value::as_str);
    Some(names.map(ToOwned::to_owned).collect())
}

/// Returns the scopes that the client adds to a sign-in and that `scopes_supported` does not have
/// ([OpenID Connect Discovery section 3]). An absent list rules nothing out.
///
/// A provider may have a scope that the list does not have. The caller requests such a scope.
///
/// [OpenID Connect Discovery section 3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
fn unsupported_scopes(metadata: &Map<String, Value>) -> Vec<String> {
    let Some(Value::Array(supported)) = metadata.get("scopes_supported") else {
        return Vec::new();
    };
    let is_supported = |scope: &&str| supported.iter().any(|known| known == scope);
    let unsupported = OPTIONAL.into_iter().filter(|scope| !is_supported(scope));
    unsupported.map(ToOwned::to_owned).collect()
}

/// Returns the reason why metadata rule out ID tokens ([OpenID Connect Discovery section 3]).
///
/// An absent list rules nothing out. FAPI 2.0 allows fewer algorithms.
///
/// [OpenID Connect Discovery section 3]: https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
fn without_id_tokens(metadata: &Map<String, Value>, is_fapi2: bool) -> Option<String> {
    let list = |name: &str| {
        let list = metadata.get(name)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>())
    };
    if !metadata.get("jwks_uri").is_some_and(Value::is_string) {
        return Some("its metadata have no 'jwks_uri'".to_owned());
    }
    if list("scopes_supported").is_some_and(|scopes| !scopes.contains(&"openid")) {
        return Some("its 'scopes_supported' do not have 'openid'".to_owned());
    }
    let algorithms = list("id_token_signing_alg_values_supported")?;
    let accepted = SigningAlgorithm::supported();
    let accepted = accepted.filter(|algorithm| !is_fapi2 || algorithm.is_in_fapi2());
    let accepted: Vec<_> = accepted.map(SigningAlgorithm::name).collect();
    let is_supported = algorithms.iter().any(|name| accepted.contains(name));
    (!is_supported).then(|| {
        format!(
            "its 'id_token_signing_alg_values_supported' have none of {}{}",
            accepted.join(", "),
            if is_fapi2 {
                ", which FAPI 2.0 allows"
            } else {
                ""
            },
        )
    })
}

const METADATA_NAME: &str = "the OpenID configuration";
const BINDS_TO_CERTIFICATES: &str = "tls_client_certificate_bound_access_tokens";
const RESPONSES_NAME_ISSUER: &str = "authorization_response_iss_parameter_supported";
const HINT: &str = "is the issuer right? For a provider without metadata, set token_endpoint(..) of the Authority, and client_assertion_audience(..) for a certificate or an assertion";
const ISSUER: &str = "the issuer";
const TOKEN_ENDPOINT: &str = "the token endpoint";
const AUTHORIZATION_ENDPOINT: &str = "the authorization endpoint";
const END_SESSION_ENDPOINT: &str = "the end session endpoint";
const INTROSPECTION_ENDPOINT: &str = "the introspection endpoint";
const PUSHED_ENDPOINT: &str = "the pushed authorization request endpoint";

pub(super) const METADATA_PATH: &str = "/.well-known/openid-configuration";
/// A segment of every metadata URL ([RFC 8615 section 3]).
///
/// [RFC 8615 section 3]: https://www.rfc-editor.org/rfc/rfc8615#section-3
const WELL_KNOWN: &str = "/.well-known/";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_metadata_that_rule_id_tokens_out_do_so() {
        let keys = "https://id.example/keys";
        for (metadata, expected) in [
            (json!({ "jwks_uri": keys }), None),
            (
                json!({ "jwks_uri": keys, "scopes_supported": ["openid", "read"] }),
                None,
            ),
            (json!({ "jwks_uri": keys, "scopes_supported": null }), None),
            (
                json!({ "jwks_uri": keys, "id_token_signing_alg_values_supported": ["EdDSA", "ES256"] }),
                None,
            ),
            (
                json!({ "jwks_uri": keys, "id_token_signing_alg_values_supported": null }),
                None,
            ),
            (json!({}), Some("jwks_uri")),
            (json!({ "jwks_uri": null }), Some("jwks_uri")),
            (
                json!({ "jwks_uri": keys, "scopes_supported": ["read"] }),
                Some("scopes_supported"),
            ),
            (
                json!({ "jwks_uri": keys, "scopes_supported": [] }),
                Some("scopes_supported"),
            ),
            (
                json!({ "jwks_uri": keys, "id_token_signing_alg_values_supported": ["HS256", "none"] }),
                Some("id_token_signing_alg_values_supported"),
            ),
            (
                json!({ "jwks_uri": keys, "id_token_signing_alg_values_supported": [] }),
                Some("id_token_signing_alg_values_supported"),
            ),
        ] {
            let reason = without_id_tokens(metadata.as_object().unwrap(), false);
            match (&reason, expected) {
                (None, None) => {}
                (Some(reason), Some(name)) => assert!(reason.contains(name), "{reason}"),
                (reason, _) => panic!("{metadata}: {reason:?}"),
            }
        }
    }
}
