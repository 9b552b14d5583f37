//! The parts that every hit needs, each measured alone. Hits are compared with these parts.
//!
//! A change that improves a figure must not touch this file.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::setup::{Result, TOKEN_BYTES};

/// A value as large as the cache's record of a token.
type Kept = [u64; 30];

pub(crate) struct Bare {
    slot: ArcSwapOption<Kept>,
    kept: Arc<Kept>,
    header: HeaderValue,
    headers: HeaderMap,
}

impl Bare {
    pub(crate) fn new() -> Result<Self> {
        let kept = Arc::new([0; 30]);
        let bytes = Bytes::from(format!("Bearer {}", "x".repeat(TOKEN_BYTES)));
        let mut header = HeaderValue::from_maybe_shared(bytes)?;
        header.set_sensitive(true);
        Ok(Self {
            slot: ArcSwapOption::new(Some(Arc::clone(&kept))),
            kept,
            header,
            headers: HeaderMap::with_capacity(8),
        })
    }

    pub(crate) fn clock_read(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box(Instant::now());
        })
    }

    pub(crate) fn two_clock_reads(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box((SystemTime::now(), Instant::now()));
        })
    }

    pub(crate) fn load(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box(black_box(&self.slot).load());
        })
    }

    pub(crate) fn clone(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box(Arc::clone(black_box(&self.kept)));
        })
    }

    /// Measures one clock read, the load and the clone together. The three overlap a little.
    pub(crate) fn together(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box(Instant::now());
            black_box(black_box(&self.slot).load().as_ref().map(Arc::clone));
        })
    }

    pub(crate) fn header_clone(&self, calls: u32) -> Duration {
        timed(calls, || {
            black_box(black_box(&self.header).clone());
        })
    }

    pub(crate) fn header_clone_and_insert(&mut self, calls: u32) -> Duration {
        timed(calls, || {
            let headers = black_box(&mut self.headers);
            headers.insert(AUTHORIZATION, black_box(&self.header).clone());
        })
    }
}

fn timed(calls: u32, mut part: impl FnMut()) -> Duration {
    let started = Instant::now();
    for _ in 0..calls {
        part();
    }
    started.elapsed()
}
