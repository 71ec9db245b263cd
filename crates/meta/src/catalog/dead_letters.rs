//! Dead letters: which of them are resolved, and the slices of replayed ones.
//!
//! A replay is one transaction: the slice with the rows is created and the dead letters are marked
//! as resolved. Before it, the rows are in an unreferenced stream of the log; after it, they are
//! handled like any other slice.

use std::ops::ControlFlow;

use forebay_model::{
    File, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Statistics, Timestamp, VolumeId,
};

use super::files::{FileError, check_states, next_opened_at};
use super::transaction::TxnBuilder;
use super::{Repo, SLICES_MAX, Versioned, decode};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::dead_letters::{DeadLetterCounts, DeadLetterState};
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// Maximum number of resolved ranges between unresolved dead letters; bounds the size of a
/// dead-letter state.
pub const RESOLVED_RANGES_MAX: usize = 10_000;

/// Dead letters of a sink, summed over all volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterStatistics {
    /// Total ever added, as last reported.
    pub taken: u64,
    /// Lost to disk damage.
    pub lost: u64,
    /// Replayed.
    pub replayed: u64,
    /// Dropped.
    pub dropped: u64,
}

impl DeadLetterStatistics {
    /// Adds what is resolved on a volume.
    pub(super) fn add_state(&mut self, state: &DeadLetterState) {
        self.replayed += state.replayed;
        self.dropped += state.dropped;
    }

    /// Adds the counts of a volume.
    pub(super) fn add_counts(&mut self, counts: &DeadLetterCounts) {
        self.taken += counts.taken;
        self.lost += counts.lost;
    }
}

/// How dead letters are resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadLetterOutcome {
    /// The rows are in the stream of this slice, which is closed and has these statistics.
    Replayed(SliceKey, Statistics),
    /// Dropped by a user.
    Dropped,
}

/// Owner of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterOwner {
    /// A sink that exists, or is deleted and can be restored.
    Sink,
    /// A purged sink.
    Forgotten,
    /// A sink that this store has never known.
    Unknown,
}

/// A resolution of dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterResolution {
    /// Numbers of the dead letters; none of them is resolved yet.
    pub numbers: Vec<u64>,
    /// Ranges `[from, to)` of lost dead letters: neither replayed nor dropped.
    pub lost: Vec<(u64, u64)>,
    /// Present counts of the log.
    pub counts: DeadLetterCounts,
    /// How they are resolved.
    pub end: DeadLetterOutcome,
}

/// Error of resolving dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterResolveError {
    #[error("dead letter {0} was already replayed or dropped")]
    AlreadyResolved(u64),
    /// The resolved ranges are too fragmented.
    #[error(
        "dead-letter acks are too fragmented (max {RESOLVED_RANGES_MAX} ranges); replay or drop the oldest first"
    )]
    TooScattered,
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StoreError> for DeadLetterResolveError {
    fn from(error: StoreError) -> Self {
        Self::File(error.into())
    }
}

impl Repo {
    /// Stores the counts of the log, unless higher ones are known: a report that was read before a
    /// resolution does not undo the counts stored with it. Skips sinks that were purged.
    pub async fn report_dead_letters(
        &self,
        counts: &[(SinkKey, VolumeId, DeadLetterCounts)],
    ) -> Result<(), FileError> {
        for (sink, volume, counts) in counts {
            let report = self.transact_if(|txn| {
                Box::pin(async move {
                    if !self.expect_sink_exists(txn, sink).await? {
                        return Ok(ControlFlow::Break(()));
                    }
                    self.add_dead_letter_counts(txn, sink, volume, counts)
                        .await?;
                    Ok::<_, FileError>(ControlFlow::Continue(()))
                })
            });
            report.await.map(drop)?;
        }
        Ok(())
    }

    /// Whether the sink exists or is deleted; also a precondition of the transaction. State stored
    /// after the sink was purged would apply to a later sink of that id.
    async fn expect_sink_exists(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink: &SinkKey,
    ) -> Result<bool, StoreError> {
        let location = self.locate_sink(sink).await?;
        if let Some(location) = location {
            txn.expect_exists(location);
        }
        Ok(location.is_some())
    }

    /// Key of the sink's entry, if it exists or is deleted.
    async fn locate_sink<'k>(&self, sink: &'k SinkKey) -> Result<Option<StoreKey<'k>>, StoreError> {
        let located = self.transact_if(|txn| {
            Box::pin(async move {
                for location in [StoreKey::Sink(sink), StoreKey::DeletedSink(sink)] {
                    if self.read::<Sink>(location).await?.is_some() {
                        return Ok(ControlFlow::Break(location));
                    }
                }
                // A sink restored between the two reads was in neither: check both at once.
                expect_sink_removed(txn, sink);
                Ok::<_, StoreError>(ControlFlow::Continue(()))
            })
        });
        Ok(located.await?.break_value())
    }

    pub(super) async fn add_dead_letter_counts(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink: &SinkKey,
        volume: &VolumeId,
        counts: &DeadLetterCounts,
    ) -> Result<(), StoreError> {
        let key = StoreKey::DeadLetterCounts(sink, volume);
        let known: Option<Versioned<DeadLetterCounts>> = txn.read(key).await?;
        if known.is_none_or(|known| known.taken <= counts.taken) {
            txn.put(key, counts)?;
        }
        Ok(())
    }

    /// Sums the dead letters of a sink over all volumes.
    pub async fn dead_letter_statistics(
        &self,
        sink: &SinkKey,
    ) -> Result<DeadLetterStatistics, StoreError> {
        // Read the counts last: a state is never ahead of them.
        let states = keys::below(keys::DEAD_LETTER_STATES, sink);
        let states = self.read_all::<DeadLetterState>(&states).await?;
        let counts = keys::below(keys::DEAD_LETTER_COUNTS, sink);
        let counts = self.read_all::<DeadLetterCounts>(&counts).await?;
        let mut sum = DeadLetterStatistics::default();
        for state in states {
            sum.add_state(&state);
        }
        for counts in counts {
            sum.add_counts(&counts);
        }
        Ok(sum)
    }

    /// Lists the last reported counts of all dead letters, by sink and volume.
    pub async fn dead_letter_counts(
        &self,
    ) -> Result<Vec<(SinkKey, VolumeId, DeadLetterCounts)>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .range(
                    keys::DEAD_LETTER_COUNTS,
                    after.as_deref(),
                    RANGE_ENTRIES_MAX,
                )
                .await?;
            for entry in &page.entries {
                let counts: Versioned<DeadLetterCounts> = decode(entry)?;
                let location = keys::parse_dead_letter_counts(&entry.key);
                all.extend(location.map(|(sink, volume)| (sink, volume, counts.value)));
            }
            match page.entries.into_iter().next_back() {
                Some(last) if page.more => after = Some(last.key),
                _ => return Ok(all),
            }
        }
    }

    /// Returns the owner of a sink's dead letters.
    pub async fn dead_letter_owner(&self, sink: &SinkKey) -> Result<DeadLetterOwner, StoreError> {
        if self.locate_sink(sink).await?.is_some() {
            return Ok(DeadLetterOwner::Sink);
        }
        // The sink state outlives a purge.
        let sink_state: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
        Ok(match sink_state {
            Some(_) => DeadLetterOwner::Forgotten,
            None => DeadLetterOwner::Unknown,
        })
    }

    /// Removes the dead-letter state of a purged sink. Returns `false`, without a change, if the
    /// sink exists, deleted or not.
    ///
    /// Call it before the dead letters themselves are deleted. A state that outlived them would
    /// mark the first dead letters of a later sink of that id as resolved.
    pub async fn remove_dead_letter_state(&self, sink: &SinkKey) -> Result<bool, StoreError> {
        let mut txn = self.begin();
        expect_sink_removed(&mut txn, sink);
        txn.delete_below(keys::below(keys::DEAD_LETTER_STATES, sink));
        txn.delete_below(keys::below(keys::DEAD_LETTER_COUNTS, sink));
        Ok(self.commit(txn).await?.is_some())
    }

    /// Reads the dead-letter state of a sink on a volume.
    pub async fn dead_letter_state(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
    ) -> Result<DeadLetterState, StoreError> {
        let read: Option<Versioned<DeadLetterState>> =
            self.read(StoreKey::DeadLetterState(sink, volume)).await?;
        Ok(read.map(|r| r.value).unwrap_or_default())
    }

    /// Returns the key of a slice for replayed rows, in the sink's open file, and that file, whose
    /// mapping applies to the rows. [`Self::resolve_dead_letters`] creates the slice.
    ///
    /// # Errors
    /// [`FileError::SinkNotActive`] if no file of the sink is open, [`FileError::SliceLimit`].
    pub async fn new_replay_slice(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
        now: Timestamp,
    ) -> Result<(SliceKey, File), FileError> {
        let sink_files = self.sink_files(sink).await?;
        let Some((file, slices)) = sink_files.open else {
            return Err(FileError::SinkNotActive(sink.clone()));
        };
        if slices.len() >= SLICES_MAX {
            return Err(FileError::SliceLimit(file.value.key));
        }
        let own = slices.iter().filter(|s| s.key.volume == *volume);
        let last = own.map(|s| s.key.opened_at).max();
        let key = SliceKey {
            file: file.key.clone(),
            volume: volume.clone(),
            opened_at: last.map_or(now, |last| next_opened_at(last, now)),
        };
        Ok((key, file.value))
    }

    /// Marks dead letters as resolved; replayed ones in one transaction with their slice, which
    /// becomes `uploading`.
    ///
    /// # Errors
    /// [`FileError::Conflict`] if the file of the slice was rotated: retry with another slice.
    pub async fn resolve_dead_letters(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
        resolution: &DeadLetterResolution,
        now: Timestamp,
    ) -> Result<(), DeadLetterResolveError> {
        self.transact(|txn| {
            Box::pin(async move {
                let read: Option<Versioned<DeadLetterState>> =
                    txn.read(StoreKey::DeadLetterState(sink, volume)).await?;
                let mut state = read.map(|r| r.value).unwrap_or_default();
                for number in &resolution.numbers {
                    if state.resolved.contains(*number) {
                        return Err(DeadLetterResolveError::AlreadyResolved(*number));
                    }
                    state.resolved.resolve(*number, number + 1);
                }
                for (from, to) in &resolution.lost {
                    state.resolved.resolve(*from, *to);
                }
                if state.resolved.scattered() > RESOLVED_RANGES_MAX {
                    return Err(DeadLetterResolveError::TooScattered);
                }
                let count = resolution.numbers.len() as u64;
                if !self.expect_sink_exists(txn, sink).await? {
                    return Err(FileError::SinkNotActive(sink.clone()).into());
                }
                match &resolution.end {
                    DeadLetterOutcome::Replayed(slice, statistics) => {
                        state.replayed += count;
                        self.add_replay_slice(txn, slice, *statistics, now).await?;
                    }
                    DeadLetterOutcome::Dropped => state.dropped += count,
                }
                txn.put(StoreKey::DeadLetterState(sink, volume), &state)?;
                self.add_dead_letter_counts(txn, sink, volume, &resolution.counts)
                    .await?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Adds a slice with a closed stream and these statistics to an open file.
    pub(super) async fn add_replay_slice(
        &self,
        txn: &mut TxnBuilder<'_>,
        key: &SliceKey,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let file: Option<Versioned<File>> = txn.read(StoreKey::File(&key.file)).await?;
        let Some(file) = file.filter(|f| f.state == FileState::Writing) else {
            return Err(FileError::Conflict);
        };
        if self.count(&keys::below(keys::SLICES, &key.file)).await? >= SLICES_MAX {
            return Err(FileError::SliceLimit(key.file.clone()));
        }
        let mut slice = Slice::open(key.clone(), file.settings.compression());
        slice.transition(SliceState::Closing, now)?;
        slice.transition(SliceState::Uploading, now)?;
        slice.statistics = statistics;
        check_states(&file, &slice)?;
        txn.expect_absent(StoreKey::Slice(key));
        txn.put(StoreKey::Slice(key), &slice)?;
        Ok(())
    }
}

/// Requires that the sink neither exists nor is deleted.
fn expect_sink_removed(txn: &mut TxnBuilder<'_>, sink: &SinkKey) {
    txn.expect_absent(StoreKey::Sink(sink));
    txn.expect_absent(StoreKey::DeletedSink(sink));
}
