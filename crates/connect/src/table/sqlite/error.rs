//! Conversion and classification of SQLite's errors.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::table::TableError;

/// Context of every error.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorContext<'a> {
    pub(super) path: &'a Path,
}

/// For `map_err`: `action` is what failed, as in "can't … in <file>".
pub(super) fn to_table_error<'a>(
    context: ErrorContext<'a>,
    action: &'a str,
) -> impl FnOnce(Error) -> TableError + 'a {
    move |error| {
        let path = context.path.display();
        let (retryable, cause) = classify(&error);
        // Free descriptors may become available, a missing folder doesn't.
        let has_folder = context.path.parent().is_none_or(|folder| folder.is_dir());
        let retryable = retryable && (has_folder || !is_not_opened(&error));
        let message = format!("can't {action} in {path}: {cause}");
        if retryable {
            TableError::Retryable(message)
        } else {
            TableError::Terminal(message)
        }
    }
}

/// Whether a retry may succeed, and the cause in plain words.
pub(crate) fn classify(error: &Error) -> (bool, String) {
    let Some(code) = error.sqlite_error_code() else {
        return (false, error.to_string());
    };
    let (retryable, words) = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            (true, "another process locked it for too long")
        }
        ErrorCode::DiskFull => (true, "the disk is full"),
        ErrorCode::SystemIoFailure => (true, "reading or writing the disk failed"),
        ErrorCode::OutOfMemory => (true, "there is not enough memory"),
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => {
            (true, "the operation was interrupted")
        }
        // Another process changed the schema between two steps, or replaced the file.
        ErrorCode::SchemaChanged | ErrorCode::FileLockingProtocolFailed => {
            (true, "another process changed it meanwhile")
        }
        ErrorCode::DatabaseCorrupt => (false, "the file is damaged: restore it or move it away"),
        ErrorCode::NotADatabase => (
            false,
            "the file is not a SQLite database: move it away or name another",
        ),
        ErrorCode::ReadOnly if is_moved(error) => (true, "the file was moved or deleted"),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            (false, "the file or its folder can't be written")
        }
        // Also caused by a lack of descriptors, which is temporary.
        ErrorCode::CannotOpen => (
            true,
            "the file can't be opened: check that its folder is there and can be written, and how many files the process may open",
        ),
        ErrorCode::ConstraintViolation => (false, "a row violates a constraint of the table"),
        ErrorCode::TooBig => (false, "a cell or name is larger than SQLite allows"),
        _ => (false, "SQLite error"),
    };
    (retryable, format!("{words} ({error})"))
}

fn is_not_opened(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}

fn is_moved(error: &Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn classified(connection: &Connection, sql: &str) -> (bool, String) {
        classify(&connection.execute_batch(sql).unwrap_err())
    }

    #[test]
    fn a_full_disk_is_retryable_and_a_bad_row_is_not() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (a TEXT CHECK (a <> 'bad')); PRAGMA max_page_count = 10;",
            )
            .unwrap();
        let (retryable, text) =
            classified(&connection, "INSERT INTO t SELECT hex(randomblob(50000))");
        assert!(retryable && text.contains("disk is full"), "{text}");
        let (retryable, text) = classified(&connection, "INSERT INTO t VALUES ('bad')");
        assert!(!retryable && text.contains("constraint"), "{text}");
        let (retryable, text) =
            classified(&connection, "INSERT INTO t VALUES (zeroblob(2000000000))");
        assert!(
            !retryable && text.contains("larger than SQLite allows"),
            "{text}"
        );
        connection.execute_batch("PRAGMA query_only = ON").unwrap();
        let (retryable, text) = classified(&connection, "DELETE FROM t");
        assert!(!retryable && text.contains("can't be written"), "{text}");
    }
}
