//! Files: what is known of them, and why a change of one was not made.
//!
//! What holds after every transaction of this and the neighbouring modules:
//!
//! - a sink has at most one file that is `writing`, and then its book names it;
//! - a file's time of opening is greater than that of every earlier file of the sink, removed ones
//!   included, whatever the clock does;
//! - [`FileState::allows`] holds for each file and each of its slices;
//! - a file that is `writing` has one slice that is `writing` on each of its volumes, any other file
//!   has none.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::{
    File, FileKey, FileState, InvalidTransition, SinkKey, Slice, SliceKey, SliceState, Statistics,
    Timestamp,
};

use super::{Repo, SLICES_MAX, VOLUMES_MAX, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// Why a file or slice was not changed or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no such file among those that are not imported.
    #[error("file \"{0}\" not found")]
    FileNotFound(FileKey),
    /// There is no such slice among those that are not imported.
    #[error("slice \"{0}\" not found")]
    SliceNotFound(SliceKey),
    /// There is no such sink, or it takes no records.
    #[error("sink \"{0}\" takes no records")]
    SinkNotActive(SinkKey),
    /// There is nothing to write to.
    #[error("no volume is registered")]
    NoVolumes,
    /// More volumes than a file may have, or the same one twice.
    #[error("{0} volumes for a file; allowed are 1 to {VOLUMES_MAX} different ones")]
    BadVolumes(usize),
    /// The file can't have another slice.
    #[error("file \"{0}\" has {SLICES_MAX} slices, the maximum")]
    SliceLimit(FileKey),
    /// A step that the states do not have.
    #[error(transparent)]
    InvalidTransition(#[from] InvalidTransition),
    /// The slice may not be in that state while its file is in this one.
    #[error("a file that is {} can't have a slice that is {}", file.name(), slice.name())]
    NotAllowed {
        /// The file's state.
        file: FileState,
        /// The slice's state.
        slice: SliceState,
    },
    /// Its table has not refused it, or it is not at its turn.
    #[error(
        "file \"{0}\" is not parked: only one that its table can't take can be made dead letters"
    )]
    NotParked(FileKey),
    /// Not all of the file is in staging.
    #[error("{left} slices of file \"{file}\" are not uploaded")]
    SlicesNotUploaded {
        /// Which file.
        file: FileKey,
        /// How many.
        left: usize,
    },
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FileError {
    /// Whether the same may succeed later without a person.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::NoVolumes => true,
            Self::Store(e) => e.is_retryable(),
            _ => false,
        }
    }
}

/// A file that was just opened, and its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedFile {
    /// The file.
    pub file: Versioned<File>,
    /// One of each volume.
    pub slices: Vec<Versioned<Slice>>,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedFile {
    /// The file that is now `closing`.
    pub closed: Versioned<File>,
    /// Its successor; `None` when the sink takes no records any more.
    pub opened: Option<OpenedFile>,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq)]
pub struct RotatedSlice {
    /// The slice that is now `closing`.
    pub closed: Versioned<Slice>,
    /// Its successor.
    pub opened: Versioned<Slice>,
}

/// A file that is not imported, with all its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveFile {
    /// The file.
    pub file: Versioned<File>,
    /// In the order of their keys: by volume, then by time.
    pub slices: Vec<ActiveSlice>,
}

/// A slice, and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveSlice {
    /// The slice.
    pub slice: Versioned<Slice>,
    /// The final counts, from `uploading` on; before, what nodes have reported.
    pub statistics: Statistics,
}

impl ActiveFile {
    /// Of all slices together.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.slices
            .iter()
            .fold(Statistics::default(), |sum, s| sum.plus(s.statistics))
    }
}

impl Repo {
    /// The slices of a file that is not imported.
    pub(super) async fn file_slices(
        &self,
        file: &FileKey,
    ) -> Result<Vec<Versioned<Slice>>, StoreError> {
        self.read_all(&keys::below(keys::SLICES, file)).await
    }

    /// A file that is not imported.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn file(&self, key: &FileKey) -> Result<Versioned<File>, FileError> {
        let found = self.read(StoreKey::File(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// A file that is imported and still remembered.
    ///
    /// # Errors
    /// [`FileError::FileNotFound`], or the store.
    pub async fn imported_file(&self, key: &FileKey) -> Result<Versioned<File>, FileError> {
        let found = self.read(StoreKey::ImportedFile(key)).await?;
        found.ok_or_else(|| FileError::FileNotFound(key.clone()))
    }

    /// All files that are not imported, with their slices and counts; of one sink or of all. Not one
    /// moment: first the reported counts are read, then the files, then the slices. So a slice can be
    /// further than its file shows (transitions check that for themselves), but one whose reports
    /// were removed because it has its final counts is never taken for empty.
    ///
    /// # Errors
    /// The store's.
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

    /// Imported files that are still remembered, oldest first; of one sink or of all.
    ///
    /// # Errors
    /// The store's.
    pub async fn imported_files(
        &self,
        sink: Option<&SinkKey>,
    ) -> Result<Vec<Versioned<File>>, FileError> {
        let all = keys::IMPORTED_FILES;
        let prefix = sink.map_or_else(|| all.to_owned(), |s| keys::below(all, s));
        Ok(self.read_all(&prefix).await?)
    }
}

/// `now`, or just after `last` when the clock has not passed it.
pub(super) fn next_opened_at(last: Timestamp, now: Timestamp) -> Timestamp {
    now.max(last.plus(Duration::from_millis(1)))
}

/// The joint table of [`FileState`].
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
