//! Verified copies of the metadata store.

use std::path::{Path, PathBuf};

use super::open::{APPLICATION_ID, DATABASE_FILE, SCHEMA_VERSION};
use crate::kv::sqlite_copy::{self, CopyError, PinnedDatabase};
use crate::kv::store::Revision;

/// Default folder of the copies, in the data directory.
pub const COPIES_FOLDER: &str = "meta-copies";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCopy {
    pub path: PathBuf,
    /// Last transaction in the copy.
    pub revision: Revision,
    /// Creation time, in milliseconds since 1970.
    pub made_at_ms: i64,
}

impl StoreCopy {
    fn from_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (revision, made_at) = name
            .strip_prefix("meta-")?
            .strip_suffix(".db")?
            .split_once('-')?;
        Some(Self {
            revision: Revision(revision.parse().ok()?),
            made_at_ms: made_at.parse().ok()?,
            path,
        })
    }
}

/// Lists the copies in a folder, newest first. A listed copy passed its check when it was created.
pub fn list(folder: &Path) -> Vec<StoreCopy> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|e| StoreCopy::from_path(e.path()))
        .collect();
    all.sort_by_key(|copy| std::cmp::Reverse((copy.revision, copy.made_at_ms)));
    all
}

/// Reads the revision of a store's database that no process has open.
pub fn read_revision(file: &Path) -> Result<Revision, CopyError> {
    let damaged = |reason: String| CopyError::Damaged {
        path: file.to_owned(),
        reason,
    };
    sqlite_copy::verify(file)?;
    let db = sqlite_copy::open_immutable(file)?;
    let number = |sql: &str| db.query_row(sql, (), |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT value FROM meta WHERE name = 'revision'")?,
        ))
    };
    let (application, version, revision) = read().map_err(|e| damaged(e.to_string()))?;
    if application != i64::from(APPLICATION_ID) || version != i64::from(SCHEMA_VERSION) {
        return Err(damaged("not a Forebay metadata store".to_owned()));
    }
    Ok(super::rows::from_sql(revision))
}

/// Copies the store in `dir`, which may be in use, and removes the oldest copies beyond `keep`.
/// Returns `None` if the newest copy is up to date.
pub fn create(
    dir: &Path,
    folder: &Path,
    keep: usize,
    now_ms: i64,
) -> Result<Option<StoreCopy>, CopyError> {
    use std::os::unix::fs::DirBuilderExt;
    let io = |source| CopyError::Io {
        path: folder.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io)?;
    // The revision is only known after the copy.
    let unnamed = folder.join("next");
    let pinned = PinnedDatabase::open(&dir.join(DATABASE_FILE))?;
    pinned.copy_to(&unnamed, &|| true)?;
    drop(pinned);
    let revision = read_revision(&unnamed)?;
    let existing = list(folder);
    if existing.first().is_some_and(|c| c.revision >= revision) {
        std::fs::remove_file(&unnamed).map_err(io)?;
        return Ok(None);
    }
    let path = folder.join(format!("meta-{:020}-{now_ms}.db", revision.0));
    std::fs::rename(&unnamed, &path).map_err(io)?;
    std::fs::File::open(folder)
        .and_then(|d| d.sync_all())
        .map_err(io)?;
    for old in existing.iter().skip(keep.saturating_sub(1)) {
        if let Err(error) = std::fs::remove_file(&old.path) {
            tracing::warn!(%error, file = %old.path.display(), "can't remove an old copy of the metadata store");
        }
    }
    Ok(Some(StoreCopy {
        path,
        revision,
        made_at_ms: now_ms,
    }))
}
