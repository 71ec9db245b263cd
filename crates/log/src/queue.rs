//! The append queue of the writer, and admission to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::block::block_len;
use crate::catalog::ControlBlock;
use crate::commit::CommitGroup;
use crate::error::{LatchedFailure, LogAppendError};
use crate::stats::RejectedAppends;
use crate::stream::StreamId;
use crate::table::VolumeTable;

/// A block to append.
#[derive(Clone, Debug)]
pub struct NewBlock {
    /// The stream, from [`Log::stream`](crate::Log::stream).
    pub stream: StreamId,
    /// Number of records, at least one; the stream's sequence grows by it.
    pub records: u32,
    /// Encoding of the payload; the log only stores it. By convention 0 none, 1 gzip, 2 zstd.
    pub codec: u8,
    /// Bytes before encoding.
    pub raw_len: u32,
    /// When the first record was received, in milliseconds since 1970.
    pub first_at_ms: i64,
    /// When the last record was received.
    pub last_at_ms: i64,
    /// The encoded records.
    pub payload: Bytes,
}

/// Bytes that a control block counts for: most are shorter, a name may be longer.
const CONTROL_WEIGHT: usize = 160;

/// An operation for the writer.
pub(crate) enum WriteOp {
    Data {
        first_seq: u64,
        crc: u32,
        block: NewBlock,
    },
    /// A block copied out of segment `from`.
    Relocated {
        from: u64,
        first_seq: u64,
        crc: u32,
        block: NewBlock,
    },
    Control(ControlBlock),
}

impl WriteOp {
    /// Bytes that the operation takes in the queue.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Data { block, .. } | Self::Relocated { block, .. } => {
                crate::bytefields::to_usize(block_len(block.payload.len()))
            }
            Self::Control(_) => CONTROL_WEIGHT,
        }
    }
}

/// The appenders' state of a stream, ahead of the committed state.
#[derive(Clone, Debug)]
pub(crate) struct AssignedStream {
    pub(crate) name: Arc<str>,
    pub(crate) next_seq: u64,
    pub(crate) closed: bool,
    /// Whether the declaration is committed or queued. A rejected one is queued again with the next
    /// operation of the stream, since its number may already be in use.
    pub(crate) declared: bool,
}

/// Space of the volume.
#[derive(Default)]
pub(crate) struct VolumeSpace {
    /// Bytes of blocks in the segments.
    pub(crate) used: u64,
    /// Bytes held by reservations.
    pub(crate) reserved: u64,
    /// Unused bytes of the open segment's preallocated space.
    pub(crate) open_left: u64,
    /// Bytes that the file system can still hold, as of the last check: preallocated and free.
    pub(crate) free: u64,
    pub(crate) rejected: RejectedAppends,
}

impl VolumeSpace {
    /// Counts a rejection because the volume is full.
    pub(crate) fn reject(&mut self, needed: u64) {
        self.rejected.count += 1;
        self.rejected.needed = needed;
    }
}

/// Whether the log accepts operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriterState {
    Running,
    Latched(LatchedFailure),
    Shutdown,
}

/// The queue, under one short lock.
pub(crate) struct AppendQueue {
    pub(crate) writer_state: WriterState,
    pub(crate) ops: Vec<WriteOp>,
    pub(crate) bytes: usize,
    pub(crate) group: Arc<CommitGroup>,
    /// Bytes that the writer took and has not committed yet.
    pub(crate) writing: usize,
    pub(crate) streams: HashMap<u64, AssignedStream>,
    pub(crate) names: HashMap<Arc<str>, u64>,
    pub(crate) next_stream: u64,
    pub(crate) space: VolumeSpace,
    pub(crate) space_wakers: Vec<Waker>,
}

impl AppendQueue {
    pub(crate) fn new(table: &VolumeTable) -> Self {
        let mut queue = Self {
            writer_state: WriterState::Running,
            ops: Vec::new(),
            bytes: 0,
            group: Arc::default(),
            writing: 0,
            streams: HashMap::new(),
            names: HashMap::new(),
            next_stream: 1,
            space: VolumeSpace::default(),
            space_wakers: Vec::new(),
        };
        queue.reset(table);
        queue
    }

    /// Resets to the committed state: operations assigned since then were not written. Streams
    /// created since then stay, empty: their numbers are in use.
    pub(crate) fn reset(&mut self, table: &VolumeTable) {
        let assigned = |state: &crate::catalog::StreamState| AssignedStream {
            name: state.name.clone(),
            next_seq: state.next_seq,
            closed: state.closed,
            declared: true,
        };
        let committed = table.streams.iter();
        let committed = committed.map(|(id, s)| (*id, assigned(&s.state))).collect();
        let before = std::mem::replace(&mut self.streams, committed);
        self.names.clone_from(&table.names);
        for (id, assigned) in before {
            if self.streams.contains_key(&id) {
                continue;
            }
            self.names.insert(assigned.name.clone(), id);
            let undeclared = AssignedStream {
                name: assigned.name,
                next_seq: 0,
                closed: false,
                declared: false,
            };
            self.streams.insert(id, undeclared);
        }
        // Never decrease: a number must not name another stream.
        self.next_stream = self.next_stream.max(table.next_stream).max(1);
    }

    pub(crate) fn check(&self) -> Result<(), LogAppendError> {
        match &self.writer_state {
            WriterState::Running => Ok(()),
            WriterState::Latched(latched) => Err(LogAppendError::Latched(latched.clone())),
            WriterState::Shutdown => Err(LogAppendError::Shutdown),
        }
    }

    /// Assigns the stream's next sequences.
    pub(crate) fn assign(&mut self, stream: StreamId, records: u32) -> Result<u64, LogAppendError> {
        let assigned = self
            .streams
            .get_mut(&stream.0)
            .ok_or(LogAppendError::UnknownStream)?;
        if assigned.closed {
            return Err(LogAppendError::Closed);
        }
        let first = assigned.next_seq;
        assigned.next_seq =
            first
                .checked_add(u64::from(records))
                .ok_or(LogAppendError::Invalid(
                    "the stream's sequence would overflow",
                ))?;
        Ok(first)
    }

    /// Queues the declaration of a stream again if it was rejected. Returns whether it was.
    pub(crate) fn declare(&mut self, stream: StreamId) -> bool {
        let Some(assigned) = self.streams.get_mut(&stream.0).filter(|s| !s.declared) else {
            return false;
        };
        assigned.declared = true;
        let name = assigned.name.clone();
        self.push(WriteOp::Control(ControlBlock::Declare {
            stream: stream.0,
            name,
        }));
        true
    }

    /// Appends an operation; returns its index in the group.
    pub(crate) fn push(&mut self, op: WriteOp) -> usize {
        self.bytes += op.weight();
        self.ops.push(op);
        self.ops.len() - 1
    }

    /// Takes all queued operations.
    pub(crate) fn take(&mut self) -> (Vec<WriteOp>, Arc<CommitGroup>) {
        self.writing = self.bytes;
        self.bytes = 0;
        (
            std::mem::take(&mut self.ops),
            std::mem::take(&mut self.group),
        )
    }

    /// Bytes of the volume that are neither used nor queued nor reserved.
    pub(crate) fn available(&self, max_bytes: u64) -> u64 {
        let waiting = (self.bytes + self.writing) as u64 + self.space.reserved;
        let free = self.space.free.saturating_sub(waiting);
        if max_bytes == 0 {
            return free;
        }
        free.min(max_bytes.saturating_sub(self.space.used + waiting))
    }
}
