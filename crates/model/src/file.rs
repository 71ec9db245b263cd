//! A file: what is imported into a table at once. Its states, and which states its slices may
//! have meanwhile.

use crate::definition::TableSink;
use crate::id::FileKey;
use crate::retry::RetryState;
use crate::settings::SinkSettings;
use crate::slice::SliceState;
use crate::time::Timestamp;

/// How far a file is. Only forward.
///
/// | file      | its slices may be                       |
/// | --------- | --------------------------------------- |
/// | writing   | writing, closing, uploading, uploaded   |
/// | closing   | closing, uploading, uploaded            |
/// | importing | uploaded                                |
/// | imported  | imported                                |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileState {
    /// Slices are opened in it.
    Writing,
    /// No slice is opened any more; the last ones are on their way to staging.
    Closing,
    /// All slices are in staging; the table takes them.
    Importing,
    /// The rows are in the table.
    Imported,
}

impl FileState {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [
        Self::Writing,
        Self::Closing,
        Self::Importing,
        Self::Imported,
    ];

    /// Its name in the API and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Closing => "closing",
            Self::Importing => "importing",
            Self::Imported => "imported",
        }
    }

    /// Whether a file in this state may have a slice in that one.
    #[must_use]
    pub fn allows(self, slice: SliceState) -> bool {
        match self {
            Self::Writing => slice < SliceState::Imported,
            Self::Closing => (SliceState::Closing..SliceState::Imported).contains(&slice),
            Self::Importing => slice == SliceState::Uploaded,
            Self::Imported => slice == SliceState::Imported,
        }
    }
}

/// One import unit of a sink. What it needs to be imported is fixed when it is opened, so that a
/// later change of the sink does not touch rows that were taken under the old definition.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Which; holds the time of opening.
    pub key: FileKey,
    /// How far it is.
    pub state: FileState,
    /// When it left `writing`.
    pub closing_at: Option<Timestamp>,
    /// When its last slice was in staging.
    pub importing_at: Option<Timestamp>,
    /// When its rows were in the table.
    pub imported_at: Option<Timestamp>,
    /// Of the step that it is at.
    pub retry: RetryState,
    /// The table, as defined when the file was opened.
    pub table: TableSink,
    /// The settings that were in force when the file was opened.
    pub settings: SinkSettings,
    /// No record came in: there is nothing to import.
    pub is_empty: bool,
    /// Rows that the table took, known once it is imported.
    pub imported_rows: u64,
    /// When it was noticed that the table's ledger does not know the import any more, though it had
    /// confirmed it, and that nobody has the rows either: they count as lost as long as this is so.
    pub lost_at: Option<Timestamp>,
    /// Its rows become dead letters in place of going into the table; somebody has decided that.
    pub dead_rows: Option<DeadRows>,
}

/// How far the rows of a file have come on their way to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadRows {
    /// Why the table could not take them.
    pub cause: String,
    /// The first so many rows of the file are dead letters by now.
    pub moved: u64,
    /// Number of the dead letter from which on further ones can be; unknown before the first.
    pub next_dead_letter: Option<u64>,
}

/// A step that the states do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} can't go from {from} to {to}")]
pub struct InvalidTransition {
    /// The file or slice.
    pub what: String,
    /// Its state.
    pub from: &'static str,
    /// The state that was asked for.
    pub to: &'static str,
}

impl File {
    /// A file that was just opened.
    #[must_use]
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

    /// The table has lost its rows: from `imported` back to `importing`, to be tried now.
    ///
    /// # Errors
    /// When it is not imported; the file is as it was.
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

    /// Takes the one step that leads to `to`, and clears the retry state of the step before.
    ///
    /// # Errors
    /// When `to` is not the next state; the file is as it was.
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
