//! Slices: from `writing` to `uploaded`.

use forebay_model::{
    Backoff, File, Slice, SliceKey, SliceState, StagedChecksum, Statistics, Timestamp,
};

use super::files::{FileError, RotatedSlice, check_states, next_opened_at};
use super::transaction::TxnBuilder;
use super::{Repo, SLICES_MAX, Versioned};
use crate::catalog::keys::{self, StoreKey};

/// A failed step, with the backoff of its retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    pub reason: String,
    /// Only an operator can fix it.
    pub terminal: bool,
    /// Wait before the retry.
    pub backoff: Backoff,
    /// Random number for the jitter.
    pub random: u64,
}

impl Repo {
    /// Reads a slice of a file that is not imported.
    pub async fn slice(&self, key: &SliceKey) -> Result<Versioned<Slice>, FileError> {
        let found = self.read(StoreKey::Slice(key)).await?;
        found.ok_or_else(|| FileError::SliceNotFound(key.clone()))
    }

    /// Whether a slice is active, or imported and still retained.
    pub async fn slice_exists(&self, key: &SliceKey) -> Result<bool, FileError> {
        // A slice moves from active to imported, and back if its table has lost it.
        Ok(self.read::<Slice>(StoreKey::Slice(key)).await?.is_some()
            || self.imported_slice(key).await?.is_some()
            || self.read::<Slice>(StoreKey::Slice(key)).await?.is_some())
    }

    /// Closes a `writing` slice and opens its successor in the same file and volume, at least a
    /// millisecond later. So each volume of a `writing` file has one `writing` slice, before and
    /// after.
    pub async fn rotate_slice(
        &self,
        key: &SliceKey,
        now: Timestamp,
    ) -> Result<RotatedSlice, FileError> {
        let done = self.transact(|txn| {
            Box::pin(async move {
                // The file is still `writing`: its own rotation writes it.
                let (file, read) = txn.slice_in_file(key).await?;
                let mut closed = read.value;
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
                txn.put(StoreKey::Slice(key), &closed)?;
                txn.expect_absent(StoreKey::Slice(&successor.key));
                txn.put(StoreKey::Slice(&successor.key), &successor)?;
                Ok((closed, successor))
            })
        });
        let Versioned {
            value: (closed, opened),
            revision,
        } = done.await?;
        let revised = |value| Versioned { value, revision };
        Ok(RotatedSlice {
            closed: revised(closed),
            opened: revised(opened),
        })
    }

    /// The slice's stream is complete: from `closing` to `uploading`, with its final counts, which
    /// replace the reports of nodes. A slice without records becomes `uploaded`.
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

    /// The slice is completely in staging: from `uploading` to `uploaded`. `lost_records` were
    /// counted by the log and found damaged during the upload: they count as lost, and are not
    /// expected in the object.
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

    /// The object of an `uploaded` slice was uploaded again, because staging had lost or damaged
    /// it. `lost_records` were lost by the log since the upload. Returns
    /// [`FileError::SliceNotFound`] also if the slice is not `uploaded`.
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

    /// Records a failed step of a slice and the time of its retry. The state stays.
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

    /// Changes a slice, with its unchanged file as a precondition.
    async fn change_slice(
        &self,
        key: &SliceKey,
        drop_reports: bool,
        change: impl Fn(&mut Slice) -> Result<(), FileError> + Send + Sync,
    ) -> Result<Versioned<Slice>, FileError> {
        let change = &change;
        self.transact(|txn| {
            Box::pin(async move {
                let (file, read) = txn.slice_in_file(key).await?;
                let mut slice = read.value;
                change(&mut slice)?;
                check_states(&file, &slice)?;
                txn.put(StoreKey::Slice(key), &slice)?;
                if drop_reports {
                    txn.delete_below(keys::below(keys::STATISTICS, key));
                }
                Ok(slice)
            })
        })
        .await
    }
}

impl TxnBuilder<'_> {
    /// Reads a slice of a file that is not imported, and the file; both are preconditions.
    async fn slice_in_file(
        &mut self,
        key: &SliceKey,
    ) -> Result<(Versioned<File>, Versioned<Slice>), FileError> {
        let file = self.read(StoreKey::File(&key.file)).await?;
        let slice = self.read(StoreKey::Slice(key)).await?;
        file.zip(slice)
            .ok_or_else(|| FileError::SliceNotFound(key.clone()))
    }
}

/// Records the staged object, and records that the log has lost.
fn set_staged(slice: &mut Slice, staged: StagedChecksum, lost_records: u64) {
    slice.staging_bytes = staged.bytes;
    slice.staging_crc32c = Some(staged.crc32c);
    count_lost(slice, lost_records);
}

/// Moves records to the lost ones.
pub(super) fn count_lost(slice: &mut Slice, lost_records: u64) {
    let lost = lost_records.min(slice.statistics.records);
    slice.statistics.records -= lost;
    slice.statistics.lost_records += lost;
}
