//! Cleanup of imported files; their totals are retained.

use forebay_model::{FileKey, SinkKey, Slice, Statistics, Timestamp};

use super::files::FileError;
use super::{Repo, TxnAttempts, TxnBuilder, Versioned, statistics};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;

impl Repo {
    /// Removes an imported file and its slices and adds their totals to the sink state, in one
    /// transaction: totals and reconciliation are unchanged. A file that is not imported is not
    /// touched.
    pub async fn remove_imported(&self, key: &FileKey) -> Result<(), FileError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let file = self.imported_file(key).await?;
            let slices = keys::below(keys::IMPORTED_SLICES, key);
            let held = self
                .read_all::<Slice>(&slices)
                .await?
                .iter()
                .fold(Statistics::default(), |sum, s| sum.plus(s.statistics));
            let held = statistics::held(&file, held);
            let read = self
                .read::<SinkState>(StoreKey::SinkState(&key.sink))
                .await?;
            let mut sink_state = read
                .as_ref()
                .map_or_else(SinkState::default, |b| b.value.clone());
            sink_state.removed = sink_state.removed.plus(held);
            sink_state.removed_imported_rows += statistics::imported_rows(&file);
            if let Some(cleared) = &mut sink_state.cleared
                && key.opened_at > cleared.up_to
            {
                cleared.removed_since = cleared.removed_since.plus(held);
            }
            sink_state.removed_up_to = sink_state.removed_up_to.max(Some(key.opened_at));
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::ImportedFile(key), &file);
            builder.delete(StoreKey::ImportedFile(key));
            builder.delete_below(slices);
            builder.delete_below(keys::below(keys::STATISTICS, key));
            builder.expect_as_read(StoreKey::SinkState(&key.sink), read.as_ref());
            builder.put(StoreKey::SinkState(&key.sink), &sink_state)?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    /// Opening time of the newest removed file of the sink: an unknown stream of that file or an
    /// earlier one belongs to a removed file.
    pub async fn removed_up_to(&self, sink: &SinkKey) -> Result<Option<Timestamp>, FileError> {
        let sink_state: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
        Ok(sink_state.and_then(|b| b.removed_up_to))
    }
}
