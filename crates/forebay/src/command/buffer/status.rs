//! Status file of a running `send`, next to the buffer and rewritten every second.

use std::path::Path;

use forebay_buffer::{BufferStats, PartitionStats, ProviderHealth};
use serde::{Deserialize, Serialize};

use crate::cli_error::CliError;

const STATUS_FILE: &str = "status.json";
/// An older status belongs to a process that has ended.
const FRESH_MS: i64 = 5_000;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BufferStatus {
    pub(super) pid: u32,
    pub(super) at_ms: i64,
    pub(super) provider: String,
    pub(super) files: usize,
    pub(super) file_bytes: u64,
    pub(super) waiting_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) dead_letters: u64,
    pub(super) disk_failed: Option<String>,
    /// Reason for messages that the previous process left undelivered, as long as there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    pub(super) lanes: Vec<PartitionStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartitionStatus {
    pub(super) lane: String,
    pub(super) state: String,
    pub(super) error: Option<String>,
    pub(super) waiting: u64,
    pub(super) waiting_bytes: u64,
    pub(super) in_flight: u64,
    pub(super) oldest_at_ms: Option<i64>,
    pub(super) written: u64,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) dropped: u64,
    pub(super) lost: u64,
    pub(super) written_per_second: f64,
    pub(super) delivered_per_second: f64,
}

impl PartitionStatus {
    fn from_stats(
        partition: &PartitionStats,
        now: &BufferStats,
        before: Option<&BufferStats>,
    ) -> Self {
        let rates = before.and_then(|b| now.rates_since(b, &partition.partition));
        let (state, error) = match &partition.provider {
            ProviderHealth::Unknown => ("idle", None),
            ProviderHealth::Up => ("up", None),
            ProviderHealth::Down { error, .. } => ("down", Some(error.clone())),
        };
        Self {
            lane: partition.partition.to_string(),
            state: if partition.direct { "direct" } else { state }.to_owned(),
            error,
            waiting: partition.waiting,
            waiting_bytes: partition.waiting_bytes,
            in_flight: partition.in_flight,
            oldest_at_ms: partition.oldest_at_ms,
            written: partition.written,
            delivered: partition.delivered,
            dead: partition.dead,
            dropped: partition.dropped,
            lost: partition.lost,
            written_per_second: rates.map_or(0.0, |r| r.written),
            delivered_per_second: rates.map_or(0.0, |r| r.delivered),
        }
    }
}

impl BufferStatus {
    /// Status of a running buffer.
    pub(super) fn from_stats(
        provider: &str,
        now: &BufferStats,
        before: Option<&BufferStats>,
    ) -> Self {
        Self {
            pid: std::process::id(),
            at_ms: now.at_ms,
            provider: provider.to_owned(),
            files: now.files,
            file_bytes: now.file_bytes,
            waiting_bytes: now.waiting_bytes,
            max_bytes: now.max_bytes,
            dead_letters: now.dead_letters,
            disk_failed: now.disk_failed.clone(),
            last_error: None,
            lanes: now
                .partitions
                .iter()
                .map(|l| PartitionStatus::from_stats(l, now, before))
                .collect(),
        }
    }

    /// Status of a directory: from the running process, else from the disk.
    pub(super) fn read(dir: &Path, now_ms: i64) -> Result<Self, CliError> {
        let recorded = Self::read_file(dir).unwrap_or_default();
        if recorded.pid != 0 && now_ms.saturating_sub(recorded.at_ms) < FRESH_MS {
            return Ok(recorded);
        }
        let recorded_error = recorded
            .lanes
            .iter()
            .find_map(|partition| partition.error.clone());
        let last_error = recorded.last_error.or(recorded_error);
        let inspection = forebay_buffer::inspect::BufferInspection::open(&dir.join("log"));
        let inspection =
            inspection.map_err(|e| CliError::new(e).hint("is it the directory of a buffer?"))?;
        let (files, file_bytes) = inspection.files();
        let partitions = inspection.partitions();
        let is_left = partitions.iter().any(|l| l.waiting > 0);
        Ok(Self {
            at_ms: now_ms,
            last_error: last_error.filter(|_| is_left),
            files,
            file_bytes,
            waiting_bytes: partitions.iter().map(|l| l.waiting_bytes).sum(),
            dead_letters: inspection.dead_letters().count() as u64,
            lanes: partitions
                .into_iter()
                .map(|l| PartitionStatus {
                    lane: l.partition.to_string(),
                    state: "stopped".to_owned(),
                    waiting: l.waiting,
                    waiting_bytes: l.waiting_bytes,
                    oldest_at_ms: l.oldest_at_ms,
                    lost: l.lost,
                    ..PartitionStatus::default()
                })
                .collect(),
            ..Self::default()
        })
    }

    fn read_file(dir: &Path) -> Option<Self> {
        let text = std::fs::read(dir.join(STATUS_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes the status file. A failure is ignored: it is no reason to stop.
    pub(super) fn write(&self, dir: &Path) {
        let part = dir.join(format!("{STATUS_FILE}.part"));
        let Ok(text) = serde_json::to_vec(self) else {
            return;
        };
        if std::fs::write(&part, text).is_ok() {
            drop(std::fs::rename(part, dir.join(STATUS_FILE)));
        }
    }

    /// At an end with undelivered messages: records the cause, which the disk alone does not show.
    pub(super) fn write_undelivered(dir: &Path, cause: &str) {
        let status = Self {
            last_error: Some(cause.to_owned()),
            ..Self::default()
        };
        status.write(dir);
    }

    /// At the end: later reads use the disk.
    pub(super) fn remove(dir: &Path) {
        drop(std::fs::remove_file(dir.join(STATUS_FILE)));
    }
}
