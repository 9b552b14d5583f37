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

    /// A file with a token, which is removed when dropped.
    struct TokenFile(PathBuf);

    impl TokenFile {
        fn with(content: &str) -> Self {
            let name = format!("from-env-{}", uuid::Uuid::new_v4());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, content).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TokenFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const WHO: [(&str, &str); 2] = [(TENANT, "contoso.com"), (CLIENT_ID, "client")];

    fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        WHO.iter().chain(more).copied().collect()
    }

    #[test]
    fn the_kind_of_credential_shows_and_its_value_does_not() {
        let file = TokenFile::with("e30.e30.aHVudGVyMg\n");
        let quoted = format!("\"{}\"\n", file.path());
        let token_file = format!("federated token file {}", file.path());
        for (variables, shown) in [
            (with(&[(SECRET, "hunter2")]), "client secret"),
            (
                with(&[(TOKEN_FILE, file.path()), (SECRET, ""), (PASSWORD, "")]),
                token_file.as_str(),
            ),
            (
                with(&[(TOKEN_FILE, &quoted), (SECRET, "\"\""), (PASSWORD, " ")]),
                token_file.as_str(),
            ),
            (
                vec![
                    (TENANT, "{72f988bf-86f1-41af-91ab-2d7cd011db47}\r\n"),
                    (CLIENT_ID, "\"72f988bf-86f1-41af-91ab-2d7cd011db48\""),
                    (SECRET, "hunter2"),
                    (SEND_CHAIN, "ignored without a certificate"),
                ],
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47",
            ),
            (
                with(&[
                    (SECRET, "hunter2"),
                    (AUTHORITY_HOST, "https://login.microsoftonline.us/"),
                ]),
                "https://login.microsoftonline.us/contoso.com",
            ),
            (
                with(&[(IDENTITY, "{72f988bf-86f1-41af-91ab-2d7cd011db49}")]),
                "token of the user-assigned identity with the client id '72f988bf-86f1-41af-91ab-2d7cd011db49'",
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
        let credentials = "set one of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH, AZURE_FEDERATED_TOKEN_FILE and AZURE_MANAGED_IDENTITY_CLIENT_ID, or use ManagedIdentityClient";
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
                with(&[(SECRET, "hunter2"), (IDENTITY, "hunter2")]),
                "unset all but one of AZURE_CLIENT_SECRET and AZURE_MANAGED_IDENTITY_CLIENT_ID",
            ),
            (
                with(&[(IDENTITY, "hunter2")]),
                "set AZURE_MANAGED_IDENTITY_CLIENT_ID to the client id of a user-assigned managed identity (the value is not a GUID), or unset it",
            ),
            (
                with(&[(IDENTITY, "<hunter2>")]),
                "(the value is a placeholder that nothing replaced), or unset it",
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
                with(&[(SECRET, "x"), (AUTHORITY_HOST, "http://127.0.0.1")]),
                "(the value must be https)",
            ),
            (
                with(&[(TOKEN_FILE, "eyJhbGc.hunter2.c2ln")]),
                "set AZURE_FEDERATED_TOKEN_FILE to the path of a file (the value is the token itself)",
            ),
            (
                with(&[(CERTIFICATE, "-----BEGIN PRIVATE KEY-----\nhunter2")]),
                "set AZURE_CLIENT_CERTIFICATE_PATH to the path of a file (the value is the certificate itself)",
            ),
            (
                with(&[(CERTIFICATE, "/hunter2"), (SEND_CHAIN, "perhaps")]),
                "set AZURE_CLIENT_SEND_CERTIFICATE_CHAIN to 1 or true",
            ),
            (
                vec![
                    (TENANT, "${hunter2}"),
                    (CLIENT_ID, "<hunter2>"),
                    (SECRET, "%hunter2%"),
                ],
                "set AZURE_TENANT_ID to the directory's GUID or a domain such as 'contoso.onmicrosoft.com' (the value is a placeholder that nothing replaced); set AZURE_CLIENT_ID to the application (client) id of the app registration (the value is a placeholder that nothing replaced); set AZURE_CLIENT_SECRET to the secret's value",
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
            assert!(
                shown.starts_with("the environment cannot be used: "),
                "{shown}"
            );
            assert!(shown.contains(text), "{text}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[tokio::test]
    #[cfg(feature = "rustls")]
    async fn an_identity_binding_is_used_with_a_token_file_alone() {
        const PROXY: &str = "AZURE_KUBERNETES_TOKEN_PROXY";
        let file = TokenFile::with("e30.e30.aHVudGVyMg");
        let token_file = (TOKEN_FILE, file.path());
        let builder = |more: &[(&str, &str)]| {
            let variables = with(more);
            ConfidentialClientBuilder::from_variables(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        for (variables, is_bound) in [
            (&[token_file, (PROXY, "https://127.0.0.1:1")][..], true),
            (&[token_file, (PROXY, "")], false),
            (&[(SECRET, "x"), (PROXY, "http://ignored")], false),
        ] {
            let bound = builder(variables).unwrap().identity_binding;
            assert_eq!(bound.is_some(), is_bound, "{variables:?}");
        }
        let error = builder(&[token_file, (PROXY, "http://10.0.0.1")])
            .err()
            .unwrap();
        let text = error.to_string();
        let begin = "the environment cannot be used: the variable AZURE_KUBERNETES_TOKEN_PROXY";
        assert!(text.starts_with(begin), "{text}");

        let bound = || builder(&[token_file, (PROXY, "https://127.0.0.1:1")]).unwrap();
        let unused = |_: http::Request<bytes::Bytes>| async { Err("not used".into()) };
        for (builder, expected) in [
            (bound(), "the identity binding's proxy '127.0.0.1:1'"),
            (
                bound().connect_timeout(std::time::Duration::from_secs(1)),
                "the identity binding's proxy '127.0.0.1:1'",
            ),
            // The way to turn the identity binding off.
            (bound().transport(unused), "not used"),
        ] {
            let client = builder.retry(crate::RetryPolicy::none()).build().unwrap();
            let scope = "https://graph.microsoft.com/.default";
            let error = client.acquire_token_for_client(scope).await.unwrap_err();
            assert!(matches!(error, Error::Transport(_)), "{error:?}");
            let chain = error.chain().to_string();
            assert!(chain.contains(expected), "{chain}");
        }
        let zero = bound().connect_timeout(std::time::Duration::ZERO).build();
        let error = zero.unwrap_err().to_string();
        assert!(error.contains("connect_timeout"), "{error}");
    }

    #[test]
    fn the_client_id_names_the_managed_identity() {
        let unused = |_: http::Request<bytes::Bytes>| -> TransportFuture<'static> {
            Box::pin(async { Err("not used".into()) })
        };
        for (variables, expected) in [
            (&[][..], Ok("ManagedIdentity { id: None }")),
            (&[(CLIENT_ID, " ")], Ok("ManagedIdentity { id: None }")),
            (
                &[(CLIENT_ID, "\"72f988bf-86f1-41af-91ab-2d7cd011db48\"")],
                Ok("Client(\"72f988bf-86f1-41af-91ab-2d7cd011db48\")"),
            ),
            (
                &[(CLIENT_ID, "hunter2")],
                Err(
                    "the environment cannot be used: set AZURE_CLIENT_ID to the client id of a user-assigned managed identity (the value is not a GUID)",
                ),
            ),
        ] {
            let environment = HostEnvironment::from_variables(variables.iter().copied());
            let client = ManagedIdentityClientBuilder::from_host(environment)
                .and_then(|builder| builder.transport(unused).build());
            match (client, expected) {
                (Ok(client), Ok(shown)) => {
                    let debug = format!("{client:?}");
                    assert!(debug.contains(shown), "{debug}");
                }
                (Err(error), Err(text)) => {
                    let error = error.to_string();
                    assert!(
                        error.contains(text) && !error.contains("hunter2"),
                        "{error}"
                    );
                }
                other => panic!("{variables:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_unusable_token_file_is_not_found_at_the_first_request_only() {
        let null = TokenFile::with("null\n");
        let page = TokenFile::with("<html>hunter2");
        for (path, reason) in [
            (
                "/nowhere/token",
                "federated token file /nowhere/token cannot be read",
            ),
            (null.path(), "is not a token (a JWT) but the word 'null'"),
            (page.path(), "is not a token (a JWT) but an HTML page"),
        ] {
            let error = client(&with(&[(TOKEN_FILE, path)])).unwrap_err();
            assert!(matches!(error, Error::Credential(_)), "{error:?}");
            let text = error.to_string();
            let begin = "the environment cannot be used: the file of AZURE_FEDERATED_TOKEN_FILE";
            assert!(text.starts_with(begin), "{text}");
            assert!(text.contains(path) && text.contains(reason), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    /// The password is not changed, and the message says what is odd about it.
    #[test]
    #[cfg(feature = "testing")]
    fn a_password_in_quotation_marks_is_named_when_it_does_not_fit() {
        let file = TokenFile::with("no certificate");
        let variables = with(&[(CERTIFICATE, file.path()), (PASSWORD, "\"hunter2\"")]);
        let text = client(&variables).unwrap_err().to_string();
        assert!(text.contains(PASSWORD), "{text}");
        assert!(
            text.contains("begins and ends with a quotation mark"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    #[cfg(feature = "testing")]
    async fn the_chain_is_not_sent_unless_the_variable_says_so() {
        use std::sync::{Arc, Mutex};

        use base64::Engine;
        use base64::prelude::BASE64_URL_SAFE_NO_PAD;

        let pem = crate::testing::self_signed_certificate("daemon").unwrap();
        let file = TokenFile::with(&pem);
        for (value, is_sent) in [("", false), ("0", false), ("1", true), ("True", true)] {
            let variables = with(&[(CERTIFICATE, file.path()), (SEND_CHAIN, value)]);
            let sent = Arc::<Mutex<String>>::default();
            let seen = Arc::clone(&sent);
            let client = ConfidentialClientBuilder::from_variables(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            })
            .unwrap()
            .transport(move |request: http::Request<bytes::Bytes>| {
                let form = request.into_body();
                let mut fields = url::form_urlencoded::parse(&form);
                let assertion = fields.find(|(name, _)| name == "client_assertion");
                *seen.lock().unwrap() = assertion.unwrap().1.into_owned();
                async { Err("not answered".into()) }
            })
            .retry(crate::RetryPolicy::none())
            .build()
            .unwrap();
            let scope = "https://graph.microsoft.com/.default";
            client.acquire_token_for_client(scope).await.unwrap_err();
            let assertion = sent.lock().unwrap().clone();
            let header = assertion.split('.').next().unwrap();
            let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
            let header = String::from_utf8(header).unwrap();
            assert_eq!(header.contains("x5c"), is_sent, "{value}: {header}");
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
