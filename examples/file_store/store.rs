//! A shared cache in files, for the processes of one machine.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use confidential_client::cache::{
    BeginRedemption, LockOutcome, LockOwner, NewRecord, PutOutcome, Redemption, SharedCache,
    SharedCacheFuture, SharedRecord,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// A folder with one file for each name.
///
/// Every call holds an exclusive lock of the file `lock`, which the operating system releases if
/// the process is killed. The folder must be on a file system whose locks work between the
/// processes, which NFS does not promise. The clock of the store is the clock of the machine.
#[derive(Clone, Debug)]
pub(crate) struct FileStore {
    folder: PathBuf,
}

impl FileStore {
    /// Creates the folder if it is absent, and removes the expired records.
    pub(crate) fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let store = Self {
            folder: folder.into(),
        };
        create_private_folder(&store.folder)?;
        let _lock = store.lock_folder()?;
        for file in fs::read_dir(&store.folder)? {
            let path = file?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let entry = read(&path)?;
                write(&path, &entry, &entry.clone().without_expired(now()))?;
            }
        }
        Ok(store)
    }

    /// Locks the folder until the returned file is dropped.
    #[expect(clippy::incompatible_msrv, reason = "the example needs Rust 1.89")]
    fn lock_folder(&self) -> io::Result<File> {
        let file = File::create(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Runs the operation on the entry of the name, and stores the changed entry.
    fn call<'a, T: Send + 'static>(
        &self,
        name: &str,
        operation: impl FnOnce(&mut Entry, u64) -> io::Result<T> + Send + 'static,
    ) -> SharedCacheFuture<'a, T> {
        let store = self.clone();
        let path = self.folder.join(format!("{}.json", file_stem(name)));
        Box::pin(async move {
            let outcome = spawn_blocking(move || {
                let _lock = store.lock_folder()?;
                let stored = read(&path)?;
                let now = now();
                let mut entry = stored.clone().without_expired(now);
                let outcome = operation(&mut entry, now)?;
                write(&path, &stored, &entry)?;
                io::Result::Ok(outcome)
            });
            Ok(outcome.await??)
        })
    }
}

impl SharedCache for FileStore {
    fn get<'a>(&'a self, name: &'a str) -> SharedCacheFuture<'a, Option<SharedRecord>> {
        self.call(name, |entry, now| entry.shared(now))
    }

    fn put<'a>(&'a self, name: &'a str, new: NewRecord) -> SharedCacheFuture<'a, PutOutcome> {
        self.call(name, move |entry, now| {
            let existing = entry.record.as_ref().map(|record| record.generation);
            let is_replaced = match new.replaces {
                Some(generation) => existing == Some(generation),
                None => existing.is_none_or(|existing| existing < new.generation),
            };
            if !is_replaced {
                return Ok(PutOutcome::Superseded);
            }
            entry.record = Some(Record {
                generation: new.generation,
                value: BASE64_STANDARD.encode(&new.value),
                expires: after(now, new.lifetime),
                mark: None,
            });
            Ok(PutOutcome::Stored)
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        lifetime: Duration,
    ) -> SharedCacheFuture<'a, LockOutcome> {
        let owner = owner.as_str().to_owned();
        self.call(name, move |entry, now| {
            let record = entry.shared(now)?;
            Ok(match &entry.lock {
                Some(lock) if lock.owner != owner => LockOutcome::Held {
                    remaining: until(now, lock.expires),
                    record,
                },
                _ => {
                    let expires = after(now, lifetime);
                    entry.lock = Some(Lock { owner, expires });
                    LockOutcome::Acquired { record }
                }
            })
        })
    }

    fn unlock<'a>(&'a self, name: &'a str, owner: &'a LockOwner) -> SharedCacheFuture<'a, ()> {
        let owner = owner.clone();
        self.call(name, move |entry, _| {
            if entry.is_locked_by(&owner) {
                entry.lock = None;
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
        let owner = owner.clone();
        self.call(name, move |entry, since| {
            if !entry.is_locked_by(&owner) {
                return Ok(BeginRedemption::NotLocked);
            }
            Ok(match &mut entry.record {
                Some(record) if record.generation == generation => match record.mark {
                    Some(_) => BeginRedemption::InProgress,
                    None => {
                        let owner = owner.as_str().to_owned();
                        record.mark = Some(Mark { owner, since });
                        BeginRedemption::Begun
                    }
                },
                _ => BeginRedemption::OtherGeneration,
            })
        })
    }

    fn cancel_redemption<'a>(
        &'a self,
        name: &'a str,
        owner: &'a LockOwner,
        generation: u64,
    ) -> SharedCacheFuture<'a, ()> {
        let owner = owner.as_str().to_owned();
        self.call(name, move |entry, _| {
            if let Some(record) = &mut entry.record
                && record.generation == generation
            {
                record.mark.take_if(|mark| mark.owner == owner);
            }
            Ok(())
        })
    }
}

/// The file of a name. All times are in milliseconds since 1970.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    record: Option<Record>,
    lock: Option<Lock>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    generation: u64,
    /// The value in base64. The client encrypted the value.
    value: String,
    expires: u64,
    mark: Option<Mark>,
}

/// The mark of a redemption in progress.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Mark {
    owner: String,
    since: u64,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Lock {
    owner: String,
    expires: u64,
}

impl Entry {
    fn without_expired(mut self, now: u64) -> Self {
        self.record.take_if(|record| record.expires <= now);
        self.lock.take_if(|lock| lock.expires <= now);
        self
    }

    fn is_locked_by(&self, owner: &LockOwner) -> bool {
        let lock = self.lock.as_ref();
        lock.is_some_and(|lock| lock.owner == owner.as_str())
    }

    fn shared(&self, now: u64) -> io::Result<Option<SharedRecord>> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let value = BASE64_STANDARD.decode(&record.value);
        let value = value.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let remaining = until(now, record.expires);
        let shared = SharedRecord::new(record.generation, value.into(), remaining);
        Ok(Some(match &record.mark {
            None => shared,
            Some(mark) => {
                let owner = LockOwner::from_text(mark.owner.as_str());
                shared.redemption(Redemption::new(owner, until(mark.since, now)))
            }
        }))
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| {
            let message = format!("{} is no entry of the store: {error}", path.display());
            io::Error::new(ErrorKind::InvalidData, message)
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Entry::default()),
        Err(error) => Err(error),
    }
}

/// Replaces the file as a whole, and returns after the disk has the new file.
fn write(path: &Path, stored: &Entry, entry: &Entry) -> io::Result<()> {
    if stored == entry {
        return Ok(());
    }
    if *entry == Entry::default() {
        return fs::remove_file(path);
    }
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // A mark must survive a crash of the machine, or a refresh token may be sent twice.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Returns the hexadecimal digits of a name. A file system may ignore case, and a name does not.
fn file_stem(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    milliseconds(since.unwrap_or_default())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn after(now: u64, lifetime: Duration) -> u64 {
    now.saturating_add(milliseconds(lifetime))
}

fn until(from: u64, to: u64) -> Duration {
    Duration::from_millis(to.saturating_sub(from))
}
