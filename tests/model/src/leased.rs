use std::sync::LazyLock;
use std::time::{Duration, Instant};

use loom::sync::{Arc, Mutex};

use crate::lease::Lease;

/// A value that only the current holder of a lease may publish.
#[derive(Clone, Default)]
pub struct Leased(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Lease<&'static str>,
    published: Option<&'static str>,
    working: usize,
}

/// A holder that has not finished.
pub struct Holder(u64, &'static str);

impl Leased {
    /// Takes the lease for 30 seconds, unless another holder has it at that second.
    pub fn take(&self, name: &'static str, second: u64) -> Option<Holder> {
        let mut state = self.0.lock().unwrap();
        if state.lease.holder(at(second)).is_some() {
            return None;
        }
        let (id, _) = state.lease.grant(at(second + 30), name);
        Some(Holder(id, name))
    }

    /// Publishes the holder's name, if its lease is still current.
    pub fn publish(&self, holder: Holder) {
        let mut state = self.0.lock().unwrap();
        if let Some(name) = state.lease.release(holder.0) {
            assert_eq!(name, holder.1, "the lease holds another's value");
            state.published = Some(name);
        }
    }

    /// Takes the lease and publishes. No second holder may work meanwhile. Returns `false` if
    /// another holder has the lease.
    pub fn work(&self, name: &'static str, second: u64) -> bool {
        let Some(holder) = self.take(name, second) else {
            return false;
        };
        {
            let mut state = self.0.lock().unwrap();
            state.working += 1;
            assert_eq!(state.working, 1, "two holders at a time");
        }
        self.0.lock().unwrap().working -= 1;
        self.publish(holder);
        true
    }

    pub fn published(&self) -> Option<&'static str> {
        self.0.lock().unwrap().published
    }

    pub fn is_free(&self) -> bool {
        !self.0.lock().unwrap().lease.is_held()
    }
}

fn at(second: u64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(second)
}
