//! Imports files into their tables.
//!
//! The rows and the ledger's entry are one transaction of the table, and the entry's name is a
//! function of the file's key: a repeated import does nothing, whatever was killed before. Files of
//! a sink are imported one at a time, oldest first (`docs/adr/0002-…`). A file that its table
//! rejects follows the sink's current definition, and does not hold back later ones for ever
//! (`docs/adr/1372-…`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_connect::staging::Staging;
use forebay_connect::table::{Import, TableError};
use forebay_meta::catalog::keys::{self, StoreKey};
use forebay_meta::{DefinitionError, FileError, WatchCache};
use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{
    File, FileKey, FileState, Sink, SinkKey, Slice, SliceState, TableBackend, TableSink, Timestamp,
};
use tokio_util::sync::CancellationToken;

mod owner;
mod queue;
mod rows;
mod tables;

pub use tables::TableRegistry;

use crate::dead_letter::SinkDeadLetters;
use crate::metrics;
use crate::upload::Uploader;
use crate::work_queue::{
    AttemptError, DeliveryContext, RecoveryTracker, WorkConfig, run_work_queue,
};

/// Definition of an import attempt, as worded in a failure.
const AS_OPENED: &str = "as the sink was when the file was opened";
const IN_FORCE: &str = "as the sink is now";

/// Files with a slice that can't be uploaded without an operator, and since when.
fn stuck<'s>(slices: impl Iterator<Item = &'s Slice>) -> HashMap<FileKey, Timestamp> {
    let parked = slices.filter(|s| s.state == SliceState::Uploading && s.retry.parked);
    let since = parked.filter_map(|s| Some((s.key.file.clone(), s.retry.first_failed_at?)));
    let mut files = HashMap::new();
    for (file, since) in since {
        let first = files.entry(file).or_insert(since);
        *first = since.min(*first);
    }
    files
}

/// Imports files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Importer {
    delivery: DeliveryContext,
    staging: Staging,
    tables: TableRegistry,
    /// Uploads an object again that staging has lost.
    uploader: Uploader,
    cluster_id: Arc<str>,
    config: WorkConfig,
    /// Destinations are table backends.
    recovery: RecoveryTracker<TableBackend>,
    /// Receives the rows of files that an operator has given up.
    dead_letters: Option<SinkDeadLetters>,
}

impl From<TableError> for AttemptError {
    fn from(e: TableError) -> Self {
        if e.is_retryable() {
            Self::retryable(e)
        } else {
            Self::terminal(e)
        }
    }
}

impl Importer {
    pub fn new(
        delivery: DeliveryContext,
        staging: Staging,
        tables: TableRegistry,
        uploader: Uploader,
        cluster_id: &str,
        config: WorkConfig,
    ) -> Self {
        let recovery = RecoveryTracker::new(delivery.clock.now());
        Self {
            delivery,
            staging,
            tables,
            uploader,
            cluster_id: cluster_id.into(),
            config,
            recovery,
            dead_letters: None,
        }
    }

    /// Sets the destination of rows that an operator has given up; without it they wait.
    #[must_use]
    pub fn with_dead_letters(mut self, dead_letters: SinkDeadLetters) -> Self {
        self.dead_letters = Some(dead_letters);
        self
    }

    /// Imports until `stop`, then finishes imports in progress.
    pub async fn run(self, stop: CancellationToken) {
        let store = self.delivery.repo.store();
        let (files, fill) = WatchCache::<File>::new(Arc::clone(store), keys::FILES);
        let filling = tokio::spawn(fill.run(stop.clone()));
        let (sinks, fill) = WatchCache::<Sink>::new(Arc::clone(store), keys::SINKS);
        let filling_sinks = tokio::spawn(fill.run(stop.clone()));
        let (slices, fill) = WatchCache::<Slice>::new(Arc::clone(store), keys::SLICES);
        let filling_slices = tokio::spawn(fill.run(stop.clone()));
        let changes = tokio::sync::Mutex::new(files.changes());
        let due = |busy: &HashSet<FileKey>| {
            let (files, sinks) = (files.snapshot(), sinks.snapshot());
            let defined = |sink: &SinkKey| {
                let sink = sinks.entries.get(&StoreKey::Sink(sink).to_string());
                sink.map(|s| s.revision)
            };
            let closed = files
                .entries
                .values()
                .filter(|f| f.state > FileState::Writing);
            let stuck = stuck(slices.snapshot().entries.values().map(|s| &*s.value));
            let stuck = |file: &FileKey| stuck.get(file).copied();
            let now = self.delivery.clock.now();
            let due = |file: &File| {
                let backend = file.table.backend;
                self.recovery.is_due(&file.retry, &backend, now)
            };
            queue::next_of_each_sink(closed, busy, (defined, due), stuck, now)
        };
        let changed = || async { changes.lock().await.next().await.is_ok() };
        let act = |key: FileKey| {
            let this = self.clone();
            async move { this.attempt(&key).await }
        };
        run_work_queue(&stop, &self.config, changed, due, act).await;
        for filling in [filling, filling_sinks, filling_slices] {
            if let Err(error) = filling.await {
                tracing::error!(%error, "watch cache of the importer stopped");
            }
        }
    }

    /// Makes one attempt and records its outcome in the store.
    #[tracing::instrument(name = "import", level = "debug", skip_all, fields(file = %key))]
    async fn attempt(&self, key: &FileKey) {
        let file = match self.delivery.repo.file(key).await {
            Ok(file) if file.state == FileState::Importing => file.value,
            // Another attempt has completed it.
            Ok(_) | Err(FileError::FileNotFound(_)) => return,
            Err(error) => {
                tracing::warn!(file = %key, %error, "reading a file failed");
                return;
            }
        };
        if file.dead_rows.is_some() {
            self.reject(&file).await;
            return;
        }
        let imported = self.config.with_timeout("import", self.import(&file)).await;
        let now = self.delivery.clock.now();
        self.recovery
            .record(file.table.backend, imported.is_ok(), now);
        let recorded = match imported {
            Ok((rows, by)) => {
                metrics::imported(rows);
                let repo = &self.delivery.repo;
                let recorded = repo.file_imported_by(key, rows, Some(&by), now).await;
                failpoint::at(FailPoint::ImportNoted);
                recorded
            }
            Err(error) => {
                metrics::import_failed(&key.sink);
                // The sink monitor reports when a sink begins to fail, and when it recovers.
                tracing::debug!(file = %key, %error, needs_operator = error.is_terminal(), "file import failed");
                let failure = self.delivery.failure(error);
                self.delivery.repo.file_failed(key, &failure, now).await
            }
        };
        if let Err(error) = recorded {
            // The file is still `importing`; the next attempt finds it in the ledger.
            tracing::warn!(file = %key, %error, "recording the outcome of an import failed");
        }
    }

    /// Whether a ledger has the file after all, which is recorded then.
    async fn was_imported(&self, file: &File) -> Result<bool, AttemptError> {
        if file.dead_rows.as_ref().is_some_and(|d| d.moved > 0) {
            return Ok(false);
        }
        let id = import_id(&self.cluster_id, &file.key);
        let own = Some(file.table.clone());
        let in_force = self.current_definition(file).await?;
        for by in own.into_iter().chain(in_force) {
            // A missing backend can't be queried; giving up the file accepts that.
            let Some(table) = self.tables.get(by.backend) else {
                continue;
            };
            if let Some(rows) = table.resolve_import(&id).await? {
                let (repo, by) = (&self.delivery.repo, resolved(&by, table.backend()));
                let now = self.delivery.clock.now();
                let recorded = repo.file_imported_by(&file.key, rows, Some(&by), now);
                recorded.await.map_err(AttemptError::retryable)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves the file's rows to the dead letters.
    async fn reject(&self, file: &File) {
        let rejecting = self.config.with_timeout("move to the dead letters", async {
            let dead_letters = self
                .dead_letters
                .as_ref()
                .ok_or_else(|| AttemptError::retryable("this node keeps no dead letters"))?;
            if self.was_imported(file).await? {
                return Ok(());
            }
            let slices = self.slices(&file.key).await?;
            // Dead letters are in no transaction that could be rolled back.
            let damaged = rows::damaged(&self.staging, &slices).await;
            if let Some(slice) = damaged.map_err(AttemptError::retryable)? {
                let found = TableError::Retryable(format!(
                    "the staged slice {} is not as it was uploaded",
                    slice.staging_path
                ));
                return Err(self.reupload(&slice, &found).await?);
            }
            let columns = file.table.mapping.columns.len();
            let (rows, _) = rows::rows(self.staging.clone(), slices, columns);
            dead_letters.move_to_dlq(file, rows).await
        });
        let Err(error) = rejecting.await else {
            return;
        };
        tracing::warn!(file = %file.key, %error, "moving rows to the dead letters failed");
        let failure = self.delivery.failure(error);
        let repo = &self.delivery.repo;
        let recorded = repo.file_failed(&file.key, &failure, self.delivery.clock.now());
        if let Err(error) = recorded.await {
            tracing::warn!(file = %file.key, %error, "recording the outcome failed");
        }
    }

    /// Imports the file's rows into its table, once: by the definition that it was opened with or,
    /// if the table rejects that, by the current one. Returns the number of rows, and the
    /// definition used.
    async fn import(&self, file: &File) -> Result<(u64, TableSink), AttemptError> {
        let slices = self.slices(&file.key).await?;
        let mut tried: Vec<(&str, TableSink)> = Vec::new();
        let mut failure = String::new();
        if file.retry.attempt > 0 {
            let in_force = self.current_definition(file).await?;
            tried.extend(in_force.map(|by| (IN_FORCE, by)));
        }
        let own = (AS_OPENED, file.table.clone());
        if file.retry.parked {
            // The definition has changed since, most likely because of this file.
            tried.push(own);
        } else {
            tried.insert(0, own);
        }
        let mut next = 0;
        while let Some((what, by)) = tried.get(next).cloned() {
            if (file.retry.attempt > 0 || next > 0)
                && let Some(done) = self.already_imported(file, &tried).await?
            {
                return Ok(done);
            }
            match self.import_by(file, &by, &slices).await {
                Err(error) if error.is_terminal() => {
                    let divider = if failure.is_empty() { "" } else { "; " };
                    failure += &format!("{divider}{what}: {error}");
                }
                other => return other,
            }
            next += 1;
            if next == tried.len()
                && next == 1
                && let Some(by) = self.current_definition(file).await?
            {
                tried.push((IN_FORCE, by));
            }
        }
        if tried.len() == 1 {
            let prefix = format!("{AS_OPENED}: ");
            failure = failure.trim_start_matches(&prefix).to_owned();
        }
        Err(AttemptError::terminal(failure))
    }

    /// Returns the sink's definition, if it differs from the file's and the file's rows fit it.
    async fn current_definition(&self, file: &File) -> Result<Option<TableSink>, AttemptError> {
        let sink = match self.delivery.repo.sink(&file.key.sink).await {
            Ok(sink) => sink,
            Err(DefinitionError::SinkNotFound(_)) => return Ok(None),
            Err(e) => return Err(AttemptError::retryable(e)),
        };
        let own = &file.table;
        let table = sink
            .target
            .table()
            .filter(|table| *table != own && table.mapping.accepts_rows_from(&own.mapping));
        Ok(table.cloned())
    }

    /// Returns what the ledgers have of an import whose response was lost, or that preceded a
    /// change of the table. No ledger may be left out: rows that are in one table must not go into
    /// another.
    async fn already_imported(
        &self,
        file: &File,
        tried: &[(&str, TableSink)],
    ) -> Result<Option<(u64, TableSink)>, AttemptError> {
        let id = import_id(&self.cluster_id, &file.key);
        for (_, by) in tried {
            let Some(table) = self.tables.get(by.backend) else {
                if tried.iter().all(|(_, other)| other.backend == by.backend) {
                    return Ok(None);
                }
                let backend = by.backend.name();
                return Err(AttemptError::terminal(format!(
                    "the table backend \"{backend}\" is not configured on this node, so its ledger can't tell whether the file was imported there"
                )));
            };
            if let Some(rows) = table.resolve_import(&id).await? {
                return Ok(Some((rows, resolved(by, table.backend()))));
            }
        }
        Ok(None)
    }

    /// Imports the file's rows into one table, once.
    async fn import_by(
        &self,
        file: &File,
        by: &TableSink,
        slices: &[Slice],
    ) -> Result<(u64, TableSink), AttemptError> {
        let table = self.tables.get(by.backend).ok_or_else(|| {
            AttemptError::terminal(format!(
                "the table backend \"{}\" is not configured on this node",
                by.backend.name()
            ))
        })?;
        let import = Import {
            id: import_id(&self.cluster_id, &file.key),
            table: by.table.clone(),
            mapping: by.mapping.clone(),
        };
        if let Err(denied) = self.may_fill(file, by, table).await {
            // An import that was done before the table was transferred to another project, or
            // before the metadata was restored from a backup, still counts.
            return match table.imported(&import.id).await? {
                Some(rows) => {
                    self.record_filled(file, by).await?;
                    Ok((rows, resolved(by, table.backend())))
                }
                None => Err(denied),
            };
        }
        table.prepare(&import.table, &import.mapping).await?;
        failpoint::at(FailPoint::TablePrepared);
        let columns = import.mapping.columns.len();
        let (rows, unreadable) = rows::rows(self.staging.clone(), slices.to_vec(), columns);
        match table.import(&import, rows).await {
            Ok(done) => {
                if done.replaced_cells > 0 {
                    let cells = done.replaced_cells;
                    tracing::warn!(file = %file.key, cells, "cells with bytes that no table can hold were replaced");
                }
                Ok((done.rows, resolved(by, table.backend())))
            }
            Err(error) => {
                let mut unreadable = unreadable.take();
                if unreadable.is_none() && !error.is_retryable() {
                    let found = rows::damaged(&self.staging, slices).await;
                    unreadable = found.map_err(AttemptError::retryable)?;
                }
                match unreadable {
                    None => Err(error.into()),
                    Some(slice) => Err(self.reupload(&slice, &error).await?),
                }
            }
        }
    }

    /// Repairs an object that is missing in staging or differs from its upload: uploads the slice
    /// again, which the log still has, and retries the import soon.
    async fn reupload(
        &self,
        slice: &Slice,
        error: &TableError,
    ) -> Result<AttemptError, AttemptError> {
        tracing::warn!(slice = %slice.key, %error, "uploading a slice again");
        let uploaded = self
            .uploader
            .upload(slice)
            .await
            .map_err(|e| e.with_context(&format!("{error}; uploading it again failed")))?;
        failpoint::at(FailPoint::ObjectRewritten);
        // The log may have lost records since: the next attempt must not expect them.
        let repo = &self.delivery.repo;
        let recorded = repo
            .slice_reuploaded(&slice.key, uploaded.staged, uploaded.lost_records)
            .await;
        failpoint::at(FailPoint::RewriteNoted);
        let reason = match recorded {
            Ok(_) => format!("{error}; it was uploaded again"),
            Err(e) => format!("{error}; it was uploaded again, but recording that failed: {e}"),
        };
        Ok(AttemptError::retryable(reason))
    }

    /// The file's slices in the order in which they were opened.
    async fn slices(&self, key: &FileKey) -> Result<Vec<Slice>, AttemptError> {
        let failed = |e: FileError| AttemptError::retryable(e);
        let files = self
            .delivery
            .repo
            .active_files(Some(&key.sink))
            .await
            .map_err(failed)?;
        let file = files.into_iter().find(|f| f.file.key == *key);
        let file = file.ok_or_else(|| failed(FileError::FileNotFound(key.clone())))?;
        let mut slices: Vec<Slice> = file.slices.into_iter().map(|s| s.slice.value).collect();
        slices.sort_by(|a, b| {
            (a.key.opened_at, &a.key.volume).cmp(&(b.key.opened_at, &b.key.volume))
        });
        Ok(slices)
    }
}

/// The definition with its default backend resolved.
fn resolved(by: &TableSink, backend: TableBackend) -> TableSink {
    TableSink {
        backend,
        ..by.clone()
    }
}

/// Id of a file in the ledger.
pub(crate) fn import_id(cluster_id: &str, file: &FileKey) -> String {
    format!("{cluster_id}/{file}")
}
