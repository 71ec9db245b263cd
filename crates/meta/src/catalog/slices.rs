//! Slices: from `writing` to `uploaded`.

use forebay_model::{
    Backoff, File, Slice, SliceKey, SliceState, StagedChecksum, Statistics, Timestamp,
};

use super::files::{FileError, RotatedSlice, check_states, next_opened_at};
use super::{Repo, SLICES_MAX, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};

/// A failure of a step, and what decides when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
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
    pub async fn slice(&self, key: &SliceKey) -> Result<Versioned<Slice>, FileError> {
        let found = self.read(StoreKey::Slice(key)).await?;
        found.ok_or_else(|| FileError::SliceNotFound(key.clone()))
    }

    /// Whether a slice is on its way, or imported and still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn slice_exists(&self, key: &SliceKey) -> Result<bool, FileError> {
        // It goes from the one place to the other, and back if its table has lost it.
        for location in [
            StoreKey::Slice(key),
            StoreKey::ImportedSlice(key),
            StoreKey::Slice(key),
        ] {
            if self.read::<Slice>(location).await?.is_some() {
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
        let mut attempts = TxnAttempts::default();
        loop {
            let file = self.slice_file(key).await?;
            let read = self.slice(key).await?;
            let mut closed = read.value.clone();
            closed.transition(SliceState::Closing, now)?;
            check_states(&file, &closed)?;
            let successor = Slice::open(
                SliceKey {
                    opened_at: next_opened_at(key.opened_at, now),
                    ..key.clone()
                },
                closed.compression,
            );
            check_states(&file, &successor)?;
            if self.count(&keys::below(keys::SLICES, &key.file)).await? >= SLICES_MAX {
                return Err(FileError::SliceLimit(key.file.clone()));
            }
            let mut builder = TxnBuilder::default();
            // The file is still `writing`: its own rotation writes it.
            builder.expect_unchanged(StoreKey::File(&key.file), &file);
            builder.expect_unchanged(StoreKey::Slice(key), &read);
            builder.put(StoreKey::Slice(key), &closed)?;
            builder.expect_absent(StoreKey::Slice(&successor.key));
            builder.put(StoreKey::Slice(&successor.key), &successor)?;
            if let Some(revision) = self.commit(builder).await? {
                let revised = |value| Versioned { value, revision };
                return Ok(RotatedSlice {
                    closed: revised(closed),
                    opened: revised(successor),
                });
            }
            attempts.retry().await?;
        }
    }

    async fn slice_file(&self, key: &SliceKey) -> Result<Versioned<File>, FileError> {
        let found = self.read(StoreKey::File(&key.file)).await?;
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
    ) -> Result<Versioned<Slice>, FileError> {
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
        staged: StagedChecksum,
        lost_records: u64,
        now: Timestamp,
    ) -> Result<Versioned<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            slice.transition(SliceState::Uploaded, now)?;
            set_staged(slice, staged, lost_records);
            Ok(())
        })
        .await
    }

    /// The object of an `uploaded` slice was written again, because staging had lost or damaged it.
    /// `lost_records` are those that the log has lost since the slice was uploaded.
    ///
    /// # Errors
    /// [`FileError::SliceNotFound`], also when it is not `uploaded`, or the store.
    pub async fn slice_reuploaded(
        &self,
        key: &SliceKey,
        staged: StagedChecksum,
        lost_records: u64,
    ) -> Result<Versioned<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            if slice.state != SliceState::Uploaded {
                return Err(FileError::SliceNotFound(key.clone()));
            }
            set_staged(slice, staged, lost_records);
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
        failure: &StepFailure,
        now: Timestamp,
    ) -> Result<Versioned<Slice>, FileError> {
        self.change_slice(key, false, |slice| {
            let f = failure;
            slice
                .retry
                .record_failure(f.reason.clone(), f.terminal, now, &f.backoff, f.random);
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
    ) -> Result<Versioned<Slice>, FileError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let file = self.slice_file(key).await?;
            let read = self.slice(key).await?;
            let mut slice = read.value.clone();
            change(&mut slice)?;
            check_states(&file, &slice)?;
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::File(&key.file), &file);
            builder.expect_unchanged(StoreKey::Slice(key), &read);
            builder.put(StoreKey::Slice(key), &slice)?;
            if drop_reports {
                builder.delete_below(keys::below(keys::STATISTICS, key));
            }
            if let Some(revision) = self.commit(builder).await? {
                return Ok(Versioned {
                    value: slice,
                    revision,
                });
            }
            attempts.retry().await?;
        }
    }
}

/// What is in staging, and what the log could not give any more.
fn set_staged(slice: &mut Slice, staged: StagedChecksum, lost_records: u64) {
    slice.staging_bytes = staged.bytes;
    slice.staging_crc32c = Some(staged.crc32c);
    count_lost(slice, lost_records);
}

/// Records that nobody has any more.
pub(super) fn count_lost(slice: &mut Slice, lost_records: u64) {
    let lost = lost_records.min(slice.statistics.records);
    slice.statistics.records -= lost;
    slice.statistics.lost_records += lost;
}
