//! Files go into their tables.
//!
//! The rows and the ledger's entry are one transaction of the table, and the entry's name is a
//! function of the file's key: an import that is repeated, after whatever has been killed, does
//! nothing. Files of a sink are imported one at a time, oldest first (`docs/adr/0002-…`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use forebay_meta::{FileError, Mirror, Revised, keys};
use forebay_model::failpoint::{self, Point};
use forebay_model::{File, FileKey, FileState, SinkKey, Slice};
use forebay_remote::staging::Staging;
use forebay_remote::table::{Import, TableError};
use tokio_util::sync::CancellationToken;

mod owner;
mod rows;
mod tables;

pub use tables::Tables;

use crate::deliver::{AttemptError, Delivery, WorkConfig, work};
use crate::metrics;
use crate::upload::Uploader;

/// Imports files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Importer {
    delivery: Delivery,
    staging: Staging,
    tables: Tables,
    /// Writes an object again that staging has lost.
    uploader: Uploader,
    cluster_id: Arc<str>,
    config: WorkConfig,
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
    /// Into those tables, under that cluster's name.
    #[must_use]
    pub fn new(
        delivery: Delivery,
        staging: Staging,
        tables: Tables,
        uploader: Uploader,
        cluster_id: &str,
        config: WorkConfig,
    ) -> Self {
        Self {
            delivery,
            staging,
            tables,
            uploader,
            cluster_id: cluster_id.into(),
            config,
        }
    }

    /// Imports until `stop`; what is under way then is finished.
    pub async fn run(self, stop: CancellationToken) {
        let (files, fill) =
            Mirror::<File>::new(Arc::clone(self.delivery.repo.store()), keys::FILES);
        let filling = tokio::spawn(fill.run(stop.clone()));
        let changes = tokio::sync::Mutex::new(files.changes());
        let due = |busy: &HashSet<FileKey>| {
            let snapshot = files.snapshot();
            let waiting = snapshot
                .entries
                .values()
                .filter(|f| f.state > FileState::Writing);
            self.oldest_of_each_sink(waiting, busy)
        };
        let changed = || async { changes.lock().await.next().await.is_ok() };
        let act = |key: FileKey| {
            let this = self.clone();
            async move { this.attempt(&key).await }
        };
        work(&stop, &self.config, changed, due, act).await;
        if let Err(error) = filling.await {
            tracing::error!(%error, "the mirror of files ended");
        }
    }

    /// The oldest closed file of each sink, if it is in staging, due, and no file of the sink is
    /// being imported. One whose slices are not all uploaded holds back the later ones.
    fn oldest_of_each_sink<'f>(
        &self,
        waiting: impl Iterator<Item = &'f Revised<Arc<File>>>,
        busy: &HashSet<FileKey>,
    ) -> Vec<crate::deliver::Due<FileKey>> {
        let mut oldest: BTreeMap<&SinkKey, &Revised<Arc<File>>> = BTreeMap::new();
        for file in waiting {
            let first = oldest.entry(&file.key.sink).or_insert(file);
            if file.key.opened_at < first.key.opened_at {
                *first = file;
            }
        }
        let busy: HashSet<&SinkKey> = busy.iter().map(|k| &k.sink).collect();
        let now = self.delivery.clock.now();
        let due = oldest
            .values()
            .filter(|f| f.state == FileState::Importing && f.retry.is_due(now))
            .filter(|f| !busy.contains(&f.key.sink));
        due.map(|f| (f.key.clone(), f.revision)).collect()
    }

    /// One attempt, and its outcome in the store.
    async fn attempt(&self, key: &FileKey) {
        let file = match self.delivery.repo.file(key).await {
            Ok(file) if file.state == FileState::Importing => file.value,
            // Somebody has done it.
            Ok(_) | Err(FileError::FileNotFound(_)) => return,
            Err(error) => {
                tracing::warn!(file = %key, %error, "the file could not be read");
                return;
            }
        };
        let imported = self.config.within("import", self.import(&file)).await;
        let now = self.delivery.clock.now();
        let noted = match imported {
            Ok(rows) => {
                metrics::imported(rows);
                let noted = self.delivery.repo.file_imported(key, rows, now).await;
                failpoint::at(Point::ImportNoted);
                noted
            }
            Err(error) => {
                metrics::import_failed();
                tracing::warn!(file = %key, %error, needs_a_person = error.is_terminal(), "a file could not be imported");
                let failure = self.delivery.failure(error);
                self.delivery.repo.file_failed(key, &failure, now).await
            }
        };
        if let Err(error) = noted {
            // It is still `importing` then; the next attempt finds it in the ledger.
            tracing::warn!(file = %key, %error, "the outcome of an import could not be noted");
        }
    }

    /// Brings the file's rows into its table, once. Returns how many it has.
    async fn import(&self, file: &File) -> Result<u64, AttemptError> {
        let table = self.tables.get(file.table.backend).ok_or_else(|| {
            AttemptError::terminal(format!(
                "the table backend \"{}\" is not configured on this node",
                file.table.backend.name()
            ))
        })?;
        let import = Import {
            id: import_id(&self.cluster_id, &file.key),
            table: file.table.table.clone(),
            mapping: file.table.mapping.clone(),
        };
        if let Err(refused) = self.may_fill(file, table).await {
            // What was done before the table became another project's is done all the same.
            return match table.imported(&import.id).await? {
                Some(rows) => Ok(rows),
                None => Err(refused),
            };
        }
        let slices = self.slices(&file.key).await?;
        table.prepare(&import.table, &import.mapping).await?;
        failpoint::at(Point::TablePrepared);
        let columns = import.mapping.columns.len();
        let (rows, unreadable) = rows::rows(self.staging.clone(), slices, columns);
        match table.import(&import, rows).await {
            Ok(done) => {
                if done.replaced_cells > 0 {
                    let cells = done.replaced_cells;
                    tracing::warn!(file = %file.key, cells, "cells had bytes that no table can hold, they were replaced");
                }
                Ok(done.rows)
            }
            Err(error) => {
                let Some(slice) = unreadable.take() else {
                    return Err(error.into());
                };
                self.write_again(&slice, &error).await
            }
        }
    }

    /// An object is missing in staging, or is not what was written. The log still has the slice:
    /// the object is written anew and the import tried again, soon.
    async fn write_again(&self, slice: &Slice, error: &TableError) -> Result<u64, AttemptError> {
        tracing::warn!(slice = %slice.key, %error, "the slice is uploaded again");
        let uploaded = self
            .uploader
            .upload(slice)
            .await
            .map_err(|e| e.after(&format!("{error}; uploading it again failed")))?;
        // The log may have lost records since: the next attempt must not look for them.
        let repo = &self.delivery.repo;
        let noted = repo
            .slice_uploaded_again(&slice.key, uploaded.bytes, uploaded.lost_records)
            .await;
        let reason = match noted {
            Ok(_) => format!("{error}; it was uploaded again"),
            Err(e) => format!("{error}; it was uploaded again, which could not be noted: {e}"),
        };
        Err(AttemptError::retryable(reason))
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

/// What the ledger knows a file by.
pub(crate) fn import_id(cluster_id: &str, file: &FileKey) -> String {
    format!("{cluster_id}/{file}")
}
