//! Files: from `closing` to `imported`.

use forebay_model::{File, FileKey, FileState, Slice, SliceState, TableSink, Timestamp};

use super::files::{FileError, check_joint};
use super::slices::Failure;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};

impl Repo {
    /// All of the file is in staging: from `closing` to `importing`. A file without records goes
    /// through to `imported`, with its slices.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], [`FileError::InvalidTransition`] when it is not `closing`,
    /// [`FileError::SlicesNotUploaded`], or the store.
    pub async fn file_importing(
        &self,
        key: &FileKey,
        now: Timestamp,
    ) -> Result<Revised<File>, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            let slices = self.slices_of(key).await?;
            let mut file = read.value.clone();
            file.transition(FileState::Importing, now)?;
            let left = slices.iter().filter(|s| s.state != SliceState::Uploaded);
            let left = left.count();
            if left > 0 {
                return Err(FileError::SlicesLeft {
                    file: key.clone(),
                    left,
                });
            }
            file.is_empty = slices.iter().all(|s| s.is_empty);
            let mut draft = Draft::default();
            // No slice is added to a file that is not `writing`, and none goes back: the file
            // stands for them.
            draft.unchanged(Key::File(key), &read);
            if file.is_empty {
                draft_import(&mut draft, &mut file, &slices, now)?;
            } else {
                draft.put(Key::File(key), &file)?;
            }
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: file,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// The file's rows are in the table: the file and all its slices become `imported`, together.
    /// `rows` is how many the table took.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], [`FileError::InvalidTransition`] when it is not `importing`, or
    /// the store.
    pub async fn file_imported(
        &self,
        key: &FileKey,
        rows: u64,
        now: Timestamp,
    ) -> Result<Revised<File>, FileError> {
        self.file_imported_by(key, rows, None, now).await
    }

    /// As [`Self::file_imported`]; `by` is what it was imported by, where that is not what it was
    /// opened with: a later definition of the sink, or the backend that the default one stands for.
    ///
    /// # Errors
    /// As [`Self::file_imported`].
    pub async fn file_imported_by(
        &self,
        key: &FileKey,
        rows: u64,
        by: Option<&TableSink>,
        now: Timestamp,
    ) -> Result<Revised<File>, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            let slices = self.slices_of(key).await?;
            let mut file = read.value.clone();
            file.imported_rows = rows;
            if let Some(by) = by {
                file.table = by.clone();
            }
            let mut draft = Draft::default();
            draft.unchanged(Key::File(key), &read);
            draft_import(&mut draft, &mut file, &slices, now)?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: file,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }

    /// Notes that a step of a file has failed, and when it is tried again. The state stays.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn file_failed(
        &self,
        key: &FileKey,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<Revised<File>, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.file(key).await?;
            let mut file = read.value.clone();
            let f = failure;
            file.retry
                .failed(f.reason.clone(), f.terminal, now, &f.backoff, f.random);
            let mut draft = Draft::default();
            draft.unchanged(Key::File(key), &read);
            draft.put(Key::File(key), &file)?;
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: file,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }
}

/// Moves an `importing` file and its slices to the imported ones. Two operations a slice and three
/// more: within the store's limit for [`super::SLICES_MAX`].
fn draft_import(
    draft: &mut Draft,
    file: &mut File,
    slices: &[Revised<Slice>],
    now: Timestamp,
) -> Result<(), FileError> {
    file.transition(FileState::Imported, now)?;
    draft.delete(Key::File(&file.key));
    draft.put(Key::ImportedFile(&file.key), file)?;
    for read in slices {
        let mut slice = read.value.clone();
        slice.transition(SliceState::Imported, now)?;
        check_joint(file, &slice)?;
        draft.unchanged(Key::Slice(&slice.key), read);
        draft.delete(Key::Slice(&slice.key));
        draft.put(Key::ImportedSlice(&slice.key), &slice)?;
    }
    // Reports that came late, after the slice had its final counts.
    draft.delete_below(keys::below(keys::STATISTICS, &file.key));
    Ok(())
}
