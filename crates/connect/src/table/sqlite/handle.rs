//! A connection as work on it gets it, and the identity of its files.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;

use crate::table::TableError;
use crate::table::sqlite::error::ErrorContext;

/// Device and inode of the open database and of its write-ahead log. SQLite doesn't notice when
/// they are deleted or replaced, and would commit rows to unreachable files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity([(u64, u64); 2]);

impl FileIdentity {
    pub(super) fn from_path(path: &Path) -> io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let identity = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino()));
        Ok(Self([identity(path)?, identity(log.as_ref())?]))
    }

    pub(super) fn still_holds(&self, path: &Path) -> bool {
        Self::from_path(path).is_ok_and(|now| now == *self)
    }
}

/// A connection with the context of its errors.
pub(super) struct DatabaseHandle<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) context: ErrorContext<'a>,
    pub(super) identity: &'a FileIdentity,
}

impl<'a> DatabaseHandle<'a> {
    /// The check to run before a commit.
    pub(super) fn identity_check(&self) -> IdentityCheck<'a> {
        IdentityCheck {
            path: self.context.path,
            identity: self.identity,
        }
    }
}

/// Checks that the files are still those that were opened.
#[derive(Clone, Copy)]
pub(super) struct IdentityCheck<'a> {
    path: &'a Path,
    identity: &'a FileIdentity,
}

impl IdentityCheck<'_> {
    pub(super) fn check(self) -> Result<(), TableError> {
        if self.identity.still_holds(self.path) {
            return Ok(());
        }
        let path = self.path.display();
        Err(TableError::Retryable(format!(
            "{path} was moved, deleted or replaced while it was open"
        )))
    }
}
