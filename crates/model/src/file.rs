//! A file: the unit of import into a table, its states, and the states allowed for its slices.

use serde::{Deserialize, Serialize};

use crate::definition::TableSink;
use crate::id::FileKey;
use crate::retry::RetryState;
use crate::settings::SinkSettings;
use crate::slice::SliceState;
use crate::time::Timestamp;
pub use crate::transition::InvalidTransition;

/// State of a file. Only moves forward.
///
/// | file      | allowed states of its slices            |
/// | --------- | --------------------------------------- |
/// | writing   | writing, closing, uploading, uploaded   |
/// | closing   | closing, uploading, uploaded            |
/// | importing | uploaded                                |
/// | imported  | imported                                |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileState {
    /// Slices are opened in it.
    Writing,
    /// No more slices are opened; the last ones are being uploaded to staging.
    Closing,
    /// All slices are in staging; the import is due.
    Importing,
    /// The rows are in the table.
    Imported,
}

impl FileState {
    /// All states, in order.
    pub const ALL: [Self; 4] = [
        Self::Writing,
        Self::Closing,
        Self::Importing,
        Self::Imported,
    ];

    /// Name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Closing => "closing",
            Self::Importing => "importing",
            Self::Imported => "imported",
        }
    }

    /// Whether a file in this state may have a slice in that state.
    pub fn allows(self, slice: SliceState) -> bool {
        match self {
            Self::Writing => slice < SliceState::Imported,
            Self::Closing => (SliceState::Closing..SliceState::Imported).contains(&slice),
            Self::Importing => slice == SliceState::Uploaded,
            Self::Imported => slice == SliceState::Imported,
        }
    }
}

/// An import unit of a sink. Everything its import needs is fixed when it is opened, so that a
/// later change of the sink does not affect rows accepted under the old definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Key of the file, with its opening time.
    pub key: FileKey,
    /// State of the file.
    pub state: FileState,
    /// End of `writing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Timestamp>,
    /// Time at which its last slice was in staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importing_at: Option<Timestamp>,
    /// Time at which its rows were in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<Timestamp>,
    /// Retries of the current step.
    #[serde(default, skip_serializing_if = "RetryState::is_empty")]
    pub retry: RetryState,
    /// The table, as defined when the file was opened.
    pub table: TableSink,
    /// The settings that were in force when the file was opened.
    pub settings: SinkSettings,
    /// No record was received: there is nothing to import.
    pub is_empty: bool,
    /// Rows imported by the table; known after the import.
    pub imported_rows: u64,
    /// Set when the table's ledger no longer has a confirmed import and the rows exist nowhere
    /// else: they count as lost while this is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// Set when the rows are to become dead letters instead of being imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_rows: Option<DeadRows>,
}

/// Progress of moving the rows of a file to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadRows {
    /// Error of the table.
    pub cause: String,
    /// Number of rows, from the first, that are dead letters already.
    pub moved: u64,
    /// First free number for further dead letters; unknown before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_dead_letter: Option<u64>,
}

impl File {
    /// Creates an open file.
    pub fn open(key: FileKey, table: TableSink, settings: SinkSettings) -> Self {
        Self {
            key,
            state: FileState::Writing,
            closing_at: None,
            importing_at: None,
            imported_at: None,
            retry: RetryState::default(),
            table,
            settings,
            is_empty: false,
            imported_rows: 0,
            lost_at: None,
            dead_rows: None,
        }
    }

    /// Reverts an import that the table has lost: from `imported` back to `importing`, due now.
    ///
    /// # Errors
    /// When the file is not imported; it is unchanged.
    pub fn revert_import(&mut self) -> Result<(), InvalidTransition> {
        if self.state != FileState::Imported {
            return Err(InvalidTransition {
                what: format!("file {}", self.key),
                from: self.state.name(),
                to: FileState::Importing.name(),
            });
        }
        self.state = FileState::Importing;
        self.imported_at = None;
        self.imported_rows = 0;
        self.lost_at = None;
        Ok(())
    }

    /// Moves to the next state `to`, and clears the retry state of the step before.
    ///
    /// # Errors
    /// When `to` is not the next state; the file is unchanged.
    pub fn transition(&mut self, to: FileState, at: Timestamp) -> Result<(), InvalidTransition> {
        let slot = match (self.state, to) {
            (FileState::Writing, FileState::Closing) => &mut self.closing_at,
            (FileState::Closing, FileState::Importing) => &mut self.importing_at,
            (FileState::Importing, FileState::Imported) => &mut self.imported_at,
            (from, to) => {
                return Err(InvalidTransition {
                    what: format!("file {}", self.key),
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
