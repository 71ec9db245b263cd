//! Reading a stream's blocks in order, concurrently with the writer.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::block::{BlockHeader, HEADER_LEN};
use crate::bytefields::to_usize;
use crate::catalog::SequenceRange;
use crate::env::{EnvFile, read_full};
use crate::error::LogReadError;
use crate::locate::{LocatedBlocks, locate};
use crate::segment::segment_name;
use crate::stream::StreamId;
use crate::table::{BlockEntry, BlockRange, VolumeTable};

/// The committed state and the directory of its files.
pub(crate) struct CommittedState {
    pub(crate) dir: PathBuf,
    table: RwLock<VolumeTable>,
}

impl CommittedState {
    pub(crate) fn new(dir: PathBuf, table: VolumeTable) -> Self {
        Self {
            dir,
            table: RwLock::new(table),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, VolumeTable> {
        self.table.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, VolumeTable> {
        self.table.write()
    }
}

/// A block with a verified checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Sequence of the first record.
    pub first_seq: u64,
    /// Number of records.
    pub records: u32,
    /// Encoding of the payload, as given by the appender.
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

impl Block {
    /// The sequence after the last record.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + u64::from(self.records)
    }
}

/// A range of lost records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceGap {
    /// Id of the stream.
    pub stream: StreamId,
    /// Name of the stream.
    pub name: String,
    /// Sequence of the first lost record.
    pub first_seq: u64,
    /// Number of lost records.
    pub records: u64,
    /// Segment and offset in its file, if this read found the damage.
    pub location: Option<(u64, u64)>,
}

/// An item of a [`BlockReader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadItem {
    /// The next block.
    Block(Block),
    /// Lost records in its place; reading continues behind them.
    Gap(SequenceGap),
}

/// Called for damage that a reader has found.
pub(crate) type OnLost = Arc<dyn Fn(u64, SequenceRange) + Send + Sync>;

/// Entries taken from the table at a time.
const AHEAD: usize = 64;
/// Bytes read at a time, where blocks of a stream are close together.
const SPAN: u64 = 512 << 10;

/// An iterator over a stream. It ends at the current watermark and continues once more is
/// committed. It reads files on the calling thread.
pub struct BlockReader {
    committed: Arc<CommittedState>,
    on_lost: Option<OnLost>,
    stream: u64,
    next_seq: u64,
    /// Entries of the next blocks, all of one segment, and that segment's file.
    ahead: VecDeque<BlockEntry>,
    file: Option<Arc<dyn EnvFile>>,
    /// End of what `ahead` should cover; what is missing below is damaged.
    ahead_end: u64,
    /// Blocks of the stream in a segment whose index is damaged.
    rescued: Option<(u32, Vec<BlockEntry>)>,
    /// A buffered part of a segment: its id, offset and bytes.
    span: (u32, u64, Bytes),
    /// Whether the stream was seen. Before that it may only be declared.
    seen: bool,
}

enum LookAhead {
    Gap(SequenceGap),
    Loaded,
    /// The entries are in the segment's index; the offset is the end of its blocks.
    Evicted(BlockRange, u64),
    End,
}

impl BlockReader {
    pub(crate) fn new(
        committed: Arc<CommittedState>,
        stream: u64,
        from: u64,
        on_lost: Option<OnLost>,
    ) -> Self {
        Self {
            committed,
            on_lost,
            stream,
            next_seq: from,
            ahead: VecDeque::new(),
            file: None,
            ahead_end: 0,
            rescued: None,
            span: (0, 0, Bytes::new()),
            seen: false,
        }
    }

    /// The sequence of the next record to read.
    pub fn position(&self) -> u64 {
        self.next_seq
    }

    fn step(&mut self) -> Result<Option<ReadItem>, LogReadError> {
        if self.ahead.is_empty() && self.next_seq >= self.ahead_end {
            match self.look_ahead()? {
                LookAhead::End => return Ok(None),
                LookAhead::Gap(gap) => {
                    self.next_seq = gap.first_seq + gap.records;
                    return Ok(Some(ReadItem::Gap(gap)));
                }
                LookAhead::Evicted(block_range, index_at) => {
                    self.load_entries(&block_range, index_at)?
                }
                LookAhead::Loaded => {}
            }
        }
        let next = self.ahead.front().copied();
        let until = next.map_or(self.ahead_end, |entry| entry.first_seq);
        if until > self.next_seq {
            return Ok(Some(ReadItem::Gap(self.missing(until))));
        }
        let (Some(entry), Some(file)) = (next, self.file.clone()) else {
            return Ok(None);
        };
        let block = self.block(&entry, &*file)?;
        self.ahead.pop_front();
        self.next_seq = entry.end_seq();
        if self.ahead.is_empty() {
            // Otherwise an idle reader would hold the memory, and the file of a removed segment.
            self.span = (0, 0, Bytes::new());
            self.ahead = VecDeque::new();
            self.file = None;
        }
        Ok(Some(block.map_or_else(
            || {
                let location = (u64::from(entry.segment), u64::from(entry.offset));
                ReadItem::Gap(self.damaged(entry.range(), Some(location)))
            },
            ReadItem::Block,
        )))
    }

    /// Looks up the entries of the next blocks.
    fn look_ahead(&mut self) -> Result<LookAhead, LogReadError> {
        let table = self.committed.read();
        let Some(stream) = table.streams.get(&self.stream) else {
            return if self.seen {
                Err(LogReadError::UnknownStream)
            } else {
                Ok(LookAhead::End)
            };
        };
        self.seen = true;
        self.next_seq = self.next_seq.max(stream.state.trimmed_to);
        let block_range = stream.block_ranges.get(stream.position(self.next_seq));
        if let Some(block_range) = block_range.filter(|range| range.first_seq <= self.next_seq)
            && let Some(segment) = table.segments.get(&u64::from(block_range.segment))
        {
            self.file = Some(segment.file.clone());
            let Some(entries) = &block_range.entries else {
                return Ok(LookAhead::Evicted(block_range.clone(), segment.end));
            };
            let from = entries.partition_point(|e| e.end_seq() <= self.next_seq);
            self.ahead.extend(entries.range(from..).take(AHEAD));
            self.ahead_end = self.ahead.back().map_or(self.next_seq, BlockEntry::end_seq);
            return Ok(LookAhead::Loaded);
        }
        let until = block_range.map_or(stream.state.next_seq, |range| range.first_seq);
        if until <= self.next_seq {
            return Ok(LookAhead::End);
        }
        Ok(LookAhead::Gap(SequenceGap {
            stream: StreamId(self.stream),
            name: stream.state.name.to_string(),
            first_seq: self.next_seq,
            records: until - self.next_seq,
            location: None,
        }))
    }

    /// Loads the entries of a range's blocks.
    fn load_entries(
        &mut self,
        block_range: &BlockRange,
        index_at: u64,
    ) -> Result<(), LogReadError> {
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        let rescued = self
            .rescued
            .take()
            .filter(|(id, _)| *id == block_range.segment);
        let located = match rescued {
            Some((_, entries)) => Ok(LocatedBlocks::ByBlocks(entries)),
            None => locate(&*file, index_at, self.stream, block_range),
        };
        let located = located.map_err(|source| LogReadError::Io {
            path: self
                .committed
                .dir
                .join(segment_name(u64::from(block_range.segment))),
            source,
        })?;
        if let LocatedBlocks::ByBlocks(entries) = &located {
            self.rescued = Some((block_range.segment, entries.clone()));
        }
        self.ahead = located.into_entries(block_range).into();
        let from = self.ahead.partition_point(|e| e.end_seq() <= self.next_seq);
        self.ahead.drain(..from);
        self.ahead_end = block_range.end_seq;
        Ok(())
    }

    /// Blocks up to `until` that should exist and were not found.
    fn missing(&mut self, until: u64) -> SequenceGap {
        let range = SequenceRange {
            first: self.next_seq,
            end: until,
        };
        self.next_seq = until;
        self.damaged(range, None)
    }

    /// Reads one block; `None`: damaged.
    fn block(
        &mut self,
        entry: &BlockEntry,
        file: &dyn EnvFile,
    ) -> Result<Option<Block>, LogReadError> {
        let bytes = self.bytes(entry, file).map_err(|source| LogReadError::Io {
            path: self
                .committed
                .dir
                .join(segment_name(u64::from(entry.segment))),
            source,
        })?;
        Ok(bytes.and_then(|bytes| check(entry, self.stream, &bytes)))
    }

    fn bytes(&mut self, entry: &BlockEntry, file: &dyn EnvFile) -> io::Result<Option<Bytes>> {
        let len = HEADER_LEN + entry.stored_len as usize;
        let at = u64::from(entry.offset);
        let (segment, start, span) = &self.span;
        let inside = *segment == entry.segment
            && at >= *start
            && at + len as u64 <= *start + span.len() as u64;
        if !inside {
            let want = to_usize(self.read_len(entry)).max(len);
            let mut bytes = vec![0; want];
            let n = read_full(file, &mut bytes, at)?;
            bytes.truncate(n);
            self.span = (entry.segment, at, Bytes::from(bytes));
        }
        let from = to_usize(at - self.span.1);
        let all = &self.span.2;
        Ok((from + len <= all.len()).then(|| all.slice(from..from + len)))
    }

    /// Bytes to read at once: more than one block where at least half of it is of this stream.
    fn read_len(&self, first: &BlockEntry) -> u64 {
        let start = u64::from(first.offset);
        let mut ours = 0;
        let mut best = first.disk_len();
        for entry in &self.ahead {
            let end = u64::from(entry.offset) + entry.disk_len();
            if entry.segment != first.segment
                || u64::from(entry.offset) < start
                || end - start > SPAN
            {
                break;
            }
            ours += entry.disk_len();
            if ours * 2 >= end - start {
                best = best.max(end - start);
            }
        }
        best
    }

    fn damaged(&self, range: SequenceRange, location: Option<(u64, u64)>) -> SequenceGap {
        if let Some(on_lost) = &self.on_lost {
            on_lost(self.stream, range);
        }
        let table = self.committed.read();
        let stream = table.streams.get(&self.stream);
        SequenceGap {
            stream: StreamId(self.stream),
            name: stream.map_or_else(String::new, |s| s.state.name.to_string()),
            first_seq: range.first,
            records: range.len(),
            location,
        }
    }
}

/// Verifies a block: header, entry and checksum.
fn check(entry: &BlockEntry, stream: u64, bytes: &Bytes) -> Option<Block> {
    let header = BlockHeader::decode_at(bytes, u64::from(entry.segment), u64::from(entry.offset))?;
    let payload = bytes.slice(HEADER_LEN..);
    let sound = header.stream == stream
        && header.first_seq == entry.first_seq
        && header.records == entry.records
        && header.stored_len as usize == payload.len()
        && header.payload_crc == crc32c::crc32c(&payload);
    sound.then_some(Block {
        first_seq: entry.first_seq,
        records: entry.records,
        codec: entry.codec,
        raw_len: entry.raw_len,
        first_at_ms: entry.first_at_ms,
        last_at_ms: entry.last_at_ms,
        payload,
    })
}

/// Reads one block without a reader (the writer relocates blocks).
pub(crate) fn read_entry(
    file: &dyn EnvFile,
    stream: u64,
    entry: &BlockEntry,
) -> io::Result<Option<Block>> {
    let mut bytes = vec![0; HEADER_LEN + entry.stored_len as usize];
    let n = read_full(file, &mut bytes, u64::from(entry.offset))?;
    let whole = n == bytes.len();
    Ok(whole
        .then(|| check(entry, stream, &Bytes::from(bytes)))
        .flatten())
}

impl Iterator for BlockReader {
    type Item = Result<ReadItem, LogReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
