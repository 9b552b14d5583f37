use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::error::{Error, Failure};
use crate::secret::Secret;

/// The file with the key that answers a challenge of the Azure Arc agent.
///
/// Whoever listens on the agent's port chooses the path. The checks keep any other file of this
/// machine from being read and sent.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    folder: PathBuf,
}

impl KeyFile {
    /// Checks the path of a challenge, without I/O.
    pub(super) fn new(path: &str, folder: Option<&Path>) -> Result<Self, Error> {
        let Some(folder) = folder else {
            return Err(Error::config(
                "the folder of the Azure Arc agent's key files is not known on this operating system; set HostEnvironment::arc_key_folder(..)",
            ));
        };
        let path = PathBuf::from(path);
        // `parent` and `file_name` would skip a segment `.` and a slash at the end.
        let is_in_folder = path.parent() == Some(folder)
            && path
                .file_name()
                .is_some_and(|name| folder.join(name).as_os_str() == path.as_os_str());
        let file = Self {
            path,
            folder: folder.to_owned(),
        };
        if !is_in_folder {
            return Err(file.rejected(&format!("it is not directly in {}", file.folder.display())));
        }
        if file.path.extension().is_none_or(|end| end != "key") {
            return Err(file.rejected("its name does not end in '.key'"));
        }
        Ok(file)
    }

    /// Reads the key, on a thread for blocking calls.
    pub(super) async fn read(self) -> Result<Secret, Error> {
        spawn_blocking(move || self.read_now())
            .await
            .map_err(|error| {
                let failure = Failure::new("the Azure Arc agent's key file was not read");
                Error::Credential(failure.source(Box::new(error)).into())
            })?
    }

    fn read_now(&self) -> Result<Secret, Error> {
        // Links are resolved first, and the resolved path is opened.
        let path = self.path.canonicalize();
        let path = path.map_err(|error| self.unreadable(error))?;
        let folder = self.folder.canonicalize();
        let folder = folder.map_err(|error| self.unreadable(error))?;
        if path.parent() != Some(&folder) {
            return Err(self.rejected(&format!(
                "it is a link to a file that is not directly in {}",
                folder.display()
            )));
        }
        // Opening a pipe could block for ever.
        let metadata = path.metadata().map_err(|error| self.unreadable(error))?;
        if !metadata.is_file() {
            return Err(self.rejected("it is not a regular file"));
        }
        let file = File::open(&path).map_err(|error| self.unreadable(error))?;
        let mut content = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
        let read = file.take(LARGEST + 1).read_to_end(&mut content);
        let length = read.map_err(|error| self.unreadable(error))?;
        if length as u64 > LARGEST {
            return Err(self.rejected(&format!("it has more than {LARGEST} bytes")));
        }
        match std::str::from_utf8(&content).map(str::trim) {
            Ok("") => Err(self.rejected("it is empty")),
            Ok(key) => Ok(Secret::from(key)),
            Err(_) => Err(self.rejected("it is not text")),
        }
    }

    fn rejected(&self, reason: &str) -> Error {
        Error::credential(format!(
            "the key file {:?} of the Azure Arc agent's challenge is not read: {reason}; look at the agent with 'azcmagent show', and at which program listens on its port",
            self.path
        ))
    }

    fn unreadable(&self, error: io::Error) -> Error {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied if cfg!(windows) => {
                "; add the user of this process to the local group 'Hybrid agent extension applications' or 'Administrators', and start the process anew"
            }
            io::ErrorKind::PermissionDenied => {
                "; add the user of this process to the group 'himds' (sudo usermod -a -G himds {user}), and start the process anew"
            }
            _ => "",
        };
        let failure = Failure::new(format!(
            "the key file {:?} of the Azure Arc agent cannot be read{advice}",
            self.path
        ));
        Error::Credential(failure.source(Box::new(error)).into())
    }
}

/// The largest accepted key file, in bytes.
const LARGEST: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use uuid::Uuid;

    use super::*;

    /// A folder that is deleted when the value is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(Uuid::new_v4().to_string());
            fs::create_dir_all(path.join("tokens")).unwrap();
            Self(path)
        }

        fn tokens(&self) -> PathBuf {
            self.0.join("tokens")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_a_key_file_directly_in_the_folder_is_accepted() {
        let folder = Path::new("/var/opt/azcmagent/tokens");
        for (path, reason) in [
            ("/var/opt/azcmagent/tokens/a.key", None),
            ("/var/opt/azcmagent/tokens/a.b.key", None),
            ("/etc/shadow", Some("not directly in")),
            ("/etc/shadow.key", Some("not directly in")),
            (
                "/var/opt/azcmagent/tokens/../a.key",
                Some("not directly in"),
            ),
            ("/var/opt/azcmagent/tokens/x/a.key", Some("not directly in")),
            (
                "/var/opt/azcmagent/tokens/x/../a.key",
                Some("not directly in"),
            ),
            ("/var/opt/azcmagent/tokens/./a.key", Some("not directly in")),
            ("/var/opt/azcmagent/tokens//a.key", Some("not directly in")),
            ("/var/opt/azcmagent/tokens/a.key/", Some("not directly in")),
            ("/var/opt/azcmagent/tokensa.key", Some("not directly in")),
            ("/var/opt/azcmagent/tokens", Some("not directly in")),
            ("a.key", Some("not directly in")),
            ("", Some("not directly in")),
            ("/var/opt/azcmagent/tokens/a.txt", Some("'.key'")),
            ("/var/opt/azcmagent/tokens/a.key.txt", Some("'.key'")),
            ("/var/opt/azcmagent/tokens/akey", Some("'.key'")),
            ("/var/opt/azcmagent/tokens/.key", Some("'.key'")),
            ("/var/opt/azcmagent/tokens/a.KEY", Some("'.key'")),
        ] {
            match (KeyFile::new(path, Some(folder)), reason) {
                (Ok(_), None) => {}
                (Err(error @ Error::Credential(_)), Some(reason)) => {
                    assert!(error.to_string().contains(reason), "{error}");
                }
                other => panic!("{path}: {other:?}"),
            }
        }
        let error = KeyFile::new("/a.key", None).unwrap_err().to_string();
        assert!(error.contains("arc_key_folder(..)"), "{error}");
    }

    #[test]
    fn a_file_is_read_up_to_its_largest_length_and_trimmed() {
        let folder = Folder::new();
        let path = folder.tokens().join("a.key");
        let read = || {
            KeyFile::new(path.to_str().unwrap(), Some(&folder.tokens()))
                .unwrap()
                .read_now()
        };
        fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(read().unwrap().expose(), "s3cret");
        fs::write(&path, "k".repeat(4096)).unwrap();
        assert_eq!(read().unwrap().expose().len(), 4096);
        for (content, reason) in [
            ("k".repeat(4097).into_bytes(), "more than 4096 bytes"),
            (b" \n".to_vec(), "it is empty"),
            (vec![0xff, 0xfe], "it is not text"),
        ] {
            fs::write(&path, content).unwrap();
            let error = read().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("kkkk"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let error = read().unwrap_err();
        assert!(
            error
                .chain()
                .to_string()
                .contains("cannot be read: No such file"),
            "{error:?}"
        );
        fs::create_dir(&path).unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_out_of_the_folder_is_not_followed() {
        use std::os::unix::fs::symlink;

        let folder = Folder::new();
        let outside = folder.0.join("shadow.key");
        fs::write(&outside, "hunter2").unwrap();
        let link = folder.tokens().join("a.key");
        symlink(&outside, &link).unwrap();
        let key = KeyFile::new(link.to_str().unwrap(), Some(&folder.tokens())).unwrap();
        let error = key.read_now().unwrap_err().to_string();
        assert!(
            error.contains("it is a link to a file that is not directly in"),
            "{error}"
        );
        // A link inside of the folder, and a folder that is a link itself, lead nowhere else.
        let linked = folder.0.join("linked");
        symlink(folder.tokens(), &linked).unwrap();
        fs::write(folder.tokens().join("b.key"), "s3cret").unwrap();
        fs::remove_file(&link).unwrap();
        symlink(folder.tokens().join("b.key"), &link).unwrap();
        let path = linked.join("a.key");
        let key = KeyFile::new(path.to_str().unwrap(), Some(&linked)).unwrap();
        assert_eq!(key.read_now().unwrap().expose(), "s3cret");
    }

    #[test]
    fn a_file_of_others_names_the_group() {
        let folder = Path::new("/var/opt/azcmagent/tokens");
        let file = KeyFile::new("/var/opt/azcmagent/tokens/a.key", Some(folder)).unwrap();
        let error = file.unreadable(io::ErrorKind::PermissionDenied.into());
        let group = match cfg!(windows) {
            true => "Hybrid agent extension applications",
            false => "the group 'himds'",
        };
        assert!(error.to_string().contains(group), "{error}");
        assert!(!error.is_transient());
        let error = file.unreadable(io::ErrorKind::NotFound.into());
        assert!(!error.to_string().contains(group), "{error}");
    }
}
