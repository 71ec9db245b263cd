//! Dead letters: which of them are done with, and the slices that replayed ones go into.
//!
//! A replay is one transaction: the slice with the rows and the mark of the letters come into being
//! together. Before it, the rows are in a stream of the log that nothing refers to; after it, they
//! go the way of any other slice.

use forebay_model::{
    File, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Statistics, Timestamp, VolumeId,
};

use super::files::{FileError, check_states, next_opened_at};
use super::{Repo, SLICES_MAX, TxnAttempts, TxnBuilder, Versioned, decode};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::dead_letters::{DeadLetterCounts, DeadLetterState};
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::{KeyCondition, RANGE_ENTRIES_MAX, StoreError};

/// Runs of letters that are done with, between others that are not, at most: what a book may
/// grow to.
pub const RESOLVED_RANGES_MAX: usize = 1_000;

/// Dead letters of a sink, of all volumes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterStatistics {
    /// Ever taken, as last reported.
    pub taken: u64,
    /// Taken by a damaged disk.
    pub lost: u64,
    /// Went on to the table.
    pub replayed: u64,
    /// Were dropped.
    pub dropped: u64,
}

/// What becomes of letters.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadLetterOutcome {
    /// Their rows are in the stream of this slice, which is closed and holds that much.
    Replayed(SliceKey, Statistics),
    /// Nobody wants them.
    Dropped,
}

/// Whose letters these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterOwner {
    /// A sink that is there, or deleted and can come back.
    Sink,
    /// One that was forgotten for good.
    Forgotten,
    /// Nobody whom this store has ever known.
    Unknown,
}

/// Letters that are to be done with.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterResolution {
    /// Numbers of the letters; none of them is done with yet.
    pub numbers: Vec<u64>,
    /// Runs `[from, to)` of letters that are lost: neither replayed nor dropped, only gone.
    pub lost: Vec<(u64, u64)>,
    /// What the log has counted by now.
    pub counts: DeadLetterCounts,
    /// What becomes of the letters.
    pub end: DeadLetterOutcome,
}

/// Why letters are not done with.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterResolveError {
    /// One of them was done with meanwhile.
    #[error("letter {0} was replayed or dropped by someone else")]
    AlreadyResolved(u64),
    /// Too many letters are left between others.
    #[error(
        "too many single letters are done with between others ({RESOLVED_RANGES_MAX}); replay or drop the oldest ones first"
    )]
    TooScattered,
    /// Of the slice or file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StoreError> for DeadLetterResolveError {
    fn from(error: StoreError) -> Self {
        Self::File(error.into())
    }
}

impl Repo {
    /// Notes what the log has counted, unless more letters are known already: what was read before
    /// others were finished does not undo what was noted with those. Counts of sinks that were
    /// forgotten are left out.
    ///
    /// # Errors
    /// [`FileError::Conflict`], or the store's.
    pub async fn report_dead_letters(
        &self,
        counts: &[(SinkKey, VolumeId, DeadLetterCounts)],
    ) -> Result<(), FileError> {
        for (sink, volume, counts) in counts {
            let mut attempts = TxnAttempts::default();
            loop {
                let mut builder = TxnBuilder::default();
                if !self.expect_sink_exists(&mut builder, sink).await? {
                    break;
                }
                self.add_dead_letter_counts(&mut builder, sink, volume, counts)
                    .await?;
                if self.commit(builder).await?.is_some() {
                    break;
                }
                attempts.retry().await?;
            }
        }
        Ok(())
    }

    /// Whether the sink is there or deleted; the transaction holds only if that stays so. What is
    /// noted of letters after their sink was forgotten would be taken for that of a later one.
    async fn expect_sink_exists(
        &self,
        builder: &mut TxnBuilder,
        sink: &SinkKey,
    ) -> Result<bool, StoreError> {
        let location = self.locate_sink(sink).await?;
        if let Some(location) = location {
            builder.txn.expect(location, KeyCondition::Exists);
        }
        Ok(location.is_some())
    }

    /// Where the sink is, if it is there or deleted.
    async fn locate_sink<'k>(&self, sink: &'k SinkKey) -> Result<Option<StoreKey<'k>>, StoreError> {
        let mut attempts = TxnAttempts::default();
        loop {
            for location in [StoreKey::Sink(sink), StoreKey::DeletedSink(sink)] {
                if self.read::<Sink>(location).await?.is_some() {
                    return Ok(Some(location));
                }
            }
            // One that came back between the two readings was in neither: ask for both at once.
            let mut builder = TxnBuilder::default();
            expect_sink_removed(&mut builder, sink);
            if self.commit(builder).await?.is_some() {
                return Ok(None);
            }
            attempts.retry().await?;
        }
    }

    pub(super) async fn add_dead_letter_counts(
        &self,
        builder: &mut TxnBuilder,
        sink: &SinkKey,
        volume: &VolumeId,
        counts: &DeadLetterCounts,
    ) -> Result<(), StoreError> {
        let key = StoreKey::DeadLetterCounts(sink, volume);
        let known: Option<Versioned<DeadLetterCounts>> = self.read(key).await?;
        builder.expect_as_read(key, known.as_ref());
        if known.is_none_or(|known| known.taken <= counts.taken) {
            builder.put(key, counts)?;
        }
        Ok(())
    }

    /// The letters of a sink, of all volumes.
    ///
    /// # Errors
    /// The store's.
    pub async fn dead_letter_statistics(
        &self,
        sink: &SinkKey,
    ) -> Result<DeadLetterStatistics, StoreError> {
        // Counts last: a book is never ahead of them.
        let states = keys::below(keys::DEAD_LETTER_STATES, sink);
        let states = self.read_all::<DeadLetterState>(&states).await?;
        let counts = keys::below(keys::DEAD_LETTER_COUNTS, sink);
        let counts = self.read_all::<DeadLetterCounts>(&counts).await?;
        let mut sum = DeadLetterStatistics::default();
        for state in states {
            sum.replayed += state.replayed;
            sum.dropped += state.dropped;
        }
        for counts in counts {
            sum.taken += counts.taken;
            sum.lost += counts.lost;
        }
        Ok(sum)
    }

    /// What was last reported of all dead letters, by sink and volume.
    ///
    /// # Errors
    /// The store's.
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

    /// Whose the letters of that sink are.
    ///
    /// # Errors
    /// The store's.
    pub async fn dead_letter_owner(&self, sink: &SinkKey) -> Result<DeadLetterOwner, StoreError> {
        if self.locate_sink(sink).await?.is_some() {
            return Ok(DeadLetterOwner::Sink);
        }
        // A sink's book stays when all else of it is forgotten.
        let sink_state: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
        Ok(match sink_state {
            Some(_) => DeadLetterOwner::Forgotten,
            None => DeadLetterOwner::Unknown,
        })
    }

    /// Forgets what is remembered of the letters of a sink that was forgotten itself. `false` when
    /// there is such a sink, deleted or not, and nothing was forgotten.
    ///
    /// To be called before the letters themselves are deleted. A book that outlived them would call
    /// the first letters of a later sink of that id done with.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_dead_letter_state(&self, sink: &SinkKey) -> Result<bool, StoreError> {
        let mut builder = TxnBuilder::default();
        expect_sink_removed(&mut builder, sink);
        builder.delete_below(keys::below(keys::DEAD_LETTER_STATES, sink));
        builder.delete_below(keys::below(keys::DEAD_LETTER_COUNTS, sink));
        Ok(self.commit(builder).await?.is_some())
    }

    /// The book of a sink's letters on a volume.
    ///
    /// # Errors
    /// The store's.
    pub async fn dead_letter_state(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
    ) -> Result<DeadLetterState, StoreError> {
        let read: Option<Versioned<DeadLetterState>> =
            self.read(StoreKey::DeadLetterState(sink, volume)).await?;
        Ok(read.map(|r| r.value).unwrap_or_default())
    }

    /// The key of a slice for replayed rows, in the sink's open file, and that file: its mapping is
    /// what the rows are to be made by. The slice does not exist before [`Self::resolve_dead_letters`].
    ///
    /// # Errors
    /// [`FileError::SinkNotActive`] when no file of the sink is open, [`FileError::SliceLimit`], or
    /// the store.
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

    /// Marks letters as done with; replayed ones in one transaction with their slice, which is
    /// `uploading` then.
    ///
    /// # Errors
    /// [`DeadLetterResolveError`]; nothing has changed then. [`FileError::Conflict`] when the file of the slice
    /// was rotated meanwhile: take another slice.
    pub async fn resolve_dead_letters(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
        resolution: &DeadLetterResolution,
        now: Timestamp,
    ) -> Result<(), DeadLetterResolveError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let read: Option<Versioned<DeadLetterState>> =
                self.read(StoreKey::DeadLetterState(sink, volume)).await?;
            let mut state = read.as_ref().map(|r| r.value.clone()).unwrap_or_default();
            for number in &resolution.numbers {
                if state.is_resolved(*number) {
                    return Err(DeadLetterResolveError::AlreadyResolved(*number));
                }
                state.resolve(*number, number + 1);
            }
            for (from, to) in &resolution.lost {
                state.resolve(*from, *to);
            }
            if state.ranges() > RESOLVED_RANGES_MAX {
                return Err(DeadLetterResolveError::TooScattered);
            }
            let count = resolution.numbers.len() as u64;
            let mut builder = TxnBuilder::default();
            if !self.expect_sink_exists(&mut builder, sink).await? {
                return Err(FileError::SinkNotActive(sink.clone()).into());
            }
            match &resolution.end {
                DeadLetterOutcome::Replayed(slice, statistics) => {
                    state.replayed += count;
                    self.add_replay_slice(&mut builder, slice, *statistics, now)
                        .await?;
                }
                DeadLetterOutcome::Dropped => state.dropped += count,
            }
            builder.expect_as_read(StoreKey::DeadLetterState(sink, volume), read.as_ref());
            builder.put(StoreKey::DeadLetterState(sink, volume), &state)?;
            self.add_dead_letter_counts(&mut builder, sink, volume, &resolution.counts)
                .await?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    /// A slice whose stream is closed and holds that much, in a file that is open.
    pub(super) async fn add_replay_slice(
        &self,
        builder: &mut TxnBuilder,
        key: &SliceKey,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let file: Option<Versioned<File>> = self.read(StoreKey::File(&key.file)).await?;
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
        builder.expect_unchanged(StoreKey::File(&key.file), &file);
        builder.expect_absent(StoreKey::Slice(key));
        builder.put(StoreKey::Slice(key), &slice)?;
        Ok(())
    }
}

/// The sink is neither there nor deleted.
fn expect_sink_removed(builder: &mut TxnBuilder, sink: &SinkKey) {
    builder.expect_absent(StoreKey::Sink(sink));
    builder.expect_absent(StoreKey::DeletedSink(sink));
}
