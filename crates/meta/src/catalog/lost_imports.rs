//! Lost imports: files whose table lost confirmed rows. They are imported again while their records
//! are available, and counted as lost otherwise.

use forebay_model::{File, FileKey, Slice, SliceKey, Timestamp};

use super::files::{FileError, check_states};
use super::slices::count_lost;
use super::{Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;

impl Repo {
    /// Schedules an imported file to be imported again, with all its slices but `lost`: their
    /// records are no longer available and count as lost.
    pub async fn reimport_file(&self, key: &FileKey, lost: &[SliceKey]) -> Result<(), FileError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let read = self.imported_file(key).await?;
            let slices = keys::below(keys::IMPORTED_SLICES, key);
            let slices = self.read_all::<Slice>(&slices).await?;
            let mut file = read.value.clone();
            file.revert_import()?;
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::ImportedFile(key), &read);
            builder.delete(StoreKey::ImportedFile(key));
            builder.expect_absent(StoreKey::File(key));
            builder.put(StoreKey::File(key), &file)?;
            // A concurrent count detects by this that the file was in neither place.
            let sink_state: Option<Versioned<SinkState>> =
                self.read(StoreKey::SinkState(&key.sink)).await?;
            let mut reopened = sink_state
                .as_ref()
                .map(|b| b.value.clone())
                .unwrap_or_default();
            reopened.reopened += 1;
            builder.expect_as_read(StoreKey::SinkState(&key.sink), sink_state.as_ref());
            builder.put(StoreKey::SinkState(&key.sink), &reopened)?;
            for read in slices {
                let mut slice = read.value.clone();
                slice.revert_import()?;
                if lost.contains(&slice.key) {
                    let records = slice.statistics.records;
                    count_lost(&mut slice, records);
                }
                check_states(&file, &slice)?;
                builder.expect_unchanged(StoreKey::ImportedSlice(&slice.key), &read);
                builder.delete(StoreKey::ImportedSlice(&slice.key));
                builder.put(StoreKey::Slice(&slice.key), &slice)?;
            }
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
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
        let mut attempts = TxnAttempts::default();
        loop {
            let read = self.imported_file(key).await?;
            let file = File {
                lost_at: since,
                ..read.value.clone()
            };
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::ImportedFile(key), &read);
            builder.put(StoreKey::ImportedFile(key), &file)?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }
}
