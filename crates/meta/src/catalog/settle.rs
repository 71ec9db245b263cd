//! Files of sinks whose source was changed.
//!
//! A change of a source is one transaction, whatever the number of its sinks: a sink accepts records
//! only if it and its source are active, so the state of the source is not repeated in its sinks.
//! Their files follow, each in a transaction of its own: [`Repo::settle_sink`] closes the file of a
//! sink that accepts nothing, and opens one for a sink that accepts records. The API does so for the
//! sinks of a source that it enables or restores, the coordinator for all others.

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, Sink, SinkKey, Source, SourceKey, VolumeId};
use futures::future::try_join_all;

use super::bulk_changes::SinkPages;
use super::definitions::DefinitionError;
use super::rotation::ActiveSinkDefinition;
use super::{Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::Stored;
use crate::kv::store::Revision;

/// Concurrent transactions. The embedded store groups their commits.
const CONCURRENCY: usize = 16;
/// Bytes of a sink from which a transaction that writes it leaves its file to
/// [`Repo::settle_sink`].
const LARGE_SINK_BYTES: usize = 128 << 10;

impl Repo {
    /// Settles all sinks of a source. Returns the revision of the last change; the default one if
    /// there was none.
    pub async fn settle_sinks(
        &self,
        source: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        let mut sinks = SinkPages::new(keys::below(keys::SINKS, source));
        let mut last = Revision::default();
        loop {
            let mut some = Vec::new();
            while some.len() < CONCURRENCY
                && let Some(sink) = sinks.next(self).await?
            {
                if sink.target.table().is_some() {
                    some.push(sink.value.key);
                }
            }
            if some.is_empty() {
                return Ok(last);
            }
            let settled = some.iter().map(|key| self.settle_sink(key, volumes, stamp));
            let settled = try_join_all(settled).await?;
            last = settled.into_iter().flatten().fold(last, Revision::max);
        }
    }

    /// Closes the open file of a sink that accepts no records, or opens one for a sink that does and
    /// has none. Returns the revision of the change; `None` if there was none to make.
    ///
    /// If the project of the sink can no longer use its table, the sink is disabled instead.
    pub async fn settle_sink(
        &self,
        key: &SinkKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Option<Revision>, DefinitionError> {
        let _guard = self.lock_table(key).await?;
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let sink_files = self.sink_files(key).await?;
                let source = txn.read::<Source>(StoreKey::Source(&key.source)).await?;
                let sink = txn.read::<Sink>(StoreKey::Sink(key)).await?;
                let accepting = source.zip(sink).filter(|(source, sink)| {
                    source.is_active() && sink.is_active() && sink.target.table().is_some()
                });
                if accepting.is_some() == sink_files.open.is_some() {
                    return Ok(ControlFlow::Break(()));
                }
                let Some((source, read)) = accepting else {
                    self.add_file_rotation(txn, &sink_files, None, stamp.at)?;
                    return Ok(ControlFlow::Continue(()));
                };
                let mut sink = read.value;
                self.add_table_holder_or_disable(txn, &mut sink, stamp)
                    .await?;
                if sink.is_active() {
                    let definition = ActiveSinkDefinition {
                        source: &source,
                        sink: &sink,
                        volumes,
                    };
                    self.add_file_rotation(txn, &sink_files, Some(definition), stamp.at)?;
                } else {
                    txn.put(StoreKey::Sink(key), &sink)?;
                }
                Ok::<_, DefinitionError>(ControlFlow::Continue(()))
            })
        });
        Ok(match done.await? {
            ControlFlow::Continue(Versioned { revision, .. }) => Some(revision),
            ControlFlow::Break(()) => None,
        })
    }

    /// Waits for others that settle sinks of the same table: each of them writes its entry.
    async fn lock_table(
        &self,
        key: &SinkKey,
    ) -> Result<Option<super::keyed_locks::KeyedLockGuard>, DefinitionError> {
        let sink: Option<Versioned<Sink>> = self.read(StoreKey::Sink(key)).await?;
        let Some(table) = sink.as_ref().and_then(|s| s.target.table()) else {
            return Ok(None);
        };
        let table = self.table_key(table.backend, &table.table);
        let lock = StoreKey::Table(&table).to_string();
        Ok(Some(self.locks.lock(lock).await))
    }

    /// Opens the file of a sink that was too large for the transaction that has written it.
    pub(super) async fn settle_large_sink(
        &self,
        sink: &Sink,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<(), DefinitionError> {
        let is_large = sink.encode().is_ok_and(|e| e.len() > LARGE_SINK_BYTES);
        if is_large {
            self.settle_sink(&sink.key, volumes, stamp).await?;
        }
        Ok(())
    }
}
