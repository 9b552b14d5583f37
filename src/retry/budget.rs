use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number of retries that a client may still send.
///
/// Without a budget, an outage would multiply the client's requests.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Balance>);

/// The balance of a [`RetryBudget`].
#[derive(Debug)]
struct Balance {
    retries: u32,
    /// End of the time that has been credited.
    credited_until: Option<Instant>,
}

impl RetryBudget {
    /// Takes one retry out of the budget. Returns `false` if the budget is empty.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let mut balance = self.lock();
        let credited_until = *balance.credited_until.get_or_insert(now);
        let credits =
            now.saturating_duration_since(credited_until).as_secs() / CREDIT_INTERVAL.as_secs();
        if credits > 0 {
            let credits = u32::try_from(credits).unwrap_or(u32::MAX);
            balance.retries = balance.retries.saturating_add(credits).min(CAPACITY);
            balance.credited_until = Some(now);
        }
        let remaining = balance.retries.checked_sub(1);
        balance.retries = remaining.unwrap_or_default();
        remaining.is_some()
    }

    /// Adds one retry for a successful request.
    pub(crate) fn deposit(&self) {
        let mut balance = self.lock();
        balance.retries = balance.retries.saturating_add(1).min(CAPACITY);
    }

    fn lock(&self) -> MutexGuard<'_, Balance> {
        // No code panics while holding the lock, and every field is valid at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new(Balance {
            retries: CAPACITY,
            credited_until: None,
        }))
    }
}

/// The largest number of retries in a budget.
const CAPACITY: u32 = 20;
/// The time that adds one retry.
const CREDIT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successes_and_time_add_retries() {
        let budget = RetryBudget::default();
        let now = Instant::now();
        budget.deposit();
        let spent = (0..100).filter(|_| budget.withdraw(now)).count();
        assert_eq!(spent, 20, "at most the capacity");
        budget.deposit();
        assert!(budget.withdraw(now) && !budget.withdraw(now));
        assert!(!budget.withdraw(now + Duration::from_secs(9)));
        let later = now + Duration::from_secs(25);
        let spent = (0..100).filter(|_| budget.withdraw(later)).count();
        assert_eq!(spent, 2, "one for each ten seconds");
    }
}
