//! `WarmUp`: the number of requests at a time, and the outcomes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use confidential_client::testing::{Application, LocalAuthority};
use confidential_client::transport::Transport;
use confidential_client::{
    AccessToken, ConfidentialClient, Error, TokenRequest, TokenSource, WarmUp,
};
use http::Request;
use tokio::task::yield_now;

use crate::support::{
    CLIENT_ID, Provider, SCOPE, SECRET, TENANT, client_of, let_others_run, poll_once, success,
};

type Outcome = (TokenRequest, Result<AccessToken, Error>);

fn tenant(number: usize) -> String {
    format!("tenant-{number}.example")
}

fn in_tenants(numbers: std::ops::Range<usize>) -> impl Iterator<Item = TokenRequest> {
    numbers.map(|number| TokenRequest::new(SCOPE).tenant(tenant(number)))
}

async fn all(mut warm_up: WarmUp) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while let Some(outcome) = warm_up.next().await {
        outcomes.push(outcome);
    }
    outcomes
}

/// Checks that these are the outcomes of tenants 0 to `count`, each once.
fn assert_each_once(outcomes: &[Outcome], count: usize) {
    let tenants = outcomes.iter().map(|(request, _)| request.tenant_id());
    let tenants: BTreeSet<_> = tenants.map(Option::unwrap).map(str::to_owned).collect();
    assert_eq!(tenants, (0..count).map(tenant).collect());
    assert_eq!(outcomes.len(), count);
}

/// A client whose requests are counted while they are under way.
fn counting(most_at_a_time: &Arc<AtomicUsize>) -> ConfidentialClient {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(most_at_a_time));
    let transport = move |_: Request<Bytes>| {
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        async move {
            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            // Time for the others to come, were there more of them.
            for _ in 0..10 {
                yield_now().await;
            }
            under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(success("token", 3599))
        }
    };
    let builder = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET);
    builder.transport(transport).build().unwrap()
}

#[tokio::test]
async fn there_are_never_more_requests_at_a_time_than_allowed() {
    for (max, name) in [(1, "one"), (7, "seven"), (1_000, "more than there are")] {
        let most = Arc::new(AtomicUsize::new(0));
        let client = counting(&most);
        let outcomes = all(client.warm_up(in_tenants(0..100)).max_concurrent(max)).await;
        assert_each_once(&outcomes, 100);
        assert_eq!(most.load(Ordering::SeqCst), max.min(100), "{name}");
    }
}

#[tokio::test]
async fn as_many_as_allowed_are_under_way_before_the_first_answer() {
    for (max, expected) in [(Some(0), 1), (Some(3), 3), (None, 32)] {
        let provider = Provider::gated();
        let client = provider.client();
        let mut warm_up = client.warm_up(in_tenants(0..100));
        if let Some(max) = max {
            warm_up = warm_up.max_concurrent(max);
        }
        let_others_run().await;
        assert_eq!(provider.requests(), 0, "nothing before it is asked for");

        assert!(poll_once(&mut Box::pin(warm_up.next())).is_pending());
        let_others_run().await;
        assert_eq!(provider.requests(), expected, "{max:?}");
        assert_eq!(warm_up.remaining(), 100, "nothing is reported");
        provider.release();
        assert_each_once(&all(warm_up).await, 100);
        assert_eq!(provider.requests(), 100);
    }
}

#[tokio::test]
async fn what_remains_counts_down_to_nothing_and_stays_there() {
    let provider = Provider::open();
    let mut warm_up = provider.client().warm_up(in_tenants(0..100));
    for remaining in (0..100).rev() {
        assert!(warm_up.next().await.is_some());
        assert_eq!(warm_up.remaining(), remaining);
    }
    for _ in 0..3 {
        assert!(warm_up.next().await.is_none());
        assert_eq!(warm_up.remaining(), 0);
    }
    let nothing: [&str; 0] = [];
    assert!(provider.client().warm_up(nothing).next().await.is_none());
}

#[tokio::test]
async fn a_failed_token_is_an_outcome_and_the_others_continue() {
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(|request: Request<Bytes>| async move {
            let refused = r#"{"error":"unauthorized_client","error_codes":[700016]}"#;
            match request.uri().path().split('/').nth(1) {
                Some("refused.example") => {
                    let refusal = http::Response::builder().status(400);
                    Ok(refusal.body(Bytes::from(refused))?)
                }
                Some("down.example") => Err("connection reset".into()),
                _ => Ok(success("token", 3599)),
            }
        })
        .build()
        .unwrap();
    let graph = TokenRequest::new(SCOPE);
    let requests = [
        TokenRequest::from("no-scope-of-an-application"),
        graph.clone().tenant("common"),
        graph.clone().tenant("no tenant"),
        graph.clone().tenant("refused.example"),
        graph.clone().tenant("good.example"),
        graph.clone().tenant("down.example"),
        graph.correlation_id("no GUID"),
        TokenRequest::from("api://good/.default"),
    ];
    for max in [1, 32] {
        let mut seen = Vec::new();
        for (request, result) in all(client.warm_up(&requests).max_concurrent(max)).await {
            let tenant = request.tenant_id().unwrap_or("its own").to_owned();
            let result = match result {
                Ok(token) => token.secret().to_owned(),
                Err(error) => format!("{:?}", error.kind()),
            };
            seen.push((tenant, result));
        }
        seen.sort();
        let seen: Vec<_> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let expected = [
            ("common", "Config"),
            ("down.example", "Transport"),
            ("good.example", "token"),
            ("its own", "Config"),
            ("its own", "Config"),
            ("its own", "token"),
            ("no tenant", "Config"),
            ("refused.example", "Server"),
        ];
        assert_eq!(seen, expected, "{max} at a time");
    }
}

#[tokio::test]
async fn outcomes_come_as_they_are_ready() {
    let provider = Provider::gated();
    let slow = Arc::new(provider.transport());
    let client = ConfidentialClient::builder(CLIENT_ID)
        .tenant(TENANT)
        .client_secret(SECRET)
        .transport(move |request: Request<Bytes>| {
            let slow = Arc::clone(&slow);
            async move {
                match request.uri().path().starts_with("/tenant-0.") {
                    true => slow.send(request).await,
                    false => Ok(success("fast", 3599)),
                }
            }
        })
        .build()
        .unwrap();
    let mut warm_up = client.warm_up(in_tenants(0..50)).max_concurrent(2);
    let mut outcomes = Vec::new();
    for _ in 1..50 {
        let outcome = warm_up.next().await.unwrap();
        assert_eq!(outcome.1.as_ref().unwrap().secret(), "fast");
        outcomes.push(outcome);
    }
    provider.release();
    outcomes.extend(warm_up.next().await);
    assert_each_once(&outcomes, 50);
}

#[tokio::test]
async fn dropping_a_call_of_next_loses_no_outcome() {
    let provider = Provider::gated();
    let client = provider.client();
    let mut warm_up = client.warm_up(in_tenants(0..50)).max_concurrent(4);
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let mut next = Box::pin(warm_up.next());
        match poll_once(&mut next) {
            Poll::Ready(Some(outcome)) => outcomes.push(outcome),
            Poll::Ready(None) => break,
            // Dropped here; what it waited for comes while nobody waits.
            Poll::Pending => {}
        }
        drop(next);
        if polls == 3 {
            assert!(outcomes.is_empty());
            provider.release();
        }
        let_others_run().await;
    }
    assert_each_once(&outcomes, 50);
    assert_eq!(provider.requests(), 50);
}

#[tokio::test]
async fn dropping_a_warm_up_keeps_the_requests_in_flight() {
    let provider = Provider::gated();
    let client = provider.client();
    let mut warm_up = client.warm_up(in_tenants(0..50)).max_concurrent(3);
    assert!(poll_once(&mut Box::pin(warm_up.next())).is_pending());
    let_others_run().await;
    drop(warm_up);
    provider.release();
    let_others_run().await;
    assert_eq!(provider.requests(), 3);
    for request in in_tenants(0..3) {
        let token = client.acquire_token_for_client(request).await.unwrap();
        assert_eq!(token.source(), TokenSource::Cache);
    }
    assert_eq!(provider.requests(), 3);
}

#[tokio::test]
async fn duplicates_make_one_request() {
    let provider = Provider::open();
    let request = |name: &str| TokenRequest::new(SCOPE).tenant(name);
    let spellings = ["fabrikam.com", "FABRIKAM.com"].map(request);
    let requests = spellings.iter().cycle().take(50);
    let outcomes = all(provider.client().warm_up(requests)).await;
    assert_eq!(outcomes.len(), 50);
    for (_, result) in outcomes {
        assert_eq!(result.unwrap().secret(), "token-1");
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn what_is_in_the_cache_is_reported_from_it() {
    let provider = Provider::open();
    let client = provider.client();
    all(client.warm_up(in_tenants(0..20))).await;
    let outcomes = all(client.warm_up(in_tenants(0..30))).await;
    assert_each_once(&outcomes, 30);
    let from_cache = |(_, result): &&Outcome| {
        result.as_ref().map(AccessToken::source).ok() == Some(TokenSource::Cache)
    };
    assert_eq!(outcomes.iter().filter(from_cache).count(), 20);
    assert_eq!(provider.requests(), 30);
}

#[tokio::test]
async fn a_warm_up_sends_few_requests_in_an_outage() {
    let provider = Provider::open();
    for _ in 0..50 {
        provider.answer(503, "");
    }
    let client = provider.client();
    for pass in ["asked", "remembered"] {
        let outcomes = all(client.warm_up(in_tenants(0..50))).await;
        assert_each_once(&outcomes, 50);
        for (_, result) in outcomes {
            assert!(result.unwrap_err().is_transient(), "{pass}");
        }
        assert_eq!(
            provider.requests(),
            32,
            "{pass}: those under way when the first failed"
        );
    }
}

#[test]
fn outside_a_runtime_it_is_as_any_other_call() {
    let provider = Provider::open();
    let client = provider.client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cached = in_tenants(0..1).next().unwrap();
    let cached = client.acquire_token_for_client(cached);
    runtime.block_on(cached).unwrap();

    let mut warm_up = client.warm_up(in_tenants(0..50));
    let mut outcomes = Vec::new();
    while let Poll::Ready(Some(outcome)) = poll_once(&mut Box::pin(warm_up.next())) {
        outcomes.push(outcome);
    }
    assert_each_once(&outcomes, 50);
    let mut results = outcomes.into_iter().map(|(_, result)| result);
    let first = results.next().unwrap().unwrap();
    assert_eq!(first.source(), TokenSource::Cache);
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        assert!(error.to_string().contains("no tokio runtime"), "{error}");
    }
    assert_eq!(provider.requests(), 1);
}

/// A runtime per call is not what it is for, and no reason to panic or to wait for ever.
#[test]
fn it_survives_the_end_of_a_runtime() {
    let provider = Provider::gated();
    let client = provider.client();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let mut warm_up = client.warm_up(in_tenants(0..20)).max_concurrent(4);
    let first = runtime();
    first.block_on(async {
        assert!(poll_once(&mut Box::pin(warm_up.next())).is_pending());
        let_others_run().await;
    });
    drop(first);
    provider.release();
    let outcomes = runtime().block_on(all(warm_up));
    assert_each_once(&outcomes, 20);
    let errors = outcomes.into_iter().filter_map(|(_, result)| result.err());
    let errors: Vec<_> = errors.collect();
    assert!(errors.len() <= 4, "those that waited there at most");
    for error in errors {
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_its_own_warms_up_over_sockets() {
    let local = LocalAuthority::start().await.unwrap();
    for number in 0..50 {
        let application = Application::new(CLIENT_ID).secret(SECRET);
        local.register(tenant(number), application);
    }
    let client = client_of(&local).client_secret(SECRET).build().unwrap();
    let warm_up = client.warm_up(in_tenants(0..50)).max_concurrent(8);
    let outcomes = tokio::spawn(all(warm_up)).await.unwrap();
    assert_each_once(&outcomes, 50);
    for (request, result) in outcomes {
        assert_eq!(result.unwrap().tenant_id(), request.tenant_id());
    }
    assert_eq!(local.token_requests().len(), 50);
}
