//! The way in: messages gather in an open block, blocks are handed to the log, one fsync answers
//! for all.
//!
//! A block is sealed when the disk is free for it, or when it is full: as long as any block of the
//! lane is being written, messages gather in the next. So few writers get small blocks and short
//! waits, many get large blocks, and no timer is needed.
//!
//! Invariants: blocks are handed over under the lane's lock, in the order of their messages; a
//! block that the log has no room for stays in `ready`, and nothing passes it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use forebay_log::{AppendedRange, ChangeFuture, CommitError, LogAppendError, NewBlock, Ticket};

use crate::codec::{self, CODEC_MESSAGES};
use crate::error::WriteError;
use crate::message::Message;
use crate::partition::PartitionState;
use crate::receipt::{AppendReceipt, BlockOutcome, PendingOutcome, WritePart};
use crate::sync::lock;

/// Blocks that wait for a provider that is written to directly.
const DIRECT_READY: usize = 2;

/// Blocks whose memory is kept for the next ones, while a lane is busy.
const FREE_LIST_MAX: usize = 16;

/// A block of messages.
pub(crate) struct ReadyBlock {
    pub(crate) payload: Bytes,
    pub(crate) records: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) pending: Arc<PendingOutcome>,
    /// Its messages are those of the writes in `pending`, one for one.
    pub(crate) whole: bool,
}

/// What of a lane is not with the log yet.
#[derive(Default)]
pub(crate) struct PartitionIntake {
    open: Vec<u8>,
    /// Memory of blocks that are on disk, for the next ones: fresh memory costs more than what is
    /// put into it.
    free_list: VecDeque<Bytes>,
    records: u32,
    last_ms: i64,
    first_at_ms: i64,
    last_at_ms: i64,
    pending: Arc<PendingOutcome>,
    pub(crate) ready: VecDeque<ReadyBlock>,
    /// Blocks that the log has and has not committed.
    pub(crate) committing: usize,
    /// Blocks go to the provider, not to the log.
    pub(crate) direct: bool,
    pub(crate) closed: bool,
    /// The log's queue was full, and we are called when it has room.
    waits_for_log: bool,
}

/// Nothing was taken.
pub(crate) enum AppendRejection {
    /// Wait for a change, and try again.
    Busy,
    /// For good.
    Error(WriteError),
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

    fn push(&mut self, topic: Option<&str>, message: &Message, now_ms: i64) {
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

    /// Ends the open block, if there is one.
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

    /// What a write is to have of the open block: nothing yet.
    fn part(&self) -> WritePart {
        WritePart {
            pending: self.pending.clone(),
            index: self.records,
            count: 0,
        }
    }

    /// Empty memory for about so many bytes.
    fn memory(&mut self, capacity: usize) -> Vec<u8> {
        match self.free_list.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(mut free)) if free.capacity() >= capacity => {
                free.clear();
                return free.into();
            }
            // The log still holds it.
            Some(Err(busy)) => self.free_list.push_back(busy),
            _ => {}
        }
        Vec::with_capacity(capacity)
    }

    /// A block is on disk.
    fn on_committed(&mut self, payload: Bytes) {
        self.committing -= 1;
        if self.free_list.len() < FREE_LIST_MAX {
            self.free_list.push_back(payload);
        }
    }

    fn is_busy(&self, block_bytes: usize) -> bool {
        if self.direct {
            self.ready.len() >= DIRECT_READY && self.open.len() >= block_bytes / 2
        } else {
            !self.ready.is_empty()
        }
    }

    /// Answers everybody who waits with an error.
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

/// Takes messages of one topic of a lane, all or none. `None`: see [`rejection`].
pub(crate) fn append(
    partition: &Arc<PartitionState>,
    topic: Option<&str>,
    messages: &[Message],
) -> Option<AppendReceipt> {
    let shared = &partition.shared;
    let block_bytes = shared.config.block_bytes;
    let now_ms = shared.env.coarse_now_ms();
    let mut intake = lock(&partition.intake);
    if intake.closed || messages.is_empty() || intake.is_busy(block_bytes) {
        return None;
    }
    let mut full: Vec<WritePart> = Vec::new();
    let mut bytes = 0;
    let mut part = intake.part();
    for message in messages {
        let before = intake.open.len();
        intake.push(topic, message, now_ms);
        bytes += intake.open.len() - before;
        part.count += 1;
        if intake.open.len() >= block_bytes {
            intake.seal(block_bytes);
            full.push(std::mem::replace(&mut part, intake.part()));
        }
    }
    partition.record_appended(messages.len() as u64, bytes as u64);
    if !intake.direct && intake.committing == 0 {
        intake.seal(block_bytes);
    }
    let handoff = partition.hand_over(&mut intake);
    let direct = intake.direct;
    drop(intake);
    if direct {
        partition.wake_worker();
    }
    handoff.start();
    if full.is_empty() {
        return Some(AppendReceipt::new(part));
    }
    if part.count > 0 {
        full.push(part);
    }
    Some(AppendReceipt::from_parts(full))
}

/// Why nothing was taken; that it could be taken by now is no reason not to wait and try again.
pub(crate) fn rejection(partition: &PartitionState, messages: &[Message]) -> AppendRejection {
    if messages.is_empty() {
        return AppendRejection::Error(WriteError::Invalid {
            field: "messages",
            value: "none".to_owned(),
            allowed: "one message or more".to_owned(),
        });
    }
    if lock(&partition.intake).closed {
        return AppendRejection::Error(WriteError::Closed);
    }
    AppendRejection::Busy
}

/// A block that the log has: called when it is on disk.
pub(crate) struct InFlightBlock {
    partition: Arc<PartitionState>,
    pending: Arc<PendingOutcome>,
    whole: bool,
    /// Until it is on disk.
    under_way: Mutex<Option<(Ticket, Bytes)>>,
}

/// What was handed over under the lane's lock, and what is to be listened to once it is released:
/// a log without threads does its work there.
#[must_use = "to be started once the lock is released"]
#[derive(Default)]
pub(crate) struct HandoffWork {
    in_flight: Vec<Arc<InFlightBlock>>,
    capacity: Option<Arc<LogCapacityWaker>>,
}

impl HandoffWork {
    pub(crate) fn start(self) {
        for block in self.in_flight {
            block.poll_commit();
        }
        if let Some(call) = self.capacity {
            call.poll_capacity();
        }
    }
}

impl InFlightBlock {
    fn poll_commit(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut held = lock(&self.under_way);
        let Some((ticket, _)) = held.as_mut() else {
            return;
        };
        let polled = Pin::new(ticket).poll(&mut Context::from_waker(&waker));
        let Poll::Ready(outcome) = polled else {
            return;
        };
        let Some((_, payload)) = held.take() else {
            return;
        };
        drop(held);
        self.on_committed(outcome, payload);
    }

    fn on_committed(&self, outcome: Result<AppendedRange, CommitError>, payload: Bytes) {
        let partition = &self.partition;
        let bytes = payload.len() as u64;
        let mut intake = lock(&partition.intake);
        intake.on_committed(payload);
        if !intake.direct && intake.committing == 0 {
            // First the next block, so that the disk has something to do. What is under way beside
            // this one is enough to do: blocks of a few messages would cost more than they bring.
            intake.seal(partition.shared.config.block_bytes);
        }
        let handoff = partition.hand_over(&mut intake);
        if intake.committing == 0 {
            intake.free_list.clear();
        }
        drop(intake);
        let block_outcome = match outcome {
            Ok(appended) => BlockOutcome::Buffered {
                first_seq: self.whole.then_some(appended.first_seq),
            },
            Err(error) => BlockOutcome::Failed(partition.commit_failed(&error)),
        };
        partition.stored(bytes);
        self.pending.resolve(block_outcome);
        partition.shared.change.notify();
        partition.wake_worker_for_messages();
        handoff.start();
    }
}

impl Wake for InFlightBlock {
    fn wake(self: Arc<Self>) {
        self.poll_commit();
    }
}

/// Called when the log's queue has room again.
struct LogCapacityWaker {
    partition: Arc<PartitionState>,
    changed: Mutex<Option<ChangeFuture>>,
}

impl LogCapacityWaker {
    fn poll_capacity(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut held = lock(&self.changed);
        let Some(changed) = held.as_mut() else {
            return;
        };
        if Pin::new(changed)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            return;
        }
        *held = None;
        drop(held);
        let mut intake = lock(&self.partition.intake);
        intake.waits_for_log = false;
        let handoff = self.partition.hand_over(&mut intake);
        drop(intake);
        self.partition.shared.change.notify();
        handoff.start();
    }
}

impl Wake for LogCapacityWaker {
    fn wake(self: Arc<Self>) {
        self.poll_capacity();
    }
}

impl PartitionState {
    /// Hands blocks that are ready to the log, in order, as many as it takes.
    pub(crate) fn hand_over(self: &Arc<Self>, intake: &mut PartitionIntake) -> HandoffWork {
        let mut handoff = HandoffWork::default();
        while let Some(block) = intake.ready.front().filter(|_| !intake.direct) {
            let new = NewBlock {
                stream: self.stream,
                records: block.records,
                codec: CODEC_MESSAGES,
                raw_len: u32::try_from(block.payload.len()).unwrap_or(u32::MAX),
                first_at_ms: block.first_at_ms,
                last_at_ms: block.last_at_ms,
                payload: block.payload.clone(),
            };
            let appended = self.shared.log.append(new);
            if matches!(appended, Err(LogAppendError::Busy)) {
                if !intake.waits_for_log {
                    intake.waits_for_log = true;
                    let changed = Mutex::new(Some(self.shared.log.queue_space()));
                    let partition = self.clone();
                    handoff.capacity = Some(Arc::new(LogCapacityWaker { partition, changed }));
                }
                break;
            }
            let Some(block) = intake.ready.pop_front() else {
                break;
            };
            match appended {
                Ok(ticket) => {
                    intake.committing += 1;
                    handoff.in_flight.push(Arc::new(InFlightBlock {
                        partition: self.clone(),
                        pending: block.pending,
                        whole: block.whole,
                        under_way: Mutex::new(Some((ticket, block.payload))),
                    }));
                }
                Err(error) => {
                    self.add_dequeued(block.payload.len() as u64);
                    block
                        .pending
                        .resolve(BlockOutcome::Failed(self.append_failed(&error)));
                }
            }
        }
        handoff
    }
}
