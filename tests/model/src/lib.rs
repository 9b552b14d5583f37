//! The pure files of the cache, as they are in `src/`, on loom's threads.
//!
//! Loom runs a test once for every order in which its threads can come to the locks and to a slot's
//! token. `tests/` says what has to hold in each.

#[path = "../../../src"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the model needs a part of each file"
)]
mod library {
    pub(crate) mod authority {
        mod tenant;
        pub(crate) use tenant::Tenant;
    }
    pub(crate) mod error;
    pub(crate) mod lease;
    pub(crate) mod request {
        pub(crate) mod parameters;
    }
    pub(crate) mod scope;
    pub(crate) mod secret;
    pub(crate) mod thread_number;
    pub(crate) mod time;
    pub(crate) mod token;

    pub(crate) mod cache {
        mod bounded_map;
        mod circuit_breaker;
        mod cool_down;
        mod rejections;
        mod requirements;
        mod slot;
        mod slots;
        #[path = "../../tests/model/src/sync.rs"]
        mod sync;
        #[path = "../../tests/model/src/world.rs"]
        pub mod world;
    }
}

pub use library::cache::world::{Ask, Fate, Place, Told, World};
use library::{authority, error, lease, request, scope, secret, thread_number, time, token};

pub mod leased;

/// Runs `test` in every order that two threads can come in.
pub fn in_every_order(test: impl Fn() + Send + Sync + 'static) {
    loom::model(test);
}

/// Runs `test` in every order with at most three changes from a thread that could go on, where more
/// threads would have too many. `LOOM_MAX_PREEMPTIONS` says another number.
pub fn in_many_orders(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(test);
}
