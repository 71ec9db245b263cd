//! Statistics of sinks and files.

use forebay_model::Timestamp;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Statistics of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkStatisticsTotalResult)]
pub struct StatisticsTotal {
    /// Sum of all levels.
    pub total: LevelStatistics,
    /// Statistics by storage level.
    pub levels: StorageLevels,
}

/// Statistics by storage level; empty levels are omitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Levels)]
pub struct StorageLevels {
    /// On the server's disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub local: Option<LevelStatistics>,
    /// In staging storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub staging: Option<LevelStatistics>,
    /// In the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub target: Option<LevelStatistics>,
}

/// Counts of records and bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Level)]
#[serde(rename_all = "camelCase")]
pub struct LevelStatistics {
    /// When the first record was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub first_record_at: Option<Timestamp>,
    /// When the last record was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub last_record_at: Option<Timestamp>,
    /// Number of records.
    pub records_count: u64,
    /// Compressed bytes.
    pub compressed_size: u64,
    /// Bytes before compression.
    pub uncompressed_size: u64,
}

/// Files of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkStatisticsFilesResult)]
pub struct FileList {
    /// Imported files first, failed files last, each oldest first.
    pub files: Vec<FileView>,
}

/// An import unit of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkFile)]
#[serde(rename_all = "camelCase")]
pub struct FileView {
    /// State of the file.
    pub state: FileStateName,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it was closed for records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub closing_at: Option<Timestamp>,
    /// When its import began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub importing_at: Option<Timestamp>,
    /// When its import was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub imported_at: Option<Timestamp>,
    /// Failed attempts of the current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_attempt: Option<u32>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub retry_after: Option<Timestamp>,
    /// True when its table rejected the file: only an operator can fix that. An extension of
    /// Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub parked: Option<bool>,
    /// When it was found that the table's ledger lost the import that it had confirmed; its rows
    /// count as lost. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub lost_at: Option<Timestamp>,
    /// The slice with the most failed attempts of those being retried. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failed_slice: Option<FailedSlice>,
    /// Counts of its records.
    pub statistics: FileStatisticsView,
}

/// A slice whose current step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkFailedSlice)]
#[serde(rename_all = "camelCase")]
pub struct FailedSlice {
    /// State of the slice.
    #[schema(value_type = String, example = "uploading")]
    pub state: String,
    /// Failed attempts.
    pub retry_attempt: u32,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub retry_after: Option<Timestamp>,
}

/// State of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FileState)]
#[serde(rename_all = "camelCase")]
pub enum FileStateName {
    /// It accepts records.
    Writing,
    /// Its slices are uploaded.
    Closing,
    /// Its rows are imported into the table.
    Importing,
    /// Its rows are in the table.
    Imported,
}

/// Statistics of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkFileStatistics)]
pub struct FileStatisticsView {
    /// Null when it is empty.
    #[schema(required)]
    pub total: Option<LevelStatistics>,
    /// Statistics by storage level.
    pub levels: StorageLevels,
}

/// Slices of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkSlices)]
pub struct SliceList {
    /// Slices, oldest file first.
    pub slices: Vec<SliceView>,
}

/// The part of a file on one volume; becomes one object in staging storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkSlice)]
#[serde(rename_all = "camelCase")]
pub struct SliceView {
    /// Opening time of its file.
    #[schema(value_type = String, format = DateTime)]
    pub file_opened_at: Timestamp,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Volume of its records.
    pub volume_id: String,
    /// State of the slice.
    #[schema(value_type = String, example = "writing")]
    pub state: String,
    /// When it was closed for records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub closing_at: Option<Timestamp>,
    /// When its upload began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub uploading_at: Option<Timestamp>,
    /// When its upload was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub uploaded_at: Option<Timestamp>,
    /// Failed attempts of the current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_attempt: Option<u32>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub retry_after: Option<Timestamp>,
    /// Counts of its records.
    pub statistics: LevelStatistics,
}

/// Reconciliation of a sink's records: accepted = imported + dead + expired + lost + inFlight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkBalance)]
#[serde(rename_all = "camelCase")]
pub struct ReconciliationView {
    /// Acknowledged records, counted by the log.
    pub accepted: u64,
    /// Records in the table, counted by the table.
    pub imported: u64,
    /// Records in the dead-letter queue.
    pub dead: u64,
    /// Records discarded or removed by retention.
    pub expired: u64,
    /// Records lost to disk corruption.
    pub lost: u64,
    /// Records not yet imported.
    pub in_flight: u64,
    /// Whether the sum is correct.
    pub holds: bool,
}
