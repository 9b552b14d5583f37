//! Agent identities: the chain of a blueprint's token (T1), an exchange token (T2) and a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::credential::{AssertionContext, UserFederatedCredential};
use confidential_client::delegated::{UserAssertion, UserIdentifier};
use confidential_client::testing::{
    Application, Fault, LocalAuthority, LocalSharedCache, ManualClock, RecordedRequest, User,
};
use confidential_client::{
    AccessToken, AgentIdentity, Authority, CacheOptions, Cloud, ConfidentialClient,
    ConfidentialClientBuilder, Error, RetryPolicy, TokenRequest, TokenSource,
};
use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{SECRET, TENANT, unsigned_jwt};

const BLUEPRINT: &str = "11111111-2222-3333-4444-555555555555";
const AGENT: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
const OTHER: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d480";
const EXCHANGE: &str = "api://AzureADTokenExchange/.default";
const ORDERS: &str = "api://orders/.default";
const READ: &str = "api://orders/Orders.Read";
const USER: &str = "agent-1@contoso.onmicrosoft.com";

struct Setup {
    local: LocalAuthority,
    user: User,
}

impl Setup {
    async fn start() -> Self {
        Self::at(None).await
    }

    async fn at(clock: Option<&ManualClock>) -> Self {
        let builder = LocalAuthority::builder();
        let builder = match clock {
            Some(clock) => builder.clock(clock.clone()),
            None => builder,
        };
        let local = builder.start().await.unwrap();
        let blueprint = Application::new(BLUEPRINT).secret(SECRET);
        local.register(TENANT, blueprint.publishes("api://blueprint", ["Ask"]));
        for agent in [AGENT, OTHER] {
            let agent = Application::new(agent).agent_identity_of(BLUEPRINT);
            local.register(TENANT, agent.role("api://orders", "Orders.Read.All"));
        }
        let user = User::new(USER).of_agent_identity(AGENT);
        local.register_user(TENANT, user.clone());
        local.register_user(TENANT, User::new("adele@contoso.onmicrosoft.com"));
        for agent in [AGENT, OTHER] {
            local.admin_consent(TENANT, agent, READ);
        }
        Self { local, user }
    }

    fn builder(&self) -> ConfidentialClientBuilder {
        ConfidentialClient::builder(BLUEPRINT)
            .authority(self.local.authority(TENANT))
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
    }

    fn agent(&self) -> AgentIdentity {
        self.builder()
            .build()
            .unwrap()
            .agent_identity(AGENT)
            .unwrap()
    }

    fn user(&self) -> UserIdentifier {
        UserIdentifier::object_id(self.user.object_id())
    }

    /// Returns the names of the steps whose requests arrived.
    fn steps(&self) -> Vec<&'static str> {
        self.local.token_requests().iter().map(step).collect()
    }
}

fn step(request: &RecordedRequest) -> &'static str {
    match (request.field("grant_type").unwrap(), request.field("scope")) {
        ("client_credentials", Some(EXCHANGE)) if request.field("fmi_path").is_some() => "T1",
        ("client_credentials", Some(EXCHANGE)) => "T2",
        ("client_credentials", _) => "app",
        ("user_fic", _) => "user_fic",
        ("refresh_token", _) => "refresh",
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", _) => "obo",
        (other, _) => panic!("{other}"),
    }
}

/// Returns the form without the values that differ from run to run.
fn form(request: &RecordedRequest) -> Vec<(String, String)> {
    let form = request.form().iter().map(|(name, value)| {
        let value = match name.as_str() {
            "client_assertion" | "user_federated_identity_credential" | "assertion" => "(jwt)",
            "refresh_token" => "(secret)",
            _ => value,
        };
        (name.clone(), value.to_owned())
    });
    form.collect()
}

fn claims(jwt: &str) -> Value {
    use base64::Engine;
    let part = jwt.split('.').nth(1).unwrap();
    let json = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part);
    serde_json::from_slice(&json.unwrap()).unwrap()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn t1_form(agent: &str) -> Vec<(String, String)> {
    pairs(&[
        ("client_id", BLUEPRINT),
        ("client_secret", SECRET),
        ("scope", EXCHANGE),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
        ("fmi_path", agent),
    ])
}

fn agent_form(rest: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut form = pairs(&[
        ("client_id", AGENT),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", "(jwt)"),
    ]);
    form.extend(pairs(rest));
    form
}

#[tokio::test]
async fn an_app_only_token_takes_the_blueprints_token_and_one_request() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let token = agent.acquire_token_for_client(ORDERS).await.unwrap();
    let requests = setup.local.token_requests();
    assert_eq!(form(&requests[0]), t1_form(AGENT));
    assert_eq!(
        form(&requests[1]),
        agent_form(&[
            ("scope", ORDERS),
            ("grant_type", "client_credentials"),
            ("client_info", "2"),
        ])
    );
    let t1 = claims(requests[1].field("client_assertion").unwrap());
    assert_eq!(t1["aud"], BLUEPRINT);
    assert!(
        t1["sub"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/a/{BLUEPRINT}/{AGENT}"))
    );
    let token = claims(token.secret());
    assert_eq!(token["azp"], AGENT);
    for (name, value) in [
        ("idtyp", "app"),
        ("xms_par_app_azp", BLUEPRINT),
        ("xms_act_fct", "11"),
        ("xms_sub_fct", "11"),
    ] {
        assert_eq!(token[name], value, "{name}");
    }
    assert!(
        requests
            .iter()
            .all(|request| request.header("x-anchormailbox").is_none())
    );

    let cached = agent.acquire_token_for_client(ORDERS).await.unwrap();
    assert_eq!(cached.source(), TokenSource::Cache);
    // Another API takes the same T1.
    agent
        .acquire_token_for_client("api://stock/.default")
        .await
        .unwrap();
    assert_eq!(setup.steps(), ["T1", "app", "app"]);
}

#[tokio::test]
async fn an_agent_acts_on_behalf_of_the_user_who_called_the_blueprint() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let adele = "adele@contoso.onmicrosoft.com";
    let app = Application::new("spa").redirect_uri("https://spa.example");
    setup.local.register(TENANT, app);
    setup
        .local
        .consent(TENANT, "spa", adele, "api://blueprint/Ask");
    let received = setup
        .local
        .user_token(TENANT, "spa", adele, "api://blueprint/Ask");
    let assertion = UserAssertion::new(received.unwrap());
    let token = agent
        .acquire_token_on_behalf_of(&assertion, READ)
        .await
        .unwrap();
    let requests = setup.local.token_requests();
    assert_eq!(
        form(&requests[1]),
        agent_form(&[
            ("scope", &format!("{READ} openid profile offline_access")),
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", "(jwt)"),
            ("requested_token_use", "on_behalf_of"),
            ("client_info", "1"),
        ])
    );
    let token = claims(token.secret());
    assert_eq!(
        (&token["azp"], &token["scp"]),
        (&AGENT.into(), &"Orders.Read".into())
    );
    assert_eq!(token["preferred_username"], adele);
    assert_eq!(
        (&token["xms_act_fct"], &token["xms_sub_fct"]),
        (&"11".into(), &Value::Null)
    );
    agent
        .acquire_token_on_behalf_of(&assertion, READ)
        .await
        .unwrap();
    assert_eq!(setup.steps(), ["T1", "obo"]);

    // A token for the agent itself is for another audience.
    setup
        .local
        .consent(TENANT, "spa", adele, "api://orders/Orders.Read");
    let received = setup
        .local
        .user_token(TENANT, "spa", adele, "api://orders/Orders.Read");
    let foreign = UserAssertion::new(received.unwrap());
    let error = agent
        .acquire_token_on_behalf_of(&foreign, READ)
        .await
        .unwrap_err();
    assert_eq!(error.server_error().unwrap().error_codes(), [500131]);
}

#[tokio::test]
async fn an_agent_acts_as_its_user_by_id_and_by_name() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let id = setup.user.object_id();
    let scope = format!("{READ} openid profile offline_access");
    for (user, parameter, value, mailbox) in [
        (setup.user(), "user_id", &*id, format!("oid:{id}@{TENANT}")),
        (
            UserIdentifier::username(USER),
            "username",
            USER,
            format!("upn:{USER}"),
        ),
    ] {
        let before = setup.local.token_requests().len();
        let token = agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
        let requests = setup.local.token_requests();
        let request = requests.last().unwrap();
        assert_eq!(
            form(request),
            agent_form(&[
                ("scope", &scope),
                ("grant_type", "user_fic"),
                ("user_federated_identity_credential", "(jwt)"),
                (parameter, value),
                ("client_info", "1"),
            ])
        );
        assert_eq!(request.header("x-anchormailbox"), Some(&*mailbox));
        let t2 = claims(request.field("user_federated_identity_credential").unwrap());
        assert_eq!(
            (&t2["aud"], &t2["azp"]),
            (&"api://AzureADTokenExchange".into(), &AGENT.into())
        );
        let token = claims(token.secret());
        assert_eq!(token["preferred_username"], USER);
        assert_eq!(
            (&token["xms_act_fct"], &token["xms_sub_fct"]),
            (&"11".into(), &"13".into())
        );

        let cached = agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
        assert_eq!(cached.source(), TokenSource::Cache);
        // T1 and T2 are acquired once, and each user has a token.
        let expected = if before == 0 { 3 } else { 1 };
        assert_eq!(setup.local.token_requests().len() - before, expected);
    }
    let t2 = &setup.local.token_requests()[1];
    assert_eq!(
        form(t2),
        agent_form(&[
            ("scope", EXCHANGE),
            ("grant_type", "client_credentials"),
            ("client_info", "2"),
        ])
    );
    assert_eq!(setup.steps(), ["T1", "T2", "user_fic", "user_fic"]);
}

/// The refresh token goes on with a new T1, and neither needs a T2.
#[tokio::test]
async fn a_users_token_is_refreshed_with_a_new_blueprint_token() {
    let clock = ManualClock::new();
    let setup = Setup::at(Some(&clock)).await;
    let client = setup.builder().clock(clock.clone()).build().unwrap();
    let agent = client.agent_identity(AGENT).unwrap();
    let user = setup.user();
    let first = agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
    clock.advance(Duration::from_secs(2 * 3600));
    let second = agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    assert_eq!(setup.steps(), ["T1", "T2", "user_fic", "T1", "refresh"]);
    let requests = setup.local.token_requests();
    let t1 = |at: usize| requests[at].field("client_assertion").unwrap();
    assert_ne!(t1(2), t1(4));
    assert_eq!(
        form(&requests[4]),
        agent_form(&[
            ("scope", &format!("{READ} openid profile offline_access")),
            ("grant_type", "refresh_token"),
            ("refresh_token", "(secret)"),
            ("client_info", "1"),
        ])
    );
    // Without the session, T2 begins anew.
    agent.remove_user(&user).await.unwrap();
    agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
    assert_eq!(setup.steps()[5..], ["T2", "user_fic"]);
    // A revoked refresh token falls back to T2.
    setup.local.revoke_user_sessions(TENANT, USER);
    let other = TokenRequest::new(READ).force_refresh();
    agent.acquire_token_by_user_fic(&user, other).await.unwrap();
    assert_eq!(setup.steps()[7..], ["refresh", "user_fic"]);
}

/// docs/failures.md M4: one request value, used by everybody.
#[tokio::test]
async fn a_token_of_an_agent_reaches_neither_another_agent_nor_the_blueprint() {
    let setup = Setup::start().await;
    let blueprint = setup.builder().build().unwrap();
    let agent = blueprint.agent_identity(AGENT).unwrap();
    let other = blueprint.agent_identity(OTHER.to_uppercase()).unwrap();
    assert_eq!(other.client_id(), OTHER);
    let request = TokenRequest::new(ORDERS);
    let exchange = TokenRequest::new(EXCHANGE);
    for request in [&request, &exchange] {
        for round in 0..3 {
            let client = |token: AccessToken| claims(token.secret())["azp"].clone();
            let tokens = [
                (agent.acquire_token_for_client(request).await, AGENT),
                (blueprint.acquire_token_for_client(request).await, BLUEPRINT),
                (other.acquire_token_for_client(request).await, OTHER),
                (agent.token_provider(request).unwrap().token().await, AGENT),
                (
                    blueprint.token_provider(request).unwrap().token().await,
                    BLUEPRINT,
                ),
            ];
            for (token, expected) in tokens {
                assert_eq!(client(token.unwrap()), expected, "{round}");
            }
        }
    }
    assert_eq!(
        setup.steps(),
        // The third T2 is the blueprint's own token for the exchange, without a path.
        ["T1", "app", "app", "T1", "app", "T2", "T2", "T2"]
    );
    // A token of one agent is no token of another.
    let token = agent.acquire_token_for_client(&request).await.unwrap();
    let error = other
        .acquire_token_for_client(request.clone().rejected_token(&token))
        .await;
    assert!(matches!(error.unwrap_err(), Error::Config(_)));
    // The users of two agents are two users.
    let user = setup.user();
    agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
    let error = other
        .acquire_token_by_user_fic(&user, READ)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not a user of the agent identity"),
        "{error}"
    );
    // An invalidated token of one agent leaves the token of the other.
    let sent = setup.local.token_requests().len();
    agent.invalidate(&token);
    blueprint.invalidate(&token);
    other.acquire_token_for_client(&request).await.unwrap();
    blueprint.acquire_token_for_client(&request).await.unwrap();
    assert_eq!(setup.local.token_requests().len(), sent);
    agent.acquire_token_for_client(&request).await.unwrap();
    assert_eq!(setup.local.token_requests().len(), sent + 1);
}

#[tokio::test]
async fn a_thousand_cold_calls_send_each_request_once() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let user = setup.user();
    let calls = (0..1000).map(|_| agent.acquire_token_by_user_fic(&user, READ));
    for token in join_all(calls).await {
        token.unwrap();
    }
    assert_eq!(setup.steps(), ["T1", "T2", "user_fic"]);
    // As the user and as itself, with one T1.
    let calls = (0..1000).map(|_| agent.acquire_token_for_client(ORDERS));
    for token in join_all(calls).await {
        token.unwrap();
    }
    assert_eq!(setup.steps()[3..], ["app"]);
}

/// A flight that waits for T1 or T2 must not wait for its own permit.
#[tokio::test]
async fn one_request_at_a_time_is_enough_for_the_whole_chain() {
    let setup = Setup::start().await;
    let options = CacheOptions::default().max_concurrent_requests(1);
    let client = setup.builder().cache(options).build().unwrap();
    let agents = [AGENT, OTHER].map(|id| client.agent_identity(id).unwrap());
    let user = setup.user();
    let calls = agents
        .iter()
        .map(|agent| agent.acquire_token_for_client(ORDERS));
    let (tokens, of_user) = tokio::join!(
        join_all(calls),
        agents[0].acquire_token_by_user_fic(&user, READ)
    );
    assert!(tokens.iter().all(Result::is_ok) && of_user.is_ok());

    // A rejected T1 is replaced within the flight.
    setup.local.script([Fault::aadsts(700024)]);
    let stock = "api://stock/.default";
    agents[0].acquire_token_for_client(stock).await.unwrap();
    assert!(
        setup.steps().ends_with(&["app", "T1", "app"]),
        "{:?}",
        setup.steps()
    );
}

#[tokio::test]
async fn a_rejected_blueprint_token_or_exchange_token_is_replaced_once() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let user = setup.user();
    agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
    for (number, (code, after)) in [
        (700024, vec!["user_fic", "T1", "user_fic"]),
        (500133, vec!["user_fic", "T2", "user_fic"]),
    ]
    .into_iter()
    .enumerate()
    {
        let before = setup.local.token_requests();
        setup.local.script([Fault::aadsts(code)]);
        let scope = format!("api://orders-{number}/Read");
        setup.local.admin_consent(TENANT, AGENT, &scope);
        // Another scope of the user goes by the refresh token, so the session is removed.
        agent.remove_user(&user).await.unwrap();
        agent
            .acquire_token_by_user_fic(&user, &*scope)
            .await
            .unwrap();
        assert_eq!(setup.steps()[before.len()..], after, "{code}");
        let requests = setup.local.token_requests();
        let field = match code {
            700024 => "client_assertion",
            _ => "user_federated_identity_credential",
        };
        let [.., first, _, second] = &*requests else {
            panic!()
        };
        assert_ne!(first.field(field), second.field(field), "{code}");
    }
    // The next rejection follows too soon, and the same T1 is not sent again.
    let before = setup.local.token_requests().len();
    setup.local.script([Fault::aadsts(700024)]);
    let error = agent.acquire_token_for_client(ORDERS).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().error_codes(), [700024]);
    assert_eq!(setup.steps()[before..], ["app"]);
}

#[tokio::test]
async fn an_error_names_the_step_and_the_agent() {
    let setup = Setup::start().await;
    let unknown = "f47ac10b-58cc-4372-a567-0e02b2c3d481";
    let wrong = ConfidentialClient::builder(BLUEPRINT)
        .authority(setup.local.authority(TENANT))
        .client_secret("wrong")
        .retry(RetryPolicy::none())
        .build()
        .unwrap()
        .agent_identity(AGENT)
        .unwrap();
    let agent = setup.agent();
    let blueprint = agent.blueprint();
    let foreign = User::new("someone@contoso.onmicrosoft.com");
    let t1 =
        format!("in the blueprint's request for the token (T1) of the agent identity '{AGENT}'");
    let token = format!("in the request for the token of the agent identity '{AGENT}'");
    for (error, codes, texts) in [
        (
            wrong.acquire_token_for_client(ORDERS).await,
            &[7000215][..],
            [&*t1, "Invalid client secret"],
        ),
        (
            blueprint
                .agent_identity(unknown)
                .unwrap()
                .acquire_token_for_client(ORDERS)
                .await,
            &[700016],
            [
                "in the request for the token of the agent identity 'f47ac10b-58cc-4372-a567-0e02b2c3d481'",
                "was not found in the directory",
            ],
        ),
        (
            agent
                .acquire_token_by_user_fic(&UserIdentifier::object_id(foreign.object_id()), READ)
                .await,
            &[50034],
            [&*token, "does not exist"],
        ),
    ] {
        let error = error.unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(server.error_codes(), codes, "{error}");
        for text in texts {
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    // The failure of T2, of a host that is down, and the remembered failure.
    let agent = setup.agent();
    agent.acquire_token_for_client(ORDERS).await.unwrap();
    setup.local.script([Fault::status(503)]);
    for _ in 0..2 {
        let error = agent
            .acquire_token_by_user_fic(&setup.user(), READ)
            .await
            .unwrap_err();
        let text =
            format!("in the request for the exchange token (T2) of the agent identity '{AGENT}'");
        assert!(error.to_string().contains(&text), "{error}");
        assert!(error.is_transient() && error.retry_after().is_some());
        assert_eq!(error.status().unwrap().as_u16(), 503);
    }
}

#[tokio::test]
async fn what_cannot_be_an_agent_is_rejected_before_the_network() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let transport = move |_: http::Request<Bytes>| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err("nothing is sent".into()) }
    };
    let client_of = |client_id: &str, authority: Authority| {
        ConfidentialClient::builder(client_id)
            .authority(authority)
            .client_secret(SECRET)
            .transport(transport.clone())
            .build()
            .unwrap()
    };
    let client = |authority| client_of(BLUEPRINT, authority);
    let entra = client(Authority::entra(Cloud::Public, TENANT));
    let spelled = |client_id: &str| client_of(client_id, Authority::entra(Cloud::Public, TENANT));
    let openid = client(Authority::oidc("https://id.example"));
    let adfs = client(Authority::parse("https://adfs.example.org/adfs"));
    for (error, text) in [
        (
            entra.agent_identity("agent-1").err(),
            "the agent id \"agent-1\" is not a GUID",
        ),
        (
            entra.agent_identity(BLUEPRINT).err(),
            "the id is the blueprint's own client id",
        ),
        (
            spelled(&format!("{{{BLUEPRINT}}}"))
                .agent_identity(BLUEPRINT)
                .err(),
            "the id is the blueprint's own client id",
        ),
        (
            spelled(&BLUEPRINT.replace('-', ""))
                .agent_identity(BLUEPRINT)
                .err(),
            "the id is the blueprint's own client id",
        ),
        (
            openid.agent_identity(AGENT).err(),
            "the OpenID provider has no agent identities",
        ),
        (
            adfs.agent_identity(AGENT).err(),
            "AD FS has no agent identities",
        ),
    ] {
        let error = error.unwrap();
        assert!(
            matches!(error, Error::Config(_)) && error.to_string().contains(text),
            "{error}"
        );
    }
    let agent = entra.agent_identity(AGENT).unwrap();
    let adele = UserIdentifier::username("adele@contoso.com");
    let nobody = UserIdentifier::object_id("adele");
    for (error, text) in [
        (
            agent.acquire_token_for_client(READ).await.err(),
            "/.default",
        ),
        (
            agent
                .acquire_token_for_client(TokenRequest::new(ORDERS).fmi_path("a"))
                .await
                .err(),
            "the fmi_path \"a\" cannot be used in a request of the agent identity",
        ),
        (
            agent
                .acquire_token_for_client(
                    TokenRequest::new(ORDERS).query_parameter("FMI_Path", "a"),
                )
                .await
                .err(),
            "the fmi_path \"a\" cannot be used in a request of the agent identity",
        ),
        (
            agent.remove_user(&nobody).await.err(),
            "\"adele\" is not a GUID",
        ),
        (
            agent
                .acquire_token_for_client(
                    TokenRequest::new(ORDERS).client_assertion_claims(r#"{"a":1}"#),
                )
                .await
                .err(),
            "client_assertion_claims(..) cannot be used in a request of the agent identity",
        ),
        (
            agent
                .acquire_token_for_client(TokenRequest::new(ORDERS).tenant("common"))
                .await
                .err(),
            "'common'",
        ),
        (
            agent.acquire_token_by_user_fic(&nobody, READ).await.err(),
            "\"adele\" is not a GUID",
        ),
        (
            agent.token_provider_by_user_fic(&nobody, READ).err(),
            "\"adele\" is not a GUID",
        ),
        (
            entra
                .acquire_token_by_user_fic(&nobody, "e30.e30.c2ln", READ)
                .await
                .err(),
            "\"adele\" is not a GUID",
        ),
        (
            openid
                .acquire_token_by_user_fic(&adele, "e30.e30.c2ln", "read")
                .await
                .err(),
            "the OpenID provider has no grant 'user_fic'",
        ),
        (
            agent
                .acquire_token_on_behalf_of(&UserAssertion::new(" "), READ)
                .await
                .err(),
            "the user assertion is empty",
        ),
    ] {
        let error = error.unwrap();
        assert!(
            matches!(error, Error::Config(_)) && error.to_string().contains(text),
            "{error}"
        );
    }
    // What is no token is not sent.
    let error = entra
        .acquire_token_by_user_fic(&adele, "a secret", READ)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Credential(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("a secret"), "{error:?}");
    assert_eq!(sent.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_scope_of_the_exchange_follows_the_cloud() {
    for (cloud, scope) in [
        (Cloud::Public, "api://AzureADTokenExchange/.default"),
        (
            Cloud::UsGovernment,
            "api://AzureADTokenExchangeUSGov/.default",
        ),
        (Cloud::China, "api://AzureADTokenExchangeChina/.default"),
    ] {
        let scopes = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&scopes);
        let client = ConfidentialClient::builder(BLUEPRINT)
            .authority(Authority::entra(cloud, TENANT))
            .client_secret(SECRET)
            .transport(move |request: http::Request<Bytes>| {
                let form = url::form_urlencoded::parse(request.body()).into_owned();
                let scope = form.into_iter().find(|(name, _)| name == "scope");
                seen.lock().unwrap().push(scope.unwrap().1);
                let token = unsigned_jwt("a");
                async move {
                    let body = format!(
                        r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#
                    );
                    Ok(http::Response::new(Bytes::from(body)))
                }
            })
            .build()
            .unwrap();
        let agent = client.agent_identity(AGENT).unwrap();
        let user = UserIdentifier::username("adele@contoso.com");
        agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
        assert_eq!(scopes.lock().unwrap()[..2], [scope, scope]);
    }
}

/// Every link of the chain that does not fit, judged by the `LocalAuthority`.
#[tokio::test]
async fn each_broken_link_of_the_chain_is_rejected() {
    let clock = ManualClock::new();
    let setup = Setup::at(Some(&clock)).await;
    let client = |id: &str| {
        ConfidentialClient::builder(id)
            .authority(setup.local.authority(TENANT))
            .retry(RetryPolicy::none())
    };
    let blueprint = setup.builder().build().unwrap();
    let second = "22222222-2222-3333-4444-555555555555";
    let application = Application::new(second).secret(SECRET);
    setup.local.register(TENANT, application);
    let second = client(second).client_secret(SECRET).build().unwrap();
    let token = async |client: &ConfidentialClient, request: TokenRequest| {
        let token = client
            .acquire_token_for_client(request.force_refresh())
            .await;
        token.unwrap().secret().to_owned()
    };
    let exchange = || TokenRequest::new(EXCHANGE);
    let good = token(&blueprint, exchange().fmi_path(AGENT)).await;
    let with_t1 = |t1: &str| {
        let t1 = t1.to_owned();
        client(AGENT)
            .client_assertion(move |_: AssertionContext| {
                let t1 = t1.clone();
                async move { Ok(t1) }
            })
            .build()
            .unwrap()
    };
    let forged = format!("{}.AAAA", good.rsplit_once('.').unwrap().0);
    // {"iss":"x","sub":"y","aud":"z","exp":1}
    let of_other_issuer = format!(
        "{}.eyJpc3MiOiJ4Iiwic3ViIjoieSIsImF1ZCI6InoiLCJleHAiOjF9.AAAA",
        good.split_once('.').unwrap().0
    );
    let of_other = token(&blueprint, exchange().fmi_path(OTHER)).await;
    let of_second = token(&second, exchange().fmi_path(AGENT)).await;
    let without_path = token(&blueprint, exchange()).await;
    for (name, t1, code) in [
        ("forged", &forged, 7000274),
        ("for another agent", &of_other, 700213),
        ("of another blueprint", &of_second, 700213),
        ("without a path", &without_path, 700213),
        ("of another issuer", &of_other_issuer, 700211),
    ] {
        let error = with_t1(t1)
            .acquire_token_for_client(ORDERS)
            .await
            .unwrap_err();
        let server = error.server_error().unwrap();
        assert_eq!(
            (server.error(), server.error_codes()),
            ("invalid_client", &[code][..]),
            "{name}"
        );
    }
    // An agent has no other credential.
    let error = client(AGENT).client_secret(SECRET).build().unwrap();
    let error = error.acquire_token_for_client(ORDERS).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().error_codes(), [7000215]);

    let agent = with_t1(&good);
    let t2 = token(&agent, exchange()).await;
    let other = ConfidentialClient::builder(OTHER)
        .authority(setup.local.authority(TENANT))
        .client_assertion(move |_: AssertionContext| {
            let t1 = of_other.clone();
            async move { Ok(t1) }
        })
        .build()
        .unwrap();
    let t2_of_other = token(&other, exchange()).await;
    let orders = token(&agent, TokenRequest::new(ORDERS)).await;
    let forged = format!("{}.AAAA", t2.rsplit_once('.').unwrap().0);
    let fic = async |user: &UserIdentifier, t2: &str| {
        let request = TokenRequest::new(READ);
        // A client without remembered failures.
        let agent = with_t1(&good);
        agent.acquire_token_by_user_fic(user, t2, request).await
    };
    let user = setup.user();
    let adele = UserIdentifier::username("adele@contoso.onmicrosoft.com");
    let nobody = UserIdentifier::username("nobody@contoso.onmicrosoft.com");
    for (name, user, t2, error, text) in [
        ("forged", &user, &forged, "invalid_grant", "AADSTS50013"),
        (
            "of another agent",
            &user,
            &t2_of_other,
            "invalid_client",
            "not a token of the agent",
        ),
        (
            "for another API",
            &user,
            &orders,
            "invalid_grant",
            "AADSTS500131",
        ),
        (
            "T1 in the place of T2",
            &user,
            &good,
            "invalid_grant",
            "AADSTS500131",
        ),
        (
            "an unknown user",
            &nobody,
            &t2,
            "invalid_grant",
            "AADSTS50034",
        ),
        (
            "a person",
            &adele,
            &t2,
            "invalid_grant",
            "not a user of the agent",
        ),
    ] {
        let rejected = fic(user, t2).await.unwrap_err();
        let server = rejected.server_error().unwrap();
        assert_eq!(server.error(), error, "{name}: {rejected}");
        assert!(rejected.to_string().contains(text), "{name}: {rejected}");
        if text.starts_with("AADSTS5001") {
            // The codes are those of a user assertion, which nobody sent.
            let help = server.help().unwrap();
            assert!(help.contains("credential (T2) is not accepted"), "{help}");
        }
    }
    // An application that is no agent identity.
    let error = second
        .acquire_token_by_user_fic(&user, &*t2, READ)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is not an agent identity"),
        "{error}"
    );

    fic(&user, &t2).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    let later = with_t1(&token(&blueprint, exchange().fmi_path(AGENT)).await);
    let expired = later
        .acquire_token_by_user_fic(&user, &*t2, READ)
        .await
        .unwrap_err();
    assert_eq!(expired.server_error().unwrap().error_codes(), [500133]);
    let help = expired.server_error().unwrap().help().unwrap();
    assert!(help.contains("credential (T2) has expired"), "{help}");
    clock.advance(Duration::from_secs(400));
    let error = with_t1(&good)
        .acquire_token_for_client(ORDERS)
        .await
        .unwrap_err();
    assert_eq!(error.server_error().unwrap().error_codes(), [700024]);
}

/// The grant without an [`AgentIdentity`], as MSAL has it: a client for the agent's id.
#[tokio::test]
async fn a_client_of_the_agents_id_acts_as_the_user_by_a_provider() {
    let clock = ManualClock::new();
    let setup = Setup::at(Some(&clock)).await;
    let blueprint = setup.builder().clock(clock.clone()).build().unwrap();
    let t1 = TokenRequest::new(EXCHANGE).fmi_path(AGENT);
    let agent = ConfidentialClient::builder(AGENT)
        .authority(setup.local.authority(TENANT))
        .client_assertion(blueprint.token_provider(t1).unwrap())
        .clock(clock.clone())
        .build()
        .unwrap();
    let credential = UserFederatedCredential::from(agent.token_provider(EXCHANGE).unwrap());
    let user = setup.user();
    for steps in [&["T2", "user_fic"][..], &[]] {
        let before = setup
            .steps()
            .into_iter()
            .filter(|step| *step != "T1")
            .count();
        agent
            .acquire_token_by_user_fic(&user, &credential, READ)
            .await
            .unwrap();
        let sent = setup.steps().into_iter().filter(|step| *step != "T1");
        assert_eq!(sent.skip(before).collect::<Vec<_>>(), steps);
    }
    clock.advance(Duration::from_secs(2 * 3600));
    agent
        .acquire_token_by_user_fic(&user, &credential, READ)
        .await
        .unwrap();
    assert!(
        setup.steps().ends_with(&["T1", "refresh"]),
        "{:?}",
        setup.steps()
    );
}

/// The claims are for the last token, whose API sent them. T1 stays.
#[tokio::test]
async fn claims_and_capabilities_go_where_they_belong() {
    let setup = Setup::start().await;
    let client = setup
        .builder()
        .client_capabilities(["cp1"])
        .build()
        .unwrap();
    let agent = client.agent_identity(AGENT).unwrap();
    let first = agent.acquire_token_for_client(ORDERS).await.unwrap();
    let challenge = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
    let request = TokenRequest::new(ORDERS)
        .claims(challenge)
        .rejected_token(&first);
    let calls = (0..100).map(|_| agent.acquire_token_for_client(&request));
    for token in join_all(calls).await {
        assert_ne!(token.unwrap().secret(), first.secret());
    }
    assert_eq!(setup.steps(), ["T1", "app", "app"]);
    let requests = setup.local.token_requests();
    let sent = |at: usize| serde_json::from_str::<Value>(requests[at].field("claims").unwrap());
    for (at, nbf) in [(0, false), (1, false), (2, true)] {
        let claims = sent(at).unwrap();
        assert_eq!(claims["access_token"]["xms_cc"]["values"][0], "cp1", "{at}");
        assert_eq!(claims["access_token"].get("nbf").is_some(), nbf, "{at}");
    }
}

/// A gateway demands a header of every request, also of those for T1 and T2.
#[tokio::test]
async fn extra_headers_are_sent_in_every_step() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let request = TokenRequest::new(READ).header("x-gateway-key", "of the gateway");
    agent
        .acquire_token_by_user_fic(&setup.user(), &request)
        .await
        .unwrap();
    let requests = setup.local.token_requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.header("x-gateway-key"), Some("of the gateway"));
    }
}

/// The headers may decide about T1 and T2, too.
#[tokio::test]
async fn the_steps_of_a_partition_are_cached_in_the_partition() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let request = |key: &str| {
        let request = TokenRequest::new(ORDERS).cache_partition(key);
        request.header("x-gateway-key", key)
    };
    for key in ["one", "two", "one"] {
        let request = request(key);
        agent.acquire_token_for_client(request).await.unwrap();
    }
    assert_eq!(setup.steps(), ["T1", "app", "T1", "app"]);
    let requests = setup.local.token_requests();
    let keys = requests
        .iter()
        .map(|request| request.header("x-gateway-key").unwrap());
    assert_eq!(keys.collect::<Vec<_>>(), ["one", "one", "two", "two"]);
}

/// A mended cause takes effect at once, in whichever step the rejection was.
#[tokio::test]
async fn a_forced_refresh_passes_the_remembered_rejection_of_each_step() {
    for (rejected, served) in [("T1", 0), ("T2", 1), ("user_fic", 2)] {
        let setup = Setup::start().await;
        let agent = setup.agent();
        let user = setup.user();
        let regular = std::iter::repeat_n(Fault::delayed(Duration::ZERO), served);
        let faults = regular.chain([Fault::aadsts(65001)]);
        setup.local.script(faults);
        for _ in 0..2 {
            let result = agent.acquire_token_by_user_fic(&user, READ).await;
            assert!(result.is_err(), "{rejected}");
            assert_eq!(setup.steps().len(), served + 1, "{rejected} is remembered");
        }
        let forced = TokenRequest::new(READ).force_refresh();
        agent
            .acquire_token_by_user_fic(&user, forced)
            .await
            .unwrap();
        // Valid tokens of the other steps are not replaced.
        let mut steps = vec!["T1", "T2", "user_fic"];
        steps.insert(served, rejected);
        assert_eq!(setup.steps(), steps);
    }
}

/// A background refresh acquires T1 itself. With one permit, its flight waits for no other permit.
#[tokio::test]
async fn a_due_token_is_refreshed_in_the_background_with_a_new_blueprint_token() {
    let clock = ManualClock::new();
    let setup = Setup::at(Some(&clock)).await;
    let options = CacheOptions::default().max_concurrent_requests(1);
    let client = setup
        .builder()
        .cache(options)
        .clock(clock.clone())
        .build()
        .unwrap();
    let agent = client.agent_identity(AGENT).unwrap();
    // The agent's token lives for a day, and T1 for an hour.
    let day = Duration::from_secs(24 * 3600);
    let registered = Application::new(AGENT)
        .agent_identity_of(BLUEPRINT)
        .token_lifetime(day);
    setup.local.register(TENANT, registered);
    let first = agent.acquire_token_for_client(ORDERS).await.unwrap();
    clock.advance(day / 2);
    let served = agent.acquire_token_for_client(ORDERS).await.unwrap();
    assert_eq!(served.secret(), first.secret());
    let provider = agent.token_provider(ORDERS).unwrap();
    let refreshed = async {
        while provider.cached().unwrap().secret() == first.secret() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, refreshed).await.unwrap();
    assert_eq!(setup.steps(), ["T1", "app", "T1", "app"]);
}

/// A second process finds T1, T2 and the token in the shared cache, and no other agent's.
#[tokio::test]
async fn processes_share_the_tokens_of_an_agent_by_its_client_id() {
    let setup = Setup::start().await;
    let store = LocalSharedCache::new();
    let client = || {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        setup
            .builder()
            .shared_cache(store.clone(), options)
            .build()
            .unwrap()
    };
    let user = setup.user();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let client = client();
        let agent = client.agent_identity(AGENT).unwrap();
        let own = agent.acquire_token_for_client(ORDERS).await.unwrap();
        let of_user = agent.acquire_token_by_user_fic(&user, READ).await.unwrap();
        tokens.push([own.secret().to_owned(), of_user.secret().to_owned()]);
        if tokens.len() == 2 {
            let other = client.agent_identity(OTHER).unwrap();
            let other = other.acquire_token_for_client(ORDERS).await.unwrap();
            assert_eq!(claims(other.secret())["azp"], OTHER);
        }
    }
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(setup.steps(), ["T1", "app", "T2", "user_fic", "T1", "app"]);
}

/// docs/failures.md M9: a valid token is returned while the blueprint gets no token.
#[tokio::test]
async fn a_valid_token_outlives_an_outage_and_the_blueprints_token() {
    let clock = ManualClock::new();
    let setup = Setup::at(Some(&clock)).await;
    let client = setup.builder().clock(clock.clone()).build().unwrap();
    let agent = client.agent_identity(AGENT).unwrap();
    let first = agent.acquire_token_for_client(ORDERS).await.unwrap();
    setup.local.begin_outage(Fault::status(500));
    clock.advance(Duration::from_secs(3500));
    let forced = TokenRequest::new(ORDERS).force_refresh();
    for request in [TokenRequest::new(ORDERS), forced] {
        let token = agent.acquire_token_for_client(request).await.unwrap();
        assert_eq!(token.secret(), first.secret());
    }
    clock.advance(Duration::from_secs(600));
    let error = agent.acquire_token_for_client(ORDERS).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    setup.local.end_outage();
    clock.advance(Duration::from_secs(60));
    agent.acquire_token_for_client(ORDERS).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_leaves_the_chain_to_the_others() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let user = setup.user();
    setup
        .local
        .script([Fault::delayed(Duration::from_millis(100))]);
    let mut first = Box::pin(agent.acquire_token_by_user_fic(&user, READ));
    let second = agent.acquire_token_by_user_fic(&user, READ);
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    second.await.unwrap();
    assert_eq!(setup.steps(), ["T1", "T2", "user_fic"]);
}

/// The handle of an agent keeps the cache of its blueprint.
#[tokio::test]
async fn an_agent_and_its_provider_keep_the_blueprints_client() {
    let setup = Setup::start().await;
    let agent = setup.agent();
    let provider = agent.token_provider(ORDERS).unwrap();
    drop(agent);
    let token = provider.token().await.unwrap();
    assert_eq!(claims(token.secret())["azp"], AGENT);
    assert_eq!(provider.cached().unwrap().secret(), token.secret());
}

/// Thousands of agents share one bound.
#[tokio::test]
async fn the_cache_of_five_thousand_agents_is_bounded() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let client = ConfidentialClient::builder(BLUEPRINT)
        .tenant(TENANT)
        .client_secret(SECRET)
        .cache(CacheOptions::default().max_entries(1_000))
        .transport(move |_: http::Request<Bytes>| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let token = unsigned_jwt(&number.to_string());
            async move {
                let body = format!(
                    r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#
                );
                Ok(http::Response::new(Bytes::from(body)))
            }
        })
        .build()
        .unwrap();
    let agents: Vec<_> = (0..5_000_u128)
        .map(|number| {
            let id = uuid::Uuid::from_u128(number);
            client.agent_identity(id.to_string()).unwrap()
        })
        .collect();
    let request = TokenRequest::new(ORDERS);
    for agent in &agents {
        agent.acquire_token_for_client(&request).await.unwrap();
        assert!(client.cache().len() <= 1_000);
    }
    assert_eq!(sent.load(Ordering::Relaxed), 10_000);
    // An evicted agent begins anew, and the latest is cached.
    agents[0].acquire_token_for_client(&request).await.unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 10_002);
    agents[4_999]
        .acquire_token_for_client(&request)
        .await
        .unwrap();
    assert_eq!(sent.load(Ordering::Relaxed), 10_002);
}
