//! Memory for parts that is used again: fresh memory costs a part more than reading it.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

/// Bytes that are kept for others at most.
const POOLED_BYTES_MAX: usize = 8 << 20;

/// Buffers that nobody uses at the moment.
#[derive(Clone, Debug)]
pub(crate) struct ChunkBuffers {
    free: Arc<Mutex<Vec<BytesMut>>>,
    most: usize,
}

impl ChunkBuffers {
    /// For buffers of about so many bytes.
    pub(super) fn new(size: usize) -> Self {
        Self {
            free: Arc::default(),
            most: POOLED_BYTES_MAX / size.max(1),
        }
    }

    /// An empty one, with room for so many bytes.
    pub(super) fn take(&self, room: usize) -> BytesMut {
        let free = self.lock().pop();
        let mut buffer = free.unwrap_or_default();
        buffer.clear();
        buffer.reserve(room);
        buffer
    }

    /// Takes one back, unless someone else still has a part of it.
    pub(crate) fn release(&self, bytes: Bytes) {
        let Ok(buffer) = bytes.try_into_mut() else {
            return;
        };
        let mut free = self.lock();
        if free.len() < self.most {
            free.push(buffer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BytesMut>> {
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }
}
