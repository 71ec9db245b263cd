//! Statistics of sinks, files and slices.

use forebay_api::statistics::{
    FailedSlice, FileStateName, FileStatisticsView, FileView, LevelStatistics, ReconciliationView,
    SliceView, StatisticsTotal, StorageLevels,
};
use forebay_meta::catalog::files::ActiveSlice;
use forebay_meta::{FileStatistics, SinkStatistics};
use forebay_model::{FileState, Reconciliation, Slice, Statistics, TopicStatistics};

use super::ToView;

impl ToView for Statistics {
    type View = LevelStatistics;

    fn to_view(&self) -> LevelStatistics {
        LevelStatistics {
            first_record_at: self.first_record_at,
            last_record_at: self.last_record_at,
            records_count: self.records,
            compressed_size: self.compressed_bytes,
            uncompressed_size: self.uncompressed_bytes,
        }
    }
}

fn level(statistics: Statistics) -> Option<LevelStatistics> {
    (statistics.records > 0).then(|| statistics.to_view())
}

impl ToView for SinkStatistics {
    type View = StorageLevels;

    fn to_view(&self) -> StorageLevels {
        StorageLevels {
            local: level(self.local),
            staging: level(self.staging),
            target: level(self.shown_target),
        }
    }
}

/// Statistics of a table sink.
pub(in crate::api) fn sink_total(statistics: &SinkStatistics) -> StatisticsTotal {
    StatisticsTotal {
        total: statistics.shown_total().to_view(),
        levels: statistics.to_view(),
    }
}

/// Statistics of a topic: waiting messages are local, delivered ones in the target.
pub(in crate::api) fn topic_total(counts: &TopicStatistics) -> StatisticsTotal {
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
    StatisticsTotal {
        total: local.plus(target).to_view(),
        levels: StorageLevels {
            local: level(local),
            staging: None,
            target: level(target),
        },
    }
}

impl ToView for FileStatistics {
    type View = FileView;

    fn to_view(&self) -> FileView {
        let file = &self.file;
        let retry = &file.retry;
        FileView {
            state: match file.state {
                FileState::Writing => FileStateName::Writing,
                FileState::Closing => FileStateName::Closing,
                FileState::Importing => FileStateName::Importing,
                FileState::Imported => FileStateName::Imported,
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
            failed_slice: self.failed_slice.as_ref().map(failed_slice),
            statistics: FileStatisticsView {
                total: level(self.statistics.total()),
                levels: self.statistics.to_view(),
            },
        }
    }
}

fn failed_slice(slice: &Slice) -> FailedSlice {
    FailedSlice {
        state: slice.state.name().to_owned(),
        retry_attempt: slice.retry.attempt,
        retry_reason: slice.retry.reason.clone(),
        retry_after: slice.retry.retry_after,
    }
}

impl ToView for ActiveSlice {
    type View = SliceView;

    fn to_view(&self) -> SliceView {
        let slice = &self.slice.value;
        let retry = &slice.retry;
        SliceView {
            file_opened_at: slice.key.file.opened_at,
            opened_at: slice.key.opened_at,
            volume_id: slice.key.volume.to_string(),
            state: slice.state.name().to_owned(),
            closing_at: slice.closing_at,
            uploading_at: slice.uploading_at,
            uploaded_at: slice.uploaded_at,
            retry_attempt: (retry.attempt > 0).then_some(retry.attempt),
            retry_reason: retry.reason.clone(),
            retry_after: retry.retry_after,
            statistics: self.statistics.to_view(),
        }
    }
}

/// Reconciliation of a topic: imported are delivered messages, expired are discarded ones.
pub(in crate::api) fn topic_reconciliation(counts: &TopicStatistics) -> ReconciliationView {
    let reconciliation = Reconciliation {
        accepted: counts.accepted,
        imported: counts.delivered,
        dead: counts.dead,
        expired: counts.discarded,
        lost: counts.lost,
        in_flight: counts.waiting,
    };
    reconciliation.to_view()
}

impl ToView for Reconciliation {
    type View = ReconciliationView;

    fn to_view(&self) -> ReconciliationView {
        ReconciliationView {
            accepted: self.accepted,
            imported: self.imported,
            dead: self.dead,
            expired: self.expired,
            lost: self.lost,
            in_flight: self.in_flight,
            holds: self.holds(),
        }
    }
}
