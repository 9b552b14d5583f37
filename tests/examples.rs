//! Output of each example program, run as a user runs the program.
//!
//! The tests run the programs with `cargo run`: `cargo test` builds an example with `test = true`
//! as a test only, and an old program in `target` must not pass for the current one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write, stderr};
use std::process::{Child, Command, Output, Stdio};

use confidential_client::ManagedIdentityClient;
use confidential_client::credential::{HostEnvironment, ManagedIdentity};

/// The output of an example, standard error included.
struct Printed(String);

/// Runs an example, which must succeed and must not print a token, secret or key.
fn run(name: &str, arguments: &[&str]) -> Printed {
    let output = command(name).args(arguments).output().unwrap();
    let printed = Printed::of(&output);
    assert!(output.status.success(), "{name} failed:\n{}", printed.0);
    for secret in [
        "eyJ",
        "correct horse",
        "open sesame",
        "the cluster's",
        "s3cret",
        "PRIVATE KEY",
    ] {
        assert!(
            !printed.0.contains(secret),
            "{name} prints {secret}:\n{}",
            printed.0
        );
    }
    printed
}

/// Returns `cargo run --example <name>`, without the variables that select a real tenant.
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

    /// Returns the lines that contain all parts, in this order.
    fn lines(&self, parts: &[&str]) -> Vec<&str> {
        let contains_all = |line: &&str| {
            let mut rest = *line;
            parts.iter().all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        };
        self.0.lines().filter(contains_all).collect()
    }

    fn count(&self, count: usize, parts: &[&str]) {
        let lines = self.lines(parts);
        assert_eq!(lines.len(), count, "lines with {parts:?} in\n{}", self.0);
    }

    fn has(&self, parts: &[&str]) {
        assert!(!self.lines(parts).is_empty(), "no {parts:?} in\n{}", self.0);
    }

    /// Returns the text after `label` in each line that starts with `label`.
    fn values(&self, label: &str) -> Vec<&str> {
        let lines = self.0.lines().map(str::trim);
        let values = lines.filter_map(|line| line.strip_prefix(label));
        values.map(str::trim).collect()
    }

    /// Checks that one line starts with `label`, and that the rest is `expected`.
    fn value(&self, label: &str, expected: &str) {
        assert_eq!(self.values(label), [expected], "{label} in\n{}", self.0);
    }
}

#[test]
fn daemon() {
    let printed = run("daemon", &[]);
    let answered = "answered 200: Adele Vance";
    printed.count(2, &["token from identity_provider", answered]);
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
fn blocking() {
    let printed = run("blocking", &[]);
    printed.count(1, &["token from identity_provider", "User.Read.All"]);
    printed.count(1, &["token from cache", "User.Read.All"]);
    printed.value("calls of eight threads", "8");
    assert_eq!(printed.values("token requests"), ["1", "2"]);
    printed.has(&[
        "inside a runtime: ",
        "call client.as_async().acquire_token_for_client(..).await",
    ]);
}

#[test]
fn daemon_with_an_incomplete_environment() {
    let mut command = command("daemon");
    let output = command
        .env("AZURE_TENANT_ID", "contoso.onmicrosoft.com")
        .output()
        .unwrap();
    assert!(!output.status.success());
    Printed::of(&output).has(&["set AZURE_CLIENT_ID; set one of AZURE_CLIENT_SECRET"]);
}

#[test]
fn certificate() {
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
fn mutual_tls() {
    let printed = run("mutual_tls", &[]);
    let certificates = printed.values("certificate ");
    assert_eq!(certificates.len(), 2, "{}", printed.0);
    assert_ne!(certificates[0], certificates[1]);
    printed.count(2, &["v1.0/orders ", "200 OK"]);
    printed.value("the token without the certificate:", "401 Unauthorized");
}

#[test]
fn dpop() {
    let printed = run("dpop", &[]);
    printed.has(&["scheme of the token", "DPoP"]);
    printed.has(&["token requests", "2"]);
    printed.has(&["v1/orders", "200"]);
    printed.has(&["v1/invoices", "200"]);
    printed.has(&["requests to the API", "3"]);
    printed.has(&["with a proof", "200"]);
    printed.has(&["the proof a second time", "401"]);
    printed.has(&["the stolen token", "401"]);
}

#[test]
fn key_vault() {
    let printed = run("key_vault", &[]);
    let versions = printed.values("version");
    assert_eq!(versions.len(), 4, "{}", printed.0);
    assert!(versions[..3].iter().all(|version| *version == versions[0]));
    assert_ne!(versions[2], versions[3]);
    printed.count(2, &["GET /certificates/daemon/versions"]);
    printed.count(2, &["POST /keys/daemon/", versions[0], "/sign"]);
    printed.count(1, &["POST /keys/daemon/", versions[3], "/sign"]);
    printed.value("token requests", "3");
}

#[test]
fn vault_signer() {
    let printed = run("vault_signer", &[]);
    printed.count(2, &["token  ", ", from Cache"]);
    printed.value("signatures", "1");
    printed.has(&["  failed ", "the assertion could not be signed"]);
    printed.value(
        "because",
        "the vault answered 503 Service Unavailable: Vault is sealed",
    );
    printed.value("token requests", "1");
}

#[test]
fn federated() {
    let printed = run("federated", &[]);
    printed.count(4, &["  token ", ", from IdentityProvider"]);
    let mut tokens = printed.values("with token");
    assert_eq!(tokens.len(), 4, "{}", printed.0);
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "{}", printed.0);
    printed.count(2, &["issued to ", "system:serviceaccount:jobs:daemon"]);
}

#[test]
fn multi_tenant() {
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
fn claims_challenge() {
    let printed = run("claims_challenge", &[]);
    printed.count(3, &["  the API says ", "200 "]);
    printed.count(
        1,
        &["  the API says ", "401 after 4 calls and 2 token requests"],
    );
    printed.has(&["  the API asks for {\"access_token\":{\"nbf\""]);
}

/// Checks an example whose adapter attaches one token to two calls.
fn two_calls_with_one_token(name: &str) {
    let printed = run(name, &[]);
    printed.count(2, &["200 OK ", "\"roles\":[\"User.Read.All\"]"]);
    printed.value("token requests", "1");
}

#[test]
fn call_api_reqwest() {
    two_calls_with_one_token("call_api_reqwest");
}

#[test]
fn call_api_tower() {
    two_calls_with_one_token("call_api_tower");
}

#[test]
fn agent_identity() {
    let printed = run("agent_identity", &[]);
    let agent = "client f47ac10b-58cc-4372-a567-0e02b2c3d479, blueprint 11111111-2222-3333-4444-555555555555, agent true, agent's user";
    for (how, holder, is_agent_user) in [
        ("for itself", "Application", false),
        ("on behalf of a user", "User", false),
        ("as its user account", "User", true),
    ] {
        let shown = format!("holder {holder}, {agent} {is_agent_user}");
        printed.value(&format!("{how}:"), &shown);
    }
    printed.has(&["5 token requests"]);
}

#[test]
fn delegated_access() {
    let printed = run("delegated_access", &[]);
    let response = |caller: &str, file: &str| {
        let lines = printed.lines(&[caller, file]);
        assert_eq!(lines.len(), 1, "{caller}, {file} in\n{}", printed.0);
        lines.concat()
    };
    let granted = response("adele by the printer", "adele's file");
    assert!(granted.ends_with(" 200 what is in notes"), "{granted}");
    let user_denied = response("adele by the printer", "megan's file");
    assert!(
        user_denied.contains(" 403 the user may not do this"),
        "{user_denied}"
    );
    let client_denied = response("adele by the planner", "adele's file");
    assert!(
        client_denied.ends_with(" 403 the client was not granted the scope 'Files.Read'"),
        "{client_denied}"
    );
    let both_denied = response("adele by the planner", "megan's file");
    assert!(
        both_denied.contains(" 403 the client was not granted "),
        "{both_denied}"
    );
    assert!(both_denied.contains("; the user may not"), "{both_denied}");
    let backup = printed.lines(&["the backup by itself", "403 this "]);
    assert_eq!(backup.len(), 2, "{}", printed.0);
    for line in backup {
        assert!(line.contains("user") && line.contains("token"), "{line}");
    }
}

#[test]
fn token_exchange() {
    let printed = run("token_exchange", &[]);
    printed.count(3, &["the gateway for adele: 200 three orders, by gateway"]);
    printed.count(1, &["exchanges: 1, introspections: 1"]);
    printed.count(1, &["for the scope delete: 400 invalid_scope"]);
    printed.count(1, &["after the revocation: 401 the token is not active"]);
}

#[test]
fn web_sign_in() {
    let printed = run("web_sign_in", &["--walk"]);
    printed.has(&["200  Permissions requested ", "/sign-in/user"]);
    printed.count(2, &["200  Your file ", "/file"]);
    printed.has(&["403  You declined ", "/signed-in"]);
}

#[test]
fn long_running() {
    let printed = run("long_running", &[]);
    printed.count(7, &[" health token_good_for_s="]);
    printed.count(1, &[" ended rounds=7 "]);
}

#[test]
fn fleet() {
    let printed = run("fleet", &[]);
    if !printed.lines(&["there is no redis-server"]).is_empty() {
        // The test harness does not capture this.
        let line =
            b"the example fleet ran in one process: install the Debian package redis-server\n";
        stderr().write_all(line).unwrap();
        printed.value("IdentityProvider", "1");
        printed.value("SharedCache", "19");
        printed.value("token requests", "1");
        return;
    }
    // 20 processes start, one is killed, Redis is killed, and starts again.
    assert_eq!(
        printed.values("token requests"),
        ["1", "2", "0", "19", "1"],
        "{}",
        printed.0
    );
    assert_eq!(printed.values("IdentityProvider"), ["1", "1", "19", "1"]);
    assert_eq!(printed.values("SharedCache"), ["19", "18", "18"]);
    assert_eq!(printed.values("Cache"), ["19"]);
    printed.count(0, &["error"]);
}

#[test]
fn file_store() {
    let printed = run("file_store", &[]);
    printed.value("first process", "token from identity_provider");
    for shared in ["second process", "the user's token", "the application's"] {
        printed.value(shared, "token from shared_cache");
    }
    printed.value("token requests", "2");
    printed.has(&["the store passes the checks"]);
}

#[test]
fn pkcs11() {
    let printed = run("pkcs11", &[]);
    if !printed.lines(&["there is no SoftHSM"]).is_empty() {
        // The test harness does not capture this.
        let line = b"the example pkcs11 had no token: install the Debian package softhsm2\n";
        stderr().write_all(line).unwrap();
        return;
    }
    let renewed = [
        printed.values("old thumbprint"),
        printed.values("new thumbprint"),
    ];
    assert_eq!(printed.values("thumbprint"), renewed.concat());
    printed.has(&["no private key 'sinning'; ", "'signing' (id 02)"]);
    printed.has(&["the token 'other' is not present", "'daemon'"]);
    printed.value("token requests", "2");
    assert!(!printed.0.contains("4815162342"), "{}", printed.0);
}

#[test]
fn azure_sdk() {
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
fn test_your_daemon() {
    run("test_your_daemon", &[]).count(4, &["ok "]);
}

#[test]
fn call_api_grpc() {
    let printed = run("call_api_grpc", &[]);
    printed.count(2, &["with a token", " SERVING"]);
    printed.count(1, &["without a token", " Unauthenticated: "]);
    printed.value("token requests", "1");
}

#[test]
fn managed_identity() {
    let printed = run("managed_identity", &[]);
    printed.count(6, &["the system-assigned identity", "a token for"]);
    printed.count(5, &["the user-assigned identity", "a token for"]);
    printed.count(1, &["CloudShell", "the user-assigned identity", "cannot"]);
}

#[test]
fn keyless_app() {
    let printed = run("keyless_app", &[]);
    printed.count(
        1,
        &["not assigned: the assertion provider", "is not assigned to"],
    );
    printed.count(4, &["a token of https://graph.microsoft.com/.default"]);
    printed.count(4, &["a token of https://storage.azure.com/.default"]);
    printed.value("Imds requests", "1");
    printed.value("AppService requests", "1");
    printed.count(1, &["not trusted: ", "AADSTS700213"]);
    printed.value("token requests", "9");
}

/// A program that serves until the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn local_managed_identity() {
    let mut command = command("local_managed_identity");
    command.arg("app-service").stdout(Stdio::piped());
    let mut server = Server(command.spawn().unwrap());
    let output = BufReader::new(server.0.stdout.take().unwrap());
    let lines = output.lines().map(Result::unwrap);
    let lines: Vec<String> = lines
        .take_while(|line| !line.starts_with("# serving"))
        .collect();
    let exported = lines.iter().filter_map(|line| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name, value))
    });
    let host = HostEnvironment::from_variables(exported);
    let comment = |label| lines.iter().find_map(|line| line.strip_prefix(label));
    let client_id = comment("# user-assigned client_id ").unwrap();
    let identity = ManagedIdentity::user_assigned_client_id(client_id);
    let client = ManagedIdentityClient::builder(identity).environment(host);
    let client = client.build().unwrap();
    let token = client.acquire_token("https://vault.azure.net/.default");
    assert!(token.await.unwrap().secret().starts_with("eyJ"));
    assert!(server.0.try_wait().unwrap().is_none());
    #[cfg(unix)]
    {
        // The program removes its temporary folder after Ctrl-C.
        let process = server.0.id().to_string();
        let kill = Command::new("kill").args(["-INT", &process]).status();
        assert!(kill.unwrap().success());
        assert!(server.0.wait().unwrap().success());
    }
}

#[test]
fn credential_chain() {
    let printed = run("credential_chain", &[]);
    printed.value("App Service:", "managed identity");
    printed.count(
        1,
        &["without the identity: managed identity, which the credential chain selected"],
    );
    printed.value("the machine:", "agent");
    printed.count(
        1,
        &[
            "no credential: no credential of the chain is available",
            "environment: AZURE_TENANT_ID",
            "Azure CLI: ",
            "not installed",
            "agent: no agent runs",
        ],
    );
}

/// The picture is drawn from the metrics, so its marks prove that the metrics have the day.
#[test]
fn metrics_of_a_day() {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("metrics-of-a-day-{}.svg", std::process::id()));
    let printed = run("metrics_of_a_day", &[path.to_str().unwrap()]);
    printed.has(&["the picture is in"]);
    let numbers = |label| -> Vec<f64> {
        let values = printed.values(label).into_iter();
        values.map(|value| value.parse().unwrap()).collect()
    };
    // Tokens of one hour run out in the outage, and tokens of two hours do not.
    let errors = numbers("minutes with errors");
    assert!(matches!(errors[..], [1.0..=40.0, 0.0]), "{errors:?}");
    assert!(numbers("hits").iter().all(|hits| *hits > 50_000.0));
    assert!(numbers("failed").iter().all(|failed| *failed > 0.0));

    let picture = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let committed = include_str!("../docs/metrics-of-a-day.svg");
    for (name, picture) in [("the new one", &*picture), ("the one in docs", committed)] {
        for (mark, count) in [
            ("class=\"outage\"", 1),
            ("class=\"lifetime\"", 2),
            ("class=\"refreshes\"", 2),
            ("class=\"issued\"", 1),
            ("class=\"failed\"", 1),
            ("class=\"open\"", 1),
            ("class=\"unavailable\"", 1),
            ("class=\"errors\"", 1),
            ("class=\"hits\"", 2),
            ("class=\"misses\"", 1),
            (">14:00</text>", 1),
            (">never</text>", 2),
        ] {
            assert_eq!(picture.matches(mark).count(), count, "{mark} in {name}");
        }
        assert!(
            !picture.contains("NaN") && !picture.contains("d=\"\""),
            "{name}"
        );
        assert!(
            picture.len() < 60_000 && !picture.contains("\n\n"),
            "{name}"
        );
    }
}
