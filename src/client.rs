use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::authority::{Rules, Tenant};
use crate::cache::{Cache, CacheOptions, Cached, Requirements, Slot, SpecialRequirements};
use crate::certificate::Certificate;
use crate::delegated::admin_consent;
use crate::error::{Error, Failure};
use crate::request::TokenRequest;
use crate::scope::ScopeSet;
use crate::token::{AccessToken, CacheKey, IssuedToken, TokenSource};

mod builder;
mod delegated;
mod environment;
mod errand;
mod provider;
mod services;
mod sign_in;
mod subject;
mod token_cache;
mod warm_up;

pub use builder::ConfidentialClientBuilder;
use errand::Errand;
pub use provider::TokenProvider;
pub(crate) use services::Services;
use services::signed_out;
pub(crate) use subject::Subject;
use subject::Way;
pub use token_cache::TokenCache;
pub use warm_up::WarmUp;

/// A confidential client: an application that can keep a credential, and proves its identity with
/// it to get access tokens.
///
/// Make one per process, with [`builder`](Self::builder), and share it: it is an `Arc` inside,
/// cheap to clone, and holds the cache and the connections. Every method takes `&self`. Calls that
/// may go to the network need a tokio runtime with time and I/O enabled, such as
/// `#[tokio::main]`'s; one without time panics, as tokio's own timers do.
///
/// A process that forks makes its client in the child, after `fork`: the parent's threads, its tokio
/// runtime's among them, do not exist there, a lock that one of them held stays locked, and a
/// connection in use by both would mix their requests. Programs started with `exec`, as by
/// [`std::process::Command`], are not concerned.
#[derive(Clone)]
pub struct ConfidentialClient(Arc<Inner>);

struct Inner {
    cache: Cache,
    services: Arc<Services>,
}

/// A request that has been checked against this client.
#[derive(Clone)]
pub(crate) struct Call {
    request: TokenRequest,
    subject: Subject,
    correlation_id: Option<Uuid>,
    requirements: Requirements,
}

impl ConfidentialClient {
    /// Starts a client for the application (client) id of the registration, usually a GUID.
    pub fn builder(client_id: impl Into<String>) -> ConfidentialClientBuilder {
        ConfidentialClientBuilder::new(client_id.into())
    }

    /// Makes a client from the environment variables that Azure's SDKs and workload identity use.
    ///
    /// | variable | what it holds |
    /// |---|---|
    /// | `AZURE_TENANT_ID` | the tenant's id or one of its domains |
    /// | `AZURE_CLIENT_ID` | the application (client) id |
    /// | `AZURE_CLIENT_SECRET` | a client secret |
    /// | `AZURE_CLIENT_CERTIFICATE_PATH` | or the path of a certificate with its private key: PEM, or with the feature `pkcs12` PKCS#12 |
    /// | `AZURE_CLIENT_CERTIFICATE_PASSWORD` | that file's password, if it has one |
    /// | `AZURE_FEDERATED_TOKEN_FILE` | or the path of a file with a client assertion, as Kubernetes mounts it |
    /// | `AZURE_AUTHORITY_HOST` | another cloud, such as `https://login.microsoftonline.us/`; always https |
    ///
    /// One of the three credentials is needed, and one only; an empty variable counts as unset. The
    /// certificate is read now, so that a file that cannot be used is found at the start, and read
    /// again when it has been replaced. For anything more, such as a transport, begin with
    /// [`ConfidentialClientBuilder::from_env`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`], naming each variable that is missing or contradicts another, and never
    /// showing a value; [`Error::Credential`] for a certificate file that cannot be used; and what
    /// [`build`](ConfidentialClientBuilder::build) finds.
    pub fn from_env() -> Result<Self, Error> {
        ConfidentialClientBuilder::from_env()?.build()
    }

    /// Gets a token for the application itself, by the client-credentials grant
    /// ([RFC 6749 section 4.4]): from memory while there is a good one, else from the identity
    /// provider.
    ///
    /// However many callers wait for the same token, one request is made, and all share its result
    /// or its error. Dropping the returned future stops nothing for the others. A token that is
    /// due to be renewed is returned at once and renewed in the background; if that fails, it is
    /// served until it ends. After a failure, callers get that failure's error for a moment
    /// without another request: see [`Error::retry_after`].
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::{ConfidentialClient, TokenRequest, TokenSource};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("s3cret")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let graph = "https://graph.microsoft.com/.default";
    /// let token = client.acquire_token_for_client(graph).await?;
    /// assert_eq!(token.source(), TokenSource::IdentityProvider);
    /// let token = client.acquire_token_for_client(graph).await?;
    /// assert_eq!(token.source(), TokenSource::Cache);
    ///
    /// // In a customer's tenant: another token, kept beside the first.
    /// let request = TokenRequest::new(graph).tenant("fabrikam.com");
    /// let token = client.acquire_token_for_client(&request).await?;
    /// assert_eq!(token.tenant_id(), Some("fabrikam.com"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Before the network, [`Error::Config`]: a scope that is not one resource's `/.default`, a
    /// tenant that is not one organisation's, a correlation id that is no GUID, no tokio runtime;
    /// and [`Error::Credential`], a certificate outside its validity, a source, signer or assertion
    /// provider that failed or took more than ten seconds. After it, whatever the provider
    /// answered: see [`Error`].
    ///
    /// [RFC 6749 section 4.4]: https://www.rfc-editor.org/rfc/rfc6749#section-4.4
    pub async fn acquire_token_for_client(
        &self,
        request: impl Into<TokenRequest>,
    ) -> Result<AccessToken, Error> {
        let (slot, call) = self.place(request.into(), Subject::Application)?;
        self.token(&slot, &call).await
    }

    /// Binds a request to its place in the cache: the fastest way to the same token again and
    /// again. Does no I/O and gets no token yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a request that
    /// [`acquire_token_for_client`](Self::acquire_token_for_client) would refuse, and for one with
    /// a correlation id, claims, a rejected token or a forced refresh, which belong to a single call.
    pub fn token_provider(&self, request: impl Into<TokenRequest>) -> Result<TokenProvider, Error> {
        self.bind(request.into(), Subject::Application)
    }

    /// Forgets a token that an API did not take, so that the next call asks for another: after a 401
    /// whose challenge has no claims. Does no I/O.
    ///
    /// A token that has been renewed since is left alone, so a thousand callers may report the same
    /// one. Within 30 seconds of the last renewal for such a reason the token is kept, so that an API
    /// that takes no token at all does not cause a storm at the identity provider.
    pub fn invalidate(&self, token: &AccessToken) {
        self.0.cache.invalidate(token.issued());
    }

    /// Gets the tokens of many requests into the cache, a bounded number at a time, and reports each
    /// outcome as it comes: for the start of a daemon that works in thousands of tenants. Asks for
    /// nothing until [`WarmUp::next`] is called.
    ///
    /// Each request is served as by [`acquire_token_for_client`](Self::acquire_token_for_client):
    /// from memory where there is a good token, and with one token request for all that ask for
    /// the same. One that is wrong or refused is an outcome like any other, and the rest go on.
    /// None is tried again beyond what [`RetryPolicy`](crate::RetryPolicy) says. While the identity provider is down, those whose turn comes fail at once
    /// without a request of their own: a daemon that finds the first to be
    /// [transient](crate::Error::is_transient) failures may drop the [`WarmUp`] and ask for what is
    /// missing when it is needed.
    ///
    /// Have room for all of them in the cache, 10,000 unless
    /// [set](crate::CacheOptions::max_entries): beyond it the last push out the first.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use confidential_client::{ConfidentialClient, TokenRequest};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    /// #     .tenant("contoso.onmicrosoft.com")
    /// #     .client_secret("s3cret")
    /// #     .transport(|_: http::Request<Bytes>| async {
    /// #         let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
    /// #         Ok(http::Response::new(Bytes::from(body)))
    /// #     })
    /// #     .build()?;
    /// let customers = ["fabrikam.com", "common", "adatum.com"];
    /// let graph = TokenRequest::new("https://graph.microsoft.com/.default");
    /// let requests = customers.map(|tenant| graph.clone().tenant(tenant));
    ///
    /// let mut failed = Vec::new();
    /// let mut warm_up = client.warm_up(requests).max_concurrent(8);
    /// while let Some((request, result)) = warm_up.next().await {
    ///     if let Err(error) = result {
    ///         failed.push((request, error));
    ///     }
    /// }
    ///
    /// // Two tokens are in the cache, and the third customer has no tenant of its own.
    /// assert_eq!(client.cache().len(), 2);
    /// let (request, error) = &failed[0];
    /// assert_eq!(request.tenant_id(), Some("common"));
    /// assert!(error.to_string().contains("an application has no token in 'common'"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn warm_up<R: Into<TokenRequest>>(&self, requests: impl IntoIterator<Item = R>) -> WarmUp {
        let requests = requests.into_iter().map(Into::into).collect();
        WarmUp::new(self.clone(), requests)
    }

    /// The page of Microsoft Entra ID where an administrator of `tenant` consents to what this
    /// application's registration asks for: where an ISV sends a customer who is new. Does no I/O.
    ///
    /// The tenant is the customer's id or domain, or `organizations` where it is not known yet. The
    /// redirect URI is one of the registration's; the administrator comes back to it, and
    /// [`AdminConsent::parse`](crate::delegated::AdminConsent::parse) reads what they bring. The state comes
    /// back unchanged: something random that is kept in the administrator's session, so that
    /// nobody can bring an answer that this application did not ask for.
    ///
    /// ```
    /// use confidential_client::ConfidentialClient;
    /// use confidential_client::delegated::AdminConsent;
    ///
    /// # fn main() -> Result<(), confidential_client::Error> {
    /// let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
    ///     .tenant("contoso.onmicrosoft.com")
    ///     .client_secret("the secret's value")
    ///     .build()?;
    /// let page =
    ///     client.admin_consent_url("organizations", "https://isv.example.org/consented", "x7Zq")?;
    /// assert_eq!(
    ///     page,
    ///     "https://login.microsoftonline.com/organizations/adminconsent\
    ///      ?client_id=11111111-2222-3333-4444-555555555555\
    ///      &redirect_uri=https%3A%2F%2Fisv.example.org%2Fconsented&state=x7Zq"
    /// );
    ///
    /// let back = "https://isv.example.org/consented?admin_consent=True&tenant=fabrikam.com&state=x7Zq";
    /// let consent = AdminConsent::parse(back, "x7Zq")?;
    /// assert!(matches!(consent, AdminConsent::Granted { tenant_id } if tenant_id == "fabrikam.com"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Config`]: the authority is not Microsoft Entra ID, `tenant` is no tenant, the redirect
    /// URI is none (https, or http to this machine, without a fragment), or the state is empty.
    pub fn admin_consent_url(
        &self,
        tenant: impl AsRef<str>,
        redirect_uri: impl AsRef<str>,
        state: impl AsRef<str>,
    ) -> Result<String, Error> {
        let tenant = Tenant::parse(tenant.as_ref())?;
        let page = self.0.services.endpoints.admin_consent(&tenant)?;
        let client_id = &self.0.services.client_id;
        admin_consent::url(page, client_id, redirect_uri.as_ref(), state.as_ref())
    }

    /// The certificate that the client proves its identity with, for a health check: the one it was
    /// built with, or the one its source gave last. `None` before the source was first asked, and
    /// for a client with another credential. Does no I/O.
    pub fn certificate(&self) -> Option<Certificate> {
        self.0.services.credential.certificate()
    }

    /// Returns the client's token cache: its size, its statistics, and a way to clear it.
    pub fn cache(&self) -> TokenCache<'_> {
        TokenCache::new(self)
    }

    /// The place in the cache of what is asked for, once that is checked.
    #[inline]
    pub(crate) fn place(
        &self,
        request: TokenRequest,
        subject: Subject,
    ) -> Result<(Arc<Slot>, Call), Error> {
        let (key, call) = self.check(request, subject)?;
        Ok((self.0.cache.slot(&key), call))
    }

    fn bind(&self, request: TokenRequest, subject: Subject) -> Result<TokenProvider, Error> {
        let (key, call) = self.check(request, subject)?;
        call.check_for_provider()?;
        let place = self.0.cache.bind(&key);
        Ok(TokenProvider::new(self.clone(), place, call))
    }

    /// Checks everything that can be known before the network, and says where the cache has it.
    fn check(&self, request: TokenRequest, subject: Subject) -> Result<(CacheKey, Call), Error> {
        let tenant = self.tenant(&request, &subject)?;
        let folded = tenant.map(Tenant::folded).map(Arc::clone);
        let key = CacheKey {
            scopes: self.scopes(&request, &subject, tenant)?.clone(),
            tenant: folded.unwrap_or_default(),
            kind: subject.kind(),
            parameters: request.extra_parameters()?.clone(),
        };
        let call = Call {
            requirements: requirements(&request, &key)?,
            correlation_id: request.requested_correlation_id()?,
            request,
            subject,
        };
        Ok((key, call))
    }

    /// The scopes as the cache has them, if they can be had in the tenant.
    fn scopes<'a>(
        &self,
        request: &'a TokenRequest,
        subject: &Subject,
        tenant: Option<&Tenant>,
    ) -> Result<&'a ScopeSet, Error> {
        let scopes = request.requested_scopes();
        if !matches!(subject, Subject::Application) {
            return Ok(&scopes.for_user()?.set);
        }
        if let Some(tenant) = tenant {
            tenant.check_for_application()?;
        }
        match self.0.services.endpoints.rules().requires_default_scope() {
            true => scopes.check_for_application()?,
            false => scopes.check_characters()?,
        }
        Ok(scopes.set())
    }

    /// The tenant that is asked: the request's, or else the client's own, where there are tenants;
    /// of a client that serves many, the one that the user is from.
    fn tenant<'a>(
        &'a self,
        request: &'a TokenRequest,
        subject: &'a Subject,
    ) -> Result<Option<&'a Tenant>, Error> {
        let endpoints = &self.0.services.endpoints;
        match (request.requested_tenant()?, endpoints.tenant()) {
            (Some(tenant), Some(_)) => Ok(Some(tenant)),
            (None, Some(own)) if own.is_multi_tenant() => Ok(Some(subject.tenant().unwrap_or(own))),
            (None, own) => Ok(own),
            (Some(tenant), None) => Err(Error::config(format!(
                "the tenant '{}' cannot be asked: the authority '{endpoints}' has no tenants to choose from",
                tenant.as_str()
            ))),
        }
    }

    /// A token from the slot, or through it from the identity provider. A hit neither waits nor
    /// allocates; the rest is boxed, to keep the future small.
    pub(crate) async fn token(&self, slot: &Arc<Slot>, call: &Call) -> Result<AccessToken, Error> {
        match slot.get(&self.0.services.clock.now(), &call.requirements) {
            Cached::Fresh(issued) => hand_out(issued, slot, TokenSource::Cache),
            Cached::Stale(issued) if !self.can_go_on(call) => {
                hand_out(issued, slot, TokenSource::Cache)
            }
            Cached::Stale(issued) => {
                let renewal =
                    |deadline| self.fetch(slot, call, &Requirements::NONE, true, deadline);
                self.0.cache.renew(slot, renewal);
                hand_out(issued, slot, TokenSource::Cache)
            }
            Cached::Miss => Box::pin(self.wait(slot, call)).await,
        }
    }

    /// The slot's token, if it is good; a pure read.
    #[inline]
    pub(crate) fn cached(&self, slot: &Slot, call: &Call) -> Option<AccessToken> {
        match slot.get(&self.0.services.clock.now(), &call.requirements) {
            Cached::Fresh(issued) | Cached::Stale(issued) => {
                hand_out(issued, slot, TokenSource::Cache).ok()
            }
            Cached::Miss => None,
        }
    }

    async fn wait(&self, slot: &Arc<Slot>, call: &Call) -> Result<AccessToken, Error> {
        let requirements = &call.requirements;
        if let Subject::OnBehalfOf(assertion) = &call.subject {
            assertion.check()?;
        }
        if !self.can_go_on(call) {
            return Err(signed_out(requirements.claims().cloned()));
        }
        let fetch = |deadline| self.fetch(slot, call, requirements, false, deadline);
        let (issued, source) = self.0.cache.wait(slot, requirements, fetch).await?;
        hand_out(issued, slot, source)
    }

    /// Whether there is anything to ask with: of a user who signed in, that may be used up.
    fn can_go_on(&self, call: &Call) -> bool {
        let Subject::Account(account) = &call.subject else {
            return true;
        };
        let session = self.0.cache.existing_session(account.user());
        session.is_some_and(|session| session.can_go_on())
    }

    /// The future of a flight. A renewal, which nobody waits for, goes without what the caller
    /// requirements.
    fn fetch(
        &self,
        slot: &Slot,
        call: &Call,
        requirements: &Requirements,
        is_refresh: bool,
        deadline: Instant,
    ) -> impl Future<Output = Result<IssuedToken, Error>> + use<> {
        let services = Arc::clone(&self.0.services);
        let errand = Errand {
            key: Arc::clone(slot.key()),
            // Checked when the call was made.
            tenant: self
                .tenant(&call.request, &call.subject)
                .ok()
                .flatten()
                .cloned(),
            scopes: call.wire(self.0.services.endpoints.rules()),
            claims: requirements.claims().cloned(),
            correlation_id: call.correlation_id.unwrap_or_else(Uuid::new_v4).to_string(),
            is_refresh,
            progress: Mutex::default(),
        };
        let way = self.way(&call.subject);
        let span = errand.span();
        async move { services.run(&errand, &way, deadline).await }.instrument(span)
    }

    fn way(&self, subject: &Subject) -> Way {
        match subject {
            Subject::Application => Way::Application,
            Subject::OnBehalfOf(assertion) => Way::User {
                session: Some(self.0.cache.session(assertion.user())),
                assertion: Some(assertion.clone()),
            },
            Subject::Account(account) => Way::User {
                session: self.0.cache.existing_session(account.user()),
                assertion: None,
            },
        }
    }
}

impl Call {
    /// The scopes as they are sent.
    fn wire(&self, rules: Rules) -> Arc<str> {
        let scopes = self.request.requested_scopes();
        let of_a_user = match self.subject {
            Subject::Application => None,
            // A refresh may not ask for what was never granted (RFC 6749 section 6), and what of
            // OpenID Connect's was, not every provider says.
            Subject::Account(_) if rules == Rules::OpenId => None,
            Subject::OnBehalfOf(_) | Subject::Account(_) => scopes.for_user().ok(),
        };
        Arc::clone(of_a_user.map_or(scopes.wire(), |scopes| &scopes.wire))
    }

    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    #[cfg(any(feature = "reqwest-middleware", feature = "tower"))]
    pub(crate) fn request(&self) -> &TokenRequest {
        &self.request
    }

    fn check_for_provider(&self) -> Result<(), Error> {
        let belongs_to_one = match () {
            () if self.correlation_id.is_some() => "a correlation id",
            () if self.requirements.claims().is_some() => "claims",
            () if self.request.rejected().is_some() => "a rejected token",
            () if self.request.is_forced() => "a forced refresh",
            () => return Ok(()),
        };
        Err(Error::config(format!(
            "a token provider serves many calls, and {belongs_to_one} belongs to one; use acquire_token_for_client(..) for it"
        )))
    }
}

impl fmt::Debug for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Services {
            client_id,
            endpoints,
            credential,
            ..
        } = &*self.0.services;
        f.debug_struct("ConfidentialClient")
            .field("client_id", client_id)
            .field("authority", &endpoints.to_string())
            .field("credential", credential)
            .finish_non_exhaustive()
    }
}

impl ConfidentialClient {
    pub(crate) fn new(options: &CacheOptions, services: Services) -> Self {
        Self(Arc::new(Inner {
            cache: Cache::new(
                options,
                services.retry.total_timeout(),
                services.clock.clone(),
            ),
            services: Arc::new(services),
        }))
    }
}

fn requirements(request: &TokenRequest, key: &CacheKey) -> Result<Requirements, Error> {
    let rejected = request.rejected().map(AccessToken::issued);
    if rejected.is_some_and(|rejected| rejected.key() != key) {
        return Err(Error::config(
            "the rejected token is for another tenant, scope or parameter than the request; give the one that this request brought",
        ));
    }
    Ok(Requirements::new(SpecialRequirements {
        claims: request.requested_claims()?,
        rejected: rejected.cloned(),
        force_refresh: request.is_forced(),
        min_remaining: request.wanted_remaining(),
    }))
}

#[inline]
fn hand_out(
    issued: Arc<IssuedToken>,
    slot: &Slot,
    source: TokenSource,
) -> Result<AccessToken, Error> {
    AccessToken::hand_out(issued, slot.key(), source).ok_or_else(|| {
        let message = "the cache held a token for another request; it was not handed out, please report this as a bug";
        Error::InvalidResponse(Failure::new(message).into())
    })
}
