//! The processes of the fleet, and what they print.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;

/// Processes that acquire tokens. A process ends when its standard input does.
pub(crate) struct Fleet(Vec<Process>);

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Fleet {
    pub(crate) fn start(count: usize, base_url: &str, redis_url: &str) -> Result<Self> {
        let start = |_| {
            let mut child = Command::new(std::env::current_exe()?)
                .args(["replica", base_url, redis_url])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let input = child.stdin.take().ok_or("the process has no input")?;
            let output = child.stdout.take().ok_or("the process has no output")?;
            let output = BufReader::new(output);
            Ok(Process {
                child,
                input,
                output,
            })
        };
        (0..count).map(start).collect::<Result<_>>().map(Self)
    }

    /// Lets all processes acquire a token at the same time.
    pub(crate) fn acquire(&mut self, scope: &str) -> Result<Tokens> {
        for process in &mut self.0 {
            process.ask(scope)?;
        }
        let mut tokens = Tokens::default();
        // The identity provider runs on the other threads of the runtime.
        tokio::task::block_in_place(|| {
            for process in &mut self.0 {
                let mut line = String::new();
                process.output.read_line(&mut line)?;
                tokens.add(line.trim_end());
            }
            Ok(tokens)
        })
    }

    /// Lets one process acquire a token, and does not wait.
    pub(crate) fn ask_first(&mut self, scope: &str) -> Result<()> {
        self.0.first_mut().ok_or("there is no process")?.ask(scope)
    }

    /// Kills the process of [`ask_first`](Self::ask_first).
    pub(crate) fn kill_first(&mut self) -> Result<()> {
        let mut process = self.0.remove(0);
        process.child.kill()?;
        process.child.wait()?;
        Ok(())
    }
}

impl Process {
    fn ask(&mut self, scope: &str) -> Result<()> {
        Ok(writeln!(self.input, "{scope}")?)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for Process { mut child, .. } in self.0.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The number of tokens by the source that a process printed.
#[derive(Default)]
pub(crate) struct Tokens(BTreeMap<String, usize>);

impl Tokens {
    pub(crate) fn add(&mut self, source: &str) {
        *self.0.entry(source.to_owned()).or_default() += 1;
    }

    pub(crate) fn by_source(&self) -> impl Iterator<Item = (&String, &usize)> {
        self.0.iter()
    }
}
