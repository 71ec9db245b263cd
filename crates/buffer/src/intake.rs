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
use forebay_log::{AppendError, Appended, Changed, CommitError, NewBlock, Ticket};

use crate::error::WriteError;
use crate::frame::{self, CODEC_MESSAGES};
use crate::lane::LaneCore;
use crate::message::Message;
use crate::receipt::{Fate, Part, Pending, Receipt};
use crate::sync::lock;

/// Blocks that wait for a provider that is written to directly.
const DIRECT_READY: usize = 2;

/// Blocks whose memory is kept for the next ones, while a lane is busy.
const SPENT: usize = 16;

/// A block of messages.
pub(crate) struct Sealed {
    pub(crate) payload: Bytes,
    pub(crate) records: u32,
    pub(crate) first_at_ms: i64,
    pub(crate) last_at_ms: i64,
    pub(crate) pending: Arc<Pending>,
    /// Its messages are those of the writes in `pending`, one for one.
    pub(crate) whole: bool,
}

/// What of a lane is not with the log yet.
#[derive(Default)]
pub(crate) struct Intake {
    open: Vec<u8>,
    /// Memory of blocks that are on disk, for the next ones: fresh memory costs more than what is
    /// put into it.
    spent: VecDeque<Bytes>,
    records: u32,
    last_ms: i64,
    first_at_ms: i64,
    last_at_ms: i64,
    pending: Arc<Pending>,
    pub(crate) ready: VecDeque<Sealed>,
    /// Blocks that the log has and has not committed.
    pub(crate) committing: usize,
    /// Blocks go to the provider, not to the log.
    pub(crate) direct: bool,
    pub(crate) closed: bool,
    /// The log's queue was full, and we are called when it has room.
    waits_for_log: bool,
}

/// Nothing was taken.
pub(crate) enum Refused {
    /// Wait for a change, and try again.
    Busy,
    /// For good.
    Error(WriteError),
}

impl Intake {
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
        frame::encode(&mut self.open, topic, message, at, self.last_ms);
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
        self.ready.push_back(Sealed {
            payload: Bytes::from(std::mem::replace(&mut self.open, next)),
            records: std::mem::take(&mut self.records),
            first_at_ms: self.first_at_ms,
            last_at_ms: self.last_at_ms,
            pending: std::mem::take(&mut self.pending),
            whole: true,
        });
    }

    /// What a write is to have of the open block: nothing yet.
    fn part(&self) -> Part {
        Part {
            pending: self.pending.clone(),
            index: self.records,
            count: 0,
        }
    }

    /// Empty memory for about so many bytes.
    fn memory(&mut self, capacity: usize) -> Vec<u8> {
        match self.spent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(mut spent)) if spent.capacity() >= capacity => {
                spent.clear();
                return spent.into();
            }
            // The log still holds it.
            Some(Err(busy)) => self.spent.push_back(busy),
            _ => {}
        }
        Vec::with_capacity(capacity)
    }

    /// A block is on disk.
    fn landed(&mut self, payload: Bytes) {
        self.committing -= 1;
        if self.spent.len() < SPENT {
            self.spent.push_back(payload);
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
            block.pending.resolve(Fate::Failed(error.clone()));
        }
        bytes
    }
}

/// Takes messages of one topic of a lane, all or none. `None`: see [`rejection`].
pub(crate) fn put(
    lane: &Arc<LaneCore>,
    topic: Option<&str>,
    messages: &[Message],
) -> Option<Receipt> {
    let shared = &lane.shared;
    let block_bytes = shared.config.block_bytes;
    let now_ms = shared.env.about_ms();
    let mut intake = lock(&lane.intake);
    if intake.closed || messages.is_empty() || intake.is_busy(block_bytes) {
        return None;
    }
    let mut full: Vec<Part> = Vec::new();
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
    lane.entered(messages.len() as u64, bytes as u64);
    if !intake.direct && intake.committing == 0 {
        intake.seal(block_bytes);
    }
    let handed = lane.hand_over(&mut intake);
    let direct = intake.direct;
    drop(intake);
    if direct {
        lane.ring();
    }
    handed.start();
    if full.is_empty() {
        return Some(Receipt::new(part));
    }
    if part.count > 0 {
        full.push(part);
    }
    Some(Receipt::of_parts(full))
}

/// Why nothing was taken; that it could be taken by now is no reason not to wait and try again.
pub(crate) fn refusal(lane: &LaneCore, messages: &[Message]) -> Refused {
    if messages.is_empty() {
        return Refused::Error(WriteError::Invalid {
            field: "messages",
            value: "none".to_owned(),
            allowed: "one message or more".to_owned(),
        });
    }
    if lock(&lane.intake).closed {
        return Refused::Error(WriteError::Closed);
    }
    Refused::Busy
}

/// A block that the log has: called when it is on disk.
pub(crate) struct Flight {
    lane: Arc<LaneCore>,
    pending: Arc<Pending>,
    whole: bool,
    /// Until it is on disk.
    under_way: Mutex<Option<(Ticket, Bytes)>>,
}

/// What was handed over under the lane's lock, and what is to be listened to once it is released:
/// a log without threads does its work there.
#[must_use = "to be started once the lock is released"]
#[derive(Default)]
pub(crate) struct Handed {
    flights: Vec<Arc<Flight>>,
    room: Option<Arc<RoomCall>>,
}

impl Handed {
    pub(crate) fn start(self) {
        for flight in self.flights {
            flight.look();
        }
        if let Some(call) = self.room {
            call.look();
        }
    }
}

impl Flight {
    fn look(self: &Arc<Self>) {
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
        self.landed(outcome, payload);
    }

    fn landed(&self, outcome: Result<Appended, CommitError>, payload: Bytes) {
        let lane = &self.lane;
        let bytes = payload.len() as u64;
        let mut intake = lock(&lane.intake);
        intake.landed(payload);
        if !intake.direct && intake.committing == 0 {
            // First the next block, so that the disk has something to do. What is under way beside
            // this one is enough to do: blocks of a few messages would cost more than they bring.
            intake.seal(lane.shared.config.block_bytes);
        }
        let handed = lane.hand_over(&mut intake);
        if intake.committing == 0 {
            intake.spent.clear();
        }
        drop(intake);
        let fate = match outcome {
            Ok(appended) => Fate::Buffered {
                first_seq: self.whole.then_some(appended.first_seq),
            },
            Err(error) => Fate::Failed(lane.commit_failed(&error)),
        };
        lane.stored(bytes);
        self.pending.resolve(fate);
        lane.shared.change.notify();
        lane.ring_for_messages();
        handed.start();
    }
}

impl Wake for Flight {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

/// Called when the log's queue has room again.
struct RoomCall {
    lane: Arc<LaneCore>,
    changed: Mutex<Option<Changed>>,
}

impl RoomCall {
    fn look(self: &Arc<Self>) {
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
        let mut intake = lock(&self.lane.intake);
        intake.waits_for_log = false;
        let handed = self.lane.hand_over(&mut intake);
        drop(intake);
        self.lane.shared.change.notify();
        handed.start();
    }
}

impl Wake for RoomCall {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl LaneCore {
    /// Hands blocks that are ready to the log, in order, as many as it takes.
    pub(crate) fn hand_over(self: &Arc<Self>, intake: &mut Intake) -> Handed {
        let mut handed = Handed::default();
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
            if matches!(appended, Err(AppendError::Busy)) {
                if !intake.waits_for_log {
                    intake.waits_for_log = true;
                    let changed = Mutex::new(Some(self.shared.log.room()));
                    let lane = self.clone();
                    handed.room = Some(Arc::new(RoomCall { lane, changed }));
                }
                break;
            }
            let Some(block) = intake.ready.pop_front() else {
                break;
            };
            match appended {
                Ok(ticket) => {
                    intake.committing += 1;
                    handed.flights.push(Arc::new(Flight {
                        lane: self.clone(),
                        pending: block.pending,
                        whole: block.whole,
                        under_way: Mutex::new(Some((ticket, block.payload))),
                    }));
                }
                Err(error) => {
                    self.left(block.payload.len() as u64);
                    block
                        .pending
                        .resolve(Fate::Failed(self.append_failed(&error)));
                }
            }
        }
        handed
    }
}
