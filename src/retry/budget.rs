use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a client's repeats are paid from, so that an outage does not multiply its requests.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Balance>);

#[derive(Debug)]
struct Balance {
    left: u32,
    /// Up to when it was filled for the time that passed.
    filled: Option<Instant>,
}

impl RetryBudget {
    /// Whether one more may be made.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut balance = self.lock();
        let filled = *balance.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).as_secs() / ONE_MORE_AFTER.as_secs();
        if passed > 0 {
            let earned = u32::try_from(passed).unwrap_or(u32::MAX);
            balance.left = balance.left.saturating_add(earned).min(REPEATS);
            balance.filled = Some(now);
        }
        let left = balance.left.checked_sub(1);
        balance.left = left.unwrap_or_default();
        left.is_some()
    }

    /// A request succeeded.
    pub(crate) fn deposit(&self) {
        let mut balance = self.lock();
        balance.left = balance.left.saturating_add(1).min(REPEATS);
    }

    fn lock(&self) -> MutexGuard<'_, Balance> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new(Balance {
            left: REPEATS,
            filled: None,
        }))
    }
}

const REPEATS: u32 = 20;
const ONE_MORE_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_paid_for_by_success_and_by_time() {
        let budget = RetryBudget::default();
        let now = Instant::now();
        budget.deposit();
        let spent = (0..100).filter(|_| budget.withdraw(now)).count();
        assert_eq!(spent, 20, "no more than it began with");
        budget.deposit();
        assert!(budget.withdraw(now) && !budget.withdraw(now));
        assert!(!budget.withdraw(now + Duration::from_secs(9)));
        let later = now + Duration::from_secs(25);
        let spent = (0..100).filter(|_| budget.withdraw(later)).count();
        assert_eq!(spent, 2, "one for each ten seconds");
    }
}
