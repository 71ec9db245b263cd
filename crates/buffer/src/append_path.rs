//! Append path: messages are collected in an open block, sealed blocks go to the log, and one fsync
//! acknowledges all of them.
//!
//! A block is sealed when it is full or when no block of the partition is being written. So few
//! writers get small blocks and short waits, many get large blocks, without a timer.
//!
//! Invariants: blocks are handed to the log under the partition's lock, in the order of their
//! messages; a block that the log can't queue stays in `ready`, and no later block passes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use forebay_log::{AppendedRange, ChangeFuture, CommitError, LogAppendError, NewBlock, Ticket};
use parking_lot::Mutex;

use crate::codec::CODEC_MESSAGES;
use crate::error::WriteError;
use crate::intake::PartitionIntake;
use crate::message::Message;
use crate::partition::PartitionState;
use crate::receipt::{AppendReceipt, BlockOutcome, PendingOutcome, WritePart};

/// Error of appending a message; none was appended.
pub(crate) enum AppendRejection {
    /// Temporary: wait for a change and retry.
    Busy,
    /// Permanent.
    Error(WriteError),
}

/// Appends messages of one topic, all or none. `None`: see [`rejection`].
pub(crate) fn append(
    partition: &Arc<PartitionState>,
    topic: Option<&str>,
    messages: &[Message],
) -> Option<AppendReceipt> {
    let shared = &partition.shared;
    let block_bytes = shared.config.block_bytes;
    let now_ms = shared.env.coarse_now_ms();
    let mut intake = partition.intake.lock();
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

/// Error of [`append`], which appended nothing. `Busy` may be out of date; the caller retries anyway.
pub(crate) fn rejection(partition: &PartitionState, messages: &[Message]) -> AppendRejection {
    if messages.is_empty() {
        return AppendRejection::Error(WriteError::Invalid {
            field: "messages",
            value: "none".to_owned(),
            allowed: "one message or more".to_owned(),
        });
    }
    if partition.intake.lock().closed {
        return AppendRejection::Error(WriteError::Closed);
    }
    AppendRejection::Busy
}

/// A block appended to the log; its waker is called when it is committed.
pub(crate) struct InFlightBlock {
    partition: Arc<PartitionState>,
    pending: Arc<PendingOutcome>,
    whole: bool,
    /// `None` once it is committed.
    in_flight_append: Mutex<Option<(Ticket, Bytes)>>,
}

/// Futures of blocks handed over under the partition's lock, polled after the lock is released,
/// because a log without threads does its work in the poll.
#[must_use = "start it after the lock is released"]
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
        let mut held = self.in_flight_append.lock();
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
        let mut intake = partition.intake.lock();
        intake.on_committed(payload);
        if !intake.direct && intake.committing == 0 {
            // Before acknowledging, give the disk its next block. Only if no other block is in
            // flight: blocks of a few messages cost more than they gain.
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

/// Called when the log's queue has space again.
struct LogCapacityWaker {
    partition: Arc<PartitionState>,
    changed: Mutex<Option<ChangeFuture>>,
}

impl LogCapacityWaker {
    fn poll_capacity(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut held = self.changed.lock();
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
        let mut intake = self.partition.intake.lock();
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
    /// Hands sealed blocks to the log in order, as many as it accepts.
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
                        in_flight_append: Mutex::new(Some((ticket, block.payload))),
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
