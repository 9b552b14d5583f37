//! Requests that are used again: by the text of the scope, and by reference.

use std::time::Duration;

use confidential_client::testing::ManualClock;
use confidential_client::{CacheOptions, IntoTokenRequest, TokenRequest, TokenSource};

use crate::support::{Provider, SCOPE, let_others_run, scope};

/// A request remembers the cache entry of a client. Another client has other rights.
#[tokio::test]
async fn a_request_does_not_bring_the_token_of_another_client() {
    let providers = [Provider::open(), Provider::open(), Provider::open()];
    let request = TokenRequest::new(SCOPE);
    let clients = providers.each_ref().map(Provider::client);
    for _ in 0..3 {
        for (client, provider) in clients.iter().zip(&providers) {
            client.acquire_token_for_client(&request).await.unwrap();
            assert_eq!(provider.requests(), 1);
        }
    }
    // The next client may get the place of a dropped one in memory.
    drop(clients);
    for _ in 0..8 {
        let provider = Provider::open();
        let token = provider.client().acquire_token_for_client(&request).await;
        assert_eq!(token.unwrap().source(), TokenSource::IdentityProvider);
    }
}

#[tokio::test]
async fn a_request_that_is_changed_after_its_use_gets_its_own_token() {
    let provider = Provider::open();
    let client = provider.client();
    let request = TokenRequest::new(SCOPE);
    client.acquire_token_for_client(&request).await.unwrap();
    let clone = request.clone().tenant("fabrikam.com");
    let token = client.acquire_token_for_client(&clone).await.unwrap();
    assert_eq!(token.tenant_id(), Some("fabrikam.com"));
    // Without a second owner, the change is made in place.
    let moved = request.tenant("adatum.com");
    let token = client.acquire_token_for_client(&moved).await.unwrap();
    assert_eq!(token.tenant_id(), Some("adatum.com"));
    assert_eq!(provider.requests(), 3);
}

/// An option for one call must not be lost because the plain request was used before.
#[tokio::test]
async fn an_option_of_a_request_is_heeded_although_the_scope_is_known() {
    let provider = Provider::open();
    let client = provider.client();
    let first = client.acquire_token_for_client(SCOPE).await.unwrap();
    let request = TokenRequest::new(SCOPE);
    client.acquire_token_for_client(&request).await.unwrap();
    assert_eq!(provider.requests(), 1);
    for (name, request) in [
        ("force_refresh", request.clone().force_refresh()),
        ("rejected_token", request.clone().rejected_token(&first)),
        (
            "min_remaining",
            request.min_remaining(Duration::from_secs(86_400)),
        ),
    ] {
        let before = provider.requests();
        client.acquire_token_for_client(&request).await.unwrap();
        client.acquire_token_for_client(SCOPE).await.unwrap();
        // The token that `force_refresh` brought is another one than the rejected token, and the
        // one that is too short was just issued.
        let sent = usize::from(name == "force_refresh");
        assert_eq!(provider.requests() - before, sent, "{name}");
    }
}

#[tokio::test]
async fn known_scopes_and_requests_are_refreshed_when_due_and_when_expired() {
    let clock = ManualClock::new();
    let provider = Provider::open();
    let client = provider.client_at(&clock);
    let request = TokenRequest::new(SCOPE);
    for (passed, requests) in [(0, 1), (0, 1), (3400, 2), (0, 2), (4000, 3)] {
        clock.advance(Duration::from_secs(passed));
        client.acquire_token_for_client(SCOPE).await.unwrap();
        client.acquire_token_for_client(&request).await.unwrap();
        let_others_run().await;
        assert_eq!(provider.requests(), requests, "{passed}");
    }
}

/// The bound of the cache holds whatever requests and scopes remember.
#[tokio::test]
async fn a_remembered_entry_is_evicted_and_then_not_served() {
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(4);
    let client = provider.builder().cache(options).build().unwrap();
    let requests: Vec<_> = (0..20)
        .map(|number| TokenRequest::new(scope(number)))
        .collect();
    for _ in 0..2 {
        for (number, request) in requests.iter().enumerate() {
            client.acquire_token_for_client(request).await.unwrap();
            client
                .acquire_token_for_client(&scope(number))
                .await
                .unwrap();
            assert!(client.cache().len() <= 4, "{}", client.cache().len());
        }
    }
    assert_eq!(provider.requests(), 40, "each was evicted in between");
    // An entry that came back is found again by both.
    let before = provider.requests();
    for _ in 0..3 {
        client
            .acquire_token_for_client(&requests[19])
            .await
            .unwrap();
        client.acquire_token_for_client(&scope(19)).await.unwrap();
    }
    assert_eq!(provider.requests(), before);
}

/// A hit that looks nothing up must count as a use, or eviction would remove the hottest entry.
#[tokio::test]
async fn an_entry_in_use_by_its_scope_outlives_others() {
    let provider = Provider::open();
    let options = CacheOptions::default().max_entries(4);
    let client = provider.builder().cache(options).build().unwrap();
    for number in 0..20 {
        client.acquire_token_for_client(SCOPE).await.unwrap();
        client
            .acquire_token_for_client(&scope(number))
            .await
            .unwrap();
    }
    assert_eq!(provider.requests(), 21);
}

#[tokio::test]
async fn a_cleared_or_invalidated_token_is_not_served_from_memory_of_the_scope() {
    let provider = Provider::open();
    let client = provider.client();
    let request = TokenRequest::new(SCOPE);
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    client.acquire_token_for_client(&request).await.unwrap();
    client.cache().clear();
    client.acquire_token_for_client(&request).await.unwrap();
    assert_eq!(provider.requests(), 2);
    client.invalidate(&token);
    let token = client.acquire_token_for_client(SCOPE).await.unwrap();
    assert_eq!(provider.requests(), 2, "another token by then");
    client.invalidate(&token);
    client.acquire_token_for_client(SCOPE).await.unwrap();
    client.acquire_token_for_client(&request).await.unwrap();
    assert_eq!(provider.requests(), 3);
}

#[tokio::test]
async fn more_scopes_than_are_kept_parsed_are_served_from_the_cache_all_the_same() {
    let provider = Provider::open();
    let client = provider.client();
    for _ in 0..2 {
        for number in 0..300 {
            client
                .acquire_token_for_client(&scope(number))
                .await
                .unwrap();
        }
    }
    assert_eq!((provider.requests(), client.cache().len()), (300, 300));
}

#[tokio::test]
async fn a_type_of_the_program_is_a_request() {
    struct Graph;
    impl IntoTokenRequest for Graph {
        fn into_token_request(self) -> TokenRequest {
            TokenRequest::new(SCOPE)
        }
    }
    let provider = Provider::open();
    let client = provider.client();
    client.acquire_token_for_client(Graph).await.unwrap();
    client.acquire_token_for_client(Graph).await.unwrap();
    client
        .acquire_token_for_client(SCOPE.to_owned())
        .await
        .unwrap();
    assert_eq!(provider.requests(), 1);
}
