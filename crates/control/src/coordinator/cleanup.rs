//! Removes old metadata: imported files, tasks, audit entries. Files that are not imported are
//! never removed.

use std::collections::BTreeMap;

use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{File, SinkKey, Timestamp};

use super::{Coordinator, decide};

impl Coordinator {
    /// Removes old imported files, tasks and audit entries, and ends tasks whose node was removed.
    pub(super) async fn clean(&self) {
        if let Err(error) = self.clean_files().await {
            tracing::warn!(%error, "failed to remove old files");
        }
        let now = self.clock.wall();
        match self.repo.fail_abandoned_tasks(now).await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(tasks, "ended tasks of removed nodes"),
            Err(error) => tracing::warn!(%error, "failed to end tasks of removed nodes"),
        }
        match self.repo.remove_old_tasks(self.retention, now).await {
            Ok(0) => {}
            Ok(tasks) => tracing::debug!(tasks, "removed old tasks"),
            Err(error) => tracing::warn!(%error, "failed to remove old tasks"),
        }
        match self.repo.release_tables().await {
            Ok(0) => {}
            Ok(tables) => {
                tracing::debug!(tables, "released names of tables that were never filled")
            }
            Err(error) => tracing::warn!(%error, "failed to release table names"),
        }
        let retention = self.config.audit_retention.0.as_millis();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(retention));
        match self.repo.remove_old_audit(before).await {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(entries, "removed old audit entries"),
            Err(error) => tracing::warn!(%error, "failed to remove old audit entries"),
        }
    }

    async fn clean_files(&self) -> Result<(), forebay_meta::FileError> {
        let imported = self.repo.imported_files(None).await?;
        let mut by_sink: BTreeMap<&SinkKey, Vec<&File>> = BTreeMap::new();
        for file in &imported {
            by_sink.entry(&file.key.sink).or_default().push(file);
        }
        let mut removed = 0;
        for files in by_sink.values() {
            for file in decide::expired(files, &self.config, self.clock.wall()) {
                failpoint::at(FailPoint::FileRemoving);
                self.repo.remove_imported(&file.key).await?;
                failpoint::at(FailPoint::FileRemoved);
                removed += 1;
            }
        }
        if removed > 0 {
            tracing::debug!(files = removed, "removed metadata of imported files");
        }
        Ok(())
    }
}
