//! Measures what projects hold on disk: in the log and in staging, until their rows are in a table.
//! Both are measured at their origin: the log counts its streams, and a slice has the size of its
//! object. So it is right after any crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_log::Log;
use forebay_model::ProjectId;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::LimiterRegistry;
use crate::streams::{dead_letter_sink, topic_sink};

#[derive(Debug)]
pub struct DiskUse {
    limiters: Arc<LimiterRegistry>,
    log: Log,
}

impl DiskUse {
    /// Measures once, so that no request of a project over its quota is accepted before.
    pub fn new(limiters: Arc<LimiterRegistry>, log: Log) -> Self {
        let disk = Self { limiters, log };
        disk.measure();
        disk
    }

    /// Measures every `interval` until `stop`. What a project sends within it may exceed its quota.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = tick.tick() => self.measure(),
            }
        }
    }

    pub fn measure(&self) {
        let mut bytes: HashMap<ProjectId, u64> = HashMap::new();
        for stream in self.log.streams() {
            if let Some(project) = project_of(&stream.name) {
                *bytes.entry(project).or_default() += stream.stored_bytes;
            }
        }
        self.limiters.set_log(bytes);
    }
}

/// Project of a stream of the log: of a slice, of a sink's dead letters, or of a topic.
fn project_of(stream: &str) -> Option<ProjectId> {
    if let Some(sink) = dead_letter_sink(stream).or_else(|| topic_sink(stream)) {
        return Some(sink.source.branch.project);
    }
    // A slice's key begins with it; there are many of them, and the rest is not needed.
    Some(ProjectId(stream.split('/').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_belongs_to_a_project() {
        let slice = "7/2/src/snk/2026-11-21T15:00:00.000Z/v1/2026-11-21T15:00:00.000Z";
        let own =
            ["topic", "topic-dead-letter", "topic-resolved"].map(|p| format!("{p}/7/2/src/snk/17"));
        let dead_letters = "dead-letter/7/2/src/snk".to_owned();
        for stream in own.into_iter().chain([slice.to_owned(), dead_letters]) {
            assert_eq!(project_of(&stream), Some(ProjectId(7)), "{stream}");
        }
        assert_eq!(project_of("partition/orders"), None);
    }
}
