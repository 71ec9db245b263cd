//! Restores a data directory from a backup.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{CHECKSUMS_FILE, ChecksumWriter, LOG_FOLDER, MANIFEST_FILE};
use crate::data_dir;

#[derive(Clone, Copy, Debug)]
pub(crate) struct RestoreReport {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// Checks every file of the backup and writes it into `to`, which must be empty or missing. The
/// directory gets its name only when it is complete; after an error nothing is left.
pub(crate) fn restore(from: &Path, to: &Path) -> Result<RestoreReport, String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    let sums = from.join(CHECKSUMS_FILE);
    let text = std::fs::read_to_string(&sums).map_err(|e| {
        format!(
            "{} is not a complete backup: {}: {e}",
            from.display(),
            sums.display()
        )
    })?;
    let listed = parse_checksums(&text).map_err(|e| format!("{}: {e}", sums.display()))?;
    let found = list_files(from).map_err(failed(from))?;
    if let Some(missing) = listed.keys().find(|name| !found.contains(name)) {
        return Err(format!(
            "the file {missing}, listed in {CHECKSUMS_FILE}, is missing in the backup"
        ));
    }
    let unlisted = |name: &&String| *name != CHECKSUMS_FILE && !listed.contains_key(*name);
    if let Some(more) = found.iter().find(unlisted) {
        return Err(format!(
            "the backup has a file {more}, which is not listed in {CHECKSUMS_FILE}"
        ));
    }
    if std::fs::read_dir(to).is_ok_and(|mut d| d.next().is_some()) || to.is_file() {
        return Err(format!(
            "{} is not empty: restore into a new directory",
            to.display()
        ));
    }
    let name = to.file_name().ok_or("the data directory needs a name")?;
    let mut partial = name.to_owned();
    partial.push(".restoring");
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let partial = parent.join(partial);
    // Left by an interrupted restore.
    if partial.join(CHECKSUMS_FILE).exists() {
        std::fs::remove_dir_all(&partial).map_err(failed(&partial))?;
    }
    // Or interrupted before its first write: removes only an empty directory.
    drop(std::fs::remove_dir(&partial));
    let made = restore_files(from, &partial, &listed, text.as_bytes());
    let done = made.and_then(|restored| {
        std::fs::rename(&partial, to).map_err(failed(to))?;
        data_dir::sync_directory(to).map_err(failed(to))?;
        Ok(restored)
    });
    if done.is_err() && partial.join(CHECKSUMS_FILE).exists() {
        drop(std::fs::remove_dir_all(&partial));
    }
    done
}

fn restore_files(
    from: &Path,
    partial: &Path,
    listed: &BTreeMap<String, String>,
    sums: &[u8],
) -> Result<RestoreReport, String> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let folder = |path: &Path| DirBuilder::new().mode(0o700).create(path);
    folder(partial).map_err(|e| failed(partial, e))?;
    // First, so that the leftovers of an interrupted restore are recognized.
    let marker = partial.join(CHECKSUMS_FILE);
    std::fs::write(&marker, sums).map_err(|e| failed(&marker, e))?;
    let log = partial.join(LOG_FOLDER);
    folder(&log).map_err(|e| failed(&log, e))?;
    let mut restored = RestoreReport { files: 0, bytes: 0 };
    for (name, sum) in listed {
        restored.bytes += copy_verified(&from.join(name), &partial.join(name), name, sum)?;
        restored.files += 1;
    }
    let about = partial.join(MANIFEST_FILE);
    std::fs::remove_file(&about).map_err(|e| failed(&about, e))?;
    data_dir::create(partial).map_err(|e| e.to_string())?;
    // Tables outside this directory may be newer than the backup: see `roles/restored.rs`.
    data_dir::write_restored_marker(partial).map_err(|e| failed(partial, e))?;
    std::fs::remove_file(&marker).map_err(|e| failed(&marker, e))?;
    for dir in [log.as_path(), partial] {
        let synced = File::open(dir).and_then(|d| d.sync_all());
        synced.map_err(|e| failed(dir, e))?;
    }
    Ok(restored)
}

fn copy_verified(from: &Path, to: &Path, name: &str, sum: &str) -> Result<u64, String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    let mut source = File::open(from).map_err(failed(from))?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(failed(to))?;
    let mut out = ChecksumWriter::new(file);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = source.read(&mut buffer).map_err(failed(from))?;
        if n == 0 {
            break;
        }
        out.write_all(buffer.get(..n).unwrap_or_default())
            .map_err(failed(to))?;
        bytes += n as u64;
    }
    let (file, found) = out.finish();
    if found != sum {
        return Err(format!(
            "the file {name} of the backup is damaged: its SHA-256 is {found}, expected {sum}"
        ));
    }
    file.sync_all().map_err(failed(to))?;
    Ok(bytes)
}

/// Checksums by file name.
fn parse_checksums(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut listed = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let bad = || format!("line {} is invalid", i + 1);
        let (sum, name) = line.split_once(" *").ok_or_else(bad)?;
        let hex = sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let inside = name.split('/').count() <= 2 && name.split('/').all(plain);
        if !hex || !inside || listed.insert(name.to_owned(), sum.to_owned()).is_some() {
            return Err(bad());
        }
    }
    for needed in [forebay_meta::kv::embedded::DATABASE_FILE, MANIFEST_FILE] {
        if !listed.contains_key(needed) {
            return Err(format!("it does not list {needed}"));
        }
    }
    Ok(listed)
}

fn list_files(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders: Vec<(PathBuf, String)> = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                names.push(name);
            }
        }
    }
    Ok(names)
}
