//! Dead-letter state of a sink on a volume. The dead letters themselves are in the log.

use forebay_model::ResolvedRanges;
use serde::{Deserialize, Serialize};

use super::{Stored, StoredError, decode_only_form};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterState {
    /// Replayed, dropped or lost dead letters.
    pub resolved: ResolvedRanges,
    /// Dead letters whose rows went into a slice.
    pub replayed: u64,
    /// Dropped dead letters.
    pub dropped: u64,
}

/// Stored form of [`DeadLetterState`].
#[derive(Serialize, Deserialize)]
pub struct DeadLetterStateV1 {
    pub resolved: ResolvedRanges,
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
        Ok(Self {
            resolved: form.resolved,
            replayed: form.replayed,
            dropped: form.dropped,
        })
    }
}

impl Stored for DeadLetterCounts {
    const WHAT: &'static str = "dead-letter counts";
    const VERSION: u32 = 1;
    type Form = Self;

    fn to_form(&self) -> Self {
        *self
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        decode_only_form::<Self, _>(version, value)
    }
}
