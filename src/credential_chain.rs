//! A chain of credentials: the first available one issues the tokens.
//!
//! `CredentialChain` describes the links. `selection` reads `AZURE_TOKEN_CREDENTIALS`. `Chain`
//! runs the links and keeps the first one that issued a token.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Failure};
use crate::managed_identity::{HostEnvironment, IdentityToken, ManagedIdentity};
use crate::token::{IssuedToken, TokenHash};

mod command;
mod custom;
mod developer_tool;
mod managed_identity;
mod selection;
mod variables;

pub(crate) use custom::CustomLink;
pub use custom::LinkUnavailable;
pub use developer_tool::{AzureCli, AzureDeveloperCli};
pub(crate) use managed_identity::ManagedIdentityLink;
pub(crate) use variables::{
    missing_for_environment, missing_for_workload_identity, variables_for_environment,
    variables_for_workload_identity,
};

/// An ordered list of credentials, of which the first available one issues the tokens.
///
/// A link of the chain is *available* or passed over. Variables that are not set, a token file that
/// does not exist, a host without a managed identity, a host that does not accept the identity's
/// kind of ID, and a program that is not installed pass a link over. A credential that is set
/// and rejected, or that gets no response, ends the chain with an error, so that an outage never
/// selects another identity.
///
/// The link that issued the first token issues all later tokens. The error of a chain without an
/// available link names the reason of every link.
///
/// [`default`](Self::default) has the links of Azure's SDKs in their order: the environment,
/// workload identity, managed identity, the Azure CLI and the Azure Developer CLI. The variable
/// `AZURE_TOKEN_CREDENTIALS` selects from these links: `prod` the first three, `dev` the last two,
/// and a name such as `ManagedIdentityCredential` one link.
///
/// The value is a description. Creating one does no I/O.
#[derive(Clone, Debug)]
#[doc(alias = "DefaultAzureCredential")]
#[doc(alias = "ChainedTokenCredential")]
pub struct CredentialChain {
    /// True if the chain begins with the links of Azure's SDKs.
    begins_with_default: bool,
    links: Vec<ChainLink>,
}

impl CredentialChain {
    /// Describes a chain without links. Add links with [`then`](Self::then).
    ///
    /// The variable `AZURE_TOKEN_CREDENTIALS` has no influence on the chain.
    pub fn new() -> Self {
        Self {
            begins_with_default: false,
            links: Vec::new(),
        }
    }

    /// Adds a link at the end: a [`ManagedIdentity`], an [`AzureCli`], an [`AzureDeveloperCli`] or
    /// another [`ChainLink`], such as a function of the caller's.
    #[must_use]
    pub fn then(mut self, link: impl Into<ChainLink>) -> Self {
        self.links.push(link.into());
        self
    }

    /// Returns the links of the chain on a host.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a chain without links, and for a value of `AZURE_TOKEN_CREDENTIALS`
    /// that names no link.
    pub(crate) fn plan(&self, environment: &HostEnvironment) -> Result<Vec<PlannedLink>, Error> {
        let mut links = match self.begins_with_default {
            true => selection::default_links(environment)?,
            false => Vec::new(),
        };
        links.extend(self.links.iter().cloned());
        if links.is_empty() {
            return Err(no_links());
        }
        // A probe decides between links, so a link alone needs no probe.
        let is_probed = links.len() > 1;
        let plan = links.into_iter().map(|link| match link.0 {
            Kind::Environment => PlannedLink::Environment,
            Kind::WorkloadIdentity => PlannedLink::WorkloadIdentity,
            Kind::ManagedIdentity(identity) => PlannedLink::ManagedIdentity {
                identity,
                is_probed,
            },
            Kind::AzureCli(tool) => PlannedLink::AzureCli(tool),
            Kind::AzureDeveloperCli(tool) => PlannedLink::AzureDeveloperCli(tool),
            Kind::Custom(link) => PlannedLink::Custom(link),
        });
        Ok(plan.collect())
    }
}

impl Default for CredentialChain {
    fn default() -> Self {
        Self {
            begins_with_default: true,
            links: Vec::new(),
        }
    }
}

/// A credential in a [`CredentialChain`].
#[derive(Clone, Debug)]
pub struct ChainLink(Kind);

#[derive(Clone)]
enum Kind {
    Environment,
    WorkloadIdentity,
    ManagedIdentity(ManagedIdentity),
    AzureCli(AzureCli),
    AzureDeveloperCli(AzureDeveloperCli),
    Custom(CustomLink),
}

impl ChainLink {
    /// Describes the application of the variables `AZURE_TENANT_ID` and `AZURE_CLIENT_ID` with
    /// `AZURE_CLIENT_SECRET` or `AZURE_CLIENT_CERTIFICATE_PATH`.
    #[doc(alias = "EnvironmentCredential")]
    pub fn environment() -> Self {
        Self(Kind::Environment)
    }

    /// Describes the application of the variables that the workload identity webhook of Kubernetes
    /// sets: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_FEDERATED_TOKEN_FILE`.
    #[doc(alias = "WorkloadIdentityCredential")]
    pub fn workload_identity() -> Self {
        Self(Kind::WorkloadIdentity)
    }
}

impl From<ManagedIdentity> for ChainLink {
    fn from(identity: ManagedIdentity) -> Self {
        Self(Kind::ManagedIdentity(identity))
    }
}

impl From<AzureCli> for ChainLink {
    fn from(tool: AzureCli) -> Self {
        Self(Kind::AzureCli(tool))
    }
}

impl From<AzureDeveloperCli> for ChainLink {
    fn from(tool: AzureDeveloperCli) -> Self {
        Self(Kind::AzureDeveloperCli(tool))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::WorkloadIdentity => f.write_str("WorkloadIdentity"),
            Self::ManagedIdentity(identity) => identity.fmt(f),
            Self::AzureCli(tool) => tool.fmt(f),
            Self::AzureDeveloperCli(tool) => tool.fmt(f),
            Self::Custom(link) => f.debug_tuple("Custom").field(&link.name()).finish(),
        }
    }
}

/// A link of a chain on one host, which the client makes into a [`Link`].
pub(crate) enum PlannedLink {
    Environment,
    WorkloadIdentity,
    ManagedIdentity {
        identity: ManagedIdentity,
        /// True if a probe of IMDS comes before the token request.
        is_probed: bool,
    },
    AzureCli(AzureCli),
    AzureDeveloperCli(AzureDeveloperCli),
    Custom(CustomLink),
}

/// A source of tokens in a chain.
pub(crate) trait Link: Send + Sync {
    /// Returns the name for messages, such as `managed identity`.
    fn name(&self) -> &str;

    /// Returns the longest time that a token request of the link needs.
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    fn fetch<'a>(&'a self, request: &'a LinkRequest<'a>) -> LinkFuture<'a>;
}

pub(crate) type LinkFuture<'a> =
    Pin<Box<dyn Future<Output = Result<LinkToken, LinkFailure>> + Send + 'a>>;

/// The token of a link.
pub(crate) enum LinkToken {
    /// A token without the parts that the client knows.
    Identity(IdentityToken),
    /// A token of an application, with the cache key of the application's request.
    Application(IssuedToken),
}

#[cfg(test)]
impl LinkToken {
    fn secret(&self) -> &str {
        match self {
            Self::Identity(token) => token.secret.expose(),
            Self::Application(token) => token.secret(),
        }
    }
}

/// Shows no token.
impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkToken").finish_non_exhaustive()
    }
}

impl From<IdentityToken> for LinkToken {
    fn from(token: IdentityToken) -> Self {
        Self::Identity(token)
    }
}

/// One token request to a chain.
#[derive(Clone, Copy)]
pub(crate) struct LinkRequest<'a> {
    /// The scopes with a space between them.
    pub(crate) scopes: &'a str,
    /// The tenant of the request, if it is not the default one.
    pub(crate) tenant: Option<&'a str>,
    /// JSON claims that an API requires.
    pub(crate) claims: Option<&'a str>,
    /// The token that an API rejected.
    pub(crate) rejected_token: Option<TokenHash>,
    pub(crate) correlation_id: &'a str,
    pub(crate) deadline: Instant,
    /// The time beyond the limits of all links, which a link may use in addition to its own limit.
    pub(crate) spare: Duration,
    /// Called before each HTTP request, to count the requests.
    pub(crate) on_send: &'a (dyn Fn() + Sync),
}

/// The reason why a link issued no token.
#[derive(Debug)]
pub(crate) enum LinkFailure {
    /// The link is not set up on this host. The chain continues with the next link.
    Unavailable(String),
    /// The link is set up and failed. The chain ends.
    Failed(Error),
}

impl From<Error> for LinkFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A link that is known to be unavailable before the first request.
pub(crate) struct UnavailableLink {
    pub(crate) name: &'static str,
    pub(crate) reason: String,
}

impl Link for UnavailableLink {
    fn name(&self) -> &str {
        self.name
    }

    fn time_limit(&self) -> Duration {
        Duration::ZERO
    }

    fn fetch<'a>(&'a self, _: &'a LinkRequest<'a>) -> LinkFuture<'a> {
        let unavailable = LinkFailure::Unavailable(self.reason.clone());
        Box::pin(async { Err(unavailable) })
    }
}

/// The links of a chain and the link that issued the first token.
pub(crate) struct Chain {
    links: Vec<Arc<dyn Link>>,
    winner: OnceLock<usize>,
    /// Held by the request that looks for the winner.
    selection: Mutex<()>,
}

impl Chain {
    /// Returns a chain of these links, in their order.
    pub(crate) fn new(links: Vec<Arc<dyn Link>>) -> Result<Self, Error> {
        if links.is_empty() {
            return Err(no_links());
        }
        Ok(Self {
            links,
            winner: OnceLock::new(),
            selection: Mutex::new(()),
        })
    }

    /// Returns the names of the links, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.name())
    }

    /// Returns the time for a token request of every link, one after the other.
    pub(crate) fn time_limit(&self) -> Duration {
        let limits = self.links.iter().map(|link| link.time_limit());
        limits.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Returns the name of the link that issued the first token.
    pub(crate) fn winner(&self) -> Option<&str> {
        Some(self.kept()?.name())
    }

    /// Fetches a token from the first available link, by the deadline.
    ///
    /// # Errors
    ///
    /// - [`Error::Credential`]: no link is available.
    /// - [`Error::Transport`]: the deadline passed.
    /// - The error of the link that ended the chain.
    pub(crate) async fn fetch(&self, request: &LinkRequest<'_>) -> Result<LinkToken, Error> {
        match timeout_at(request.deadline, self.fetch_unlimited(request)).await {
            Ok(result) => result,
            Err(_) => {
                let message =
                    "no token from the credential chain within the time limit of the token request";
                let failure = Failure::new(message).correlation_id(request.correlation_id);
                Err(Error::Transport(failure.into()))
            }
        }
    }

    async fn fetch_unlimited(&self, request: &LinkRequest<'_>) -> Result<LinkToken, Error> {
        if let Some(link) = self.kept() {
            return fetch_from(link, request).await;
        }
        // Otherwise requests for two resources could select two identities.
        let selection = self.selection.lock().await;
        // Another request may have selected a link while this request waited for the lock.
        if let Some(link) = self.kept() {
            drop(selection);
            return fetch_from(link, request).await;
        }
        let mut passed_over = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            match link.fetch(request).await {
                Ok(token) => {
                    let name = link.name();
                    tracing::info!(link = name, "the credential chain selected a credential");
                    // The lock excludes another winner.
                    let _ = self.winner.set(index);
                    return Ok(token);
                }
                Err(LinkFailure::Unavailable(reason)) => {
                    tracing::debug!(link = link.name(), reason, "a credential was passed over");
                    passed_over.push(format!("{}: {reason}", link.name()));
                }
                Err(LinkFailure::Failed(error)) => {
                    return Err(ended_at(link.name(), error, &passed_over));
                }
            }
        }
        let message = format!(
            "no credential of the chain is available; {}",
            passed_over.join("; ")
        );
        let failure = Failure::new(message).correlation_id(request.correlation_id);
        Err(Error::Credential(failure.into()))
    }

    fn kept(&self) -> Option<&dyn Link> {
        self.links.get(*self.winner.get()?).map(|link| &**link)
    }
}

/// Fetches a token from the link that issued the first token.
async fn fetch_from(link: &dyn Link, request: &LinkRequest<'_>) -> Result<LinkToken, Error> {
    link.fetch(request).await.map_err(|failure| match failure {
        LinkFailure::Failed(error) => error,
        LinkFailure::Unavailable(reason) => {
            let message = format!(
                "{}, which the credential chain selected, is not available any more: {reason}",
                link.name()
            );
            let failure = Failure::new(message).correlation_id(request.correlation_id);
            Error::Credential(failure.into())
        }
    })
}

/// Adds the place of the chain to the error that ended the chain.
fn ended_at(name: &str, error: Error, passed_over: &[String]) -> Error {
    let place = match passed_over.is_empty() {
        true => format!("the credential chain ended at {name}"),
        false => format!(
            "the credential chain ended at {name}, after {}",
            passed_over.join("; ")
        ),
    };
    error.in_chain(&place)
}

/// The time for a token request of most links.
const TIME_LIMIT: Duration = Duration::from_secs(30);

fn no_links() -> Error {
    Error::config(
        "the credential chain has no link; add one with then(..), or use CredentialChain::default()",
    )
}

#[cfg(test)]
mod tests;
