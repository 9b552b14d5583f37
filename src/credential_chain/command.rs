//! The run of a developer's command-line program: no shell, a time limit, bounded output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// A program with its arguments, which are checked.
pub(super) struct ToolCommand {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// The folders of programs that the program itself starts.
    pub(super) search_path: OsString,
    /// A folder that only an administrator can write to.
    ///
    /// Windows looks for programs in the working directory first.
    pub(super) folder: PathBuf,
    pub(super) limit: Duration,
}

/// The output of a program that ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// The reason why there is no output.
#[derive(Debug)]
pub(super) enum CommandFailure {
    NotStarted(io::Error),
    TimedOut,
}

impl ToolCommand {
    /// Runs the program to its end, and kills the program at the time limit.
    ///
    /// Dropping the future kills the program. The program runs on threads of its own, so that a
    /// runtime that shuts down does not wait for the program.
    pub(super) async fn run(self) -> Result<Output, CommandFailure> {
        let (events, received) = channel();
        let _guard = CancelOnDrop(events.clone());
        let (result, finished) = oneshot::channel();
        let run = move || {
            // The receiver is gone if the caller is.
            let _ = result.send(self.run_blocking(events, &received));
        };
        let thread = thread::Builder::new().name("developer-tool".to_owned());
        thread.spawn(run).map_err(CommandFailure::NotStarted)?;
        let stopped = |_| Err(CommandFailure::NotStarted(io::ErrorKind::Other.into()));
        finished.await.unwrap_or_else(stopped)
    }

    fn run_blocking(
        &self,
        events: Sender<Event>,
        received: &Receiver<Event>,
    ) -> Result<Output, CommandFailure> {
        let deadline = Instant::now().checked_add(self.limit);
        let mut child = self.spawn().map_err(CommandFailure::NotStarted)?;
        read_in_background(child.stdout.take(), events.clone(), Event::Stdout);
        read_in_background(child.stderr.take(), events, Event::Stderr);
        let (mut stdout, mut stderr) = (None, None);
        loop {
            let left = deadline.map_or(self.limit, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            // A program that closed its output ends soon.
            let wait = match (&stdout, &stderr) {
                (Some(_), Some(_)) => left.min(EXIT_INTERVAL),
                _ => left,
            };
            match received.recv_timeout(wait) {
                Ok(Event::Stdout(bytes)) => stdout = Some(bytes),
                Ok(Event::Stderr(bytes)) => stderr = Some(bytes),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && stdout.is_some() => {}
                Ok(Event::Cancelled) | Err(_) => {
                    kill(&mut child);
                    return Err(CommandFailure::TimedOut);
                }
            }
            if stdout.is_some() && stderr.is_some() {
                let status = child.try_wait().map_err(CommandFailure::NotStarted)?;
                if let Some(status) = status {
                    return Ok(Output {
                        status,
                        stdout: stdout.unwrap_or_default(),
                        stderr: stderr.unwrap_or_default(),
                    });
                }
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        // For a `.cmd` file on Windows, the standard library calls `cmd.exe /c`, quotes the
        // arguments and rejects arguments that cannot be quoted.
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env("PATH", &self.search_path)
            // Colours would be control characters in messages.
            .env("AZURE_CORE_NO_COLOR", "true")
            .env("NO_COLOR", "true")
            // Old versions of the Azure CLI print the expiry as local time without a zone.
            .env("TZ", "UTC0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    }
}

enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Cancelled,
}

struct CancelOnDrop(Sender<Event>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // The receiver is gone if the program ended.
        let _ = self.0.send(Event::Cancelled);
    }
}

/// Reads the first bytes of a stream and drops the others, so that the program never blocks.
fn read_in_background(
    stream: Option<impl Read + Send + 'static>,
    events: Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(LARGEST_OUTPUT).read_to_end(&mut bytes);
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        let _ = events.send(event(bytes));
    };
    // Without a thread there is no event, and the program runs into its time limit.
    let _ = thread::Builder::new()
        .name("developer-tool-output".to_owned())
        .spawn(read);
}

/// Kills a program and the programs that it started, and waits for its end.
fn kill(child: &mut Child) {
    // The Azure CLI is a script that starts Python, so the script's end alone changes nothing.
    #[cfg(unix)]
    {
        let group = format!("-{}", child.id());
        let mut command = Command::new("/bin/kill");
        command.args(["-KILL", "--", &group]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let _ = quiet.stderr(Stdio::null()).status();
    }
    #[cfg(windows)]
    if let Some(root) = std::env::var_os("SystemRoot") {
        let mut command = Command::new(Path::new(&root).join("System32").join("taskkill.exe"));
        command.args(["/T", "/F", "/PID", &child.id().to_string()]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let _ = quiet.stderr(Stdio::null()).status();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns the path of a program in one of the folders of a search path.
///
/// Ignores relative folders, which belong to the working directory of the process.
pub(super) fn find_program(search_path: &OsStr, names: &[&str]) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    let is_executable =
        |data: std::fs::Metadata| data.is_file() && data.permissions().mode() & 0o111 != 0;
    path.metadata().is_ok_and(is_executable)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// The largest output that is kept of each stream.
const LARGEST_OUTPUT: u64 = 256 * 1024;
const EXIT_INTERVAL: Duration = Duration::from_millis(10);
