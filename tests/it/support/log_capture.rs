//! Captured TRACE events, for tests and for the gate.
//!
//! The program has one subscriber. `tracing` caches for each call site whether a subscriber is
//! interested, so a subscriber of a single thread misses events.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, Once};

use tracing_subscriber::fmt::format::FmtSpan;

static FILE: Mutex<Option<File>> = Mutex::new(None);

thread_local! {
    static OF_THIS_THREAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Installs the subscriber, once.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if let Some(path) = std::env::var_os("CONFIDENTIAL_CLIENT_TEST_LOG") {
            // Child processes of the tests append to the same file.
            let file = File::options().create(true).append(true).open(path);
            *FILE.lock().unwrap() = Some(file.unwrap());
        }
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(|| Writer)
            .with_ansi(false)
            .init();
    });
}

/// Log text of this thread, from the creation of this value on.
pub struct Log(usize);

impl Log {
    pub fn start() -> Self {
        start();
        Self(OF_THIS_THREAD.with_borrow(Vec::len))
    }

    pub fn text(&self) -> String {
        OF_THIS_THREAD.with_borrow(|log| String::from_utf8(log[self.0..].to_vec()).unwrap())
    }
}

struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        OF_THIS_THREAD.with_borrow_mut(|log| log.extend(bytes));
        if let Some(file) = &mut *FILE.lock().unwrap() {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
