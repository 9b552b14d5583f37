//! Programs with several tokio runtimes, or with none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use confidential_client::blocking;
use confidential_client::delegated::UserAssertion;
use confidential_client::resource::TokenValidator;
use confidential_client::testing::{Application, Fault, LocalAuthority, ManualClock};
use confidential_client::{
    Authority, CacheOptions, Cloud, ConfidentialClient, ConfidentialClientBuilder, Error,
    RetryPolicy, TokenSource,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    CLIENT_ID, Provider, SCOPE, SECRET, TENANT, client_of, client_that_hangs, let_others_run,
    poll_once, scope,
};

fn paused_runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// An authority that is served whatever becomes of the test's own runtimes, and a client of it.
fn served() -> (Runtime, LocalAuthority, ConfidentialClientBuilder) {
    let server = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let local = server.block_on(LocalAuthority::start()).unwrap();
    let application = Application::new(CLIENT_ID).secret(SECRET);
    let application = (0..50).fold(application, |application, number| {
        application.role(format!("api://{number}"), "Run")
    });
    local.register(TENANT, application);
    let builder = client_of(&local).client_secret(SECRET);
    (server, local, builder)
}

/// A synchronous program: a runtime for each job, whose connections go with it.
#[test]
fn a_runtime_for_each_job() {
    let (_server, local, builder) = served();
    let client = builder.build().unwrap();
    for job in 0..20 {
        let token = runtime().block_on(client.acquire_token_for_client(scope(job)));
        assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
        let token = runtime().block_on(client.acquire_token_for_client(scope(job)));
        assert_eq!(token.unwrap().source(), TokenSource::Cache);
    }
    assert_eq!(local.token_requests().len(), 20);
}

/// The same with runtimes that have threads of their own.
#[test]
fn a_runtime_with_threads_for_each_job() {
    let (_server, local, builder) = served();
    let client = builder.build().unwrap();
    for job in 0..20 {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let (client, scope) = (client.clone(), scope(job));
        let task =
            runtime.spawn(async move { client.acquire_token_for_client(scope).await.unwrap() });
        runtime.block_on(task).unwrap();
        runtime.shutdown_background();
    }
    // A connection that ends with its runtime may take a request along, which is then sent again.
    let requests = local.token_requests().len();
    assert!((20..40).contains(&requests), "{requests}");
}

/// Each thread has a runtime that stands still between its jobs, and whose connections nobody
/// drives meanwhile: another thread's request must not wait for one.
#[test]
fn a_runtime_for_each_thread() {
    let (_server, local, builder) = served();
    in_four_threads(&local, &builder.build().unwrap());
}

#[test]
fn a_runtime_for_each_thread_and_a_client_of_the_callers() {
    let (_server, local, builder) = served();
    let builder = builder.reqwest(reqwest::Client::builder());
    in_four_threads(&local, &builder.build().unwrap());
}

/// An authority with TLS behind a relay that counts the connections.
struct Counted {
    local: LocalAuthority,
    authority: Authority,
    connections: Arc<AtomicUsize>,
    _server: Runtime,
}

impl Counted {
    fn start(resources: usize) -> Self {
        let server = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let local = server.block_on(LocalAuthority::builder().tls().start());
        let local = local.unwrap();
        let application = Application::new(CLIENT_ID).secret(SECRET);
        let application = (0..resources).fold(application, |application, number| {
            application.role(format!("api://{number}"), "Run")
        });
        local.register(TENANT, application);
        let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let target = local.base_url().replace("https://", "");
        server.spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(&target).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        Self {
            local,
            authority: Authority::entra(Cloud::Custom(base), TENANT),
            connections,
            _server: server,
        }
    }

    fn trusted(&self) -> reqwest::ClientBuilder {
        let ca = self.local.ca_pem().unwrap();
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        reqwest::Client::builder().tls_certs_only([ca])
    }

    fn client(&self) -> ConfidentialClient {
        ConfidentialClient::builder(CLIENT_ID)
            .authority(self.authority.clone())
            .client_secret(SECRET)
            .retry(RetryPolicy::none())
            .reqwest(self.trusted())
            .build()
            .unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Failure O4.
#[test]
fn a_request_on_a_current_thread_runtime_does_not_open_a_connection_of_its_own() {
    let counted = Counted::start(1201);
    let client = counted.client();
    runtime().block_on(async {
        for number in 0..1201 {
            let token = client.acquire_token_for_client(scope(number)).await;
            assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
        }
    });
    assert_eq!(counted.local.token_requests().len(), 1201);
    assert_eq!(counted.connections(), 1);
}

/// The hidden thread of a blocking client drives the connection.
#[test]
fn a_blocking_client_opens_one_connection() {
    let counted = Counted::start(1201);
    let client = blocking::ConfidentialClient::from(counted.client());
    for number in 0..1201 {
        let token = client.acquire_token_for_client(scope(number));
        assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    }
    assert_eq!(counted.local.token_requests().len(), 1201);
    assert_eq!(counted.connections(), 1);
}

/// Both runtimes are on one thread, so that a thread's name does not tell them apart.
#[test]
fn a_request_does_not_hang_on_the_connection_of_a_runtime_that_stands_still() {
    let counted = Counted::start(40);
    let client = counted.client();
    let (standing, other) = (runtime(), runtime());
    standing
        .block_on(client.acquire_token_for_client(scope(0)))
        .unwrap();
    // `standing` exists and is not driven any more.
    for number in 1..20 {
        other
            .block_on(client.acquire_token_for_client(scope(number)))
            .unwrap();
    }
    assert_eq!(counted.connections(), 1);
    // Another kind of runtime, and then the first one again.
    let threads = Builder::new_multi_thread().enable_all().build().unwrap();
    threads
        .block_on(client.acquire_token_for_client(scope(20)))
        .unwrap();
    standing
        .block_on(client.acquire_token_for_client(scope(21)))
        .unwrap();
    assert_eq!(counted.local.token_requests().len(), 22);
}

/// A call that was given up in the middle of a request takes its connection along, and no more.
#[test]
fn a_call_given_up_on_one_runtime_does_not_hold_up_another_runtime() {
    let counted = Counted::start(10);
    let client = counted.client();
    let standing = runtime();
    counted
        .local
        .script([Fault::delayed(Duration::from_secs(60))]);
    standing.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(scope(0)));
        assert!(poll_once(&mut caller).is_pending());
        while counted.local.token_requests().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    let other = runtime();
    for number in 1..5 {
        other
            .block_on(client.acquire_token_for_client(scope(number)))
            .unwrap();
    }
    assert_eq!(counted.local.token_requests().len(), 5);
}

/// The connections of a job do not end with the runtime of the job.
#[test]
fn a_dropped_runtime_does_not_take_the_connection_along() {
    let counted = Counted::start(20);
    let client = counted.client();
    for job in 0..20 {
        let token = runtime().block_on(client.acquire_token_for_client(scope(job)));
        assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    }
    assert_eq!(counted.local.token_requests().len(), 20);
    assert_eq!(counted.connections(), 1);
}

#[test]
fn a_validator_does_not_open_a_connection_for_each_runtime() {
    let counted = Counted::start(1);
    let client = counted.client();
    let token = runtime().block_on(client.acquire_token_for_client(scope(0)));
    let token = token.unwrap();
    let validator = TokenValidator::builder(counted.authority.clone())
        .audience("api://0")
        .single_tenant()
        .reqwest(counted.trusted())
        .build()
        .unwrap();
    let before = counted.connections();
    for _ in 0..5 {
        let validated = runtime().block_on(validator.validate(token.secret()));
        validated.unwrap();
    }
    // The metadata and the keys.
    assert_eq!(counted.connections(), before + 1);
}

fn in_four_threads(local: &LocalAuthority, client: &ConfidentialClient) {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            let (jobs, todo) = mpsc::channel::<usize>();
            let (done, outcomes) = mpsc::channel();
            thread::spawn(move || {
                let runtime = runtime();
                for job in todo {
                    let token = runtime.block_on(client.acquire_token_for_client(scope(job)));
                    done.send(token).unwrap();
                }
            });
            (jobs, outcomes)
        })
        .collect();
    for job in 0..20 {
        let (jobs, outcomes) = &threads[job % 4];
        jobs.send(job).unwrap();
        outcomes.recv().unwrap().unwrap();
    }
    assert_eq!(local.token_requests().len(), 20);
}

#[test]
fn a_flight_on_a_dropped_runtime_is_replaced() {
    let provider = Provider::gated();
    let client = provider.client();
    let (first, second) = (runtime(), runtime());
    first.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    assert_eq!(provider.requests(), 1);
    let token = second.block_on(async {
        let mut waiter = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut waiter).is_pending());
        let_others_run().await;
        assert_eq!(provider.requests(), 1, "it joined");
        first.shutdown_background();
        provider.release();
        waiter.await
    });
    assert_eq!(token.unwrap().secret(), "token-2");
    assert_eq!(provider.requests(), 2);
}

/// The flight's runtime is there and never driven again; the waiter has a timer of its own (in
/// tokio's paused time, over an in-memory transport).
#[test]
fn a_flight_on_a_stalled_runtime_is_replaced() {
    let provider = Provider::gated();
    let client = provider.client();
    let paused = paused_runtime();
    let stalled = runtime();
    stalled.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    provider.release();
    let token = paused.block_on(client.acquire_token_for_client(SCOPE));
    assert_eq!(token.unwrap().secret(), "token-2");
}

/// The flight's runtime stands still, and the flight holds the only permit. Simulated time: the
/// waiter's runtime is paused and its timers fire in order.
#[test]
fn a_flight_on_a_stalled_runtime_is_not_waited_for_until_its_deadline() {
    let provider = Provider::gated();
    let options = CacheOptions::default().max_concurrent_requests(1);
    let client = provider.builder().cache(options).build().unwrap();
    let (stalled, paused) = (runtime(), paused_runtime());
    stalled.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    provider.release();
    paused.block_on(async {
        let began = tokio::time::Instant::now();
        let token = client.acquire_token_for_client(SCOPE).await;
        assert_eq!(token.unwrap().secret(), "token-2");
        assert!(began.elapsed() < Duration::from_secs(3), "of 31");
    });
    assert_eq!(provider.requests(), 2);
}

/// The same for a runtime that stands still while it discovers the authority.
#[test]
fn a_discovery_on_a_stalled_runtime_is_not_waited_for_until_its_deadline() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let transport = move |request: http::Request<bytes::Bytes>| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            let body = match request.uri().path() {
                "/token" => r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#,
                _ => {
                    r#"{"issuer":"https://id.example","token_endpoint":"https://id.example/token"}"#
                }
            };
            Ok(http::Response::new(bytes::Bytes::from(body)))
        }
    };
    let client = ConfidentialClient::builder(CLIENT_ID)
        .authority(Authority::oidc("https://id.example"))
        .client_secret(SECRET)
        .transport(transport)
        .build()
        .unwrap();
    let (stalled, paused) = (runtime(), paused_runtime());
    stalled.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client("first"));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    paused.block_on(async {
        let began = tokio::time::Instant::now();
        client.acquire_token_for_client("second").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "of 11");
    });
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

/// failures.md O6: one thread gives its call up and stands still until another thread has the token,
/// over real sockets. Without a heartbeat the other thread waits for ten minutes.
#[test]
fn a_thread_that_stands_still_does_not_hold_up_another_thread() {
    let (_server, local, builder) = served();
    let retry = RetryPolicy::default().deadline(Duration::from_secs(600));
    let client = builder.retry(retry).build().unwrap();
    let (begun, served) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let first = {
        let (client, begun, served) = (client.clone(), begun.clone(), served.clone());
        thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async {
                let mut caller = Box::pin(client.acquire_token_for_client(scope(0)));
                assert!(poll_once(&mut caller).is_pending());
            });
            begun.wait();
            served.wait();
        })
    };
    begun.wait();
    let token = runtime().block_on(client.acquire_token_for_client(scope(0)));
    assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    served.wait();
    first.join().unwrap();
    // The abandoned request was not sent: its runtime did not run again.
    assert_eq!(local.token_requests().len(), 1);
}

/// The same where that flight has the user's refresh token, which one redeems at a time.
#[test]
fn a_refresh_token_on_a_stalled_runtime_is_not_lost_to_the_user() {
    let provider = Provider::open();
    let client = provider.client();
    let adele = UserAssertion::new("opaque");
    let stalled = runtime();
    stalled.block_on(async {
        provider.answer(
            200,
            r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a","refresh_token":"r"}"#,
        );
        client
            .acquire_token_on_behalf_of(&adele, "api://a/x")
            .await
            .unwrap();
        provider.hold();
        let mut caller = Box::pin(client.acquire_token_on_behalf_of(&adele, "api://b/x"));
        assert!(poll_once(&mut caller).is_pending());
        let_others_run().await;
    });
    provider.release();
    paused_runtime().block_on(async {
        // It waits for the other for nearly all its time, if not all.
        let _ = client.acquire_token_on_behalf_of(&adele, "api://c/x").await;
        let token = client.acquire_token_on_behalf_of(&adele, "api://d/x").await;
        token.unwrap();
    });
    assert_eq!(provider.field(2, "refresh_token").as_deref(), Some("r"));
}

/// A renewal for which nobody waits goes down with its runtime: the next call starts another.
#[test]
fn a_refresh_on_a_dropped_runtime_is_replaced() {
    let provider = Provider::gated();
    let clock = ManualClock::new();
    let client = provider.client_at(&clock);
    let first = runtime();
    first.block_on(async {
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut caller).is_pending());
        provider.release();
        caller.await.unwrap();
        clock.advance(Duration::from_secs(3400));
        // The task is spawned and never polled.
        assert!(poll_once(&mut Box::pin(client.acquire_token_for_client(SCOPE))).is_ready());
    });
    drop(first);
    runtime().block_on(async {
        client.acquire_token_for_client(SCOPE).await.unwrap();
        let_others_run().await;
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(token.secret(), "token-2");
    });
}

#[test]
fn outside_a_runtime_a_hit_is_served_and_a_miss_says_what_is_missing() {
    let provider = Provider::open();
    let clock = ManualClock::new();
    let client = provider.client_at(&clock);
    let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
    let std::task::Poll::Ready(Err(error)) = poll_once(&mut caller) else {
        panic!("it is known at once");
    };
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
    assert_eq!(provider.requests(), 0);

    runtime()
        .block_on(client.acquire_token_for_client(SCOPE))
        .unwrap();
    for (age, name) in [(0, "fresh"), (3400, "due, and not renewed here")] {
        clock.advance(Duration::from_secs(age));
        let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
        assert!(poll_once(&mut caller).is_ready(), "{name}");
    }
    assert_eq!(provider.requests(), 1);
}

/// A job that panics takes its runtime down while it unwinds: its flights have not failed.
#[test]
fn a_flight_of_a_panicked_job_is_replaced() {
    let provider = Provider::gated();
    let client = provider.client();
    let mut waiter = Box::pin(client.acquire_token_for_client(SCOPE));
    let second = runtime();
    let job = || {
        let first = runtime();
        first.block_on(async {
            assert!(poll_once(&mut Box::pin(client.acquire_token_for_client(SCOPE))).is_pending());
            let_others_run().await;
        });
        second.block_on(async { assert!(poll_once(&mut waiter).is_pending()) });
        panic!("the job has a bug of its own");
    };
    catch_unwind(AssertUnwindSafe(job)).unwrap_err();
    provider.release();
    let token = second.block_on(waiter);
    assert!(token.is_ok(), "{token:?}");
}

#[test]
fn dropping_the_client_ends_an_abandoned_flight() {
    let (client, ended) = client_that_hangs();
    let (stalled, second) = (runtime(), paused_runtime());
    stalled.block_on(async {
        assert!(poll_once(&mut Box::pin(client.acquire_token_for_client(SCOPE))).is_pending());
        let_others_run().await;
    });
    second.block_on(async {
        let error = client.acquire_token_for_client(SCOPE).await.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
    });
    drop(client);
    stalled.block_on(let_others_run());
    assert_eq!(ended.load(Ordering::SeqCst), 2);
}
