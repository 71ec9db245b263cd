//! Whether a file's project may fill its table.
//!
//! A file was opened under a table that was its project's then; an operator may have given the table
//! to another project since. What is said here is said before anything is written.

use std::sync::Arc;

use forebay_connect::table::Table;
use forebay_meta::catalog::tables::{TableFillState, TableOwnerError, TableRejection};
use forebay_model::{Actor, AuditStamp, File, TableSink};

use super::Importer;
use crate::work_queue::AttemptError;

impl Importer {
    /// Refuses a file whose table is not its project's (any more), or is being deleted. The first
    /// time that a table is filled, it is noted before anything is written to it.
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
            // Another sink of the project may have made it meanwhile: that is noted before.
            let filling = repo.table_fill_state(project, backend, id).await;
            if filling.map_err(to_attempt_error)? == TableFillState::Again {
                return Ok(());
            }
            return Err(AttemptError::terminal(format!(
                "table \"{id}\" is there already and belongs to no project: an operator can give it to this one (forebay table transfer), or use another table"
            )));
        }
        self.fill(file, by, found).await.map_err(to_attempt_error)
    }

    /// Notes that a file's table was filled by its project, as the table's ledger says: metadata that
    /// was set back to a backup does not know of it. Nothing is noted of another project's table.
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
        // The deletion ends, or an operator takes it back.
        other => AttemptError::retryable(other),
    }
}
