//! Compares the ledgers of the tables with the store.
//!
//! A table has confirmed the import of every file that the store calls imported. If its ledger
//! lacks one of them, its database has lost confirmed data: its write-ahead log was damaged, its
//! server was restored from a backup, or it was replaced by an empty one. Rows that the log or
//! staging still has are imported again; others count as lost for as long as the entry is missing.
//!
//! Conversely, the entry of a file that the store has removed is obsolete. An entry is never
//! deleted before its file, so a missing entry is always a loss.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use forebay_connect::staging::Staging;
use forebay_connect::table::Table;
use forebay_log::Log;
use forebay_meta::{FileError, Versioned};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{
    File, FileKey, HumanDuration, ImportedFile, SinkKey, Slice, SliceKey, TableBackend, VolumeId,
};
use tokio::time::Instant;

use crate::import::{TableRegistry, import_id};
use crate::metrics;
use crate::work_queue::DeliveryContext;

/// Ids per ledger lookup.
const AT_ONCE: usize = 1000;

#[derive(Debug)]
pub(super) struct LedgerChecker {
    pub(super) delivery: DeliveryContext,
    pub(super) log: Log,
    pub(super) volume: VolumeId,
    pub(super) staging: Staging,
    pub(super) tables: TableRegistry,
    pub(super) cluster_id: Arc<str>,
    pub(super) interval: HumanDuration,
    /// When all imports are looked up next; `None`: now.
    pub(super) next: Option<Instant>,
    /// Slices whose file is to be imported again: a stale view still shows them as imported.
    pub(super) reopened: HashSet<SliceKey>,
    /// Whether the store was checked since the start.
    pub(super) checked: bool,
    /// Files whose table could not be queried.
    pub(super) unchecked: HashSet<FileKey>,
}

/// Lost imports of one sink.
#[derive(Default)]
struct LostImports {
    files: u64,
    rows: u64,
    imported_again: u64,
    lost: u64,
    oldest: Option<FileKey>,
}

impl LedgerChecker {
    /// Looks up the newest import of each table on every call; all of them when it is missing, and
    /// on every interval.
    pub(super) async fn check(&mut self) -> Result<(), FileError> {
        let files = self.delivery.repo.imported_files(None).await?;
        self.checked = true;
        self.unchecked.clear();
        let mut by_backend: BTreeMap<TableBackend, Vec<&Versioned<ImportedFile>>> = BTreeMap::new();
        for file in files.iter().filter(|f| f.imported_rows > 0) {
            if let Some(table) = self.tables.get(file.table.backend) {
                by_backend.entry(table.backend()).or_default().push(file);
            }
        }
        let is_due = self.next.is_none_or(|at| Instant::now() >= at);
        let mut complete = true;
        let tables = self.tables.clone();
        for table in tables.all() {
            let files = by_backend.remove(&table.backend()).unwrap_or_default();
            let looked = async {
                if is_due || self.newest_is_missing(&**table, &files).await? {
                    self.compare(&**table, &files).await?;
                }
                if is_due {
                    self.forget_removed_entries(&**table).await?;
                }
                Ok::<(), LedgerCheckError>(())
            };
            if let Err(LedgerCheckError(error)) = looked.await {
                let backend = table.backend().name();
                tracing::warn!(
                    backend,
                    error,
                    "can't compare the import ledger of the tables with the metadata; will retry"
                );
                complete = false;
                self.unchecked.extend(files.iter().map(|f| f.key.clone()));
            }
        }
        if is_due && complete {
            self.next = Some(Instant::now() + self.interval.0);
        }
        Ok(())
    }

    /// Whether streams and objects of an imported file may be deleted: only after its table was
    /// queried once since the start, since the database may have been replaced.
    pub(super) fn may_collect(&self, file: &FileKey) -> bool {
        self.checked && !self.unchecked.contains(file)
    }

    async fn newest_is_missing(
        &self,
        table: &dyn Table,
        files: &[&Versioned<ImportedFile>],
    ) -> Result<bool, LedgerCheckError> {
        let there = files.iter().filter(|f| f.lost_at.is_none());
        let Some(newest) = there.max_by_key(|f| f.imported_at) else {
            return Ok(false);
        };
        let id = import_id(&self.cluster_id, &newest.key);
        Ok(table.imported(&id).await?.is_none())
    }

    /// Looks up all files imported into one table.
    async fn compare(
        &mut self,
        table: &dyn Table,
        files: &[&Versioned<ImportedFile>],
    ) -> Result<(), LedgerCheckError> {
        let mut found: BTreeMap<SinkKey, LostImports> = BTreeMap::new();
        for chunk in files.chunks(AT_ONCE) {
            let cluster = Arc::clone(&self.cluster_id);
            let id = |file: &File| import_id(&cluster, &file.key);
            let ids: Vec<String> = chunk.iter().map(|f| id(f)).collect();
            let lacking: HashSet<String> = table.missing_imports(&ids).await?.into_iter().collect();
            for file in chunk {
                match (lacking.contains(&id(file)), file.lost_at) {
                    (true, None) => {
                        let of_sink = found.entry(file.key.sink.clone()).or_default();
                        self.on_missing_import(file, of_sink).await?;
                    }
                    (false, Some(_)) => {
                        let repo = &self.delivery.repo;
                        repo.imported_file_lost(&file.key, None).await?;
                        failpoint::at(FailPoint::LossRevoked);
                        let rows = file.imported_rows;
                        tracing::warn!(file = %file.key, rows, "table has rows again that were counted as lost");
                    }
                    _ => {}
                }
            }
        }
        for (sink, found) in found.iter().filter(|(_, f)| f.files > 0) {
            let LostImports {
                files,
                rows,
                imported_again,
                lost,
                ..
            } = found;
            let oldest = found.oldest.as_ref().map(ToString::to_string);
            metrics::rows_vanished(*rows);
            tracing::error!(
                %sink,
                backend = table.backend().name(),
                files,
                rows,
                oldest,
                imported_again,
                lost,
                "table's ledger lacks confirmed imports: its database has lost rows or was replaced"
            );
        }
        Ok(())
    }

    /// Handles a file whose import is missing in the ledger: imports it again, or marks it as lost.
    async fn on_missing_import(
        &mut self,
        file: &File,
        found: &mut LostImports,
    ) -> Result<(), LedgerCheckError> {
        let repo = self.delivery.repo.clone();
        // The file may have been removed meanwhile, and its entry with it.
        let slices: Vec<Slice> = match repo.imported_file(&file.key).await {
            Ok(now) if now.lost_at.is_none() => now.full_slices().collect(),
            Ok(_) | Err(FileError::FileNotFound(_)) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        failpoint::at(FailPoint::ImportLacking);
        let with_rows = slices.iter().filter(|s| s.statistics.records > 0);
        let (mut lost_slices, mut remaining) = (Vec::<SliceKey>::new(), 0);
        for slice in with_rows {
            if self.has_slice_data(slice).await? {
                remaining += slice.statistics.records;
            } else {
                lost_slices.push(slice.key.clone());
            }
        }
        if remaining > 0 {
            let keys = slices.iter().map(|s| s.key.clone());
            self.reopened.extend(keys);
            repo.reimport_file(&file.key, &lost_slices).await?;
            failpoint::at(FailPoint::ImportReopened);
        } else {
            let now = self.delivery.clock.now();
            repo.imported_file_lost(&file.key, Some(now)).await?;
            failpoint::at(FailPoint::LossNoted);
        }
        found.files += 1;
        found.rows += file.imported_rows;
        found.imported_again += remaining;
        found.lost += file.imported_rows.saturating_sub(remaining);
        if found
            .oldest
            .as_ref()
            .is_none_or(|oldest| file.key < *oldest)
        {
            found.oldest = Some(file.key.clone());
        }
        Ok(())
    }

    /// Whether the log or staging still has a slice.
    async fn has_slice_data(&self, slice: &Slice) -> Result<bool, LedgerCheckError> {
        let in_log =
            slice.key.volume == self.volume && self.log.find(&slice.key.to_string()).is_some();
        if in_log {
            return Ok(true);
        }
        let size = self.staging.size(&slice.staging_path).await;
        Ok(size.map_err(|e| LedgerCheckError(e.to_string()))?.is_some())
    }

    /// Deletes ledger entries of files that the store has removed.
    async fn forget_removed_entries(&self, table: &dyn Table) -> Result<(), LedgerCheckError> {
        let prefix = format!("{}/", self.cluster_id);
        let known = self.known_files().await?;
        let mut after = String::new();
        loop {
            let limit = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
            let page = table.ledger(&after, limit).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after.clone_from(last);
            let mut removed = Vec::new();
            for id in page {
                let key = id.strip_prefix(&prefix).map(str::parse::<FileKey>);
                if let Some(Ok(key)) = key
                    && !known.contains(&key)
                    && self.was_removed(&key).await?
                {
                    removed.push(id);
                }
            }
            if !removed.is_empty() {
                table.forget(&removed).await?;
                failpoint::at(FailPoint::LedgerForgotten);
            }
        }
    }

    /// Keys of all files in the store.
    async fn known_files(&self) -> Result<HashSet<FileKey>, LedgerCheckError> {
        let repo = &self.delivery.repo;
        let active = repo.active_files(None).await?;
        let imported = repo.imported_files(None).await?;
        let active = active.into_iter().map(|f| f.file.value.key);
        Ok(active
            .chain(imported.into_iter().map(|f| f.value.file.key))
            .collect())
    }

    /// Whether the store has recorded the file's removal. A file that it has never known may be
    /// known to a copy of the store.
    async fn was_removed(&self, key: &FileKey) -> Result<bool, LedgerCheckError> {
        let repo = &self.delivery.repo;
        let up_to = repo.removed_up_to(&key.sink).await?;
        if up_to.is_none_or(|at| key.opened_at > at) {
            return Ok(false);
        }
        // It may have changed state while all files were read.
        for found in [
            repo.file(key).await.map(drop),
            repo.imported_file(key).await.map(drop),
            repo.file(key).await.map(drop),
        ] {
            match found {
                Ok(_) => return Ok(false),
                Err(FileError::FileNotFound(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }
}

/// Error of a check, as text.
struct LedgerCheckError(String);

impl From<FileError> for LedgerCheckError {
    fn from(error: FileError) -> Self {
        Self(error.to_string())
    }
}

impl From<forebay_connect::table::TableError> for LedgerCheckError {
    fn from(error: forebay_connect::table::TableError) -> Self {
        Self(error.to_string())
    }
}
