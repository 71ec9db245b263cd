//! An imported file with its slices, which are one entry of the store.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::file::File;
use crate::id::{SliceKey, VolumeId};
use crate::slice::{Slice, SliceState};
use crate::statistics::Statistics;
use crate::time::Timestamp;
use crate::transition::InvalidTransition;

/// A file whose rows are in its table, with its slices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedFile {
    /// The file.
    #[serde(flatten)]
    pub file: File,
    /// Its slices, in key order.
    pub slices: Vec<ImportedSlice>,
}

/// The part of a slice that its imported file does not determine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedSlice {
    /// Volume whose log has its stream.
    pub volume: VolumeId,
    /// Opening time; part of its key.
    pub opened_at: Timestamp,
    /// End of `writing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    /// Time at which its stream was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploading_at: Option<Timestamp>,
    /// Time at which it was in staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<Timestamp>,
    /// No record was received.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_empty: bool,
    /// Final counts.
    pub statistics: Statistics,
    /// Size of the object in staging, bytes.
    pub staging_bytes: u64,
    /// CRC-32C of the object in staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_crc32c: Option<u32>,
}

impl Deref for ImportedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl ImportedFile {
    /// Moves the slices of a file that has become `imported` to the same state.
    ///
    /// # Errors
    /// When a slice is not `uploaded`.
    pub fn new(
        file: File,
        slices: impl IntoIterator<Item = Slice>,
    ) -> Result<Self, InvalidTransition> {
        let at = file.imported_at.unwrap_or(file.key.opened_at);
        let slices = slices.into_iter().map(|mut slice| {
            slice.transition(SliceState::Imported, at)?;
            Ok(ImportedSlice {
                volume: slice.key.volume,
                opened_at: slice.key.opened_at,
                closing_at: slice.closing_at,
                uploading_at: slice.uploading_at,
                uploaded_at: slice.uploaded_at,
                is_empty: slice.is_empty,
                statistics: slice.statistics,
                staging_bytes: slice.staging_bytes,
                staging_crc32c: slice.staging_crc32c,
            })
        });
        let slices: Result<Vec<_>, _> = slices.collect();
        Ok(Self {
            file,
            slices: slices?,
        })
    }

    /// The slices as they were before the import, `imported`.
    pub fn full_slices(&self) -> impl Iterator<Item = Slice> {
        self.slices.iter().map(|slice| self.full(slice))
    }

    /// The slice with that key, if it is one of the file.
    pub fn full_slice(&self, key: &SliceKey) -> Option<Slice> {
        let mut slices = self.slices.iter();
        let found = slices.find(|s| s.opened_at == key.opened_at && s.volume == key.volume);
        found
            .filter(|_| self.file.key == key.file)
            .map(|s| self.full(s))
    }

    fn full(&self, slice: &ImportedSlice) -> Slice {
        let key = SliceKey {
            file: self.file.key.clone(),
            volume: slice.volume.clone(),
            opened_at: slice.opened_at,
        };
        // All slices of a file have its compression.
        Slice {
            state: SliceState::Imported,
            closing_at: slice.closing_at,
            uploading_at: slice.uploading_at,
            uploaded_at: slice.uploaded_at,
            imported_at: self.file.imported_at,
            is_empty: slice.is_empty,
            statistics: slice.statistics,
            staging_bytes: slice.staging_bytes,
            staging_crc32c: slice.staging_crc32c,
            ..Slice::open(key, self.file.settings.compression())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::TableSink;
    use crate::file::FileState;
    use crate::settings::SinkSettings;

    #[test]
    fn an_imported_slice_is_the_slice_that_was_uploaded() {
        let at = Timestamp::from_millis;
        let key: SliceKey = "1/2/src/snk/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z"
            .parse()
            .unwrap();
        let settings = SinkSettings::default();
        let mut slice = Slice::open(key.clone(), settings.compression());
        for (state, millis) in [
            (SliceState::Closing, 1),
            (SliceState::Uploading, 2),
            (SliceState::Uploaded, 3),
        ] {
            slice.transition(state, at(millis)).unwrap();
        }
        slice.statistics.records = 7;
        slice.staging_bytes = 9;
        slice.staging_crc32c = Some(11);
        let table: TableSink =
            serde_json::from_str(r#"{"backend":"sqlite","table":"in.c-b.t","columns":[]}"#)
                .unwrap();
        let mut file = File::open(key.file.clone(), table, settings);
        let early = ImportedFile::new(file.clone(), [Slice::open(key.clone(), slice.compression)]);
        assert!(early.is_err(), "not uploaded");
        file.state = FileState::Imported;
        file.imported_at = Some(at(4));
        let imported = ImportedFile::new(file, [slice.clone()]).unwrap();
        slice.transition(SliceState::Imported, at(4)).unwrap();
        assert_eq!(imported.full_slice(&key), Some(slice.clone()));
        assert_eq!(imported.full_slices().collect::<Vec<_>>(), [slice]);
        let other = SliceKey {
            opened_at: at(1),
            ..key
        };
        assert_eq!(imported.full_slice(&other), None);
    }
}
