use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::directory::tenant::Directory;
use super::provider::{IdentityProvider, lock};

mod applications;
mod builder;
mod faults;
mod keys;
mod sign_in;
mod users;

pub use builder::LocalAuthorityBuilder;

/// An identity provider on loopback that behaves like Microsoft Entra ID, for tests.
///
/// The server runs on the tokio runtime that started it, until the `LocalAuthority` is dropped.
/// Each start uses a new port, a new signing key and a new CA.
///
/// [Register](Self::register) the applications. [Register](Self::register_user) the users too, if
/// applications act for users, and grant the [`consent`](Self::consent) of the users.
///
/// | endpoint | response |
/// |---|---|
/// | `/{tenant}/oauth2/v2.0/token` | tokens for client credentials, an authorization code, a refresh token, on behalf of a user, and as the user of an agent identity |
/// | `/{tenant}/oauth2/v2.0/introspect` | says whether a token is active, with the rules of [`ProviderRules::openid`](super::ProviderRules::openid) |
/// | `/{tenant}/oauth2/v2.0/authorize` | the pages on which users sign in and consent |
/// | `/{tenant}/adminconsent` | grants [`admin_consent`](Self::admin_consent), and redirects |
/// | `/{tenant}/discovery/v2.0/keys` | the keys that verify the tokens |
/// | `/{tenant}/v2.0/.well-known/openid-configuration` | the metadata of a tenant, or of an application with `?appid=` |
/// | `/common/discovery/instance` | the host names of each cloud |
///
/// # Checks
///
/// - Secrets are compared in constant time.
/// - Assertions need a valid signature of the registered certificate's key, and a valid `aud`,
///   `iss`, `sub`, `nbf` and `exp`.
/// - Client certificates need the private key, and must be registered as
///   [`tls_client_auth`](super::Application::tls_client_auth) or
///   [`self_signed_tls_client_auth`](super::Application::self_signed_tls_client_auth).
/// - Tokens to exchange need a valid signature, an expiry ahead, and the client as the audience or
///   as the client they were issued to. The registration must
///   [permit](super::Application::exchange) the exchange.
/// - Only the API that a token is for learns that the token is active.
/// - Agent identities need a token of their [blueprint](super::Application::agent_identity_of) with
///   their client ID as the `fmi_path`. To act as a user, an agent identity also needs its own
///   token, and the user must be [its user](super::User::of_agent_identity).
/// - Tokens of another tenant need the same, and must match a
///   [federated credential](super::Application::federated_credential).
///
/// # Errors of the endpoints
///
/// Errors have the body, the status and the headers of Entra's errors.
///
/// | subject | AADSTS codes |
/// |---|---|
/// | tenant | 90002 |
/// | application | 700016 |
/// | secret | 7000215, 7000222 |
/// | no credential | 7000216, and 7000218 in the grants for users |
/// | assertion | 700027, 700021, 700024, 50027 |
/// | federated credential, and the blueprint's token of an agent identity | 700211, 700212, 700213, 7000274 |
/// | scope | 1002012, 70011, and 28000 for scopes of two resources |
/// | resource | 500011 |
/// | form | 900144, 70003 |
/// | instance | 50049 |
/// | user | 50034 |
/// | consent | 65001 |
/// | refresh token | 9002313, 70000, 70008, 50173 |
/// | authorization code | 54005, 500112, 501481, 9002313, 70000, 70008 |
/// | token that a web API was called with | 50027, 50013, 500133, 500131, 240002, 7000114 |
///
/// [`script`](Self::script) sends other errors, and everything else that can happen on a network.
///
/// Entra's response is unknown in three cases, which have words of this server: an assertion for
/// another tenant, a scope that the API does not publish, and a `plain` code challenge. So have the
/// rejections of agent identities without a code.
///
/// Error texts alternate between one line, which is Entra's form today, and several lines, which
/// was Entra's form until 2023. Do not depend on either form.
pub struct LocalAuthority {
    provider: Arc<IdentityProvider>,
    ca_pem: Option<String>,
    /// Stops the server when dropped.
    _stop: watch::Sender<()>,
}

impl LocalAuthority {
    /// Changes a tenant, and creates the tenant if it does not exist.
    fn with_directory(&self, tenant: &str, change: impl FnOnce(&mut Directory)) {
        let mut directories = lock(&self.provider.directories);
        let mut known = directories.iter_mut();
        match known.find(|directory| directory.is(tenant)) {
            Some(directory) => change(directory),
            None => {
                let mut directory = Directory::new(tenant);
                change(&mut directory);
                directories.push(directory);
            }
        }
    }
}

impl Drop for LocalAuthority {
    fn drop(&mut self) {
        self.provider.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority")
            .field("base_url", &self.provider.base)
            .field("token_requests", &self.token_requests().len())
            .finish_non_exhaustive()
    }
}
