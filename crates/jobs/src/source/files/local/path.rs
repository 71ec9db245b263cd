//! Paths of the file system.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::name::shown;

/// Metadata of a path, following links; `None` if nothing exists there. A dangling link is an error.
pub(super) fn metadata_of(path: &Path) -> Option<io::Result<Metadata>> {
    match fs::metadata(path) {
        Err(e) if is_missing(&e) && path.symlink_metadata().is_err() => None,
        other => Some(other),
    }
}

pub(super) fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_symlink())
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The path of a folder for the system: an empty one is the working directory.
pub(super) fn readable(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

pub(super) fn failed(path: &Path, error: &io::Error) -> String {
    let name = shown(path.as_os_str().as_bytes());
    let what = if is_link(path) && is_missing(error) {
        "is a dangling link"
    } else {
        "can't be read"
    };
    format!("{name} {what}: {error}")
}
