//! Read-only inspection of a table.

use std::path::Path;
use std::time::Duration;

use forebay_model::{Mapping, TableId};
use rusqlite::{Connection, OpenFlags};

use crate::table::sqlite::error::{self, ErrorContext};
use crate::table::sqlite::schema;
use crate::table::{InspectionFinding, TableError, TableInspection};

/// A reader waits only for a switch of the journal mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(
    path: &Path,
    table: &TableId,
    mapping: &Mapping,
) -> Result<TableInspection, TableError> {
    if !path.exists() {
        // The file was moved: the writer creates a new one.
        return Ok(TableInspection::default());
    }
    let context = ErrorContext { path };
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    let connection = open().map_err(error::to_table_error(context, "open the database"))?;
    let action = format!("look up table \"{table}\"");
    let failed = || error::to_table_error(context, &action);
    let Some(existing) = schema::find(&connection, table).map_err(failed())? else {
        return Ok(TableInspection::default());
    };
    let findings = match existing.violation(table) {
        Some(problem) => vec![InspectionFinding::for_table(problem)],
        None => {
            let columns = schema::columns(&connection, table).map_err(failed())?;
            crate::table::mapping_fit::try_fit(table, mapping, &columns).1
        }
    };
    Ok(TableInspection {
        exists: true,
        findings,
    })
}
