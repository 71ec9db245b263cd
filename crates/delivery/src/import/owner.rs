//! Checks whether a file's project may fill its table.
//!
//! A file was opened with a table that belonged to its project then; an operator may have
//! transferred the table since. The check runs before anything is written.

use std::sync::Arc;

use forebay_connect::table::Table;
use forebay_meta::catalog::tables::{TableFillState, TableOwnerError, TableRejection};
use forebay_model::{Actor, AuditStamp, File, TableSink};

use super::Importer;
use crate::work_queue::AttemptError;

impl Importer {
    /// Rejects a file whose table does not (or no longer) belong to its project, or is being
    /// deleted. The first fill of a table is recorded before anything is written to it.
    pub(super) async fn may_fill(
        &self,
        file: &File,
        by: &TableSink,
        table: &Arc<dyn Table>,
    ) -> Result<(), AttemptError> {
        let repo = &self.delivery.repo;
        let project = file.key.sink.source.branch.project;
        let (backend, id) = (by.backend, &by.table);
        let filling = repo.table_fill_state(project, backend, id).await;
        let TableFillState::First { may_exist } = filling.map_err(to_attempt_error)? else {
            return Ok(());
        };
        let found = table.inspect(id, &by.mapping).await?.exists;
        if found && !may_exist {
            // Another sink of the project may have created the table meanwhile, which is recorded
            // before that.
            let filling = repo.table_fill_state(project, backend, id).await;
            if filling.map_err(to_attempt_error)? == TableFillState::Again {
                return Ok(());
            }
            return Err(AttemptError::terminal(format!(
                "table \"{id}\" already exists and belongs to no project: ask an operator to transfer it to this one (forebay table transfer), or use another table"
            )));
        }
        self.fill(file, by, found).await.map_err(to_attempt_error)
    }

    /// Records that a file's table was filled by its project, as the table's ledger shows: metadata
    /// restored from a backup may not know of it. Nothing is recorded for another project's table.
    pub(super) async fn record_filled(
        &self,
        file: &File,
        by: &TableSink,
    ) -> Result<(), AttemptError> {
        match self.fill(file, by, true).await {
            Err(TableOwnerError::Rejected(_)) | Ok(()) => Ok(()),
            Err(other) => Err(to_attempt_error(other)),
        }
    }

    async fn fill(&self, file: &File, by: &TableSink, found: bool) -> Result<(), TableOwnerError> {
        let audit_stamp = AuditStamp {
            at: self.delivery.clock.now(),
            by: Actor::system(),
        };
        let project = file.key.sink.source.branch.project;
        let repo = &self.delivery.repo;
        repo.fill_table(project, by.backend, &by.table, found, &audit_stamp)
            .await
    }
}

fn to_attempt_error(error: TableOwnerError) -> AttemptError {
    match error {
        TableOwnerError::Rejected(TableRejection::Foreign(table)) => {
            AttemptError::terminal(format!(
                "table \"{table}\" belongs to another project: nothing was written, use another table or ask an operator to share it"
            ))
        }
        // The deletion ends, or an operator cancels it.
        other => AttemptError::retryable(other),
    }
}
