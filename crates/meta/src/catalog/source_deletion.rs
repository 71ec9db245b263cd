//! Deletion and restore of sources with their sinks.

use forebay_model::{AuditStamp, DeletionInfo, Source, SourceKey, VolumeId};

use super::audit::AuditAction;
use super::bulk_changes::{BatchSizer, SinkPages};
use super::definitions::{BranchDefinition, DefinitionError, LimitedResource};
use super::sources::put_source;
use super::transaction::TxnBuilder;
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::Revision;

impl Repo {
    /// Deletes a source and its sinks, which are marked as deleted with it, and closes the sinks'
    /// files: in one transaction, or in several if there are many (`bulk_changes`). Afterwards none
    /// of its sinks has an open file.
    pub async fn delete_source(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        let mut sizer = BatchSizer::new(self.txn_limits);
        loop {
            let read = self.source(key).await?;
            let mut sinks = SinkPages::new(keys::below(keys::SINKS, key));
            loop {
                let mut txn = self.begin();
                // A concurrent sink creation writes the source too.
                txn.expect_unchanged(StoreKey::Source(key), &read);
                let is_last = self
                    .fill_with_sink_deletions(&mut txn, &mut sinks, &mut sizer, stamp)
                    .await?;
                if is_last {
                    add_source_deletion(&mut txn, &read, stamp)?;
                }
                match self.commit(txn).await? {
                    Some(revision) if is_last => return Ok(revision),
                    Some(_) => sizer.succeeded(),
                    None => break,
                }
            }
            sizer.retry().await?;
        }
    }

    /// Adds deletions of sinks until there are no more (`true`) or the transaction is full.
    async fn fill_with_sink_deletions(
        &self,
        txn: &mut TxnBuilder<'_>,
        sinks: &mut SinkPages,
        sizer: &mut BatchSizer,
        stamp: &AuditStamp,
    ) -> Result<bool, DefinitionError> {
        loop {
            let Some(sink) = sinks.next(self).await? else {
                return Ok(true);
            };
            self.add_sink_deletion(txn, sink, stamp, true).await?;
            if sizer.is_full(txn) {
                return Ok(false);
            }
        }
    }

    /// Restores a deleted source with the sinks that were deleted with it, and opens their files.
    /// Creates a new version of the source; its sinks keep theirs.
    pub async fn undelete_source(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let mut sizer = BatchSizer::new(self.txn_limits);
        // This call restored the source, and had conflicts at its sinks.
        let mut is_begun = false;
        loop {
            let Some(read) = self.read::<Source>(StoreKey::DeletedSource(key)).await? else {
                // An earlier call may have stopped before all of its sinks were restored.
                let source = self.source(key).await?;
                let back = self.undelete_sinks(source, None, &mut sizer, (volumes, stamp));
                match back.await? {
                    UndeleteProgress::All(_, 0) if !is_begun => {
                        return Err(DefinitionError::SourceNotFound(key.clone()));
                    }
                    UndeleteProgress::All(source, _) => return Ok(*source),
                    UndeleteProgress::Interrupted { .. } => {
                        sizer.retry().await?;
                        continue;
                    }
                }
            };
            let branch = self
                .read::<BranchDefinition>(StoreKey::Branch(&key.branch))
                .await?;
            let branch = branch.ok_or(DefinitionError::BranchNotFound(key.branch))?;
            self.check_source_count(&key.branch).await?;
            let mut source = read.value.clone();
            source.deleted = None;
            let what = LimitedResource::SourceVersions;
            source.version = self.undeleted_version(what, &source.version, stamp)?;
            let mut txn = self.begin();
            txn.expect_unchanged(StoreKey::Branch(&key.branch), &branch);
            txn.put(StoreKey::Branch(&key.branch), &branch.value)?;
            txn.expect_unchanged(StoreKey::DeletedSource(key), &read);
            txn.delete(StoreKey::DeletedSource(key));
            txn.expect_absent(StoreKey::Source(key));
            put_source(&mut txn, &source)?;
            let versions = (Some(&read.version), Some(&source.version));
            txn.put_source_audit(key, AuditAction::Undelete, versions, stamp)?;
            let source = Versioned {
                value: source,
                revision: read.revision,
            };
            let back = self.undelete_sinks(source, Some(txn), &mut sizer, (volumes, stamp));
            match back.await? {
                UndeleteProgress::All(source, _) => return Ok(*source),
                // If it is restored nevertheless, a concurrent call did it.
                UndeleteProgress::Interrupted { source_is_back } => is_begun |= source_is_back,
            }
            sizer.retry().await?;
        }
    }

    /// Restores sinks that were deleted with their source: the first ones in the transaction that
    /// restores the source (`first`), the others while it stays unchanged. Returns the source, with
    /// its last revision, and the number of sinks.
    async fn undelete_sinks(
        &self,
        mut source: Versioned<Source>,
        mut first: Option<TxnBuilder<'_>>,
        sizer: &mut BatchSizer,
        (volumes, stamp): (&[VolumeId], &AuditStamp),
    ) -> Result<UndeleteProgress, DefinitionError> {
        let key = source.key.clone();
        let mut sinks = SinkPages::new(keys::below(keys::DELETED_SINKS, &key));
        let (mut returned, mut is_last) = (0, false);
        let mut source_is_back = false;
        while !is_last {
            let writes_source = first.is_some();
            let mut txn = first.take().unwrap_or_else(|| self.begin());
            loop {
                match sinks.next(self).await? {
                    Some(sink) if sink.deleted.as_ref().is_some_and(|d| d.with_parent) => {
                        returned += 1;
                        self.add_sink_undeletion(&mut txn, &source, sink, None, volumes, stamp)
                            .await?;
                    }
                    Some(_) => {}
                    None => {
                        is_last = true;
                        break;
                    }
                }
                if sizer.is_full(&txn) {
                    break;
                }
            }
            if !writes_source {
                if txn.is_empty() {
                    continue;
                }
                // Writing the source makes a concurrent deletion or disabling that has not read
                // these sinks retry.
                txn.expect_unchanged(StoreKey::Source(&key), &source);
                txn.put(StoreKey::Source(&key), &source.value)?;
            }
            let Some(committed) = self.commit(txn).await? else {
                return Ok(UndeleteProgress::Interrupted { source_is_back });
            };
            sizer.succeeded();
            source.revision = committed;
            source_is_back |= writes_source;
        }
        Ok(UndeleteProgress::All(Box::new(source), returned))
    }

    /// Whether a source is restored, but not all sinks that were deleted with it: a repeated call
    /// continues.
    pub async fn is_partly_undeleted(&self, key: &SourceKey) -> Result<bool, DefinitionError> {
        if self.read::<Source>(StoreKey::Source(key)).await?.is_none() {
            return Ok(false);
        }
        let mut sinks = SinkPages::new(keys::below(keys::DELETED_SINKS, key));
        while let Some(sink) = sinks.next(self).await? {
            if sink.deleted.as_ref().is_some_and(|d| d.with_parent) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Progress of the restore of a source's sinks.
enum UndeleteProgress {
    /// All are restored, with their number.
    All(Box<Versioned<Source>>, usize),
    /// A precondition failed.
    Interrupted {
        /// The transaction that restores the source was committed before.
        source_is_back: bool,
    },
}

/// Moves a source to the deleted sources.
fn add_source_deletion(
    txn: &mut TxnBuilder<'_>,
    read: &Versioned<Source>,
    stamp: &AuditStamp,
) -> Result<(), DefinitionError> {
    let mut source = read.value.clone();
    txn.delete(StoreKey::Source(&source.key));
    source.deleted = Some(DeletionInfo {
        stamp: stamp.clone(),
        with_parent: false,
    });
    txn.put(StoreKey::DeletedSource(&source.key), &source)?;
    let versions = (Some(&source.version), None);
    txn.put_source_audit(&source.key, AuditAction::Delete, versions, stamp)?;
    Ok(())
}
