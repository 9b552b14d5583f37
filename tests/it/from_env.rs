//! `from_env`, in a process of its own, since the environment belongs to the process.

use std::process::Command;

use confidential_client::ConfidentialClient;

use crate::certificate_formats::{FOLDER, PASSWORD};

/// What the child says of its client, with only these variables set.
fn child(variables: &[(&str, &str)]) -> String {
    let test = "from_env::in_the_child";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "run by the others, with an environment"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn in_the_child() {
    match ConfidentialClient::from_env() {
        Ok(client) => println!("client: {client:?}"),
        Err(error) => println!("error: {error}"),
    }
}

#[test]
fn a_client_comes_from_the_environment() {
    let path = FOLDER.path("rsa2048.modern.p12").display().to_string();
    let certificate = ("AZURE_CLIENT_CERTIFICATE_PATH", path.as_str());
    let password = |password| ("AZURE_CLIENT_CERTIFICATE_PASSWORD", password);
    let with = |more: &[(&'static str, &str)]| {
        let who = [
            ("AZURE_TENANT_ID", "contoso.com"),
            ("AZURE_CLIENT_ID", "daemon"),
        ];
        let all: Vec<_> = who.iter().chain(more).copied().collect();
        child(&all)
    };
    for (said, expected) in [
        (
            with(&[certificate, password(PASSWORD)]),
            "client: ConfidentialClient",
        ),
        (
            with(&[certificate, password(PASSWORD)]),
            "rsa2048.modern.p12",
        ),
        (
            with(&[certificate, password("wrong")]),
            "the password is wrong",
        ),
        (
            with(&[certificate]),
            "the PKCS#12 file has a password and no password was given",
        ),
        (
            with(&[("AZURE_CLIENT_SECRET", PASSWORD)]),
            "credential: client secret",
        ),
        (with(&[]), "set one of AZURE_CLIENT_SECRET"),
        (
            with(&[]),
            "error: the environment cannot be used: set one of",
        ),
        (
            with(&[certificate, password("\"wrong\"")]),
            "AZURE_CLIENT_CERTIFICATE_PASSWORD, which begins and ends with a quotation mark",
        ),
        (
            with(&[
                certificate,
                password(PASSWORD),
                ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true"),
            ]),
            "client: ConfidentialClient",
        ),
        (
            with(&[("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")]),
            "federated token file /nowhere/token cannot be read",
        ),
        (
            with(&[
                ("AZURE_CLIENT_SECRET", PASSWORD),
                ("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.us"),
            ]),
            "must be https",
        ),
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}
