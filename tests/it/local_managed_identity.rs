//! `LocalManagedIdentity` by raw HTTP: its checks, its spellings and its faults.

use std::time::Duration;

use confidential_client::credential::ManagedIdentity;
use confidential_client::testing::{
    Application, AssignedIdentity, Fault, HostKind, LocalAuthority, LocalManagedIdentity,
    ManualClock,
};
use confidential_client::{ConfidentialClient, Error, ManagedIdentityClient};
use serde_json::{Value, json};

use crate::support::{CLIENT_ID, SCOPE, TENANT, client_of};

const RESOURCE: &str = "https://vault.azure.net";

/// A request to an endpoint, with the right headers and parameters until a test changes them.
#[derive(Clone)]
struct RawRequest {
    url: String,
    certificate: String,
    is_form: bool,
    headers: Vec<(&'static str, String)>,
    parameters: Vec<(&'static str, String)>,
}

impl RawRequest {
    fn new(host: &LocalManagedIdentity, kind: HostKind) -> Self {
        let variables = host.variables(kind);
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        let metadata = ("Metadata", "true".to_owned());
        let version = |version: &str| ("api-version", version.to_owned());
        let secret = || {
            let secret = variable("IDENTITY_HEADER").or(variable("MSI_SECRET"));
            secret.unwrap()
        };
        let (header, version) = match kind {
            HostKind::Imds => (metadata, Some(version("2018-02-01"))),
            HostKind::AppService => (("X-IDENTITY-HEADER", secret()), Some(version("2019-08-01"))),
            HostKind::ServiceFabric => (("secret", secret()), Some(version("2020-05-01"))),
            HostKind::AzureArc => (metadata, Some(version("2020-06-01"))),
            HostKind::CloudShell => (metadata, None),
            HostKind::AzureMl => (("secret", secret()), Some(version("2017-09-01"))),
            _ => panic!("{kind:?}"),
        };
        let endpoint = variable("IDENTITY_ENDPOINT").or(variable("MSI_ENDPOINT"));
        let resource = ("resource", RESOURCE.to_owned());
        Self {
            url: endpoint.unwrap_or_else(|| {
                let base = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap();
                format!("{base}/metadata/identity/oauth2/token")
            }),
            certificate: host.service_fabric_certificate(),
            is_form: kind == HostKind::CloudShell,
            headers: vec![header],
            parameters: version.into_iter().chain([resource]).collect(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    fn without_headers(mut self) -> Self {
        self.headers.clear();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| *known != name);
        self
    }

    async fn send(self) -> Result<reqwest::Response, reqwest::Error> {
        let certificate = reqwest::Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy();
        let client = client.tls_certs_only([certificate]).build().unwrap();
        let mut url = url::Url::parse(&self.url).unwrap();
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let form = form.extend_pairs(&self.parameters).finish();
        let mut request = match self.is_form {
            true => client
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form),
            false => {
                url.set_query(Some(&form));
                client.get(url)
            }
        };
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    /// Returns the status and the body.
    async fn json(self) -> (u16, Value) {
        let response = self.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    /// Answers the challenge of an Azure Arc agent, and returns the status and the body.
    async fn json_after_challenge(self) -> (u16, Value) {
        let challenge = self.clone().send().await.unwrap();
        assert_eq!(challenge.status(), 401);
        let realm = challenge.headers()["www-authenticate"].to_str().unwrap();
        let path = realm.strip_prefix("Basic realm=").unwrap();
        let key = std::fs::read_to_string(path).unwrap();
        self.header("Authorization", format!("Basic {key}"))
            .json()
            .await
    }
}

async fn token(host: &LocalManagedIdentity, kind: HostKind) -> Value {
    let request = RawRequest::new(host, kind);
    let (status, body) = match kind {
        HostKind::AzureArc => request.json_after_challenge().await,
        _ => request.json().await,
    };
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn each_host_spells_numbers_and_times_in_its_own_way() {
    let host = LocalManagedIdentity::start().await.unwrap();
    for kind in HostKind::ALL {
        let body = token(&host, kind).await;
        assert_eq!(body["resource"], RESOURCE, "{kind:?}");
        assert_eq!(body["token_type"], "Bearer", "{kind:?}");
        let members = body.as_object().unwrap().len();
        match kind {
            HostKind::Imds | HostKind::AzureArc | HostKind::CloudShell => {
                for name in ["expires_in", "ext_expires_in", "expires_on", "not_before"] {
                    let digits = body[name].as_str().unwrap();
                    assert!(digits.parse::<u64>().is_ok(), "{kind:?} {name}");
                }
                assert_eq!(body["refresh_token"], "");
                assert_eq!(members, 9, "{kind:?}");
            }
            HostKind::AppService | HostKind::AzureMl => {
                let digits = body["expires_on"].as_str().unwrap();
                assert!(digits.parse::<u64>().is_ok());
                assert_eq!(members, 5);
            }
            HostKind::ServiceFabric => {
                assert!(body["expires_on"].is_u64());
                assert_eq!(members, 4);
            }
            _ => panic!("{kind:?}"),
        }
    }
    let imds = token(&host, HostKind::Imds).await;
    let id = host.system_assigned().unwrap();
    assert_eq!(imds["client_id"], id.client_id());
}

#[tokio::test]
async fn a_request_that_is_not_as_the_host_wants_it_is_rejected_in_the_hosts_form() {
    let host = LocalManagedIdentity::start().await.unwrap();
    host.assign(AssignedIdentity::new(CLIENT_ID));
    let request = |kind| RawRequest::new(&host, kind);
    let imds = || request(HostKind::Imds);
    let app_service = || request(HostKind::AppService);
    let fabric = || request(HostKind::ServiceFabric);
    let arc = || request(HostKind::AzureArc);
    let cloud_shell = || request(HostKind::CloudShell);
    let azure_ml = || request(HostKind::AzureMl);
    let no_header = "Required metadata header not specified";
    for (name, request, status, code, text) in [
        (
            "header",
            imds().without_headers(),
            400,
            "/error=bad_request_102",
            no_header,
        ),
        (
            "value",
            imds().header("Metadata", "yes"),
            400,
            "/error=bad_request_102",
            no_header,
        ),
        (
            "forwarded",
            imds().header("X-Forwarded-For", "10.0.0.1"),
            400,
            "/error=invalid_request",
            "X-Forwarded-For",
        ),
        (
            "version",
            imds().without("api-version"),
            400,
            "/error=invalid_request",
            "The api-version '' is not supported",
        ),
        (
            "version of another host",
            imds()
                .without("api-version")
                .with("api-version", "2017-09-01"),
            400,
            "/error=invalid_request",
            "'2018-02-01'",
        ),
        (
            "resource",
            imds().without("resource"),
            400,
            "/error=invalid_request",
            "Required audience parameter",
        ),
        (
            "id of App Service",
            imds().with("mi_res_id", "/subscriptions/1"),
            400,
            "/error=invalid_request",
            "no parameter 'mi_res_id'",
        ),
        (
            "two ids",
            imds()
                .with("client_id", CLIENT_ID)
                .with("object_id", CLIENT_ID),
            400,
            "/error=invalid_request",
            "'client_id' and 'object_id' exclude one another",
        ),
        (
            "an id twice",
            imds()
                .with("client_id", CLIENT_ID)
                .with("client_id", CLIENT_ID),
            400,
            "/error=invalid_request",
            "'client_id' is sent twice",
        ),
        (
            "another kind of id",
            imds().with("object_id", CLIENT_ID),
            400,
            "/error=invalid_request",
            "Identity not found",
        ),
        (
            "header",
            app_service().without_headers(),
            400,
            "/statusCode=400",
            "no header 'x-identity-header'",
        ),
        (
            "header of Service Fabric",
            app_service().without_headers().header("secret", "x"),
            400,
            "/statusCode=400",
            "no header 'x-identity-header'",
        ),
        (
            "secret",
            app_service().header("X-IDENTITY-HEADER", "x"),
            401,
            "/statusCode=401",
            "The secret of the request is wrong",
        ),
        (
            "version of 2017",
            app_service()
                .without("api-version")
                .with("api-version", "2017-09-01"),
            400,
            "/statusCode=400",
            "'2017-09-01' is not supported",
        ),
        (
            "id of IMDS",
            app_service().with("msi_res_id", "/subscriptions/1"),
            400,
            "/statusCode=400",
            "no parameter 'msi_res_id'",
        ),
        (
            "not assigned",
            app_service().with("principal_id", CLIENT_ID),
            400,
            "/statusCode=400",
            "No Managed Identity found",
        ),
        (
            "header",
            fabric().without_headers(),
            400,
            "/error/code=SecretHeaderNotFound",
            "Secret is not found",
        ),
        (
            "version",
            fabric().without("api-version").with("api-version", "1"),
            400,
            "/error/code=InvalidApiVersion",
            "The api-version '1' is not supported",
        ),
        (
            "resource",
            fabric().without("resource"),
            400,
            "/error/code=ArgumentNullOrEmpty",
            "'resource'",
        ),
        (
            "id",
            fabric().with("client_id", CLIENT_ID),
            400,
            "/error/code=InternalServerError",
            "no parameter 'client_id'",
        ),
        (
            "not assigned",
            fabric().with("principalId", CLIENT_ID),
            404,
            "/error/code=ManagedIdentityNotFound",
            "not assigned",
        ),
        (
            "header",
            arc().without_headers(),
            400,
            "/error=bad_request_102",
            no_header,
        ),
        (
            "not assigned",
            arc().with("object_id", CLIENT_ID),
            400,
            "/error=invalid_request",
            "Identity not found",
        ),
        (
            "header",
            cloud_shell().without_headers(),
            400,
            "/error/code=bad_request_102",
            no_header,
        ),
        (
            "id",
            cloud_shell().with("client_id", CLIENT_ID),
            400,
            "/error/code=invalid_request",
            "no parameter 'client_id'",
        ),
        (
            "version",
            cloud_shell().with("api-version", "2018-02-01"),
            400,
            "/error/code=invalid_request",
            "no parameter 'api-version'",
        ),
        (
            "id of IMDS",
            azure_ml().with("client_id", CLIENT_ID),
            400,
            "/statusCode=400",
            "The parameters are 'resource', 'clientid'",
        ),
        (
            "secret",
            azure_ml().header("secret", "x"),
            401,
            "/statusCode=401",
            "The secret of the request is wrong",
        ),
    ] {
        let url = request.url.clone();
        let (got, body) = request.json().await;
        assert_eq!(got, status, "{url} {name}: {body}");
        let (pointer, expected) = code.split_once('=').unwrap();
        let code = body.pointer(pointer).unwrap().to_string();
        assert_eq!(code.trim_matches('"'), expected, "{url} {name}: {body}");
        let texts = ["/error_description", "/message", "/error/message"];
        let found = texts.iter().find_map(|it| body.pointer(it)).unwrap();
        assert!(
            found.as_str().unwrap().contains(text),
            "{url} {name}: {body}"
        );
    }
    // The method is checked, too.
    let mut request = cloud_shell();
    request.is_form = false;
    assert_eq!(request.send().await.unwrap().status(), 405);
    // MSAL for Node.js sends a slash at the end.
    let mut request = imds();
    request.url.push('/');
    assert_eq!(request.json().await.0, 200);
}

#[tokio::test]
async fn a_request_without_an_id_means_the_system_assigned_or_the_only_identity() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let of = async |kind| RawRequest::new(&host, kind).json().await;
    let (one, other) = (AssignedIdentity::new("one"), AssignedIdentity::new("other"));
    host.assign(one);
    let system = host.system_assigned().unwrap();
    assert_eq!(of(HostKind::Imds).await.1["client_id"], system.client_id());
    host.assign_system(None);
    assert_eq!(of(HostKind::Imds).await.1["client_id"], "one");
    host.assign(other);
    let (status, body) = of(HostKind::Imds).await;
    let text = body["error_description"].as_str().unwrap();
    assert_eq!(status, 400);
    assert!(text.starts_with("Multiple user assigned identities exist"));
    let (status, body) = of(HostKind::AppService).await;
    assert_eq!((status, &body["statusCode"]), (400, &json!(400)));
    // An identity replaces the identity of the same client id.
    let new = AssignedIdentity::new("one");
    host.assign(new.clone());
    let request = RawRequest::new(&host, HostKind::Imds).with("object_id", new.object_id());
    assert_eq!(request.json().await.1["client_id"], "one");
}

#[tokio::test]
async fn a_resource_that_the_tenant_does_not_have_is_rejected() {
    let local = LocalAuthority::start().await.unwrap();
    local.register_resource(TENANT, "https://graph.microsoft.com");
    let host = local.managed_identity(TENANT).await.unwrap();
    let of = async |kind| RawRequest::new(&host, kind).json().await;
    let (status, body) = of(HostKind::Imds).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_resource")));
    let text = body["error_description"].as_str().unwrap();
    assert!(text.starts_with("AADSTS500011: "), "{text}");
    let (status, body) = of(HostKind::CloudShell).await;
    let code = &body["error"]["code"];
    assert_eq!((status, code), (400, &json!("AudienceNotSupported")));
    // A role of the identity makes the resource known.
    host.assign_system(AssignedIdentity::new(CLIENT_ID).role(RESOURCE, "Secrets.Read"));
    assert_eq!(of(HostKind::Imds).await.0, 200);
}

#[tokio::test]
async fn faults_replace_the_next_responses_in_the_form_of_the_host() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let request = |kind| RawRequest::new(&host, kind);
    let page = "<html>Denied</html>";
    host.script([
        Fault::status(400),
        Fault::status(404),
        Fault::status(404),
        Fault::status(410),
        Fault::status(429).retry_after(2),
        Fault::aadsts(500011),
        Fault::status(503),
    ]);
    for (status, code) in [
        (400, "invalid_request"),
        (404, "not_found"),
        (404, "not_found"),
        (410, "gone"),
        (429, "too_many_requests"),
        (400, "invalid_resource"),
        (503, "server_error"),
    ] {
        let response = request(HostKind::Imds).send().await.unwrap();
        assert_eq!(response.status(), status);
        let retry_after = response.headers().get("retry-after").cloned();
        assert_eq!(retry_after.is_some(), status == 429);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"], code, "{body}");
    }
    assert_eq!(request(HostKind::Imds).json().await.0, 200);
    for (kind, status, pointer, code) in [
        (
            HostKind::AppService,
            400,
            "/message",
            "No Managed Identity found",
        ),
        (HostKind::AppService, 503, "/statusCode", "503"),
        (
            HostKind::ServiceFabric,
            404,
            "/error/code",
            "ManagedIdentityNotFound",
        ),
        (
            HostKind::CloudShell,
            400,
            "/error/message",
            "Identity not found",
        ),
    ] {
        host.script([Fault::status(status)]);
        let (got, body) = request(kind).json().await;
        assert_eq!(got, status, "{kind:?}: {body}");
        let text = body.pointer(pointer).unwrap().to_string();
        assert!(text.contains(code), "{kind:?}: {body}");
    }

    host.script([Fault::status(403).body(page)]);
    let response = request(HostKind::AppService).send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    assert_eq!(response.text().await.unwrap(), page);
    host.script([
        Fault::truncated(),
        Fault::dropped(),
        Fault::dropped_in_body(),
    ]);
    let half = request(HostKind::Imds).send().await.unwrap();
    let half = half.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&half).is_err());
    assert!(request(HostKind::Imds).send().await.is_err());
    let cut = request(HostKind::Imds).send().await.unwrap();
    assert!(cut.text().await.is_err());

    host.script([Fault::delayed(Duration::MAX)]);
    let hanging = tokio::time::timeout(Duration::from_millis(100), request(HostKind::Imds).send());
    assert!(hanging.await.is_err());
    host.begin_outage(Fault::status(500));
    assert_eq!(request(HostKind::Imds).json().await.0, 500);
    assert_eq!(request(HostKind::AzureMl).json().await.0, 500);
    host.end_outage();
    assert_eq!(request(HostKind::Imds).json().await.0, 200);
}

#[tokio::test]
async fn an_update_of_imds_ends_by_the_clock_of_the_authority() {
    const UPDATE: Duration = Duration::from_secs(70);
    let clock = ManualClock::new();
    let local = LocalAuthority::builder().clock(clock.clone());
    let local = local.start().await.unwrap();
    let host = local.managed_identity(TENANT).await.unwrap();
    let status = async || RawRequest::new(&host, HostKind::Imds).json().await.0;
    let identity = ManagedIdentity::system_assigned();
    let client = ManagedIdentityClient::builder(identity)
        .environment(host.environment(HostKind::Imds))
        // No time for a retry after ten seconds, which tokio's timer would count.
        .deadline(Duration::from_secs(3))
        .clock(clock.clone())
        .build()
        .unwrap();
    host.begin_outage_for(Fault::status(410), UPDATE);
    let error = client.acquire_token(RESOURCE).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 410);
    host.script([Fault::status(429)]);
    assert_eq!((status().await, status().await), (429, 410));
    clock.advance(Duration::from_secs(69));
    assert_eq!(status().await, 410);
    clock.advance(Duration::from_secs(1));
    assert_eq!(status().await, 200);
    client.acquire_token(RESOURCE).await.unwrap();

    host.begin_outage_for(Fault::status(410), Duration::MAX);
    assert_eq!(status().await, 410);
    host.end_outage();
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn the_two_requests_to_an_azure_arc_agent_count_as_one_for_a_fault() {
    let host = LocalManagedIdentity::start().await.unwrap();
    host.script([Fault::status(429)]);
    let request = || RawRequest::new(&host, HostKind::AzureArc);
    assert_eq!(request().json_after_challenge().await.0, 429);
    assert_eq!(request().json_after_challenge().await.0, 200);
    let wrong = request().header("Authorization", "Basic another");
    let response = wrong.send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
    // The agent names the identity of the token as the request does.
    let identity = AssignedIdentity::new(CLIENT_ID);
    host.assign(identity.clone());
    let request = request().with("msi_res_id", identity.resource_id());
    let (_, body) = request.json_after_challenge().await;
    assert_eq!(body["msi_res_id"], identity.resource_id());
    assert_eq!(host.requests().len(), 7);
}

#[tokio::test]
async fn the_old_secret_is_rejected_after_a_new_one() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let old = RawRequest::new(&host, HostKind::AppService);
    host.roll_secret();
    assert_eq!(old.json().await.0, 401);
    token(&host, HostKind::AppService).await;
}

const EXCHANGE: &str = "api://AzureADTokenExchange";

/// Returns a client whose assertion is a token of a managed identity.
async fn keyless_client(
    local: &LocalAuthority,
    host: &LocalManagedIdentity,
    audience: &str,
) -> ConfidentialClient {
    let request = RawRequest::new(host, HostKind::Imds).without("resource");
    let request = request
        .with("resource", audience)
        .with("client_id", "identity");
    let (_, body) = request.json().await;
    let token = body["access_token"].as_str().unwrap().to_owned();
    client_of(local)
        .client_assertion(move |_| std::future::ready(Ok(token.clone())))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_token_of_a_managed_identity_is_a_federated_credential() {
    let local = LocalAuthority::start().await.unwrap();
    let host = local.managed_identity("identities.example").await.unwrap();
    assert_eq!(local.issuer("identities.example").unwrap(), host.issuer());
    let identity = AssignedIdentity::new("identity");
    let (issuer, subject) = (host.issuer(), identity.object_id());
    host.assign(identity);
    let stranger = LocalManagedIdentity::start().await.unwrap();
    let strange_identity = AssignedIdentity::new("identity");
    let strange_subject = strange_identity.object_id();
    stranger.assign(strange_identity);
    let elsewhere = stranger.issuer();
    for (name, host, accepted, audience, code) in [
        ("accepted", &host, (&issuer, &subject), EXCHANGE, None),
        (
            "issuer",
            &host,
            (&elsewhere, &subject),
            EXCHANGE,
            Some(700211),
        ),
        (
            "subject",
            &host,
            (&issuer, &strange_subject),
            EXCHANGE,
            Some(700213),
        ),
        (
            "audience",
            &host,
            (&issuer, &subject),
            RESOURCE,
            Some(700212),
        ),
        // The keys of the authority did not sign the token.
        (
            "signature",
            &stranger,
            (&elsewhere, &strange_subject),
            EXCHANGE,
            Some(7000274),
        ),
    ] {
        let (issuer, subject) = accepted;
        let daemon = Application::new(CLIENT_ID);
        local.register(
            TENANT,
            daemon.federated_credential(issuer, subject, EXCHANGE),
        );
        let client = keyless_client(&local, host, audience).await;
        match (client.acquire_token_for_client(SCOPE).await, code) {
            (Ok(_), None) => {}
            (Err(Error::Server(server)), Some(code)) => {
                assert_eq!(server.error_codes()[0], code, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_web_api_accepts_the_token_of_a_managed_identity() {
    let local = LocalAuthority::start().await.unwrap();
    let host = local.managed_identity(TENANT).await.unwrap();
    let api = local.protected_api(RESOURCE).await.unwrap();
    let body = token(&host, HostKind::AppService).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(api.base_url());
    let request = request.bearer_auth(body["access_token"].as_str().unwrap());
    let response: Value = request.send().await.unwrap().json().await.unwrap();
    let system = host.system_assigned().unwrap();
    assert_eq!(response["oid"], system.object_id());
}

#[tokio::test]
async fn a_recorded_request_shows_its_parameters_and_no_secret() {
    let host = LocalManagedIdentity::start().await.unwrap();
    let request = RawRequest::new(&host, HostKind::ServiceFabric);
    let request = request.with("token_sha256_to_refresh", "c0ffee");
    assert_eq!(request.json().await.0, 200);
    let request = &host.requests()[0];
    assert_eq!(request.parameter("resource"), Some(RESOURCE));
    assert_eq!(request.parameter("client_id"), None);
    assert_eq!(request.query().len(), 3);
    let text = format!("{request:?}");
    assert!(
        text.contains(RESOURCE) && !text.contains("c0ffee"),
        "{text}"
    );
}
