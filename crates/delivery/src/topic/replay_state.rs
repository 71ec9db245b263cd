//! Resolved dead letters of a sink, and the replay that has begun.

use std::collections::BTreeSet;

use forebay_model::ResolvedRanges;
use serde::{Deserialize, Serialize};

/// Resolved dead letters of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AckedRanges {
    /// Number of dead letters that were ever replayed.
    pub(super) replayed: u64,
    /// Numbers of replayed, dropped or lost dead letters.
    pub(super) resolved: ResolvedRanges,
    /// A replay that has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pending_replay: Option<PendingReplay>,
}

/// Dead letters that are being moved into a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PendingReplay {
    /// Name of the stream.
    pub(super) stream: String,
    /// Their messages have this sequence or a later one.
    pub(super) from: u64,
    pub(super) dead_letters: BTreeSet<u64>,
}
