//! Slices: from `writing` to `uploaded`.

use forebay_model::{Backoff, File, Slice, SliceKey, SliceState, Staged, Statistics, Timestamp};

use super::files::{FileError, RotatedSlice, after, check_joint};
use super::{Attempts, Draft, Repo, Revised, SLICES_MAX};
use crate::keys::{self, Key};

/// A failure of a step, and what decides when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for people.
    pub reason: String,
    /// Only a person can mend it.
    pub terminal: bool,
    /// How long to wait.
    pub backoff: Backoff,
    /// Any number; it decides the jitter.
    pub random: u64,
}

impl Repo {
    /// A slice of a file that is not imported.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], or the store.
    pub async fn slice(&self, key: &SliceKey) -> Result<Revised<Slice>, FileError> {
        let found = self.read(Key::Slice(key)).await?;
        found.ok_or_else(|| FileError::SliceNotFound(key.clone()))
    }

    /// Whether a slice is on its way, or imported and still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn knows_slice(&self, key: &SliceKey) -> Result<bool, FileError> {
        // It goes from the one place to the other, and back if its table has lost it.
        for place in [Key::Slice(key), Key::ImportedSlice(key), Key::Slice(key)] {
            if self.read::<Slice>(place).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Closes a slice that is `writing` and opens its successor in the same file and volume, later
    /// by at least a millisecond. So each volume of a `writing` file has one `writing` slice, before
    /// and after.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], [`FileError::InvalidTransition`] when it is not `writing`,
    /// [`FileError::SliceLimit`], or the store.
    pub async fn rotate_slice(
        &self,
        key: &SliceKey,
        now: Timestamp,
    ) -> Result<RotatedSlice, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let file = self.file_of(key).await?;
            let read = self.slice(key).await?;
            let mut closed = read.value.clone();
            closed.transition(SliceState::Closing, now)?;
            check_joint(&file, &closed)?;
            let successor = Slice::open(
                SliceKey {
                    opened_at: after(key.opened_at, now),
                    ..key.clone()
                },
                closed.compression,
            );
            check_joint(&file, &successor)?;
            if self.count(&keys::below(keys::SLICES, &key.file)).await? >= SLICES_MAX {
                return Err(FileError::SliceLimit(key.file.clone()));
            }
            let mut draft = Draft::default();
            // The file is still `writing`: its own rotation writes it.
            draft.unchanged(Key::File(&key.file), &file);
            draft.unchanged(Key::Slice(key), &read);
            draft.put(Key::Slice(key), &closed)?;
            draft.absent(Key::Slice(&successor.key));
            draft.put(Key::Slice(&successor.key), &successor)?;
            if let Some(revision) = self.commit(draft).await? {
                let revised = |value| Revised { value, revision };
                return Ok(RotatedSlice {
                    closed: revised(closed),
                    opened: revised(successor),
                });
            }
            attempts.again().await?;
        }
    }

    async fn file_of(&self, key: &SliceKey) -> Result<Revised<File>, FileError> {
        let found = self.read(Key::File(&key.file)).await?;
        found.ok_or_else(|| FileError::SliceNotFound(key.clone()))
    }

    /// The slice's stream is complete: from `closing` to `uploading`, with its final counts; what
    /// nodes reported of it is removed. A slice without records goes through to `uploaded`.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], [`FileError::InvalidTransition`] when it is not `closing`, or
    /// the store.
    pub async fn slice_uploading(
        &self,
        key: &SliceKey,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<Revised<Slice>, FileError> {
        self.change_slice(key, true, |slice| {
            slice.transition(SliceState::Uploading, now)?;
            slice.statistics = statistics;
            if statistics.records == 0 {
                slice.is_empty = true;
                slice.transition(SliceState::Uploaded, now)?;
            }
            Ok(())
        })
        .await
    }

    /// The slice is in staging, complete: from `uploading` to `uploaded`. `lost_records` are those
    /// that the log had counted and that were found damaged when they were read for the upload:
    /// they are counted as lost from now on, and no longer expected in the object.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], [`FileError::InvalidTransition`] when it is not `uploading`, or
    /// the store.
    pub async fn slice_uploaded(
        &self,
        key: &SliceKey,
        staged: Staged,
        lost_records: u64,
        now: Timestamp,
    ) -> Result<Revised<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            slice.transition(SliceState::Uploaded, now)?;
            uploaded(slice, staged, lost_records);
            Ok(())
        })
        .await
    }

    /// The object of an `uploaded` slice was written again, because staging had lost or damaged it.
    /// `lost_records` are those that the log has lost since the slice was uploaded.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], also when it is not `uploaded`, or the store.
    pub async fn slice_uploaded_again(
        &self,
        key: &SliceKey,
        staged: Staged,
        lost_records: u64,
    ) -> Result<Revised<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            if slice.state != SliceState::Uploaded {
                return Err(FileError::SliceNotFound(key.clone()));
            }
            uploaded(slice, staged, lost_records);
            Ok(())
        })
        .await
    }

    /// Notes that a step of a slice has failed, and when it is tried again. The state stays.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], or the store.
    pub async fn slice_failed(
        &self,
        key: &SliceKey,
        failure: &Failure,
        now: Timestamp,
    ) -> Result<Revised<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            let f = failure;
            slice
                .retry
                .failed(f.reason.clone(), f.terminal, now, &f.backoff, f.random);
            Ok(())
        })
        .await
    }

    /// Changes one slice, under the condition that its file is as it was.
    async fn change_slice(
        &self,
        key: &SliceKey,
        drop_reports: bool,
        change: impl Fn(&mut Slice) -> Result<(), FileError> + Send + Sync,
    ) -> Result<Revised<Slice>, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let file = self.file_of(key).await?;
            let read = self.slice(key).await?;
            let mut slice = read.value.clone();
            change(&mut slice)?;
            check_joint(&file, &slice)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::File(&key.file), &file);
            draft.unchanged(Key::Slice(key), &read);
            draft.put(Key::Slice(key), &slice)?;
            if drop_reports {
                draft.delete_below(keys::below(keys::STATISTICS, key));
            }
            if let Some(revision) = self.commit(draft).await? {
                return Ok(Revised {
                    value: slice,
                    revision,
                });
            }
            attempts.again().await?;
        }
    }
}

/// What is in staging, and what the log could not give any more.
fn uploaded(slice: &mut Slice, staged: Staged, lost_records: u64) {
    slice.staging_bytes = staged.bytes;
    slice.staging_crc32c = Some(staged.crc32c);
    lose(slice, lost_records);
}

/// Records that nobody has any more.
pub(super) fn lose(slice: &mut Slice, lost_records: u64) {
    let lost = lost_records.min(slice.statistics.records);
    slice.statistics.records -= lost;
    slice.statistics.lost_records += lost;
}
