//! Clients for programs that are not async: threads, runtimes, refreshes, panics and drops.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use confidential_client::blocking::{self, ConfidentialClient};
use confidential_client::cache::{EncryptionKey, SharedCacheOptions};
use confidential_client::metrics::{Acquisition, Outcome};
use confidential_client::testing::{LocalSharedCache, ManualClock};
use confidential_client::time::Clock;
use confidential_client::{
    AccessToken, Authority, CacheOptions, Error, IntoTokenRequest, RetryPolicy, TokenRequest,
    TokenSource,
};
use http::{HeaderMap, Request};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::LocalSet;

use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, log_capture, scope, success};

/// The longest wait of a test that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(provider: &Provider) -> ConfidentialClient {
    provider.builder().build_blocking().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for what another thread does.
#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        thread::yield_now();
    }
}

#[test]
fn sixty_four_cold_threads_send_one_token_request() {
    const THREADS: u64 = 64;
    let provider = Provider::gated();
    let client = client(&provider);
    let barrier = Barrier::new(THREADS as usize);
    let tokens: Vec<AccessToken> = thread::scope(|threads| {
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                threads.spawn(|| {
                    barrier.wait();
                    client.acquire_token_for_client(SCOPE).unwrap()
                })
            })
            .collect();
        wait_until(|| client.cache().stats().misses == THREADS);
        provider.release();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .collect()
    });
    assert_eq!(provider.requests(), 1);
    assert!(tokens.iter().all(|token| token.secret() == "token-1"));
    let token = client.clone().acquire_token_for_client(SCOPE).unwrap();
    assert_eq!(
        (token.secret(), token.source()),
        ("token-1", TokenSource::Cache)
    );
}

/// A transport that blocks the hidden thread at the scopes after the first, until the sender is
/// dropped.
fn client_with_a_blocked_thread() -> (ConfidentialClient, Sender<()>, Receiver<()>) {
    let (unblock, blocked) = mpsc::channel::<()>();
    let (arrived, arrivals) = mpsc::channel();
    let gate = Arc::new(Mutex::new((blocked, arrived)));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(move |request: Request<Bytes>| {
            let gate = Arc::clone(&gate);
            async move {
                let body = String::from_utf8_lossy(request.body()).into_owned();
                if body.contains("blocks") {
                    let gate = gate.lock().unwrap();
                    gate.1.send(()).unwrap();
                    let _ = gate.0.recv();
                }
                Ok(success("token", 3599))
            }
        })
        .build_blocking()
        .unwrap();
    (client, unblock, arrivals)
}

/// A hit needs neither the thread nor its runtime.
#[test]
fn a_hit_does_not_wait_for_the_hidden_thread() {
    let (client, unblock, arrivals) = client_with_a_blocked_thread();
    let request = TokenRequest::new(SCOPE);
    let graph = client.token_provider(&request).unwrap();
    graph.token().unwrap();
    client.acquire_token_for_client(&request).unwrap();
    client.acquire_token_for_client(SCOPE).unwrap();
    let other = client.clone();
    let blocking = thread::spawn(move || other.acquire_token_for_client("api://blocks/.default"));
    arrivals.recv_timeout(PATIENCE).unwrap();

    let (done, hits) = mpsc::channel();
    thread::spawn(move || {
        let mut headers = HeaderMap::new();
        graph.authorize(&mut headers).unwrap();
        assert_eq!(headers["authorization"], "Bearer token");
        let tokens = [
            graph.token(),
            client.acquire_token_for_client(&request),
            client.acquire_token_for_client(SCOPE),
            client.acquire_token_for_client([SCOPE]),
            client.acquire_token_for_client(TokenRequest::new(SCOPE)),
        ];
        let warm_up = client.warm_up([SCOPE]).next().unwrap().1;
        done.send(tokens.into_iter().chain([warm_up]).collect::<Vec<_>>())
            .unwrap();
    });
    let hits = hits
        .recv_timeout(PATIENCE)
        .expect("a hit waits for the thread");
    for token in hits {
        assert_eq!(token.unwrap().source(), TokenSource::Cache);
    }
    drop(unblock);
    blocking.join().unwrap().unwrap();
}

/// The next token is acquired while the program does something else.
#[test]
fn a_due_token_is_returned_at_once_and_refreshed_between_the_calls() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.builder().clock(clock.clone());
    let client = client.build_blocking().unwrap();
    let graph = client.token_provider(SCOPE).unwrap();
    let by_request = TokenRequest::new(SCOPE);
    type Call<'a> = (&'a str, &'a dyn Fn() -> Result<AccessToken, Error>);
    let calls: [Call<'_>; 5] = [
        ("token", &|| graph.token()),
        ("&request", &|| client.acquire_token_for_client(&by_request)),
        ("text", &|| client.acquire_token_for_client(SCOPE)),
        ("scopes", &|| client.acquire_token_for_client([SCOPE])),
        ("warm_up", &|| client.warm_up([SCOPE]).next().unwrap().1),
    ];
    calls[0].1().unwrap();
    for (number, (name, call)) in calls.into_iter().enumerate() {
        clock.advance(Duration::from_secs(3400));
        provider.hold();
        let token = call().unwrap();
        assert_eq!(token.secret(), format!("token-{}", number + 1), "{name}");
        assert_eq!(token.source(), TokenSource::Cache, "{name}");
        wait_until(|| provider.requests() == number + 2);
        // A second call starts no second refresh.
        call().unwrap();
        provider.release();
        let next = format!("token-{}", number + 2);
        wait_until(|| graph.cached().unwrap().secret() == next);
        assert_eq!(provider.requests(), number + 2, "{name}");
    }
}

/// The runtime of the caller may stand still or end after the call.
#[test]
fn a_due_token_is_refreshed_on_the_hidden_thread_even_inside_a_runtime() {
    let clock = ManualClock::new();
    let provider = Provider::gated();
    let client = provider.builder().clock(clock.clone());
    let client = client.build_blocking().unwrap();
    provider.release();
    let graph = client.token_provider(SCOPE).unwrap();
    graph.token().unwrap();
    clock.advance(Duration::from_secs(3400));
    let standing = runtime();
    let token = standing.block_on(async { graph.token().unwrap() });
    assert_eq!(token.secret(), "token-1");
    wait_until(|| graph.cached().unwrap().secret() == "token-2");
}

/// Every kind of place inside a runtime, and what it gets.
fn inside<T: Send + 'static>(
    call: impl Fn() -> T + Clone + Send + 'static,
) -> Vec<(&'static str, T)> {
    let workers = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let single = runtime();
    let spawned = {
        let call = call.clone();
        workers
            .block_on(workers.spawn(async move { call() }))
            .unwrap()
    };
    let in_place = {
        let call = call.clone();
        let task = workers.spawn(async move { tokio::task::block_in_place(call) });
        workers.block_on(task).unwrap()
    };
    let on_pool = {
        let call = call.clone();
        single.block_on(async { tokio::task::spawn_blocking(call).await.unwrap() })
    };
    let entered = {
        let _entered = single.enter();
        call()
    };
    let local = {
        let call = call.clone();
        let task = async { tokio::task::spawn_local(async move { call() }).await };
        single.block_on(LocalSet::new().run_until(task)).unwrap()
    };
    vec![
        ("spawn_local", local),
        ("block_on", single.block_on(async { call() })),
        ("a worker", spawned),
        ("block_in_place", in_place),
        ("spawn_blocking", on_pool),
        ("enter", entered),
    ]
}

#[test]
fn inside_a_runtime_a_miss_is_an_error_that_names_the_call_instead_and_a_hit_is_answered() {
    let provider = Provider::open();
    let client = client(&provider);
    client.acquire_token_for_client(SCOPE).unwrap();
    let caller = client.clone();
    let outcomes = inside(move || {
        (
            caller.acquire_token_for_client(SCOPE),
            caller.acquire_token_for_client("api://other/.default"),
        )
    });
    for (place, (hit, miss)) in outcomes {
        assert_eq!(hit.unwrap().source(), TokenSource::Cache, "{place}");
        let error = miss.expect_err(place);
        assert!(matches!(error, Error::Config(_)), "{place}: {error:?}");
        for part in [
            "client.as_async().acquire_token_for_client(..).await",
            "Handle::current().block_on(client.as_async().acquire_token_for_client(..))",
        ] {
            assert!(error.to_string().contains(part), "{place}: {error}");
        }
    }
    assert_eq!(provider.requests(), 1, "nothing was sent");
}

/// What the message says works.
#[test]
fn the_calls_that_the_message_names_work() {
    let provider = Provider::open();
    let client = client(&provider);
    let runtime = runtime();
    let token = runtime.block_on(client.as_async().acquire_token_for_client(scope(1)));
    assert_eq!(token.unwrap().secret(), "token-1");
    let caller = client.clone();
    let in_pool = runtime.spawn_blocking(move || {
        Handle::current().block_on(caller.as_async().acquire_token_for_client(scope(2)))
    });
    assert_eq!(
        runtime.block_on(in_pool).unwrap().unwrap().secret(),
        "token-2"
    );
    // The cache is the same.
    assert_eq!(
        client.acquire_token_for_client(scope(2)).unwrap().secret(),
        "token-2"
    );
}

#[test]
fn a_thread_that_a_runtime_started_may_wait() {
    let provider = Provider::open();
    let client = client(&provider);
    let outcomes = inside(move || {
        let client = client.clone();
        thread::spawn(move || {
            client.acquire_token_for_client(TokenRequest::new(SCOPE).force_refresh())
        })
        .join()
        .unwrap()
    });
    for (place, outcome) in outcomes {
        outcome.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

/// Every method that may wait checks the place of the call before it does anything.
#[test]
fn every_method_names_itself_inside_a_runtime() {
    use confidential_client::delegated::{
        Account, AuthorizationRequest, EndSessionRequest, TokenExchange, TokenTypeIdentifier,
        UserAssertion, UserIdentifier,
    };
    let provider = Provider::open();
    let key = EncryptionKey::from_bytes([1; 32]);
    let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
    let builder = provider.builder();
    let builder = builder.shared_cache(LocalSharedCache::new(), options);
    let client = builder.build_blocking().unwrap();
    let other = ConfidentialClient::builder("other")
        .authority(Authority::oidc("https://id.example.org"))
        .client_secret(SECRET)
        .transport(provider.transport())
        .build_blocking()
        .unwrap();
    let account = Account::from_home_account_id("1.2");
    let assertion = UserAssertion::new("opaque");
    let key = client.start_long_running_on_behalf_of(&assertion, "api://a/b");
    assert!(key.is_err(), "no refresh token");
    let sign_in = AuthorizationRequest::new("https://app.example.org/back", "User.Read");
    let (_, flow) = client.authorization_request_url(&sign_in).unwrap();
    let sent = provider.requests();
    let key: confidential_client::delegated::SessionKey =
        serde_json::from_str(&format!("\"{}\"", "A".repeat(43))).unwrap();
    let exchange = TokenExchange::new("token", TokenTypeIdentifier::ACCESS_TOKEN).audience("a");
    let graph = client.token_provider(SCOPE).unwrap();
    let user_scope = "https://graph.microsoft.com/User.Read";
    // The user of a silent call has a refresh token.
    assert!(client.import_refresh_token(&account, "refresh").unwrap());
    let user = UserIdentifier::object_id("99999999-8888-7777-6666-555555555555");
    let agent = client.agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479");
    let agent = agent.unwrap();
    let running = runtime();
    let _inside = running.enter();
    let errors = [
        (
            "acquire_token_for_client",
            client.acquire_token_for_client(SCOPE).err(),
        ),
        (
            "acquire_token_on_behalf_of",
            client
                .acquire_token_on_behalf_of(&assertion, user_scope)
                .err(),
        ),
        (
            "acquire_token_silent",
            client.acquire_token_silent(&account, user_scope).err(),
        ),
        (
            "end_session_url",
            other.end_session_url(&EndSessionRequest::new()).err(),
        ),
        (
            "acquire_id_token_silent",
            client.acquire_id_token_silent(&account, user_scope).err(),
        ),
        ("exchange_token", other.exchange_token(&exchange).err()),
        (
            "start_long_running_on_behalf_of",
            client
                .start_long_running_on_behalf_of(&assertion, user_scope)
                .err(),
        ),
        (
            "continue_long_running_on_behalf_of",
            client
                .continue_long_running_on_behalf_of(&key, user_scope)
                .err(),
        ),
        (
            "stop_long_running_on_behalf_of",
            client.stop_long_running_on_behalf_of(&key).err(),
        ),
        (
            "authorization_request_url",
            other.authorization_request_url(&sign_in).err(),
        ),
        (
            "acquire_token_by_authorization_code",
            client
                .acquire_token_by_authorization_code(flow.clone(), "")
                .err(),
        ),
        (
            "acquire_access_token_by_authorization_code",
            client
                .acquire_access_token_by_authorization_code(flow, "")
                .err(),
        ),
        (
            "import_refresh_token",
            client.import_refresh_token(&account, "other").err(),
        ),
        ("remove_account", client.remove_account(&account).err()),
        ("warm_up", client.warm_up([SCOPE]).next().unwrap().1.err()),
        (
            "acquire_token_by_user_fic",
            client
                .acquire_token_by_user_fic(&user, "a.b.c", user_scope)
                .err(),
        ),
        (
            "acquire_token_for_client",
            agent.acquire_token_for_client(SCOPE).err(),
        ),
        (
            "acquire_token_on_behalf_of",
            agent
                .acquire_token_on_behalf_of(&assertion, user_scope)
                .err(),
        ),
        (
            "acquire_token_by_user_fic",
            agent.acquire_token_by_user_fic(&user, user_scope).err(),
        ),
        ("remove_user", agent.remove_user(&user).err()),
        ("token", graph.token().err()),
        ("token", graph.authorize(&mut HeaderMap::new()).err()),
    ];
    for (method, error) in errors {
        let error = error.unwrap_or_else(|| panic!("{method} waited"));
        let named = format!(".as_async().{method}(");
        assert!(error.to_string().contains(&named), "{method}: {error}");
        assert!(matches!(error, Error::Config(_)), "{method}: {error:?}");
    }
    assert_eq!(provider.requests(), sent);
}

/// No method waits for what is in memory, and none starts a thread for it.
#[test]
fn a_method_that_does_no_io_works_inside_a_runtime() {
    use confidential_client::delegated::{
        Account, AuthorizationRequest, EndSessionRequest, SessionKey, UserIdentifier,
    };
    let provider = Provider::open();
    let caller = client(&provider);
    let outcomes = inside(move || {
        let account = Account::from_home_account_id("1.2");
        let sign_in = AuthorizationRequest::new("https://app.example.org/back", "User.Read");
        let key: SessionKey = serde_json::from_str(&format!("\"{}\"", "A".repeat(43))).unwrap();
        let user = UserIdentifier::object_id("99999999-8888-7777-6666-555555555555");
        let agent = caller.agent_identity("f47ac10b-58cc-4372-a567-0e02b2c3d479");
        let (page, _) = caller.authorization_request_url(&sign_in)?;
        let end = caller.end_session_url(&EndSessionRequest::new())?;
        assert!(page.contains("/authorize?") && end.contains("/logout?"));
        assert!(caller.import_refresh_token(&account, "refresh")?);
        caller.stop_long_running_on_behalf_of(&key)?;
        agent?.remove_user(&user)?;
        let is_known = !caller.import_refresh_token(&account, "other")?;
        caller.remove_account(&account)?;
        Ok::<_, Error>(is_known)
    });
    for (place, outcome) in outcomes {
        assert!(outcome.unwrap(), "{place}");
    }
    assert_eq!(provider.requests(), 0);
}

#[test]
fn a_client_may_be_dropped_inside_a_runtime_and_in_the_middle_of_a_call() {
    let provider = Provider::gated();
    let client = client(&provider);
    let caller = client.clone();
    let waiting = thread::spawn(move || caller.acquire_token_for_client(SCOPE));
    wait_until(|| provider.requests() == 1);
    runtime().block_on(async move { drop(client) });
    provider.release();
    let token = waiting.join().unwrap().unwrap();
    assert_eq!(token.secret(), "token-1");

    let used = self::client(&provider);
    used.acquire_token_for_client(SCOPE).unwrap();
    runtime().block_on(async move { drop(used) });
}

/// Returns a client, each of whose token requests leaves a task on the runtime of the client. The
/// receiver is disconnected when the runtime has ended.
fn client_with_tasks() -> (ConfidentialClient, Receiver<()>) {
    let (held, ended) = mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(move |_: Request<Bytes>| {
            let held = held.lock().unwrap().take();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            async { Ok(success("token", 3599)) }
        })
        .build_blocking()
        .unwrap();
    (client, ended)
}

#[test]
fn the_last_clone_or_provider_ends_the_thread() {
    let (client, ended) = client_with_tasks();
    client.acquire_token_for_client(scope(1)).unwrap();
    let clone = client.clone();
    drop(client);
    clone.acquire_token_for_client(scope(2)).unwrap();
    let provider = clone.token_provider(scope(3)).unwrap();
    drop(clone);
    provider.token().unwrap();
    assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(provider);
    assert_eq!(
        ended.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn a_call_that_hangs_ends_at_its_deadline() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .attempt_timeout(Duration::from_millis(20))
        .transport(|_: Request<Bytes>| std::future::pending())
        .build_blocking()
        .unwrap();
    let error = client.acquire_token_for_client(SCOPE).unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
}

/// A panic in a token request, and in a call that is no shared token request.
#[test]
fn after_a_panic_in_a_callback_the_next_call_works() {
    use confidential_client::delegated::AuthorizationRequest;
    let provider = Provider::open();
    let panics = Arc::new(Mutex::new(true));
    let (transport, panicking) = (provider.transport(), Arc::clone(&panics));
    let transport = Arc::new(transport);
    let builder = || {
        let (panicking, transport) = (Arc::clone(&panicking), Arc::clone(&transport));
        ConfidentialClient::builder(CLIENT_ID)
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
            .transport(move |request: Request<Bytes>| {
                let panics = *panicking.lock().unwrap();
                let transport = Arc::clone(&transport);
                async move {
                    assert!(!panics, "a bug of the transport");
                    confidential_client::transport::Transport::send(&*transport, request).await
                }
            })
    };
    let client = builder().tenant(TENANT).build_blocking().unwrap();
    let oidc = builder().authority(Authority::oidc("https://id.example.org"));
    let oidc = oidc.build_blocking().unwrap();
    let sign_in = AuthorizationRequest::new("https://app.example.org/back", "read");

    let error = client.acquire_token_for_client(scope(1)).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    let error = oidc.authorization_request_url(&sign_in).unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error:?}");
    assert!(error.to_string().contains("panicked"), "{error}");

    *panics.lock().unwrap() = false;
    client.acquire_token_for_client(scope(2)).unwrap();
    let metadata = r#"{"issuer":"https://id.example.org","jwks_uri":"https://id.example.org/keys",
        "token_endpoint":"https://id.example.org/token",
        "authorization_endpoint":"https://id.example.org/authorize"}"#;
    provider.answer(200, metadata);
    oidc.authorization_request_url(&sign_in).unwrap();
}

/// A callback of a client is async code. It gets an error, where waiting would be a deadlock.
#[test]
fn a_callback_that_waits_for_its_own_client_gets_an_error() {
    let client: Arc<Mutex<Option<ConfidentialClient>>> = Arc::default();
    let inner = Arc::clone(&client);
    let outer = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .retry(RetryPolicy::none())
        .transport(move |_: Request<Bytes>| {
            let client = inner.lock().unwrap().clone().unwrap();
            async move {
                client.acquire_token_for_client(scope(2))?;
                Ok(success("token", 3599))
            }
        })
        .build_blocking()
        .unwrap();
    *client.lock().unwrap() = Some(outer.clone());
    let error = outer.acquire_token_for_client(scope(1)).unwrap_err();
    let chain = error.chain().to_string();
    assert!(
        chain.contains("cannot wait inside a tokio runtime"),
        "{chain}"
    );
    *client.lock().unwrap() = None;
}

#[test]
fn an_async_client_and_its_blocking_clients_share_one_cache() {
    let provider = Provider::open();
    let in_async = provider.client();
    runtime()
        .block_on(in_async.acquire_token_for_client(SCOPE))
        .unwrap();
    let client = ConfidentialClient::from(in_async.clone());
    let token = client.acquire_token_for_client(SCOPE).unwrap();
    assert_eq!(
        (token.secret(), token.source()),
        ("token-1", TokenSource::Cache)
    );
    let graph = blocking::TokenProvider::from(in_async.token_provider(SCOPE).unwrap());
    assert_eq!(graph.token().unwrap().source(), TokenSource::Cache);
    client.invalidate(&token);
    assert_eq!(graph.token().unwrap().secret(), "token-2");
    assert_eq!(graph.as_async().cached().unwrap().secret(), "token-2");
}

/// A caller without a runtime of its own still tells the other processes.
#[test]
fn an_invalidated_token_is_removed_from_the_shared_cache() {
    let provider = Provider::open();
    let store = LocalSharedCache::new();
    let replica = || {
        let key = EncryptionKey::from_bytes([1; 32]);
        let options = SharedCacheOptions::encrypted("the name key of the tests", [key]);
        let builder = provider.builder().shared_cache(store.clone(), options);
        builder.build_blocking().unwrap()
    };
    let first = replica();
    let rejected = first.acquire_token_for_client(SCOPE).unwrap();
    wait_until(|| store.calls().contains(&"put"));
    let calls = store.calls().len();
    first.invalidate(&rejected);
    wait_until(|| store.calls().len() > calls);
    let token = replica().acquire_token_for_client(SCOPE).unwrap();
    assert_eq!(token.secret(), "token-2");
}

#[test]
fn an_observer_receives_the_acquisitions() {
    let provider = Provider::open();
    let (sender, received) = mpsc::channel();
    let observer = move |acquisition: Acquisition| {
        let thread = thread::current().name().map(str::to_owned);
        sender.send((acquisition, thread)).unwrap();
    };
    let client = provider.builder().observer(observer);
    let client = client.build_blocking().unwrap();
    client.acquire_token_for_client(SCOPE).unwrap();
    let (acquisition, thread) = received.recv_timeout(PATIENCE).unwrap();
    assert!(acquisition.outcome == Outcome::Issued);
    assert_eq!(thread.as_deref(), Some("confidential-client"));
}

/// The logs of a call belong to the span of the caller.
#[test]
fn a_call_runs_in_the_span_of_the_caller() {
    log_capture::start();
    let (sender, received) = mpsc::channel();
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(move |_: Request<Bytes>| {
            let log = log_capture::Log::start();
            tracing::info!("a token is requested");
            sender.send(log.text()).unwrap();
            async { Ok(success("token", 3599)) }
        })
        .build_blocking()
        .unwrap();
    let span = tracing::info_span!("nightly_job");
    span.in_scope(|| client.acquire_token_for_client(scope(1)).unwrap());
    span.in_scope(|| client.warm_up([scope(2)]).next().unwrap().1.unwrap());
    for _ in 0..2 {
        let log = received.recv_timeout(PATIENCE).unwrap();
        let line = log
            .lines()
            .find(|line| line.contains("a token is requested"));
        assert!(line.unwrap().contains("nightly_job"), "{log}");
    }
}

fn in_tenants(numbers: std::ops::Range<usize>) -> Vec<TokenRequest> {
    numbers
        .map(|number| {
            SCOPE
                .into_token_request()
                .tenant(format!("t{number}.example"))
        })
        .collect()
}

#[test]
fn a_warm_up_returns_every_outcome_and_sends_a_bounded_number_at_a_time() {
    let provider = Provider::gated();
    let client = client(&provider);
    let mut requests = in_tenants(0..9);
    requests.push(SCOPE.into_token_request().tenant("common"));
    let mut warm_up = client.warm_up(requests).max_concurrent(3);
    assert_eq!(warm_up.remaining(), 10);
    thread::scope(|threads| {
        let first = threads.spawn(|| warm_up.next());
        wait_until(|| provider.requests() == 3);
        provider.release();
        first.join().unwrap().unwrap().1.unwrap();
    });
    assert_eq!(provider.requests(), 3, "none is sent between two calls");
    assert_eq!(
        (warm_up.remaining(), warm_up.size_hint()),
        (9, (9, Some(9)))
    );
    let rest: Vec<_> = warm_up.by_ref().collect();
    let failed: Vec<_> = rest.iter().filter(|(_, result)| result.is_err()).collect();
    assert_eq!((rest.len(), failed.len()), (9, 1));
    assert_eq!(failed[0].0.tenant_id(), Some("common"));
    let tenants: BTreeSet<_> = rest
        .iter()
        .map(|(request, _)| request.tenant_id())
        .collect();
    assert_eq!(tenants.len(), 9);
    assert!(warm_up.next().is_none());
    assert_eq!((provider.requests(), client.cache().len()), (9, 9));
}

/// No outcome is lost, and none comes twice.
#[test]
fn a_warm_up_that_goes_on_inside_a_runtime_returns_each_request_once() {
    let provider = Provider::gated();
    let client = client(&provider);
    let mut warm_up = client.warm_up(in_tenants(0..4)).max_concurrent(3);
    thread::scope(|threads| {
        let first = threads.spawn(|| warm_up.next());
        wait_until(|| provider.requests() == 3);
        provider.release();
        first.join().unwrap().unwrap().1.unwrap();
    });
    let mut seen = BTreeSet::new();
    let inside = runtime();
    inside.block_on(async {
        let (request, result) = warm_up.next().unwrap();
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        seen.insert(request.tenant_id().map(str::to_owned));
    });
    // The outcome of the request with the error arrives, and is dropped.
    let (request, result) = warm_up.next().unwrap();
    result.unwrap();
    assert!(seen.insert(request.tenant_id().map(str::to_owned)));
    inside.block_on(async {
        for (request, result) in warm_up.by_ref() {
            result.unwrap_err();
            assert!(seen.insert(request.tenant_id().map(str::to_owned)));
        }
    });
    assert_eq!(seen.len(), 3);
    assert!(warm_up.next().is_none());
}

#[test]
fn a_warm_up_that_is_dropped_sends_no_further_request() {
    let provider = Provider::open();
    let client = client(&provider);
    let mut warm_up = client.warm_up(in_tenants(0..9)).max_concurrent(2);
    warm_up.next().unwrap().1.unwrap();
    drop(warm_up);
    client.acquire_token_for_client(SCOPE).unwrap();
    assert_eq!(provider.requests(), 3);
}

#[test]
fn a_client_is_shared_by_threads() {
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_shared::<ConfidentialClient>();
    is_shared::<blocking::ManagedIdentityClient>();
    is_shared::<blocking::CredentialChainClient>();
    is_shared::<blocking::TokenProvider>();
    is_sent::<blocking::WarmUp>();
}

/// The thread of a blocking client carries a request that an async caller has joined.
#[test]
fn an_async_caller_sends_its_own_request_after_the_blocking_client_is_gone() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let in_async = provider.client_at(&clock);
    let client = ConfidentialClient::from(in_async.clone());
    client.acquire_token_for_client(SCOPE).unwrap();
    clock.advance(Duration::from_secs(3400));
    provider.hold();
    client.acquire_token_for_client(SCOPE).unwrap();
    wait_until(|| provider.requests() == 2);
    let caller = in_async.clone();
    let joined = thread::spawn(move || {
        let request = TokenRequest::new(SCOPE).force_refresh();
        runtime().block_on(caller.acquire_token_for_client(request))
    });
    wait_until(|| in_async.cache().stats().misses == 2);
    drop(client);
    wait_until(|| provider.requests() == 3);
    provider.release();
    assert_eq!(joined.join().unwrap().unwrap().secret(), "token-3");
}

/// A method that is added to an async type is added here, too.
#[test]
fn every_method_of_an_async_type_has_a_blocking_one() {
    let of_the_client = concat!(
        include_str!("../../src/blocking/confidential_client.rs"),
        include_str!("../../src/blocking/delegated.rs"),
        include_str!("../../src/blocking/agent_identity.rs"),
    );
    let types = [
        ("ConfidentialClient", of_the_client),
        (
            "ManagedIdentityClient",
            include_str!("../../src/blocking/managed_identity_client.rs"),
        ),
        (
            "CredentialChainClient",
            include_str!("../../src/blocking/credential_chain_client.rs"),
        ),
        (
            "AgentIdentity",
            include_str!("../../src/blocking/agent_identity.rs"),
        ),
        (
            "TokenProvider",
            include_str!("../../src/blocking/token_provider.rs"),
        ),
    ];
    // The methods of traits: a client may be a client assertion, which is async.
    let of_traits = ["client_assertion", "describe", "fmt"];
    let mut methods = 0;
    for line in include_str!("../data/public-api.txt").lines() {
        for (name, source) in types {
            let path = format!("fn confidential_client::{name}::");
            let Some((_, method)) = line.split_once(&path) else {
                continue;
            };
            let method = method.split(['(', '<']).next().unwrap();
            if !of_traits.contains(&method) {
                let declared = [format!("pub fn {method}("), format!("pub fn {method}<")];
                let is_declared = declared.iter().any(|start| source.contains(start));
                assert!(is_declared, "blocking::{name}::{method} is missing");
                methods += 1;
            }
        }
    }
    assert!(
        methods > 40,
        "{methods} methods in tests/data/public-api.txt"
    );
}

#[test]
fn hits_are_counted_where_the_program_wants_the_number() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider
        .builder()
        .clock(clock.clone())
        .cache(CacheOptions::default().count_hits(true))
        .build_blocking()
        .unwrap();
    let request = TokenRequest::new(SCOPE);
    let graph = client.token_provider(&request).unwrap();
    let use_each = || {
        graph.token().unwrap();
        client.acquire_token_for_client(&request).unwrap();
        client.acquire_token_for_client(SCOPE).unwrap();
        client.acquire_token_for_client([SCOPE]).unwrap();
        client.warm_up([SCOPE]).next().unwrap().1.unwrap();
    };
    use_each();
    assert_eq!(client.cache().stats().hits, Some(4), "the first was no hit");
    use_each();
    assert_eq!(client.cache().stats().hits, Some(9));
    // A due token is a hit, too. The refresh does not end.
    clock.advance(Duration::from_secs(3400));
    provider.hold();
    use_each();
    assert_eq!(client.cache().stats().hits, Some(14));
}

/// A clock of the caller's, with a bug on the hidden thread.
struct PanickingClock;

impl Clock for PanickingClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Instant {
        let name = thread::current().name().map(str::to_owned);
        assert_ne!(name.as_deref(), Some("confidential-client"), "a bug");
        Instant::now()
    }
}

/// Nobody would ever send the outcome.
#[test]
fn no_caller_waits_for_a_call_that_panicked() {
    let provider = Provider::open();
    let client = provider.builder().clock(PanickingClock);
    let client = client.build_blocking().unwrap();
    let outcomes = [
        client.acquire_token_for_client(SCOPE),
        client.warm_up([SCOPE]).next().unwrap().1,
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("(..)"), "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}
