//! Checks of a `SharedCache`, for the tests of a store of your own.
//!
//! The checks pass with `RedisCache`, with `LocalSharedCache` and with the store of this example.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use confidential_client::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, SharedCache, SharedRecord,
};
use futures_util::future::join_all;
use tokio::time::sleep;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Checks each rule of [`SharedCache`] with names of its own.
///
/// `first` and `second` are two connections to one store, as two processes have. The checks take
/// less than a second, and some seconds if the store does not remove expired records.
///
/// # Errors
///
/// The error names the broken rule, with the expected and the actual outcome.
pub(crate) async fn check(first: &dyn SharedCache, second: &dyn SharedCache) -> Result<()> {
    let stores = [first, second];
    for replacing in [false, true] {
        check_generations(&Name::random(stores), replacing).await?;
    }
    check_contents(&Name::random(stores)).await?;
    check_names(&Name::random(stores), &Name::random(stores)).await?;
    check_locks(&Name::random(stores)).await?;
    check_marks(&Name::random(stores)).await?;
    check_cancelled_marks(&Name::random(stores)).await?;
    check_lifetimes(&Name::random(stores)).await?;
    check_races(&Name::random(stores)).await
}

/// A name, and two connections to the store.
struct Name<'a> {
    stores: [&'a dyn SharedCache; 2],
    name: String,
}

/// The generation, the value, and the owner of the mark.
type Content = Option<(u64, Bytes, Option<LockOwner>)>;

impl<'a> Name<'a> {
    fn random(stores: [&'a dyn SharedCache; 2]) -> Self {
        let name = format!("check:{}", LockOwner::random().as_str());
        Self { stores, name }
    }

    /// Writes by the first connection.
    async fn put(&self, record: NewRecord) -> Result<PutOutcome> {
        self.stores[0].put(&self.name, record).await
    }

    /// Reads by the second connection.
    async fn get(&self) -> Result<Content> {
        Ok(content(self.stores[1].get(&self.name).await?))
    }

    async fn lock(&self, owner: &LockOwner) -> Result<(bool, Content)> {
        Ok(match self.stores[1].lock(&self.name, owner, HOUR).await? {
            LockOutcome::Acquired { record } => (true, content(record)),
            LockOutcome::Held { remaining, record } => {
                check_remaining("the remaining time of a lock", remaining)?;
                (false, content(record))
            }
        })
    }

    async fn unlock(&self, owner: &LockOwner) -> Result<()> {
        self.stores[0].unlock(&self.name, owner).await
    }

    async fn begin(&self, owner: &LockOwner, generation: u64) -> Result<BeginRedemption> {
        let store = self.stores[0];
        store.begin_redemption(&self.name, owner, generation).await
    }

    async fn cancel(&self, owner: &LockOwner, generation: u64) -> Result<()> {
        let store = self.stores[1];
        store.cancel_redemption(&self.name, owner, generation).await
    }
}

async fn check_generations(name: &Name<'_>, replacing: bool) -> Result<()> {
    expect("an unknown name has no record", name.get().await?, None)?;
    // The generation, the generation that it replaces, and whether it is stored.
    let rows: &[(u64, Option<u64>, bool)] = match replacing {
        false => &[
            (2, None, true),
            (2, None, false),
            (1, None, false),
            (10, None, true),
            (9, None, false),
            (u64::MAX - 1, None, true),
            (u64::MAX, None, true),
            (u64::MAX, None, false),
        ],
        true => &[
            (2, Some(1), false),
            (10, None, true),
            (12, Some(9), false),
            (12, Some(11), false),
            (12, Some(10), true),
            (12, Some(10), false),
            // A client may put an earlier generation in place of a known one.
            (3, Some(12), true),
        ],
    };
    let mut latest = None;
    for (row, (generation, replaces, is_stored)) in rows.iter().enumerate() {
        let value = format!("value {row}");
        let mut record = NewRecord::new(*generation, value.clone().into(), HOUR);
        record.replaces = *replaces;
        let outcome = match is_stored {
            true => PutOutcome::Stored,
            false => PutOutcome::Superseded,
        };
        let rule = format!("put of generation {generation} in place of {replaces:?}");
        expect(&rule, name.put(record).await?, outcome)?;
        if *is_stored {
            latest = Some((*generation, value.into(), None));
        }
        expect(
            &format!("get after {rule}"),
            name.get().await?,
            latest.clone(),
        )?;
    }
    Ok(())
}

async fn check_contents(name: &Name<'_>) -> Result<()> {
    let all: Vec<u8> = (0..=255).collect();
    let values = [Bytes::new(), all.into(), vec![7; 64 * 1024].into()];
    for (generation, value) in (1..).zip(values) {
        name.put(NewRecord::new(generation, value.clone(), HOUR))
            .await?;
        let stored = Some((generation, value, None));
        expect("a value of any octets", name.get().await?, stored)?;
    }
    Ok(())
}

async fn check_names(name: &Name<'_>, other: &Name<'_>) -> Result<()> {
    name.put(new(1)).await?;
    let rule = "a record or a lock of another name";
    expect(rule, other.get().await?, None)?;
    name.lock(&LockOwner::random()).await?;
    expect(rule, other.lock(&LockOwner::random()).await?, (true, None))?;
    let name = Name {
        stores: name.stores,
        name: name.name.to_uppercase(),
    };
    expect("a name in other case", name.get().await?, None)
}

async fn check_locks(name: &Name<'_>) -> Result<()> {
    let (owner, other) = (LockOwner::random(), LockOwner::random());
    expect("a free lock", name.lock(&owner).await?, (true, None))?;
    name.put(new(1)).await?;
    let record = Some((1, VALUE, None));
    let (held, locked) = ((false, record.clone()), (true, record));
    let rule = "the lock of another owner, after a put";
    expect(rule, name.lock(&other).await?, held.clone())?;
    name.unlock(&other).await?;
    let rule = "the lock after an unlock of another owner";
    expect(rule, name.lock(&other).await?, held)?;
    let rule = "the lock of the same owner";
    expect(rule, name.lock(&owner).await?, locked.clone())?;
    name.unlock(&owner).await?;
    expect("the lock after an unlock", name.lock(&other).await?, locked)
}

async fn check_marks(name: &Name<'_>) -> Result<()> {
    let (owner, other) = (LockOwner::random(), LockOwner::random());
    name.lock(&owner).await?;
    let other_generation = BeginRedemption::OtherGeneration;
    let rule = "begin_redemption without a record";
    expect(rule, name.begin(&owner, 1).await?, other_generation)?;
    name.put(new(1)).await?;
    let rule = "begin_redemption at another generation";
    expect(rule, name.begin(&owner, 2).await?, other_generation)?;
    let rule = "begin_redemption without the lock";
    expect(
        rule,
        name.begin(&other, 1).await?,
        BeginRedemption::NotLocked,
    )?;
    expect(
        "a record without a mark",
        name.get().await?,
        Some((1, VALUE, None)),
    )?;

    let rule = "begin_redemption";
    expect(rule, name.begin(&owner, 1).await?, BeginRedemption::Begun)?;
    let marked = Some((1, VALUE, Some(owner.clone())));
    expect(
        "get after begin_redemption",
        name.get().await?,
        marked.clone(),
    )?;
    let in_progress = BeginRedemption::InProgress;
    let rule = "a second begin_redemption of the owner";
    expect(rule, name.begin(&owner, 1).await?, in_progress)?;
    name.unlock(&owner).await?;
    let rule = "the mark without the lock";
    expect(rule, name.lock(&other).await?, (true, marked))?;
    let rule = "begin_redemption of a marked record";
    expect(rule, name.begin(&other, 1).await?, in_progress)?;

    // The owner of the mark stores without the lock.
    let stored = name.put(new(2).replaces(1)).await?;
    expect("put of a marked record", stored, PutOutcome::Stored)?;
    let unmarked = Some((2, VALUE, None));
    expect("the mark after a put", name.get().await?, unmarked)?;
    let rule = "begin_redemption after a put";
    expect(rule, name.begin(&other, 2).await?, BeginRedemption::Begun)
}

async fn check_cancelled_marks(name: &Name<'_>) -> Result<()> {
    let (owner, other) = (LockOwner::random(), LockOwner::random());
    name.put(new(3)).await?;
    name.lock(&owner).await?;
    name.begin(&owner, 3).await?;
    name.cancel(&other, 3).await?;
    name.cancel(&owner, 2).await?;
    let marked = Some((3, VALUE, Some(owner.clone())));
    let rule = "the mark after cancel_redemption of another owner or generation";
    expect(rule, name.get().await?, marked)?;
    name.cancel(&owner, 3).await?;
    let rule = "the mark after cancel_redemption";
    expect(rule, name.get().await?, Some((3, VALUE, None)))?;
    let rule = "begin_redemption after cancel_redemption";
    expect(rule, name.begin(&owner, 3).await?, BeginRedemption::Begun)
}

async fn check_lifetimes(name: &Name<'_>) -> Result<()> {
    let owner = LockOwner::random();
    let [first, second] = name.stores;
    name.put(NewRecord::new(1, VALUE, HOUR)).await?;
    let remaining = second.get(&name.name).await?.map(|record| record.remaining);
    check_remaining(
        "the remaining time of a record",
        remaining.unwrap_or_default(),
    )?;
    name.put(NewRecord::new(2, VALUE, SHORT)).await?;
    first.lock(&name.name, &owner, SHORT).await?;
    let other = LockOwner::random();
    let mut rounds = 0;
    while let LockOutcome::Held { .. } | LockOutcome::Acquired { record: Some(_) } =
        second.lock(&name.name, &other, HOUR).await?
    {
        rounds += 1;
        if rounds > 100 {
            return Err("a record or a lock does not expire".into());
        }
        sleep(SHORT).await;
    }
    let stored = name.put(new(1)).await?;
    let rule = "put of generation 1 in place of an expired record";
    expect(rule, stored, PutOutcome::Stored)
}

/// Of many calls at once, exactly one succeeds.
async fn check_races(name: &Name<'_>) -> Result<()> {
    let stores = || name.stores.into_iter().cycle().take(RACERS);
    let owners: Vec<LockOwner> = (0..RACERS).map(|_| LockOwner::random()).collect();

    let puts = stores().map(|store| store.put(&name.name, new(1)));
    let stored = count(join_all(puts).await, &PutOutcome::Stored)?;
    expect(
        "stored records, of puts of one generation at once",
        stored,
        1,
    )?;

    let locks = stores().zip(&owners);
    let locks = locks.map(|(store, owner)| store.lock(&name.name, owner, HOUR));
    let mut holder = None;
    for (outcome, owner) in join_all(locks).await.into_iter().zip(&owners) {
        if let LockOutcome::Acquired { .. } = outcome?
            && let Some(another) = holder.replace(owner)
        {
            return Err(format!("two owners hold a lock: {another:?} and {owner:?}").into());
        }
    }
    let holder = holder.ok_or("no owner holds the lock after many attempts at once")?;

    let begins = stores().map(|store| store.begin_redemption(&name.name, holder, 1));
    let begun = count(join_all(begins).await, &BeginRedemption::Begun)?;
    expect("redemptions that began, of many at once", begun, 1)
}

fn count<T: PartialEq>(outcomes: Vec<Result<T>>, counted: &T) -> Result<usize> {
    let outcomes: Vec<T> = outcomes.into_iter().collect::<Result<_>>()?;
    Ok(outcomes
        .iter()
        .filter(|outcome| *outcome == counted)
        .count())
}

fn new(generation: u64) -> NewRecord {
    NewRecord::new(generation, VALUE, HOUR)
}

fn content(record: Option<SharedRecord>) -> Content {
    let record = record?;
    let owner = record.redemption.map(|mark| mark.owner);
    Some((record.generation, record.value, owner))
}

/// Checks the rest of an hour, soon after its start.
fn check_remaining(rule: &str, remaining: Duration) -> Result<()> {
    match remaining > HOUR / 2 && remaining <= HOUR {
        true => Ok(()),
        false => Err(format!("{rule}: expected nearly an hour, got {remaining:?}").into()),
    }
}

fn expect<T: PartialEq + Debug>(rule: &str, actual: T, expected: T) -> Result<()> {
    match actual == expected {
        true => Ok(()),
        false => Err(format!("{rule}: expected {expected:?}, got {actual:?}").into()),
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);
const VALUE: Bytes = Bytes::from_static(b"a value");
const RACERS: usize = 16;
