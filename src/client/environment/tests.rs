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
            "set AZURE_AUTHORITY_HOST to an https URL, such as https://login.microsoftonline.us/",
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
            "set AZURE_AUTHORITY_HOST to an https URL, such as https://login.microsoftonline.us/",
        ),
        (
            with(&[(SECRET, "x"), (AUTHORITY_HOST, "http://127.0.0.1")]),
            "(the value must be https; in a test, call authority(..) of the builder",
        ),
        (
            with(&[(SECRET, "x"), (AUTHORITY_HOST, "http://login.example.org")]),
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
            "set AZURE_AUTHORITY_HOST to an https URL, such as https://login.microsoftonline.us/",
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
