//! Files: from `closing` to `imported`.

use forebay_model::{File, FileKey, FileState, Slice, SliceState, TableSink, Timestamp};

use super::files::{FileError, check_states};
use super::slices::StepFailure;
use super::transaction::TxnBuilder;
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};

impl Repo {
    /// The file is completely in staging: from `closing` to `importing`. A file without records
    /// becomes `imported`, with its slices.
    ///
    /// # Errors
    /// [`FileError::SlicesNotUploaded`] if a slice is not in staging.
    pub async fn file_importing(
        &self,
        key: &FileKey,
        now: Timestamp,
    ) -> Result<Versioned<File>, FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.file(key).await?.value;
                let slices = self.file_slices(key).await?;
                file.transition(FileState::Importing, now)?;
                // No slice is added to a file that is not `writing`, and none goes back: the file's
                // precondition covers them.
                let left = slices.iter().filter(|s| s.state != SliceState::Uploaded);
                let left = left.count();
                if left > 0 {
                    return Err(FileError::SlicesNotUploaded {
                        file: key.clone(),
                        left,
                    });
                }
                file.is_empty = slices.iter().all(|s| s.is_empty);
                if file.is_empty {
                    add_import(txn, &mut file, &slices, now)?;
                } else {
                    txn.put(StoreKey::File(key), &file)?;
                }
                Ok(file)
            })
        })
        .await
    }

    /// The file's rows are in the table: the file and all its slices become `imported`, together.
    /// `rows` is the number that the table accepted.
    pub async fn file_imported(
        &self,
        key: &FileKey,
        rows: u64,
        now: Timestamp,
    ) -> Result<Versioned<File>, FileError> {
        self.file_imported_by(key, rows, None, now).await
    }

    /// As [`Self::file_imported`]; `by` is the definition of the import if it differs from that of
    /// the opening: a later definition of the sink, or the backend that the default one refers to.
    pub async fn file_imported_by(
        &self,
        key: &FileKey,
        rows: u64,
        by: Option<&TableSink>,
        now: Timestamp,
    ) -> Result<Versioned<File>, FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.file(key).await?.value;
                let slices = self.file_slices(key).await?;
                file.imported_rows = rows;
                if let Some(by) = by {
                    file.table = by.clone();
                }
                add_import(txn, &mut file, &slices, now)?;
                Ok(file)
            })
        })
        .await
    }

    /// Records a failed step of a file and the time of its retry. The state stays.
    pub async fn file_failed(
        &self,
        key: &FileKey,
        failure: &StepFailure,
        now: Timestamp,
    ) -> Result<Versioned<File>, FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.file(key).await?.value;
                let f = failure;
                file.retry
                    .record_failure(f.reason.clone(), f.terminal, now, &f.backoff, f.random);
                txn.put(StoreKey::File(key), &file)?;
                Ok(file)
            })
        })
        .await
    }
}

/// Moves an `importing` file and its slices to the imported ones. Two operations for each slice and
/// three more: within the store's limit for [`super::SLICES_MAX`].
fn add_import(
    txn: &mut TxnBuilder<'_>,
    file: &mut File,
    slices: &[Versioned<Slice>],
    now: Timestamp,
) -> Result<(), FileError> {
    file.transition(FileState::Imported, now)?;
    txn.delete(StoreKey::File(&file.key));
    txn.put(StoreKey::ImportedFile(&file.key), file)?;
    for read in slices {
        let mut slice = read.value.clone();
        slice.transition(SliceState::Imported, now)?;
        check_states(file, &slice)?;
        txn.expect_unchanged(StoreKey::Slice(&slice.key), read);
        txn.delete(StoreKey::Slice(&slice.key));
        txn.put(StoreKey::ImportedSlice(&slice.key), &slice)?;
    }
    // Reports that arrived after the slice had its final counts.
    txn.delete_below(keys::below(keys::STATISTICS, &file.key));
    Ok(())
}
