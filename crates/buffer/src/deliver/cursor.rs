//! The cursor of a lane, in memory and on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Deliverer, Sent};
use crate::lane::LaneCore;

impl Deliverer {
    /// The smallest sequence that is not done with.
    pub(super) fn cursor(&self) -> u64 {
        if self.straight.is_some() {
            return self.source.position();
        }
        let first = |s: &Sent| s.batch.messages().first().map(|d| d.sequence);
        let sent = self.sent.front().and_then(first);
        let redo = self.redo.front().map(|r| r.delivery.sequence);
        let places = [sent, redo, Some(self.source.position())];
        places.into_iter().flatten().min().unwrap_or(0)
    }

    /// Writes the cursor to disk: not at every batch, and one at a time.
    pub(super) fn save_cursor(&mut self, now: Duration, at_once: bool) {
        self.note_saved();
        let (lane, cursor) = (self.lane.clone(), self.cursor());
        let before = lane.meters.cursor.swap(cursor, Ordering::AcqRel);
        lane.meters
            .read_to
            .store(self.source.position(), Ordering::Release);
        if before != cursor {
            lane.shared.change.notify();
        }
        let saved = lane.meters.durable_cursor.load(Ordering::Acquire);
        if self.saving.is_some() || cursor <= saved || lane.is_held() {
            return;
        }
        let config = &lane.shared.config;
        let due = now.saturating_sub(self.saved_at) >= config.cursor_interval
            || cursor - saved >= config.repeat_window / 4;
        if !at_once && !due {
            return;
        }
        self.saved_at = now;
        match lane.shared.log.trim(lane.stream, cursor) {
            Ok(ticket) => {
                self.saving = Some((ticket, cursor));
                self.note_saved();
            }
            Err(forebay_log::AppendError::Busy) => {}
            Err(error) => lane.shared.disk_failed(&error.to_string()),
        }
    }

    fn note_saved(&mut self) {
        let Some((ticket, cursor)) = &mut self.saving else {
            return;
        };
        let waker = Waker::from(self.lane.clone());
        let polled = Pin::new(ticket).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(outcome) = polled else {
            return;
        };
        match outcome {
            Ok(_) => {
                self.lane
                    .meters
                    .durable_cursor
                    .store(*cursor, Ordering::Release);
                self.lane.measure();
                self.lane.shared.change.notify();
            }
            Err(error) => drop(self.lane.commit_failed(&error)),
        }
        self.saving = None;
    }
}

impl Wake for LaneCore {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
