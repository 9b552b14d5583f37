//! Runs each example as a user does, and checks what it prints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// The output of an example, standard error included.
struct Printed(String);

/// Runs an example that has to succeed, and prints no token, secret or key.
fn run(name: &str, arguments: &[&str]) -> Printed {
    let output = command(name).args(arguments).output().unwrap();
    let printed = Printed::of(&output);
    assert!(output.status.success(), "{name} failed:\n{}", printed.0);
    for secret in [
        "eyJ",
        "correct horse",
        "open sesame",
        "the cluster's",
        "PRIVATE KEY",
    ] {
        assert!(!printed.0.contains(secret), "{name} shows {secret}");
    }
    printed
}

/// `cargo run --example`, without the variables that would send it to a real tenant.
fn command(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--example", name]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--");
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("AZURE_")) {
        command.env_remove(variable);
    }
    command
}

impl Printed {
    fn of(output: &Output) -> Self {
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        Self(printed)
    }

    /// The lines that hold all parts, in their order.
    fn lines(&self, parts: &[&str]) -> Vec<&str> {
        let holds = |line: &&str| {
            let mut rest = *line;
            parts.iter().all(|part| match rest.split_once(part) {
                Some((_, behind)) => {
                    rest = behind;
                    true
                }
                None => false,
            })
        };
        self.0.lines().filter(holds).collect()
    }

    fn count(&self, count: usize, parts: &[&str]) {
        let lines = self.lines(parts);
        assert_eq!(lines.len(), count, "lines with {parts:?} in\n{}", self.0);
    }

    fn has(&self, parts: &[&str]) {
        assert!(!self.lines(parts).is_empty(), "no {parts:?} in\n{}", self.0);
    }

    /// The values behind a label that begins a line, which is a label and a value.
    fn values(&self, label: &str) -> Vec<&str> {
        let lines = self.0.lines().map(str::trim);
        let values = lines.filter_map(|line| line.strip_prefix(label));
        values.map(str::trim).collect()
    }

    /// The one value behind a label.
    fn value(&self, label: &str, expected: &str) {
        assert_eq!(self.values(label), [expected], "{label} in\n{}", self.0);
    }
}

#[test]
fn the_daemon_calls_the_api_and_says_what_is_wrong_with_a_secret() {
    let printed = run("daemon", &[]);
    let answered = "answered 200: Adele Vance";
    printed.count(2, &["token from identity provider", answered]);
    printed.count(2, &["token from cache", answered]);
    printed.value("invalid_client", "401 Unauthorized [7000215]");
    printed.has(&[
        "  what it says ",
        "AADSTS7000215: Invalid client secret provided",
    ]);
    printed.has(&[
        "  what to do ",
        "the client secret is wrong; use the secret",
    ]);
    printed.value("token requests", "3");
}

#[test]
fn the_daemon_refuses_half_a_configuration() {
    let mut command = command("daemon");
    let output = command
        .env("AZURE_TENANT_ID", "contoso.onmicrosoft.com")
        .output()
        .unwrap();
    assert!(!output.status.success());
    Printed::of(&output).has(&["set AZURE_CLIENT_ID; set one of AZURE_CLIENT_SECRET"]);
}

#[test]
fn the_certificate_in_use_follows_its_file() {
    let printed = run("certificate", &[]);
    let renewed = [
        printed.values("old thumbprint"),
        printed.values("new thumbprint"),
    ];
    assert_eq!(printed.values("thumbprint"), renewed.concat());
    assert_eq!(printed.values("thumbprint").len(), 2, "{}", printed.0);
    printed.count(2, &["  subject ", "CN=daemon"]);
    printed.value("token requests", "2");
}

#[test]
fn the_vault_signs_once_and_is_sealed_then() {
    let printed = run("vault_signer", &[]);
    printed.count(2, &["token  ", ", from Cache"]);
    printed.value("signatures", "1");
    printed.has(&["  failed ", "the assertion could not be signed"]);
    printed.value("because", "the vault answered 403 Forbidden: it is sealed");
    printed.value("token requests", "1");
}

#[test]
fn a_federated_token_is_read_for_each_request() {
    let printed = run("federated", &[]);
    printed.count(4, &["  token ", ", from IdentityProvider"]);
    let mut tokens = printed.values("with token");
    assert_eq!(tokens.len(), 4, "{}", printed.0);
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "{}", printed.0);
    printed.count(2, &["system:serviceaccount:jobs:daemon"]);
}

#[test]
fn a_thousand_tenants_are_warmed_up_and_three_say_why_not() {
    let printed = run("multi_tenant", &[]);
    assert_eq!(printed.values("token requests"), ["2000", "2000"]);
    printed.value("tokens", "1997");
    printed.value("from the cache", "1997");
    printed.has(&[
        "customer-0500.example",
        "the application is not in this tenant; ",
    ]);
    printed.has(&[
        "send its administrator to http://127.0.0.1:",
        "/customer-0500.example/adminconsent?client_id=",
    ]);
    printed.has(&[
        "customer-1000.example",
        "the resource is not known in this tenant; ",
    ]);
    printed.has(&[
        "customer-1500.example",
        "there is no such tenant in this cloud; ",
    ]);
}

#[test]
fn a_claims_challenge_is_answered() {
    let printed = run("claims_challenge", &[]);
    printed.count(3, &["  the API says ", "200 "]);
    printed.has(&["  the API says ", "401 after 4 calls and 2 token requests"]);
    printed.has(&["  the API asks for {\"access_token\":{\"nbf\""]);
}

#[test]
fn the_adapters_attach_one_token_to_two_calls() {
    for name in ["call_api_reqwest", "call_api_tower"] {
        let printed = run(name, &[]);
        printed.count(2, &["200 OK ", "\"roles\":[\"User.Read.All\"]"]);
        printed.value("token requests", "1");
    }
}

#[test]
fn a_client_and_its_user_are_authorized_apart() {
    let printed = run("delegated_access", &[]);
    let cell = |by: &str, file: &str, answer: &str| printed.count(1, &[by, file, answer]);
    cell(
        "adele by the printer",
        "adele's file",
        "200 what is in notes",
    );
    cell("adele by the printer", "megan's file", "403 the user ");
    cell(
        "adele by the planner",
        "adele's file",
        "403 the client was not granted the scope 'Files.Read'",
    );
    let both = printed.lines(&["adele by the planner", "megan's file"]);
    assert_eq!(both.len(), 1);
    assert!(both.concat().contains("403 the client was not granted"));
    assert!(both.concat().contains("; the user "), "{both:?}");
    let backup = printed.lines(&["the backup by itself", "403 this "]);
    assert_eq!(backup.len(), 2, "{}", printed.0);
    for line in backup {
        assert!(line.contains("user") && line.contains("token"), "{line}");
    }
}

#[test]
fn a_user_signs_in_and_one_declines() {
    let printed = run("web_sign_in", &["--walk"]);
    printed.has(&["200  Permissions requested ", "/sign-in/user"]);
    printed.count(2, &["200  Your file ", "/file"]);
    printed.has(&["403  You declined ", "/signed-in"]);
}

#[test]
fn the_long_running_daemon_reports_its_health_and_ends() {
    let printed = run("long_running", &[]);
    printed.has(&[" health token_good_for_s="]);
    printed.has(&[" ended rounds=7 "]);
}

#[test]
fn the_azure_sdk_takes_its_tokens_from_the_client() {
    let printed = run("azure_sdk", &[]);
    for vault in ["orders.vault.azure.net", "billing.vault.azure.net"] {
        for secret in ["database, 13 characters", "smtp, 13 characters"] {
            printed.count(1, &[vault, secret]);
        }
    }
    printed.value("requests to the vaults", "6");
    printed.value("token requests", "1");
}

#[test]
fn the_tests_of_a_daemon_can_be_run_as_a_program() {
    run("test_your_daemon", &[]).count(4, &["ok "]);
}
