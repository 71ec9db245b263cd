//! A pool of chunk buffers: allocating fresh memory costs more than reading a chunk.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// Maximum number of pooled bytes.
const POOLED_BYTES_MAX: usize = 8 << 20;

/// Buffers that are free for reuse.
#[derive(Clone, Debug)]
pub(crate) struct ChunkBuffers {
    free: Arc<Mutex<Vec<BytesMut>>>,
    most: usize,
}

impl ChunkBuffers {
    /// A pool for buffers of about `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self {
            free: Arc::default(),
            most: POOLED_BYTES_MAX / size.max(1),
        }
    }

    /// Returns an empty buffer with this capacity.
    pub(super) fn take(&self, capacity: usize) -> BytesMut {
        let free = self.lock().pop();
        let mut buffer = free.unwrap_or_default();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    /// Returns a buffer to the pool, unless parts of it are still in use.
    pub(crate) fn release(&self, bytes: Bytes) {
        let Ok(buffer) = bytes.try_into_mut() else {
            return;
        };
        let mut free = self.lock();
        if free.len() < self.most {
            free.push(buffer);
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Vec<BytesMut>> {
        self.free.lock()
    }
}
