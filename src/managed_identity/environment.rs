use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credential::pasted::bare;
use crate::error::Error;

/// The part of a host that decides on the source of managed identity tokens.
///
/// The environment has the host's variables and the folders of the Azure Arc agent. The client
/// reads the variables again for every token request, because App Service replaces the value of
/// `IDENTITY_HEADER`.
///
/// The default is [`of_process`](Self::of_process). A test describes another host by a value, and
/// never changes the variables of the process.
#[derive(Clone)]
pub struct HostEnvironment {
    read: ReadVariable,
    arc: ArcPaths,
}

/// Returns the current value of a variable.
type ReadVariable = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// The files of the Azure Arc agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ArcPaths {
    /// The places of the agent's program, one of which shows that the agent is installed.
    agents: Vec<PathBuf>,
    /// The folder of the key files.
    key_folder: Option<PathBuf>,
}

impl HostEnvironment {
    /// Returns the environment of this process.
    pub fn of_process() -> Self {
        let read = |name: &str| std::env::var_os(name);
        Self {
            arc: ArcPaths::of(std::env::consts::OS, read),
            read: Arc::new(read),
        }
    }

    /// Returns an environment whose variables a function reads, without an Azure Arc agent.
    ///
    /// The function receives the name of a variable and returns the variable's current value.
    pub fn from_fn(read: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self {
            read: Arc::new(read),
            arc: ArcPaths::default(),
        }
    }

    /// Returns an environment with these variables and no others, without an Azure Arc agent.
    pub fn from_variables<N: Into<String>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        let variables: BTreeMap<String, OsString> = variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self::from_fn(move |name| variables.get(name).cloned())
    }

    /// Sets the path of the Azure Arc agent's program, `himds`.
    ///
    /// The program is not started. A file at the path shows that the agent is installed.
    #[must_use]
    pub fn arc_agent(mut self, path: impl Into<PathBuf>) -> Self {
        self.arc.agents = vec![path.into()];
        self
    }

    /// Sets the folder in which the Azure Arc agent writes its key files.
    #[must_use]
    pub fn arc_key_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.arc.key_folder = Some(path.into());
        self
    }

    /// Returns the value of a variable as the host has it, such as a path.
    pub(crate) fn value(&self, name: &str) -> Option<OsString> {
        (self.read)(name)
    }

    /// Returns whether a variable is set and not empty.
    ///
    /// Kubernetes and shells cannot tell an empty variable from an unset one.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        let is_filled = |value: OsString| value.to_str().is_none_or(|text| !bare(text).is_empty());
        (self.read)(name).is_some_and(is_filled)
    }

    /// Returns the value of a variable, or `None` if the variable is unset or empty.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        if !self.is_set(name) {
            return Ok(None);
        }
        let value = (self.read)(name).map(OsString::into_string).transpose();
        value.map_err(|_| {
            Error::config(format!(
                "the variable {name} is not text in UTF-8; set {name} to the value that the host gave"
            ))
        })
    }

    /// Returns the value of a variable that selected the source.
    pub(super) fn required(&self, name: &str) -> Result<String, Error> {
        self.text(name)?.ok_or_else(|| {
            Error::config(format!(
                "the variable {name} is not set any more; restart the program with the variables of the host"
            ))
        })
    }

    /// Returns whether the Azure Arc agent is installed. Reads the file system.
    pub(super) fn has_arc_agent(&self) -> bool {
        self.arc.agents.iter().any(|path| path.exists())
    }

    /// Returns the first place of the Azure Arc agent's program, for messages.
    pub(super) fn arc_agent_path(&self) -> Option<&Path> {
        self.arc.agents.first().map(PathBuf::as_path)
    }

    pub(super) fn key_folder(&self) -> Option<&Path> {
        self.arc.key_folder.as_deref()
    }
}

impl Default for HostEnvironment {
    fn default() -> Self {
        Self::of_process()
    }
}

/// Shows the paths, and never the values of variables, which have secrets.
impl fmt::Debug for HostEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostEnvironment")
            .field("arc", &self.arc)
            .finish_non_exhaustive()
    }
}

impl ArcPaths {
    /// Returns the agent's paths on an operating system, by the name of
    /// [`OS`](std::env::consts::OS).
    fn of(os: &str, read: impl Fn(&str) -> Option<OsString>) -> Self {
        let below = |variable: &str, path: &str| {
            let folder = read(variable).filter(|folder| !folder.is_empty())?;
            let mut whole = folder;
            whole.push(path);
            Some(PathBuf::from(whole))
        };
        match os {
            "linux" => Self {
                agents: vec![PathBuf::from("/opt/azcmagent/bin/himds")],
                key_folder: Some(PathBuf::from("/var/opt/azcmagent/tokens")),
            },
            "windows" => Self {
                agents: ["ProgramFiles", "ProgramData"]
                    .into_iter()
                    .filter_map(|at| below(at, r"\AzureConnectedMachineAgent\himds.exe"))
                    .collect(),
                key_folder: below("ProgramData", r"\AzureConnectedMachineAgent\Tokens"),
            },
            _ => Self::default(),
        }
    }
}

pub(super) const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";
pub(super) const IDENTITY_HEADER: &str = "IDENTITY_HEADER";
pub(super) const IDENTITY_SERVER_THUMBPRINT: &str = "IDENTITY_SERVER_THUMBPRINT";
pub(super) const IMDS_ENDPOINT: &str = "IMDS_ENDPOINT";
pub(super) const MSI_ENDPOINT: &str = "MSI_ENDPOINT";
pub(super) const MSI_SECRET: &str = "MSI_SECRET";
pub(super) const DEFAULT_IDENTITY_CLIENT_ID: &str = "DEFAULT_IDENTITY_CLIENT_ID";
pub(super) const POD_IDENTITY_AUTHORITY_HOST: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_paths_follow_the_operating_system() {
        let read = |name: &str| match name {
            "ProgramFiles" => Some(OsString::from(r"C:\Program Files")),
            "ProgramData" => Some(OsString::from(r"D:\Data")),
            _ => None,
        };
        let windows = ArcPaths::of("windows", read);
        assert_eq!(
            windows.agents,
            [
                PathBuf::from(r"C:\Program Files\AzureConnectedMachineAgent\himds.exe"),
                PathBuf::from(r"D:\Data\AzureConnectedMachineAgent\himds.exe"),
            ]
        );
        let folder = PathBuf::from(r"D:\Data\AzureConnectedMachineAgent\Tokens");
        assert_eq!(windows.key_folder, Some(folder));
        assert_eq!(ArcPaths::of("windows", |_| None), ArcPaths::default());
        let linux = ArcPaths::of("linux", read);
        assert_eq!(linux.agents, [PathBuf::from("/opt/azcmagent/bin/himds")]);
        let folder = PathBuf::from("/var/opt/azcmagent/tokens");
        assert_eq!(linux.key_folder, Some(folder));
        assert_eq!(ArcPaths::of("macos", read), ArcPaths::default());
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        for value in ["", "  ", "\"\""] {
            let environment = HostEnvironment::from_variables([(MSI_SECRET, value)]);
            assert!(!environment.is_set(MSI_SECRET), "{value:?}");
            assert_eq!(environment.text(MSI_SECRET).unwrap(), None);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_variable_that_is_not_text_is_named() {
        use std::os::unix::ffi::OsStringExt;

        let value = OsString::from_vec(vec![b'h', 0xff]);
        let environment = HostEnvironment::from_variables([(MSI_SECRET, value)]);
        assert!(environment.is_set(MSI_SECRET));
        let error = environment.text(MSI_SECRET).unwrap_err().to_string();
        assert!(
            error.contains("the variable MSI_SECRET is not text"),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = HostEnvironment::from_variables([(MSI_SECRET, "hunter2")]);
        assert!(!format!("{environment:?}").contains("hunter2"));
    }
}
