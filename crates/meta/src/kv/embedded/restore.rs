//! Restores a store that is damaged, missing or behind from a copy.

use std::path::{Path, PathBuf};

use super::copies::{self, StoreCopy};
use super::open::{self, DATABASE_FILE, StoreOpenError};
use super::{revision_file, rows};
use crate::kv::sqlite_copy::CopyError;
use crate::kv::store::Revision;

/// Error of restoring a copy; the store is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Open(#[from] StoreOpenError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Replaces the store of `dir`, which no process may have open, with `copy`. Returns the name under
/// which the replaced files are retained. The copy continues after the highest revision ever
/// committed, so that no revision is reused.
pub fn restore_copy(
    dir: &Path,
    copies_folder: &Path,
    copy: &Path,
    now_ms: i64,
) -> Result<(StoreCopy, Vec<PathBuf>), RestoreError> {
    let _lock = open::acquire_lock(dir)?;
    let revision = copies::read_revision(copy)?;
    let known = revision_file::read(dir);
    let known = known.max(copies::list(copies_folder).first().map(|c| c.revision));
    let file = dir.join(DATABASE_FILE);
    let new = dir.join("meta.db.restoring");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    std::fs::copy(copy, &new).map_err(io(&new))?;
    set_revision(&new, revision.max(known.unwrap_or_default()).next())?;
    let sync = |path: &Path| std::fs::File::open(path).and_then(|f| f.sync_all());
    sync(&new).map_err(io(&new))?;
    let mut replaced = Vec::new();
    for part in ["", "-wal", "-shm"] {
        let old = dir.join(format!("{DATABASE_FILE}{part}"));
        let aside = dir.join(format!("{DATABASE_FILE}.before-{now_ms}{part}"));
        match std::fs::rename(&old, &aside) {
            Ok(()) => replaced.push(aside),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(&old)(e)),
        }
    }
    std::fs::rename(&new, &file).map_err(io(&file))?;
    sync(dir).map_err(io(dir))?;
    let copy = StoreCopy {
        path: copy.to_owned(),
        revision,
        made_at_ms: now_ms,
    };
    Ok((copy, replaced))
}

fn set_revision(file: &Path, revision: Revision) -> Result<(), StoreOpenError> {
    use std::os::unix::fs::PermissionsExt;
    let fail = |e: rusqlite::Error| open::from_sqlite(file, &e);
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, private).map_err(|e| open::from_io(file, &e))?;
    let db = rusqlite::Connection::open(file).map_err(fail)?;
    let set = "UPDATE meta SET value = ?1 WHERE name = 'revision'";
    db.execute(set, [rows::to_sql(revision)]).map_err(fail)?;
    // Move everything from the write-ahead log into the file.
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        .map_err(fail)?;
    db.close().map_err(|(_, e)| fail(e))
}
