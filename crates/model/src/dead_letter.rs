//! Dead-letter queues: selections, reports, and the set of resolved dead letters. Sinks, topics and
//! jobs share them, and so does the API, whose ids also name a volume.

mod cause;
mod query;

use serde::{Deserialize, Serialize};

pub use cause::{CauseGroup, CauseId, CauseReport, DeadLetterFacts, InvalidCauseId};
pub use query::{DeadLetterEdit, DeadLetterFilter, DeadLetterQuery, DeadLetterReplay};

/// Selected dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterSelection<Id = u64> {
    /// All, or all after this one; the oldest first.
    After(Option<Id>),
    /// These, each of which must exist.
    These(Vec<Id>),
}

impl<Id> DeadLetterSelection<Id> {
    /// All dead letters.
    pub const ALL: Self = Self::After(None);

    /// Converts the ids.
    ///
    /// # Errors
    /// The first error of `convert`.
    pub fn try_map<To, E>(
        &self,
        convert: impl Fn(&Id) -> Result<To, E>,
    ) -> Result<DeadLetterSelection<To>, E> {
        Ok(match self {
            Self::After(id) => DeadLetterSelection::After(id.as_ref().map(convert).transpose()?),
            Self::These(ids) => {
                DeadLetterSelection::These(ids.iter().map(convert).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// Result of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport<Id = u64> {
    /// Number of replayed dead letters.
    pub replayed: u64,
    /// Dead letters that were rejected again, and why; they stay.
    pub rejected: Vec<(Id, String)>,
    /// Selected dead letters that were replayed or dropped before.
    pub skipped: Vec<Id>,
    /// Rows of a dry run, of the first dead letters.
    pub rows: Vec<ReplayedRow<Id>>,
    /// The last one that was processed, if there are more.
    pub more_after: Option<Id>,
}

/// The row that a replay makes of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedRow<Id = u64> {
    /// The dead letter.
    pub id: Id,
    /// Names of columns, and their cells.
    pub cells: Vec<(String, Vec<u8>)>,
}

impl ReplayReport {
    /// Converts the numbers to ids.
    pub fn map<Id>(self, id: impl Fn(u64) -> Id) -> ReplayReport<Id> {
        ReplayReport {
            replayed: self.replayed,
            rejected: self
                .rejected
                .into_iter()
                .map(|(number, cause)| (id(number), cause))
                .collect(),
            skipped: self.skipped.into_iter().map(&id).collect(),
            rows: self
                .rows
                .into_iter()
                .map(|row| ReplayedRow {
                    id: id(row.id),
                    cells: row.cells,
                })
                .collect(),
            more_after: self.more_after.map(&id),
        }
    }
}

/// Result of a discard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscardReport<Id = u64> {
    /// Number of dropped dead letters.
    pub dropped: u64,
    /// The last one that was processed, if there are more.
    pub more_after: Option<Id>,
}

impl DiscardReport {
    /// Converts the numbers to ids.
    pub fn map<Id>(self, id: impl Fn(u64) -> Id) -> DiscardReport<Id> {
        DiscardReport {
            dropped: self.dropped,
            more_after: self.more_after.map(id),
        }
    }
}

/// Numbers of resolved dead letters, as ranges `[from, to)`: ascending and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct ResolvedRanges(Vec<(u64, u64)>);

impl ResolvedRanges {
    /// Whether a dead letter is resolved.
    pub fn contains(&self, number: u64) -> bool {
        let next = self.0.partition_point(|(from, _)| *from <= number);
        let range = next.checked_sub(1).and_then(|i| self.0.get(i));
        range.is_some_and(|(_, to)| number < *to)
    }

    /// All dead letters below are resolved.
    pub fn floor(&self) -> u64 {
        match self.0.first() {
            Some((0, to)) => *to,
            _ => 0,
        }
    }

    /// Number of ranges between unresolved dead letters.
    pub fn scattered(&self) -> usize {
        self.0.len() - usize::from(self.floor() > 0)
    }

    /// Number of resolved dead letters.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// Marks dead letters as resolved; no effect on those that are already.
    pub fn resolve(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let covered = self.0.get(first..last).unwrap_or_default();
        let merged = covered
            .iter()
            .fold((from, to), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.0.splice(first..last, [merged]);
    }
}

impl From<Vec<(u64, u64)>> for ResolvedRanges {
    fn from(ranges: Vec<(u64, u64)>) -> Self {
        let mut resolved = Self::default();
        for (from, to) in ranges {
            resolved.resolve(from, to);
        }
        resolved
    }
}

impl From<ResolvedRanges> for Vec<(u64, u64)> {
    fn from(resolved: ResolvedRanges) -> Self {
        resolved.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn adjacent_ranges_are_merged() {
        let mut resolved = ResolvedRanges::default();
        for (from, to, ranges) in [(5, 7, 1), (9, 10, 2), (3, 3, 2), (7, 9, 1), (0, 2, 2)] {
            resolved.resolve(from, to);
            assert_eq!(resolved.0.len(), ranges, "{from}..{to}");
        }
        assert_eq!((resolved.floor(), resolved.scattered()), (2, 1));
        resolved.resolve(1, 6);
        assert_eq!((resolved.floor(), resolved.scattered()), (10, 0));
    }

    #[test]
    fn the_ranges_equal_a_set() {
        let (mut resolved, mut set) = (ResolvedRanges::default(), BTreeSet::new());
        let mut n = 1_u64;
        for _ in 0..500 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let from = (n >> 33) % 60;
            let to = from + (n >> 50) % 5;
            resolved.resolve(from, to);
            set.extend(from..to);
            for number in 0..70 {
                assert_eq!(resolved.contains(number), set.contains(&number));
            }
            let floor = (0..).find(|l| !set.contains(l)).unwrap_or_default();
            assert_eq!(resolved.floor(), floor);
            assert_eq!(resolved.count(), set.len() as u64);
            let text = serde_json::to_string(&resolved).unwrap();
            assert_eq!(
                serde_json::from_str::<ResolvedRanges>(&text).unwrap(),
                resolved
            );
        }
    }
}
