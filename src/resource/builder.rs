use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::accepted_tenants::AcceptedTenants;
use super::certificate_source::CertificateSource;
use super::claims::{Claims, HolderRule};
use super::confirmation::Bindings;
use super::dpop_policy::DpopPolicy;
use super::holder::Holder;
use super::introspection::IntrospectionSettings;
use super::rejection_log::RejectionLog;
use super::validator::{TokenValidator, ValidatorConfig};
use crate::authority::{Authority, AuthorityKind};
use crate::client::ConfidentialClient;
use crate::crypto::SigningAlgorithm;
use crate::endpoint::Endpoints;
use crate::error::Error;
use crate::jwt::is_guid;
use crate::time::{Clock, TimeSource};
use crate::transport::Transport;
use crate::transport::TransportConfig;

/// A builder for a [`TokenValidator`].
///
/// An audience and the accepted tenants are required. The setters check nothing.
/// [`build`](Self::build) reports every mistake.
#[doc(alias("TokenValidationParameters", "JwtBearerOptions", "Validation"))]
#[must_use]
pub struct TokenValidatorBuilder {
    authority: Authority,
    audiences: Vec<String>,
    tenants: Vec<AcceptedTenants>,
    algorithms: Vec<SigningAlgorithm>,
    token_type: Option<String>,
    policies: Option<Vec<String>>,
    holder: Option<Box<HolderRule>>,
    application_keys: Option<String>,
    max_key_age: Option<Duration>,
    leeway: Duration,
    pub(super) introspection: IntrospectionSettings,
    certificate_source: Option<CertificateSource>,
    dpop: Option<DpopPolicy>,
    requires_binding: bool,
    transport: TransportConfig,
    clock: Option<TimeSource>,
}

impl TokenValidatorBuilder {
    pub(super) fn new(authority: Authority) -> Self {
        Self {
            authority,
            audiences: Vec::new(),
            tenants: Vec::new(),
            algorithms: DEFAULT_ALGORITHMS.to_vec(),
            token_type: None,
            policies: None,
            holder: None,
            application_keys: None,
            max_key_age: None,
            leeway: DEFAULT_LEEWAY,
            introspection: IntrospectionSettings::default(),
            certificate_source: None,
            dpop: None,
            requires_binding: false,
            transport: TransportConfig::of("TokenValidatorBuilder"),
            clock: None,
        }
    }

    pub(super) fn introspecting(client: &ConfidentialClient) -> Self {
        Self {
            introspection: IntrospectionSettings::of(client),
            ..Self::new(client.endpoints().authority().clone())
        }
    }

    /// Adds an accepted audience, the exact `aud` claim of a token for this API.
    ///
    /// Microsoft Entra ID writes the API's client id into tokens of version 2. Tokens of version 1
    /// contain the application ID URI, such as `api://orders`. An API that accepts both versions
    /// calls this method twice.
    #[doc(alias = "valid_audiences")]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens of the authority's tenant only.
    ///
    /// If the authority has no tenants, every token of the issuer is accepted.
    pub fn single_tenant(mut self) -> Self {
        self.tenants.push(AcceptedTenants::Single);
        self
    }

    /// Accepts tokens of the listed tenants only, such as the tenants of an API's customers.
    ///
    /// The tenants are named by tenant id, a GUID.
    pub fn tenants<T: Into<String>>(mut self, tenants: impl IntoIterator<Item = T>) -> Self {
        let tenants = tenants.into_iter().map(Into::into);
        self.tenants.push(AcceptedTenants::listed(tenants));
        self
    }

    /// Accepts tokens of every organization, for an API that checks
    /// [`tenant_id`](super::Claims::tenant_id) in its own code.
    ///
    /// Personal accounts are accepted, too, if the authority's tenant is `common`.
    pub fn any_tenant(mut self) -> Self {
        self.tenants.push(AcceptedTenants::Any {
            with_personal_accounts: false,
        });
        self
    }

    /// Sets the rule that decides whether a token acts for a user or for an application.
    ///
    /// By default the claims decide, and [`Holder`] has the evidence. A rule is for providers whose
    /// tokens lack that evidence. The rule receives the validated claims. Inside the rule,
    /// [`Claims::holder`] returns the holder by evidence. The result of the rule is final.
    ///
    /// A wrong rule lets a user's token pass for an application's. Decide by a claim that users
    /// cannot choose.
    ///
    /// ```
    /// use confidential_client::Authority;
    /// use confidential_client::resource::{Holder, TokenValidator};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let validator = TokenValidator::builder(Authority::oidc("https://id.example/realms/shop"))
    ///     .audience("orders")
    ///     .single_tenant()
    ///     .holder(|token| match token.holder() {
    ///         // The subject of this provider's application tokens is always the client's id.
    ///         Holder::Unknown if token.subject().is_some() => Holder::User,
    ///         holder => holder,
    ///     })
    ///     .build()?;
    /// # let _ = validator;
    /// # Ok(())
    /// # }
    /// ```
    pub fn holder(mut self, rule: impl Fn(&Claims) -> Holder + Send + Sync + 'static) -> Self {
        self.holder = Some(Box::new(rule));
        self
    }

    /// Sets the accepted signature algorithms. The default is RS256, PS256, ES256, ES384 and EdDSA.
    ///
    /// A published key with an `alg` verifies that algorithm only. A key without an `alg` verifies
    /// every accepted algorithm of its type ([RFC 8725 section 3.1]).
    ///
    /// [RFC 8725 section 3.1]: https://www.rfc-editor.org/rfc/rfc8725#section-3.1
    #[doc(alias("ValidAlgorithms"))]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = SigningAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Requires a `typ` in the token's header, such as `at+jwt` ([RFC 9068 section 4]).
    ///
    /// By default `at+jwt`, `JWT` and an absent `typ` are accepted. Microsoft's providers write
    /// `JWT`.
    ///
    /// [RFC 9068 section 4]: https://www.rfc-editor.org/rfc/rfc9068#section-4
    #[doc(alias("ValidTypes"))]
    pub fn require_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_type = Some(token_type.into());
        self
    }

    /// Accepts tokens of the listed user flows (policies) of Azure AD B2C only.
    ///
    /// By default the tokens of every user flow of the tenant are accepted, including those of a
    /// user flow for sign-up or for password reset. Names are compared without case, with the claim
    /// `tfp`, or else with `acr`.
    #[doc(alias("tfp", "user_flow"))]
    pub fn policies<T: Into<String>>(mut self, policies: impl IntoIterator<Item = T>) -> Self {
        self.policies = Some(policies.into_iter().map(Into::into).collect());
        self
    }

    /// Fetches the signing keys of one application, for an API with its own signing key.
    ///
    /// Microsoft Entra ID signs the tokens for an application with the application's own key if an
    /// administrator added that key for [claims mapping]. The tenant's keys do not verify such
    /// tokens. `client_id` is the application (client) id of the API. The keys are then discovered
    /// at the tenant's metadata URL with `?appid={client_id}`.
    ///
    /// ```
    /// use confidential_client::resource::TokenValidator;
    /// use confidential_client::{Authority, Cloud};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let api = "11111111-2222-3333-4444-555555555555";
    /// let tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    /// let validator = TokenValidator::builder(Authority::entra(Cloud::Public, tenant))
    ///     .audience(api)
    ///     .application_keys(api)
    ///     .single_tenant()
    ///     .build()?;
    /// # let _ = validator;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [claims mapping]: https://learn.microsoft.com/entra/identity-platform/saml-claims-customization
    #[doc(alias("appid", "custom signing key", "acceptMappedClaims"))]
    pub fn application_keys(mut self, client_id: impl Into<String>) -> Self {
        self.application_keys = Some(client_id.into());
        self
    }

    /// Sets the longest time for which the fetched signing keys are used while the identity
    /// provider is down.
    ///
    /// The default is a week. The shortest time is 5 minutes, and the longest is 365 days. The time
    /// starts with the last fetch that succeeded. Afterwards every token is rejected with 503,
    /// until a fetch succeeds. A time under two days also makes the validator fetch the keys more
    /// often, at half that time.
    #[doc(alias("LastKnownGoodLifetime"))]
    pub fn max_key_age(mut self, max_key_age: Duration) -> Self {
        self.max_key_age = Some(max_key_age);
        self
    }

    /// Sets the tolerated difference between the local clock and the identity provider's clock.
    ///
    /// The default is 5 minutes, and the maximum is 10 minutes. An expired token stays valid for
    /// the length of the leeway.
    #[doc(alias("ClockSkew", "clock_skew"))]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Accepts tokens that are bound to a proof key by DPoP ([RFC 9449]).
    ///
    /// The scheme of such tokens is `DPoP`. Validate them with
    /// [`validate_request`](TokenValidator::validate_request) or with the axum extractor.
    ///
    /// [RFC 9449]: https://www.rfc-editor.org/rfc/rfc9449
    #[doc(alias("DPoP", "jkt", "sender-constrained"))]
    pub fn dpop(mut self, policy: DpopPolicy) -> Self {
        self.dpop = Some(policy);
        self
    }

    /// Accepts tokens that are bound to a client certificate (`x5t#S256`, [RFC 8705 section 3]).
    ///
    /// The scheme of such tokens is `Bearer`, or `mtls_pop` in Microsoft Entra ID's preview. The
    /// source is the only place where the validator looks for the certificate of a request. A later
    /// call replaces the source.
    ///
    /// ```
    /// use confidential_client::Authority;
    /// use confidential_client::resource::{CertificateSource, TokenValidator};
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let validator = TokenValidator::builder(Authority::oidc("https://id.example/realms/shop"))
    ///     .audience("orders")
    ///     .single_tenant()
    ///     // nginx: proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
    ///     .certificate_bound(CertificateSource::url_encoded_pem("x-client-cert"))
    ///     .require_bound_tokens()
    ///     .build()?;
    /// # let _ = validator;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [RFC 8705 section 3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
    #[doc(alias("mTLS", "x5t#S256", "mtls_pop", "sender-constrained"))]
    pub fn certificate_bound(mut self, source: CertificateSource) -> Self {
        self.certificate_source = Some(source);
        self
    }

    /// Rejects tokens that are not bound to a key.
    ///
    /// By default an API that accepts bound tokens accepts bearer tokens, too.
    pub fn require_bound_tokens(mut self) -> Self {
        self.requires_binding = true;
        self
    }

    /// Sets the transport that fetches the signing keys, in place of reqwest.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport.transport = Some(Arc::new(transport));
        self
    }

    /// Sets the reqwest client builder for fetching the signing keys.
    ///
    /// [`ConfidentialClientBuilder::reqwest`](crate::ConfidentialClientBuilder::reqwest) has the
    /// rules.
    #[cfg(feature = "reqwest")]
    pub fn reqwest(mut self, builder: reqwest::ClientBuilder) -> Self {
        self.transport.reqwest = Some(builder);
        self
    }

    /// Sets the clock, in place of the operating system's clock. Intended for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(TimeSource::Injected(Arc::new(clock)));
        self
    }

    /// Checks the settings and builds the validator. Does no I/O.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] with advice in these cases:
    ///
    /// - There is no audience, or an audience is empty or surrounded by white space.
    /// - [`single_tenant`](Self::single_tenant), [`tenants`](Self::tenants) and
    ///   [`any_tenant`](Self::any_tenant) were not called, or more than one call was made.
    /// - The accepted tenants do not fit the authority, or the authority is invalid.
    /// - The list of algorithms or of policies is empty, the required type is neither `at+jwt` nor
    ///   `JWT`, or policies are set for an authority other than Azure AD B2C.
    /// - Application keys are set, and the authority is not Microsoft Entra ID, the client id is
    ///   not valid, or several tenants are accepted.
    /// - The maximum age of the keys is shorter than 5 minutes or longer than 365 days.
    /// - The leeway is longer than 10 minutes.
    /// - The introspection settings do not fit: see the section *Introspection*.
    /// - Bound tokens are required, and neither [`dpop`](Self::dpop) nor
    ///   [`certificate_bound`](Self::certificate_bound) is set.
    /// - A setting of the [`DpopPolicy`] is invalid, or the [`CertificateSource`] has a text that
    ///   is not the name of a header.
    /// - No transport is available, or the build has no backend that verifies signatures.
    /// - A proxy variable of the environment is no proxy, or the machine has no CA certificates.
    pub fn build(self) -> Result<TokenValidator, Error> {
        let mut endpoints = Endpoints::of(&self.authority)?;
        let needs_keys = self.introspection.needs_keys();
        if needs_keys {
            Endpoints::check_can_verify()?;
        } else {
            let unused = match () {
                () if self.token_type.is_some() => Some("require_type(..)"),
                () if self.max_key_age.is_some() => Some("max_key_age(..)"),
                () if self.application_keys.is_some() => Some("application_keys(..)"),
                () => None,
            };
            if let Some(unused) = unused {
                return Err(Error::config(format!(
                    "{unused} is set, and the validator introspects every token and uses no keys; remove {unused}, or call introspect_opaque_tokens_only()"
                )));
            }
        }
        if let Some(max_key_age) = self.max_key_age {
            endpoints = endpoints.with_max_key_age(max_key_age)?;
        }
        let mut tenants = exactly_one(self.tenants)?;
        if let Some(client_id) = self.application_keys {
            if !matches!(tenants, AcceptedTenants::Single) {
                return Err(Error::config(format!(
                    "application_keys({client_id:?}) is set with tenants(..) or any_tenant(), and each tenant has other keys for an application; call single_tenant(), and create one validator for each tenant"
                )));
            }
            endpoints = endpoints.with_application_keys(client_id)?;
        }
        let keys_tenant = tenants.check(&self.authority.kind, endpoints.tenant())?;
        if self.leeway > MAX_LEEWAY {
            return Err(Error::config(
                "the leeway must be at most 10 minutes, because an expired token is accepted for that long; synchronize the clocks (NTP)",
            ));
        }
        if self.algorithms.is_empty() {
            return Err(Error::config(
                "algorithms(..) got an empty list, and every token would be rejected; list at least one algorithm",
            ));
        }
        let client = self.introspection.client();
        let clock = match (self.clock, client) {
            (Some(clock), _) => clock,
            (None, Some(client)) => client.clock().clone(),
            (None, None) => TimeSource::default(),
        };
        let transport = match client.filter(|_| self.transport.is_default()) {
            Some(client) => Arc::clone(client.transport()),
            None => self.transport.transport(endpoints.origin())?,
        };
        let bindings = bindings(self.certificate_source, self.dpop, self.requires_binding)?;
        Ok(TokenValidator::new(ValidatorConfig {
            schemes: bindings.schemes().map(Arc::new),
            bindings,
            introspection: self.introspection.build(&endpoints)?,
            audiences: checked_audiences(self.audiences)?,
            algorithms: self.algorithms,
            token_type: self.token_type.map(checked_type).transpose()?,
            policies: checked_policies(self.policies, &self.authority)?,
            holder: self.holder,
            transport,
            endpoints,
            keys_tenant,
            tenants,
            leeway: self.leeway,
            log: Arc::new(RejectionLog::new(clock.clone())),
            clock,
        }))
    }
}

fn bindings(
    certificate: Option<CertificateSource>,
    dpop: Option<DpopPolicy>,
    is_required: bool,
) -> Result<Bindings, Error> {
    if is_required && certificate.is_none() && dpop.is_none() {
        return Err(Error::config(
            "require_bound_tokens() is set, and every token would be rejected; call dpop(..), certificate_bound(..) or both",
        ));
    }
    Ok(Bindings {
        certificate: certificate.map(CertificateSource::check).transpose()?,
        dpop: dpop.map(DpopPolicy::build).transpose()?,
        is_required,
    })
}

fn exactly_one(tenants: Vec<AcceptedTenants>) -> Result<AcceptedTenants, Error> {
    let mut tenants = tenants.into_iter();
    match (tenants.next(), tenants.next()) {
        (Some(tenants), None) => Ok(tenants),
        (None, _) => Err(Error::config(
            "no tenants are accepted, and there is no default; call single_tenant(), tenants(..) or any_tenant()",
        )),
        (Some(_), Some(_)) => Err(Error::config(
            "the accepted tenants are set twice; call one of single_tenant(), tenants(..) and any_tenant(), once",
        )),
    }
}

fn checked_audiences(audiences: Vec<String>) -> Result<Vec<String>, Error> {
    if audiences.is_empty() {
        return Err(Error::config(
            "no audience is set; call audience(..) with the API's client id, its application ID URI, or both",
        ));
    }
    for audience in &audiences {
        if audience.trim() != audience || audience.is_empty() {
            return Err(Error::config(format!(
                "the audience {audience:?} is empty or surrounded by white space; trim the value"
            )));
        }
    }
    // Microsoft Entra ID writes ids in lower case, and portals do not always.
    let lower_case = audiences
        .into_iter()
        .map(|audience| match is_guid(&audience) {
            true => audience.to_ascii_lowercase(),
            false => audience,
        });
    Ok(lower_case.collect())
}

/// Returns the required `typ` in the form of a parsed header.
fn checked_type(token_type: String) -> Result<String, Error> {
    let lower_case = token_type.to_ascii_lowercase();
    match lower_case
        .strip_prefix("application/")
        .unwrap_or(&lower_case)
    {
        known @ ("at+jwt" | "jwt") => Ok(known.to_owned()),
        _ => Err(Error::config(format!(
            "require_type({token_type:?}) would reject every token, because only tokens of the types 'at+jwt' and 'JWT' are read; pass one of the two"
        ))),
    }
}

fn checked_policies(
    policies: Option<Vec<String>>,
    authority: &Authority,
) -> Result<Vec<String>, Error> {
    let Some(policies) = policies else {
        return Ok(Vec::new());
    };
    if !matches!(authority.kind, AuthorityKind::B2c { .. }) {
        return Err(Error::config(format!(
            "policies(..) is set, and the authority '{authority}' has no user flows; remove policies(..), or use Authority::b2c(..)"
        )));
    }
    let is_blank = |policy: &String| policy.trim() != policy || policy.is_empty();
    match policies.iter().find(|policy| is_blank(policy)) {
        _ if policies.is_empty() => Err(Error::config(
            "policies(..) got an empty list, and every token would be rejected; list the accepted user flows",
        )),
        Some(policy) => Err(Error::config(format!(
            "the policy {policy:?} is empty or surrounded by white space; trim the value"
        ))),
        None => Ok(policies),
    }
}

impl fmt::Debug for TokenValidatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenValidatorBuilder")
            .field("authority", &self.authority)
            .field("audiences", &self.audiences)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

const DEFAULT_ALGORITHMS: [SigningAlgorithm; 5] = [
    SigningAlgorithm::RS256,
    SigningAlgorithm::PS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::ES384,
    SigningAlgorithm::EdDSA,
];
const DEFAULT_LEEWAY: Duration = Duration::from_secs(5 * 60);
const MAX_LEEWAY: Duration = Duration::from_secs(10 * 60);
