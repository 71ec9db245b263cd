//! Deletion and restore of sources. Sinks of a deleted source are deleted with it: what is stored of
//! them does not change, and they are restored with it.

use forebay_model::{AuditStamp, DeletionInfo, Source, SourceKey};

use super::audit::AuditAction;
use super::definitions::{BranchDefinition, DefinitionError, LimitedResource};
use super::sources::put_source;
use super::{Repo, Versioned};
use crate::catalog::keys::StoreKey;
use crate::kv::store::Revision;

impl Repo {
    /// Deletes a source, and with it its sinks. Their files are open until they are settled.
    pub async fn delete_source(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut source = txn.source(key).await?.value;
                txn.delete(StoreKey::Source(key));
                source.deleted = Some(DeletionInfo {
                    stamp: stamp.clone(),
                });
                txn.put(StoreKey::DeletedSource(key), &source)?;
                let versions = (Some(&source.version), None);
                txn.put_source_audit(key, AuditAction::Delete, versions, stamp)?;
                Ok::<_, DefinitionError>(())
            })
        })
        .await
        .map(|done| done.revision)
    }

    /// Restores a deleted source with the sinks that were deleted with it. Creates a new version of
    /// the source; its sinks keep theirs. They have no open files until they are settled.
    pub async fn undelete_source(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        self.transact(|txn| {
            Box::pin(async move {
                let deleted = txn.read::<Source>(StoreKey::DeletedSource(key)).await?;
                let deleted =
                    deleted.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))?;
                let branch = StoreKey::Branch(&key.branch);
                let found = txn.read::<BranchDefinition>(branch).await?;
                let found = found.ok_or(DefinitionError::BranchNotFound(key.branch))?;
                // Each creation and restore writes the branch, so that the count holds.
                txn.put(branch, &found.value)?;
                self.check_source_count(&key.branch).await?;
                let mut source = deleted.value.clone();
                source.deleted = None;
                let what = LimitedResource::SourceVersions;
                source.version = self.undeleted_version(what, &source.version, stamp)?;
                txn.delete(StoreKey::DeletedSource(key));
                txn.expect_absent(StoreKey::Source(key));
                put_source(txn, &source)?;
                let versions = (Some(&deleted.version), Some(&source.version));
                txn.put_source_audit(key, AuditAction::Undelete, versions, stamp)?;
                Ok(source)
            })
        })
        .await
    }
}
