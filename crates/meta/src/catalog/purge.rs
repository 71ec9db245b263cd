//! Purge: permanent removal of a deleted source.
//!
//! A source is not purged while records of it are in flight: they were acknowledged, so they are
//! imported first.

use forebay_model::{AuditStamp, Sink, SourceKey, Statistics};

use super::audit::AuditAction;
use super::definitions::DefinitionError;
use super::transaction::{TxnAttempts, TxnBuilder};
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::{ClearedStatistics, SinkState};
use crate::kv::store::{Revision, StoreError};

/// Maximum number of sink states in one transaction.
const SINK_STATES_PER_TXN: usize = 100;

impl Repo {
    /// Number of files of a source in flight, deleted sinks included.
    pub async fn files_in_flight(&self, source: &SourceKey) -> Result<usize, StoreError> {
        self.count(&keys::below(keys::FILES, source)).await
    }

    /// Removes a deleted source, its sinks and all their versions. A later source with that id
    /// starts at version 1, without statistics. Imported files are removed by their retention; sink
    /// states stay, so that a file key is never reused.
    ///
    /// If the source has had more sinks than fit into a transaction, the statistics of the first
    /// ones are hidden in earlier transactions; that is visible only if the source is restored
    /// instead.
    ///
    /// # Errors
    /// [`DefinitionError::InFlight`] while records are in flight.
    pub async fn purge_source(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        // Not one transaction but several, if the sinks are many.
        let mut attempts = TxnAttempts::default();
        loop {
            if let Some(revision) = self.try_purge(key, stamp).await? {
                return Ok(revision);
            }
            attempts.retry().await?;
        }
    }

    /// Returns `None` if a precondition failed.
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
        let sinks = self.all_deleted_sinks(key).await?;
        let (before, last) = sinks.split_at(sinks.len().saturating_sub(SINK_STATES_PER_TXN));
        for some in before.chunks(SINK_STATES_PER_TXN) {
            let mut txn = self.begin();
            txn.expect_unchanged(StoreKey::DeletedSource(key), &read);
            self.add_hidden_statistics(&mut txn, some).await?;
            if self.commit(txn).await?.is_none() {
                return Ok(None);
            }
        }
        let mut txn = self.begin();
        // A deleted source gets no new files.
        txn.expect_unchanged(StoreKey::DeletedSource(key), &read);
        txn.expect_absent(StoreKey::Source(key));
        txn.put_source_audit(key, AuditAction::Purge, (Some(&read.version), None), stamp)?;
        txn.delete(StoreKey::DeletedSource(key));
        txn.delete_below(keys::below(keys::SOURCE_VERSIONS, key));
        txn.delete_below(keys::below(keys::SINKS, key));
        txn.delete_below(keys::below(keys::DELETED_SINKS, key));
        txn.delete_below(keys::below(keys::SINK_VERSIONS, key));
        self.add_hidden_statistics(&mut txn, last).await?;
        Ok(self.commit(txn).await?)
    }

    /// Hides the statistics in the states of these sinks.
    async fn add_hidden_statistics(
        &self,
        txn: &mut TxnBuilder<'_>,
        sinks: &[Sink],
    ) -> Result<(), DefinitionError> {
        for sink in sinks {
            let read: Option<Versioned<SinkState>> =
                txn.read(StoreKey::SinkState(&sink.key)).await?;
            if let Some(read) = read {
                txn.put(StoreKey::SinkState(&sink.key), &hide_statistics(read.value))?;
            }
        }
        Ok(())
    }
}

/// Hides all statistics of the state.
fn hide_statistics(mut sink_state: SinkState) -> SinkState {
    sink_state.cleared = sink_state.last_opened_at.map(|up_to| ClearedStatistics {
        up_to,
        removed_since: Statistics::default(),
    });
    sink_state
}
