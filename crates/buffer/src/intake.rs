//! Messages and blocks of a partition ahead of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec;
use crate::error::WriteError;
use crate::message::Message;
use crate::receipt::{BlockOutcome, PendingOutcome, WritePart};

/// Sealed blocks that may wait in a direct mode.
pub(crate) const DIRECT_READY: usize = 2;
/// Blocks whose memory a busy partition retains.
pub(crate) const FREE_LIST_MAX: usize = 16;

/// A sealed block of messages.
pub(crate) struct ReadyBlock {
    pub(crate) payload: Bytes,
    pub(crate) records: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) pending: Arc<PendingOutcome>,
    /// Whether the block has exactly the messages of the writes in `pending`.
    pub(crate) whole: bool,
}

/// Partition state ahead of the log: the open block, and sealed blocks not yet appended.
#[derive(Default)]
pub(crate) struct PartitionIntake {
    pub(crate) open: Vec<u8>,
    /// Memory of committed blocks for reuse: allocating it costs more than filling it.
    pub(crate) free_list: VecDeque<Bytes>,
    pub(crate) records: u32,
    pub(crate) last_ms: i64,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) pending: Arc<PendingOutcome>,
    pub(crate) ready: VecDeque<ReadyBlock>,
    /// Blocks that are appended to the log but not committed.
    pub(crate) committing: usize,
    /// Whether blocks go to the provider instead of the log.
    pub(crate) direct: bool,
    pub(crate) closed: bool,
    /// Whether a waker waits for space in the log's queue.
    pub(crate) waits_for_log: bool,
}

impl PartitionIntake {
    pub(crate) fn new(direct: bool) -> Self {
        Self {
            direct,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0 && self.ready.is_empty()
    }

    pub(crate) fn push(&mut self, topic: Option<&str>, message: &Message, now_ms: i64) {
        if self.records == 0 {
            self.first_at_ms = now_ms;
            self.last_ms = 0;
        }
        let at = message.timestamp_ms.unwrap_or(now_ms);
        codec::encode(&mut self.open, topic, message, at, self.last_ms);
        self.last_ms = at;
        self.last_at_ms = now_ms;
        self.records += 1;
    }

    /// Seals the open block, if it has messages.
    pub(crate) fn seal(&mut self, capacity: usize) {
        if self.records == 0 {
            return;
        }
        let next = self.memory(self.open.len().min(capacity));
        self.ready.push_back(ReadyBlock {
            payload: Bytes::from(std::mem::replace(&mut self.open, next)),
            records: std::mem::take(&mut self.records),
            first_at_ms: self.first_at_ms,
            last_at_ms: self.last_at_ms,
            pending: std::mem::take(&mut self.pending),
            whole: true,
        });
    }

    /// An empty part of the open block for a new write.
    pub(crate) fn part(&self) -> WritePart {
        WritePart {
            pending: self.pending.clone(),
            index: self.records,
            count: 0,
        }
    }

    /// An empty vector, reused if one of about this capacity is free.
    pub(crate) fn memory(&mut self, capacity: usize) -> Vec<u8> {
        match self.free_list.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(mut free)) if free.capacity() >= capacity => {
                free.clear();
                return free.into();
            }
            // The log still references it.
            Some(Err(busy)) => self.free_list.push_back(busy),
            _ => {}
        }
        Vec::with_capacity(capacity)
    }

    /// Called when a block is committed.
    pub(crate) fn on_committed(&mut self, payload: Bytes) {
        self.committing -= 1;
        if self.free_list.len() < FREE_LIST_MAX {
            self.free_list.push_back(payload);
        }
    }

    pub(crate) fn is_busy(&self, block_bytes: usize) -> bool {
        if self.direct {
            self.ready.len() >= DIRECT_READY && self.open.len() >= block_bytes / 2
        } else {
            !self.ready.is_empty()
        }
    }

    /// Fails all waiting writes; returns the bytes of their blocks.
    pub(crate) fn fail_all(&mut self, error: &WriteError) -> u64 {
        self.seal(0);
        let mut bytes = 0;
        for block in self.ready.drain(..) {
            bytes += block.payload.len() as u64;
            block.pending.resolve(BlockOutcome::Failed(error.clone()));
        }
        bytes
    }
}
