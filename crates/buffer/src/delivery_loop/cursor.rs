//! The cursor of a partition, in memory and on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{DeliveryLoop, SentBatch};
use crate::partition::PartitionState;

impl DeliveryLoop {
    /// The smallest unresolved sequence.
    pub(super) fn cursor(&self) -> u64 {
        if self.direct.is_some() {
            return self.reader.position();
        }
        let first = |s: &SentBatch| s.batch.messages().first().map(|d| d.sequence);
        let sent = self.sent.front().and_then(first);
        let retry = self.retry_queue.front().map(|r| r.delivery.sequence);
        let candidates = [sent, retry, Some(self.reader.position())];
        candidates.into_iter().flatten().min().unwrap_or(0)
    }

    /// Writes the cursor to disk, one write at a time and not for every batch.
    pub(super) fn save_cursor(&mut self, now: Duration, at_once: bool) {
        self.poll_saved();
        let (partition, cursor) = (self.partition.clone(), self.cursor());
        // The log frees what is before the cursor.
        assert!(
            cursor <= self.reader.position(),
            "cursor {cursor} is beyond what was read"
        );
        let before = partition.meters.cursor.swap(cursor, Ordering::AcqRel);
        partition
            .meters
            .read_to
            .store(self.reader.position(), Ordering::Release);
        if before != cursor {
            partition.shared.change.notify();
        }
        let saved = partition.meters.durable_cursor.load(Ordering::Acquire);
        if self.saving.is_some() || cursor <= saved || partition.is_held() {
            return;
        }
        let config = &partition.shared.config;
        let due = now.saturating_sub(self.saved_at) >= config.cursor_interval
            || cursor - saved >= config.repeat_window / 4;
        if !at_once && !due {
            return;
        }
        self.saved_at = now;
        match partition.shared.log.trim(partition.stream, cursor) {
            Ok(ticket) => {
                self.saving = Some((ticket, cursor));
                self.poll_saved();
            }
            Err(forebay_log::LogAppendError::Busy) => {}
            Err(error) => partition.shared.disk_failed(&error.to_string()),
        }
    }

    fn poll_saved(&mut self) {
        let Some((ticket, cursor)) = &mut self.saving else {
            return;
        };
        let waker = Waker::from(self.partition.clone());
        let polled = Pin::new(ticket).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(outcome) = polled else {
            return;
        };
        match outcome {
            Ok(_) => {
                self.partition
                    .meters
                    .durable_cursor
                    .store(*cursor, Ordering::Release);
                self.partition.measure();
                self.partition.shared.change.notify();
            }
            Err(error) => drop(self.partition.commit_failed(&error)),
        }
        self.saving = None;
    }
}

impl Wake for PartitionState {
    fn wake(self: Arc<Self>) {
        self.wake_worker();
    }
}
