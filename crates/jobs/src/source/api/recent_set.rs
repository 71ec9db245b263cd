//! What was seen last, within a bound.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Pages that are remembered to notice when an API goes round.
const RECENT_MAX: usize = 10_000;

/// The last of many things.
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
    pub(super) fn insert(&mut self, thing: T) {
        if self.set.insert(thing.clone()) {
            self.order.push_back(thing);
        }
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, thing: &T) -> bool {
        self.set.contains(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = RecentSet::default();
        (0..=RECENT_MAX).for_each(|n| seen.insert(n));
        seen.insert(1);
        assert!(!seen.contains(&0) && seen.contains(&1) && seen.contains(&RECENT_MAX));
        assert_eq!((seen.set.len(), seen.order.len()), (RECENT_MAX, RECENT_MAX));
    }
}
