//! Progress of a sink's records.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use forebay_meta::Repo;
use forebay_model::{Clock, Reconciliation, SinkKey, Statistics};

use super::sender::SendCounts;
use crate::cli_error::CliError;
use crate::clock::SystemClock;

/// Progress at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgressReading {
    /// Sent by the demo.
    pub(crate) sent: u64,
    /// Acknowledged: on disk.
    pub(crate) acknowledged: u64,
    /// In staging or imported.
    pub(crate) uploaded: u64,
    /// In the table.
    pub(crate) imported: u64,
    /// Age of the oldest record that is not yet in the table.
    pub(crate) lag: Duration,
}

/// Reads the progress of a sink since the start of the demo.
#[derive(Debug)]
pub(crate) struct SinkGauge {
    repo: Repo,
    sink: SinkKey,
    before: Reconciliation,
}

impl SinkGauge {
    /// Records of the sink before this call are subtracted later.
    pub(crate) async fn new(repo: Repo, sink: SinkKey) -> Result<Self, CliError> {
        let before = repo.reconciliation(&sink).await.map_err(CliError::new)?;
        Ok(Self { repo, sink, before })
    }

    /// Reads the current progress.
    pub(crate) async fn read(&self, counts: &SendCounts) -> Result<ProgressReading, CliError> {
        let statistics = self
            .repo
            .sink_statistics(&self.sink)
            .await
            .map_err(CliError::new)?;
        let now = SystemClock.now();
        let age = |s: &Statistics| {
            s.first_record_at
                .filter(|_| s.records > 0)
                .map(|at| now.since(at))
        };
        let lag = age(&statistics.local).max(age(&statistics.staging));
        let earlier = self.before.accepted;
        let uploaded = statistics.staging.records + statistics.target.records;
        Ok(ProgressReading {
            sent: counts.sent.load(Relaxed),
            acknowledged: counts.acknowledged.load(Relaxed),
            uploaded: uploaded.saturating_sub(earlier),
            imported: statistics
                .imported_rows
                .saturating_sub(self.before.imported),
            lag: lag.unwrap_or_default(),
        })
    }

    /// Reconciliation of all records that the sink ever accepted.
    pub(crate) async fn reconciliation(&self) -> Result<Reconciliation, CliError> {
        self.repo
            .reconciliation(&self.sink)
            .await
            .map_err(CliError::new)
    }

    /// Records imported before the start.
    pub(crate) fn imported_before(&self) -> u64 {
        self.before.imported
    }
}
