//! Statistics of sinks and files.

use forebay_meta::SinkStatistics;
use forebay_meta::catalog::files::ActiveSlice;
use forebay_model::{Statistics, Timestamp};

use forebay_model::TopicStatistics;
use serde::Serialize;
use utoipa::ToSchema;

/// Statistics of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkStatisticsTotalResult)]
pub(crate) struct StatisticsTotal {
    pub(crate) total: LevelStatistics,
    pub(crate) levels: StorageLevels,
}

/// Statistics by storage level; empty levels are omitted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Levels)]
pub(crate) struct StorageLevels {
    /// On the server's disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    local: Option<LevelStatistics>,
    /// In staging storage.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    staging: Option<LevelStatistics>,
    /// In the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    target: Option<LevelStatistics>,
}

/// Counts of records and bytes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Level)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LevelStatistics {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    first_record_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    last_record_at: Option<Timestamp>,
    records_count: u64,
    compressed_size: u64,
    uncompressed_size: u64,
}

impl From<Statistics> for LevelStatistics {
    fn from(statistics: Statistics) -> Self {
        Self {
            first_record_at: statistics.first_record_at,
            last_record_at: statistics.last_record_at,
            records_count: statistics.records,
            compressed_size: statistics.compressed_bytes,
            uncompressed_size: statistics.uncompressed_bytes,
        }
    }
}

impl StatisticsTotal {
    /// Statistics of a topic: waiting messages are local, delivered ones in the target.
    pub(crate) fn from_topic(counts: &TopicStatistics) -> Self {
        let local = Statistics {
            records: counts.waiting,
            compressed_bytes: counts.waiting_bytes,
            uncompressed_bytes: counts.waiting_bytes,
            first_record_at: counts.oldest_at,
            ..Statistics::default()
        };
        let target = Statistics {
            records: counts.delivered,
            ..Statistics::default()
        };
        Self {
            total: local.plus(target).into(),
            levels: StorageLevels {
                local: level(local),
                staging: None,
                target: level(target),
            },
        }
    }
}

fn level(statistics: Statistics) -> Option<LevelStatistics> {
    (statistics.records > 0).then(|| statistics.into())
}

impl From<&SinkStatistics> for StorageLevels {
    fn from(statistics: &SinkStatistics) -> Self {
        Self {
            local: level(statistics.local),
            staging: level(statistics.staging),
            target: level(statistics.shown_target),
        }
    }
}

impl From<&SinkStatistics> for StatisticsTotal {
    fn from(statistics: &SinkStatistics) -> Self {
        Self {
            total: statistics.shown_total().into(),
            levels: statistics.into(),
        }
    }
}

/// Files of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkStatisticsFilesResult)]
pub(crate) struct FileList {
    pub(crate) files: Vec<FileView>,
}

/// An import unit of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkFile)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileView {
    state: FileStateName,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    closing_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    importing_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    imported_at: Option<Timestamp>,
    /// Failed attempts of the current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_attempt: Option<u32>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    retry_after: Option<Timestamp>,
    /// True when its table rejected the file: only an operator can fix that. An extension of
    /// Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parked: Option<bool>,
    /// When it was found that the table's ledger lost the import that it had confirmed; its rows
    /// count as lost. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    lost_at: Option<Timestamp>,
    /// The slice with the most failed attempts of those being retried. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failed_slice: Option<FailedSlice>,
    statistics: FileStatisticsView,
}

/// A slice whose current step failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkFailedSlice)]
#[serde(rename_all = "camelCase")]
struct FailedSlice {
    #[schema(value_type = String, example = "uploading")]
    state: &'static str,
    /// Failed attempts.
    retry_attempt: u32,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    retry_after: Option<Timestamp>,
}

impl From<&forebay_model::Slice> for FailedSlice {
    fn from(slice: &forebay_model::Slice) -> Self {
        Self {
            state: slice.state.name(),
            retry_attempt: slice.retry.attempt,
            retry_reason: slice.retry.reason.clone(),
            retry_after: slice.retry.retry_after,
        }
    }
}

/// State of a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileState)]
#[serde(rename_all = "camelCase")]
enum FileStateName {
    Writing,
    Closing,
    Importing,
    Imported,
}

/// Statistics of a file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkFileStatistics)]
struct FileStatisticsView {
    /// Null when it is empty.
    #[schema(required)]
    total: Option<LevelStatistics>,
    levels: StorageLevels,
}

impl From<&forebay_meta::FileStatistics> for FileView {
    fn from(entry: &forebay_meta::FileStatistics) -> Self {
        use forebay_model::FileState as S;
        let file = &entry.file;
        let retry = &file.retry;
        Self {
            state: match file.state {
                S::Writing => FileStateName::Writing,
                S::Closing => FileStateName::Closing,
                S::Importing => FileStateName::Importing,
                S::Imported => FileStateName::Imported,
            },
            opened_at: file.key.opened_at,
            closing_at: file.closing_at,
            importing_at: file.importing_at,
            imported_at: file.imported_at,
            retry_attempt: (retry.attempt > 0).then_some(retry.attempt),
            retry_reason: retry.reason.clone(),
            retry_after: retry.retry_after,
            parked: retry.parked.then_some(true),
            lost_at: file.lost_at,
            failed_slice: entry.failed_slice.as_ref().map(Into::into),
            statistics: FileStatisticsView {
                total: level(entry.statistics.total()),
                levels: (&entry.statistics).into(),
            },
        }
    }
}

/// Slices of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkSlices)]
pub(crate) struct SliceList {
    pub(crate) slices: Vec<SliceView>,
}

/// The part of a file on one volume; becomes one object in staging storage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkSlice)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceView {
    /// Opening time of its file.
    #[schema(value_type = String, format = DateTime)]
    file_opened_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// Volume of its records.
    volume_id: String,
    #[schema(value_type = String, example = "writing")]
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    closing_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    uploading_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    uploaded_at: Option<Timestamp>,
    /// Failed attempts of the current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_attempt: Option<u32>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_reason: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    retry_after: Option<Timestamp>,
    statistics: LevelStatistics,
}

impl From<&ActiveSlice> for SliceView {
    fn from(entry: &ActiveSlice) -> Self {
        let slice = &entry.slice.value;
        let retry = &slice.retry;
        Self {
            file_opened_at: slice.key.file.opened_at,
            opened_at: slice.key.opened_at,
            volume_id: slice.key.volume.to_string(),
            state: slice.state.name(),
            closing_at: slice.closing_at,
            uploading_at: slice.uploading_at,
            uploaded_at: slice.uploaded_at,
            retry_attempt: (retry.attempt > 0).then_some(retry.attempt),
            retry_reason: retry.reason.clone(),
            retry_after: retry.retry_after,
            statistics: entry.statistics.into(),
        }
    }
}

/// Reconciliation of a sink's records: accepted = imported + dead + expired + lost + inFlight.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkBalance)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReconciliationView {
    /// Acknowledged records, counted by the log.
    accepted: u64,
    /// Records in the table, counted by the table.
    imported: u64,
    /// Records in the dead-letter queue.
    dead: u64,
    /// Records discarded or removed by retention.
    expired: u64,
    /// Records lost to disk corruption.
    lost: u64,
    /// Records not yet imported.
    in_flight: u64,
    /// Whether the sum is correct.
    holds: bool,
}

impl ReconciliationView {
    /// Reconciliation of a topic: imported are delivered messages, expired are discarded ones.
    pub(crate) fn from_topic(counts: &TopicStatistics) -> Self {
        forebay_model::Reconciliation {
            accepted: counts.accepted,
            imported: counts.delivered,
            dead: counts.dead,
            expired: counts.discarded,
            lost: counts.lost,
            in_flight: counts.waiting,
        }
        .into()
    }
}

impl From<forebay_model::Reconciliation> for ReconciliationView {
    fn from(reconciliation: forebay_model::Reconciliation) -> Self {
        Self {
            accepted: reconciliation.accepted,
            imported: reconciliation.imported,
            dead: reconciliation.dead,
            expired: reconciliation.expired,
            lost: reconciliation.lost,
            in_flight: reconciliation.in_flight,
            holds: reconciliation.holds(),
        }
    }
}
