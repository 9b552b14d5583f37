//! The synchronisation primitives of the pure cache types. The loom model replaces this file.

pub(super) use std::sync::atomic::{AtomicU32, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use arc_swap::ArcSwapOption as Current;
