use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::fault::Fault;
use super::http::tls::SelfSignedTls;
use super::local_authority::LocalAuthority;
use super::provider::{IdentityProvider, lock};
use super::recorded_request::RecordedRequest;
use super::token::random_secret;
use crate::error::{Error, Failure};
use crate::managed_identity::HostEnvironment;

mod assigned_identity;
mod endpoint;
mod host_kind;
mod host_state;
mod key_folder;
mod rejection;
#[cfg(test)]
#[cfg(feature = "reqwest")]
mod tests;
mod token_query;

pub use assigned_identity::AssignedIdentity;
pub use host_kind::HostKind;
use host_state::HostState;
use key_folder::KeyFolder;

/// The managed identity endpoints of Azure's hosts on loopback, for tests.
///
/// One server plays the endpoint of each [`HostKind`]. The [`environment`](Self::environment) of a
/// kind leads a client to its endpoint. The server runs on the tokio runtime that started it, until
/// the `LocalManagedIdentity` is dropped. Each start uses new ports, a new secret and a new
/// certificate.
///
/// The host has a system-assigned identity. [Assign](Self::assign) user-assigned identities. The
/// tokens are RS256 tokens of a tenant of a [`LocalAuthority`], which accepts them as federated
/// credentials. Its [web APIs](LocalAuthority::protected_api) accept the tokens, too.
///
/// # Checks
///
/// An endpoint checks the method, the `api-version`, the header that proves the origin of the
/// request, the resource, and the id of the identity under the endpoint's own name for it. The
/// table is at [`HostKind`]. An endpoint rejects every other parameter, and two ids.
///
/// # Responses
///
/// Each endpoint spells numbers, times and errors as its host does. An endpoint returns a cached
/// token until half of the token's lifetime is over. Service Fabric alone issues a new token
/// earlier, for a request with the hash of the cached token (`token_sha256_to_refresh`).
///
/// [`script`](Self::script) sends other errors, and everything else that can happen on a network.
/// The words of Azure are unknown for a wrong secret, a wrong `api-version` and a wrong parameter,
/// which have words of this server. The tokens of Cloud Shell belong to the system-assigned
/// identity, and not to a user.
///
/// ```
/// use confidential_client::ManagedIdentityClient;
/// use confidential_client::credential::ManagedIdentity;
/// use confidential_client::testing::{AssignedIdentity, HostKind, LocalManagedIdentity};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host = LocalManagedIdentity::start().await?;
/// let client_id = "99999999-8888-7777-6666-555555555555";
/// host.assign(AssignedIdentity::new(client_id));
///
/// let identity = ManagedIdentity::user_assigned_client_id(client_id);
/// let client = ManagedIdentityClient::builder(identity)
///     .environment(host.environment(HostKind::AppService))
///     .build()?;
/// client.acquire_token("https://vault.azure.net/.default").await?;
/// client.acquire_token("https://vault.azure.net/.default").await?; // from the client's cache
///
/// let requests = host.requests();
/// assert_eq!(requests.len(), 1);
/// assert_eq!(requests[0].parameter("resource"), Some("https://vault.azure.net"));
/// assert_eq!(requests[0].parameter("client_id"), Some(client_id));
/// # Ok(())
/// # }
/// ```
pub struct LocalManagedIdentity {
    state: Arc<HostState>,
    /// The address of the server without TLS, such as `127.0.0.1:49152`.
    address: String,
    /// The address of the server with TLS.
    tls_address: String,
    /// The certificate of Service Fabric in DER.
    certificate: Vec<u8>,
    /// The authority of a double that was started alone.
    _authority: Option<LocalAuthority>,
    /// Stop the servers when dropped.
    _stop: [oneshot::Sender<()>; 2],
}

impl LocalManagedIdentity {
    /// Starts the endpoints, with a `LocalAuthority` of their own that issues the tokens.
    ///
    /// [`LocalAuthority::managed_identity`] starts the endpoints for a tenant of an authority.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the server cannot listen on a port or cannot create the folder of key
    /// files.
    pub async fn start() -> Result<Self, Error> {
        let authority = LocalAuthority::start().await?;
        let mut host = authority.managed_identity("local.example").await?;
        host._authority = Some(authority);
        Ok(host)
    }

    /// Starts the endpoints for a tenant, which must exist.
    pub(crate) async fn start_in(
        provider: Arc<IdentityProvider>,
        tenant: &str,
    ) -> Result<Self, Error> {
        let cannot_listen = |error: std::io::Error| {
            let failure = Failure::new("cannot listen on a free port of 127.0.0.1");
            Error::Config(failure.source(Box::new(error)).into())
        };
        let tls = SelfSignedTls::generate("ServiceFabric", provider.now())?;
        let state = Arc::new(HostState::new(
            provider,
            tenant.to_owned(),
            KeyFolder::create()?,
            random_secret(),
        ));
        let kinds = HostKind::ALL.into_iter();
        let (with_tls, without_tls) =
            kinds.partition::<Vec<_>, _>(|kind| *kind == HostKind::ServiceFabric);
        let (address, stop) = endpoint::serve(&state, &without_tls, None)
            .await
            .map_err(cannot_listen)?;
        let (tls_address, stop_tls) = endpoint::serve(&state, &with_tls, Some(tls.acceptor))
            .await
            .map_err(cannot_listen)?;
        let system = AssignedIdentity::new(Uuid::new_v4().to_string());
        lock(&state.identities).system = Some(system);
        tracing::warn!(
            address,
            "a LocalManagedIdentity has started; use it for tests only"
        );
        Ok(Self {
            state,
            address,
            tls_address,
            certificate: tls.certificate.to_vec(),
            _authority: None,
            _stop: [stop, stop_tls],
        })
    }

    /// Returns the environment of a host of this kind, for a client.
    ///
    /// The environment follows [`roll_secret`](Self::roll_secret).
    pub fn environment(&self, kind: HostKind) -> HostEnvironment {
        let variables = self.reader(kind);
        let environment = HostEnvironment::from_fn(move |name| {
            let mut variables = variables().into_iter();
            let variable = variables.find(|(known, _)| *known == name);
            variable.map(|(_, value)| value.into())
        });
        match kind {
            HostKind::AzureArc => environment.arc_key_folder(self.arc_key_folder()),
            _ => environment,
        }
    }

    /// Returns the variables of a host of this kind, for a program in another process.
    ///
    /// The values have the secret of the endpoint. A client of Azure Arc also needs the
    /// [`arc_key_folder`](Self::arc_key_folder), which has no variable.
    pub fn variables(&self, kind: HostKind) -> Vec<(&'static str, String)> {
        self.reader(kind)()
    }

    /// Returns a function that returns the current variables.
    fn reader(&self, kind: HostKind) -> impl Fn() -> Vec<(&'static str, String)> + use<> {
        let state = Arc::clone(&self.state);
        let base = self.base_url();
        let endpoint = match kind {
            HostKind::ServiceFabric => format!("https://{}{}", self.tls_address, kind.path()),
            _ => format!("{base}{}", kind.path()),
        };
        let thumbprint = self.service_fabric_thumbprint();
        move || {
            let endpoint = endpoint.clone();
            let secret = lock(&state.secret).clone();
            match kind {
                HostKind::Imds => vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.clone())],
                HostKind::AppService => {
                    vec![("IDENTITY_ENDPOINT", endpoint), ("IDENTITY_HEADER", secret)]
                }
                HostKind::ServiceFabric => vec![
                    ("IDENTITY_ENDPOINT", endpoint),
                    ("IDENTITY_HEADER", secret),
                    ("IDENTITY_SERVER_THUMBPRINT", thumbprint.clone()),
                ],
                HostKind::AzureArc => vec![
                    ("IDENTITY_ENDPOINT", endpoint),
                    ("IMDS_ENDPOINT", base.clone()),
                ],
                HostKind::CloudShell => vec![("MSI_ENDPOINT", endpoint)],
                HostKind::AzureMl => vec![("MSI_ENDPOINT", endpoint), ("MSI_SECRET", secret)],
            }
        }
    }

    /// Returns the scheme, host and port of the server without TLS, such as
    /// `http://127.0.0.1:49152`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the folder of the key files for the challenges of Azure Arc.
    ///
    /// The folder is a temporary one. Dropping the `LocalManagedIdentity` removes the folder.
    pub fn arc_key_folder(&self) -> &Path {
        self.state.key_folder.path()
    }

    /// Returns the self-signed certificate of the Service Fabric endpoint as PEM.
    pub fn service_fabric_certificate(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.certificate);
        let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
        let lines: Vec<_> = lines.collect();
        let lines = lines.join("\n");
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
    }

    /// Returns the SHA-1 thumbprint of the certificate, as `IDENTITY_SERVER_THUMBPRINT` has it.
    pub fn service_fabric_thumbprint(&self) -> String {
        let digest = Sha1::digest(&self.certificate);
        digest.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Replaces the secret of the endpoints, as App Service does from time to time.
    ///
    /// The endpoints reject the old secret. The variables have the new secret.
    pub fn roll_secret(&self) {
        *lock(&self.state.secret) = random_secret();
    }

    /// Assigns a user-assigned identity, and removes the identity with the same client ID.
    pub fn assign(&self, identity: AssignedIdentity) {
        let mut identities = lock(&self.state.identities);
        let user = &mut identities.user;
        user.retain(|known| known.client_id() != identity.client_id());
        user.push(identity);
    }

    /// Replaces the system-assigned identity. `None` turns the identity off.
    pub fn assign_system(&self, identity: impl Into<Option<AssignedIdentity>>) {
        lock(&self.state.identities).system = identity.into();
    }

    /// Returns the system-assigned identity.
    pub fn system_assigned(&self) -> Option<AssignedIdentity> {
        lock(&self.state.identities).system.clone()
    }

    /// Returns the issuer (`iss`) of the tokens, for a
    /// [federated credential](super::Application::federated_credential).
    pub fn issuer(&self) -> String {
        let directories = lock(&self.state.provider.directories);
        let mut directories = directories.iter();
        let directory = directories.find(|directory| directory.is(&self.state.tenant));
        directory.map_or_else(String::new, |directory| {
            directory.issuer(&self.state.provider.base)
        })
    }

    /// Returns all received requests in order, including requests with a fault.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.state.traffic).requests.clone()
    }

    /// Adds faults for the next requests, one fault for each request.
    ///
    /// The faults follow earlier scripted faults. The errors have the form of the endpoint.
    /// `Fault::status(400)` is the error for an identity that is not assigned. The requests to an
    /// Azure Arc agent without a key get their challenge, and never a fault.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::ManagedIdentityClient;
    /// use confidential_client::credential::ManagedIdentity;
    /// use confidential_client::testing::{Fault, HostKind, LocalManagedIdentity};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let host = LocalManagedIdentity::start().await?;
    /// let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
    ///     .environment(host.environment(HostKind::Imds))
    ///     .build()?;
    ///
    /// host.script([Fault::status(400)]); // the identity is not assigned
    /// let error = client.acquire_token("https://vault.azure.net").await.unwrap_err();
    /// assert!(error.to_string().contains("no system-assigned identity is assigned"));
    ///
    /// host.script([
    ///     Fault::status(410),                             // IMDS is being updated
    ///     Fault::status(429).retry_after(2),              // too many requests
    ///     Fault::delayed(Duration::from_secs(3600)),      // the endpoint hangs
    ///     Fault::status(403).body("<html>Denied</html>"), // a proxy responds
    ///     Fault::another_identity(),                      // the ID of the request is ignored
    /// ]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.state.traffic).script.extend(faults);
    }

    /// Applies a fault to every request until [`end_outage`](Self::end_outage).
    ///
    /// [Scripted](Self::script) faults come first.
    pub fn begin_outage(&self, fault: Fault) {
        lock(&self.state.traffic).begin_outage(fault);
    }

    /// Applies a fault to every request until the clock of the authority is ahead by `duration`.
    ///
    /// [`end_outage`](Self::end_outage) ends the outage earlier. The clock is the
    /// [`clock`](super::LocalAuthorityBuilder::clock) of the [`LocalAuthority`], and the operating
    /// system's without one. The time limits and retries of a client follow tokio's timers.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use confidential_client::ManagedIdentityClient;
    /// use confidential_client::credential::ManagedIdentity;
    /// use confidential_client::testing::{Fault, HostKind, LocalAuthority, ManualClock};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = ManualClock::new();
    /// let local = LocalAuthority::builder().clock(clock.clone()).start().await?;
    /// let host = local.managed_identity("contoso.com").await?;
    /// let client = ManagedIdentityClient::builder(ManagedIdentity::system_assigned())
    ///     .environment(host.environment(HostKind::Imds))
    ///     .deadline(Duration::from_secs(2)) // no time for a retry after 10 s
    ///     .clock(clock.clone())
    ///     .build()?;
    ///
    /// // IMDS is being updated.
    /// host.begin_outage_for(Fault::status(410), Duration::from_secs(70));
    /// assert!(client.acquire_token("https://vault.azure.net").await.is_err());
    /// clock.advance(Duration::from_secs(70));
    /// client.acquire_token("https://vault.azure.net").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn begin_outage_for(&self, fault: Fault, duration: Duration) {
        let now = self.state.provider.clocks();
        lock(&self.state.traffic).begin_outage_for(fault, duration, now);
    }

    /// Ends the outage.
    pub fn end_outage(&self) {
        lock(&self.state.traffic).end_outage();
    }
}

impl Drop for LocalManagedIdentity {
    fn drop(&mut self) {
        self.state.is_dropped.store(true, Ordering::Relaxed);
        self.state.key_folder.remove();
    }
}

impl fmt::Debug for LocalManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalManagedIdentity")
            .field("base_url", &self.base_url())
            .field("requests", &self.requests().len())
            .finish_non_exhaustive()
    }
}
