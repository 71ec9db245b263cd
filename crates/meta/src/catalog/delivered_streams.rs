//! Streams of a log that this store does not know, brought into a sink after all.

use forebay_model::{File, FileKey, Slice, SliceKey, Statistics, Timestamp, VolumeId};

use super::files::FileError;
use super::{Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// A stream whose rows are in a slice: it must not be brought in again, and can be deleted. The mark
/// comes into being in one transaction with the slice, and goes after the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredStream {
    /// The volume in whose log it is.
    pub volume: VolumeId,
    /// Its name there.
    pub stream: String,
    /// Where its rows are.
    pub slice: SliceKey,
}

impl Repo {
    /// The mark of a stream, if it was brought in.
    ///
    /// # Errors
    /// The store's.
    pub async fn delivered_stream(
        &self,
        volume: &VolumeId,
        stream: &str,
    ) -> Result<Option<DeliveredStream>, StoreError> {
        let read: Option<Versioned<DeliveredStream>> =
            self.read(StoreKey::DeliveredStream(volume, stream)).await?;
        Ok(read.map(|delivered| delivered.value))
    }

    /// All streams of a volume's log that were brought in and may still be there.
    ///
    /// # Errors
    /// The store's.
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

    /// A slice that was imported and is still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn imported_slice(&self, key: &SliceKey) -> Result<Option<Slice>, StoreError> {
        let read: Option<Versioned<Slice>> = self.read(StoreKey::ImportedSlice(key)).await?;
        Ok(read.map(|slice| slice.value))
    }

    /// Whether a file is on its way, or imported and still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn file_exists(&self, key: &FileKey) -> Result<bool, StoreError> {
        for location in [StoreKey::File(key), StoreKey::ImportedFile(key)] {
            if self.read::<File>(location).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The slice with the rows of a stream and the mark of the stream, in one transaction. The slice
    /// is `uploading` then. `false` when the stream was brought in before.
    ///
    /// # Errors
    /// [`FileError::Conflict`] when the file of the slice was rotated meanwhile: take another slice.
    /// Or the store's.
    pub async fn deliver_stream(
        &self,
        delivered: &DeliveredStream,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<bool, FileError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let key = StoreKey::DeliveredStream(&delivered.volume, &delivered.stream);
            if self.read::<DeliveredStream>(key).await?.is_some() {
                return Ok(false);
            }
            let mut builder = TxnBuilder::default();
            builder.expect_absent(key);
            builder.put(key, delivered)?;
            self.add_replay_slice(&mut builder, &delivered.slice, statistics, now)
                .await?;
            if self.commit(builder).await?.is_some() {
                return Ok(true);
            }
            attempts.retry().await?;
        }
    }

    /// Forgets the mark of a stream that was deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_delivered_stream(
        &self,
        delivered: &DeliveredStream,
    ) -> Result<(), StoreError> {
        let mut builder = TxnBuilder::default();
        builder.delete(StoreKey::DeliveredStream(
            &delivered.volume,
            &delivered.stream,
        ));
        self.commit(builder).await.map(drop)
    }
}
