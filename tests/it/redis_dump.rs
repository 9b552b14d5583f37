//! A dump of the database of a real Redis, which has no plain text.

use std::process::{Command, Stdio};

use bytes::Bytes;
use confidential_client::cache::{EncryptionKey, RedisCache, SharedCacheOptions};
use confidential_client::delegated::UserAssertion;
use confidential_client::{Authority, Cloud, ConfidentialClient, RetryPolicy, TokenRequest};

use crate::redis_server::{RedisServer, until};
use crate::support::issuer::TENANT_ID;
use crate::support::openid::{FILES, HOME, OpenId};
use crate::support::{CLIENT_ID, Provider, SCOPE, SECRET, TENANT, scope};
use redis::Value;

const NAME_KEY: &str = "the name key of the tests";

/// Stores a record of each kind, and returns all that no record may show.
async fn store_each_kind(redis: &RedisServer, options: fn() -> SharedCacheOptions) -> Vec<String> {
    let provider = Provider::open();
    let client = || {
        let cache = RedisCache::new(redis.client());
        let builder = provider.builder().shared_cache(cache, options());
        builder.build().unwrap()
    };
    let rejected = client().acquire_token_for_client(SCOPE).await.unwrap();
    until_stored(redis).await;
    let request = TokenRequest::new(SCOPE).rejected_token(&rejected);
    client().acquire_token_for_client(request).await.unwrap();
    provider.answer(503, r#"{"error":"temporarily_unavailable"}"#);
    let failed = client().acquire_token_for_client(scope(1)).await;
    failed.unwrap_err();

    let users = OpenId::new(&format!(
        "https://login.microsoftonline.com/{TENANT_ID}/v2.0"
    ));
    let cache = RedisCache::new(redis.client());
    let builder = users.builder(Authority::entra(Cloud::Public, TENANT_ID));
    let builder = builder.shared_cache(cache, options());
    let web: ConfidentialClient = builder.retry(RetryPolicy::none()).build().unwrap();
    let account = users.sign_in(&web).await.account().clone();
    web.acquire_token_silent(&account, "mail.read")
        .await
        .unwrap();
    let assertion = UserAssertion::new("an-opaque-assertion");
    let key = web
        .start_long_running_on_behalf_of(&assertion, FILES)
        .await
        .unwrap();
    web.continue_long_running_on_behalf_of(&key, "mail.read")
        .await
        .unwrap();
    until_stored(redis).await;

    let mut secrets: Vec<String> = [
        // Of the application, of users, and of the long-running process.
        "token-",
        "refresh-",
        TENANT,
        TENANT_ID,
        CLIENT_ID,
        SECRET,
        "graph.microsoft.com",
        "login.microsoftonline.com",
        FILES,
        "mail.read",
        "adele",
        HOME,
        "an-opaque-assertion",
        "temporarily_unavailable",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    secrets.push(serde_json::to_value(&key).unwrap().as_str().unwrap().into());
    secrets
}

async fn until_stored(redis: &RedisServer) {
    until("no lock is held", async || {
        redis.command(&["KEYS", "*:l"]).await == Value::Array(Vec::new())
    })
    .await;
}

/// Returns a dump that `redis-cli` makes, without compression.
async fn dump(redis: &RedisServer) -> Bytes {
    redis.config("rdbcompression", "no").await;
    let folder = std::env::temp_dir();
    let file = folder.join(format!("confidential-client-{}.rdb", redis.port()));
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &redis.port().to_string(), "--rdb"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let made = tokio::task::spawn_blocking(move || command.status());
    assert!(made.await.unwrap().unwrap().success());
    let dump = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    dump.into()
}

fn found(dump: &[u8], secrets: &[String]) -> Vec<String> {
    let is_found = |secret: &&String| {
        let mut windows = dump.windows(secret.len());
        windows.any(|window| window == secret.as_bytes())
    };
    secrets.iter().filter(is_found).cloned().collect()
}

#[tokio::test]
async fn a_dump_of_the_database_has_no_plain_text() {
    let encrypted =
        || SharedCacheOptions::encrypted(NAME_KEY, [EncryptionKey::from_bytes([1; 32])]);
    let plain = || SharedCacheOptions::without_encryption(NAME_KEY);
    let (Some(sealed), Some(open)) = (RedisServer::start().await, RedisServer::start().await)
    else {
        return;
    };
    let secrets = store_each_kind(&sealed, encrypted).await;
    let size = sealed.command(&["DBSIZE"]).await;
    assert_eq!(size, Value::Int(8));
    assert_eq!(found(&dump(&sealed).await, &secrets), [""; 0]);

    // The search finds what is there. Names are hashed without encryption, too.
    let secrets = store_each_kind(&open, plain).await;
    let found = found(&dump(&open).await, &secrets);
    for secret in ["token-", "refresh-", "adele", "temporarily_unavailable"] {
        assert!(
            found.iter().any(|found| found == secret),
            "{secret}: {found:?}"
        );
    }
    for name in [TENANT, CLIENT_ID, secrets.last().unwrap()] {
        assert!(!found.iter().any(|found| found == name), "{name}");
    }
}
