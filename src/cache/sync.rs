//! What the pure types of the cache share between threads. A model checker puts its own in its
//! place.

pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use arc_swap::ArcSwapOption as Current;
