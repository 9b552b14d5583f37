use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::application_link::ApplicationSettings;
use super::missing_file_link::MissingFileLink;
use super::{ChainFetcher, CredentialChainClient};
use crate::cache::CacheOptions;
use crate::client::builder::{ATTEMPT_TIMEOUT, check_capabilities};
use crate::credential::CredentialChain;
use crate::credential_chain::{
    Chain, Link, ManagedIdentityLink, PlannedLink, UnavailableLink, missing_for_environment,
    missing_for_workload_identity, variables_for_environment, variables_for_workload_identity,
};
use crate::error::Error;
use crate::managed_identity::{
    FetcherSettings, HostEnvironment, ImdsProbe, ManagedIdentity, ManagedIdentityFetcher,
    check_id_on_host,
};
use crate::metrics::{Acquisition, Observer};
use crate::retry::RetryPolicy;
use crate::time::{Clock, TimeSource};
use crate::transport::Transport;

/// A builder of a [`CredentialChainClient`].
///
/// No method fails. [`build`](Self::build) checks everything.
#[must_use]
pub struct CredentialChainClientBuilder {
    chain: CredentialChain,
    environment: HostEnvironment,
    capabilities: Vec<String>,
    cache: CacheOptions,
    deadline: Option<Duration>,
    observer: Observer,
    transport: Option<Arc<dyn Transport>>,
    clock: TimeSource,
}

impl CredentialChainClientBuilder {
    pub(super) fn new(chain: CredentialChain) -> Self {
        Self {
            chain,
            environment: HostEnvironment::of_process(),
            capabilities: Vec::new(),
            cache: CacheOptions::default(),
            deadline: None,
            observer: Observer::default(),
            transport: None,
            clock: TimeSource::default(),
        }
    }

    /// Sets the environment with the variables of all links, `PATH` of the developer's tools
    /// included.
    ///
    /// The default is the environment of the process. A test describes another host by a value.
    pub fn environment(mut self, environment: HostEnvironment) -> Self {
        self.environment = environment;
        self
    }

    /// Declares capabilities of the client, such as `cp1`.
    ///
    /// The application of the environment, workload identity and Service Fabric receive the
    /// capabilities.
    pub fn client_capabilities<C: Into<String>>(
        mut self,
        capabilities: impl IntoIterator<Item = C>,
    ) -> Self {
        self.capabilities = capabilities.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the limits of the token cache and of concurrent token requests.
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = options;
        self
    }

    /// Sets the time limit of a token request through all links, with all retries.
    ///
    /// The default is the sum of the limits of the links: 78 seconds for IMDS, 13 seconds for each
    /// developer's tool, and 30 seconds for each other link. The maximum is ten minutes.
    ///
    /// The time beyond the sum lengthens the limits of the managed identity and of the applications
    /// of the environment. A developer's tool and a function keep their limits.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sends the HTTP requests of all links by this transport instead of reqwest.
    ///
    /// The developer's tools send their own requests. For a managed identity the transport must use
    /// no proxy and follow no redirect.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Sets an observer of token requests, for metrics.
    ///
    /// The client calls the observer on the tokio runtime, once for each token request. The
    /// observer must not block.
    pub fn observer(mut self, observer: impl Fn(Acquisition) + Send + Sync + 'static) -> Self {
        self.observer.set(observer);
        self
    }

    /// Adds the resource to each [`Acquisition`](crate::metrics::Acquisition).
    pub fn observe_resources(mut self) -> Self {
        self.observer.name_tenants();
        self
    }

    /// Sets the clock that replaces the operating system's, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = TimeSource::Injected(Arc::new(clock));
        self
    }

    /// Checks all settings, and builds the client.
    ///
    /// Sends no request and starts no program. Reads the certificate file or the token file that
    /// the environment names. The links after an application of the environment whose variables are
    /// set are never reached, and are not checked. A token file that does not exist, and a kind of
    /// ID that the host does not accept, are errors if the chain has no other link. Otherwise the
    /// link is passed over, until the file exists.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`]: a chain without links; a value of `AZURE_TOKEN_CREDENTIALS` that is not
    ///   known; a variable, an ID or a tenant that cannot be used; a limit of zero; a capability
    ///   without a name; no transport.
    /// - [`Error::Credential`]: a file that the environment names cannot be used.
    pub fn build(self) -> Result<CredentialChainClient, Error> {
        self.cache.check()?;
        check_capabilities(&self.capabilities)?;
        if cfg!(not(feature = "reqwest")) && self.transport.is_none() {
            return Err(Error::config(
                "no transport is set; call transport(..), or enable the feature 'reqwest' of confidential-client",
            ));
        }
        let chain = Chain::new(self.links()?)?;
        let deadline = match self.deadline {
            Some(deadline) => {
                RetryPolicy::default().deadline(deadline).check()?;
                deadline
            }
            None => chain.time_limit(),
        };
        let fetcher = ChainFetcher {
            chain,
            deadline,
            observer: self.observer,
            clock: self.clock,
        };
        Ok(CredentialChainClient::from_parts(&self.cache, fetcher))
    }

    /// Returns the links up to the first one that is known to be available.
    fn links(&self) -> Result<Vec<Arc<dyn Link>>, Error> {
        let mut links: Vec<Arc<dyn Link>> = Vec::new();
        let environment = &self.environment;
        let plan = self.chain.plan(environment)?;
        // A link alone was selected by name, so `build` says what the link lacks.
        let is_alone = plan.len() == 1;
        for planned in plan {
            let (missing, settings) = match planned {
                PlannedLink::Environment => (
                    missing_for_environment(environment),
                    self.application("environment", variables_for_environment(environment)),
                ),
                PlannedLink::WorkloadIdentity => (
                    missing_for_workload_identity(environment),
                    self.application(
                        "workload identity",
                        variables_for_workload_identity(environment),
                    ),
                ),
                PlannedLink::ManagedIdentity {
                    identity,
                    is_probed,
                } => {
                    links.push(self.managed_identity(identity, is_probed, is_alone)?);
                    continue;
                }
                PlannedLink::AzureCli(tool) => {
                    let link = tool.into_link(environment.clone(), self.clock.clone())?;
                    links.push(Arc::new(link));
                    continue;
                }
                PlannedLink::AzureDeveloperCli(tool) => {
                    let link = tool.into_link(environment.clone(), self.clock.clone())?;
                    links.push(Arc::new(link));
                    continue;
                }
                PlannedLink::Custom(link) => {
                    links.push(Arc::new(link.clock(self.clock.clone())));
                    continue;
                }
            };
            if let Some(reason) = missing {
                let name = settings.name;
                links.push(Arc::new(UnavailableLink { name, reason }));
            } else if !is_alone && settings.missing_token_file().is_some() {
                links.push(Arc::new(MissingFileLink::new(settings)));
            } else {
                links.push(Arc::new(settings.link()?));
                // The application issues the tokens or ends the chain.
                break;
            }
        }
        Ok(links)
    }

    fn application(&self, name: &'static str, variables: HostEnvironment) -> ApplicationSettings {
        ApplicationSettings {
            name,
            variables,
            capabilities: self.capabilities.clone(),
            transport: self.transport.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Returns the link of an identity. The link is passed over if the host does not accept the
    /// identity's kind of id.
    fn managed_identity(
        &self,
        identity: ManagedIdentity,
        is_probed: bool,
        is_alone: bool,
    ) -> Result<Arc<dyn Link>, Error> {
        identity.check()?;
        if let (Err(error), false) = (check_id_on_host(&identity, &self.environment), is_alone) {
            return Ok(Arc::new(UnavailableLink {
                name: "managed identity",
                reason: error.to_string(),
            }));
        }
        let (environment, transport) = (&self.environment, &self.transport);
        let fetcher = ManagedIdentityFetcher::new(FetcherSettings {
            identity,
            environment: environment.clone(),
            capabilities: self.capabilities.clone(),
            transport: transport.clone(),
            connect_timeout: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
            clock: self.clock.clone(),
        })?;
        let probe = is_probed
            .then(|| ImdsProbe::new(environment.clone(), transport.clone(), self.clock.clone()));
        Ok(Arc::new(ManagedIdentityLink::new(fetcher, probe)))
    }
}

impl fmt::Debug for CredentialChainClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialChainClientBuilder")
            .field("chain", &self.chain)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}
