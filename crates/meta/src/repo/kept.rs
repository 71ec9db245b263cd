//! Streams of a log that this store does not know, brought into a sink after all.

use forebay_model::{File, FileKey, Slice, SliceKey, Statistics, Timestamp, VolumeId};

use super::files::FileError;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::StoreError;

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
        let read: Option<Revised<DeliveredStream>> =
            self.read(Key::DeliveredStream(volume, stream)).await?;
        Ok(read.map(|mark| mark.value))
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
        let marks = self.read_all(&below).await?;
        Ok(marks.into_iter().map(|mark| mark.value).collect())
    }

    /// A slice that was imported and is still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn imported_slice(&self, key: &SliceKey) -> Result<Option<Slice>, StoreError> {
        let read: Option<Revised<Slice>> = self.read(Key::ImportedSlice(key)).await?;
        Ok(read.map(|slice| slice.value))
    }

    /// Whether a file is on its way, or imported and still remembered.
    ///
    /// # Errors
    /// The store's.
    pub async fn knows_file(&self, key: &FileKey) -> Result<bool, StoreError> {
        for place in [Key::File(key), Key::ImportedFile(key)] {
            if self.read::<File>(place).await?.is_some() {
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
        mark: &DeliveredStream,
        statistics: Statistics,
        now: Timestamp,
    ) -> Result<bool, FileError> {
        let mut attempts = Attempts::default();
        loop {
            let key = Key::DeliveredStream(&mark.volume, &mark.stream);
            if self.read::<DeliveredStream>(key).await?.is_some() {
                return Ok(false);
            }
            let mut draft = Draft::default();
            draft.absent(key);
            draft.put(key, mark)?;
            self.draft_replay(&mut draft, &mark.slice, statistics, now)
                .await?;
            if self.commit(draft).await?.is_some() {
                return Ok(true);
            }
            attempts.again().await?;
        }
    }

    /// Forgets the mark of a stream that was deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_delivered(&self, mark: &DeliveredStream) -> Result<(), StoreError> {
        let mut draft = Draft::default();
        draft.delete(Key::DeliveredStream(&mark.volume, &mark.stream));
        self.commit(draft).await.map(drop)
    }
}
