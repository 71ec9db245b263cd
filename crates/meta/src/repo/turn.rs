//! Turns of a sink's file: closed, and its successor opened, in the transaction of whatever is the
//! cause.

use forebay_model::{
    File, FileKey, FileState, Sink, SinkKey, Slice, SliceKey, SliceState, Source, Timestamp,
    VolumeId,
};

use super::files::{FileError, OpenedFile, RotatedFile, after, check_joint};
use super::{Attempts, Draft, Repo, Revised, VOLUMES_MAX};
use crate::keys::Key;
use crate::store::Revision;
use crate::stored::book::Book;

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

/// What [`Repo::add_file_rotation`] put into a transaction.
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
            attempts.again().await?;
        }
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
            attempts.again().await?;
        }
    }
}

fn opened(file: File, slices: Vec<Slice>, revision: Revision) -> OpenedFile {
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
