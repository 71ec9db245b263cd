//! Backup and restore of a whole data directory, also while a server uses it.
//!
//! A backup is a consistent snapshot: while the metadata writer is paused, the segment lengths of the
//! log are recorded and both databases are pinned (docs/adr/1413-…). It is a directory with the files
//! of a data directory, `backup.json`, and `SHA256SUMS` in the format of `sha256sum -c`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use forebay_log::{Log, LogSnapshot};
use forebay_meta::kv::embedded::DATABASE_FILE;
use forebay_meta::kv::sqlite_copy::PinnedDatabase;
use forebay_meta::{EmbeddedStore, Revision};
use forebay_model::Timestamp;
use serde_json::{Value, json};

use crate::data_dir::{CHECKSUMS_FILE, LOG_FOLDER, sync_directory};

mod checksum;
mod offline;
mod restore;
mod service;

use checksum::ChecksumWriter;
pub(crate) use offline::offline;
pub(crate) use restore::restore;
pub(crate) use service::BackupService;

/// Manifest: version, time, revision and size.
const MANIFEST_FILE: &str = "backup.json";
pub(crate) const TABLES_FILE: &str = "tables.db";
const TOKEN_FILE: &str = "token";

#[derive(Clone, Debug)]
pub(crate) struct BackupSource {
    pub(crate) dir: PathBuf,
    /// The embedded database of tables; may lie outside `dir`.
    pub(crate) tables: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct BackupReport {
    pub(crate) to: PathBuf,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) revision: Revision,
}

impl BackupReport {
    pub(crate) fn json(&self) -> Value {
        json!({"to": self.to, "files": self.files, "bytes": self.bytes, "revision": self.revision.0})
    }
}

/// Lengths and pinned databases of one moment.
struct BackupSnapshot {
    revision: Revision,
    metadata: PinnedDatabase,
    tables: Option<PinnedDatabase>,
    log: LogSnapshot,
}

/// Backs up a data directory that this process has open.
pub(crate) async fn online(
    origin: BackupSource,
    to: PathBuf,
    (store, log): (Arc<EmbeddedStore>, Log),
    now: Timestamp,
) -> Result<BackupReport, String> {
    let from = origin.clone();
    let snapshot = store.with_writes_paused(move |revision| -> Result<BackupSnapshot, String> {
        let pin = |path: &Path| PinnedDatabase::open(path).map_err(|e| e.to_string());
        let metadata = pin(&from.dir.join(DATABASE_FILE))?;
        let tables = from
            .tables
            .exists()
            .then(|| pin(&from.tables))
            .transpose()?;
        Ok(BackupSnapshot {
            revision,
            metadata,
            tables,
            log: log.snapshot(),
        })
    });
    let snapshot = snapshot.await.map_err(|e| e.to_string())??;
    let written = tokio::task::spawn_blocking(move || {
        let target = BackupWriter::create(&origin.dir, &to)?;
        let revision = snapshot.revision;
        write(&origin, snapshot, target, now).map(|(files, bytes)| BackupReport {
            to,
            files,
            bytes,
            revision,
        })
    });
    written.await.map_err(|e| e.to_string())?
}

fn write(
    origin: &BackupSource,
    snapshot: BackupSnapshot,
    mut target: BackupWriter,
    now: Timestamp,
) -> Result<(usize, u64), String> {
    let volume = snapshot.log.volume_file();
    target.create_folder(LOG_FOLDER)?;
    target.write_bytes(&format!("{LOG_FOLDER}/{}", volume.0), &volume.1)?;
    for segment in snapshot.log.segments() {
        let mut at = 0;
        let mut read = |buf: &mut [u8]| {
            let n = segment.read_at(buf, at)?;
            at += n as u64;
            Ok(n)
        };
        target.copy_file(
            &format!("{LOG_FOLDER}/{}", segment.name),
            &mut read,
            segment.len,
        )?;
    }
    drop(snapshot.log);
    // The larger one first, so that neither write-ahead log grows while both are copied.
    if let Some(tables) = &snapshot.tables {
        target.copy_database(TABLES_FILE, tables)?;
    }
    drop(snapshot.tables);
    target.copy_database(DATABASE_FILE, &snapshot.metadata)?;
    drop(snapshot.metadata);
    target.copy_token(origin)?;
    target.finish(snapshot.revision, now)
}

/// Writes a backup under a temporary name until it is complete.
struct BackupWriter {
    to: PathBuf,
    partial: PathBuf,
    sums: String,
    files: usize,
    bytes: u64,
}

impl BackupWriter {
    /// Rejects an existing directory and one inside the data directory.
    fn create(data_dir: &Path, to: &Path) -> Result<Self, String> {
        let plain = to.is_absolute() && to.components().all(|c| c != Component::ParentDir);
        let (Some(parent), Some(name), true) = (to.parent(), to.file_name(), plain) else {
            return Err(format!(
                "{} can't be a backup directory: use an absolute path without \"..\"",
                to.display()
            ));
        };
        let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
        let parent = parent.canonicalize().map_err(|e| failed(parent, e))?;
        let data = data_dir.canonicalize().map_err(|e| failed(data_dir, e))?;
        if parent.starts_with(&data) {
            return Err(format!(
                "{} is inside the data directory; a backup must be outside",
                to.display()
            ));
        }
        if std::fs::read_dir(to).is_ok_and(|mut d| d.next().is_some()) || to.is_file() {
            return Err(format!("{} already exists", to.display()));
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = parent.join(partial);
        // Left by an interrupted backup; no other program creates files of this name.
        if partial.join(MANIFEST_FILE).exists() {
            std::fs::remove_dir_all(&partial).map_err(|e| failed(&partial, e))?;
        }
        // Or interrupted before its first write: removes only an empty directory.
        drop(std::fs::remove_dir(&partial));
        DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .map_err(|e| failed(&partial, e))?;
        let mut target = Self {
            to: parent.join(name),
            partial,
            sums: String::new(),
            files: 0,
            bytes: 0,
        };
        target.write_bytes(MANIFEST_FILE, b"{}")?;
        // Written again at the end.
        (target.sums, target.files, target.bytes) = (String::new(), 0, 0);
        Ok(target)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    fn create_folder(&self, name: &str) -> Result<(), String> {
        let path = self.path(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        self.copy_file(name, &mut |buf| rest.read(buf), bytes.len() as u64)
    }

    /// Copies a file of `len` bytes and records its checksum.
    fn copy_file(
        &mut self,
        name: &str,
        read: &mut dyn FnMut(&mut [u8]) -> std::io::Result<usize>,
        len: u64,
    ) -> Result<(), String> {
        let path = self.path(name);
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let mut out = ChecksumWriter::new(file);
        let mut buffer = vec![0; 1 << 20];
        let mut written = 0;
        while written < len {
            let n = read(&mut buffer).map_err(failed)?;
            if n == 0 {
                return Err(format!(
                    "{name} ends after {written} of {len} bytes: the file was truncated during the copy"
                ));
            }
            out.write_all(buffer.get(..n).unwrap_or_default())
                .map_err(failed)?;
            written += n as u64;
        }
        let (file, sum) = out.finish();
        file.sync_all().map_err(failed)?;
        self.add_checksum(name, &sum, written);
        Ok(())
    }

    fn copy_database(&mut self, name: &str, pinned: &PinnedDatabase) -> Result<(), String> {
        let path = self.path(name);
        let bytes = pinned.copy_to(&path, &|| true).map_err(|e| e.to_string())?;
        let sum = checksum::file_checksum(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        self.add_checksum(name, &sum, bytes);
        Ok(())
    }

    /// Copies the token file.
    fn copy_token(&mut self, origin: &BackupSource) -> Result<(), String> {
        let path = origin.dir.join(TOKEN_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => self.write_bytes(TOKEN_FILE, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    fn add_checksum(&mut self, name: &str, sum: &str, bytes: u64) {
        // `sha256sum` marks binary mode with a star.
        self.sums.push_str(&format!("{sum} *{name}\n"));
        self.files += 1;
        self.bytes += bytes;
    }

    /// Renames the directory to its final name after all files are on disk.
    fn finish(mut self, revision: Revision, now: Timestamp) -> Result<(usize, u64), String> {
        let about = json!({
            "v": 1,
            "forebay": crate::version::VERSION,
            "takenAt": now.to_string(),
            "revision": revision.0,
            "files": self.files,
            "bytes": self.bytes,
        });
        let about = format!("{about:#}\n");
        self.write_bytes(MANIFEST_FILE, about.as_bytes())?;
        let sums = std::mem::take(&mut self.sums);
        self.write_bytes(CHECKSUMS_FILE, sums.as_bytes())?;
        let failed = |e: std::io::Error| format!("{}: {e}", self.to.display());
        for dir in [self.path(LOG_FOLDER), self.partial.clone()] {
            if dir.is_dir() {
                File::open(dir).and_then(|d| d.sync_all()).map_err(failed)?;
            }
        }
        // Replaces an empty directory, or creates the name.
        std::fs::rename(&self.partial, &self.to).map_err(failed)?;
        sync_directory(&self.to).map_err(failed)?;
        Ok((self.files, self.bytes))
    }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        // After success this directory no longer exists.
        if self.partial.join(MANIFEST_FILE).exists() {
            drop(std::fs::remove_dir_all(&self.partial));
        }
    }
}
