//! Lost imports: files whose table lost confirmed rows. They are imported again while their records
//! are available, and counted as lost otherwise.

use forebay_model::{File, FileKey, Slice, SliceKey, Timestamp};

use super::Repo;
use super::files::{FileError, check_states};
use super::slices::count_lost;
use crate::catalog::keys::{self, StoreKey};

impl Repo {
    /// Schedules an imported file to be imported again, with all its slices but `lost`: their
    /// records are no longer available and count as lost.
    pub async fn reimport_file(&self, key: &FileKey, lost: &[SliceKey]) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.imported_file(key).await?.value;
                let slices = keys::below(keys::IMPORTED_SLICES, key);
                let slices = self.read_all::<Slice>(&slices).await?;
                file.revert_import()?;
                txn.delete(StoreKey::ImportedFile(key));
                txn.expect_absent(StoreKey::File(key));
                txn.put(StoreKey::File(key), &file)?;
                // A concurrent count detects by this that the file was in neither place.
                let mut sink_state = txn.sink_state(&key.sink).await?;
                sink_state.reopened += 1;
                txn.put(StoreKey::SinkState(&key.sink), &sink_state)?;
                for read in slices {
                    let mut slice = read.value.clone();
                    slice.revert_import()?;
                    if lost.contains(&slice.key) {
                        let records = slice.statistics.records;
                        count_lost(&mut slice, records);
                    }
                    check_states(&file, &slice)?;
                    txn.expect_unchanged(StoreKey::ImportedSlice(&slice.key), &read);
                    txn.delete(StoreKey::ImportedSlice(&slice.key));
                    txn.put(StoreKey::Slice(&slice.key), &slice)?;
                }
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Reads the slices of an imported file.
    pub async fn imported_slices(&self, key: &FileKey) -> Result<Vec<Slice>, FileError> {
        let slices = keys::below(keys::IMPORTED_SLICES, key);
        let slices = self.read_all::<Slice>(&slices).await?;
        Ok(slices.into_iter().map(|s| s.value).collect())
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
                let file = File {
                    lost_at: since,
                    ..txn.imported_file(key).await?.value
                };
                txn.put(StoreKey::ImportedFile(key), &file)?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }
}
