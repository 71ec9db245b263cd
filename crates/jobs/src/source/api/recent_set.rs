//! A bounded set of the most recent items.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Pages that are remembered to detect loops.
const RECENT_MAX: usize = 10_000;

/// The most recent items; the oldest are evicted.
pub(super) struct RecentSet<T> {
    set: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for RecentSet<T> {
    fn default() -> Self {
        Self {
            set: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> RecentSet<T> {
    pub(super) fn insert(&mut self, item: T) {
        if self.set.insert(item.clone()) {
            self.order.push_back(item);
        }
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, item: &T) -> bool {
        self.set.contains(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_evicted() {
        let mut seen = RecentSet::default();
        (0..=RECENT_MAX).for_each(|n| seen.insert(n));
        seen.insert(1);
        assert!(!seen.contains(&0) && seen.contains(&1) && seen.contains(&RECENT_MAX));
        assert_eq!((seen.set.len(), seen.order.len()), (RECENT_MAX, RECENT_MAX));
    }
}
