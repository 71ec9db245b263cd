//! Files: types, errors and reads.
//!
//! Invariants after every transaction of this and the neighbouring modules:
//!
//! - a sink has at most one `writing` file, and then the sink state names it;
//! - a file's opening time is greater than that of every earlier file of the sink, removed ones
//!   included, whatever the clock does;
//! - [`FileState::allows`] holds for each file and each of its slices;
//! - a `writing` file has one `writing` slice on each of its volumes, any other file has none.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::words::counted;
use forebay_model::{
    File, FileKey, FileState, ImportedFile, InvalidTransition, SinkKey, Slice, SliceKey,
    SliceState, Statistics, Timestamp,
};

use super::transaction::TxnBuilder;
use super::{Repo, SLICES_MAX, VOLUMES_MAX, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::StoreError;

/// Error of finding or changing a file or slice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no active file with that key.
    #[error("file \"{0}\" not found")]
    FileNotFound(FileKey),
    /// There is no active slice with that key.
    #[error("slice \"{0}\" not found")]
    SliceNotFound(SliceKey),
    /// The sink doesn't exist or is inactive.
    #[error("sink \"{0}\" doesn't accept records")]
    SinkNotActive(SinkKey),
    #[error("no volume is registered")]
    NoVolumes,
    /// Too many volumes, or a duplicate.
    #[error("{0} volumes for a file; allowed are 1 to {VOLUMES_MAX} different ones")]
    BadVolumes(usize),
    #[error("file \"{0}\" has {SLICES_MAX} slices, the maximum")]
    SliceLimit(FileKey),
    /// The transition is not allowed from the present state.
    #[error(transparent)]
    InvalidTransition(#[from] InvalidTransition),
    /// The slice can't be in that state while its file is in this one.
    #[error("a file that is {} can't have a slice that is {}", file.name(), slice.name())]
    NotAllowed { file: FileState, slice: SliceState },
    /// The table has not rejected the file, or earlier files are not imported.
    #[error(
        "file \"{0}\" is not parked: only a file that its table rejects can become dead letters"
    )]
    NotParked(FileKey),
    /// Not all slices of the file are in staging.
    #[error("not uploaded: {} of file \"{file}\"", counted(*left, "slice"))]
    SlicesNotUploaded {
        file: FileKey,
        /// Number of slices.
        left: usize,
    },
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileError {
    /// Whether a retry may succeed without an operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::NoVolumes => true,
            Self::Store(e) => e.is_retryable(),
            _ => false,
        }
    }
}

/// A file that was just opened, with one slice for each volume.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedFile {
    pub file: Versioned<File>,
    pub slices: Vec<Versioned<Slice>>,
}

/// Result of [`Repo::rotate_file`].
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedFile {
    /// The file that is now `closing`.
    pub closed: Versioned<File>,
    /// Its successor; `None` if the sink is inactive.
    pub opened: Option<OpenedFile>,
}

/// Result of [`Repo::rotate_slice`].
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedSlice {
    /// The slice that is now `closing`.
    pub closed: Versioned<Slice>,
    pub opened: Versioned<Slice>,
}

/// A file that is not imported, with its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveFile {
    pub file: Versioned<File>,
    /// In key order: by volume, then by time.
    pub slices: Vec<ActiveSlice>,
}

/// A slice and its statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveSlice {
    pub slice: Versioned<Slice>,
    /// Final counts from `uploading` on; before, the counts reported by nodes.
    pub statistics: Statistics,
}

impl ActiveFile {
    /// Sum of all slices.
    pub fn statistics(&self) -> Statistics {
        self.slices
            .iter()
            .fold(Statistics::default(), |sum, s| sum.plus(s.statistics))
    }
}

impl Repo {
    /// Reads the slices of a file that is not imported.
    pub(super) async fn file_slices(
        &self,
        file: &FileKey,
    ) -> Result<Vec<Versioned<Slice>>, StoreError> {
        self.read_all(&keys::below(keys::SLICES, file)).await
    }

    /// Reads a file that is not imported.
    pub async fn file(&self, key: &FileKey) -> Result<Versioned<File>, FileError> {
        let found = self.read(StoreKey::File(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// Reads an imported file that is still retained.
    pub async fn imported_file(&self, key: &FileKey) -> Result<Versioned<ImportedFile>, FileError> {
        let found = self.read(StoreKey::ImportedFile(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// Lists all files that are not imported, with their slices and counts; of one sink or of all.
    /// Not a consistent snapshot: the reported counts are read first, then the files, then the
    /// slices. So a slice can be in a later state than its file shows (transitions check that), but
    /// a slice whose reports were replaced by final counts never appears empty.
    pub async fn active_files(&self, sink: Option<&SinkKey>) -> Result<Vec<ActiveFile>, FileError> {
        let prefix = |all: &str| sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        let reported = self.reported_statistics(sink).await?;
        let files = self.read_all::<File>(&prefix(keys::FILES)).await?;
        let slices = self.read_all::<Slice>(&prefix(keys::SLICES)).await?;
        let mut by_key: BTreeMap<FileKey, ActiveFile> = files
            .into_iter()
            .map(|file| {
                let slices = Vec::new();
                (file.key.clone(), ActiveFile { file, slices })
            })
            .collect();
        for slice in slices {
            if let Some(file) = by_key.get_mut(&slice.key.file) {
                let statistics = if slice.state < SliceState::Uploading {
                    reported.get(&slice.key).copied().unwrap_or_default()
                } else {
                    slice.statistics
                };
                file.slices.push(ActiveSlice { slice, statistics });
            }
        }
        Ok(by_key.into_values().collect())
    }

    /// Lists the imported files that are still retained, oldest first; of one sink or of all.
    pub async fn imported_files(
        &self,
        sink: Option<&SinkKey>,
    ) -> Result<Vec<Versioned<ImportedFile>>, FileError> {
        let all = keys::IMPORTED_FILES;
        let prefix = sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        Ok(self.read_all(&prefix).await?)
    }
}

impl TxnBuilder<'_> {
    /// Reads the slices of a file that is a condition; that none of them is written afterwards is
    /// one too, however many they are. A slice is added or deleted only with a change of its file.
    pub(super) async fn unchanged_slices(
        &mut self,
        repo: &Repo,
        file: &FileKey,
    ) -> Result<Vec<Versioned<Slice>>, StoreError> {
        let slices = repo.file_slices(file).await?;
        let newest = slices.iter().map(|s| s.revision).max();
        // They are one page, which is consistent: a later write is newer than all of them.
        let prefix = keys::below(keys::SLICES, file);
        self.expect_not_newer(prefix, newest.unwrap_or_default());
        Ok(slices)
    }

    /// Reads a file that is not imported; a precondition.
    pub(super) async fn file(&mut self, key: &FileKey) -> Result<Versioned<File>, FileError> {
        let found = self.read(StoreKey::File(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// Reads an imported file that is still retained; a precondition.
    pub(super) async fn imported_file(
        &mut self,
        key: &FileKey,
    ) -> Result<Versioned<ImportedFile>, FileError> {
        let found = self.read(StoreKey::ImportedFile(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// Reads the state of a sink, or the empty one; a precondition.
    pub(super) async fn sink_state(&mut self, sink: &SinkKey) -> Result<SinkState, StoreError> {
        let found: Option<Versioned<_>> = self.read(StoreKey::SinkState(sink)).await?;
        Ok(found.map(|s| s.value).unwrap_or_default())
    }
}

/// `now`, or a millisecond after `last` if the clock has not passed it.
pub(super) fn next_opened_at(last: Timestamp, now: Timestamp) -> Timestamp {
    let at = now.max(last.plus(Duration::from_millis(1)));
    debug_assert!(at > last, "an opening time is never used twice");
    at
}

/// Checks [`FileState::allows`].
pub(super) fn check_states(file: &File, slice: &Slice) -> Result<(), FileError> {
    if file.state.allows(slice.state) {
        Ok(())
    } else {
        Err(FileError::NotAllowed {
            file: file.state,
            slice: slice.state,
        })
    }
}
