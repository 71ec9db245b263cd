//! Forgetting a deleted source for good.
//!
//! Nothing of a source is forgotten while records of it are on their way: they were acknowledged,
//! so they reach their tables first.

use forebay_model::{AuditStamp, Sink, SourceKey, Statistics};

use super::audit::AuditAction;
use super::definitions::DefinitionError;
use super::{Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::{ClearedStatistics, SinkState};
use crate::kv::store::{Revision, StoreError};

/// Books that go into one transaction.
const SINK_STATES_PER_TXN: usize = 1000;

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
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        let mut attempts = TxnAttempts::default();
        loop {
            if let Some(revision) = self.try_purge(key, stamp).await? {
                return Ok(revision);
            }
            attempts.retry().await?;
        }
    }

    /// `None` when something that it relies upon has changed.
    async fn try_purge(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Option<Revision>, DefinitionError> {
        let read = self.deleted_source(key).await?;
        let files = self.files_in_flight(key).await?;
        if files > 0 {
            return Err(DefinitionError::InFlight { files });
        }
        let sinks = keys::below(keys::DELETED_SINKS, key);
        let sinks = self.read_all::<Sink>(&sinks).await?;
        let (before, last) = sinks.split_at(sinks.len().saturating_sub(SINK_STATES_PER_TXN));
        for some in before.chunks(SINK_STATES_PER_TXN) {
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::DeletedSource(key), &read);
            self.add_hidden_statistics(&mut builder, some).await?;
            if self.commit(builder).await?.is_none() {
                return Ok(None);
            }
        }
        let mut builder = TxnBuilder::default();
        // No file of a source comes into being while it stays deleted.
        builder.expect_unchanged(StoreKey::DeletedSource(key), &read);
        builder.expect_absent(StoreKey::Source(key));
        builder.put_source_audit(key, AuditAction::Purge, (Some(&read.version), None), stamp)?;
        builder.delete(StoreKey::DeletedSource(key));
        builder.delete_below(keys::below(keys::SOURCE_VERSIONS, key));
        builder.delete_below(keys::below(keys::DELETED_SINKS, key));
        builder.delete_below(keys::below(keys::SINK_VERSIONS, key));
        self.add_hidden_statistics(&mut builder, last).await?;
        Ok(self.commit(builder).await?)
    }

    /// Hides what the books of these sinks have counted.
    async fn add_hidden_statistics(
        &self,
        builder: &mut TxnBuilder,
        sinks: &[Versioned<Sink>],
    ) -> Result<(), DefinitionError> {
        for sink in sinks {
            let read: Option<Versioned<SinkState>> =
                self.read(StoreKey::SinkState(&sink.key)).await?;
            if let Some(read) = read {
                builder.expect_unchanged(StoreKey::SinkState(&sink.key), &read);
                builder.put(StoreKey::SinkState(&sink.key), &hide_statistics(read.value))?;
            }
        }
        Ok(())
    }
}

/// The book with all that it has counted hidden.
fn hide_statistics(mut sink_state: SinkState) -> SinkState {
    sink_state.cleared = sink_state.last_opened_at.map(|up_to| ClearedStatistics {
        up_to,
        removed_since: Statistics::default(),
    });
    sink_state
}
