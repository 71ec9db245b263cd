//! Dead-letter state of a sink on a volume. The dead letters themselves are in the log.

use forebay_model::ResolvedRanges;
use serde::{Deserialize, Serialize};

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
    /// Replayed, dropped or lost dead letters.
    pub resolved: ResolvedRanges,
    /// Dead letters whose rows went into a slice.
    pub replayed: u64,
    /// Dropped dead letters.
    pub dropped: u64,
}
