//! Waiting until messages are delivered, and the end.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::{Buffer, BufferInner};
use crate::delivery_loop::NextStep;
use crate::error::WriteError;
use crate::partition::PartitionState;
use crate::stats::ProviderHealth;
use crate::sync::lock;

/// Lanes whose errors are told when not everything could be delivered.
const PARTITIONS_REPORTED: usize = 3;

/// What becomes of messages that wait when a buffer is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// They are delivered, for at most so long; then as with `Detach`.
    Drain(Duration),
    /// They stay on disk, and are delivered after the next opening.
    Detach,
}

impl Buffer {
    /// Waits until everything that was accepted before is delivered or set aside.
    ///
    /// # Errors
    /// [`WriteError::Undelivered`] when that takes longer.
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

    /// As [`Buffer::flush`], but blocks the thread.
    ///
    /// # Errors
    /// As [`Buffer::flush`].
    pub fn flush_blocking(&self, limit: Duration) -> Result<(), WriteError> {
        self.wait_for(&self.flush_target(), limit, limit)
    }

    /// Waits so long; an error tells of the whole time.
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
                // Time moves on only when somebody moves it: what can't be done now never will.
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
        let partitions = self.inner.shared.all_partitions().into_iter();
        let from = |partition: &PartitionState| partition.meters.cursor.load(Ordering::Acquire);
        FlushTarget {
            partitions: partitions
                .map(|partition| (from(&partition), partition.end(), partition))
                .collect(),
        }
    }

    /// Closes the buffer. Writes are refused from now on, in every clone.
    ///
    /// # Errors
    /// [`WriteError::Undelivered`] when not all could be delivered in the time that `Drain` gives. What
    /// is left is on disk, and delivered after the next opening.
    pub fn close(&self, closing: CloseMode) -> Result<(), WriteError> {
        let inner = &self.inner;
        for partition in inner.shared.all_partitions() {
            lock(&partition.intake).closed = true;
        }
        let drained = match closing {
            CloseMode::Drain(limit) => self.flush_taken(limit),
            CloseMode::Detach => Ok(()),
        };
        inner.shutdown();
        drained
    }

    /// Says how far it came and why not farther, as far as the lanes know.
    fn not_delivered(&self, target: &FlushTarget, waited: Duration) -> WriteError {
        let mut causes: Vec<(String, String)> = Vec::new();
        for (_, _, partition) in &target.partitions {
            if let ProviderHealth::Down { error, .. } = &*lock(&partition.state)
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

    /// As a flush, but for what is taken and not committed, too.
    fn flush_taken(&self, limit: Duration) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let until = shared.env.elapsed() + limit;
        let before = self.flush_target();
        loop {
            let seen = shared.change.seen();
            let partitions = shared.all_partitions();
            let taken = partitions.iter().all(|partition| {
                let intake = lock(&partition.intake);
                intake.is_empty() && intake.committing == 0
            });
            let left = until.saturating_sub(shared.env.elapsed());
            if taken {
                // What was taken since is waited for too; what was delivered since counts.
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

/// Places that lanes have to reach.
struct FlushTarget {
    /// Where each was, and where it has to come to.
    partitions: Vec<(u64, u64, Arc<PartitionState>)>,
}

impl FlushTarget {
    /// The same, counted from where lanes were before.
    fn since(mut self, before: &Self) -> Self {
        for (from, _, partition) in &mut self.partitions {
            let mut earlier = before.partitions.iter();
            if let Some((start, ..)) = earlier.find(|(.., other)| Arc::ptr_eq(other, partition)) {
                *from = (*from).min(*start);
            }
        }
        self
    }

    /// Messages that lanes have got rid of, and all that they had.
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

impl BufferInner {
    fn shutdown(&self) {
        self.housekeeping.stop();
        let partitions = self.shared.all_partitions();
        for partition in &partitions {
            lock(&partition.intake).closed = true;
            partition.stop();
        }
        for mut delivery_loop in std::mem::take(&mut *lock(&self.manual)) {
            while delivery_loop.step() != NextStep::Finished {}
        }
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // The last handle may be dropped by one of our threads: by a provider that has one.
            if thread.thread().id() != std::thread::current().id() {
                // What a panic has left was told when it happened.
                drop(thread.join());
            }
        }
        self.shared.log.shutdown();
        self.shared.listeners.close();
        self.shared.change.notify();
        // Lanes and what they share hold each other.
        self.shared
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        self.shutdown();
    }
}
