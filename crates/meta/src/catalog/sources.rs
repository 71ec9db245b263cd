//! Sources: creation, updates and versions.

use std::mem::discriminant;

use forebay_model::{AuditStamp, BranchKey, DefinitionVersion, Source, SourceKey};

use super::audit::AuditAction;
use super::bulk_changes::SinkPages;
use super::definitions::{
    BranchDefinition, DefinitionError, LimitedResource, SourceContent, UpdateRejection,
};
use super::transaction::{TxnAttempts, TxnBuilder};
use super::{ListPage, Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::definition::StoredVersion;

/// Operations, and bytes of values, after which further sinks of a deleted source are moved in
/// another transaction. The last one has as much left as the new source needs.
const MOVED_OPS: usize = 100;
const MOVED_BYTES: usize = 64 << 10;

impl Repo {
    /// Creates a source. If the id exists as deleted, the source is restored with the new content:
    /// `created` is kept, version numbers continue, and its old sinks stay deleted permanently.
    ///
    /// Enforces [`forebay_model::DefinitionLimits`]: each creation writes the branch, so concurrent
    /// ones conflict.
    pub async fn create_source(
        &self,
        key: &SourceKey,
        content: SourceContent,
        description: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let _guard = self
            .locks
            .lock(StoreKey::Branch(&key.branch).to_string())
            .await;
        // Not one transaction but several, if the sinks of the deleted source are many.
        let mut attempts = TxnAttempts::default();
        loop {
            let branch = self
                .read::<BranchDefinition>(StoreKey::Branch(&key.branch))
                .await?;
            let branch = branch.ok_or(DefinitionError::BranchNotFound(key.branch))?;
            if self.read::<Source>(StoreKey::Source(key)).await?.is_some() {
                return Err(DefinitionError::SourceExists(key.clone()));
            }
            self.check_source_count(&key.branch).await?;
            let deleted = self.read::<Source>(StoreKey::DeletedSource(key)).await?;
            let source = self.new_source(key, &content, description, stamp, deleted.as_ref())?;
            let mut txn = self.begin();
            if let Some(deleted) = &deleted {
                let Some(last) = self.abandon_sinks(key, deleted).await? else {
                    attempts.retry().await?;
                    continue;
                };
                txn = last;
                txn.delete(StoreKey::DeletedSource(key));
            } else {
                txn.expect_absent(StoreKey::DeletedSource(key));
            }
            txn.expect_unchanged(StoreKey::Branch(&key.branch), &branch);
            txn.put(StoreKey::Branch(&key.branch), &branch.value)?;
            txn.expect_absent(StoreKey::Source(key));
            put_source(&mut txn, &source)?;
            let before = deleted.as_ref().map(|d| &d.version);
            let versions = (before, Some(&source.version));
            txn.put_source_audit(key, AuditAction::Create, versions, stamp)?;
            if let Some(revision) = self.commit(txn).await? {
                return Ok(Versioned {
                    value: source,
                    revision,
                });
            }
            attempts.retry().await?;
        }
    }

    /// Moves the sinks that were deleted with a source to the deleted ones, so that they are not
    /// restored with it. Returns the open transaction with the last of them, while the source stays
    /// deleted; `None` if it did not.
    async fn abandon_sinks(
        &self,
        key: &SourceKey,
        deleted: &Versioned<Source>,
    ) -> Result<Option<TxnBuilder<'_>>, DefinitionError> {
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, key));
        let begin = || {
            let mut txn = self.begin();
            txn.expect_unchanged(StoreKey::DeletedSource(key), deleted);
            txn
        };
        let mut txn = begin();
        while let Some(mut sink) = sinks.next(self).await? {
            let at = sink.value.key.clone();
            sink.value.deleted.clone_from(&deleted.deleted);
            txn.expect_unchanged(StoreKey::Sink(&at), &sink);
            txn.delete(StoreKey::Sink(&at));
            txn.put(StoreKey::DeletedSink(&at), &sink.value)?;
            if txn.len() >= MOVED_OPS || txn.bytes >= MOVED_BYTES {
                let full = std::mem::replace(&mut txn, begin());
                if self.commit(full).await?.is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(txn))
    }

    fn new_source(
        &self,
        key: &SourceKey,
        content: &SourceContent,
        description: &str,
        stamp: &AuditStamp,
        deleted: Option<&Versioned<Source>>,
    ) -> Result<Source, DefinitionError> {
        let number = deleted.map_or(0, |d| d.version.number);
        let (what, hash) = (LimitedResource::SourceVersions, content.hash());
        Ok(Source {
            key: key.clone(),
            kind: content.kind.clone(),
            name: content.name.clone(),
            description: content.description.clone(),
            settings: content.settings.clone(),
            definition_set: content.definition_set.clone(),
            version: self.next_version(what, number, hash, description, stamp)?,
            created: deleted.map_or_else(|| stamp.clone(), |d| d.created.clone()),
            deleted: None,
            disabled: None,
        })
    }

    /// Reads a source that is not deleted.
    pub async fn source(&self, key: &SourceKey) -> Result<Versioned<Source>, DefinitionError> {
        let found = self.read(StoreKey::Source(key)).await?;
        found.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))
    }

    /// Lists the sources of a branch after the id `after` (empty: from the beginning), sorted by
    /// id.
    pub async fn sources(
        &self,
        branch: &BranchKey,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<Source>, DefinitionError> {
        let prefix = keys::below(keys::SOURCES, branch);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// Lists the deleted sources of a branch.
    pub async fn deleted_sources(
        &self,
        branch: &BranchKey,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<Source>, DefinitionError> {
        let prefix = keys::below(keys::DELETED_SOURCES, branch);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// Reads a deleted source.
    pub async fn deleted_source(
        &self,
        key: &SourceKey,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let found = self.read(StoreKey::DeletedSource(key)).await?;
        found.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))
    }

    /// Updates a source by `change`, which may be called several times. Creates a new version, even
    /// if nothing differs. Open files of its sinks are unchanged: settings of a source apply from
    /// the next file on.
    pub async fn update_source(
        &self,
        key: &SourceKey,
        description: &str,
        stamp: &AuditStamp,
        change: impl Fn(&mut SourceContent) -> Result<(), UpdateRejection> + Send + Sync,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let change = &change;
        self.transact(|txn| {
            Box::pin(async move {
                let read = txn.source(key).await?;
                let mut content = SourceContent::from_source(&read);
                change(&mut content).map_err(DefinitionError::Rejected)?;
                let mut source = read.value.clone();
                let (what, number) = (LimitedResource::SourceVersions, source.version.number);
                source.version =
                    self.next_version(what, number, content.hash(), description, stamp)?;
                content.write_into(&mut source);
                put_source(txn, &source)?;
                let versions = (Some(&read.version), Some(&source.version));
                txn.put_source_audit(key, AuditAction::Update, versions, stamp)?;
                Ok(source)
            })
        })
        .await
    }

    /// Restores the content of version `number` of a source, as a new version. Its secret stays the
    /// present one, since a rotated secret must never be valid again.
    pub async fn rollback_source(
        &self,
        key: &SourceKey,
        number: u32,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let content = self.source_version(key, number).await?.content;
        let description = format!("Rollback to version \"{number}\".");
        self.update_source(key, &description, stamp, move |now| {
            let kind = now.kind.clone();
            *now = content.clone();
            if discriminant(&kind) == discriminant(&now.kind) {
                now.kind = kind;
            }
            Ok(())
        })
        .await
    }

    /// Returns the version of a definition that is restored.
    pub(super) fn undeleted_version(
        &self,
        what: LimitedResource,
        version: &DefinitionVersion,
        stamp: &AuditStamp,
    ) -> Result<DefinitionVersion, DefinitionError> {
        let description = format!("Undeleted to version \"{}\".", version.number);
        self.next_version(
            what,
            version.number,
            version.hash.clone(),
            &description,
            stamp,
        )
    }

    /// Lists all versions of a source, oldest first.
    pub async fn source_versions(
        &self,
        key: &SourceKey,
    ) -> Result<Vec<DefinitionVersion>, DefinitionError> {
        self.source(key).await?;
        let prefix = keys::below(keys::SOURCE_VERSIONS, key);
        let versions = self
            .read_all::<StoredVersion<SourceContent>>(&prefix)
            .await?;
        Ok(versions.into_iter().map(|k| k.value.version).collect())
    }

    /// Reads a version of a source, with its content.
    pub async fn source_version(
        &self,
        key: &SourceKey,
        number: u32,
    ) -> Result<StoredVersion<SourceContent>, DefinitionError> {
        let found = self.read(StoreKey::SourceVersion(key, number)).await?;
        let found: Option<Versioned<_>> = found;
        found
            .map(|r| r.value)
            .ok_or(DefinitionError::VersionNotFound(number))
    }
}

impl TxnBuilder<'_> {
    /// Reads a source that is not deleted; a precondition.
    pub(super) async fn source(
        &mut self,
        key: &SourceKey,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let found = self.read(StoreKey::Source(key)).await?;
        found.ok_or_else(|| DefinitionError::SourceNotFound(key.clone()))
    }
}

/// Writes a source and its present version.
pub(super) fn put_source(txn: &mut TxnBuilder<'_>, source: &Source) -> Result<(), DefinitionError> {
    txn.put(StoreKey::Source(&source.key), source)?;
    let stored_version = StoredVersion {
        version: source.version.clone(),
        content: SourceContent::from_source(source),
    };
    txn.put(
        StoreKey::SourceVersion(&source.key, source.version.number),
        &stored_version,
    )?;
    Ok(())
}
