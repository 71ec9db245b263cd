//! Lists the files of a definition.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::file_errors::FileErrors;
use super::file_ref::{FILES_MAX, FileRef};
use super::local::{FileFinder, LocalFileId};
use super::objects;
use crate::definition::FileSourceConfig;
use crate::engine::execution::EnvironmentLookup;

/// The files that match a definition.
#[derive(Debug, Default)]
pub(super) struct FileListing {
    /// In the order of the patterns, and by name within each.
    pub(super) files: Vec<FileRef>,
    pub(super) errors: FileErrors,
}

/// Lists all files of a definition. When stopped, it returns early with an incomplete list.
///
/// # Errors
/// A bucket can't be listed, or a pattern matches nothing.
pub(super) async fn list(
    files: &FileSourceConfig,
    variable: &EnvironmentLookup,
    stop: &CancellationToken,
) -> Result<FileListing, String> {
    let mut listing = FileListing::default();
    let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
    for pattern in &files.paths {
        let is_any;
        if let Some(rest) = pattern.strip_prefix("s3://") {
            let found = tokio::select! {
                found = objects::find(rest, &files.s3, &**variable, &mut listing.errors) => found?,
                () = stop.cancelled() => return Ok(listing),
            };
            is_any = found.is_any;
            let new = found.files.into_iter();
            let new = new.filter(|f| keys.insert(Arc::clone(&f.name)));
            listing.files.extend(new);
        } else {
            // Folders are listed in a blocking task, which is abandoned at a stop.
            let task = local(
                pattern.clone(),
                files.folder.clone(),
                stop.clone(),
                listing,
                seen,
            );
            let task = tokio::task::spawn_blocking(task);
            let done = tokio::select! {
                done = task => done,
                () = stop.cancelled() => return Ok(FileListing::default()),
            };
            let done = done.map_err(|e| format!("listing failed: {e}"))?;
            (is_any, listing, seen) = done?;
            if stop.is_cancelled() {
                return Ok(listing);
            }
        }
        if !is_any {
            return Err(format!(
                "no file matches {} (names end with .jsonl, .jsonl.gz, .jsonl.zst, or .ndjson or .json in place of .jsonl; hidden files have to be named)",
                files.display_path(pattern)
            ));
        }
        if listing.files.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files match {pattern}"));
        }
    }
    Ok(listing)
}

type LocalListing = Result<(bool, FileListing, HashSet<LocalFileId>), String>;

fn local(
    pattern: String,
    folder: PathBuf,
    stop: CancellationToken,
    mut listing: FileListing,
    mut seen: HashSet<LocalFileId>,
) -> impl FnOnce() -> LocalListing {
    move || {
        let mut finder = FileFinder {
            folder: &folder,
            errors: &mut listing.errors,
            seen: &mut seen,
            is_stopped: &|| stop.is_cancelled(),
        };
        let is_any = finder.find(&pattern, &mut listing.files)?;
        Ok((is_any, listing, seen))
    }
}
