//! Forgetting a deleted source for good.
//!
//! Nothing of a source is forgotten while records of it are on their way: they were acknowledged,
//! so they reach their tables first.

use forebay_model::{Sink, SourceKey, Stamp, Statistics};

use super::audit::Action;
use super::definitions::DefinitionError;
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::{Revision, StoreError};
use crate::stored::book::{Book, Cleared};

/// Books that go into one transaction.
const BOOKS_PER_TXN: usize = 1000;

impl Repo {
    /// How many files of a source are on their way, deleted sinks included.
    ///
    /// # Errors
    /// The store's.
    pub async fn files_in_flight(&self, source: &SourceKey) -> Result<usize, StoreError> {
        self.count(&keys::below(keys::FILES, source)).await
    }

    /// Forgets a deleted source, its sinks and all their versions. One that is made of that id later
    /// begins at version 1, with no statistics. Imported files are forgotten in their time; the
    /// books stay, so that no file is ever called like an earlier one.
    ///
    /// A source can have had more sinks than a transaction has room for: what the books of the first
    /// ones show is hidden before, which is seen only if the source comes back after all.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`] when it is not among the deleted,
    /// [`DefinitionError::InFlight`] while records are on their way, or the store.
    pub async fn purge_source(
        &self,
        key: &SourceKey,
        stamp: &Stamp,
    ) -> Result<Revision, DefinitionError> {
        let mut attempts = Attempts::default();
        loop {
            if let Some(revision) = self.try_purge(key, stamp).await? {
                return Ok(revision);
            }
            attempts.again().await?;
        }
    }

    /// `None` when something that it relies upon has changed.
    async fn try_purge(
        &self,
        key: &SourceKey,
        stamp: &Stamp,
    ) -> Result<Option<Revision>, DefinitionError> {
        let read = self.deleted_source(key).await?;
        let files = self.files_in_flight(key).await?;
        if files > 0 {
            return Err(DefinitionError::InFlight { files });
        }
        let sinks = keys::below(keys::DELETED_SINKS, key);
        let sinks = self.read_all::<Sink>(&sinks).await?;
        let (before, last) = sinks.split_at(sinks.len().saturating_sub(BOOKS_PER_TXN));
        for some in before.chunks(BOOKS_PER_TXN) {
            let mut draft = Draft::default();
            draft.unchanged(Key::DeletedSource(key), &read);
            self.draft_hidden(&mut draft, some).await?;
            if self.commit(draft).await?.is_none() {
                return Ok(None);
            }
        }
        let mut draft = Draft::default();
        // No file of a source comes into being while it stays deleted.
        draft.unchanged(Key::DeletedSource(key), &read);
        draft.absent(Key::Source(key));
        draft.audit_source(key, Action::Purge, (Some(&read.version), None), stamp)?;
        draft.delete(Key::DeletedSource(key));
        draft.delete_below(keys::below(keys::SOURCE_VERSIONS, key));
        draft.delete_below(keys::below(keys::DELETED_SINKS, key));
        draft.delete_below(keys::below(keys::SINK_VERSIONS, key));
        self.draft_hidden(&mut draft, last).await?;
        Ok(self.commit(draft).await?)
    }

    /// Hides what the books of these sinks have counted.
    async fn draft_hidden(
        &self,
        draft: &mut Draft,
        sinks: &[Revised<Sink>],
    ) -> Result<(), DefinitionError> {
        for sink in sinks {
            let read: Option<Revised<Book>> = self.read(Key::Book(&sink.key)).await?;
            if let Some(read) = read {
                draft.unchanged(Key::Book(&sink.key), &read);
                draft.put(Key::Book(&sink.key), &hidden(read.value))?;
            }
        }
        Ok(())
    }
}

/// The book with all that it has counted hidden.
fn hidden(mut book: Book) -> Book {
    book.cleared = book.last_opened_at.map(|up_to| Cleared {
        up_to,
        removed_since: Statistics::default(),
    });
    book
}
