//! Flushing and closing a buffer.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::Buffer;
use crate::error::WriteError;
use crate::partition::PartitionState;
use crate::provider::ProviderHealth;

/// Partitions whose errors [`WriteError::Undelivered`] reports.
const PARTITIONS_REPORTED: usize = 3;

/// Treatment of undelivered messages when a buffer is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// Deliver them for at most this time, then detach.
    Drain(Duration),
    /// Leave them on disk; the next opening delivers them.
    Detach,
}

impl Buffer {
    /// Waits until every message accepted before the call is delivered or a dead letter.
    ///
    /// # Errors
    /// [`WriteError::Undelivered`] after `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), WriteError> {
        let waiting = self.flush_target();
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        let done = poll_fn(|cx| {
            let seen = shared.change.seen();
            if waiting.is_done() {
                return Poll::Ready(true);
            }
            if shared.env.elapsed() >= until {
                return Poll::Ready(false);
            }
            if shared.change.poll(seen, cx.waker()) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        if done.await {
            Ok(())
        } else {
            Err(self.not_delivered(&waiting, limit))
        }
    }

    /// As [`Buffer::flush`], blocking the thread.
    pub fn flush_blocking(&self, limit: Duration) -> Result<(), WriteError> {
        self.wait_for(&self.flush_target(), limit, limit)
    }

    /// Waits at most `limit`; an error reports `whole` as the time waited.
    fn wait_for(
        &self,
        waiting: &FlushTarget,
        limit: Duration,
        whole: Duration,
    ) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        loop {
            let seen = shared.change.seen();
            if waiting.is_done() {
                return Ok(());
            }
            let left = until.saturating_sub(shared.env.elapsed());
            if left.is_zero() {
                return Err(self.not_delivered(waiting, whole));
            }
            if shared.config.manual {
                // The test moves the clock: work that isn't due now never becomes due.
                if !self.step().is_zero() && !waiting.is_done() {
                    return Err(self.not_delivered(waiting, whole));
                }
            } else {
                shared
                    .change
                    .wait(seen, left.min(Duration::from_millis(100)));
            }
        }
    }

    fn flush_target(&self) -> FlushTarget {
        let partitions = self.inner.partitions.all().into_iter();
        let from = |partition: &PartitionState| partition.meters.cursor.load(Ordering::Acquire);
        FlushTarget {
            partitions: partitions
                .map(|partition| (from(&partition), partition.end(), partition))
                .collect(),
        }
    }

    /// Closes the buffer. From now on every clone rejects writes.
    ///
    /// # Errors
    /// [`WriteError::Undelivered`] when `Drain` timed out. The rest is on disk, and the next opening
    /// delivers it.
    pub fn close(&self, closing: CloseMode) -> Result<(), WriteError> {
        let inner = &self.inner;
        for partition in inner.partitions.all() {
            partition.intake.lock().closed = true;
        }
        let drained = match closing {
            CloseMode::Drain(limit) => self.flush_taken(limit),
            CloseMode::Detach => Ok(()),
        };
        inner.shutdown();
        drained
    }

    /// The error with the progress and the providers' errors.
    fn not_delivered(&self, target: &FlushTarget, waited: Duration) -> WriteError {
        let mut causes: Vec<(String, String)> = Vec::new();
        for (_, _, partition) in &target.partitions {
            if let ProviderHealth::Down { error, .. } = &*partition.state.lock()
                && causes.len() < PARTITIONS_REPORTED
            {
                causes.push((partition.name.to_string(), error.clone()));
            }
        }
        let cause = match causes.as_slice() {
            [] => "the provider has not confirmed the rest yet".to_owned(),
            [(_, first), rest @ ..] if rest.iter().all(|(_, error)| error == first) => {
                first.clone()
            }
            all => {
                let each: Vec<String> = all.iter().map(|(l, e)| format!("{l}: {e}")).collect();
                each.join("; ")
            }
        };
        let (delivered, all) = target.progress();
        WriteError::Undelivered {
            delivered,
            all,
            waited,
            cause,
        }
    }

    /// Flushes, including messages that are appended but not yet committed.
    fn flush_taken(&self, limit: Duration) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        let before = self.flush_target();
        loop {
            let seen = shared.change.seen();
            let partitions = self.inner.partitions.all();
            let taken = partitions.iter().all(|partition| {
                let intake = partition.intake.lock();
                intake.is_empty() && intake.committing == 0
            });
            let left = until.saturating_sub(shared.env.elapsed());
            if taken {
                // Includes messages appended since; messages delivered since count as progress.
                let waiting = self.flush_target().since(&before);
                return self.wait_for(&waiting, left, limit);
            }
            if left.is_zero() {
                return Err(self.not_delivered(&before, limit));
            }
            if shared.config.manual {
                self.step();
            } else {
                shared
                    .change
                    .wait(seen, left.min(Duration::from_millis(20)));
            }
        }
    }
}

/// Sequences that the cursors have to reach.
struct FlushTarget {
    /// Start cursor and target sequence of each partition.
    partitions: Vec<(u64, u64, Arc<PartitionState>)>,
}

impl FlushTarget {
    /// The same target, with progress counted from the start cursors of `before`.
    fn since(mut self, before: &Self) -> Self {
        for (from, _, partition) in &mut self.partitions {
            let mut earlier = before.partitions.iter();
            if let Some((start, ..)) = earlier.find(|(.., other)| Arc::ptr_eq(other, partition)) {
                *from = (*from).min(*start);
            }
        }
        self
    }

    /// Messages resolved, and messages in total.
    fn progress(&self) -> (u64, u64) {
        let mut progress = (0, 0);
        for (from, end, partition) in &self.partitions {
            let cursor = partition.meters.cursor.load(Ordering::Acquire);
            progress.0 += cursor.clamp(*from, (*end).max(*from)) - from;
            progress.1 += end.saturating_sub(*from);
        }
        progress
    }

    fn is_done(&self) -> bool {
        self.partitions.iter().all(|(_, end, partition)| {
            partition.meters.cursor.load(Ordering::Acquire) >= *end
                || partition.stats().is_none_or(|s| s.trimmed_to >= *end)
        })
    }
}
