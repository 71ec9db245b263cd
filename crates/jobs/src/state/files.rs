//! Checkpoints of files.

use std::collections::HashMap;

use rusqlite::params;

use super::{JobState, StateError};

/// Progress in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileCheckpoint {
    pub(crate) name: String,
    /// Identity of the content: other content is read from its start.
    pub(crate) identity: String,
    /// Bytes (uncompressed) before which everything is acknowledged.
    pub(crate) offset: u64,
    /// Lines before the offset.
    pub(crate) lines: u64,
    /// The file is done completely.
    pub(crate) done: bool,
}

impl JobState {
    /// All checkpoints by file name.
    pub(crate) async fn files(&self) -> Result<HashMap<String, FileCheckpoint>, StateError> {
        self.with(|c| {
            let mut select = c.prepare("SELECT name, identity, offset, lines, done FROM files")?;
            let number = |n: i64| u64::try_from(n).unwrap_or(0);
            let rows = select.query_map([], |r| {
                Ok(FileCheckpoint {
                    name: r.get(0)?,
                    identity: r.get(1)?,
                    offset: number(r.get(2)?),
                    lines: number(r.get(3)?),
                    done: r.get(4)?,
                })
            })?;
            rows.map(|p| p.map(|p| (p.name.clone(), p))).collect()
        })
        .await
    }

    /// Deletes all checkpoints at the end of a run: the next one begins from the start.
    pub(crate) async fn forget_files(&self) -> Result<(), StateError> {
        self.with(|c| c.execute("DELETE FROM files", []))
            .await
            .map(drop)
    }
}

/// Writes checkpoints within the transaction of the acknowledgement.
pub(super) fn write(c: &rusqlite::Connection, points: &[FileCheckpoint]) -> rusqlite::Result<()> {
    let mut insert =
        c.prepare_cached("INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for p in points {
        insert.execute(params![
            p.name,
            p.identity,
            number(p.offset),
            number(p.lines),
            p.done
        ])?;
    }
    Ok(())
}
