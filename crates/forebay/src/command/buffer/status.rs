//! What a running `send` tells about itself: a file beside the buffer, written anew each second.

use std::path::Path;

use forebay_buffer::{LaneStats, ProviderState, Stats};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The file's name in the buffer's directory.
const NAME: &str = "status.json";
/// A status that is older is of a process that has ended.
const FRESH_MS: i64 = 5_000;

/// Figures at a moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) pid: u32,
    pub(super) at_ms: i64,
    pub(super) provider: String,
    pub(super) files: usize,
    pub(super) file_bytes: u64,
    pub(super) waiting_bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) dead_letters: u64,
    pub(super) disk_failed: Option<String>,
    /// The reason for which the process before left messages behind, as long as there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
    pub(super) lanes: Vec<Lane>,
}

/// Figures of a lane.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lane {
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

impl Lane {
    fn of(lane: &LaneStats, now: &Stats, before: Option<&Stats>) -> Self {
        let rates = before.and_then(|b| now.rates_since(b, &lane.lane));
        let (state, error) = match &lane.provider {
            ProviderState::Unknown => ("idle", None),
            ProviderState::Up => ("up", None),
            ProviderState::Down { error, .. } => ("down", Some(error.clone())),
        };
        Self {
            lane: lane.lane.to_string(),
            state: if lane.direct { "direct" } else { state }.to_owned(),
            error,
            waiting: lane.waiting,
            waiting_bytes: lane.waiting_bytes,
            in_flight: lane.in_flight,
            oldest_at_ms: lane.oldest_at_ms,
            written: lane.written,
            delivered: lane.delivered,
            dead: lane.dead,
            dropped: lane.dropped,
            lost: lane.lost,
            written_per_second: rates.map_or(0.0, |r| r.written),
            delivered_per_second: rates.map_or(0.0, |r| r.delivered),
        }
    }
}

impl Status {
    /// Of a running buffer.
    pub(super) fn of(provider: &str, now: &Stats, before: Option<&Stats>) -> Self {
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
            lanes: now.lanes.iter().map(|l| Lane::of(l, now, before)).collect(),
        }
    }

    /// Of a directory: what the running process says, or what the disk says when there is none.
    pub(super) fn read(dir: &Path, now_ms: i64) -> Result<Self, Failure> {
        let noted = Self::noted(dir).unwrap_or_default();
        if noted.pid != 0 && now_ms.saturating_sub(noted.at_ms) < FRESH_MS {
            return Ok(noted);
        }
        let told = noted.lanes.iter().find_map(|lane| lane.error.clone());
        let last_error = noted.last_error.or(told);
        let look = forebay_buffer::inspect::Inspection::open(&dir.join("log"));
        let look = look.map_err(|e| Failure::new(e).hint("is it the directory of a buffer?"))?;
        let (files, file_bytes) = look.files();
        let lanes = look.lanes();
        let is_left = lanes.iter().any(|l| l.waiting > 0);
        Ok(Self {
            at_ms: now_ms,
            last_error: last_error.filter(|_| is_left),
            files,
            file_bytes,
            waiting_bytes: lanes.iter().map(|l| l.waiting_bytes).sum(),
            dead_letters: look.dead_letters().count() as u64,
            lanes: lanes
                .into_iter()
                .map(|l| Lane {
                    lane: l.lane.to_string(),
                    state: "stopped".to_owned(),
                    waiting: l.waiting,
                    waiting_bytes: l.waiting_bytes,
                    oldest_at_ms: l.oldest_at_ms,
                    lost: l.lost,
                    ..Lane::default()
                })
                .collect(),
            ..Self::default()
        })
    }

    fn noted(dir: &Path) -> Option<Self> {
        let text = std::fs::read(dir.join(NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes it for others. A status that can't be written is no reason to stop.
    pub(super) fn write(&self, dir: &Path) {
        let part = dir.join(format!("{NAME}.part"));
        let Ok(text) = serde_json::to_vec(self) else {
            return;
        };
        if std::fs::write(&part, text).is_ok() {
            drop(std::fs::rename(part, dir.join(NAME)));
        }
    }

    /// At an end that leaves messages behind: from now on the disk is asked, which does not know why.
    pub(super) fn leave(dir: &Path, cause: &str) {
        let status = Self {
            last_error: Some(cause.to_owned()),
            ..Self::default()
        };
        status.write(dir);
    }

    /// At the end: from now on the disk is asked.
    pub(super) fn remove(dir: &Path) {
        drop(std::fs::remove_file(dir.join(NAME)));
    }
}
