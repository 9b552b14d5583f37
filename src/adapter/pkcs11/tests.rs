//! A token behind a double of its module. The double gives what SoftHSM cannot.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;
mod faults;
mod hangs;
mod logins;
mod pins;
mod restarts;
mod signatures;
mod softhsm;
