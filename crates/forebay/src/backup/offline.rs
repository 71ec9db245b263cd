//! Backup of a data directory that no server has open.

use std::io::Read;
use std::path::{Path, PathBuf};

use forebay_meta::kv::embedded::{self, DATABASE_FILE};
use forebay_meta::kv::sqlite_copy::PinnedDatabase;
use forebay_model::Timestamp;

use super::{BackupReport, BackupSource, BackupWriter, LOG_FOLDER, TABLES_FILE};

/// Excludes lock and temporary files of the log.
fn is_content(name: &str) -> bool {
    name == "volume" || name.starts_with("segment-")
}

/// Copies all files. The caller holds the lock of the directory.
pub(crate) fn offline(
    origin: &BackupSource,
    to: &Path,
    now: Timestamp,
) -> Result<BackupReport, String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    let pin = |path: &Path| PinnedDatabase::open(path).map_err(|e| e.to_string());
    let metadata = pin(&origin.dir.join(DATABASE_FILE))?;
    let mut target = BackupWriter::create(&origin.dir, to)?;
    target.create_folder(LOG_FOLDER)?;
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
        target.copy_file(&format!("{LOG_FOLDER}/{name}"), &mut |b| file.read(b), len)?;
    }
    if origin.tables.exists() {
        target.copy_database(TABLES_FILE, &pin(&origin.tables)?)?;
    }
    target.copy_database(DATABASE_FILE, &metadata)?;
    drop(metadata);
    let copied = target.path(DATABASE_FILE);
    let revision = embedded::copies::read_revision(&copied).map_err(|e| e.to_string())?;
    target.copy_token(origin)?;
    let (files, bytes) = target.finish(revision, now)?;
    Ok(BackupReport {
        to: to.to_owned(),
        files,
        bytes,
        revision,
    })
}
