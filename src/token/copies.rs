use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::IssuedToken;
use crate::thread_number::{self, thread_number};

/// The turns that threads take with the token of a cache entry.
///
/// The thread that used the token last, and how often another thread did.
#[derive(Default)]
pub(crate) struct Turns(AtomicU32);

/// Copies of one token by thread, so that threads do not share the count of its references.
///
/// A count that several threads write moves from processor to processor, and two threads would get
/// no more tokens than one. A copy has counts of its own and the same bytes of the token's text.
/// The first copies are made once two threads take turns with a token, and in few tokens of a
/// process.
pub(super) struct Copies {
    by_thread: [OnceLock<Arc<IssuedToken>>; THREADS],
    tokens: &'static AtomicUsize,
}

impl IssuedToken {
    /// Returns the token, or a copy for this thread if several threads use the token. `turns` are
    /// the turns that threads took with the token.
    #[inline]
    pub(crate) fn own(self: &Arc<Self>, turns: &Turns) -> Arc<Self> {
        let thread = thread_number();
        match turns.is_of(thread) {
            true => Arc::clone(self),
            false => self.for_another_thread(thread, turns),
        }
    }

    fn for_another_thread(self: &Arc<Self>, thread: u32, turns: &Turns) -> Arc<Self> {
        if let Some(copies) = self.copies() {
            return copies.of(thread, self);
        }
        if turns.take(thread) == MAX_TURNS
            && let Some(copies) = Copies::try_new(&TOKENS)
        {
            // From now on every thread looks for its copy.
            turns.end();
            return self.set_copies(copies).of(thread, self);
        }
        Arc::clone(self)
    }
}

impl Turns {
    /// Forgets the turns with another token.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    #[inline]
    fn is_of(&self, thread: u32) -> bool {
        self.0.load(Ordering::Relaxed) >> TURN_BITS == thread
    }

    /// Gives the turn to a thread, and returns the number of turns. The turns of a token that stays
    /// without copies end at the maximum, so that threads no longer write here.
    fn take(&self, thread: u32) -> u32 {
        let turns = self.0.load(Ordering::Relaxed) & MAX_TURNS;
        if turns < MAX_TURNS {
            self.0
                .store(thread << TURN_BITS | (turns + 1), Ordering::Relaxed);
        }
        turns
    }

    fn end(&self) {
        self.0.store(u32::MAX, Ordering::Relaxed);
    }
}

impl Copies {
    /// Returns `None` if enough tokens have copies. `tokens` counts those that do.
    fn try_new(tokens: &'static AtomicUsize) -> Option<Self> {
        let one_more = |tokens| (tokens < MAX_TOKENS).then_some(tokens + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        tokens.fetch_update(set, get, one_more).ok()?;
        Some(Self {
            by_thread: Default::default(),
            tokens,
        })
    }

    /// Returns the thread's copy. A missing copy is made by its thread, so that the allocator
    /// takes the memory from where no other thread writes.
    fn of(&self, thread: u32, token: &Arc<IssuedToken>) -> Arc<IssuedToken> {
        let copy = usize::try_from(thread)
            .ok()
            .and_then(|thread| self.by_thread.get(thread % THREADS));
        match copy {
            Some(copy) => Arc::clone(copy.get_or_init(|| Arc::new(token.copy()))),
            None => Arc::clone(token),
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.tokens.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of copies of a token. Threads beyond the number share.
const THREADS: usize = 8;
/// The number of tokens of the process that have copies.
const MAX_TOKENS: usize = 64;
static TOKENS: AtomicUsize = AtomicUsize::new(0);
/// The turns of two threads with a token before the first copy, and their bits in
/// [`Turns`].
const MAX_TURNS: u32 = (1 << TURN_BITS) - 1;
const TURN_BITS: u32 = 6;
const _: () = assert!(thread_number::MAX <= u32::MAX >> TURN_BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeSource;

    fn token() -> Arc<IssuedToken> {
        let now = TimeSource::System.now();
        Arc::new(IssuedToken::sample("t", "abc", 60, now))
    }

    /// Lets two threads take turns, and returns what each got last.
    fn take_turns(token: &Arc<IssuedToken>, turns: &Turns, count: usize) -> [Arc<IssuedToken>; 2] {
        let mut latest = [(); 2].map(|()| Arc::clone(token));
        let (to_other, other) = std::sync::mpsc::channel::<()>();
        let (to_this, this) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for () in other {
                    to_this.send(token.own(turns)).unwrap();
                }
            });
            for _ in 0..count {
                to_other.send(()).unwrap();
                latest = [token.own(turns), this.recv().unwrap()];
            }
            drop(to_other);
        });
        latest
    }

    #[test]
    fn threads_that_take_turns_get_copies_of_their_own_with_the_same_text() {
        let token = token();
        let turns = Turns::default();
        let first = take_turns(&token, &turns, 1);
        assert!(first.iter().all(|own| Arc::ptr_eq(own, &token)));
        let [this, other] = take_turns(&token, &turns, 200);
        assert!(!Arc::ptr_eq(&this, &other));
        for copy in [&this, &other] {
            assert!(!Arc::ptr_eq(copy, &token));
            assert_eq!(copy.secret().as_ptr(), token.secret().as_ptr(), "one text");
            assert!(copy.is_for(token.shared_key()) && copy.is_same_token(&token));
            assert_eq!(copy.correlation_id(), token.correlation_id());
            assert_eq!(copy.scopes(), token.scopes());
            assert!(copy.authorization().is_sensitive());
        }
    }

    #[test]
    fn a_token_of_one_thread_has_no_copies() {
        let (token, turns) = (token(), Turns::default());
        for _ in 0..1000 {
            assert!(Arc::ptr_eq(&token.own(&turns), &token));
        }
    }

    /// A hundred thousand tokens must not have eight copies each.
    #[test]
    fn few_tokens_have_copies() {
        static TOKENS: AtomicUsize = AtomicUsize::new(0);
        let new = || Copies::try_new(&TOKENS);
        let made: Vec<_> = std::iter::from_fn(new).take(MAX_TOKENS + 1).collect();
        assert_eq!(made.len(), MAX_TOKENS);
        drop(made);
        assert!(new().is_some(), "those that were dropped made room");
    }
}
