//! Space that is reserved before it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::queue::AppendQueue;
use crate::shared::SharedVolume;

/// Bytes reserved by [`Log::reserve`](crate::Log::reserve). Dropping it releases the unused rest.
pub struct Reservation {
    shared: Arc<SharedVolume>,
    remaining: AtomicU64,
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

impl Reservation {
    pub(crate) fn new(shared: Arc<SharedVolume>, bytes: u64) -> Self {
        Self {
            shared,
            remaining: AtomicU64::new(bytes),
        }
    }

    /// Unused bytes. Blocks beyond them use free space.
    pub fn remaining(&self) -> u64 {
        self.remaining.load(Ordering::Acquire)
    }

    /// Called under the queue's lock, so never concurrently.
    pub(crate) fn draw(&self, bytes: u64) {
        self.remaining.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.space.reserved -= self.remaining();
        drop(queue);
        self.shared.space.notify_all();
    }
}

impl SharedVolume {
    /// Asks the file system again.
    pub(crate) fn refresh_free_space(&self, queue: &mut AppendQueue) {
        let spare_bytes = self.segment_pool.count() as u64 * self.config.segment_size;
        let free = self.data_space().free().unwrap_or(u64::MAX / 4);
        queue.space.free = queue.space.open_left + spare_bytes + free;
    }
}
