//! Dead-letter state of a sink on a volume. The dead letters themselves are in the log.

use serde::{Deserialize, Deserializer, Serialize};

/// Counts of the log in a sink's dead-letter queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCounts {
    /// Total ever added: the number of the next dead letter.
    pub taken: u64,
    /// Lost to disk damage.
    pub lost: u64,
}

/// Resolved dead letters of a sink on a volume.
///
/// A replay is committed by the transaction that writes this together with the slice that holds the
/// dead letter's row: so it happens exactly once, even after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterState {
    /// Numbers of replayed, dropped or lost dead letters, as ranges `[from, to)`: ascending and not
    /// adjacent.
    #[serde(deserialize_with = "normalized_ranges")]
    resolved: Vec<(u64, u64)>,
    /// Dead letters whose rows went into a slice.
    pub replayed: u64,
    /// Dropped dead letters.
    pub dropped: u64,
}

impl DeadLetterState {
    /// Whether a dead letter is resolved.
    pub fn is_resolved(&self, number: u64) -> bool {
        let next = self.resolved.partition_point(|(from, _)| *from <= number);
        next > 0 && number < self.resolved[next - 1].1
    }

    /// All dead letters below are resolved.
    pub fn floor(&self) -> u64 {
        match self.resolved.first() {
            Some((0, to)) => *to,
            _ => 0,
        }
    }

    /// Number of ranges of resolved dead letters.
    pub fn ranges(&self) -> usize {
        self.resolved.len()
    }

    /// Marks dead letters as resolved; no effect on those that are already.
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
        debug_assert!(
            self.resolved.windows(2).all(|pair| pair[0].1 < pair[1].0),
            "ranges ascend and are not adjacent"
        );
    }
}

/// Reads ranges in any order, also adjacent ones.
fn normalized_ranges<'de, D>(deserializer: D) -> Result<Vec<(u64, u64)>, D::Error>
where
    D: Deserializer<'de>,
{
    let mut state = DeadLetterState::default();
    for (from, to) in Vec::deserialize(deserializer)? {
        state.resolve(from, to);
    }
    Ok(state.resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_ranges_are_merged() {
        let mut state = DeadLetterState::default();
        for (from, to, ranges) in [(5, 7, 1), (9, 10, 2), (3, 3, 2), (7, 9, 1), (0, 2, 2)] {
            state.resolve(from, to);
            assert_eq!(state.ranges(), ranges, "{from}..{to}");
        }
        assert_eq!(state.floor(), 2);
        state.resolve(1, 6);
        assert_eq!((state.ranges(), state.floor()), (1, 10));
    }

    #[test]
    fn the_state_equals_a_set() {
        use std::collections::BTreeSet;
        let (mut state, mut set) = (DeadLetterState::default(), BTreeSet::new());
        let mut n = 1_u64;
        for _ in 0..500 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let from = (n >> 33) % 60;
            let to = from + (n >> 50) % 5;
            state.resolve(from, to);
            set.extend(from..to);
            for number in 0..70 {
                assert_eq!(state.is_resolved(number), set.contains(&number));
            }
            let floor = (0..).find(|l| !set.contains(l)).unwrap_or_default();
            assert_eq!(state.floor(), floor);
        }
    }
}
