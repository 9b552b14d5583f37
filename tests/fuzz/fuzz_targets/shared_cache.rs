//! Reads arbitrary records of a shared cache through the public client: the token is the provider's
//! own, or one that was sealed with the key for this name and generation.
//!
//! The first byte selects the kind of the record and the answer of the lock, 8 bytes are the
//! generation, and 8 bytes the remaining milliseconds. The rest is the value.
#![no_main]

use std::cell::RefCell;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{
    BeginRedemption, EncryptionKey, LockOutcome, LockOwner, NewRecord, PutOutcome, SharedCache,
    SharedCacheFuture, SharedCacheOptions, SharedRecord,
};
use confidential_client::{AccessToken, ConfidentialClient, Error, TokenSource};
use http::{Request, Response};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const NAME_KEY: &str = "the name key of the fuzzer";

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    );
}

/// A record that a client sealed.
static SEALED: LazyLock<NewRecord> = LazyLock::new(|| {
    let store = Store::default();
    let stored = store.stored.clone();
    let acquired = acquire(store, encrypted());
    assert!(acquired.unwrap().secret() == "provided");
    let record = stored.lock().unwrap().clone();
    record.unwrap()
});

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    let (Some((generation, rest)), true) = (rest.split_first_chunk::<8>(), rest.len() >= 16) else {
        return;
    };
    let Some((remaining, value)) = rest.split_first_chunk::<8>() else {
        return;
    };
    let mut generation = u64::from_be_bytes(*generation);
    let remaining = Duration::from_millis(u64::from_be_bytes(*remaining));
    let (options, value, is_sealed) = match mode % 4 {
        0 => (encrypted(), value.to_vec(), false),
        1 => {
            // The sealed record, with some octets changed: a position and a mask for each.
            let mut changed = SEALED.value.to_vec();
            for change in value.chunks_exact(3) {
                let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
                let length = changed.len();
                changed[at % length] ^= change[2];
            }
            // Most generations are the right one.
            if mode & 4 == 0 {
                generation = SEALED.generation;
            }
            let is_sealed = changed == SEALED.value && generation == SEALED.generation;
            (encrypted(), changed, is_sealed)
        }
        // What a parser of the content sees.
        2 => (plain(), [&[1, 0], value].concat(), true),
        _ => (plain(), value.to_vec(), true),
    };
    let store = Store {
        record: Some(SharedRecord::new(generation, value.into(), remaining)),
        is_held: mode & 8 != 0,
        ..Store::default()
    };
    match acquire(store, options) {
        Ok(token) => {
            assert!(is_sealed || token.source() == TokenSource::IdentityProvider);
            assert!(token.source() == TokenSource::SharedCache || token.secret() == "provided");
            assert!(token.refresh_on() <= token.expires_on());
            let _ = token.authorization_header();
        }
        Err(error) => check(&error),
    }
});

fn encrypted() -> SharedCacheOptions {
    SharedCacheOptions::encrypted(NAME_KEY, [EncryptionKey::from_bytes([7; 32])])
}

fn plain() -> SharedCacheOptions {
    SharedCacheOptions::without_encryption(NAME_KEY)
}

fn acquire(store: Store, options: SharedCacheOptions) -> Result<AccessToken, Error> {
    let body = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"provided"}"#;
    let client = ConfidentialClient::builder("client")
        .tenant("contoso.com")
        .client_secret("s3cret")
        .shared_cache(store, options)
        .transport(move |_: Request<Bytes>| async move { Ok(Response::new(Bytes::from(body))) })
        .build()
        .unwrap();
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let token = client.acquire_token_for_client("api://a/.default").await;
            // The record is stored behind the caller's back.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            token
        })
    })
}

fn check(error: &Error) {
    let text = error.to_string();
    assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    let _ = (
        format!("{error:?}"),
        error.is_transient(),
        error.retry_after(),
        error.claims_challenge(),
    );
}

/// A store with one record for every name.
#[derive(Default)]
struct Store {
    record: Option<SharedRecord>,
    is_held: bool,
    stored: std::sync::Arc<Mutex<Option<NewRecord>>>,
}

impl SharedCache for Store {
    fn get<'a>(&'a self, _: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        Box::pin(async { Ok(self.record.clone()) })
    }

    fn put<'a>(&'a self, _: &'a str, record: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        *self.stored.lock().unwrap() = Some(record);
        Box::pin(async { Ok(PutOutcome::Stored) })
    }

    fn lock<'a>(
        &'a self,
        _: &'a str,
        _: &'a LockOwner,
        _: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        let record = self.record.clone();
        let outcome = match self.is_held {
            true => LockOutcome::Held {
                remaining: Duration::from_secs(1),
                record,
            },
            false => LockOutcome::Acquired { record },
        };
        Box::pin(async { Ok(outcome) })
    }

    fn unlock<'a>(&'a self, _: &'a str, _: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn begin_redemption<'a>(
        &'a self,
        _: &'a str,
        _: &'a LockOwner,
        _: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        Box::pin(async { Ok(BeginRedemption::Begun) })
    }

    fn cancel_redemption<'a>(
        &'a self,
        _: &'a str,
        _: &'a LockOwner,
        _: u64,
    ) -> SharedCacheFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
