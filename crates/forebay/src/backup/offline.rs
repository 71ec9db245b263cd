//! A backup of a data directory that no server has open.

use std::io::Read;
use std::path::{Path, PathBuf};

use forebay_meta::embedded::{self, DATABASE_FILE};
use forebay_meta::sqlite_copy::Pinned;
use forebay_model::Timestamp;

use super::{Done, LOG_FOLDER, Origin, TABLES_FILE, Target};

/// Files of the log that are none of its content.
fn is_content(name: &str) -> bool {
    name == "volume" || name.starts_with("segment-")
}

/// Copies everything as it is. The caller holds the directory's lock.
///
/// # Errors
/// A sentence; there is no backup then.
pub(crate) fn offline(origin: &Origin, to: &Path, now: Timestamp) -> Result<Done, String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    let pin = |path: &Path| Pinned::open(path).map_err(|e| e.to_string());
    let metadata = pin(&origin.dir.join(DATABASE_FILE))?;
    let mut target = Target::begin(&origin.dir, to)?;
    target.folder(LOG_FOLDER)?;
    let log = origin.dir.join(LOG_FOLDER);
    let mut names: Vec<String> = std::fs::read_dir(&log)
        .map_err(failed(&log))?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| is_content(name))
        .collect();
    names.sort();
    for name in names {
        let path: PathBuf = log.join(&name);
        let mut file = std::fs::File::open(&path).map_err(failed(&path))?;
        let len = file.metadata().map_err(failed(&path))?.len();
        target.copy(&format!("{LOG_FOLDER}/{name}"), &mut |b| file.read(b), len)?;
    }
    if origin.tables.exists() {
        target.database(TABLES_FILE, &pin(&origin.tables)?)?;
    }
    target.database(DATABASE_FILE, &metadata)?;
    drop(metadata);
    let copied = target.path(DATABASE_FILE);
    let revision = embedded::copies::revision_of(&copied).map_err(|e| e.to_string())?;
    target.rest(origin)?;
    let (files, bytes) = target.finish(revision, now)?;
    Ok(Done {
        to: to.to_owned(),
        files,
        bytes,
        revision,
    })
}
