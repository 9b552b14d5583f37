use std::any::Any;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

/// The values that clients resolved a request to, so that the next call needs no lookup.
///
/// Opaque here: only the client knows the type of the value. The first client's value is read
/// without any synchronisation, and of the other clients the latest one's value is kept. A clone
/// is empty, since a clone of a request's fields is about to change.
#[derive(Default)]
pub(super) struct Resolution {
    first: OnceLock<Resolved>,
    latest: ArcSwapOption<Resolved>,
}

struct Resolved {
    client: u64,
    value: Arc<dyn Any + Send + Sync>,
}

impl Resolution {
    /// Calls `use_value` with the client's value, first the older one. Returns the first result.
    #[inline]
    pub(super) fn find<T: Any, R>(
        &self,
        client: u64,
        use_value: impl Fn(&T) -> Option<R>,
    ) -> Option<R> {
        let first = self.first.get()?;
        if let Some(found) = first.value_for(client).and_then(&use_value) {
            return Some(found);
        }
        let latest = self.latest.load();
        latest.as_ref()?.value_for(client).and_then(&use_value)
    }

    pub(super) fn set<T: Any + Send + Sync>(&self, client: u64, value: Arc<T>) {
        let resolved = Resolved { client, value };
        if let Err(resolved) = self.first.set(resolved) {
            self.latest.store(Some(Arc::new(resolved)));
        }
    }
}

impl Resolved {
    #[inline]
    fn value_for<T: Any>(&self, client: u64) -> Option<&T> {
        match self.client == client {
            true => self.value.downcast_ref(),
            false => None,
        }
    }
}

impl Clone for Resolution {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_another_client_is_never_found() {
        let resolution = Resolution::default();
        let find = |client| resolution.find(client, |value: &&str| Some(*value));
        assert_eq!(find(1), None);
        resolution.set(1, Arc::new("one"));
        assert_eq!((find(1), find(2)), (Some("one"), None));
        resolution.set(2, Arc::new("two"));
        assert_eq!(
            (find(1), find(2), find(3)),
            (Some("one"), Some("two"), None)
        );
        resolution.set(3, Arc::new("three"));
        assert_eq!(
            (find(1), find(2), find(3)),
            (Some("one"), None, Some("three"))
        );
        assert_eq!(
            resolution.clone().find(1, |value: &&str| Some(*value)),
            None
        );
    }

    /// The slot of the first value may have been evicted.
    #[test]
    fn a_value_of_no_use_is_replaced_by_a_later_one() {
        let resolution = Resolution::default();
        resolution.set(1, Arc::new(1));
        resolution.set(1, Arc::new(2));
        let find = |least| resolution.find(1, |value| (*value >= least).then_some(*value));
        assert_eq!((find(1), find(2), find(3)), (Some(1), Some(2), None));
    }
}
