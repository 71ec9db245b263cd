//! Streams of a log that this store does not know and that were delivered into a sink.

use std::ops::ControlFlow;

use forebay_model::{
    File, FileKey, ImportedFile, Slice, SliceKey, Statistics, Timestamp, VolumeId,
};
use serde::{Deserialize, Serialize};

use super::files::FileError;
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// A stream whose rows are in a slice: it must not be delivered again, and can be deleted. The
/// entry is created in one transaction with the slice, and removed after the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveredStream {
    pub volume: VolumeId,
    /// Name of the stream in the log.
    pub stream: String,
    /// The slice with its rows.
    pub slice: SliceKey,
}

impl Repo {
    /// Reads the entry of a delivered stream.
    pub async fn delivered_stream(
        &self,
        volume: &VolumeId,
        stream: &str,
    ) -> Result<Option<DeliveredStream>, StoreError> {
        let read: Option<Versioned<DeliveredStream>> =
            self.read(StoreKey::DeliveredStream(volume, stream)).await?;
        Ok(read.map(|delivered| delivered.value))
    }

    /// Lists the delivered streams of a volume's log that may still exist.
    pub async fn delivered_streams(
        &self,
        volume: &VolumeId,
    ) -> Result<Vec<DeliveredStream>, StoreError> {
        let below = keys::below(keys::DELIVERED_STREAMS, volume);
        let delivered = self.read_all(&below).await?;
        Ok(delivered
            .into_iter()
            .map(|delivered| delivered.value)
            .collect())
    }

    /// Reads an imported slice that is still retained.
    pub async fn imported_slice(&self, key: &SliceKey) -> Result<Option<Slice>, StoreError> {
        let file: Option<Versioned<ImportedFile>> =
            self.read(StoreKey::ImportedFile(&key.file)).await?;
        Ok(file.and_then(|file| file.full_slice(key)))
    }

    /// Whether a file is active, or imported and still retained.
    pub async fn file_exists(&self, key: &FileKey) -> Result<bool, StoreError> {
        if self.read::<File>(StoreKey::File(key)).await?.is_some() {
            return Ok(true);
        }
        let imported = StoreKey::ImportedFile(key);
        Ok(self.read::<ImportedFile>(imported).await?.is_some())
    }

    /// Adds the slice with the rows of a stream, which becomes `uploading`, and the entry of the
    /// stream, in one transaction. Returns `false` if the stream was delivered before.
    ///
    /// # Errors
    /// [`FileError::Conflict`] if the file of the slice was rotated: retry with another slice.
    pub async fn deliver_stream(
        &self,
        delivered: &DeliveredStream,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<bool, FileError> {
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let key = StoreKey::DeliveredStream(&delivered.volume, &delivered.stream);
                if txn.read::<DeliveredStream>(key).await?.is_some() {
                    return Ok(ControlFlow::Break(()));
                }
                txn.put(key, delivered)?;
                self.add_replay_slice(txn, &delivered.slice, statistics, now)
                    .await?;
                Ok(ControlFlow::Continue(()))
            })
        });
        done.await.map(|done| done.is_continue())
    }

    /// Removes the entry of a stream that was deleted.
    pub async fn remove_delivered_stream(
        &self,
        delivered: &DeliveredStream,
    ) -> Result<(), StoreError> {
        let mut txn = self.begin();
        txn.delete(StoreKey::DeliveredStream(
            &delivered.volume,
            &delivered.stream,
        ));
        self.commit(txn).await.map(drop)
    }
}
