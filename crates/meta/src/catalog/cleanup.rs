//! Cleanup of imported files; their totals are retained.

use forebay_model::{FileKey, SinkKey, Statistics, Timestamp};

use super::files::FileError;
use super::{Repo, Versioned, statistics};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;

impl Repo {
    /// Removes an imported file and its slices and adds their totals to the sink state, in one
    /// transaction: totals and reconciliation are unchanged. A file that is not imported is not
    /// touched.
    pub async fn remove_imported(&self, key: &FileKey) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let file = txn.imported_file(key).await?;
                let slices = file.slices.iter();
                let held = slices.fold(Statistics::default(), |sum, s| sum.plus(s.statistics));
                let held = statistics::held(&file, held);
                let mut sink_state = txn.sink_state(&key.sink).await?;
                sink_state.removed = sink_state.removed.plus(held);
                sink_state.removed_imported_rows += statistics::imported_rows(&file);
                if let Some(cleared) = &mut sink_state.cleared
                    && key.opened_at > cleared.up_to
                {
                    cleared.removed_since = cleared.removed_since.plus(held);
                }
                sink_state.removed_up_to = sink_state.removed_up_to.max(Some(key.opened_at));
                txn.delete(StoreKey::ImportedFile(key));
                // What an interrupted `reimport_file` has left.
                txn.delete_below(keys::below(keys::SLICES, key));
                txn.delete_below(keys::below(keys::STATISTICS, key));
                txn.put(StoreKey::SinkState(&key.sink), &sink_state)?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Opening time of the newest removed file of the sink: an unknown stream of that file or an
    /// earlier one belongs to a removed file.
    pub async fn removed_up_to(&self, sink: &SinkKey) -> Result<Option<Timestamp>, FileError> {
        let sink_state: Option<Versioned<SinkState>> = self.read(StoreKey::SinkState(sink)).await?;
        Ok(sink_state.and_then(|b| b.removed_up_to))
    }
}
