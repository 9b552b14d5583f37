use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use super::{ConfidentialClientBuilder, ManagedIdentityClient, ManagedIdentityClientBuilder};
use crate::authority::{Authority, Cloud};
use crate::credential::pasted::bare;
use crate::credential::{CertificateFile, FederatedTokenFile};
use crate::error::Error;
use crate::identity_binding::IdentityBindingProxy;
use crate::managed_identity::{HostEnvironment, ManagedIdentity};

mod value;

impl ConfidentialClientBuilder {
    /// Returns a builder with the settings of the environment variables that
    /// [`ConfidentialClient::from_env`](crate::ConfidentialClient::from_env) lists.
    ///
    /// Reads the certificate file or the token file, if one is set. With an identity binding, also
    /// reads the CA file. A call of `transport(..)` or `reqwest(..)` turns the identity binding
    /// off.
    ///
    /// # Errors
    ///
    /// The errors of `ConfidentialClient::from_env` before the call of `build`.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Returns a builder with the settings of the variables that a function reads.
    pub(super) fn from_variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let Variables {
            tenant,
            client_id,
            authority_host,
            credential,
        } = Variables::read(&read)?;
        let variable = credential.variable();
        let cloud = authority_host.map_or(Cloud::Public, Cloud::Custom);
        let builder = Self::new(client_id).authority(Authority::entra(cloud, tenant));
        let builder = match credential {
            EnvironmentCredential::ManagedIdentity(client_id) => {
                builder.client_assertion(ManagedIdentity::user_assigned_client_id(client_id))
            }
            EnvironmentCredential::Secret(secret) => builder.client_secret(secret),
            EnvironmentCredential::Certificate(certificate) => {
                builder.certificate_source(certificate.read()?)
            }
            EnvironmentCredential::FederatedToken(path) => {
                let file = FederatedTokenFile::new(path);
                file.read().map_err(|error| {
                    error
                        .about(&format!("file of {TOKEN_FILE}"))
                        .about(ENVIRONMENT)
                })?;
                let mut builder = builder.client_assertion(file);
                // No other token endpoint accepts the audience of the file's token.
                builder.identity_binding = IdentityBindingProxy::from_variables(&read, None)
                    .map_err(|error| error.about(ENVIRONMENT))?;
                builder
            }
        };
        tracing::info!(
            variable,
            identity_binding = builder.identity_binding.is_some(),
            "the environment has the credential of the client"
        );
        Ok(builder)
    }
}

/// Returns a message if the variables name a token file that does not exist.
///
/// Any other problem of the file is left to [`ConfidentialClientBuilder::from_variables`].
pub(super) fn missing_token_file(read: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let path = value::path(TOKEN_FILE, "the token", read(TOKEN_FILE)?).ok()?;
    let error = std::fs::metadata(&path).err()?;
    let is_missing = !path.as_os_str().is_empty() && error.kind() == io::ErrorKind::NotFound;
    is_missing.then(|| format!("the file {} of {TOKEN_FILE} does not exist", path.display()))
}

impl ManagedIdentityClient {
    /// Creates a client of the identity that the environment names.
    ///
    /// `AZURE_CLIENT_ID` has the client ID of a user-assigned identity. Without the variable, or
    /// with an empty one, the client has the system-assigned identity. An information event in the
    /// log says which. The variables of the host select the source of the tokens, as in the table
    /// of [`ManagedIdentityClient`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value of `AZURE_CLIENT_ID` is not a GUID, and the errors of
    /// [`build`](ManagedIdentityClientBuilder::build).
    pub fn from_env() -> Result<Self, Error> {
        ManagedIdentityClientBuilder::from_env()?.build()
    }
}

impl ManagedIdentityClientBuilder {
    /// Returns a builder for the identity that the environment names, as
    /// [`ManagedIdentityClient::from_env`] does.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the value of `AZURE_CLIENT_ID` is not a GUID.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_host(HostEnvironment::of_process())
    }

    fn from_host(environment: HostEnvironment) -> Result<Self, Error> {
        let identity = match environment.text(CLIENT_ID)? {
            None => ManagedIdentity::system_assigned(),
            Some(text) => {
                let client_id = value::identity(CLIENT_ID, &text);
                let client_id =
                    client_id.map_err(|problem| Error::config(problem).about(ENVIRONMENT))?;
                ManagedIdentity::user_assigned_client_id(client_id)
            }
        };
        tracing::info!(%identity, "the environment names the managed identity of the client");
        Ok(ManagedIdentityClient::builder(identity).environment(environment))
    }
}

/// The environment variables of one client.
struct Variables {
    tenant: String,
    client_id: String,
    authority_host: Option<String>,
    credential: EnvironmentCredential,
}

enum EnvironmentCredential {
    Secret(String),
    Certificate(EnvironmentCertificate),
    FederatedToken(PathBuf),
    ManagedIdentity(String),
}

impl EnvironmentCredential {
    /// Returns the name of the variable that selected the credential.
    fn variable(&self) -> &'static str {
        match self {
            Self::Secret(_) => SECRET,
            Self::Certificate(_) => CERTIFICATE,
            Self::FederatedToken(_) => TOKEN_FILE,
            Self::ManagedIdentity(_) => IDENTITY,
        }
    }
}

/// The variables of a certificate file.
struct EnvironmentCertificate {
    path: PathBuf,
    password: Option<String>,
    send_chain: bool,
}

impl EnvironmentCertificate {
    /// Reads the file at once, to find an unusable file at the start.
    fn read(self) -> Result<CertificateFile, Error> {
        let mut file = CertificateFile::new(self.path);
        if self.send_chain {
            file = file.send_x5c();
        }
        let oddity = self.password.as_deref().and_then(value::odd_password);
        if let Some(password) = self.password {
            file = file.password(password);
        }
        match file.read() {
            Ok(_) => Ok(file),
            Err(error) => {
                let subject = match oddity {
                    Some(oddity) => format!(
                        "file of {CERTIFICATE} with the password of {PASSWORD}, which {oddity},"
                    ),
                    None => format!("file of {CERTIFICATE}"),
                };
                Err(error.about(&subject).about(ENVIRONMENT))
            }
        }
    }
}

impl Variables {
    fn read(read: &impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        // Kubernetes and shells cannot tell an empty variable from an unset one, and some keep the
        // quotation marks of an empty one.
        let value = |name: &str| {
            let is_set =
                |value: &OsString| value.to_str().is_none_or(|text| !bare(text).is_empty());
            read(name).filter(is_set)
        };
        let mut problems = Vec::new();
        let mut text = |name: &str| match value(name).map(OsString::into_string) {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) => {
                problems.push(format!("set {name} to text in UTF-8"));
                None
            }
            None => None,
        };
        let [
            tenant,
            client_id,
            authority_host,
            secret,
            password,
            send_chain,
            identity,
        ] = [
            TENANT,
            CLIENT_ID,
            AUTHORITY_HOST,
            SECRET,
            PASSWORD,
            SEND_CHAIN,
            IDENTITY,
        ]
        .map(&mut text);
        let [certificate, token_file] = [CERTIFICATE, TOKEN_FILE].map(value);

        let mut checked = |checked: Result<String, String>| match checked {
            Ok(text) => Some(text),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        let is_unset = |name: &str| Err(format!("set {name}"));
        let tenant = checked(tenant.map_or_else(|| is_unset(TENANT), |text| value::tenant(&text)));
        let client_id =
            checked(client_id.map_or_else(|| is_unset(CLIENT_ID), |id| value::client_id(&id)));
        let authority_host = authority_host.and_then(|host| checked(value::authority_host(&host)));
        problems.extend(contradictions(&[
            (SECRET, secret.is_some()),
            (CERTIFICATE, certificate.is_some()),
            (TOKEN_FILE, token_file.is_some()),
            (IDENTITY, identity.is_some()),
            (PASSWORD, password.is_some()),
        ]));
        let credential = match (secret, certificate, token_file, identity) {
            (Some(secret), None, None, None) => {
                value::secret(&secret).map(EnvironmentCredential::Secret)
            }
            (None, Some(path), None, None) => certificate_of(path, password, send_chain.as_deref()),
            (None, None, Some(path), None) => value::path(TOKEN_FILE, "the token", path)
                .map(EnvironmentCredential::FederatedToken),
            (None, None, None, Some(id)) => {
                value::identity(IDENTITY, &id).map(EnvironmentCredential::ManagedIdentity)
            }
            _ => Err(String::new()),
        };
        let credential = match credential {
            Ok(credential) => Some(credential),
            Err(problem) => {
                problems.extend(Some(problem).filter(|problem| !problem.is_empty()));
                None
            }
        };
        match (tenant, client_id, credential) {
            (Some(tenant), Some(client_id), Some(credential)) if problems.is_empty() => Ok(Self {
                tenant,
                client_id,
                authority_host,
                credential,
            }),
            _ => Err(Error::config(problems.join("; ")).about(ENVIRONMENT)),
        }
    }
}

fn certificate_of(
    path: OsString,
    password: Option<String>,
    send_chain: Option<&str>,
) -> Result<EnvironmentCredential, String> {
    Ok(EnvironmentCredential::Certificate(EnvironmentCertificate {
        path: value::path(CERTIFICATE, "the certificate", path)?,
        password,
        send_chain: send_chain.map_or(Ok(false), value::send_chain)?,
    }))
}

/// Returns the problems of credentials that are missing or contradict each other.
///
/// `variables` are the names of the four credentials and of the password, and whether each is set.
fn contradictions(variables: &[(&str, bool); 5]) -> Vec<String> {
    let [credentials @ .., (_, has_password)] = variables;
    let names = |is_set: bool| {
        let named = credentials.iter().filter(move |(_, set)| *set == is_set);
        named.map(|(name, _)| *name).collect::<Vec<_>>()
    };
    let given = names(true);
    let mut problems = Vec::new();
    if given.is_empty() {
        problems.push(format!(
            "set one of {SECRET}, {CERTIFICATE}, {TOKEN_FILE} and {IDENTITY}, or use ManagedIdentityClient, which needs none"
        ));
    }
    if given.len() > 1 {
        problems.push(format!("unset all but one of {}", given.join(" and ")));
    }
    if *has_password && !given.contains(&CERTIFICATE) {
        problems.push(format!(
            "unset {PASSWORD}, or set {CERTIFICATE} to its file"
        ));
    }
    problems
}

const ENVIRONMENT: &str = "environment";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const PASSWORD: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";
const SEND_CHAIN: &str = "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const IDENTITY: &str = "AZURE_MANAGED_IDENTITY_CLIENT_ID";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";

#[cfg(test)]
mod tests;
