//! `RedisCache` beside a Redis that is down, slow, full, read-only or on the other side of a network
//! that loses bytes. Each test ends with a call that succeeds on the same value.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, RedisCache, SharedCache,
    SharedCacheFuture,
};
use futures_util::FutureExt;
use redis::{AsyncConnectionConfig, Client, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::redis_server::{Proxy, RedisServer, free_port, until};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "confidential-client:abc";

/// The default of `SharedCacheOptions::call_timeout`.
const CALL: Duration = Duration::from_millis(500);

/// Ends a call as the client does.
async fn call<T>(call: SharedCacheFuture<'_, T>) -> Result<T, Box<dyn StdError + Send + Sync>> {
    timeout(CALL, call).await?
}

fn record(generation: u64) -> NewRecord {
    NewRecord::new(generation, Bytes::from_static(b"value"), HOUR)
}

/// Stores a record of this generation in an attempt within the time limit.
async fn stores(cache: &RedisCache, generation: u64) {
    until("a record is stored", async || {
        call(cache.put(NAME, record(generation))).await.is_ok()
    })
    .await;
    assert_eq!(found(cache).await, Some(generation));
}

/// Returns the generation of the record.
async fn found(cache: &RedisCache) -> Option<u64> {
    let record = cache.get(NAME).await.unwrap();
    record.map(|record| record.generation)
}

async fn error(attempt: SharedCacheFuture<'_, impl std::fmt::Debug>) -> String {
    call(attempt).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_server_that_starts_later_is_found() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    server.kill();
    let url = format!("redis://app:hunter2@127.0.0.1:{}", server.port());
    let cache = RedisCache::new(Client::open(url).unwrap());
    let error = error(cache.get(NAME)).await;
    let address = format!("Redis at 127.0.0.1:{} does not accept", server.port());
    assert!(error.contains(&address), "{error}");
    assert!(!error.contains("hunter2") && !format!("{cache:?}").contains("hunter2"));

    server.restart().await;
    let user = ["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all"];
    server.command(&user).await;
    stores(&cache, 1).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarts_without_data_is_empty() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    stores(&cache, 7).await;
    server.kill();
    for _ in 0..5 {
        error(cache.get(NAME)).await;
    }
    server.restart().await;
    until("the server responds", async || {
        call(cache.get(NAME)).await.is_ok()
    })
    .await;
    assert_eq!(found(&cache).await, None);
    stores(&cache, 1).await;
}

#[tokio::test]
async fn a_lock_that_timed_out_is_taken_later_and_its_owner_has_it() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let (first, second) = (LockOwner::random(), LockOwner::random());
    // The server has the script. Otherwise a call sends two commands, and the second does the work.
    cache.lock("another", &first, HOUR).await.unwrap();
    server.stop();
    call(cache.lock(NAME, &first, HOUR)).await.unwrap_err();
    server.resume();
    let key = "{confidential-client:abc}:l";
    until("the lock is taken", async || {
        server.command(&["EXISTS", key]).await == Value::Int(1)
    })
    .await;
    let held = cache.lock(NAME, &second, HOUR).await.unwrap();
    assert!(matches!(held, LockOutcome::Held { .. }), "{held:?}");
    let own = cache.lock(NAME, &first, HOUR).await.unwrap();
    assert!(matches!(own, LockOutcome::Acquired { .. }), "{own:?}");
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left() {
    let (Some(old), Some(new)) = (RedisServer::start().await, RedisServer::start().await) else {
        return;
    };
    let proxy = Proxy::to(old.port()).await;
    let cache = RedisCache::new(proxy.client());
    stores(&cache, 1).await;
    old.replica_of(new.port()).await;
    let error = error(cache.put(NAME, record(2))).await;
    assert!(error.contains("is a read-only replica"), "{error}");
    assert!(error.contains("(READONLY)"), "{error}");

    // A new connection leads to the new primary. The old one would not.
    proxy.lead_to(new.port());
    stores(&cache, 3).await;
}

#[tokio::test]
async fn a_replica_without_a_primary_is_left() {
    let (Some(old), Some(new)) = (RedisServer::start().await, RedisServer::start().await) else {
        return;
    };
    let proxy = Proxy::to(old.port()).await;
    let cache = RedisCache::new(proxy.client());
    stores(&cache, 1).await;
    old.config("replica-serve-stale-data", "no").await;
    old.replica_of(free_port()).await;
    let error = error(cache.get(NAME)).await;
    assert!(error.contains("is a replica without a primary"), "{error}");
    assert!(error.contains("(MASTERDOWN)"), "{error}");
    proxy.lead_to(new.port());
    assert_eq!(found(&cache).await, None);
}

#[tokio::test]
async fn a_server_with_too_few_replicas_rejects_records() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    server.config("min-replicas-to-write", "1").await;
    let error = error(cache.put(NAME, record(1))).await;
    assert!(error.contains("(NOREPLICAS)"), "{error}");
    assert_eq!(found(&cache).await, None);
    server.config("min-replicas-to-write", "0").await;
    stores(&cache, 1).await;
}

#[tokio::test]
async fn a_full_server_accepts_records_locks_and_marks() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    let owner = LockOwner::random();
    stores(&cache, 1).await;
    server.config("maxmemory-policy", "noeviction").await;
    server.config("maxmemory", "1").await;
    let full = server.try_command(&["SET", "other", "value"]).await;
    assert_eq!(full.unwrap_err().code(), Some("OOM"));

    call(cache.lock(NAME, &owner, HOUR)).await.unwrap();
    let begun = call(cache.begin_redemption(NAME, &owner, 1)).await.unwrap();
    assert_eq!(begun, BeginRedemption::Begun);
    call(cache.cancel_redemption(NAME, &owner, 1))
        .await
        .unwrap();
    let large = Bytes::from(vec![b'x'; 20_000]);
    let outcome = call(cache.put(NAME, NewRecord::new(2, large, HOUR))).await;
    assert_eq!(outcome.unwrap(), PutOutcome::Stored);
    call(cache.unlock(NAME, &owner)).await.unwrap();
}

#[tokio::test]
async fn a_slow_server_times_out_and_is_used_again() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    let cache = RedisCache::new(proxy.client());
    stores(&cache, 1).await;
    proxy.delay(Duration::from_secs(5));
    for _ in 0..4 {
        call(cache.get(NAME)).await.unwrap_err();
    }
    proxy.delay(Duration::ZERO);
    stores(&cache, 2).await;
}

#[tokio::test]
async fn a_password_that_changes_and_changes_back_is_tried_each_time() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let password = async |remove: &str, add: &str| {
        let (remove, add) = (format!("<{remove}"), format!(">{add}"));
        let rule = ["ACL", "SETUSER", "app", "on", "~*", "+@all", &add];
        server.command(&rule).await;
        server
            .try_command(&["ACL", "SETUSER", "app", &remove])
            .await
            .ok();
        let kill = ["CLIENT", "KILL", "USER", "app"];
        server.command(&kill).await;
    };
    password("none", "hunter2").await;
    let url = format!("redis://app:hunter2@127.0.0.1:{}", server.port());
    let cache = RedisCache::new(Client::open(url).unwrap());
    stores(&cache, 1).await;

    password("hunter2", "hunter3").await;
    // The first call may find the connection closed.
    call(cache.get(NAME)).await.unwrap_err();
    for _ in 0..3 {
        let error = error(cache.get(NAME)).await;
        assert!(
            error.contains("rejected the user name or the password"),
            "{error}"
        );
        assert!(!error.contains("hunter"), "{error}");
    }
    password("hunter3", "hunter2").await;
    stores(&cache, 2).await;
}

#[tokio::test]
async fn a_password_that_the_closure_learns_is_used() {
    let Some(server) = RedisServer::start_with(&["--requirepass", "hunter2"]).await else {
        return;
    };
    let port = server.port();
    let password = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&password);
    let cache = RedisCache::from_connector(move || {
        let url = format!("redis://{}127.0.0.1:{port}", known.lock().unwrap());
        async move { Client::open(url)?.get_multiplexed_async_connection().await }
    });
    for _ in 0..2 {
        let error = error(cache.get(NAME)).await;
        assert!(error.contains("requires a password"), "{error}");
        assert!(error.contains("(NOAUTH)"), "{error}");
    }
    ":hunter2@".clone_into(&mut password.lock().unwrap());
    stores(&cache, 1).await;
}

#[tokio::test]
async fn a_flushed_server_is_empty_and_loads_the_scripts_again() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    stores(&cache, 5).await;
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(found(&cache).await, Some(5));
    server.command(&["FLUSHALL"]).await;
    assert_eq!(found(&cache).await, None);
    server.command(&["SCRIPT", "FLUSH"]).await;
    let put = cache.put(NAME, record(1)).await.unwrap();
    assert_eq!(put, PutOutcome::Stored);
}

/// The calls are too short for the check of a silent connection, so that only the time-outs count.
#[tokio::test]
async fn a_connection_that_loses_bytes_is_left_after_three_dropped_calls() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    let cache = RedisCache::new(proxy.client());
    stores(&cache, 1).await;
    assert_eq!(proxy.accepted(), 1);
    proxy.swallow_open();
    for _ in 0..3 {
        assert_eq!(proxy.accepted(), 1);
        let attempt = timeout(Duration::from_millis(20), cache.get(NAME)).await;
        attempt.unwrap_err();
    }
    until("a new connection is used", async || {
        let attempt = timeout(Duration::from_millis(100), cache.get(NAME)).await;
        attempt.is_ok_and(|outcome| outcome.is_ok())
    })
    .await;
    stores(&cache, 2).await;
}

/// The caller's own connection has a time limit, and its time-outs are errors.
#[tokio::test]
async fn a_connection_of_the_caller_is_left_after_three_time_outs() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    let client = proxy.client();
    let cache = RedisCache::from_connector(move || {
        let client = client.clone();
        async move {
            let limit = Some(Duration::from_millis(400));
            let config = AsyncConnectionConfig::new().set_response_timeout(limit);
            client
                .get_multiplexed_async_connection_with_config(&config)
                .await
        }
    });
    stores(&cache, 1).await;
    let accepted = proxy.accepted();
    proxy.swallow_open();
    let error = cache.get(NAME).await.unwrap_err().to_string();
    assert!(error.contains("did not respond in time"), "{error}");
    assert_eq!(proxy.accepted(), accepted);
    stores(&cache, 2).await;
}

#[tokio::test]
async fn a_connection_that_was_lost_in_silence_is_replaced_within_a_call() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let cache = RedisCache::new(server.client());
    stores(&cache, 1).await;
    // Redis closes connections that were silent for a second, as load balancers do after minutes.
    server.config("timeout", "1").await;
    until("the server closes the connection", async || {
        server.connections().await == 0
    })
    .await;
    assert_eq!(found(&cache).await, Some(1));
}

#[tokio::test]
async fn an_attempt_to_connect_that_hangs_is_left() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    proxy.swallow_all();
    let cache = RedisCache::new(proxy.client());
    let short = Duration::from_millis(20);
    for _ in 0..3 {
        timeout(short, cache.get(NAME)).await.unwrap_err();
    }
    // The attempt itself is still waiting: a fourth call begins another.
    timeout(short, cache.get(NAME)).await.unwrap_err();
    until("a second attempt", async || proxy.accepted() == 2).await;
    let error = cache.get(NAME).await.unwrap_err().to_string();
    assert!(
        error.contains("did not accept a connection within 2s"),
        "{error}"
    );
}

#[tokio::test]
async fn an_attempt_that_failed_while_nobody_waited_is_no_error_of_a_later_call() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    for panics in [false, true] {
        let (client, attempts) = (server.client(), AtomicUsize::new(0));
        let (fail, failed) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let connector = (Arc::clone(&fail), Arc::clone(&failed));
        let cache = RedisCache::from_connector(move || {
            let (client, attempt) = (client.clone(), attempts.fetch_add(1, Ordering::SeqCst));
            let (fail, failed) = connector.clone();
            async move {
                if attempt == 0 {
                    fail.notified().await;
                    failed.fetch_add(1, Ordering::SeqCst);
                    assert!(!panics, "two providers");
                    return Err((redis::ErrorKind::Client, "not now").into());
                }
                client.get_multiplexed_async_connection().await
            }
        });
        let short = Duration::from_millis(20);
        timeout(short, cache.get(NAME)).await.unwrap_err();
        fail.notify_one();
        until("the attempt has failed", async || {
            failed.load(Ordering::SeqCst) == 1
        })
        .await;
        assert_eq!(found(&cache).await, None);
    }
}

#[test]
fn an_attempt_that_ended_with_its_runtime_is_no_error_of_a_later_call() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let second = runtime();
    let Some(server) = second.block_on(RedisServer::start()) else {
        return;
    };
    let (client, attempts) = (server.client(), AtomicUsize::new(0));
    let cache = RedisCache::from_connector(move || {
        let (client, attempt) = (client.clone(), attempts.fetch_add(1, Ordering::SeqCst));
        async move {
            if attempt == 0 {
                std::future::pending::<()>().await;
            }
            client.get_multiplexed_async_connection().await
        }
    });
    let first = runtime();
    first.block_on(async {
        let short = Duration::from_millis(20);
        timeout(short, cache.get(NAME)).await.unwrap_err();
    });
    let handle = first.handle().clone();
    drop(first);
    // The runtime of this call has ended already.
    let error = handle.block_on(cache.get(NAME)).unwrap_err().to_string();
    assert!(error.contains("has shut down"), "{error}");
    let without_runtime = cache.get(NAME).now_or_never().unwrap();
    let error = without_runtime.unwrap_err().to_string();
    assert!(error.contains("needs a Tokio runtime"), "{error}");
    assert_eq!(second.block_on(found(&cache)), None);
}

#[tokio::test]
async fn a_response_that_no_script_returns_is_an_error() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let proxy = Proxy::to(server.port()).await;
    let cache = RedisCache::new(proxy.client());
    let owner = LockOwner::random();
    for response in [
        "+OK\r\n",
        ":7\r\n",
        "*1\r\n$1\r\n1\r\n",
        "*2\r\n:-5\r\n*0\r\n",
    ] {
        proxy.respond("EVALSHA", response);
        let errors = [
            error(cache.get(NAME)).await,
            error(cache.put(NAME, record(1))).await,
            error(cache.lock(NAME, &owner, HOUR)).await,
            error(cache.begin_redemption(NAME, &owner, 1)).await,
        ];
        for error in errors {
            assert!(error.contains("no script of the cache returns"), "{error}");
        }
    }
    proxy.respond("EVALSHA", "+OK\r\n");
    error(cache.put(NAME, record(1))).await;
    proxy.respond("nothing that is sent", "");
    stores(&cache, 1).await;
}

#[tokio::test]
async fn a_panic_of_the_connector_is_an_error() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let (client, attempts) = (server.client(), Arc::new(AtomicUsize::new(0)));
    let cache = RedisCache::from_connector(move || {
        let (client, attempts) = (client.clone(), Arc::clone(&attempts));
        async move {
            // As `rustls::ClientConfig::builder` does in a program with two providers.
            assert_ne!(attempts.fetch_add(1, Ordering::SeqCst), 0, "two providers");
            client.get_multiplexed_async_connection().await
        }
    });
    let error = error(cache.get(NAME)).await;
    assert!(error.contains("install_default()"), "{error}");
    stores(&cache, 1).await;
}

#[test]
fn a_connection_outlives_neither_its_runtime_nor_the_cache() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let first = runtime();
    let Some(server) = first.block_on(RedisServer::start()) else {
        return;
    };
    let cache = RedisCache::new(server.client());
    first.block_on(stores(&cache, 1));
    let second = runtime();
    // The first runtime exists, and nobody runs its tasks.
    second.block_on(stores(&cache, 2));
    drop(first);
    second.block_on(stores(&cache, 3));
    drop(second);
    runtime().block_on(stores(&cache, 4));
    drop(cache);
    runtime().block_on(until("the connections are closed", async || {
        server.connections().await == 0
    }));
}

#[tokio::test]
async fn a_redemption_waits_for_replicas_on_a_connection_of_its_own() {
    let (Some(primary), Some(replica)) = (RedisServer::start().await, RedisServer::start().await)
    else {
        return;
    };
    let link = Proxy::to(primary.port()).await;
    replica.replica_of(link.port()).await;
    let cache = RedisCache::new(primary.client()).wait_for_replicas(1);
    let owner = LockOwner::random();
    stores(&cache, 1).await;
    cache.lock(NAME, &owner, HOUR).await.unwrap();
    until("the replica has the lock", async || {
        let key = "{confidential-client:abc}:l";
        replica.command(&["EXISTS", key]).await == Value::Int(1)
    })
    .await;
    assert_eq!(primary.connections().await, 1);

    // The acknowledgements of a loaded machine may be late.
    let begins = async || {
        let outcome = cache.begin_redemption(NAME, &owner, 1).await;
        matches!(outcome, Ok(BeginRedemption::Begun))
    };
    for _ in 0..2 {
        until("a redemption begins", begins).await;
        let record = cache.get(NAME).await.unwrap().unwrap();
        assert!(record.redemption.is_some());
        cache.cancel_redemption(NAME, &owner, 1).await.unwrap();
        // The second redemption uses the connection of the first.
        assert_eq!(primary.connections().await, 2);
    }

    until("the replica has no mark", async || {
        let key = "{confidential-client:abc}:r";
        replica.command(&["HEXISTS", key, "i"]).await == Value::Int(0)
    })
    .await;
    link.swallow_open();
    let attempt = call(cache.begin_redemption(NAME, &owner, 1));
    let error = attempt.await.unwrap_err().to_string();
    assert!(error.starts_with("0 replicas of Redis at"), "{error}");
    assert!(error.contains("wait_for_replicas asks for 1"), "{error}");
    let record = cache.get(NAME).await.unwrap().unwrap();
    assert_eq!(record.redemption, None, "the mark is taken back");

    // The fail-over: the new primary has the refresh token, which nobody sent.
    replica.promote().await;
    let promoted = RedisCache::new(replica.client());
    let record = promoted.get(NAME).await.unwrap().unwrap();
    assert_eq!((record.generation, record.redemption), (1, None));
}

#[tokio::test]
async fn an_unreachable_address_is_an_error_without_a_server() {
    let port = free_port();
    let cache = RedisCache::new(Client::open(format!("redis://127.0.0.1:{port}")).unwrap());
    let error = cache.get(NAME).await.unwrap_err().to_string();
    assert!(error.contains("check the address"), "{error}");
}
