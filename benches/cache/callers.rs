//! The number of token requests from many callers at once, without a valid cached token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::{ConfidentialClient, RetryPolicy};
use http::{Request, Response, StatusCode};
use tokio::sync::Barrier;

use crate::setup::{self, Result, SCOPE};
use crate::table::{Table, verdict};

pub(crate) fn report(callers: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()?;
    println!("{callers} callers at once, on two threads.\n");
    let mut table = Table::new(["where", "requests", "goal", "verdict"]);
    for (name, scenario) in [
        ("nothing is there", Scenario::NoToken),
        ("the token has expired", Scenario::Expired),
        ("the provider answers 503", Scenario::Failing),
    ] {
        let requests = runtime.block_on(count_requests(callers, scenario))?;
        table.row([
            name.to_owned(),
            requests.to_string(),
            "1".to_owned(),
            verdict(requests == 1),
        ]);
    }
    table.print();
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Scenario {
    NoToken,
    Expired,
    Failing,
}

async fn count_requests(callers: usize, scenario: Scenario) -> Result<usize> {
    let requests = Arc::new(AtomicUsize::new(0));
    let clock = ManualClock::new();
    let client = client(&requests, &clock, scenario)?;
    if scenario == Scenario::Expired {
        client.acquire_token_for_client(SCOPE).await?;
        clock.advance(Duration::from_secs(3600));
        requests.store(0, Ordering::Relaxed);
    }
    let barrier = Arc::new(Barrier::new(callers));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (client, barrier) = (client.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                client.acquire_token_for_client(SCOPE).await.is_ok()
            })
        })
        .collect();
    for task in tasks {
        if task.await? == (scenario == Scenario::Failing) {
            return Err("a caller got another result than the provider's response".into());
        }
    }
    Ok(requests.load(Ordering::Relaxed))
}

/// Builds a client with a slow provider that counts the requests.
fn client(
    requests: &Arc<AtomicUsize>,
    clock: &ManualClock,
    scenario: Scenario,
) -> Result<ConfidentialClient> {
    let requests = Arc::clone(requests);
    let client = setup::bare_builder()
        .clock(clock.clone())
        // A retry is another HTTP request for the same callers.
        .retry(RetryPolicy::none())
        .transport(move |_: Request<bytes::Bytes>| {
            requests.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let mut response = Response::new(setup::token_response(0));
                if scenario == Scenario::Failing {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                Ok(response)
            }
        })
        .build()?;
    Ok(client)
}
