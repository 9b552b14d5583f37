use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use uuid::Uuid;

use crate::error::{Error, Failure};
use crate::testing::provider::lock;
use crate::testing::token::random_secret;

/// The folder in which an Azure Arc agent writes the key files of its challenges.
pub(crate) struct KeyFolder {
    path: PathBuf,
    /// The keys of the open challenges, with their files.
    keys: Mutex<Vec<(PathBuf, String)>>,
}

impl KeyFolder {
    /// Creates a temporary folder, which only the user of this process can read.
    pub(crate) fn create() -> Result<Self, Error> {
        let name = format!("local-managed-identity-{}", Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| {
            let failure = Failure::new(format!("cannot create the folder {}", path.display()));
            Error::Config(failure.source(Box::new(error)).into())
        })?;
        Ok(Self {
            path,
            keys: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new key file, and returns the path for the challenge.
    pub(crate) fn challenge(&self) -> io::Result<PathBuf> {
        let path = self.path.join(format!("{}.key", Uuid::new_v4()));
        let key = random_secret();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path)?.write_all(key.as_bytes())?;
        lock(&self.keys).push((path.clone(), key));
        Ok(path)
    }

    /// Accepts the key of a challenge once, and removes the key file.
    pub(crate) fn accept(&self, authorization: &str) -> bool {
        let mut keys = lock(&self.keys);
        let key = authorization.strip_prefix("Basic ");
        let known = keys.iter().position(|(_, known)| key == Some(known));
        let Some(index) = known else {
            return false;
        };
        let (path, _) = keys.swap_remove(index);
        // The folder may be removed already.
        let _ = fs::remove_file(path);
        true
    }

    /// Removes the folder with all key files.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
