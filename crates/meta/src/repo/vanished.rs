//! Files whose table has lost what it had confirmed: imported again while somebody has their rows,
//! counted as lost otherwise.

use forebay_model::{File, FileKey, Slice, SliceKey, Timestamp};

use super::files::{FileError, check_joint};
use super::slices::lose;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::stored::book::Book;

impl Repo {
    /// An imported file is to be imported again, with all its slices but `gone`: nobody has the
    /// records of those any more, and they count as lost.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`] when there is no imported file of that key, or the store.
    pub async fn import_again(&self, key: &FileKey, gone: &[SliceKey]) -> Result<(), FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.imported_file(key).await?;
            let slices = keys::below(keys::IMPORTED_SLICES, key);
            let slices = self.read_all::<Slice>(&slices).await?;
            let mut file = read.value.clone();
            file.import_again()?;
            let mut draft = Draft::default();
            draft.unchanged(Key::ImportedFile(key), &read);
            draft.delete(Key::ImportedFile(key));
            draft.absent(Key::File(key));
            draft.put(Key::File(key), &file)?;
            // Whoever counts meanwhile sees by this that a file was in neither place.
            let book: Option<Revised<Book>> = self.read(Key::Book(&key.sink)).await?;
            let mut reopened = book.as_ref().map(|b| b.value.clone()).unwrap_or_default();
            reopened.reopened += 1;
            draft.as_read(Key::Book(&key.sink), book.as_ref());
            draft.put(Key::Book(&key.sink), &reopened)?;
            for read in slices {
                let mut slice = read.value.clone();
                slice.import_again()?;
                if gone.contains(&slice.key) {
                    let records = slice.statistics.records;
                    lose(&mut slice, records);
                }
                check_joint(&file, &slice)?;
                draft.unchanged(Key::ImportedSlice(&slice.key), &read);
                draft.delete(Key::ImportedSlice(&slice.key));
                draft.put(Key::Slice(&slice.key), &slice)?;
            }
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }

    /// The slices of an imported file.
    ///
    /// # Errors
    /// The store's.
    pub async fn imported_slices(&self, key: &FileKey) -> Result<Vec<Slice>, FileError> {
        let slices = keys::below(keys::IMPORTED_SLICES, key);
        let slices = self.read_all::<Slice>(&slices).await?;
        Ok(slices.into_iter().map(|s| s.value).collect())
    }

    /// Notes that the rows of an imported file are lost since then, or (`None`) that they are not:
    /// the ledger has the import again.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`] when there is no imported file of that key, or the store.
    pub async fn imported_file_lost(
        &self,
        key: &FileKey,
        since: Option<Timestamp>,
    ) -> Result<(), FileError> {
        let mut attempts = Attempts::default();
        loop {
            let read = self.imported_file(key).await?;
            let file = File {
                lost_at: since,
                ..read.value.clone()
            };
            let mut draft = Draft::default();
            draft.unchanged(Key::ImportedFile(key), &read);
            draft.put(Key::ImportedFile(key), &file)?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }
}
