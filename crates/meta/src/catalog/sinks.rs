//! Sinks: a change of a sink and its effect on the sink's file are one transaction.
//!
//! | change                  | its file                          |
//! | ----------------------- | --------------------------------- |
//! | create, undelete        | opened                            |
//! | update, settings, rollback | rotated: closed, and a new one opened |
//! | disable, enable         | closed, opened                    |
//! | delete                  | closed                            |
//! | any change of its source | none; [`super::settle`] follows  |
//!
//! When its sinks are settled, a table sink has an open file if and only if it and its source are
//! active; a topic has none. A mapping may be so large that a new file does not fit into the
//! transaction: then it is opened in the next one.

use forebay_model::{
    AuditStamp, DefinitionVersion, DeletionInfo, DisableInfo, Sink, SinkKey, Source, SourceKey,
    VolumeId,
};

use super::audit::AuditAction;
use super::bulk_changes::SinkPages;
use super::definitions::{DefinitionError, LimitedResource, SinkContent, UpdateRejection};
use super::rotation::{ActiveSinkDefinition, FileRotation};
use super::transaction::TxnBuilder;
use super::{ListPage, Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::definition::StoredVersion;
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::{Revision, StoreError};

/// Reason of a sink that is disabled with its source.
const WITH_PARENT: &str = "Auto-disabled with the parent source.";

impl Repo {
    /// Creates a sink and opens its first file. If the id exists as deleted, the sink is restored
    /// with the new content: `created` is kept and version numbers continue.
    ///
    /// Enforces [`forebay_model::DefinitionLimits`]: each creation writes the source, so concurrent
    /// ones conflict.
    pub async fn create_sink(
        &self,
        key: &SinkKey,
        content: SinkContent,
        description: &str,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let _guard = self
            .locks
            .lock(StoreKey::Source(&key.source).to_string())
            .await;
        let content = &content;
        let done = self.transact(|txn| {
            Box::pin(async move {
                let source = txn.source(&key.source).await?;
                if txn.read::<Sink>(StoreKey::Sink(key)).await?.is_some() {
                    return Err(DefinitionError::SinkExists(key.clone()));
                }
                self.check_sink_count(&key.source).await?;
                let deleted = txn.read::<Sink>(StoreKey::DeletedSink(key)).await?;
                let number = deleted.as_ref().map_or(0, |d| d.version.number);
                let (what, hash) = (LimitedResource::SinkVersions, content.hash());
                let sink = Sink {
                    key: key.clone(),
                    name: content.name.clone(),
                    description: content.description.clone(),
                    target: content.target.clone(),
                    settings: content.settings.clone(),
                    definition_set: content.definition_set.clone(),
                    version: self.next_version(what, number, hash, description, stamp)?,
                    created: deleted
                        .as_ref()
                        .map_or_else(|| stamp.clone(), |d| d.created.clone()),
                    deleted: None,
                    disabled: None,
                    paused: None,
                };
                txn.put(StoreKey::Source(&key.source), &source.value)?;
                if deleted.is_some() {
                    txn.delete(StoreKey::DeletedSink(key));
                }
                put_sink(txn, &sink)?;
                let versions = (deleted.as_ref().map(|d| &d.version), Some(&sink.version));
                txn.put_sink_audit(key, AuditAction::Create, versions, stamp)?;
                self.add_table_holder(txn, &sink, stamp).await?;
                self.add_sink_rotation(txn, &source, &sink, volumes, stamp)
                    .await?;
                Ok::<_, DefinitionError>(effective(&source, sink))
            })
        });
        let sink = done.await?;
        self.settle_large_sink(&sink, volumes, stamp).await?;
        Ok(sink)
    }

    /// Makes a sink a holder of its table.
    pub(super) async fn add_table_holder(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink: &Sink,
        stamp: &AuditStamp,
    ) -> Result<(), DefinitionError> {
        if let Some(table) = sink.target.table() {
            self.add_table_claim(txn, &sink.key, table, stamp).await??;
        }
        Ok(())
    }

    /// As [`Self::add_table_holder`], for a sink whose source was restored or enabled: if its
    /// project can no longer use its table, the sink is disabled.
    pub(super) async fn add_table_holder_or_disable(
        &self,
        txn: &mut TxnBuilder<'_>,
        sink: &mut Sink,
        stamp: &AuditStamp,
    ) -> Result<(), DefinitionError> {
        if let Some(table) = sink.target.table()
            && let Err(rejection) = self.add_table_claim(txn, &sink.key, table, stamp).await?
        {
            sink.disabled = Some(DisableInfo {
                stamp: stamp.clone(),
                reason: format!("Switched off: {rejection}."),
            });
        }
        Ok(())
    }

    /// Closes the sink's open file, if there is one, and opens one if the sink is active.
    pub(super) async fn add_sink_rotation(
        &self,
        txn: &mut TxnBuilder<'_>,
        source: &Source,
        sink: &Sink,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<FileRotation, DefinitionError> {
        let sink_files = self.sink_files(&sink.key).await?;
        let is_table = sink.target.table().is_some();
        let open = source.is_active() && sink.is_active() && is_table;
        let definition = open.then_some(ActiveSinkDefinition {
            source,
            sink,
            volumes,
        });
        if !is_table && sink_files.state.is_none() {
            // The sink state outlives a purge of the sink, so that its stream is deleted then too.
            txn.put(StoreKey::SinkState(&sink.key), &SinkState::default())?;
        }
        Ok(self.add_file_rotation(txn, &sink_files, definition, stamp.at)?)
    }

    /// Reads a sink that is not deleted, on its own or with its source.
    pub async fn sink(&self, key: &SinkKey) -> Result<Versioned<Sink>, DefinitionError> {
        let missing = || DefinitionError::SinkNotFound(key.clone());
        let source: Option<Versioned<Source>> = self.read(StoreKey::Source(&key.source)).await?;
        let source = source.ok_or_else(missing)?;
        let found: Option<Versioned<Sink>> = self.read(StoreKey::Sink(key)).await?;
        let found = found.ok_or_else(missing)?;
        Ok(Versioned {
            value: effective(&source, found.value),
            revision: found.revision,
        })
    }

    /// Lists the sinks of a source after the id `after` (empty: from the beginning), sorted by id.
    pub async fn sinks(
        &self,
        source: &SourceKey,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<Sink>, DefinitionError> {
        let Some(of) = self.read::<Source>(StoreKey::Source(source)).await? else {
            return Ok(ListPage {
                items: Vec::new(),
                total: 0,
            });
        };
        let prefix = keys::below(keys::SINKS, source);
        let page: ListPage<Sink> = self.list(&prefix, after, limit).await?;
        let items = page.items.into_iter();
        Ok(ListPage {
            items: items.map(|sink| effective(&of, sink)).collect(),
            total: page.total,
        })
    }

    /// Lists the first `max` sinks of a source, sorted by id.
    pub async fn first_sinks(
        &self,
        source: &SourceKey,
        max: usize,
    ) -> Result<Vec<Sink>, DefinitionError> {
        let Some(of) = self.read::<Source>(StoreKey::Source(source)).await? else {
            return Ok(Vec::new());
        };
        let prefix = keys::below(keys::SINKS, source);
        let sinks = self.read_sinks(prefix, max).await?.into_iter();
        Ok(sinks.map(|sink| effective(&of, sink)).collect())
    }

    /// Lists all sinks of a deleted source: those deleted with it, and those deleted before.
    pub async fn all_deleted_sinks(&self, source: &SourceKey) -> Result<Vec<Sink>, StoreError> {
        // Those deleted with it first: they become deleted ones if the id is used again.
        let with_it = match self.read::<Source>(StoreKey::Source(source)).await? {
            Some(_) => Vec::new(),
            None => {
                let prefix = keys::below(keys::SINKS, source);
                self.read_sinks(prefix, usize::MAX).await?
            }
        };
        let before = keys::below(keys::DELETED_SINKS, source);
        let mut all = self.read_sinks(before, usize::MAX).await?;
        all.extend(with_it);
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        Ok(all)
    }

    async fn read_sinks(&self, prefix: String, max: usize) -> Result<Vec<Sink>, StoreError> {
        let mut pages = SinkPages::new(prefix);
        let mut sinks = Vec::new();
        while sinks.len() < max
            && let Some(sink) = pages.next(self).await?
        {
            sinks.push(sink.value);
        }
        Ok(sinks)
    }

    /// Lists a page of the sinks of a source that were deleted on their own.
    pub async fn deleted_sinks(
        &self,
        source: &SourceKey,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<Sink>, DefinitionError> {
        let prefix = keys::below(keys::DELETED_SINKS, source);
        Ok(self.list(&prefix, after, limit).await?)
    }

    /// Reads a sink that was deleted on its own.
    pub async fn deleted_sink(&self, key: &SinkKey) -> Result<Versioned<Sink>, DefinitionError> {
        let found = self.read(StoreKey::DeletedSink(key)).await?;
        found.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))
    }

    /// Updates a sink by `change`, which may be called several times, and rotates its file, so that
    /// rows accepted under the old definition are imported under it. Creates a new version, even if
    /// nothing differs.
    pub async fn update_sink(
        &self,
        key: &SinkKey,
        description: &str,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
        change: impl Fn(&mut SinkContent) -> Result<(), UpdateRejection> + Send + Sync,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let change = &change;
        let done = self.transact(|txn| {
            Box::pin(async move {
                // The source determines settings and activity of the opened file.
                let (source, read) = txn.source_and_sink(key).await?;
                let mut content = SinkContent::from_sink(&read);
                change(&mut content).map_err(DefinitionError::Rejected)?;
                let mut sink = read.value.clone();
                let (what, number) = (LimitedResource::SinkVersions, sink.version.number);
                sink.version =
                    self.next_version(what, number, content.hash(), description, stamp)?;
                content.write_into(&mut sink);
                put_sink(txn, &sink)?;
                let versions = (Some(&read.version), Some(&sink.version));
                txn.put_sink_audit(key, AuditAction::Update, versions, stamp)?;
                let table = |s: &Sink| {
                    let table = s.target.table();
                    table.map(|t| self.table_key(t.backend, &t.table))
                };
                if table(&sink) != table(&read) {
                    self.add_table_holder(txn, &sink, stamp).await?;
                }
                self.add_sink_rotation(txn, &source, &sink, volumes, stamp)
                    .await?;
                Ok::<_, DefinitionError>(effective(&source, sink))
            })
        });
        let sink = done.await?;
        self.settle_large_sink(&sink, volumes, stamp).await?;
        Ok(sink)
    }

    /// Restores the content of version `number` of a sink, as a new version.
    pub async fn rollback_sink(
        &self,
        key: &SinkKey,
        number: u32,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let content = self.sink_version(key, number).await?.content;
        let description = format!("Rollback to version \"{number}\".");
        self.update_sink(key, &description, volumes, stamp, move |now| {
            *now = content.clone();
            Ok(())
        })
        .await
    }

    /// Deletes a sink and closes its file. Accepted records are still delivered.
    pub async fn delete_sink(
        &self,
        key: &SinkKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        self.transact(|txn| {
            Box::pin(async move {
                let (_, read) = txn.source_and_sink(key).await?;
                let mut sink = read.value;
                let versions = (Some(&sink.version), None);
                txn.put_sink_audit(key, AuditAction::Delete, versions, stamp)?;
                txn.delete(StoreKey::Sink(key));
                sink.deleted = Some(DeletionInfo {
                    stamp: stamp.clone(),
                });
                txn.put(StoreKey::DeletedSink(key), &sink)?;
                let sink_files = self.sink_files(key).await?;
                self.add_file_rotation(txn, &sink_files, None, stamp.at)?;
                Ok::<_, DefinitionError>(())
            })
        })
        .await
        .map(|done| done.revision)
    }

    /// Restores a deleted sink and opens its file.
    pub async fn undelete_sink(
        &self,
        key: &SinkKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Sink>, DefinitionError> {
        let done = self.transact(|txn| {
            Box::pin(async move {
                let source = txn.source(&key.source).await?;
                let read = txn.read::<Sink>(StoreKey::DeletedSink(key)).await?;
                let read = read.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))?;
                self.check_sink_count(&key.source).await?;
                let version =
                    self.undeleted_version(LimitedResource::SinkVersions, &read.version, stamp)?;
                txn.put(StoreKey::Source(&key.source), &source.value)?;
                let versions = (Some(&read.version), Some(&version));
                txn.put_sink_audit(key, AuditAction::Undelete, versions, stamp)?;
                txn.expect_absent(StoreKey::Sink(key));
                txn.delete(StoreKey::DeletedSink(key));
                let mut sink = read.value;
                sink.deleted = None;
                sink.version = version;
                self.add_table_holder(txn, &sink, stamp).await?;
                put_sink(txn, &sink)?;
                self.add_sink_rotation(txn, &source, &sink, volumes, stamp)
                    .await?;
                Ok::<_, DefinitionError>(effective(&source, sink))
            })
        });
        let sink = done.await?;
        self.settle_large_sink(&sink, volumes, stamp).await?;
        Ok(sink)
    }

    /// Lists all versions of a sink, oldest first.
    pub async fn sink_versions(
        &self,
        key: &SinkKey,
    ) -> Result<Vec<DefinitionVersion>, DefinitionError> {
        self.sink(key).await?;
        let prefix = keys::below(keys::SINK_VERSIONS, key);
        let versions = self.read_all::<StoredVersion<SinkContent>>(&prefix).await?;
        Ok(versions.into_iter().map(|k| k.value.version).collect())
    }

    /// Reads a version of a sink, with its content.
    pub async fn sink_version(
        &self,
        key: &SinkKey,
        number: u32,
    ) -> Result<StoredVersion<SinkContent>, DefinitionError> {
        let found: Option<Versioned<_>> = self.read(StoreKey::SinkVersion(key, number)).await?;
        found
            .map(|r| r.value)
            .ok_or(DefinitionError::VersionNotFound(number))
    }
}

impl TxnBuilder<'_> {
    /// Reads a sink that is not deleted, as stored, and its source; both are preconditions, since a
    /// sink is deleted and disabled with its source.
    pub(super) async fn source_and_sink(
        &mut self,
        key: &SinkKey,
    ) -> Result<(Versioned<Source>, Versioned<Sink>), DefinitionError> {
        let source = self.source(&key.source).await?;
        let found = self.read(StoreKey::Sink(key)).await?;
        let sink = found.ok_or_else(|| DefinitionError::SinkNotFound(key.clone()))?;
        Ok((source, sink))
    }
}

/// The sink as it is shown: a sink of a disabled source is disabled too.
pub(super) fn effective(source: &Source, mut sink: Sink) -> Sink {
    if sink.disabled.is_none() {
        sink.disabled = source.disabled.as_ref().map(|disabled| DisableInfo {
            stamp: disabled.stamp.clone(),
            reason: WITH_PARENT.to_owned(),
        });
    }
    sink
}

/// Writes a sink and its present version.
pub(super) fn put_sink(txn: &mut TxnBuilder<'_>, sink: &Sink) -> Result<(), DefinitionError> {
    txn.put(StoreKey::Sink(&sink.key), sink)?;
    let stored_version = StoredVersion {
        version: sink.version.clone(),
        content: SinkContent::from_sink(sink),
    };
    txn.put(
        StoreKey::SinkVersion(&sink.key, sink.version.number),
        &stored_version,
    )?;
    Ok(())
}
