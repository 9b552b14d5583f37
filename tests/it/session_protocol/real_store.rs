//! Compares the model's store with `LocalSharedCache`, call by call.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{LockOutcome, LockOwner, NewRecord, SharedCache, SharedRecord};
use confidential_client::testing::LocalSharedCache;

use super::explore::Random;
use super::store::{Call, Mark, Owner, Record, Reply, State, Store};

#[tokio::test]
async fn the_store_of_the_model_behaves_as_a_shared_cache() {
    let mut random = Random::new(7);
    let mut seen = HashSet::new();
    for _ in 0..300 {
        let shared = LocalSharedCache::new();
        let mut store = Store::default();
        for _ in 0..60 {
            if random.below(10) == 0 {
                shared.expire_locks();
                store.lock = None;
            }
            let call = random_call(&mut random);
            let reply = store.execute(call);
            assert_eq!(real(&shared, call).await, reply, "{call:?}");
            assert_eq!(
                real(&shared, Call::Get).await,
                Reply::Record(store.record),
                "{call:?}"
            );
            seen.insert(format!("{reply:?}"));
        }
    }
    // The rarest outcome was among them.
    assert!(seen.contains("Begin(InProgress)"), "{seen:?}");
}

fn random_call(random: &mut Random) -> Call {
    let owner = random.below(2) as Owner;
    let generation = random.below(3) as u8 + 1;
    match random.below(6) {
        0 => Call::Lock(owner),
        1 => Call::Unlock(owner),
        2 => Call::Begin(owner, generation),
        3 => Call::Cancel(owner, generation),
        _ => Call::Put {
            record: Record::new(generation, random.below(2) as u8, State::Usable),
            replaces: (random.below(2) == 0).then(|| generation.saturating_sub(1)),
        },
    }
}

/// Makes the call, and returns its outcome in the words of the model.
async fn real(shared: &LocalSharedCache, call: Call) -> Reply {
    let name = "session";
    let owner_of = |owner: Owner| LockOwner::from_text(owner.to_string());
    match call {
        Call::Get => Reply::Record(record_of(shared.get(name).await.unwrap())),
        Call::Lock(owner) => {
            let owner = owner_of(owner);
            match shared.lock(name, &owner, LIFETIME).await.unwrap() {
                LockOutcome::Acquired { record } => Reply::Acquired(record_of(record)),
                LockOutcome::Held { .. } => Reply::Held,
            }
        }
        Call::Unlock(owner) => {
            shared.unlock(name, &owner_of(owner)).await.unwrap();
            Reply::Done
        }
        Call::Put { record, replaces } => {
            let value = Bytes::copy_from_slice(&[record.token]);
            let mut new = NewRecord::new(u64::from(record.generation), value, LIFETIME);
            new.replaces = replaces.map(u64::from);
            Reply::Put(shared.put(name, new).await.unwrap())
        }
        Call::Begin(owner, generation) => {
            let generation = u64::from(generation);
            let owner = owner_of(owner);
            let begun = shared.begin_redemption(name, &owner, generation).await;
            Reply::Begin(begun.unwrap())
        }
        Call::Cancel(owner, generation) => {
            let generation = u64::from(generation);
            let owner = owner_of(owner);
            let cancelled = shared.cancel_redemption(name, &owner, generation).await;
            cancelled.unwrap();
            Reply::Done
        }
        Call::Remove(_) => unreachable!("a shared cache removes no record"),
    }
}

fn record_of(record: Option<SharedRecord>) -> Option<Record> {
    let record = record?;
    let generation = u8::try_from(record.generation).unwrap();
    let mut read = Record::new(generation, record.value[0], State::Usable);
    read.mark = record.redemption.map(|mark| Mark {
        owner: mark.owner.as_str().parse().unwrap(),
        is_old: false,
    });
    Some(read)
}

const LIFETIME: Duration = Duration::from_secs(60);
