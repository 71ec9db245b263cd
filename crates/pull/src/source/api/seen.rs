//! What was seen last, within a bound.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Pages that are remembered to notice when an API goes round.
const REMEMBERED: usize = 10_000;

/// The last of many things.
pub(super) struct Seen<T> {
    set: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self {
            set: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Seen<T> {
    pub(super) fn note(&mut self, thing: T) {
        if self.set.insert(thing.clone()) {
            self.order.push_back(thing);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }

    pub(super) fn has(&self, thing: &T) -> bool {
        self.set.contains(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        (0..=REMEMBERED).for_each(|n| seen.note(n));
        seen.note(1);
        assert!(!seen.has(&0) && seen.has(&1) && seen.has(&REMEMBERED));
        assert_eq!((seen.set.len(), seen.order.len()), (REMEMBERED, REMEMBERED));
    }
}
