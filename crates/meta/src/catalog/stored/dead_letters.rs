//! What is remembered of a sink's dead letters on a volume. The letters themselves are in the log.

use serde::{Deserialize, Serialize};

use super::{Stored, StoredError, decode_only_form};

/// What the log has counted in a sink's stream of dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCounts {
    /// Letters that were ever taken: the number that the next one gets.
    pub taken: u64,
    /// Of these: taken by a damaged disk.
    pub lost: u64,
}

/// Which dead letters of a sink on a volume are done with.
///
/// Whether a letter was replayed is decided by the transaction that writes this together with the
/// slice that holds the letter's row: so it is replayed once, whatever is killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterState {
    /// Numbers of letters that are replayed, dropped or lost, as ranges `[from, to)`: ascending,
    /// apart from each other.
    resolved: Vec<(u64, u64)>,
    /// Letters whose rows went on their way to the table.
    pub replayed: u64,
    /// Letters that someone has dropped.
    pub dropped: u64,
}

impl DeadLetterState {
    /// Whether a letter is done with.
    #[must_use]
    pub fn is_resolved(&self, number: u64) -> bool {
        let next = self.resolved.partition_point(|(from, _)| *from <= number);
        next > 0 && number < self.resolved[next - 1].1
    }

    /// All letters below are done with.
    #[must_use]
    pub fn floor(&self) -> u64 {
        match self.resolved.first() {
            Some((0, to)) => *to,
            _ => 0,
        }
    }

    /// How many runs of letters that are done with there are.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.resolved.len()
    }

    /// Notes letters as done with; those that are already change nothing.
    pub fn resolve(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.resolved.partition_point(|(_, end)| *end < from);
        let last = self.resolved.partition_point(|(start, _)| *start <= to);
        let merged = self.resolved[first..last]
            .iter()
            .fold((from, to), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.resolved.splice(first..last, [merged]);
    }
}

/// Stored form of [`DeadLetterState`].
#[derive(Serialize, Deserialize)]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct DeadLetterStateV1 {
    pub resolved: Vec<(u64, u64)>,
    pub replayed: u64,
    pub dropped: u64,
}

impl Stored for DeadLetterState {
    const WHAT: &'static str = "dead-letter state";
    const VERSION: u32 = 1;
    type Form = DeadLetterStateV1;

    fn to_form(&self) -> DeadLetterStateV1 {
        DeadLetterStateV1 {
            resolved: self.resolved.clone(),
            replayed: self.replayed,
            dropped: self.dropped,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: DeadLetterStateV1 = decode_only_form::<Self, _>(version, value)?;
        let mut state = Self {
            resolved: Vec::with_capacity(form.resolved.len()),
            replayed: form.replayed,
            dropped: form.dropped,
        };
        for (from, to) in form.resolved {
            state.resolve(from, to);
        }
        Ok(state)
    }
}

impl Stored for DeadLetterCounts {
    const WHAT: &'static str = "counts of dead letters";
    const VERSION: u32 = 1;
    type Form = Self;

    fn to_form(&self) -> Self {
        *self
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        decode_only_form::<Self, _>(version, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut book = DeadLetterState::default();
        for (from, to, ranges) in [(5, 7, 1), (9, 10, 2), (3, 3, 2), (7, 9, 1), (0, 2, 2)] {
            book.resolve(from, to);
            assert_eq!(book.ranges(), ranges, "{from}..{to}");
        }
        assert_eq!(book.floor(), 2);
        book.resolve(1, 6);
        assert_eq!((book.ranges(), book.floor()), (1, 10));
    }

    #[test]
    fn the_book_is_a_set() {
        use std::collections::BTreeSet;
        let (mut book, mut set) = (DeadLetterState::default(), BTreeSet::new());
        let mut n = 1_u64;
        for _ in 0..500 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let from = (n >> 33) % 60;
            let to = from + (n >> 50) % 5;
            book.resolve(from, to);
            set.extend(from..to);
            for letter in 0..70 {
                assert_eq!(book.is_resolved(letter), set.contains(&letter));
            }
            let floor = (0..).find(|l| !set.contains(l)).unwrap_or_default();
            assert_eq!(book.floor(), floor);
        }
    }
}
