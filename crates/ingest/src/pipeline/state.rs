//! State of a pipeline, and when a block is sealed. No IO and no await: everything here runs under
//! the pipeline's lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{SinkSettings, Timestamp};
use forebay_record::SealedBlock;
use tokio::time::Instant;

use super::appender::{BlockTicket, BlockToAppend};
use super::completion::{AppendTicket, BlockCompletion};
use crate::memory_limiter::{MemoryLimiter, MemoryPermit};

/// Maximum of sealed blocks of one pipeline in flight.
pub(super) const SEALED_MAX: usize = 4;

/// When rows are sealed although earlier blocks are in flight.
#[derive(Clone, Debug)]
pub(super) struct SealTriggers {
    records: u64,
    raw_bytes: usize,
    compressed_bytes: u64,
    pub(super) interval: Duration,
}

impl SealTriggers {
    pub(super) fn from_settings(settings: &SinkSettings) -> Self {
        let sync = &settings.sync;
        let raw = settings.block_size.0.min(sync.uncompressed.0);
        Self {
            records: sync.count,
            raw_bytes: usize::try_from(raw).unwrap_or(usize::MAX),
            compressed_bytes: sync.compressed.0,
            // Age is checked at every check interval.
            interval: sync.interval.0.max(sync.check_interval.0),
        }
    }
}

/// The open block.
#[derive(Debug, Default)]
struct OpenRows {
    rows: Vec<u8>,
    records: u32,
    times: Option<(Timestamp, Timestamp)>,
    since: Option<Instant>,
    guard: Option<BlockGuard>,
}

/// Resources of a block, held until it ends.
#[derive(Debug)]
pub(super) struct BlockGuard {
    pub(super) completion: Arc<BlockCompletion>,
    /// Released with the end of the block.
    memory_permit: MemoryPermit,
}

/// A block that was taken out for compression.
#[derive(Debug)]
pub(super) struct UnsealedBlock {
    pub(super) number: u64,
    pub(super) rows: Vec<u8>,
    pub(super) records: u32,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) guard: BlockGuard,
}

#[derive(Debug)]
pub(super) struct CompressedBlock {
    pub(super) block: BlockToAppend,
    pub(super) guard: BlockGuard,
}

/// Result of [`PipelineState::put`].
#[expect(
    clippy::large_enum_variant,
    reason = "it is destructured where it is returned"
)]
#[derive(Debug)]
pub(super) enum PutAttempt {
    /// The rows are in the open block.
    Taken {
        wait: AppendTicket,
        /// Blocks to seal now.
        taken: [Option<UnsealedBlock>; 2],
        /// They are the first behind a block in flight.
        first: bool,
    },
    /// Too much is in flight.
    Full,
    /// No more rows are accepted.
    Retired,
}

#[derive(Default)]
pub(super) struct PipelineState {
    open: OpenRows,
    retired: bool,
    /// Compressed bytes per 1,024 raw ones, from the last block.
    per_kb: u64,
    /// Blocks taken that have not ended.
    in_flight: usize,
    taken: u64,
    /// Blocks being compressed, or compressed before an earlier one, from number `appended` on.
    sealing: VecDeque<Option<Result<CompressedBlock, BlockGuard>>>,
    appended: u64,
    pub(super) tickets: VecDeque<(BlockTicket, BlockGuard)>,
    pub(super) driven: bool,
    spare: Vec<u8>,
}

impl PipelineState {
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

    /// Puts rows into the open block and returns the blocks to seal.
    pub(super) fn put(
        &mut self,
        (rows, records, at): (&[u8], u32, Timestamp),
        triggers: &SealTriggers,
        memory_limiter: &Arc<MemoryLimiter>,
    ) -> PutAttempt {
        if self.retired {
            return PutAttempt::Retired;
        }
        let mut before = None;
        if self.open.records > 0 && self.open.rows.len() + rows.len() > triggers.raw_bytes {
            if self.in_flight >= SEALED_MAX {
                return PutAttempt::Full;
            }
            before = self.take();
        }
        let first = self.open.records == 0;
        let wait = self.add(rows, records, at, memory_limiter);
        let after = self.take_if_due(triggers);
        let first = first && after.is_none();
        PutAttempt::Taken {
            wait,
            taken: [before, after],
            first,
        }
    }

    fn add(
        &mut self,
        rows: &[u8],
        records: u32,
        at: Timestamp,
        memory_limiter: &Arc<MemoryLimiter>,
    ) -> AppendTicket {
        let open = &mut self.open;
        if open.records == 0 {
            if open.rows.capacity() == 0 {
                open.rows = std::mem::take(&mut self.spare);
            }
            // Age matters only behind a block in flight.
            open.since = (self.in_flight > 0).then(Instant::now);
        }
        open.rows.extend_from_slice(rows);
        open.records += records;
        let (first, last) = open.times.unwrap_or((at, at));
        open.times = Some((first.min(at), last.max(at)));
        let guard = open.guard.get_or_insert_with(|| BlockGuard {
            completion: BlockCompletion::new(),
            memory_permit: memory_limiter.acquire_for_rows(0),
        });
        guard.memory_permit.grow_unchecked(rows.len() as u64);
        AppendTicket::new(&guard.completion)
    }

    /// Takes the open block if none is in flight, or if a trigger is reached.
    pub(super) fn take_if_due(&mut self, triggers: &SealTriggers) -> Option<UnsealedBlock> {
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

    /// When the open block is due by its age, if it has rows.
    pub(super) fn deadline(&self, triggers: &SealTriggers) -> Option<Instant> {
        let since = self.open.since.filter(|_| self.open.records > 0)?;
        Some(since + triggers.interval)
    }

    fn take(&mut self) -> Option<UnsealedBlock> {
        let open = std::mem::take(&mut self.open);
        assert_eq!(
            open.records > 0,
            open.guard.is_some(),
            "accepted rows have a guard that reports their outcome"
        );
        let (guard, (first_at, last_at)) = (open.guard?, open.times?);
        self.in_flight += 1;
        self.sealing.push_back(None);
        let number = self.taken;
        self.taken += 1;
        Some(UnsealedBlock {
            number,
            rows: open.rows,
            records: open.records,
            first_at,
            last_at,
            guard,
        })
    }

    /// Records that a block was compressed (or could not be), and calls `append` with every block
    /// that is next, in the order in which they were taken.
    pub(super) fn on_sealed(
        &mut self,
        number: u64,
        result: Result<CompressedBlock, BlockGuard>,
        mut append: impl FnMut(&mut Self, Result<CompressedBlock, BlockGuard>),
    ) {
        let index = usize::try_from(number - self.appended).ok();
        if let Some(index) = index.and_then(|i| self.sealing.get_mut(i)) {
            *index = Some(result);
        }
        while let Some(Some(_)) = self.sealing.front() {
            self.appended += 1;
            if let Some(Some(ready)) = self.sealing.pop_front() {
                append(self, ready);
            }
        }
    }

    /// Records how well the rows of a block compress, and keeps its buffer for the next one if
    /// there is a next one: an idle pipeline keeps nothing.
    pub(super) fn learn(
        &mut self,
        block: &SealedBlock,
        compressed: bool,
        mut buffer: Vec<u8>,
        triggers: &SealTriggers,
    ) {
        if compressed && block.raw_len >= 1024 {
            self.per_kb = block.payload.len() as u64 * 1024 / block.raw_len as u64;
        }
        // The buffer of one very large batch is not kept.
        let usual = buffer.capacity() / 2 <= triggers.raw_bytes;
        if usual && self.open.records > 0 && self.spare.capacity() == 0 {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Records the end of a block.
    pub(super) fn on_block_ended(&mut self) {
        self.in_flight -= 1;
        if self.is_idle() {
            self.spare = Vec::new();
        }
    }
}
