//! The client of a credential chain: the selection, the winner, the errors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use bytes::Bytes;
use confidential_client::adapter::AzureCredential;
use confidential_client::credential::{
    AzureCli, AzureDeveloperCli, ChainLink, CredentialChain, HostEnvironment, LinkUnavailable,
    ManagedIdentity,
};
use confidential_client::metrics::Acquisition;
use confidential_client::testing::{Fault, HostKind, LocalManagedIdentity, ManualClock};
use confidential_client::time::Clock;
use confidential_client::{
    CacheOptions, CredentialChainClient, CredentialChainClientBuilder, Error, Secret, TokenRequest,
    TokenSource,
};
use http::{Request, Response};

use crate::support::unsigned_jwt;

const VAULT: &str = "https://vault.azure.net/.default";
const STORAGE: &str = "https://storage.azure.com/.default";
const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
const APPLICATION: [(&str, &str); 2] = [
    ("AZURE_TENANT_ID", "contoso.com"),
    ("AZURE_CLIENT_ID", CLIENT_ID),
];
const SECRET: (&str, &str) = ("AZURE_CLIENT_SECRET", "s3cret");

/// A developer's machine: a folder of programs in `PATH`, which is removed when dropped.
struct Machine(PathBuf);

impl Machine {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("chain-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Installs a program that prints a token, and that counts its runs.
    fn install(&self, name: &str) {
        let token = match name {
            "az" => format!(r#"{{"accessToken":"from-{name}","expires_on":32503680000}}"#),
            _ => format!(r#"{{"token":"from-{name}","expiresOn":"2999-12-31T00:00:00Z"}}"#),
        };
        let runs = self.0.join(format!("{name}.runs"));
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> '{}'\necho '{token}'\n",
            runs.display()
        );
        let path = self.0.join(name);
        std::fs::write(&path, script).unwrap();
        make_executable(&path);
    }

    fn runs(&self, name: &str) -> usize {
        let runs = std::fs::read_to_string(self.0.join(format!("{name}.runs")));
        runs.unwrap_or_default().lines().count()
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(not(unix))]
fn make_executable(_: &Path) {}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An environment with these variables, and with the machine's programs besides the shell's.
fn environment(machine: &Machine, variables: &[(&'static str, &str)]) -> HostEnvironment {
    let folders = [&*machine.0, Path::new("/usr/bin"), Path::new("/bin")];
    let path = std::env::join_paths(folders).unwrap();
    let variables = variables.iter().map(|(name, value)| (*name, value.into()));
    let variables: Vec<(&str, OsString)> = variables.chain([("PATH", path)]).collect();
    HostEnvironment::from_variables(variables)
}

/// The environment of a host of this kind, with the machine's programs besides the shell's.
fn environment_of(
    host: &LocalManagedIdentity,
    kind: HostKind,
    machine: &Machine,
) -> HostEnvironment {
    let variables = host.variables(kind);
    let variables = variables.iter().map(|(name, value)| (*name, &**value));
    environment(machine, &variables.collect::<Vec<_>>())
}

/// The network in memory: the identity provider, and IMDS if `imds` is its status.
#[derive(Clone, Default)]
struct Network {
    imds: Option<u16>,
    /// The status of the identity provider's responses without a token.
    rejection: Option<u16>,
    outage: Arc<Mutex<Option<Outage>>>,
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
}

/// What happens to every token request instead of a response. A probe of IMDS gets its response.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Status(u16),
    Hang,
    Dropped,
}

impl Network {
    fn builder(
        &self,
        chain: CredentialChain,
        host: HostEnvironment,
    ) -> CredentialChainClientBuilder {
        let network = self.clone();
        let builder = CredentialChainClient::builder(chain).environment(host);
        builder.transport(move |request: Request<Bytes>| {
            let outage = network.outage_of(&request);
            let response = network.respond(request);
            async move {
                match outage {
                    None => response,
                    Some(Outage::Status(status)) => {
                        Ok(Response::builder().status(status).body(Bytes::new())?)
                    }
                    Some(Outage::Hang) => std::future::pending().await,
                    Some(Outage::Dropped) => Err("the connection was closed".into()),
                }
            }
        })
    }

    fn outage_of(&self, request: &Request<Bytes>) -> Option<Outage> {
        let outage = *self.outage.lock().unwrap();
        outage.filter(|_| !is_probe(request))
    }

    /// Returns the number of probes and of token requests that IMDS received.
    fn imds_requests(&self) -> [usize; 2] {
        let requests = self.requests.lock().unwrap();
        let probes = requests.iter().filter(|request| is_probe(request)).count();
        [
            probes,
            requests.iter().filter(|request| is_imds(request)).count() - probes,
        ]
    }

    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let (is_imds, is_probe) = (is_imds(&request), is_probe(&request));
        self.requests.lock().unwrap().push(request);
        let token = |text: &str| {
            format!(r#"{{"token_type":"Bearer","expires_in":86400,"access_token":"{text}"}}"#)
        };
        let (status, body) = match (is_imds, self.imds, self.rejection) {
            (true, None, _) => return Err("the network is unreachable".into()),
            (true, Some(_), _) if is_probe => (400, String::new()),
            (true, Some(200), _) => (200, token("from-imds")),
            (true, Some(status), _) => (status, r#"{"error":"invalid_resource"}"#.to_owned()),
            (false, _, None) => (200, token("from-entra")),
            (false, _, Some(status)) => (status, r#"{"error":"invalid_client"}"#.to_owned()),
        };
        Ok(Response::builder().status(status).body(body.into())?)
    }

    fn forms(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let forms = requests.iter().map(|request| request.body().to_vec());
        forms.map(|form| String::from_utf8(form).unwrap()).collect()
    }
}

fn is_imds(request: &Request<Bytes>) -> bool {
    request.uri().host() == Some("169.254.169.254")
}

/// Returns whether the request asks for no token, and only whether IMDS exists.
fn is_probe(request: &Request<Bytes>) -> bool {
    is_imds(request) && !request.headers().contains_key("metadata")
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn each_link_of_the_default_chain_issues_the_token_when_it_is_the_first_available_one() {
    let machine = Machine::new();
    machine.install("az");
    machine.install("azd");
    let token_file = machine.0.join("token");
    std::fs::write(&token_file, unsigned_jwt("kubernetes")).unwrap();
    let token_file = ("AZURE_FEDERATED_TOKEN_FILE", token_file.to_str().unwrap());
    let [tenant, client_id] = APPLICATION;
    let identity = ("AZURE_MANAGED_IDENTITY_CLIENT_ID", CLIENT_ID);
    let only = |name| ("AZURE_TOKEN_CREDENTIALS", name);
    let with_imds = Some(200);
    for (variables, imds, link, token) in [
        (
            // The variables of the other links are ignored.
            vec![tenant, client_id, SECRET, token_file, identity],
            with_imds,
            "environment",
            "from-entra",
        ),
        (
            vec![tenant, client_id, token_file, identity],
            with_imds,
            "workload identity",
            "from-entra",
        ),
        (
            vec![
                tenant,
                client_id,
                SECRET,
                token_file,
                ("AZURE_CLIENT_CERTIFICATE_PASSWORD", "s3cret"),
                ("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true"),
                only("WorkloadIdentityCredential"),
            ],
            with_imds,
            "workload identity",
            "from-entra",
        ),
        (
            vec![tenant, SECRET],
            with_imds,
            "managed identity",
            "from-imds",
        ),
        (vec![client_id], with_imds, "managed identity", "from-imds"),
        (vec![], None, "Azure CLI", "from-az"),
        (
            vec![only("dev"), tenant, client_id, SECRET],
            with_imds,
            "Azure CLI",
            "from-az",
        ),
        (
            vec![only("prod")],
            with_imds,
            "managed identity",
            "from-imds",
        ),
        (
            vec![only(" PROD "), tenant, client_id, SECRET],
            None,
            "environment",
            "from-entra",
        ),
        (
            vec![only("AzureDeveloperCliCredential")],
            with_imds,
            "Azure Developer CLI",
            "from-azd",
        ),
    ] {
        let network = Network {
            imds,
            ..Network::default()
        };
        let host = environment(&machine, &variables);
        let client = network.builder(CredentialChain::default(), host);
        let client = client.build().unwrap();
        assert_eq!(client.selected_link(), None);
        let acquired = client.acquire_token(VAULT).await;
        let acquired = acquired.unwrap_or_else(|error| panic!("{variables:?}: {error}"));
        assert_eq!(acquired.secret(), token, "{variables:?}");
        assert_eq!(acquired.source(), TokenSource::IdentityProvider);
        assert_eq!(client.selected_link(), Some(link), "{variables:?}");
        let sent = network.forms();
        let form = sent.last().map_or("", String::as_str);
        assert_eq!(form.contains("client_secret=s3cret"), link == "environment");
        assert_eq!(
            form.contains("client_assertion=ey"),
            link == "workload identity"
        );
        // The resource without `/.default` has the same cache entry.
        let cached = client
            .acquire_token("https://vault.azure.net")
            .await
            .unwrap();
        assert_eq!(cached.source(), TokenSource::Cache);
    }
}

#[tokio::test]
async fn the_error_of_a_chain_without_an_available_link_has_the_reason_of_each_link() {
    let machine = Machine::new();
    let host = HostEnvironment::from_variables([
        ("AZURE_TENANT_ID", "contoso.com"),
        ("PATH", machine.0.to_str().unwrap()),
    ]);
    let own = ChainLink::from_fn("broker", |_| async {
        Err(LinkUnavailable::new("no socket").into())
    });
    let chain = CredentialChain::default().then(own);
    let client = Network::default().builder(chain, host).build().unwrap();
    let error = client.acquire_token(VAULT).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let text = error.to_string();
    let mut rest = text.as_str();
    for part in [
        "no credential of the chain is available",
        "; environment: AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH are not set",
        "; workload identity: AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE are not set",
        "; managed identity: ",
        "the network is unreachable",
        "; Azure CLI: ",
        "not installed",
        "; Azure Developer CLI: ",
        "not installed",
        "; broker: no socket",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part} in {text}"));
        rest = after;
    }
    assert!(rest.starts_with(" (next attempt in "), "{rest}");
    assert_eq!(client.selected_link(), None);
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn a_rejection_ends_the_chain_and_selects_no_other_identity() {
    let machine = Machine::new();
    machine.install("az");
    let [tenant, client_id] = APPLICATION;
    for (variables, network, expected) in [
        (
            vec![tenant, client_id, SECRET],
            Network {
                imds: Some(200),
                rejection: Some(401),
                ..Network::default()
            },
            "the credential chain ended at environment",
        ),
        (
            vec![],
            Network {
                imds: Some(403),
                ..Network::default()
            },
            "the credential chain ended at managed identity, after environment: AZURE_TENANT_ID",
        ),
    ] {
        let host = environment(&machine, &variables);
        let client = network.builder(CredentialChain::default(), host);
        let client = client.build().unwrap();
        let error = client.acquire_token(VAULT).await.unwrap_err();
        assert!(matches!(error, Error::Server(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(client.selected_link(), None);
    }
    assert_eq!(machine.runs("az"), 0);
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn the_host_that_issued_the_first_token_is_kept() {
    let machine = Machine::new();
    machine.install("az");
    let host = LocalManagedIdentity::start().await.unwrap();
    for kind in [HostKind::Imds, HostKind::AppService] {
        let clock = ManualClock::new();
        let client = CredentialChainClient::builder(CredentialChain::default())
            .environment(environment_of(&host, kind, &machine))
            .clock(clock.clone())
            .build()
            .unwrap();
        client.acquire_token(VAULT).await.unwrap();
        assert_eq!(client.selected_link(), Some("managed identity"), "{kind:?}");

        host.begin_outage(Fault::status(400));
        let error = client.acquire_token(STORAGE).await.unwrap_err();
        assert!(
            !error.to_string().contains("no credential of the chain"),
            "{error}"
        );
        host.end_outage();
        // The failure is remembered for a while.
        clock.advance(Duration::from_secs(60));
        client.acquire_token(STORAGE).await.unwrap();
    }
    assert_eq!(machine.runs("az"), 0);
}

const OUTAGES: [Outage; 5] = [
    Outage::Status(500),
    Outage::Status(503),
    Outage::Status(429),
    Outage::Hang,
    Outage::Dropped,
];

/// The time is tokio's paused clock, and the transport is in memory.
#[tokio::test(start_paused = true)]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn an_outage_before_the_first_token_selects_no_other_identity() {
    let machine = Machine::new();
    machine.install("az");
    let [tenant, client_id] = APPLICATION;
    for (variables, link) in [
        (vec![], "managed identity"),
        (vec![tenant, client_id, SECRET], "environment"),
    ] {
        for outage in OUTAGES {
            let clock = ManualClock::new();
            let network = Network {
                imds: Some(200),
                outage: Arc::new(Mutex::new(Some(outage))),
                ..Network::default()
            };
            let host = environment(&machine, &variables);
            let client = network.builder(CredentialChain::default(), host);
            let client = client.clock(clock.clone()).build().unwrap();
            let error = client.acquire_token(VAULT).await.unwrap_err();
            let place = format!("the credential chain ended at {link}");
            assert!(error.to_string().contains(&place), "{outage:?}: {error}");
            assert_eq!(client.selected_link(), None, "{outage:?}");

            *network.outage.lock().unwrap() = None;
            clock.advance(Duration::from_secs(60));
            client.acquire_token(VAULT).await.unwrap();
            assert_eq!(client.selected_link(), Some(link), "{outage:?}");
        }
    }
    assert_eq!(machine.runs("az"), 0);
}

/// The time is tokio's paused clock, and the transport is in memory.
#[tokio::test(start_paused = true)]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn an_outage_of_the_winner_selects_no_other_identity() {
    let machine = Machine::new();
    machine.install("az");
    let clock = ManualClock::new();
    let network = Network {
        imds: Some(200),
        ..Network::default()
    };
    let host = environment(&machine, &[]);
    let client = network.builder(CredentialChain::default(), host);
    let client = client.clock(clock.clone()).build().unwrap();
    client.acquire_token(VAULT).await.unwrap();
    for outage in OUTAGES {
        *network.outage.lock().unwrap() = Some(outage);
        let error = client.acquire_token(STORAGE).await.unwrap_err();
        assert!(error.is_transient(), "{outage:?}: {error:?}");
        let text = error.to_string();
        assert!(!text.contains("credential chain"), "{outage:?}: {text}");
        // The valid token of the winner is served.
        let cached = client.acquire_token(VAULT).await.unwrap();
        assert_eq!(cached.source(), TokenSource::Cache, "{outage:?}");

        *network.outage.lock().unwrap() = None;
        clock.advance(Duration::from_secs(60));
        let token = client.acquire_token(STORAGE).await.unwrap();
        assert_eq!(token.secret(), "from-imds", "{outage:?}");
        assert_eq!(token.source(), TokenSource::IdentityProvider, "{outage:?}");
        client.invalidate(&token);
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(client.selected_link(), Some("managed identity"));
    assert_eq!(machine.runs("az"), 0);
    // The winner's host is probed once.
    assert_eq!(network.imds_requests()[0], 1);
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn a_fault_of_the_winners_host_selects_no_other_identity() {
    let machine = Machine::new();
    machine.install("az");
    for kind in [HostKind::Imds, HostKind::AppService] {
        let host = LocalManagedIdentity::start().await.unwrap();
        let clock = ManualClock::new();
        let client = CredentialChainClient::builder(CredentialChain::default())
            .environment(environment_of(&host, kind, &machine))
            .clock(clock.clone())
            // No time for a retry.
            .deadline(Duration::from_secs(3))
            .build()
            .unwrap();
        client.acquire_token(VAULT).await.unwrap();
        let before = host.requests().len();
        for fault in [
            Fault::status(500),
            Fault::status(503),
            Fault::status(429).retry_after(1),
            Fault::dropped(),
            Fault::dropped_in_body(),
            Fault::truncated(),
            Fault::status(403).body("<html>Denied</html>"),
        ] {
            host.begin_outage(fault.clone());
            let error = client.acquire_token(STORAGE).await.unwrap_err();
            let text = error.to_string();
            assert!(!text.contains("credential chain"), "{fault:?}: {text}");
            clock.advance(Duration::from_secs(60));
        }
        host.end_outage();
        client.acquire_token(STORAGE).await.unwrap();
        assert_eq!(host.requests().len(), before + 8, "{kind:?}");
        assert_eq!(client.selected_link(), Some("managed identity"));
    }
    assert_eq!(machine.runs("az"), 0);
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn a_developers_tool_that_won_is_kept_when_it_is_gone() {
    let machine = Machine::new();
    machine.install("az");
    machine.install("azd");
    let clock = ManualClock::new();
    let client = Network::default().builder(CredentialChain::default(), environment(&machine, &[]));
    let client = client.clock(clock.clone()).build().unwrap();
    client.acquire_token(VAULT).await.unwrap();
    assert_eq!(client.selected_link(), Some("Azure CLI"));
    std::fs::remove_file(machine.0.join("az")).unwrap();
    let error = client.acquire_token(STORAGE).await.unwrap_err();
    let text = error.to_string();
    let expected = "Azure CLI, which the credential chain selected, is not available any more";
    assert!(text.starts_with(expected), "{text}");
    machine.install("az");
    clock.advance(Duration::from_secs(60));
    let token = client.acquire_token(STORAGE).await.unwrap();
    assert_eq!(token.secret(), "from-az");
    assert_eq!((machine.runs("az"), machine.runs("azd")), (2, 0));
}

#[tokio::test]
async fn an_absent_imds_is_probed_again_after_a_minute() {
    let machine = Machine::new();
    let clock = ManualClock::new();
    let network = Network::default();
    let host = HostEnvironment::from_variables([("PATH", machine.0.to_str().unwrap())]);
    let client = network.builder(CredentialChain::default(), host);
    let client = client.clock(clock.clone()).build().unwrap();
    for (scope, advance, probes) in [
        (VAULT, 0, 1),
        // The failure is remembered for each resource, and the absence for the host.
        (STORAGE, 0, 1),
        ("api://orders/.default", 59, 1),
        ("api://reports/.default", 1, 2),
    ] {
        clock.advance(Duration::from_secs(advance));
        let error = client.acquire_token(scope).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the network is unreachable"), "{text}");
        assert_eq!(network.imds_requests(), [probes, 0], "{scope}");
    }
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn a_deployed_program_runs_no_tool_of_a_developer() {
    let machine = Machine::new();
    machine.install("az");
    machine.install("azd");
    let host = environment(&machine, &[("AZURE_TOKEN_CREDENTIALS", "prod")]);
    let network = Network::default();
    let client = network.builder(CredentialChain::default(), host);
    let client = client.build().unwrap();
    let error = client.acquire_token(VAULT).await.unwrap_err();
    let text = error.to_string();
    for name in [
        "; environment: ",
        "; workload identity: ",
        "; managed identity: ",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!text.contains("Azure CLI"), "{text}");
    assert_eq!((machine.runs("az"), machine.runs("azd")), (0, 0));
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn a_host_without_an_identity_is_passed_over() {
    let machine = Machine::new();
    machine.install("azd");
    let host = LocalManagedIdentity::start().await.unwrap();
    host.assign_system(None);
    let chain = CredentialChain::new()
        .then(ManagedIdentity::system_assigned())
        .then(AzureCli::new())
        .then(AzureDeveloperCli::new());
    let client = CredentialChainClient::builder(chain);
    let client = client.environment(environment_of(&host, HostKind::Imds, &machine));
    let client = client.build().unwrap();
    let provider = client.token_provider(VAULT).unwrap();
    assert_eq!(provider.token().await.unwrap().secret(), "from-azd");
    assert_eq!(client.selected_link(), Some("Azure Developer CLI"));
    assert_eq!(machine.runs("azd"), 1);
}

#[tokio::test]
async fn callers_share_a_token_request_of_a_function_and_its_error_ends_the_chain() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&calls);
    let agent = ChainLink::from_fn("agent", move |scope: String| {
        let is_known = scope == VAULT;
        counted.lock().unwrap().push(scope);
        async move {
            tokio::task::yield_now().await;
            match is_known {
                true => Ok((Secret::from("from-agent"), Duration::from_secs(3600))),
                false => Err("unknown scope".into()),
            }
        }
    });
    let clock = ManualClock::new();
    let chain = CredentialChain::new().then(agent);
    let client = CredentialChainClient::builder(chain).clock(clock.clone());
    let client = client.build().unwrap();
    let credential = AzureCredential::new(client.clone());
    let (first, second) = tokio::join!(client.acquire_token(VAULT), client.acquire_token(VAULT));
    assert_eq!(first.unwrap().secret(), "from-agent");
    second.unwrap();
    let token = credential.get_token(&[VAULT], None).await.unwrap();
    assert_eq!(token.token.secret(), "from-agent");
    assert_eq!(*calls.lock().unwrap(), [VAULT]);

    let error = client.acquire_token(STORAGE).await.unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    let chain = error.chain().to_string();
    assert!(chain.contains("agent returned no token"), "{chain}");
    assert!(chain.contains("unknown scope"), "{chain}");

    clock.advance(Duration::from_secs(3600));
    client.acquire_token(VAULT).await.unwrap();
    assert_eq!(*calls.lock().unwrap(), [VAULT, STORAGE, VAULT]);
}

#[tokio::test]
async fn a_token_that_cannot_be_sent_in_a_header_is_rejected() {
    let agent = ChainLink::from_fn("agent", |_| async {
        Ok((Secret::from("from\nagent"), Duration::from_secs(3600)))
    });
    let client = CredentialChainClient::new(CredentialChain::new().then(agent)).unwrap();
    let error = client.acquire_token(VAULT).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("from"), "{error:?}");
}

#[tokio::test]
async fn the_observer_counts_the_requests_of_the_link() {
    let machine = Machine::new();
    let [tenant, client_id] = APPLICATION;
    for (variables, attempts) in [(vec![tenant, client_id, SECRET], 1), (vec![], 1)] {
        let network = Network {
            imds: Some(200),
            ..Network::default()
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let observed = Arc::clone(&seen);
        let host = environment(&machine, &variables);
        let client = network
            .builder(CredentialChain::default(), host)
            .observer(move |acquisition: Acquisition| observed.lock().unwrap().push(acquisition))
            .build()
            .unwrap();
        client.acquire_token(VAULT).await.unwrap();
        let seen = seen.lock().unwrap();
        let counts: Vec<u32> = seen
            .iter()
            .map(|acquisition| acquisition.attempts)
            .collect();
        assert_eq!(counts, [attempts], "{variables:?}");
    }
}

#[tokio::test]
#[cfg_attr(not(unix), ignore = "the programs are shell scripts")]
async fn each_link_dates_its_tokens_by_the_clock_of_the_client() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let machine = Machine::new();
    machine.install("az");
    let own = ChainLink::from_fn("agent", |_| async { Ok((Secret::from("from-agent"), DAY)) });
    let [tenant, client_id] = APPLICATION;
    let chain = CredentialChain::new;
    for (chain, variables, token) in [
        (
            chain().then(ChainLink::environment()),
            vec![tenant, client_id, SECRET],
            "from-entra",
        ),
        (
            chain().then(ManagedIdentity::system_assigned()),
            vec![],
            "from-imds",
        ),
        (chain().then(AzureCli::new()), vec![], "from-az"),
        (chain().then(own), vec![], "from-agent"),
    ] {
        let clock = ManualClock::new();
        clock.advance(500 * DAY);
        let network = Network {
            imds: Some(200),
            ..Network::default()
        };
        let client = network.builder(chain, environment(&machine, &variables));
        let client = client.clock(clock.clone()).build().unwrap();
        let acquired = client.acquire_token(VAULT).await.unwrap();
        assert_eq!(acquired.secret(), token);
        assert!(acquired.expires_on() >= clock.wall() + DAY, "{token}");
        let cached = client.acquire_token(VAULT).await.unwrap();
        assert_eq!(cached.source(), TokenSource::Cache, "{token}");
    }
}

/// The time is tokio's paused clock, and the transport is in memory.
#[tokio::test(start_paused = true)]
async fn a_link_has_its_own_limit_within_the_time_of_the_chain() {
    let machine = Machine::new();
    let [tenant, client_id] = APPLICATION;
    for (variables, outage, seconds) in [
        (vec![], Outage::Status(410), 75),
        (vec![], Outage::Hang, 75),
        (vec![tenant, client_id, SECRET], Outage::Hang, 30),
    ] {
        let network = Network {
            imds: Some(200),
            outage: Arc::new(Mutex::new(Some(outage))),
            ..Network::default()
        };
        let host = environment(&machine, &variables);
        let client = network.builder(CredentialChain::default(), host);
        let client = client.build().unwrap();
        let began = tokio::time::Instant::now();
        client.acquire_token(VAULT).await.unwrap_err();
        let limit = Duration::from_secs(seconds + 3);
        assert!(began.elapsed() <= limit, "{outage:?} {variables:?}");
    }
}

#[tokio::test]
async fn claims_and_capabilities_reach_the_application() {
    let machine = Machine::new();
    let network = Network::default();
    let [tenant, client_id] = APPLICATION;
    let host = environment(&machine, &[tenant, client_id, SECRET]);
    let client = network.builder(CredentialChain::default(), host);
    let client = client.client_capabilities(["cp1"]).build().unwrap();
    client.acquire_token(VAULT).await.unwrap();
    let claims = r#"{"access_token":{"nbf":{"essential":true}}}"#;
    let request = TokenRequest::new(VAULT).claims(claims);
    client.acquire_token(request).await.unwrap();
    let forms = network.forms();
    assert_eq!(forms.len(), 2);
    assert!(forms[0].contains("xms_cc") && !forms[0].contains("nbf"));
    assert!(forms[1].contains("xms_cc") && forms[1].contains("nbf"));
}

#[tokio::test]
#[cfg(feature = "rustls")]
async fn claims_capabilities_and_a_rejected_token_reach_service_fabric() {
    let machine = Machine::new();
    let host = LocalManagedIdentity::start().await.unwrap();
    let client = CredentialChainClient::builder(CredentialChain::default())
        .environment(environment_of(&host, HostKind::ServiceFabric, &machine))
        .client_capabilities(["cp1"])
        .build()
        .unwrap();
    let first = client.acquire_token(VAULT).await.unwrap();
    let rejected = TokenRequest::new(VAULT).rejected_token(&first);
    let second = client.acquire_token(rejected).await.unwrap();
    assert_ne!(second.secret(), first.secret());
    let claims = r#"{"access_token":{"nbf":{"essential":true}}}"#;
    let request = TokenRequest::new(VAULT).claims(claims);
    client.acquire_token(request).await.unwrap();
    let requests = host.requests();
    let sent = requests.iter().map(|request| {
        let capabilities = request.parameter("xms_cc");
        let hash = request.parameter("token_sha256_to_refresh");
        (capabilities, hash.is_some())
    });
    let expected = [(None, false), (Some("cp1"), true), (Some("cp1"), false)];
    assert!(sent.eq(expected), "{requests:?}");
}

#[tokio::test]
async fn wrong_values_are_errors_before_the_network() {
    let machine = Machine::new();
    let network = Network::default();
    let [tenant, client_id] = APPLICATION;
    let build = |chain, variables: &[(&'static str, &str)]| {
        let client = network.builder(chain, environment(&machine, variables));
        client.build().map(drop)
    };
    let no_file = ("AZURE_FEDERATED_TOKEN_FILE", "/no/such/file");
    for (result, expected) in [
        (build(CredentialChain::new(), &[]), "has no link"),
        (
            build(
                CredentialChain::default(),
                &[("AZURE_TOKEN_CREDENTIALS", "production")],
            ),
            "\"production\"",
        ),
        (
            build(
                CredentialChain::default(),
                &[
                    tenant,
                    client_id,
                    no_file,
                    ("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential"),
                ],
            ),
            "AZURE_FEDERATED_TOKEN_FILE",
        ),
        (
            build(CredentialChain::default(), &[("AZURE_CLIENT_ID", "my-app")]),
            "\"my-app\"",
        ),
        (
            build(
                CredentialChain::new().then(AzureCli::new().tenant("a b")),
                &[],
            ),
            "\"a b\"",
        ),
        // The environment's application is always selected before the managed identity.
        (
            build(
                CredentialChain::default(),
                &[tenant, ("AZURE_CLIENT_ID", "my-app"), SECRET],
            ),
            "",
        ),
    ] {
        match result {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => assert!(
                !expected.is_empty() && error.to_string().contains(expected),
                "{expected}: {error}"
            ),
        }
    }
    let builder = || network.builder(CredentialChain::default(), environment(&machine, &[]));
    for (builder, expected) in [
        (
            builder().cache(CacheOptions::default().max_entries(0)),
            "max_entries",
        ),
        (builder().client_capabilities([" "]), "client capability"),
        (builder().deadline(Duration::ZERO), "deadline"),
        (builder().deadline(Duration::from_secs(601)), "deadline"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let client = builder().build().unwrap();
    for (request, expected) in [
        (
            TokenRequest::new(VAULT).tenant("fabrikam.com"),
            "'fabrikam.com'",
        ),
        (
            TokenRequest::new(VAULT).form_parameter("a", "b"),
            "extra parameter",
        ),
        (
            TokenRequest::new("api://a/.default api://b/.default"),
            "'api://b'",
        ),
    ] {
        let error = client.acquire_token(request.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(client.token_provider(request).is_err());
    }
    assert!(network.forms().is_empty());
}
