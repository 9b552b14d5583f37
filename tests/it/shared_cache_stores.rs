//! The checks of the example `file_store`, on each store and on stores with one fault.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, RedisCache,
    SharedCache, SharedCacheFuture, SharedRecord,
};
use confidential_client::testing::LocalSharedCache;
use tokio::task::yield_now;

#[path = "../../examples/file_store/checks.rs"]
mod checks;
#[path = "../../examples/file_store/store.rs"]
mod store;

use crate::redis_server::RedisServer;
use checks::check;
use store::FileStore;

#[tokio::test]
async fn a_store_in_memory_passes_the_checks() {
    let store = LocalSharedCache::new();
    check(&store, &store.clone()).await.unwrap();
}

#[tokio::test]
async fn two_connections_to_redis_pass_the_checks() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let connect = || RedisCache::new(server.client());
    check(&connect(), &connect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_files_passes_the_checks_and_removes_expired_files() {
    let folder = format!("confidential-client-files-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let open = || FileStore::open(&folder).unwrap();
    let (first, second) = (open(), open());
    check(&first, &second).await.unwrap();

    let expired = NewRecord::new(1, Bytes::new(), Duration::ZERO);
    first.put("expired", expired).await.unwrap();
    let files = || fs::read_dir(&folder).unwrap().count();
    let before = files();
    open();
    assert_eq!(files(), before - 1);

    fs::write(folder.join("6e616d65.json"), "{").unwrap();
    let error = first.get("name").await.unwrap_err().to_string();
    assert!(error.contains("6e616d65.json is no entry"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_checks_find_each_fault_of_a_store() {
    let (one, another) = (LocalSharedCache::new(), LocalSharedCache::new());
    let error = check(&one, &another).await.unwrap_err().to_string();
    assert!(
        error.starts_with("get after put of generation 2"),
        "{error}"
    );

    for (fault, rule) in [
        (Fault::PutAlways, "put of generation 2 in place of None"),
        (Fault::PutAnyway, "put of generation 2 in place of Some(1)"),
        (Fault::PutUnlocks, "the lock of another owner, after a put"),
        (Fault::PutKeepsMark, "the mark after a put"),
        (Fault::Text, "a value of any octets"),
        (
            Fault::Float,
            "get after put of generation 18446744073709551614",
        ),
        (Fault::Case, "a name in other case"),
        (Fault::OneName, "an unknown name"),
        (Fault::OneLock, "a record or a lock of another name"),
        (Fault::OneOwner, "the lock of another owner, after a put"),
        (Fault::AnyUnlock, "the lock after an unlock of another"),
        (Fault::NoUnlock, "the lock after an unlock:"),
        (Fault::BeginUnlocked, "begin_redemption without the lock"),
        (Fault::BeginAtAny, "begin_redemption at another generation"),
        (Fault::BeginTwice, "a second begin_redemption"),
        (Fault::HiddenMark, "get after begin_redemption"),
        (Fault::AnyCancel, "the mark after cancel_redemption of"),
        (Fault::NoCancel, "the mark after cancel_redemption:"),
        (Fault::NoAge, "the remaining time of a record"),
        (Fault::NoExpiry, "a record or a lock does not expire"),
        (Fault::NoLockExpiry, "a record or a lock does not expire"),
        (Fault::PutRace, "stored records, of puts"),
        (Fault::LockRace, "two owners hold a lock"),
        (Fault::BeginRace, "redemptions that began"),
    ] {
        let store = Faulty {
            store: LocalSharedCache::new(),
            marked: Mutex::default(),
            fault,
        };
        let error = check(&store, &store).await.unwrap_err().to_string();
        assert!(error.starts_with(rule), "{fault:?}: {error}");
    }
}

/// A store with one fault.
struct Faulty {
    store: LocalSharedCache,
    /// The name and the owner of the last mark.
    marked: Mutex<Option<(String, LockOwner)>>,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    AnyCancel,
    AnyUnlock,
    BeginAtAny,
    BeginRace,
    BeginTwice,
    BeginUnlocked,
    Case,
    Float,
    HiddenMark,
    LockRace,
    NoAge,
    NoCancel,
    NoExpiry,
    NoLockExpiry,
    NoUnlock,
    OneLock,
    OneName,
    OneOwner,
    PutAlways,
    PutAnyway,
    PutKeepsMark,
    PutRace,
    PutUnlocks,
    Text,
}

impl Faulty {
    fn name(&self, name: &str) -> String {
        match self.fault {
            Fault::Case => name.to_lowercase(),
            Fault::OneName => String::new(),
            _ => name.to_owned(),
        }
    }

    fn owner(&self, owner: &LockOwner) -> LockOwner {
        match self.fault {
            Fault::OneOwner => LockOwner::from_text(""),
            _ => owner.clone(),
        }
    }

    async fn record(&self, name: &str) -> Option<SharedRecord> {
        let mut record = self.store.get(name).await.unwrap()?;
        match self.fault {
            Fault::HiddenMark => record.redemption = None,
            Fault::NoAge => record.remaining = Duration::ZERO,
            Fault::PutKeepsMark => {
                let marked = self.marked.lock().unwrap();
                if let Some((_, owner)) = marked.as_ref().filter(|(of, _)| of == name) {
                    record = record.redemption(Redemption::new(owner.clone(), Duration::ZERO));
                }
            }
            _ => (),
        }
        Some(record)
    }

    /// Stores the record in place of every other.
    async fn force(&self, name: &str, mut record: NewRecord) -> PutOutcome {
        let existing = self.store.get(name).await.unwrap();
        record.replaces = existing.map(|record| record.generation);
        self.store.put(name, record).await.unwrap()
    }
}

impl SharedCache for Faulty {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        Box::pin(async { Ok(self.record(&self.name(name)).await) })
    }

    fn put<'a>(&'a self, name: &'a str, mut new: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        Box::pin(async move {
            let name = &self.name(name);
            match self.fault {
                Fault::Float => new.generation = new.generation as f64 as u64,
                Fault::NoExpiry => new.lifetime = HOUR,
                Fault::PutAlways if new.replaces.is_none() => {
                    return Ok(self.force(name, new).await);
                }
                Fault::PutAnyway => new.replaces = None,
                Fault::PutRace => {
                    let existing = self.store.get(name).await?.map(|record| record.generation);
                    yield_now().await;
                    let is_replaced = match new.replaces {
                        Some(_) => existing == new.replaces,
                        None => existing < Some(new.generation),
                    };
                    if is_replaced {
                        return Ok(self.force(name, new).await);
                    }
                }
                Fault::PutUnlocks => self.store.expire_locks(),
                Fault::Text => {
                    new.value = String::from_utf8_lossy(&new.value).into_owned().into();
                }
                _ => (),
            }
            self.store.put(name, new).await
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        Box::pin(async move {
            let (mut name, owner) = (self.name(name), self.owner(owner));
            let mut lifetime = lifetime;
            match self.fault {
                Fault::LockRace => {
                    let outcome = self.store.lock(&name, &owner, Duration::ZERO).await?;
                    if let LockOutcome::Held { .. } = outcome {
                        return Ok(outcome);
                    }
                    yield_now().await;
                    self.store.expire_locks();
                }
                Fault::NoExpiry | Fault::NoLockExpiry => lifetime = HOUR,
                Fault::OneLock => name.clear(),
                _ => (),
            }
            self.store.lock(&name, &owner, lifetime).await
        })
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        Box::pin(async {
            match self.fault {
                Fault::AnyUnlock => self.store.expire_locks(),
                Fault::NoUnlock => (),
                _ => {
                    let (name, owner) = (self.name(name), self.owner(owner));
                    self.store.unlock(&name, &owner).await?;
                }
            }
            Ok(())
        })
    }

    fn begin_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, BeginRedemption> {
        Box::pin(async move {
            let (name, owner) = (self.name(name), self.owner(owner));
            let record = self.record(&name).await;
            let mut generation = generation;
            match self.fault {
                Fault::BeginAtAny => {
                    generation = record.as_ref().map_or(0, |record| record.generation);
                }
                Fault::BeginRace => yield_now().await,
                Fault::BeginUnlocked => {
                    self.store.expire_locks();
                    self.store.lock(&name, &owner, HOUR).await?;
                }
                _ => (),
            }
            let begun = self
                .store
                .begin_redemption(&name, &owner, generation)
                .await?;
            let was_marked = record.is_some_and(|record| record.redemption.is_some());
            if begun == BeginRedemption::Begun {
                *self.marked.lock().unwrap() = Some((name, owner));
            }
            Ok(match (begun, self.fault) {
                (BeginRedemption::InProgress, Fault::BeginTwice) => BeginRedemption::Begun,
                (BeginRedemption::InProgress, Fault::BeginRace) if !was_marked => {
                    BeginRedemption::Begun
                }
                _ => begun,
            })
        })
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        Box::pin(async move {
            let (name, mut owner) = (self.name(name), self.owner(owner));
            match self.fault {
                Fault::AnyCancel => {
                    let mark = self
                        .record(&name)
                        .await
                        .and_then(|record| record.redemption);
                    owner = mark.map_or(owner, |mark| mark.owner);
                }
                Fault::NoCancel => return Ok(()),
                _ => (),
            }
            self.store
                .cancel_redemption(&name, &owner, generation)
                .await
        })
    }
}

const HOUR: Duration = Duration::from_secs(3600);
