//! What each method of `RedisCache` returns and leaves in a real Redis.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, RedisCache, SharedCache,
    SharedRecord,
};
use redis::{Client, Value};

use crate::redis_server::{Proxy, RedisServer, until};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "confidential-client:abc";
const RECORD: &str = "{confidential-client:abc}:r";
const LOCK: &str = "{confidential-client:abc}:l";

fn new(generation: u64, value: &'static [u8]) -> NewRecord {
    NewRecord::new(generation, Bytes::from_static(value), HOUR)
}

/// A record as `get` returns it.
fn stored(generation: u64, value: &'static [u8]) -> Option<SharedRecord> {
    Some(SharedRecord::new(
        generation,
        Bytes::from_static(value),
        HOUR,
    ))
}

/// Returns the record. A remaining lifetime of nearly an hour is an hour.
async fn get(cache: &RedisCache) -> Option<SharedRecord> {
    rounded(cache.get(NAME).await.unwrap())
}

fn rounded(record: Option<SharedRecord>) -> Option<SharedRecord> {
    record.map(|mut record| {
        if (HOUR / 2..HOUR).contains(&record.remaining) {
            record.remaining = HOUR;
        }
        record
    })
}

async fn put(cache: &RedisCache, generation: u64, value: &'static [u8]) -> PutOutcome {
    cache.put(NAME, new(generation, value)).await.unwrap()
}

async fn is_locked(cache: &RedisCache, owner: &LockOwner) -> bool {
    let outcome = cache.lock(NAME, owner, HOUR).await.unwrap();
    matches!(outcome, LockOutcome::Acquired { .. })
}

async fn begin(cache: &RedisCache, owner: &LockOwner, generation: u64) -> BeginRedemption {
    let outcome = cache.begin_redemption(NAME, owner, generation).await;
    outcome.unwrap()
}

/// Returns the time to live of a key in milliseconds.
async fn life(server: &RedisServer, key: &str) -> i64 {
    match server.command(&["PTTL", key]).await {
        Value::Int(life) => life,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_a_later_generation_replaces_a_record() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    assert_eq!(get(&cache).await, None);
    // The order of numbers, not of texts, and beyond the 53 bits of Lua's numbers.
    let rows: [(u64, &[u8], PutOutcome); 10] = [
        (2, b"two", PutOutcome::Stored),
        (2, b"again", PutOutcome::Superseded),
        (1, b"one", PutOutcome::Superseded),
        (9, b"\0\r\n\xff{}", PutOutcome::Stored),
        (10, b"", PutOutcome::Stored),
        (9, b"nine", PutOutcome::Superseded),
        (u64::MAX - 1, b"almost", PutOutcome::Stored),
        (u64::MAX, b"last", PutOutcome::Stored),
        (u64::MAX - 1, b"almost", PutOutcome::Superseded),
        (u64::MAX, b"last", PutOutcome::Superseded),
    ];
    let mut latest = None;
    for (generation, value, outcome) in rows {
        assert_eq!(put(&cache, generation, value).await, outcome);
        if outcome == PutOutcome::Stored {
            latest = stored(generation, value);
        }
        assert_eq!(get(&cache).await, latest, "after {generation}");
    }
}

#[tokio::test]
async fn a_record_in_place_of_another_is_stored_only_there() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let replace = async |replaced, generation| {
        let record = new(generation, b"new").replaces(replaced);
        cache.put(NAME, record).await.unwrap()
    };
    assert_eq!(replace(1, 2).await, PutOutcome::Superseded);
    assert_eq!(get(&cache).await, None);
    put(&cache, 10, b"old").await;
    for replaced in [1, 9, 11] {
        assert_eq!(replace(replaced, 12).await, PutOutcome::Superseded);
    }
    assert_eq!(get(&cache).await, stored(10, b"old"));
    assert_eq!(replace(10, 12).await, PutOutcome::Stored);
    assert_eq!(replace(10, 12).await, PutOutcome::Superseded);
    assert_eq!(get(&cache).await, stored(12, b"new"));
    // A generation given by the client may be earlier.
    assert_eq!(replace(12, 3).await, PutOutcome::Stored);
    assert_eq!(get(&cache).await, stored(3, b"new"));
}

#[tokio::test]
async fn a_record_lives_as_long_as_the_last_put_says() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    put(&cache, 1, b"one").await;
    let hour = 3_600_000;
    assert!((hour - 60_000..=hour).contains(&life(&server, RECORD).await));
    server.command(&["PEXPIRE", RECORD, "60000"]).await;
    let remaining = cache.get(NAME).await.unwrap().unwrap().remaining;
    let minute = Duration::from_secs(60);
    assert!(
        remaining <= minute && remaining > minute / 2,
        "{remaining:?}"
    );
    // The age of a record without an end is unknown. It counts as old.
    server.command(&["PERSIST", RECORD]).await;
    let remaining = cache.get(NAME).await.unwrap().unwrap().remaining;
    assert_eq!(remaining, Duration::ZERO);
    server.command(&["PEXPIRE", RECORD, "3600000"]).await;

    // A record that was superseded does not change the lifetime.
    let longer = NewRecord::new(1, Bytes::new(), 10 * HOUR);
    cache.put(NAME, longer).await.unwrap();
    assert!(life(&server, RECORD).await <= hour);

    let endless = NewRecord::new(2, Bytes::new(), Duration::MAX);
    let outcome = cache.put(NAME, endless).await.unwrap();
    assert_eq!(outcome, PutOutcome::Stored);
    assert!(life(&server, RECORD).await > 1000 * hour);

    let over = NewRecord::new(3, Bytes::new(), Duration::ZERO);
    let outcome = cache.put(NAME, over).await.unwrap();
    assert_eq!(outcome, PutOutcome::Stored);
    until("the record expires", async || get(&cache).await.is_none()).await;
}

#[tokio::test]
async fn a_lock_has_one_owner_who_may_take_it_again() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let (first, second) = (LockOwner::random(), LockOwner::random());
    let outcome = cache.lock(NAME, &first, HOUR).await.unwrap();
    assert_eq!(outcome, LockOutcome::Acquired { record: None });
    put(&cache, 1, b"one").await;
    match cache.lock(NAME, &second, HOUR).await.unwrap() {
        LockOutcome::Held { remaining, record } => {
            assert!(remaining <= HOUR && remaining > HOUR / 2, "{remaining:?}");
            assert_eq!(rounded(record), stored(1, b"one"));
        }
        other => panic!("{other:?}"),
    }
    // The same owner extends the lock, and gets the record.
    match cache.lock(NAME, &first, 2 * HOUR).await.unwrap() {
        LockOutcome::Acquired { record } => assert_eq!(rounded(record), stored(1, b"one")),
        other => panic!("{other:?}"),
    }
    assert!(life(&server, LOCK).await > 3_600_000);

    cache.unlock(NAME, &second).await.unwrap();
    assert!(!is_locked(&cache, &second).await);
    cache.unlock(NAME, &first).await.unwrap();
    assert!(is_locked(&cache, &second).await);
    cache.unlock(NAME, &second).await.unwrap();
    cache.unlock(NAME, &second).await.unwrap();

    // The lock expires by the clock of the store.
    cache.lock(NAME, &first, Duration::ZERO).await.unwrap();
    until("the lock expires", || is_locked(&cache, &second)).await;

    // A lock without an end is of nobody.
    server.command(&["SET", LOCK, "somebody"]).await;
    assert!(is_locked(&cache, &first).await);
    assert!(life(&server, LOCK).await > 0);
}

#[tokio::test]
async fn a_redemption_begins_once_and_under_the_lock() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let (first, second) = (LockOwner::random(), LockOwner::random());
    let begun = BeginRedemption::Begun;

    put(&cache, 1, b"one").await;
    assert_eq!(begin(&cache, &first, 1).await, BeginRedemption::NotLocked);
    assert!(is_locked(&cache, &first).await);
    assert_eq!(begin(&cache, &second, 1).await, BeginRedemption::NotLocked);
    let other = BeginRedemption::OtherGeneration;
    assert_eq!(begin(&cache, &first, 2).await, other);
    assert_eq!(get(&cache).await, stored(1, b"one"));
    assert_eq!(begin(&cache, &first, 1).await, begun);
    let in_progress = BeginRedemption::InProgress;
    assert_eq!(begin(&cache, &first, 1).await, in_progress);
    let redemption = get(&cache).await.unwrap().redemption.unwrap();
    assert_eq!(redemption.owner, first);
    assert!(redemption.age < HOUR);

    // The lock was lost, and the mark was not.
    server.command(&["DEL", LOCK]).await;
    match cache.lock(NAME, &second, HOUR).await.unwrap() {
        LockOutcome::Acquired { record } => assert!(record.unwrap().redemption.is_some()),
        other => panic!("{other:?}"),
    }
    assert_eq!(begin(&cache, &second, 1).await, in_progress);
    // The late first owner stores, and the mark of the old generation is gone.
    assert_eq!(put(&cache, 2, b"two").await, PutOutcome::Stored);
    assert_eq!(get(&cache).await, stored(2, b"two"));
    assert_eq!(put(&cache, 2, b"late").await, PutOutcome::Superseded);
    assert_eq!(begin(&cache, &second, 2).await, begun);

    server.command(&["DEL", RECORD]).await;
    assert_eq!(begin(&cache, &second, 2).await, other);
}

#[tokio::test]
async fn a_redemption_is_cancelled_by_its_owner_at_its_generation() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let (first, second) = (LockOwner::random(), LockOwner::random());
    put(&cache, 3, b"three").await;
    cache.cancel_redemption(NAME, &first, 3).await.unwrap();
    assert!(is_locked(&cache, &first).await);
    begin(&cache, &first, 3).await;
    cache.cancel_redemption(NAME, &second, 3).await.unwrap();
    cache.cancel_redemption(NAME, &first, 2).await.unwrap();
    assert!(get(&cache).await.unwrap().redemption.is_some());
    cache.cancel_redemption(NAME, &first, 3).await.unwrap();
    assert_eq!(get(&cache).await, stored(3, b"three"));
    assert_eq!(begin(&cache, &first, 3).await, BeginRedemption::Begun);
}

#[tokio::test]
async fn the_age_of_a_redemption_is_by_the_clock_of_the_store() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let owner = LockOwner::random();
    put(&cache, 1, b"one").await;
    assert!(is_locked(&cache, &owner).await);
    begin(&cache, &owner, 1).await;
    let since: i64 = match server.command(&["HGET", RECORD, "t"]).await {
        Value::BulkString(text) => String::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    };
    let age = async |since: String| {
        server.command(&["HSET", RECORD, "t", &since]).await;
        get(&cache).await.unwrap().redemption.unwrap().age
    };
    let earlier = age((since - 3_600_000).to_string()).await;
    assert!(earlier >= HOUR && earlier < 2 * HOUR, "{earlier:?}");
    // A fail-over to a server with a clock behind.
    assert_eq!(age((since + 3_600_000).to_string()).await, Duration::ZERO);
    // A mark without a time counts as old.
    assert!(age("x".to_owned()).await > 1000 * HOUR);
}

#[tokio::test]
async fn a_hash_that_is_no_record_counts_as_absent() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let owner = LockOwner::random();
    assert!(is_locked(&cache, &owner).await);
    let rows: [&[&str]; 6] = [
        &["g", "1"],
        &["v", "value"],
        &["g", "", "v", "value"],
        &["g", "-1", "v", "value"],
        &["g", "18446744073709551616", "v", "value"],
        &["g", "one", "v", "value", "i", "somebody", "t", "1"],
    ];
    for fields in rows {
        server.command(&["DEL", RECORD]).await;
        server.command(&[&["HSET", RECORD], fields].concat()).await;
        assert_eq!(get(&cache).await, None, "{fields:?}");
        let other = BeginRedemption::OtherGeneration;
        assert_eq!(begin(&cache, &owner, 1).await, other, "{fields:?}");
        assert_eq!(put(&cache, 1, b"one").await, PutOutcome::Stored);
        assert_eq!(get(&cache).await, stored(1, b"one"), "{fields:?}");
    }
}

#[tokio::test]
async fn a_value_of_another_program_is_an_error_and_stays() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    server.command(&["SET", RECORD, "of another program"]).await;
    let error = cache.put(NAME, new(1, b"one")).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("has a value of another program"), "{error}");
    assert!(error.contains("SharedCacheOptions::prefix"), "{error}");
    let owner = LockOwner::random();
    cache.lock(NAME, &owner, HOUR).await.unwrap_err();
    assert_eq!(server.command(&["EXISTS", LOCK]).await, Value::Int(0));
    assert_eq!(server.text(&["GET", RECORD]).await, "of another program");
}

/// Calls every method.
async fn call_all(cache: &RedisCache) -> Result<(), Box<dyn Error + Send + Sync>> {
    let owner = LockOwner::random();
    cache.get(NAME).await?;
    cache.put(NAME, new(1, b"one")).await?;
    cache.lock(NAME, &owner, HOUR).await?;
    cache.begin_redemption(NAME, &owner, 1).await?;
    cache.cancel_redemption(NAME, &owner, 1).await?;
    cache.unlock(NAME, &owner).await?;
    Ok(())
}

/// The rule in the docs of `RedisCache`, word by word.
#[tokio::test]
async fn a_user_with_the_documented_rights_can_call_every_method() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let source = include_str!("../../src/shared_cache/redis.rs");
    let rule = source.split("/// ACL ").nth(1).unwrap();
    let rule = rule.split("/// ```").next().unwrap().replace("///", "");
    let words: Vec<&str> = rule.split_whitespace().collect();
    server.command(&[&["ACL"], words.as_slice()].concat()).await;

    let url = format!("redis://app:password@127.0.0.1:{}", server.port());
    let client = Client::open(url).unwrap();
    let cache = RedisCache::new(client.clone());
    call_all(&cache).await.unwrap();
    // Every right is needed. PING is needed after a time of silence alone.
    for right in words.iter().filter_map(|word| word.strip_prefix('+')) {
        server.command(&["SCRIPT", "FLUSH"]).await;
        let (without, with) = (format!("-{right}"), format!("+{right}"));
        server.command(&["ACL", "SETUSER", "app", &without]).await;
        server.command(&["DEL", RECORD, LOCK]).await;
        let denied = call_all(&cache).await;
        assert_eq!(
            denied.is_err(),
            right != "ping" && right != "wait",
            "{right}"
        );
        server.command(&["ACL", "SETUSER", "app", &with]).await;
    }
    server.command(&["DEL", RECORD, LOCK]).await;
    call_all(&cache).await.unwrap();

    let error = cache.get("another:abc").await.unwrap_err().to_string();
    assert!(error.contains("(NOPERM)"), "{error}");
    assert!(error.contains("+evalsha"), "{error}");

    // WAIT is allowed.
    let owner = LockOwner::random();
    put(&cache, 1, b"one").await;
    assert!(is_locked(&cache, &owner).await);
    assert!(!cache.replicates_redemptions());
    let waiting = RedisCache::new(client).wait_for_replicas(1);
    assert!(waiting.replicates_redemptions());
    let outcome = waiting.begin_redemption(NAME, &owner, 1).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("0 replicas of Redis at"), "{error}");
}

#[tokio::test]
async fn the_caller_may_open_the_connections_and_choose_the_protocol() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let url = format!("{}?protocol=resp3", server.url());
    let cache = RedisCache::from_connector(move || {
        let client = Client::open(url.clone());
        async move { client?.get_multiplexed_async_connection().await }
    });
    let owner = LockOwner::random();
    assert_eq!(put(&cache, 1, b"one").await, PutOutcome::Stored);
    assert!(is_locked(&cache, &owner).await);
    assert_eq!(begin(&cache, &owner, 1).await, BeginRedemption::Begun);
    assert_eq!(get(&cache).await.unwrap().redemption.unwrap().owner, owner);
}

#[tokio::test]
async fn a_cluster_has_record_and_lock_on_one_node() {
    let Some(server) = RedisServer::start_with(&["--cluster-enabled", "yes"]).await else {
        return;
    };
    let slots = ["CLUSTER", "ADDSLOTSRANGE", "0", "16383"];
    server.command(&slots).await;
    let cache = RedisCache::new(server.client());
    let owner = LockOwner::random();
    // The node waits before it serves.
    until("the cluster is up", async || {
        let outcome = cache.lock(NAME, &owner, HOUR).await;
        outcome
            .inspect_err(|error| assert!(error.to_string().contains("(CLUSTERDOWN)"), "{error}"))
            .is_ok()
    })
    .await;
    assert_eq!(put(&cache, 1, b"one").await, PutOutcome::Stored);
    assert_eq!(begin(&cache, &owner, 1).await, BeginRedemption::Begun);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_flags_of_scripts_gets_them_without() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    // The response of Redis 6.
    let compiling =
        "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n";
    proxy.respond("#!lua", compiling);
    let cache = RedisCache::new(proxy.client());
    assert_eq!(put(&cache, 1, b"one").await, PutOutcome::Stored);
    assert_eq!(put(&cache, 2, b"two").await, PutOutcome::Stored);
    assert_eq!(get(&cache).await, stored(2, b"two"));

    // Without the flags, a full server rejects the record.
    server.config("maxmemory", "1").await;
    let error = cache.put(NAME, new(3, b"three")).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("has no memory left"), "{error}");
    assert!(error.contains("(OOM)"), "{error}");
    assert_eq!(get(&cache).await, stored(2, b"two"));
}

#[tokio::test]
async fn concurrent_calls_share_one_connection() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    let cache = RedisCache::new(proxy.client());
    assert_eq!(proxy.accepted(), 0, "creating a cache does no I/O");
    let calls = (0..200).map(|_| cache.get(NAME));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap(), None);
    }
    assert_eq!(proxy.accepted(), 1);
    let debug = format!("{cache:?}");
    assert!(debug.contains(&format!("127.0.0.1:{}", proxy.port())));
}
