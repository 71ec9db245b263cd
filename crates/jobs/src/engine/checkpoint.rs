//! Writes the outcomes of records to the state, many in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::execution::JobExecution;
use crate::record::{RecordOutcomes, RecordPosition};
use crate::state::{CheckpointUpdate, FileCheckpoint};

/// Maximum number of messages in one transaction.
const OUTCOMES_PER_TXN: usize = 512;
/// Interval between file checkpoints: bounds what a killed job reads again.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// The part of the state that a checkpoint updates.
#[derive(Clone)]
pub(crate) enum CheckpointMode {
    Inbox,
    Dead,
    Files(Arc<CheckpointTracker>),
}

/// Writes outcomes until `drained` is cancelled and the channel is empty.
pub(crate) async fn write_checkpoints(
    execution: Arc<JobExecution>,
    mut outcomes: mpsc::Receiver<RecordOutcomes>,
    mode: CheckpointMode,
    drained: CancellationToken,
) {
    let mut checkpoint = Instant::now();
    let mut is_broken = false;
    loop {
        let first = tokio::select! {
            biased;
            first = outcomes.recv() => first,
            () = drained.cancelled() => None,
        };
        let is_end = first.is_none();
        let mut all = first.unwrap_or_default();
        for _ in 0..OUTCOMES_PER_TXN {
            let Ok(more) = outcomes.try_recv() else { break };
            all.delivered.extend(more.delivered);
            all.dead.extend(more.dead);
        }
        let kind = match &mode {
            CheckpointMode::Inbox => CheckpointUpdate::Inbox,
            CheckpointMode::Dead => CheckpointUpdate::Dead,
            CheckpointMode::Files(files) => {
                let ended = all.delivered.iter().copied();
                files.acknowledge(ended.chain(all.dead.iter().map(|d| (d.position, 1))));
                // Dead letters are stored before their lines count as done.
                let is_due = is_end || checkpoint.elapsed() >= CHECKPOINT_EVERY;
                if !is_due && all.dead.is_empty() {
                    continue;
                }
                checkpoint = Instant::now();
                CheckpointUpdate::Files(files.take_reached())
            }
        };
        if !is_broken {
            let now = execution.clock.now();
            let stored = execution
                .state
                .acknowledge(now, kind, all.delivered, all.dead)
                .await;
            if let Err(e) = stored {
                execution.control.fail(execution.state_failed()(e));
                is_broken = true;
            }
        }
        if is_end {
            return;
        }
    }
}

/// The checkpoint of each file, while its parts are acknowledged in any order.
#[derive(Debug, Default)]
pub(crate) struct CheckpointTracker {
    inner: Mutex<TrackedParts>,
}

#[derive(Debug, Default)]
struct TrackedParts {
    /// Parts with an unacknowledged predecessor: their remaining records and the checkpoint after them.
    open: BTreeMap<RecordPosition, (usize, FileCheckpoint)>,
    /// Checkpoints that are reached and not stored yet.
    reached: HashMap<String, FileCheckpoint>,
}

impl CheckpointTracker {
    /// Registers a part with `records` records (bad lines included) and the checkpoint at its end. Parts must be
    /// registered in order.
    pub(crate) fn begin_part(&self, part: RecordPosition, records: usize, point: FileCheckpoint) {
        let mut parts = self.lock();
        parts.open.insert(part, (records, point));
        parts.advance();
    }

    fn acknowledge(&self, positions: impl Iterator<Item = (RecordPosition, usize)>) {
        let mut parts = self.lock();
        for (position, count) in positions {
            if let Some((remaining, _)) = parts.open.get_mut(&position) {
                *remaining = remaining.saturating_sub(count);
            }
        }
        parts.advance();
    }

    fn take_reached(&self) -> Vec<FileCheckpoint> {
        self.lock()
            .reached
            .drain()
            .map(|(_, point)| point)
            .collect()
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, TrackedParts> {
        self.inner.lock()
    }
}

impl TrackedParts {
    fn advance(&mut self) {
        while let Some(first) = self.open.first_entry() {
            if first.get().0 > 0 {
                return;
            }
            let (_, point) = first.remove();
            self.reached.insert(point.name.clone(), point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_reached_when_all_earlier_parts_are_acknowledged() {
        let tracker = CheckpointTracker::default();
        let point = |offset| FileCheckpoint {
            name: "a".to_owned(),
            identity: String::new(),
            offset,
            lines: 0,
            done: false,
        };
        tracker.begin_part(RecordPosition(1), 3, point(10));
        tracker.begin_part(RecordPosition(2), 1, point(20));
        tracker.begin_part(RecordPosition(3), 0, point(30));
        tracker.acknowledge([(RecordPosition(2), 1), (RecordPosition(1), 2)].into_iter());
        assert!(
            tracker.take_reached().is_empty(),
            "part 1 has a record left"
        );
        tracker.acknowledge([(RecordPosition(1), 1)].into_iter());
        assert_eq!(tracker.take_reached(), [point(30)]);
        assert!(tracker.take_reached().is_empty());
    }
}
