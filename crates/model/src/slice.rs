//! A slice: the part of a file that is one stream of a volume's log, and one object in staging.

use serde::{Deserialize, Serialize};

use crate::id::SliceKey;
use crate::retry::RetryState;
use crate::settings::BlockCompression;
use crate::statistics::Statistics;
use crate::time::Timestamp;
use crate::transition::InvalidTransition;

/// State of a slice. Only moves forward; the table of allowed combinations is at
/// [`crate::file::FileState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SliceState {
    /// Records are written to it.
    Writing,
    /// Nodes finish requests in flight and drain it.
    Closing,
    /// Its stream is complete and is uploaded to staging.
    Uploading,
    /// It is in staging.
    Uploaded,
    /// Its rows are in the table.
    Imported,
}

impl SliceState {
    /// All states, in order.
    pub const ALL: [Self; 5] = [
        Self::Writing,
        Self::Closing,
        Self::Uploading,
        Self::Uploaded,
        Self::Imported,
    ];

    /// Name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Closing => "closing",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Imported => "imported",
        }
    }
}

/// Size and checksum of an object in staging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StagedChecksum {
    /// Size in bytes.
    pub bytes: u64,
    /// CRC-32C of all its bytes.
    pub crc32c: u32,
}

/// Part of a file on one volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    /// Key of the slice, with its opening time.
    pub key: SliceKey,
    /// State of the slice.
    pub state: SliceState,
    /// End of `writing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    /// Time at which its stream was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploading_at: Option<Timestamp>,
    /// Time at which it was in staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<Timestamp>,
    /// Time at which its rows were in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Timestamp>,
    /// Retries of the current step.
    #[serde(default, skip_serializing_if = "RetryState::is_empty")]
    pub retry: RetryState,
    /// Compression of all its blocks.
    pub compression: BlockCompression,
    /// No record was received: there is no object in staging.
    pub is_empty: bool,
    /// Path of the object, below the staging root. Derived from the key alone, so that a repeated
    /// upload writes the same object.
    pub staging_path: String,
    /// Statistics from the headers of its blocks in the log: final from `uploading` on.
    pub statistics: Statistics,
    /// Size of the object in staging, bytes; known from `uploaded` on.
    pub staging_bytes: u64,
    /// CRC-32C of the object in staging; known from `uploaded` on. An import rejects an object with
    /// another checksum or size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_crc32c: Option<u32>,
}

impl Slice {
    /// Creates an open slice.
    pub fn open(key: SliceKey, compression: BlockCompression) -> Self {
        let staging_path = staging_path(&key, compression);
        Self {
            key,
            state: SliceState::Writing,
            closing_at: None,
            uploading_at: None,
            uploaded_at: None,
            imported_at: None,
            retry: RetryState::default(),
            compression,
            is_empty: false,
            staging_path,
            statistics: Statistics::default(),
            staging_bytes: 0,
            staging_crc32c: None,
        }
    }

    /// Size and checksum of the uploaded object.
    pub fn staged(&self) -> Option<StagedChecksum> {
        self.staging_crc32c.map(|crc32c| StagedChecksum {
            bytes: self.staging_bytes,
            crc32c,
        })
    }

    /// Reverts an import that the table has lost: from `imported` back to `uploaded`.
    ///
    /// # Errors
    /// When the slice is not imported; it is unchanged.
    pub fn revert_import(&mut self) -> Result<(), InvalidTransition> {
        if self.state != SliceState::Imported {
            return Err(InvalidTransition {
                what: format!("slice {}", self.key),
                from: self.state.name(),
                to: SliceState::Uploaded.name(),
            });
        }
        self.state = SliceState::Uploaded;
        self.imported_at = None;
        Ok(())
    }

    /// Moves to the next state `to`, and clears the retry state of the step before.
    ///
    /// # Errors
    /// When `to` is not the next state; the slice is unchanged.
    pub fn transition(&mut self, to: SliceState, at: Timestamp) -> Result<(), InvalidTransition> {
        let slot = match (self.state, to) {
            (SliceState::Writing, SliceState::Closing) => &mut self.closing_at,
            (SliceState::Closing, SliceState::Uploading) => &mut self.uploading_at,
            (SliceState::Uploading, SliceState::Uploaded) => &mut self.uploaded_at,
            (SliceState::Uploaded, SliceState::Imported) => &mut self.imported_at,
            (from, to) => {
                return Err(InvalidTransition {
                    what: format!("slice {}", self.key),
                    from: from.name(),
                    to: to.name(),
                });
            }
        };
        *slot = Some(at);
        self.state = to;
        self.retry = RetryState::default();
        Ok(())
    }
}

/// `<file>/<slice opened at>_<volume>.csv[.gz|.zst]`, with `:` and `.` of times as `-`, which is
/// valid in every object store and file system.
fn staging_path(key: &SliceKey, compression: BlockCompression) -> String {
    let plain = |t: Timestamp| t.to_string().replace([':', '.'], "-");
    let ending = match compression {
        BlockCompression::None => "",
        BlockCompression::Gzip { .. } => ".gz",
        BlockCompression::Zstd { .. } => ".zst",
    };
    format!(
        "{}/{}/{}_{}.csv{ending}",
        key.file.sink,
        plain(key.file.opened_at),
        plain(key.opened_at),
        key.volume
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::FileState;

    fn slice() -> Slice {
        let key = "1/2/src/snk/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z"
            .parse()
            .unwrap();
        Slice::open(key, BlockCompression::Gzip { level: 1 })
    }

    #[test]
    fn only_the_next_state_is_allowed() {
        let at = Timestamp::from_millis(7);
        for reached in 0..SliceState::ALL.len() {
            for to in SliceState::ALL {
                let mut s = slice();
                for step in &SliceState::ALL[1..=reached] {
                    s.transition(*step, at).unwrap();
                }
                let before = s.clone();
                let next = SliceState::ALL.get(reached + 1) == Some(&to);
                assert_eq!(s.transition(to, at).is_ok(), next);
                assert!(next || s == before);
            }
        }
    }

    #[test]
    fn files_allow_the_documented_slice_states() {
        use FileState as F;
        use SliceState as S;
        let allowed = |f: FileState| {
            S::ALL
                .into_iter()
                .filter(|s| f.allows(*s))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            allowed(F::Writing),
            [S::Writing, S::Closing, S::Uploading, S::Uploaded]
        );
        assert_eq!(allowed(F::Closing), [S::Closing, S::Uploading, S::Uploaded]);
        assert_eq!(allowed(F::Importing), [S::Uploaded]);
        assert_eq!(allowed(F::Imported), [S::Imported]);
    }

    #[test]
    fn the_staging_path_is_derived_from_the_key() {
        assert_eq!(
            slice().staging_path,
            "1/2/src/snk/2026-11-21T05-01-49-120Z/2026-11-21T05-01-50-000Z_vol1.csv.gz"
        );
    }
}
