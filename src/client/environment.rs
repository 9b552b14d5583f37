use std::ffi::OsString;
use std::path::PathBuf;

use super::ConfidentialClientBuilder;
use crate::authority::address::parse_host_url;
use crate::authority::{Authority, Cloud, Tenant};
use crate::credential::{CertificateFile, FederatedTokenFile, check_secret};
use crate::error::Error;

impl ConfidentialClientBuilder {
    /// Returns a builder with the settings of the environment variables that
    /// [`ConfidentialClient::from_env`](crate::ConfidentialClient::from_env) lists.
    ///
    /// Reads the certificate file, if one is set.
    ///
    /// # Errors
    ///
    /// The errors of `ConfidentialClient::from_env` before the call of `build`.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let Variables {
            tenant,
            client_id,
            authority_host,
            credential,
        } = Variables::read(read)?;
        let authority = Authority::entra(cloud(authority_host), tenant);
        let builder = Self::new(client_id).authority(authority);
        Ok(match credential {
            EnvironmentCredential::Secret(secret) => builder.client_secret(secret),
            EnvironmentCredential::Certificate { path, password } => {
                let mut file = CertificateFile::new(path);
                if let Some(password) = password {
                    file = file.password(password);
                }
                file.read()?;
                builder.certificate_source(file)
            }
            EnvironmentCredential::FederatedToken(path) => {
                builder.client_assertion(FederatedTokenFile::new(path))
            }
        })
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
    Certificate {
        path: PathBuf,
        password: Option<String>,
    },
    FederatedToken(PathBuf),
}

impl Variables {
    fn read(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        // Kubernetes and shells cannot tell an empty variable from an unset one.
        let value = |name: &str| read(name).filter(|value| !value.is_empty());
        let text = |name: &str| match value(name).map(OsString::into_string) {
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Error::config(format!("{name} is not UTF-8"))),
            None => Ok(None),
        };
        let (tenant, client_id) = (text(TENANT)?, text(CLIENT_ID)?);
        let (authority_host, secret) = (text(AUTHORITY_HOST)?, text(SECRET)?);
        let certificate = value(CERTIFICATE).map(PathBuf::from);
        let password = text(PASSWORD)?;
        let token_file = value(TOKEN_FILE).map(PathBuf::from);

        let given = [
            (SECRET, secret.is_some()),
            (CERTIFICATE, certificate.is_some()),
            (TOKEN_FILE, token_file.is_some()),
        ];
        let given: Vec<&str> = given
            .iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(name, _)| *name)
            .collect();
        let mut problems = Vec::new();
        match &tenant {
            None => problems.push(format!("set {TENANT}")),
            Some(tenant) if Tenant::parse(tenant).is_err() => problems.push(format!(
                "set {TENANT} to the directory's GUID or a domain such as 'contoso.onmicrosoft.com'"
            )),
            Some(_) => {}
        }
        match &client_id {
            None => problems.push(format!("set {CLIENT_ID}")),
            Some(id) if id.contains(char::is_whitespace) => {
                problems.push(format!("set {CLIENT_ID} without the white space in it"));
            }
            Some(_) => {}
        }
        let host = cloud(authority_host.clone()).base();
        if !parse_host_url(AUTHORITY_HOST, &host).is_ok_and(|base| base.scheme() == "https") {
            problems.push(format!(
                "set {AUTHORITY_HOST} to scheme and host alone, such as https://login.microsoftonline.us/, or unset it"
            ));
        }
        if let Some(Err(error)) = secret.as_deref().map(|secret| check_secret(&secret.into())) {
            problems.push(format!("set {SECRET} to a valid secret: {error}"));
        }
        if given.is_empty() {
            problems.push(format!(
                "set one of {SECRET}, {CERTIFICATE} and {TOKEN_FILE}"
            ));
        }
        if given.len() > 1 {
            problems.push(format!("unset all but one of {}", given.join(" and ")));
        }
        if password.is_some() && certificate.is_none() {
            problems.push(format!(
                "unset {PASSWORD}, or set {CERTIFICATE} to its file"
            ));
        }
        let credential = match (secret, certificate, token_file) {
            (Some(secret), None, None) => Some(EnvironmentCredential::Secret(secret)),
            (None, Some(path), None) => Some(EnvironmentCredential::Certificate { path, password }),
            (None, None, Some(path)) => Some(EnvironmentCredential::FederatedToken(path)),
            _ => None,
        };
        match (tenant, client_id, credential) {
            (Some(tenant), Some(client_id), Some(credential)) if problems.is_empty() => Ok(Self {
                tenant,
                client_id,
                authority_host,
                credential,
            }),
            _ => Err(Error::config(format!(
                "the environment variables do not configure a client: {}",
                problems.join("; ")
            ))),
        }
    }
}

fn cloud(authority_host: Option<String>) -> Cloud {
    authority_host.map_or(Cloud::Public, Cloud::Custom)
}

const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const PASSWORD: &str = "AZURE_CLIENT_CERTIFICATE_PASSWORD";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ConfidentialClient;
    use crate::transport::TransportFuture;

    fn client(variables: &[(&str, &str)]) -> Result<ConfidentialClient, Error> {
        let read = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let unused = |_: http::Request<bytes::Bytes>| -> TransportFuture<'static> {
            Box::pin(async { Err("not used".into()) })
        };
        ConfidentialClientBuilder::from_variables(read)?
            .transport(unused)
            .build()
    }

    const WHO: [(&str, &str); 2] = [(TENANT, "contoso.com"), (CLIENT_ID, "client")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        WHO.iter().chain(more).copied().collect()
    }

    #[test]
    fn the_kind_of_credential_shows_and_its_value_does_not() {
        for (variables, shown) in [
            (with(&[(SECRET, "hunter2")]), "client secret"),
            (
                with(&[(TOKEN_FILE, "/run/token"), (SECRET, ""), (PASSWORD, "")]),
                "federated token file /run/token",
            ),
            (
                with(&[
                    (SECRET, "hunter2"),
                    (AUTHORITY_HOST, "https://login.microsoftonline.us/"),
                ]),
                "https://login.microsoftonline.us/contoso.com",
            ),
            (
                with(&[
                    (SECRET, "hunter2"),
                    (AUTHORITY_HOST, "login.microsoftonline.us"),
                ]),
                "https://login.microsoftonline.us/contoso.com",
            ),
            (
                with(&[(SECRET, "hunter2"), (AUTHORITY_HOST, "")]),
                "https://login.microsoftonline.com/contoso.com",
            ),
        ] {
            let debug = format!("{:?}", client(&variables).unwrap());
            assert!(debug.contains(shown), "{debug}");
            assert!(!debug.contains("hunter2"), "{debug}");
        }
    }

    #[test]
    fn what_is_missing_or_contradictory_is_named() {
        let credentials = "set one of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE";
        for (variables, text) in [
            (
                vec![],
                "set AZURE_TENANT_ID; set AZURE_CLIENT_ID; set one of",
            ),
            (with(&[]), credentials),
            (with(&[(SECRET, "")]), credentials),
            (
                vec![(CLIENT_ID, "client"), (SECRET, "hunter2")],
                ": set AZURE_TENANT_ID",
            ),
            (
                with(&[
                    (SECRET, "hunter2"),
                    (CERTIFICATE, "/hunter2"),
                    (TOKEN_FILE, "/hunter2"),
                ]),
                "unset all but one of AZURE_CLIENT_SECRET and AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE",
            ),
            (
                with(&[(SECRET, "hunter2"), (PASSWORD, "hunter2")]),
                "unset AZURE_CLIENT_CERTIFICATE_PASSWORD",
            ),
            (
                with(&[
                    (SECRET, "hunter2"),
                    (AUTHORITY_HOST, "http://127.0.0.1:1/hunter2"),
                ]),
                "set AZURE_AUTHORITY_HOST to scheme and host alone",
            ),
            (
                with(&[(SECRET, "hunter2\n")]),
                "set AZURE_CLIENT_SECRET to a valid secret: the client secret begins or ends with white space",
            ),
            (
                vec![(TENANT, "hunter2/"), (CLIENT_ID, "client"), (SECRET, "x")],
                "set AZURE_TENANT_ID to the directory's GUID",
            ),
            (
                vec![
                    (TENANT, "contoso.com"),
                    (CLIENT_ID, "hunter2 "),
                    (SECRET, "x"),
                ],
                "set AZURE_CLIENT_ID without the white space",
            ),
            (
                with(&[(SECRET, "x"), (AUTHORITY_HOST, "http://127.0.0.1")]),
                "set AZURE_AUTHORITY_HOST to scheme and host alone",
            ),
            (
                with(&[(SECRET, "x"), (AUTHORITY_HOST, "HTTP://127.0.0.1")]),
                "set AZURE_AUTHORITY_HOST to scheme and host alone",
            ),
            (
                with(&[
                    (SECRET, "x"),
                    (AUTHORITY_HOST, "https://u:hunter2@login.example.org"),
                ]),
                "set AZURE_AUTHORITY_HOST to scheme and host alone",
            ),
            (
                vec![
                    (AUTHORITY_HOST, "https://login.example.org/hunter2"),
                    (TENANT, ""),
                ],
                "set AZURE_TENANT_ID; set AZURE_CLIENT_ID; set AZURE_AUTHORITY_HOST to",
            ),
        ] {
            let error = client(&variables).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(text), "{text}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_certificate_file_is_read_at_once() {
        let error = client(&with(&[(CERTIFICATE, "/nowhere/daemon.pem")])).unwrap_err();
        assert!(matches!(error, Error::Credential(_)), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("certificate file /nowhere/daemon.pem cannot be read"),
            "{text}"
        );
    }
}
