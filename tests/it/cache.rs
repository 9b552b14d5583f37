//! Cached tokens: for how long they are returned, and for which requests.

use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::time::Clock;
use confidential_client::{CacheOptions, TokenRequest, TokenSource};
use http::HeaderMap;

use crate::support::{Provider, SCOPE, let_others_run, poll_once, success};

#[tokio::test]
async fn the_second_call_is_served_from_memory() {
    let provider = Provider::open();
    let client = provider.client();
    let first = client.acquire_token_for_client(SCOPE).await.unwrap();
    let second = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(first.source(), TokenSource::IdentityProvider);
    assert_eq!(second.source(), TokenSource::Cache);
    assert_eq!(second.secret(), "token-1");
    assert_eq!(second.correlation_id(), first.correlation_id());
    assert_eq!(provider.requests(), 1);
}

/// docs/failures.md M14.
#[tokio::test]
async fn requests_share_a_token_exactly_if_they_ask_for_the_same() {
    let provider = Provider::open();
    let client = provider.client();
    let default = || TokenRequest::new(SCOPE);
    for (name, request, new) in [
        ("the first", default(), true),
        ("its repetition", default(), false),
        (
            "white space",
            TokenRequest::new(format!(" {SCOPE} ")),
            false,
        ),
        ("the scope twice", default().scopes([SCOPE]), false),
        ("an array of scopes", [SCOPE, SCOPE].into(), false),
        ("a slice of scopes", (&[SCOPE][..]).into(), false),
        (
            "another correlation id",
            default().correlation_id("a1a2a3a4-b1b2-c1c2-d1d2-e1e2e3e4e5e6"),
            false,
        ),
        (
            "the client's own tenant",
            default().tenant("contoso.onmicrosoft.com"),
            false,
        ),
        (
            "the tenant in capitals",
            default().tenant("CONTOSO.onmicrosoft.com"),
            false,
        ),
        ("another tenant", default().tenant("fabrikam.com"), true),
        (
            "another resource",
            TokenRequest::new("api://a/.default"),
            true,
        ),
        (
            "another case of it",
            TokenRequest::new("api://A/.default"),
            true,
        ),
        (
            "a double slash",
            TokenRequest::new("api://a//.default"),
            true,
        ),
    ] {
        let before = provider.requests();
        client.acquire_token_for_client(request).await.unwrap();
        assert_eq!(provider.requests() - before, usize::from(new), "{name}");
    }
}

#[tokio::test]
async fn every_tenant_gets_its_own_token() {
    let provider = Provider::open();
    let client = provider.client();
    for _ in 0..2 {
        for (number, tenant) in ["a.example", "b.example"].into_iter().enumerate() {
            let request = TokenRequest::new(SCOPE).tenant(tenant);
            let token = client.acquire_token_for_client(request).await.unwrap();
            assert_eq!(token.tenant_id(), Some(tenant));
            assert_eq!(token.secret(), format!("token-{}", number + 1));
            let endpoint = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
            assert_eq!(provider.uri(number), endpoint);
        }
    }
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn an_expired_token_is_not_served() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance(Duration::from_secs(3599));
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(token.secret(), "token-2");
    assert_eq!(token.source(), TokenSource::IdentityProvider);
}

#[tokio::test]
async fn a_lifetime_starts_when_the_request_is_sent() {
    let clock = ManualClock::new();
    let provider = Provider::gated();
    let client = provider.client_at(&clock);
    let asked = clock.wall();
    let mut caller = Box::pin(client.acquire_token_for_client(SCOPE));
    assert!(poll_once(&mut caller).is_pending());
    let_others_run().await;
    clock.advance(Duration::from_secs(20));
    provider.release();
    let token = caller.await.unwrap();
    assert_eq!(token.expires_on(), asked + Duration::from_secs(3599));
}

#[tokio::test]
async fn a_suspended_machine_does_not_keep_a_token_alive() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.advance_wall(Duration::from_secs(3599));
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(token.secret(), "token-2");
}

#[tokio::test]
async fn a_wall_clock_set_back_does_not_keep_a_token_alive() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    clock.turn_wall_back(Duration::from_secs(7200));
    clock.advance(Duration::from_secs(3599));
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(token.secret(), "token-2");
}

/// docs/failures.md F4: nothing is renewed in a circle.
#[tokio::test]
async fn a_token_shorter_than_the_margins_is_cached_without_endless_refreshes() {
    let provider = Provider::open();
    provider.answer_with(success("short", 60));
    let client = provider.client();
    for _ in 0..100 {
        let token = client.acquire_token_for_client(SCOPE).await.unwrap();
        assert_eq!(token.secret(), "short");
        let_others_run().await;
    }
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn a_provider_shares_the_clients_cache() {
    let provider = Provider::open();
    let client = provider.client();
    let graph = client.token_provider(SCOPE).unwrap();
    assert!(graph.cached().is_none());
    assert_eq!(provider.requests(), 0, "making and reading one asks nobody");

    let token = graph.token().await.unwrap();
    assert_eq!(token.source(), TokenSource::IdentityProvider);
    let cached = graph.cached().unwrap();
    assert_eq!(
        (cached.secret(), cached.source()),
        ("token-1", TokenSource::Cache)
    );
    let other = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(other.source(), TokenSource::Cache);
    assert_eq!(provider.requests(), 1);
}

#[tokio::test]
async fn cached_is_a_pure_read() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let graph = client.token_provider(SCOPE).unwrap();
    graph.token().await.unwrap();
    clock.advance(Duration::from_secs(3400));
    assert!(graph.cached().is_some(), "due, and good");
    clock.advance(Duration::from_secs(199));
    assert!(graph.cached().is_none(), "over");
    let_others_run().await;
    assert_eq!(provider.requests(), 1, "and nothing was started");
}

#[tokio::test]
async fn authorize_sets_the_header_or_leaves_it() {
    let provider = Provider::open();
    provider.answer(400, r#"{"error":"invalid_scope"}"#);
    let client = provider.client();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Basic before".parse().unwrap());
    let refused = client.token_provider("api://a/.default").unwrap();
    refused.authorize(&mut headers).await.unwrap_err();
    assert_eq!(headers["authorization"], "Basic before");

    let granted = client.token_provider(SCOPE).unwrap();
    granted.authorize(&mut headers).await.unwrap();
    assert_eq!(headers.get_all("authorization").iter().count(), 1);
    assert_eq!(headers["authorization"], "Bearer token-2");
    assert!(headers["authorization"].is_sensitive());
}

/// docs/failures.md F9 and M3: a stated bound holds however many tenants come, and what is in use stays.
#[tokio::test]
async fn the_number_of_tokens_is_bounded() {
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(100);
    let client = provider.builder().cache(options).build().unwrap();
    let at = |tenant: &str| TokenRequest::new(SCOPE).tenant(tenant);
    let bound = client.token_provider(at("bound.example")).unwrap();
    bound.token().await.unwrap();
    for number in 0..5_000 {
        let tenant = format!("tenant-{number}.example");
        client.acquire_token_for_client(at(&tenant)).await.unwrap();
        // In use all the time.
        client
            .acquire_token_for_client(at("used.example"))
            .await
            .unwrap();
        assert!(client.cache().len() <= 101, "{}", client.cache().len());
    }
    assert_eq!(provider.requests(), 5_002);
    assert!(bound.cached().is_some());
    client
        .acquire_token_for_client(at("tenant-4999.example"))
        .await
        .unwrap();
    client
        .acquire_token_for_client(at("bound.example"))
        .await
        .unwrap();
    assert_eq!(provider.requests(), 5_002);
    client
        .acquire_token_for_client(at("tenant-0.example"))
        .await
        .unwrap();
    assert_eq!(
        provider.requests(),
        5_003,
        "it was forgotten, and is fetched anew"
    );
}

#[tokio::test]
async fn a_cleared_cache_sends_a_request_despite_a_remembered_failure() {
    let provider = Provider::open();
    let client = provider.client();
    let bound = client.token_provider(SCOPE).unwrap();
    bound.token().await.unwrap();
    provider.answer(429, "");
    let other = "api://other/.default";
    client.acquire_token_for_client(other).await.unwrap_err();
    client.acquire_token_for_client(other).await.unwrap_err();
    assert_eq!((provider.requests(), client.cache().len()), (2, 2));

    client.cache().clear();
    assert!(bound.cached().is_none());
    client.acquire_token_for_client(other).await.unwrap();
    bound.token().await.unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(
        provider.requests(),
        4,
        "and the provider's place is still the client's"
    );
}

#[test]
fn a_cache_without_capacity_is_rejected() {
    let options = CacheOptions::default().max_entries(0);
    let builder = Provider::open().builder().cache(options);
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains("must be at least 1"), "{error}");
}

#[tokio::test]
async fn a_clock_near_its_maximum_causes_no_overflow() {
    struct AtTheEnd(std::time::Instant);
    impl Clock for AtTheEnd {
        fn wall(&self) -> std::time::SystemTime {
            std::time::SystemTime::now()
        }
        fn monotonic(&self) -> std::time::Instant {
            self.0
        }
    }
    let mut end = std::time::Instant::now();
    for power in (0..63).rev() {
        end = end
            .checked_add(Duration::from_secs(1 << power))
            .unwrap_or(end);
    }
    let client = Provider::open()
        .builder()
        .clock(AtTheEnd(end))
        .build()
        .unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
}

#[tokio::test]
async fn no_limit_is_too_large() {
    let provider = Provider::open();
    let options = CacheOptions::default()
        .max_entries(usize::MAX)
        .max_concurrent_requests(usize::MAX);
    let client = provider.builder().cache(options).build().unwrap();
    client.acquire_token_for_client(SCOPE).await.unwrap();
    let request = TokenRequest::new(SCOPE).min_remaining(Duration::MAX);
    client.acquire_token_for_client(request).await.unwrap();
}
