//! Space that is set aside before it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::{Queue, lock};
use crate::shared::Shared;

/// Bytes set aside by [`Log::reservation`](crate::Log::reservation). What is not used is given back when
/// it is dropped.
pub struct Reservation {
    shared: Arc<Shared>,
    left: AtomicU64,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}

impl Reservation {
    pub(crate) fn new(shared: Arc<Shared>, bytes: u64) -> Self {
        Self {
            shared,
            left: AtomicU64::new(bytes),
        }
    }

    /// Bytes that are left of it. Blocks beyond it are taken from what is free.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    /// Called under the queue's lock, so nobody draws at the same time.
    pub(crate) fn draw(&self, bytes: u64) {
        self.left.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.space.reserved -= self.left();
        drop(queue);
        self.shared.space.notify_all();
    }
}

impl Shared {
    /// Looks at the file system again.
    pub(crate) fn see_room(&self, queue: &mut Queue) {
        let spares = self.spares.count() as u64 * self.config.segment_size;
        let free = self.space_room().free().unwrap_or(u64::MAX / 4);
        queue.space.room = queue.space.open_left + spares + free;
    }
}
