use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::bounded_map::Evictable;
use crate::secret::Secret;
use crate::time::Now;

/// What a client can go on with for a user: the refresh token that came last, if one did.
///
/// Who redeems it has the turn until the answer is there: a provider that rotates refresh tokens
/// takes each once, and a second use for a theft.
#[derive(Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    /// Tells who waits that a turn has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    refresh_token: Option<Arc<Secret>>,
    /// Whose turn it is, and until when that is believed: a task may be on a runtime that stands still.
    turn: Option<(u64, Instant)>,
    turns: u64,
}

/// The turn of whoever redeems the refresh token, over however that ends.
pub(crate) struct Turn<'a> {
    of: &'a Session,
    turn: u64,
    refresh_token: Option<Arc<Secret>>,
}

impl Session {
    pub(crate) fn new(refresh_token: Option<Secret>) -> Self {
        let session = Self::default();
        session.lock().refresh_token = refresh_token.map(Arc::new);
        session
    }

    /// A turn that ends by the deadline, once nobody else has one.
    pub(crate) async fn turn(&self, deadline: Instant) -> Turn<'_> {
        loop {
            let mut ended = pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            match self.begin(deadline) {
                Ok(turn) => return turn,
                Err(until) => drop(timeout_at(until, ended).await),
            }
        }
    }

    /// Until when another has the turn, if one has.
    fn begin(&self, deadline: Instant) -> Result<Turn<'_>, Instant> {
        let mut state = self.lock();
        match state.turn {
            Some((_, until)) if Instant::now() < until => Err(until),
            _ => {
                state.turns = state.turns.wrapping_add(1);
                state.turn = Some((state.turns, deadline));
                Ok(Turn {
                    of: self,
                    turn: state.turns,
                    refresh_token: state.refresh_token.clone(),
                })
            }
        }
    }

    /// Keeps a refresh token, unless another is being redeemed: whoever does that keeps theirs.
    pub(crate) fn offer(&self, refresh_token: Secret) {
        let mut state = self.lock();
        if state.turn.is_none() {
            state.refresh_token = Some(Arc::new(refresh_token));
        }
    }

    /// Whether there is a refresh token.
    pub(crate) fn can_go_on(&self) -> bool {
        self.lock().refresh_token.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    pub(crate) fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_deref()
    }

    /// Keeps another refresh token in the place of the one that was redeemed, or none.
    pub(crate) fn keep(&self, refresh_token: Option<Secret>) {
        let mut state = self.of.lock();
        // Who was given up has no say any more.
        if state.turn.is_some_and(|(current, _)| current == self.turn) {
            state.refresh_token = refresh_token.map(Arc::new);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of
            .lock()
            .turn
            .take_if(|(current, _)| *current == self.turn);
        self.of.ended.notify_waiters();
    }
}

impl Evictable for Session {
    fn can_evict(&self, _: &Now) -> bool {
        !self.can_go_on()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As a task on a runtime that stands still, and comes back.
    #[tokio::test]
    async fn who_was_given_up_has_no_say() {
        let session = Session::new(Some("1".into()));
        let stalled = session.turn(Instant::now()).await;
        let later = Instant::now() + Duration::from_secs(3600);
        let current = session.turn(later).await;
        stalled.keep(None);
        session.offer("offered".into());
        assert!(session.can_go_on(), "the stalled one took the token away");
        drop(stalled);
        assert!(session.begin(later).is_err(), "the turn is not over");
        current.keep(Some("2".into()));
        drop(current);
        let next = session.turn(later).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "2");
        drop(next);
        session.offer("3".into());
        let next = session.turn(later).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "3");
    }

    #[tokio::test]
    async fn an_offer_does_not_replace_what_is_being_redeemed() {
        let session = Session::new(Some("1".into()));
        let turn = session
            .turn(Instant::now() + Duration::from_secs(3600))
            .await;
        session.offer("offered".into());
        drop(turn);
        let next = session.turn(Instant::now()).await;
        assert_eq!(next.refresh_token().unwrap().expose(), "1");
    }
}
