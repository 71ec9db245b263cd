//! Files: from `closing` to `imported`.

use forebay_model::{
    File, FileKey, FileState, ImportedFile, Slice, SliceState, TableSink, Timestamp,
};

use super::files::FileError;
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
                let slices = txn.unchanged_slices(self, key).await?;
                file.transition(FileState::Importing, now)?;
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
                    file.transition(FileState::Imported, now)?;
                    txn.put_imported(&file, slices.into_iter().map(|s| s.value))?;
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
                let slices = txn.unchanged_slices(self, key).await?;
                file.imported_rows = rows;
                if let Some(by) = by {
                    file.table = by.clone();
                }
                file.transition(FileState::Imported, now)?;
                txn.put_imported(&file, slices.into_iter().map(|s| s.value))?;
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

impl TxnBuilder<'_> {
    /// Moves a file that has become `imported` and its slices to the imported ones: one entry, so
    /// that the transaction is small however many slices there are.
    pub(super) fn put_imported(
        &mut self,
        file: &File,
        slices: impl IntoIterator<Item = Slice>,
    ) -> Result<(), FileError> {
        let imported = ImportedFile::new(file.clone(), slices)?;
        self.delete(StoreKey::File(&file.key));
        self.put(StoreKey::ImportedFile(&file.key), &imported)?;
        self.delete_below(keys::below(keys::SLICES, &file.key));
        // Reports that arrived after the slice had its final counts.
        self.delete_below(keys::below(keys::STATISTICS, &file.key));
        Ok(())
    }
}
