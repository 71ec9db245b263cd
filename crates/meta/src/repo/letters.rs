//! Dead letters: which of them are done with, and the slices that replayed ones go into.
//!
//! A replay is one transaction: the slice with the rows and the mark of the letters come into being
//! together. Before it, the rows are in a stream of the log that nothing refers to; after it, they
//! go the way of any other slice.

use forebay_model::{
    File, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Statistics, Timestamp, VolumeId,
};

use super::files::{FileError, after, check_joint};
use super::{Attempts, Draft, Repo, Revised, SLICES_MAX, decode};
use crate::keys::{self, Key};
use crate::store::{Expect, RANGE_ENTRIES_MAX, StoreError};
use crate::stored::book::Book;
use crate::stored::letters::{LetterBook, LetterCounts};

/// Runs of letters that are done with, between others that are not, at most: what a book may
/// grow to.
pub const LETTER_RANGES_MAX: usize = 1_000;

/// Dead letters of a sink, of all volumes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LetterStatistics {
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
pub enum LetterEnd {
    /// Their rows are in the stream of this slice, which is closed and holds that much.
    Replayed(SliceKey, Statistics),
    /// Nobody wants them.
    Dropped,
}

/// Whose letters these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterOwner {
    /// A sink that is there, or deleted and can come back.
    Sink,
    /// One that was forgotten for good.
    Forgotten,
    /// Nobody whom this store has ever known.
    Unknown,
}

/// Letters that are to be done with.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Numbers of the letters; none of them is done with yet.
    pub letters: Vec<u64>,
    /// Runs `[from, to)` of letters that are lost: neither replayed nor dropped, only gone.
    pub lost: Vec<(u64, u64)>,
    /// What the log has counted by now.
    pub counts: LetterCounts,
    /// What becomes of the letters.
    pub end: LetterEnd,
}

/// Why letters are not done with.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// One of them was done with meanwhile.
    #[error("letter {0} was replayed or dropped by someone else")]
    Done(u64),
    /// Too many letters are left between others.
    #[error(
        "too many single letters are done with between others ({LETTER_RANGES_MAX}); replay or drop the oldest ones first"
    )]
    TooScattered,
    /// Of the slice or file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StoreError> for LetterError {
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
    pub async fn report_letters(
        &self,
        counts: &[(SinkKey, VolumeId, LetterCounts)],
    ) -> Result<(), FileError> {
        for (sink, volume, counts) in counts {
            let mut attempts = Attempts::default();
            loop {
                let mut draft = Draft::default();
                if !self.draft_owned(&mut draft, sink).await? {
                    break;
                }
                self.draft_counts(&mut draft, sink, volume, counts).await?;
                if self.commit(draft).await?.is_some() {
                    break;
                }
                attempts.again().await?;
            }
        }
        Ok(())
    }

    /// Whether the sink is there or deleted; the transaction holds only if that stays so. What is
    /// noted of letters after their sink was forgotten would be taken for that of a later one.
    async fn draft_owned(&self, draft: &mut Draft, sink: &SinkKey) -> Result<bool, StoreError> {
        let place = self.place(sink).await?;
        if let Some(place) = place {
            draft.txn.expect(place, Expect::Exists);
        }
        Ok(place.is_some())
    }

    /// Where the sink is, if it is there or deleted.
    async fn place<'k>(&self, sink: &'k SinkKey) -> Result<Option<Key<'k>>, StoreError> {
        let mut attempts = Attempts::default();
        loop {
            for place in [Key::Sink(sink), Key::DeletedSink(sink)] {
                if self.read::<Sink>(place).await?.is_some() {
                    return Ok(Some(place));
                }
            }
            // One that came back between the two readings was in neither: ask for both at once.
            let mut draft = Draft::default();
            draft_gone(&mut draft, sink);
            if self.commit(draft).await?.is_some() {
                return Ok(None);
            }
            attempts.again().await?;
        }
    }

    pub(super) async fn draft_counts(
        &self,
        draft: &mut Draft,
        sink: &SinkKey,
        volume: &VolumeId,
        counts: &LetterCounts,
    ) -> Result<(), StoreError> {
        let key = Key::LetterCounts(sink, volume);
        let known: Option<Revised<LetterCounts>> = self.read(key).await?;
        draft.as_read(key, known.as_ref());
        if known.is_none_or(|known| known.taken <= counts.taken) {
            draft.put(key, counts)?;
        }
        Ok(())
    }

    /// The letters of a sink, of all volumes.
    ///
    /// # Errors
    /// The store's.
    pub async fn letter_statistics(&self, sink: &SinkKey) -> Result<LetterStatistics, StoreError> {
        // Counts last: a book is never ahead of them.
        let books = keys::below(keys::LETTER_BOOKS, sink);
        let books = self.read_all::<LetterBook>(&books).await?;
        let counts = keys::below(keys::LETTER_COUNTS, sink);
        let counts = self.read_all::<LetterCounts>(&counts).await?;
        let mut sum = LetterStatistics::default();
        for book in books {
            sum.replayed += book.replayed;
            sum.dropped += book.dropped;
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
    pub async fn letter_counts(
        &self,
    ) -> Result<Vec<(SinkKey, VolumeId, LetterCounts)>, StoreError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .range(keys::LETTER_COUNTS, after.as_deref(), RANGE_ENTRIES_MAX)
                .await?;
            for entry in &page.entries {
                let counts: Revised<LetterCounts> = decode(entry)?;
                let place = keys::parse_letter_counts(&entry.key);
                all.extend(place.map(|(sink, volume)| (sink, volume, counts.value)));
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
    pub async fn letter_owner(&self, sink: &SinkKey) -> Result<LetterOwner, StoreError> {
        if self.place(sink).await?.is_some() {
            return Ok(LetterOwner::Sink);
        }
        // A sink's book stays when all else of it is forgotten.
        let book: Option<Revised<Book>> = self.read(Key::Book(sink)).await?;
        Ok(match book {
            Some(_) => LetterOwner::Forgotten,
            None => LetterOwner::Unknown,
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
    pub async fn forget_letters(&self, sink: &SinkKey) -> Result<bool, StoreError> {
        let mut draft = Draft::default();
        draft_gone(&mut draft, sink);
        draft.delete_below(keys::below(keys::LETTER_BOOKS, sink));
        draft.delete_below(keys::below(keys::LETTER_COUNTS, sink));
        Ok(self.commit(draft).await?.is_some())
    }

    /// The book of a sink's letters on a volume.
    ///
    /// # Errors
    /// The store's.
    pub async fn letter_book(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
    ) -> Result<LetterBook, StoreError> {
        let read: Option<Revised<LetterBook>> = self.read(Key::LetterBook(sink, volume)).await?;
        Ok(read.map(|r| r.value).unwrap_or_default())
    }

    /// The key of a slice for replayed rows, in the sink's open file, and that file: its mapping is
    /// what the rows are to be made by. The slice does not exist before [`Self::resolve_dead_letters`].
    ///
    /// # Errors
    /// [`FileError::SinkNotActive`] when no file of the sink is open, [`FileError::SliceLimit`], or
    /// the store.
    pub async fn replay_slice(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
        now: Timestamp,
    ) -> Result<(SliceKey, File), FileError> {
        let shelf = self.shelf(sink).await?;
        let Some((file, slices)) = shelf.open else {
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
            opened_at: last.map_or(now, |last| after(last, now)),
        };
        Ok((key, file.value))
    }

    /// Marks letters as done with; replayed ones in one transaction with their slice, which is
    /// `uploading` then.
    ///
    /// # Errors
    /// [`DeadLetterResolveError`]; nothing has changed then. [`FileError::Conflict`] when the file of the slice
    /// was rotated meanwhile: take another slice.
    pub async fn finish_letters(
        &self,
        sink: &SinkKey,
        volume: &VolumeId,
        finished: &Finished,
        now: Timestamp,
    ) -> Result<(), LetterError> {
        let mut attempts = Attempts::default();
        loop {
            let read: Option<Revised<LetterBook>> =
                self.read(Key::LetterBook(sink, volume)).await?;
            let mut book = read.as_ref().map(|r| r.value.clone()).unwrap_or_default();
            for letter in &finished.letters {
                if book.is_done(*letter) {
                    return Err(LetterError::Done(*letter));
                }
                book.finish(*letter, letter + 1);
            }
            for (from, to) in &finished.lost {
                book.finish(*from, *to);
            }
            if book.ranges() > LETTER_RANGES_MAX {
                return Err(LetterError::TooScattered);
            }
            let count = finished.letters.len() as u64;
            let mut draft = Draft::default();
            if !self.draft_owned(&mut draft, sink).await? {
                return Err(FileError::SinkNotActive(sink.clone()).into());
            }
            match &finished.end {
                LetterEnd::Replayed(slice, statistics) => {
                    book.replayed += count;
                    self.draft_replay(&mut draft, slice, *statistics, now)
                        .await?;
                }
                LetterEnd::Dropped => book.dropped += count,
            }
            draft.as_read(Key::LetterBook(sink, volume), read.as_ref());
            draft.put(Key::LetterBook(sink, volume), &book)?;
            self.draft_counts(&mut draft, sink, volume, &finished.counts)
                .await?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }

    /// A slice whose stream is closed and holds that much, in a file that is open.
    pub(super) async fn draft_replay(
        &self,
        draft: &mut Draft,
        key: &SliceKey,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<(), FileError> {
        let file: Option<Revised<File>> = self.read(Key::File(&key.file)).await?;
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
        check_joint(&file, &slice)?;
        draft.unchanged(Key::File(&key.file), &file);
        draft.absent(Key::Slice(key));
        draft.put(Key::Slice(key), &slice)?;
        Ok(())
    }
}

/// The sink is neither there nor deleted.
fn draft_gone(draft: &mut Draft, sink: &SinkKey) {
    draft.absent(Key::Sink(sink));
    draft.absent(Key::DeletedSink(sink));
}
