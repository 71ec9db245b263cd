//! Forgetting finished files, without forgetting what they held.

use forebay_model::{FileKey, SinkKey, Slice, Statistics, Timestamp};

use super::files::FileError;
use super::{Attempts, Draft, Repo, Revised, statistics};
use crate::keys::{self, Key};
use crate::stored::book::Book;

impl Repo {
    /// Removes an imported file and its slices and adds what they held to the sink's book, in one
    /// transaction: totals and balance are the same before and after. A file that is not imported
    /// is not touched.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`] when there is no imported file of that key, or the store.
    pub async fn remove_imported(&self, key: &FileKey) -> Result<(), FileError> {
        let mut attempts = Attempts::default();
        loop {
            let file = self.imported_file(key).await?;
            let slices = keys::below(keys::IMPORTED_SLICES, key);
            let held = self
                .read_all::<Slice>(&slices)
                .await?
                .iter()
                .fold(Statistics::default(), |sum, s| sum.plus(s.statistics));
            let held = statistics::held(&file, held);
            let read = self.read::<Book>(Key::Book(&key.sink)).await?;
            let mut book = read
                .as_ref()
                .map_or_else(Book::default, |b| b.value.clone());
            book.removed = book.removed.plus(held);
            book.removed_imported_rows += statistics::imported_rows(&file);
            if let Some(cleared) = &mut book.cleared
                && key.opened_at > cleared.up_to
            {
                cleared.removed_since = cleared.removed_since.plus(held);
            }
            book.removed_up_to = book.removed_up_to.max(Some(key.opened_at));
            let mut draft = Draft::default();
            draft.unchanged(Key::ImportedFile(key), &file);
            draft.delete(Key::ImportedFile(key));
            draft.delete_below(slices);
            draft.delete_below(keys::below(keys::STATISTICS, key));
            draft.as_read(Key::Book(&key.sink), read.as_ref());
            draft.put(Key::Book(&key.sink), &book)?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }

    /// When the newest file was opened of those of the sink that were removed: a stream of an
    /// earlier or the same file that the store does not know is one that it has forgotten, not one
    /// that it never knew.
    ///
    /// # Errors
    /// The store's.
    pub async fn removed_up_to(&self, sink: &SinkKey) -> Result<Option<Timestamp>, FileError> {
        let book: Option<Revised<Book>> = self.read(Key::Book(sink)).await?;
        Ok(book.and_then(|b| b.removed_up_to))
    }
}
