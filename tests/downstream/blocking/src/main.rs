//! A program that is not async, has no tokio of its own, and forks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use confidential_client::Error;
use confidential_client::blocking::ConfidentialClient;
use fork::{Fork, WEXITSTATUS, WIFEXITED, fork, waitpid};
use http::{Request, Response};

const SCOPE: &str = "https://graph.microsoft.com/.default";

/// Returns a client, and the number of its token requests. Requests of the tenant `hangs.example`
/// get no response.
fn client() -> (ConfidentialClient, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let client = ConfidentialClient::builder("11111111-2222-3333-4444-555555555555")
        .tenant("contoso.onmicrosoft.com")
        .client_secret("s3cret")
        .transport(move |request: Request<Bytes>| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                if request.uri().path().contains("hangs") {
                    std::future::pending::<()>().await;
                }
                let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"abc"}"#;
                Ok(Response::new(Bytes::from(body)))
            }
        })
        .build_blocking()
        .expect("a client");
    (client, requests)
}

/// What a child of the process that used the client gets.
fn in_the_child(client: ConfidentialClient, unused: ConfidentialClient) {
    let hit = client
        .acquire_token_for_client(SCOPE)
        .expect("a cached token");
    assert_eq!(hit.secret(), "abc");
    let error = client
        .acquire_token_for_client("api://other/.default")
        .expect_err("no thread");
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("before a fork"), "{error}");
    let warm_up = client.warm_up(["api://other/.default"]).next();
    warm_up.expect("an outcome").1.expect_err("no thread");
    // No drop waits for a thread that does not exist.
    drop(client);
    unused
        .acquire_token_for_client(SCOPE)
        .expect("a client that was not used before the fork");
    let (built_after, _) = self::client();
    built_after
        .acquire_token_for_client(SCOPE)
        .expect("a client that was built after the fork");
}

fn main() {
    let (client, requests) = client();
    let (unused, _) = self::client();
    client.acquire_token_for_client(SCOPE).expect("a token");
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.acquire_token_for_client(SCOPE))
        })
        .collect();
    for caller in callers {
        caller.join().expect("a caller").expect("a token");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    match fork().expect("a child") {
        Fork::Child => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                in_the_child(client, unused);
            }));
            std::process::exit(i32::from(passed.is_err()));
        }
        Fork::Parent(child) => {
            let status = waitpid(child).expect("the end of the child");
            assert!(
                WIFEXITED(status) && WEXITSTATUS(status) == 0,
                "the child failed"
            );
        }
    }
    client
        .acquire_token_for_client("api://other/.default")
        .expect("the parent goes on");

    // The end of the process waits for no call.
    let (started, in_flight) = mpsc::channel();
    let hanging = confidential_client::TokenRequest::new(SCOPE).tenant("hangs.example");
    thread::spawn(move || {
        started.send(()).expect("the main thread");
        client.acquire_token_for_client(hanging)
    });
    in_flight.recv().expect("a thread");
    while requests.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
    println!("{}: tokens without tokio", env!("CARGO_PKG_NAME"));
}
