//! The writing connection, reopened after any error.

use rusqlite::{Connection, OpenFlags};

use crate::table::TableError;
use crate::table::sqlite::error::{self, ErrorContext};
use crate::table::sqlite::ledger;

use super::config::SqliteConfig;
use super::handle::{DatabaseHandle, FileIdentity};

/// A connection and the configuration to open another.
#[derive(Debug)]
pub(super) struct Database {
    config: SqliteConfig,
    connection: Option<(Connection, FileIdentity)>,
}

impl Database {
    pub(super) fn open(config: SqliteConfig) -> Result<Self, TableError> {
        let connection = connect(&config)?;
        Ok(Self {
            config,
            connection: Some(connection),
        })
    }

    /// Runs some work on the connection. After an error, or if the files were replaced, the
    /// connection is discarded and the next work opens a new one.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&mut DatabaseHandle<'_>) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let path = &self.config.path;
        let open = self.connection.take();
        let (mut connection, identity) = match open.filter(|(_, id)| id.still_holds(path)) {
            Some(open) => open,
            None => connect(&self.config)?,
        };
        let result = work(&mut DatabaseHandle {
            connection: &mut connection,
            context: ErrorContext { path },
            identity: &identity,
        });
        if result.is_ok() {
            self.connection = Some((connection, identity));
        }
        result
    }
}

fn connect(config: &SqliteConfig) -> Result<(Connection, FileIdentity), TableError> {
    let context = ErrorContext { path: &config.path };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&config.path, flags)?;
        connection.busy_timeout(config.busy_timeout)?;
        // A commit must be on disk when it returns: the slices of an imported file are deleted
        // then.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        // The user's tables may have foreign keys, which are enforced.
        connection.pragma_update(None, "foreign_keys", "ON")?;
        ledger::create(&connection)?;
        Ok(connection)
    };
    let connection = open().map_err(error::to_table_error(context, "open the database"))?;
    let identity = FileIdentity::from_path(&config.path).map_err(|e| {
        let path = config.path.display();
        TableError::Retryable(format!(
            "can't read the metadata of {path} and its write-ahead log: {e}"
        ))
    })?;
    Ok((connection, identity))
}
