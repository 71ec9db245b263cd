//! Looking at a table without changing it.

use std::path::Path;
use std::time::Duration;

use forebay_model::{Mapping, TableId};
use rusqlite::{Connection, OpenFlags};

use crate::table::sqlite::error::{self, Context};
use crate::table::sqlite::schema;
use crate::table::{Finding, Inspection, TableError};

/// Readers wait for nobody but whoever switches the journal's mode.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(
    path: &Path,
    table: &TableId,
    mapping: &Mapping,
) -> Result<Inspection, TableError> {
    if !path.exists() {
        // It was moved away: the writer makes a new one.
        return Ok(Inspection::default());
    }
    let context = Context { path };
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(connection)
    };
    let connection = open().map_err(error::at(context, "open the database"))?;
    let action = format!("look up table \"{table}\"");
    let failed = || error::at(context, &action);
    let Some(there) = schema::find(&connection, table).map_err(failed())? else {
        return Ok(Inspection::default());
    };
    let findings = match there.problem(table) {
        Some(problem) => vec![Finding::of_table(problem)],
        None => {
            let columns = schema::columns(&connection, table).map_err(failed())?;
            crate::table::shape::try_fit(table, mapping, &columns).1
        }
    };
    Ok(Inspection {
        exists: true,
        findings,
    })
}
