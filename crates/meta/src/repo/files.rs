//! Files: opened, rotated, closed, listed.
//!
//! What holds after every transaction of this and the neighbouring modules:
//!
//! - a sink has at most one file that is `writing`, and then its book names it;
//! - a file's time of opening is greater than that of every earlier file of the sink, removed ones
//!   included, whatever the clock does;
//! - [`FileState::allows`] holds for each file and each of its slices;
//! - a file that is `writing` has one slice that is `writing` on each of its volumes, any other file
//!   has none.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::{
    File, FileKey, FileState, InvalidTransition, Sink, SinkKey, Slice, SliceKey, SliceState,
    Source, Statistics, Timestamp, VolumeId,
};

use super::{Attempts, Draft, Repo, Revised, SLICES_MAX, VOLUMES_MAX};
use crate::keys::{self, Key};
use crate::store::StoreError;
use crate::stored::book::Book;

/// Why a file or slice was not changed or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no such file among those that are not imported.
    #[error("file \"{0}\" not found")]
    FileNotFound(FileKey),
    /// There is no such slice among those that are not imported.
    #[error("slice \"{0}\" not found")]
    SliceNotFound(SliceKey),
    /// There is no such sink, or it takes no records.
    #[error("sink \"{0}\" takes no records")]
    SinkNotActive(SinkKey),
    /// The sink has a file that is being written already.
    #[error("sink \"{0}\" has an open file already")]
    AlreadyOpen(SinkKey),
    /// There is nothing to write to.
    #[error("no volume is registered")]
    NoVolumes,
    /// More volumes than a file may have, or the same one twice.
    #[error("{0} volumes for a file; allowed are 1 to {VOLUMES_MAX} different ones")]
    BadVolumes(usize),
    /// The file can't have another slice.
    #[error("file \"{0}\" has {SLICES_MAX} slices, the maximum")]
    SliceLimit(FileKey),
    /// A step that the states do not have.
    #[error(transparent)]
    InvalidTransition(#[from] InvalidTransition),
    /// The slice may not be in that state while its file is in this one.
    #[error("a file that is {} can't have a slice that is {}", file.name(), slice.name())]
    NotAllowed {
        /// The file's state.
        file: FileState,
        /// The slice's state.
        slice: SliceState,
    },
    /// Not all of the file is in staging.
    #[error("{left} slices of file \"{file}\" are not uploaded")]
    SlicesLeft {
        /// Which file.
        file: FileKey,
        /// How many.
        left: usize,
    },
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileError {
    /// Whether the same may succeed later without a person.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::NoVolumes => true,
            Self::Store(e) => e.is_retryable(),
            _ => false,
        }
    }
}

/// A file that was just opened, and its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedFile {
    /// The file.
    pub file: Revised<File>,
    /// One of each volume.
    pub slices: Vec<Revised<Slice>>,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedFile {
    /// The file that is now `closing`.
    pub closed: Revised<File>,
    /// Its successor; `None` when the sink takes no records any more.
    pub opened: Option<OpenedFile>,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedSlice {
    /// The slice that is now `closing`.
    pub closed: Revised<Slice>,
    /// Its successor.
    pub opened: Revised<Slice>,
}

/// A file that is not imported, with all its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveFile {
    /// The file.
    pub file: Revised<File>,
    /// In the order of their keys: by volume, then by time.
    pub slices: Vec<ActiveSlice>,
}

/// A slice, and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveSlice {
    /// The slice.
    pub slice: Revised<Slice>,
    /// The final counts, from `uploading` on; before, what nodes have reported.
    pub statistics: Statistics,
}

impl ActiveFile {
    /// Of all slices together.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.slices
            .iter()
            .fold(Statistics::default(), |sum, s| sum.plus(s.statistics))
    }
}

/// What a new file is opened under.
pub(super) struct Under<'u> {
    pub(super) source: &'u Source,
    pub(super) sink: &'u Sink,
    pub(super) volumes: &'u [VolumeId],
}

/// A sink's book, and its open file as the book names it.
pub(super) struct Shelf {
    sink: SinkKey,
    pub(super) book: Option<Revised<Book>>,
    pub(super) open: Option<(Revised<File>, Vec<Revised<Slice>>)>,
}

/// What [`Repo::draft_file_turn`] put into a transaction.
#[derive(Default)]
pub(super) struct Turn {
    closed: Option<File>,
    opened: Option<(File, Vec<Slice>)>,
}

impl Repo {
    /// Reads what a sink's file can be opened, rotated or closed by.
    pub(super) async fn shelf(&self, sink: &SinkKey) -> Result<Shelf, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let book = self.read::<Book>(Key::Book(sink)).await?;
            let Some(opened_at) = book.as_ref().and_then(|b| b.writing) else {
                let sink = sink.clone();
                let open = None;
                return Ok(Shelf { sink, book, open });
            };
            let key = FileKey {
                sink: sink.clone(),
                opened_at,
            };
            let file = self.read::<File>(Key::File(&key)).await?;
            if let Some(file) = file.filter(|f| f.state == FileState::Writing) {
                let open = Some((file, self.slices_of(&key).await?));
                let sink = sink.clone();
                return Ok(Shelf { sink, book, open });
            }
            // Rotated or closed between the two readings: it would seem to be an invalid step.
            if !attempts.again().await {
                return Err(FileError::Conflict);
            }
        }
    }

    /// The slices of a file that is not imported.
    pub(super) async fn slices_of(
        &self,
        file: &FileKey,
    ) -> Result<Vec<Revised<Slice>>, StoreError> {
        self.read_all(&keys::below(keys::SLICES, file)).await
    }

    /// Closes the open file, if there is one; opens one, if told under what; writes the book.
    ///
    /// All that was read is a precondition. A slice that was rotated meanwhile is noticed by its
    /// predecessor, which is then no longer as it was read.
    pub(super) fn draft_file_turn(
        &self,
        draft: &mut Draft,
        shelf: &Shelf,
        under: Option<Under<'_>>,
        now: Timestamp,
    ) -> Result<Turn, FileError> {
        if shelf.open.is_none() && under.is_none() {
            // Nothing to close: only that nobody opens one meanwhile.
            draft.as_read(Key::Book(&shelf.sink), shelf.book.as_ref());
            return Ok(Turn::default());
        }
        let mut book = shelf
            .book
            .as_ref()
            .map_or_else(Book::default, |b| b.value.clone());
        let mut turn = Turn::default();
        if let Some((file, slices)) = &shelf.open {
            turn.closed = Some(draft_close(draft, file, slices, now)?);
        }
        book.writing = None;
        if let Some(under) = under {
            let opened_at = book.last_opened_at.map_or(now, |last| after(last, now));
            let (file, slices) = self.draft_open(draft, &under, opened_at)?;
            book.writing = Some(opened_at);
            book.last_opened_at = Some(opened_at);
            turn.opened = Some((file, slices));
        }
        draft.as_read(Key::Book(&shelf.sink), shelf.book.as_ref());
        draft.put(Key::Book(&shelf.sink), &book)?;
        Ok(turn)
    }

    fn draft_open(
        &self,
        draft: &mut Draft,
        under: &Under<'_>,
        opened_at: Timestamp,
    ) -> Result<(File, Vec<Slice>), FileError> {
        let volumes = under.volumes;
        if volumes.is_empty() {
            return Err(FileError::NoVolumes);
        }
        let mut different: Vec<_> = volumes.iter().collect();
        different.sort_unstable();
        different.dedup();
        if different.len() != volumes.len() || volumes.len() > VOLUMES_MAX {
            return Err(FileError::BadVolumes(volumes.len()));
        }
        let key = FileKey {
            sink: under.sink.key.clone(),
            opened_at,
        };
        let Some(table) = under.sink.target.table() else {
            return Err(FileError::SinkNotActive(key.sink));
        };
        let settings = self
            .defaults
            .with(&under.source.settings)
            .with(&under.sink.settings);
        let compression = settings.compression();
        let file = File::open(key.clone(), table.clone(), settings);
        draft.absent(Key::File(&key));
        draft.put(Key::File(&key), &file)?;
        let mut slices = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let slice = Slice::open(
                SliceKey {
                    file: key.clone(),
                    volume: volume.clone(),
                    opened_at,
                },
                compression,
            );
            draft.put(Key::Slice(&slice.key), &slice)?;
            slices.push(slice);
        }
        Ok((file, slices))
    }

    /// Opens a file for a sink that takes records and has none, under its present definition and
    /// settings. Its time is `now`, or later when an earlier file of the sink was opened then.
    ///
    /// # Errors
    /// [`FileError::AlreadyOpen`], [`FileError::SinkNotActive`], no volumes, or the store.
    pub async fn open_file(
        &self,
        sink: &SinkKey,
        volumes: &[VolumeId],
        now: Timestamp,
    ) -> Result<OpenedFile, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let shelf = self.shelf(sink).await?;
            if shelf.open.is_some() {
                return Err(FileError::AlreadyOpen(sink.clone()));
            }
            let mut draft = Draft::default();
            let defined = self.definition(&mut draft, sink).await?;
            let Some((source, sink_value)) = defined else {
                return Err(FileError::SinkNotActive(sink.clone()));
            };
            let under = Under {
                source: &source,
                sink: &sink_value,
                volumes,
            };
            let turn = self.draft_file_turn(&mut draft, &shelf, Some(under), now)?;
            if let Some(revision) = self.commit(draft).await?
                && let Some((file, slices)) = turn.opened
            {
                return Ok(opened(file, slices, revision));
            }
            if !attempts.again().await {
                return Err(FileError::Conflict);
            }
        }
    }

    /// The sink and its source if they take records. The transaction holds only if that stays so.
    async fn definition(
        &self,
        draft: &mut Draft,
        key: &SinkKey,
    ) -> Result<Option<(Source, Sink)>, FileError> {
        let source = self.read::<Source>(Key::Source(&key.source)).await?;
        let sink = self.read::<Sink>(Key::Sink(key)).await?;
        draft.as_read(Key::Source(&key.source), source.as_ref());
        draft.as_read(Key::Sink(key), sink.as_ref());
        Ok(match (source, sink) {
            (Some(source), Some(sink))
                if source.is_active() && sink.is_active() && sink.target.table().is_some() =>
            {
                Some((source.value, sink.value))
            }
            _ => None,
        })
    }

    /// Closes a file that is `writing` and opens its successor, under the sink's present definition
    /// and settings; when the sink takes no records any more, only closes it.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], [`FileError::InvalidTransition`] when it is not `writing`, no
    /// volumes, or the store.
    pub async fn rotate_file(
        &self,
        key: &FileKey,
        volumes: &[VolumeId],
        now: Timestamp,
    ) -> Result<RotatedFile, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let shelf = self.shelf(&key.sink).await?;
            if shelf.open.as_ref().is_none_or(|(file, _)| file.key != *key) {
                // Not the open one: say what it is.
                let mut file = self.file(key).await?.value;
                file.transition(FileState::Closing, now)?;
                return Err(FileError::Conflict);
            }
            let mut draft = Draft::default();
            let defined = self.definition(&mut draft, &key.sink).await?;
            let under = defined.as_ref().map(|(source, sink)| Under {
                source,
                sink,
                volumes,
            });
            let turn = self.draft_file_turn(&mut draft, &shelf, under, now)?;
            if let Some(revision) = self.commit(draft).await?
                && let Some(closed) = turn.closed
            {
                return Ok(RotatedFile {
                    closed: Revised {
                        value: closed,
                        revision,
                    },
                    opened: turn.opened.map(|(f, s)| opened(f, s, revision)),
                });
            }
            if !attempts.again().await {
                return Err(FileError::Conflict);
            }
        }
    }

    /// A file that is not imported.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn file(&self, key: &FileKey) -> Result<Revised<File>, FileError> {
        let found = self.read(Key::File(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// A file that is imported and still remembered.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn imported_file(&self, key: &FileKey) -> Result<Revised<File>, FileError> {
        let found = self.read(Key::ImportedFile(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// All files that are not imported, with their slices and counts; of one sink or of all. Not one
    /// moment: first the reported counts are read, then the files, then the slices. So a slice can be
    /// further than its file shows (transitions check that for themselves), but one whose reports
    /// were removed because it has its final counts is never taken for empty.
    ///
    /// # Errors
    /// The store's.
    pub async fn active_files(&self, sink: Option<&SinkKey>) -> Result<Vec<ActiveFile>, FileError> {
        let prefix = |all: &str| sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        let reported = self.reported_statistics(sink).await?;
        let files = self.read_all::<File>(&prefix(keys::FILES)).await?;
        let slices = self.read_all::<Slice>(&prefix(keys::SLICES)).await?;
        let mut by_key: BTreeMap<FileKey, ActiveFile> = files
            .into_iter()
            .map(|file| {
                let slices = Vec::new();
                (file.key.clone(), ActiveFile { file, slices })
            })
            .collect();
        for slice in slices {
            if let Some(file) = by_key.get_mut(&slice.key.file) {
                let statistics = if slice.state < SliceState::Uploading {
                    reported.get(&slice.key).copied().unwrap_or_default()
                } else {
                    slice.statistics
                };
                file.slices.push(ActiveSlice { slice, statistics });
            }
        }
        Ok(by_key.into_values().collect())
    }

    /// Imported files that are still remembered, oldest first; of one sink or of all.
    ///
    /// # Errors
    /// The store's.
    pub async fn imported_files(
        &self,
        sink: Option<&SinkKey>,
    ) -> Result<Vec<Revised<File>>, FileError> {
        let all = keys::IMPORTED_FILES;
        let prefix = sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        Ok(self.read_all(&prefix).await?)
    }
}

/// `now`, or just after `last` when the clock has not passed it.
pub(super) fn after(last: Timestamp, now: Timestamp) -> Timestamp {
    now.max(last.plus(Duration::from_millis(1)))
}

fn opened(file: File, slices: Vec<Slice>, revision: crate::store::Revision) -> OpenedFile {
    let revised = |value| Revised { value, revision };
    OpenedFile {
        file: Revised {
            value: file,
            revision,
        },
        slices: slices.into_iter().map(revised).collect(),
    }
}

/// A file and its writing slices become `closing`.
fn draft_close(
    draft: &mut Draft,
    read: &Revised<File>,
    slices: &[Revised<Slice>],
    now: Timestamp,
) -> Result<File, FileError> {
    let mut file = read.value.clone();
    file.transition(FileState::Closing, now)?;
    draft.unchanged(Key::File(&file.key), read);
    draft.put(Key::File(&file.key), &file)?;
    for read in slices {
        let mut slice = read.value.clone();
        if slice.state == SliceState::Writing {
            slice.transition(SliceState::Closing, now)?;
            draft.unchanged(Key::Slice(&slice.key), read);
            draft.put(Key::Slice(&slice.key), &slice)?;
        }
        check_joint(&file, &slice)?;
    }
    Ok(file)
}

/// The joint table of [`FileState`].
pub(super) fn check_joint(file: &File, slice: &Slice) -> Result<(), FileError> {
    if file.state.allows(slice.state) {
        Ok(())
    } else {
        Err(FileError::NotAllowed {
            file: file.state,
            slice: slice.state,
        })
    }
}
