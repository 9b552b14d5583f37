//! A `redis-server` of the example.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::Result;

/// A server on a free port of loopback, with a temporary folder. Killed on drop.
pub(crate) struct RedisServer {
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl RedisServer {
    /// Starts a server, or returns `None` if there is no `redis-server` on the `PATH`.
    pub(crate) fn start() -> Result<Option<Self>> {
        let is_installed = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !is_installed {
            return Ok(None);
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("fleet-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let process = launch(port, &folder)?;
        let server = Self {
            port,
            folder,
            process,
        };
        server.wait_until_up()?;
        Ok(Some(server))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts the killed server without data on the same port.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.process = launch(self.port, &self.folder)?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> Result<()> {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        Err("redis-server does not accept connections".into())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn launch(port: u16, folder: &PathBuf) -> Result<Child> {
    let process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        // A program with sessions sets `--appendonly yes` instead.
        .args(["--save", ""])
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()?;
    Ok(process)
}
