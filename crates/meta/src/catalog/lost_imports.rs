//! Lost imports: files whose table lost confirmed rows. They are imported again while their records
//! are available, and counted as lost otherwise.

use forebay_model::{FileKey, ImportedFile, Slice, SliceKey, Timestamp};

use super::files::{FileError, check_states};
use super::slices::count_lost;
use super::transaction::TxnAttempts;
use super::{Repo, Versioned};
use crate::catalog::keys::StoreKey;

/// Maximum number of slices in one transaction.
const SLICES_PER_TXN: usize = 100;

impl Repo {
    /// Schedules an imported file to be imported again, with all its slices but `lost`: their
    /// records are no longer available and count as lost.
    ///
    /// If its slices do not fit into one transaction with it, the first ones are written before. A
    /// slice of a file that is not active has no effect, and a repeated call writes it again.
    pub async fn reimport_file(&self, key: &FileKey, lost: &[SliceKey]) -> Result<(), FileError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let read = self.imported_file(key).await?;
            let slices = self.reverted_slices(&read, lost)?;
            let (before, last) = slices.split_at(slices.len().saturating_sub(SLICES_PER_TXN));
            if self.put_reverted(&read, before).await? && self.revert_file(&read, last).await? {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    fn reverted_slices(
        &self,
        file: &ImportedFile,
        lost: &[SliceKey],
    ) -> Result<Vec<Slice>, FileError> {
        let slices = file.full_slices().map(|mut slice| {
            slice.revert_import()?;
            if lost.contains(&slice.key) {
                let records = slice.statistics.records;
                count_lost(&mut slice, records);
            }
            Ok(slice)
        });
        slices.collect()
    }

    /// Writes slices while their file is unchanged; false if it has changed.
    async fn put_reverted(
        &self,
        file: &Versioned<ImportedFile>,
        slices: &[Slice],
    ) -> Result<bool, FileError> {
        for some in slices.chunks(SLICES_PER_TXN) {
            let mut txn = self.begin();
            txn.expect_unchanged(StoreKey::ImportedFile(&file.key), file);
            for slice in some {
                txn.put(StoreKey::Slice(&slice.key), slice)?;
            }
            if self.commit(txn).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the file active again, with the last of its slices; false if a precondition failed.
    async fn revert_file(
        &self,
        read: &Versioned<ImportedFile>,
        slices: &[Slice],
    ) -> Result<bool, FileError> {
        let key = &read.key;
        let mut file = read.file.clone();
        file.revert_import()?;
        let mut txn = self.begin();
        txn.expect_unchanged(StoreKey::ImportedFile(key), read);
        txn.delete(StoreKey::ImportedFile(key));
        txn.expect_absent(StoreKey::File(key));
        txn.put(StoreKey::File(key), &file)?;
        // A concurrent count detects by this that the file was in neither place.
        let mut sink_state = txn.sink_state(&key.sink).await?;
        sink_state.reopened += 1;
        txn.put(StoreKey::SinkState(&key.sink), &sink_state)?;
        for slice in slices {
            check_states(&file, slice)?;
            txn.put(StoreKey::Slice(&slice.key), slice)?;
        }
        Ok(self.commit(txn).await?.is_some())
    }

    /// Records since when the rows of an imported file are lost; with `None`, that they are not:
    /// the ledger has the import again.
    pub async fn imported_file_lost(
        &self,
        key: &FileKey,
        since: Option<Timestamp>,
    ) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut imported = txn.imported_file(key).await?.value;
                imported.file.lost_at = since;
                txn.put(StoreKey::ImportedFile(key), &imported)?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }
}
