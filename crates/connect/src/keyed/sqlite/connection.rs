//! Settings and errors of the connections to the file.

use std::path::Path;
use std::time::Duration;

use crate::table::TableError;
use crate::table::sqlite::classify;

/// Limit of waiting for another process's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn failed<'a>(
    path: &'a Path,
    action: &'a str,
) -> impl Fn(rusqlite::Error) -> TableError + 'a {
    move |error| {
        let (retryable, cause) = classify(&error);
        let message = format!("can't {action} in {}: {cause}", path.display());
        if retryable {
            TableError::Retryable(message)
        } else {
            TableError::Terminal(message)
        }
    }
}
