//! Files whose rows become dead letters, because their table can't take them and somebody has decided
//! not to wait until it can.
//!
//! The letters are in the log; how many of the file's rows are letters by now is noted here after each
//! block of them. What was not noted before the process died is found again in the log. A row counts
//! where it is: as in flight until its block is noted, as a dead letter from then on.

use forebay_model::{
    DeadRows, File, FileKey, FileState, SliceState, Stamp, Statistics, Timestamp, VolumeId,
};

use super::audit::{Action, Change, What};
use super::files::FileError;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::stored::letters::LetterCounts;

impl Repo {
    /// Decides that the rows of a parked file become dead letters. It is not imported any more from
    /// then on.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], [`FileError::NotParked`], or the store.
    pub async fn reject_file(
        &self,
        key: &FileKey,
        stamp: &Stamp,
    ) -> Result<Revised<File>, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            if read.dead_rows.is_some() {
                return Ok(read);
            }
            if read.state != FileState::Importing || !read.retry.parked {
                return Err(FileError::NotParked(key.clone()));
            }
            let mut file = read.value.clone();
            file.dead_rows = Some(DeadRows {
                cause: file.retry.reason.clone().unwrap_or_default(),
                ..DeadRows::default()
            });
            file.retry.hurry();
            let mut draft = Draft::default();
            draft.unchanged(Key::File(key), &read);
            draft.put(Key::File(key), &file)?;
            let change = Change {
                project: key.sink.source.branch.project,
                what: What::Sink(key.sink.clone()),
                action: Action::RejectFile,
                description: format!(
                    "The rows of the file of {} become dead letters.",
                    key.opened_at
                ),
                old_version: None,
                new_version: None,
                stamp: stamp.clone(),
            };
            self.draft_unversioned(&mut draft, change).await?;
            if let Some(revision) = self.commit(draft).await? {
                let value = file;
                return Ok(Revised { value, revision });
            }
            attempts.again().await?;
        }
    }

    /// Notes how many rows of the file are dead letters of that volume.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn rows_dead(
        &self,
        key: &FileKey,
        volume: &VolumeId,
        progress: (u64, u64),
        counts: &LetterCounts,
    ) -> Result<(), FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            let mut file = read.value.clone();
            let Some(dead) = &mut file.dead_rows else {
                return Err(FileError::NotParked(key.clone()));
            };
            (dead.moved, dead.next_letter) = (progress.0, Some(progress.1));
            let mut draft = Draft::default();
            draft.unchanged(Key::File(key), &read);
            draft.put(Key::File(key), &file)?;
            self.draft_counts(&mut draft, &key.sink, volume, counts)
                .await?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }

    /// All rows of the file are dead letters: it and its slices are done with, and hold nothing.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], [`FileError::InvalidTransition`], or the store.
    pub async fn file_rejected(&self, key: &FileKey, now: Timestamp) -> Result<(), FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            let slices = self.slices_of(key).await?;
            let mut file = read.value.clone();
            file.transition(FileState::Imported, now)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::File(key), &read);
            draft.delete(Key::File(key));
            draft.put(Key::ImportedFile(key), &file)?;
            for read in &slices {
                let mut slice = read.value.clone();
                slice.transition(SliceState::Imported, now)?;
                slice.statistics = Statistics {
                    lost_records: slice.statistics.lost_records,
                    ..Statistics::default()
                };
                draft.unchanged(Key::Slice(&slice.key), read);
                draft.delete(Key::Slice(&slice.key));
                draft.put(Key::ImportedSlice(&slice.key), &slice)?;
            }
            draft.delete_below(keys::below(keys::STATISTICS, key));
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }
}
