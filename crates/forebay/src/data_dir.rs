//! The data directory: its names, and its marker file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cli_error::CliError;

/// Marker file of a data directory.
pub(crate) const MARKER_FILE: &str = "forebay-data";
const MARKER: &str = "forebay data directory\nversion 1\n";
/// Marks restored, older metadata: the next start closes all open files.
pub(crate) const RESTORED_FILE: &str = "metadata-restored";
pub(crate) const LOG_FOLDER: &str = "log";
/// Checksums of all files of a backup; marks a directory as a backup.
pub(crate) const CHECKSUMS_FILE: &str = "SHA256SUMS";
/// Entries allowed in a new directory: of a file system, and files prepared by the user.
const HARMLESS: [&str; 4] = ["lost+found", "token", "forebay.yaml", "forebay.yml"];

/// Checks that a directory is a data directory, or can become one.
pub(crate) fn check_dir(dir: &Path, token_file: Option<&Path>) -> Result<(), CliError> {
    let unreadable = |e: std::io::Error| {
        CliError::new(format_args!(
            "can't read the data directory {}: {e}",
            dir.display()
        ))
        .hint("set another directory with --data-dir")
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unreadable(e)),
    };
    match std::fs::read_to_string(dir.join(MARKER_FILE)) {
        Ok(text) => return check_version(dir, &text),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(unreadable(e)),
    }
    let mut strangers = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let harmless = HARMLESS.iter().any(|allowed| name == *allowed)
            || token_file.is_some_and(|file| file == dir.join(&name));
        if !harmless {
            strangers.push(name.to_string_lossy().into_owned());
        }
    }
    if strangers.is_empty() {
        return Ok(());
    }
    strangers.sort();
    let what = kind(dir, &strangers);
    let has = |name: &str| strangers.iter().any(|n| n == name);
    let way_out = match has("meta.db") && has(LOG_FOLDER) {
        true => format!(
            "if the file was lost: printf '{}' > {}",
            MARKER.replace('\n', "\\n"),
            dir.join(MARKER_FILE).display()
        ),
        false => "set an empty or new directory with --data-dir".to_owned(),
    };
    Err(CliError::new(format_args!(
        "{} is not a data directory of the server: {what}; nothing was written",
        dir.display()
    ))
    .hint(way_out))
}

fn check_version(dir: &Path, text: &str) -> Result<(), CliError> {
    let version = text
        .strip_prefix("forebay data directory\nversion ")
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        Some(1) => Ok(()),
        Some(newer) => Err(CliError::new(format_args!(
            "{} is a data directory of version {newer}, this program supports version 1: use a newer forebay",
            dir.display()
        ))),
        None => Err(CliError::new(format_args!(
            "{} is damaged: expected \"{}\"",
            dir.join(MARKER_FILE).display(),
            MARKER.trim().replace('\n', "\\n")
        ))),
    }
}

fn kind(dir: &Path, names: &[String]) -> String {
    let has = |name: &str| names.iter().any(|n| n == name);
    let volume = std::fs::read(dir.join("volume")).unwrap_or_default();
    if volume.starts_with(b"forebay-log") {
        return "it is the directory of a message buffer".to_owned();
    }
    if has(CHECKSUMS_FILE) {
        return "it is a backup (restore it with `forebay restore`)".to_owned();
    }
    let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let more = if names.len() > some.len() {
        ", …"
    } else {
        ""
    };
    format!(
        "it has no file {MARKER_FILE}, but others ({}{more})",
        some.join(", ")
    )
}

/// Creates a data directory for its owner only and syncs its name and marker.
pub(crate) fn create(dir: &Path) -> Result<(), CliError> {
    let failed = |e: std::io::Error| {
        CliError::new(format_args!(
            "can't create the data directory {}: {e}",
            dir.display()
        ))
        .hint("make its parent writable, or set another directory with --data-dir")
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    match write_new(&dir.join(MARKER_FILE), MARKER) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e)),
        Ok(()) => sync_directory(dir).map_err(failed),
    }
}

/// Marks restored, older metadata.
pub(crate) fn write_restored_marker(dir: &Path) -> std::io::Result<()> {
    match write_new(&dir.join(RESTORED_FILE), "") {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_directory(dir),
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Syncs the directory's entries, and its own in its parent.
pub(crate) fn sync_directory(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()?;
    let parent: PathBuf = dir
        .canonicalize()?
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    if parent.as_os_str().is_empty() {
        return Ok(());
    }
    // An unreadable parent belongs to another user.
    match File::open(parent) {
        Ok(parent) => parent.sync_all(),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_or_own_directory_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(check_dir(&at("new"), None).is_ok());
        assert!(!at("new").exists());
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::create_dir(at("empty/lost+found")).unwrap();
        std::fs::write(at("empty/secret"), "t").unwrap();
        assert!(check_dir(&at("empty"), Some(&at("empty/secret"))).is_ok());
        assert!(check_dir(&at("empty"), None).is_err());
        create(&at("ours")).unwrap();
        std::fs::write(at("ours/anything"), "").unwrap();
        assert!(check_dir(&at("ours"), None).is_ok());
        std::fs::write(
            at("ours").join(MARKER_FILE),
            "forebay data directory\nversion 2\n",
        )
        .unwrap();
        assert!(
            check_dir(&at("ours"), None)
                .unwrap_err()
                .to_string()
                .contains("version 2")
        );
        std::fs::create_dir(at("other")).unwrap();
        std::fs::write(at("other/thesis.tex"), "").unwrap();
        let said = check_dir(&at("other"), None).unwrap_err().to_string();
        assert!(said.contains("thesis.tex"), "{said}");
    }
}
