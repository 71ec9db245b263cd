//! Settings of a SQLite table.

use std::path::PathBuf;
use std::time::Duration;

/// The embedded database.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// By convention `tables.db` in the data directory. Created if missing.
    pub path: PathBuf,
    /// Limit of waiting for another process's lock.
    pub busy_timeout: Duration,
}

impl SqliteConfig {
    /// A file with the default timeout.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            busy_timeout: Duration::from_secs(10),
        }
    }
}
