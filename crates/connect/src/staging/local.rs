//! Staging in a local folder.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tokio_util::io::ReaderStream;

use crate::staging::{LocalStaging, StagingError};

/// Read buffer in bytes.
const CHUNK: usize = 256 << 10;

/// The staging root on disk.
#[derive(Debug)]
pub(super) struct StagingFolder {
    dir: PathBuf,
}

/// The folder as an object store, its name for errors, and the folder itself.
pub(super) fn open(
    config: &LocalStaging,
) -> Result<(Arc<dyn ObjectStore>, String, StagingFolder), StagingError> {
    let name = format!("staging folder {}", config.dir.display());
    let cannot = |e: &dyn std::error::Error| {
        StagingError::terminal(format!("{name}: can't create or open it: {e}"))
    };
    std::fs::create_dir_all(&config.dir).map_err(|e| cannot(&e))?;
    let store = LocalFileSystem::new_with_prefix(&config.dir)
        .map_err(|e| cannot(&e))?
        .with_fsync(config.sync);
    let folder = StagingFolder {
        dir: config.dir.clone(),
    };
    Ok((Arc::new(store), name, folder))
}

/// A file's bytes. The library reads 8 KiB at a time, with a switch of threads for each.
pub(super) fn chunks(file: std::fs::File) -> BoxStream<'static, object_store::Result<Bytes>> {
    ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK)
        .map_err(|e| object_store::Error::Generic {
            store: "folder",
            source: Box::new(e),
        })
        .boxed()
}

impl StagingFolder {
    /// Deletes the files of uploads of an object that a killed process left: the library writes to
    /// `<name>#<n>` and renames. They are never listed and only take space, so a failure to delete
    /// is logged.
    pub(super) async fn sweep(&self, path: &str) {
        let object = self.dir.join(path);
        let (Some(folder), Some(name)) = (object.parent(), object.file_name()) else {
            return;
        };
        let prefix = format!("{}#", name.to_string_lossy());
        let Ok(mut entries) = tokio::fs::read_dir(folder).await else {
            return;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let is_leftover = entry
                .file_name()
                .to_string_lossy()
                .strip_prefix(&prefix)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if is_leftover && let Err(e) = tokio::fs::remove_file(entry.path()).await {
                tracing::warn!(file = %entry.path().display(), error = %e, "can't delete leftover upload");
            }
        }
    }
}
