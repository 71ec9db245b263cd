//! What changes in a pipeline, and when a block is sealed. No IO and no await: everything here
//! runs under the pipeline's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{SinkSettings, Timestamp};
use forebay_record::SealedBlock;
use tokio::time::Instant;

use super::appender::{BlockTicket, BlockToAppend};
use super::completion::{Completion, Wait};
use crate::budget::{Budget, Charge};

/// Sealed blocks of one pipeline that may be on their way to the disk.
pub(super) const SEALED_MAX: usize = 4;

/// When rows are handed to the disk although it is busy with those before.
#[derive(Clone, Debug)]
pub(super) struct Triggers {
    records: u64,
    raw_bytes: usize,
    compressed_bytes: u64,
    pub(super) interval: Duration,
}

impl Triggers {
    pub(super) fn of(settings: &SinkSettings) -> Self {
        let sync = &settings.sync;
        let raw = settings.block_size.0.min(sync.uncompressed.0);
        Self {
            records: sync.count,
            raw_bytes: usize::try_from(raw).unwrap_or(usize::MAX),
            compressed_bytes: sync.compressed.0,
            // Age is looked at every check interval.
            interval: sync.interval.0.max(sync.check_interval.0),
        }
    }
}

/// The block that takes rows.
#[derive(Debug, Default)]
struct Open {
    rows: Vec<u8>,
    records: u32,
    times: Option<(Timestamp, Timestamp)>,
    since: Option<Instant>,
    parcel: Option<Parcel>,
}

/// What a block holds for others until it is done.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) completion: Arc<Completion>,
    /// Given back to the budget with the end of the block.
    charge: Charge,
}

/// A block that was taken out to be compressed.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) rows: Vec<u8>,
    pub(super) records: u32,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) parcel: Parcel,
}

/// A block that was compressed.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) block: BlockToAppend,
    pub(super) parcel: Parcel,
}

/// What became of rows.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is returned"
)]
#[derive(Debug)]
pub(super) enum Put {
    /// They are in the open block.
    Taken {
        wait: Wait,
        /// These are to be sealed now.
        taken: [Option<Taken>; 2],
        /// They are the first that wait for a block before them.
        first: bool,
    },
    /// Too much is under way.
    Full,
    /// No row is taken any more.
    Retired,
}

#[derive(Default)]
pub(super) struct State {
    open: Open,
    retired: bool,
    /// Bytes that a compressed block has of 1,024 raw ones, from the last block.
    per_kb: u64,
    /// Blocks taken whose fate is open.
    in_flight: usize,
    taken: u64,
    /// Blocks that are being compressed or were overtaken by those, from number `appended` on.
    sealing: VecDeque<Option<Result<Ready, Parcel>>>,
    appended: u64,
    pub(super) tickets: VecDeque<(BlockTicket, Parcel)>,
    pub(super) driven: bool,
    spare: Vec<u8>,
}

impl State {
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.open.records == 0
    }

    /// Bytes of memory held for rows.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.open.rows.capacity() + self.spare.capacity()
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= SEALED_MAX
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }

    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    /// Puts rows into the open block and says which blocks are to be sealed.
    pub(super) fn put(
        &mut self,
        (rows, records, at): (&[u8], u32, Timestamp),
        triggers: &Triggers,
        budget: &Arc<Budget>,
    ) -> Put {
        if self.retired {
            return Put::Retired;
        }
        let mut before = None;
        if self.open.records > 0 && self.open.rows.len() + rows.len() > triggers.raw_bytes {
            if self.in_flight >= SEALED_MAX {
                return Put::Full;
            }
            before = self.take();
        }
        let first = self.open.records == 0;
        let wait = self.add(rows, records, at, budget);
        let after = self.take_if_due(triggers);
        let first = first && after.is_none();
        Put::Taken {
            wait,
            taken: [before, after],
            first,
        }
    }

    fn add(&mut self, rows: &[u8], records: u32, at: Timestamp, budget: &Arc<Budget>) -> Wait {
        let open = &mut self.open;
        if open.records == 0 {
            if open.rows.capacity() == 0 {
                open.rows = std::mem::take(&mut self.spare);
            }
            // Age matters only while a block waits for another.
            open.since = (self.in_flight > 0).then(Instant::now);
        }
        open.rows.extend_from_slice(rows);
        open.records += records;
        let (first, last) = open.times.unwrap_or((at, at));
        open.times = Some((first.min(at), last.max(at)));
        let parcel = open.parcel.get_or_insert_with(|| Parcel {
            completion: Completion::new(),
            charge: budget.rows(0),
        });
        parcel.charge.force(rows.len() as u64);
        Wait::new(&parcel.completion)
    }

    /// Takes the open block if nothing is under way, or if it has waited for enough.
    pub(super) fn take_if_due(&mut self, triggers: &Triggers) -> Option<Taken> {
        if self.open.records == 0 || self.in_flight >= SEALED_MAX {
            return None;
        }
        let raw = self.open.rows.len();
        let due = self.in_flight == 0
            || raw >= triggers.raw_bytes
            || u64::from(self.open.records) >= triggers.records
            || (raw as u64 / 1024) * self.per_kb >= triggers.compressed_bytes
            || self
                .open
                .since
                .is_some_and(|t| t.elapsed() >= triggers.interval);
        if due { self.take() } else { None }
    }

    /// When the open block is due by its age, if rows wait in it.
    pub(super) fn deadline(&self, triggers: &Triggers) -> Option<Instant> {
        let since = self.open.since.filter(|_| self.open.records > 0)?;
        Some(since + triggers.interval)
    }

    fn take(&mut self) -> Option<Taken> {
        let open = std::mem::take(&mut self.open);
        let (parcel, (first_at, last_at)) = (open.parcel?, open.times?);
        self.in_flight += 1;
        self.sealing.push_back(None);
        let number = self.taken;
        self.taken += 1;
        Some(Taken {
            number,
            rows: open.rows,
            records: open.records,
            first_at,
            last_at,
            parcel,
        })
    }

    /// Notes that a block was compressed (or could not be), and calls `append` with every block
    /// whose turn has come, in the order in which they were taken.
    pub(super) fn sealed(
        &mut self,
        number: u64,
        result: Result<Ready, Parcel>,
        mut append: impl FnMut(&mut Self, Result<Ready, Parcel>),
    ) {
        let place = usize::try_from(number - self.appended).ok();
        if let Some(place) = place.and_then(|i| self.sealing.get_mut(i)) {
            *place = Some(result);
        }
        while let Some(Some(_)) = self.sealing.front() {
            self.appended += 1;
            if let Some(Some(ready)) = self.sealing.pop_front() {
                append(self, ready);
            }
        }
    }

    /// Learns from a block how well rows compress, and keeps its buffer for the next one if there
    /// is a next one: an idle pipeline keeps nothing.
    pub(super) fn learn(
        &mut self,
        block: &SealedBlock,
        compressed: bool,
        mut buffer: Vec<u8>,
        triggers: &Triggers,
    ) {
        if compressed && block.raw_len >= 1024 {
            self.per_kb = block.payload.len() as u64 * 1024 / block.raw_len as u64;
        }
        // That of one very large batch is not worth keeping.
        let usual = buffer.capacity() / 2 <= triggers.raw_bytes;
        if usual && self.open.records > 0 && self.spare.capacity() == 0 {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// A block's fate is known.
    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
        if self.is_idle() {
            self.spare = Vec::new();
        }
    }
}
