//! Dropping the tables of a source that is deleted for good.
//!
//! Two transactions, with the drop itself between them: the first one finds that nothing else holds
//! the table and marks it, the second one forgets the table. From the mark on nobody can become a
//! holder, and a sink that has become one before prevents the mark. After a crash the mark is there
//! still, and the same deletion, repeated, goes on from it.

use forebay_model::{Sink, SourceKey, Stamp, TableBackend, TableId, TableKey};

use super::definitions::DefinitionError;
use super::tables::{Dropping, TableEntry};
use super::{Attempts, Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::StoreError;

/// A table that a deleted source filled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilledTable {
    /// What keeps it.
    pub backend: TableBackend,
    /// Its name.
    pub table: TableId,
}

/// What happens to a table of a source that is deleted for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody else holds it: it is marked, and to be dropped.
    Drop,
    /// It was never filled, or is dropped already: there is nothing to do.
    Nothing,
    /// Other sinks hold it.
    Held,
    /// It belongs to another project.
    Foreign,
    /// It was there before Forebay filled it.
    Found,
}

impl Repo {
    /// The tables that the sinks of a deleted source fill by their last definition, each once.
    ///
    /// # Errors
    /// The store's.
    pub async fn filled_tables(&self, source: &SourceKey) -> Result<Vec<FilledTable>, StoreError> {
        let deleted = keys::below(keys::DELETED_SINKS, source);
        let deleted = self.read_all::<Sink>(&deleted).await?;
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

    /// What [`Self::begin_drop`] would decide at this moment.
    ///
    /// # Errors
    /// The store's.
    pub async fn table_fate(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<Fate, StoreError> {
        let entry = self.table_entry(table.backend, &table.table).await?;
        self.fate(source, entry.as_ref()).await
    }

    async fn fate(
        &self,
        source: &SourceKey,
        entry: Option<&Revised<TableEntry>>,
    ) -> Result<Fate, StoreError> {
        let Some(entry) = entry else {
            return Ok(Fate::Nothing);
        };
        if entry.owner != source.branch.project {
            return Ok(Fate::Foreign);
        }
        let holders = self.table_holders(entry).await?;
        let others = holders.deleted_sinks.iter().any(|s| s.source != *source);
        Ok(
            if others || !holders.sinks.is_empty() || !holders.files.is_empty() {
                Fate::Held
            } else if entry.found {
                Fate::Found
            } else if entry.filled_at.is_none() {
                Fate::Nothing
            } else {
                Fate::Drop
            },
        )
    }

    /// Decides about a table of a source that is deleted and has nothing on its way. Whoever is told
    /// to drop it drops it, and then calls [`Self::table_dropped`] or [`Self::table_not_dropped`].
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`] when it is not among the deleted, or the store.
    pub async fn begin_drop(
        &self,
        source: &SourceKey,
        table: &FilledTable,
        stamp: &Stamp,
    ) -> Result<Fate, DefinitionError> {
        let key = self.table_key(table.backend, &table.table);
        let mut attempts = Attempts::default();
        loop {
            let deleted = self.deleted_source(source).await?;
            let read = self.read::<TableEntry>(Key::Table(&key)).await?;
            let fate = self.fate(source, read.as_ref()).await?;
            // To do nothing rests on the same conditions.
            let mut draft = Draft::default();
            draft.unchanged(Key::DeletedSource(source), &deleted);
            draft.as_read(Key::Table(&key), read.as_ref());
            if let (Fate::Drop, Some(entry)) = (&fate, read) {
                let mut marked = entry.value;
                marked.dropping = Some(Dropping {
                    source: source.clone(),
                    since: stamp.at,
                });
                draft.put(Key::Table(&key), &marked)?;
            }
            if self.commit(draft).await?.is_some() {
                return Ok(fate);
            }
            attempts.again().await?;
        }
    }

    /// The table is gone: its name is anybody's.
    ///
    /// # Errors
    /// The store's.
    pub async fn table_dropped(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<(), StoreError> {
        self.end_drop(source, table, |draft, key, _| {
            draft.delete(Key::Table(key));
            Ok(())
        })
        .await
    }

    /// The backend has refused to drop it, so it certainly is there.
    ///
    /// # Errors
    /// The store's.
    pub async fn table_not_dropped(
        &self,
        source: &SourceKey,
        table: &FilledTable,
    ) -> Result<(), StoreError> {
        self.end_drop(source, table, |draft, key, entry| {
            let mut kept = entry.value.clone();
            kept.dropping = None;
            draft.put(Key::Table(key), &kept)
        })
        .await
    }

    async fn end_drop(
        &self,
        source: &SourceKey,
        table: &FilledTable,
        end: impl Fn(&mut Draft, &TableKey, &Revised<TableEntry>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let key = self.table_key(table.backend, &table.table);
        let mut attempts = Attempts::default();
        loop {
            let read = self.read::<TableEntry>(Key::Table(&key)).await?;
            let Some(entry) = read else {
                return Ok(());
            };
            if entry.dropping.as_ref().is_none_or(|d| d.source != *source) {
                return Ok(());
            }
            let mut draft = Draft::default();
            draft.unchanged(Key::Table(&key), &entry);
            end(&mut draft, &key, &entry)?;
            if self.commit(draft).await?.is_some() {
                return Ok(());
            }
            attempts.again().await?;
        }
    }
}
