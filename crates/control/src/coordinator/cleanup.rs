//! Forgetting what is done. What is not imported is never touched.

use std::collections::BTreeMap;

use forebay_model::failpoint::{self, FailPoint};
use forebay_model::{File, SinkKey, Timestamp};

use super::{Coordinator, decide};

impl Coordinator {
    /// Removes metadata of old imported files, old tasks, and ends tasks whose node is gone.
    pub(super) async fn clean(&self) {
        if let Err(error) = self.clean_files().await {
            tracing::warn!(%error, "old files could not be removed");
        }
        let now = self.clock.wall();
        match self.repo.fail_abandoned_tasks(now).await {
            Ok(0) => {}
            Ok(tasks) => tracing::info!(tasks, "tasks of nodes that are gone were ended"),
            Err(error) => tracing::warn!(%error, "tasks of nodes that are gone could not be ended"),
        }
        match self.repo.remove_old_tasks(self.retention, now).await {
            Ok(0) => {}
            Ok(tasks) => tracing::debug!(tasks, "old tasks were removed"),
            Err(error) => tracing::warn!(%error, "old tasks could not be removed"),
        }
        match self.repo.release_tables().await {
            Ok(0) => {}
            Ok(tables) => tracing::debug!(
                tables,
                "names of tables that were never filled were released"
            ),
            Err(error) => tracing::warn!(%error, "names of tables could not be released"),
        }
        let retention = self.config.audit_retention.0.as_millis();
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(retention));
        match self.repo.remove_old_audit(before).await {
            Ok(0) => {}
            Ok(entries) => tracing::debug!(entries, "old entries of the audit were removed"),
            Err(error) => tracing::warn!(%error, "old entries of the audit could not be removed"),
        }
    }

    async fn clean_files(&self) -> Result<(), forebay_meta::FileError> {
        let imported = self.repo.imported_files(None).await?;
        let mut by_sink: BTreeMap<&SinkKey, Vec<&File>> = BTreeMap::new();
        for file in &imported {
            by_sink.entry(&file.key.sink).or_default().push(&file.value);
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
            tracing::debug!(files = removed, "metadata of imported files was removed");
        }
        Ok(())
    }
}
