//! Reads tables without Forebay.

use std::path::PathBuf;

use tokio::runtime::Handle;
use tokio_postgres::NoTls;

/// Location of the tables.
pub(crate) enum Tables {
    Sqlite(PathBuf),
    /// Connection string, and a runtime to wait on.
    Postgres(String, Handle),
}

impl Tables {
    /// Calls `row` with id and check of each row; a missing table has none.
    pub(crate) fn each(&self, table: &str, mut row: impl FnMut(&str, &str)) {
        match self {
            Self::Sqlite(file) => {
                let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
                let Ok(db) = rusqlite::Connection::open_with_flags(file, flags) else {
                    return;
                };
                let Ok(mut query) = db.prepare(&format!("SELECT id, sum FROM \"{table}\"")) else {
                    return;
                };
                let mut rows = query.query([]).unwrap();
                while let Some(found) = rows.next().unwrap() {
                    let cell = |n| found.get_ref(n).unwrap().as_str().unwrap();
                    row(cell(0), cell(1));
                }
            }
            Self::Postgres(url, runtime) => {
                let (schema, name) = table.rsplit_once('.').unwrap();
                let sql = format!("SELECT id, sum FROM \"{schema}\".\"{name}\"");
                let rows = runtime.block_on(async {
                    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
                    let driver = tokio::spawn(connection);
                    let rows = client.query(&sql, &[]).await.unwrap_or_default();
                    drop(client);
                    drop(driver.await);
                    rows
                });
                for found in &rows {
                    row(found.get(0), found.get(1));
                }
            }
        }
    }
}
