//! Drops the tables of a source that is purged.
//!
//! Two transactions, with the drop itself between them: the first one verifies that nothing else
//! holds the table and marks it, the second one removes its entry. From the mark on no sink can
//! become a holder, and a sink that became one before prevents the mark. After a crash the mark is
//! still there, and a repeated deletion continues from it.

use std::ops::ControlFlow;

use forebay_model::{AuditStamp, SourceKey, TableBackend, TableId, TableKey};

use super::definitions::DefinitionError;
use super::tables::{PendingDrop, TableEntry};
use super::transaction::TxnBuilder;
use super::{Repo, Versioned};
use crate::catalog::keys::StoreKey;
use crate::kv::store::StoreError;

/// A table that a deleted source filled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilledTable {
    pub backend: TableBackend,
    pub table: TableId,
}

/// Decision on a table of a source that is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropDecision {
    /// No other sink holds it: it is marked, and to be dropped.
    Drop,
    /// It was never filled, or is already dropped.
    Nothing,
    /// Other sinks hold it.
    Held,
    /// It belongs to another project.
    Foreign,
    /// It existed before Forebay filled it.
    Found,
}

impl Repo {
    /// Lists the tables that the sinks of a deleted source fill by their last definition, without
    /// duplicates.
    pub async fn filled_tables(&self, source: &SourceKey) -> Result<Vec<FilledTable>, StoreError> {
        let deleted = self.all_deleted_sinks(source).await?;
        let mut tables: Vec<FilledTable> = deleted
            .iter()
            .filter_map(|sink| sink.target.table())
            .map(|table| FilledTable {
                backend: self.table_key(table.backend, &table.table).backend(),
                table: table.table.clone(),
            })
            .collect();
        tables.sort();
        tables.dedup_by_key(|t| self.table_key(t.backend, &t.table));
        Ok(tables)
    }

    /// Returns what [`Self::begin_drop`] would decide now.
    pub async fn drop_decision(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<DropDecision, StoreError> {
        let entry = self.table_entry(table.backend, &table.table).await?;
        self.decide_drop(source, entry.as_ref()).await
    }

    async fn decide_drop(
        &self,
        source: &SourceKey,
        entry: Option<&Versioned<TableEntry>>,
    ) -> Result<DropDecision, StoreError> {
        let Some(entry) = entry else {
            return Ok(DropDecision::Nothing);
        };
        if entry.owner != source.branch.project {
            return Ok(DropDecision::Foreign);
        }
        let holders = self.table_holders(entry).await?;
        let others = holders.deleted_sinks.iter().any(|s| s.source != *source);
        Ok(
            if others || !holders.sinks.is_empty() || !holders.files.is_empty() {
                DropDecision::Held
            } else if entry.found {
                DropDecision::Found
            } else if entry.filled_at.is_none() {
                DropDecision::Nothing
            } else {
                DropDecision::Drop
            },
        )
    }

    /// Decides on a table of a deleted source without active files. On [`DropDecision::Drop`] the
    /// caller drops the table, and then calls [`Self::table_dropped`] or
    /// [`Self::table_not_dropped`].
    pub async fn begin_drop(
        &self,
        source: &SourceKey,
        table: &FilledTable,
        stamp: &AuditStamp,
    ) -> Result<DropDecision, DefinitionError> {
        let key = self.table_key(table.backend, &table.table);
        let key = &key;
        self.transact(|txn| {
            Box::pin(async move {
                let deleted = self.deleted_source(source).await?;
                let read = txn.read::<TableEntry>(StoreKey::Table(key)).await?;
                let decision = self.decide_drop(source, read.as_ref()).await?;
                // A decision against the drop depends on the same preconditions.
                txn.expect_unchanged(StoreKey::DeletedSource(source), &deleted);
                if let (DropDecision::Drop, Some(entry)) = (&decision, read) {
                    let mut marked = entry.value;
                    marked.dropping = Some(PendingDrop {
                        source: source.clone(),
                        since: stamp.at,
                    });
                    txn.put(StoreKey::Table(key), &marked)?;
                }
                Ok(decision)
            })
        })
        .await
        .map(|done| done.value)
    }

    /// Records that the table was dropped: its name is free.
    pub async fn table_dropped(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<(), StoreError> {
        self.end_drop(source, table, |txn, key, _| {
            txn.delete(StoreKey::Table(key));
            Ok(())
        })
        .await
    }

    /// Records that the backend rejected the drop, so the table still exists.
    pub async fn table_not_dropped(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<(), StoreError> {
        self.end_drop(source, table, |txn, key, entry| {
            let mut restored = entry.value;
            restored.dropping = None;
            txn.put(StoreKey::Table(key), &restored)
        })
        .await
    }

    async fn end_drop(
        &self,
        source: &SourceKey,
        table: &FilledTable,
        end: impl Fn(&mut TxnBuilder<'_>, &TableKey, Versioned<TableEntry>) -> Result<(), StoreError>
        + Send
        + Sync,
    ) -> Result<(), StoreError> {
        let key = self.table_key(table.backend, &table.table);
        let (key, end) = (&key, &end);
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read = txn.read::<TableEntry>(StoreKey::Table(key)).await?;
                let Some(entry) = read else {
                    return Ok(ControlFlow::Break(()));
                };
                if entry.dropping.as_ref().is_none_or(|d| d.source != *source) {
                    return Ok(ControlFlow::Break(()));
                }
                end(txn, key, entry)?;
                Ok(ControlFlow::Continue(()))
            })
        });
        done.await.map(drop)
    }
}
