//! Merging the block ranges of a stream's segments into one order, each block once.

use std::cmp::Reverse;
use std::io;

use crate::catalog::SequenceRange;
use crate::extent::IndexRange;
use crate::table::{BlockEntry, BlockRange, CommittedStream};

/// A range or block to merge.
enum MergeInput {
    /// No other range overlaps it.
    Range(BlockRange),
    /// A block of a range that overlaps others.
    Block(BlockEntry, Option<IndexRange>),
}

impl MergeInput {
    fn range(&self) -> SequenceRange {
        match self {
            Self::Range(block_range) => block_range.range(),
            Self::Block(entry, _) => entry.range(),
        }
    }
}

/// Assigns the found ranges to a stream; returns the gaps that were not known yet. `entries` loads
/// the blocks of a range: needed only for ranges that overlap others or are partly dropped.
pub(crate) fn merge_block_ranges(
    stream: &mut CommittedStream,
    found: Vec<BlockRange>,
    mut entries: impl FnMut(&BlockRange) -> io::Result<Vec<BlockEntry>>,
) -> io::Result<Vec<SequenceRange>> {
    let known_lost = std::mem::take(&mut stream.state.lost);
    let trimmed = stream.state.trimmed_to;
    let mut at = trimmed;
    let mut gaps = Vec::new();
    for input in merge_inputs(found, trimmed, &known_lost, &mut entries)? {
        let range = input.range();
        let inside = known_lost
            .iter()
            .any(|r| r.first <= range.first && range.end <= r.end);
        let last = stream.block_ranges.back();
        let twice = last.is_some_and(|block_range| range.first < block_range.end_seq);
        if twice || inside {
            continue;
        }
        if range.first > at {
            gaps.push(SequenceRange {
                first: at,
                end: range.first,
            });
        }
        at = range.end;
        match input {
            MergeInput::Range(block_range) => stream.insert(block_range),
            MergeInput::Block(entry, index_range) => stream.push(entry, index_range),
        }
    }
    stream
        .block_ranges
        .iter_mut()
        .for_each(BlockRange::evict_entries);
    stream.state.next_seq = stream.state.next_seq.max(at);
    if stream.state.next_seq > at {
        gaps.push(SequenceRange {
            first: at,
            end: stream.state.next_seq,
        });
    }
    let new = gaps
        .iter()
        .flat_map(|gap| subtract(*gap, &known_lost))
        .collect();
    for gap in gaps {
        stream.add_lost(gap);
    }
    Ok(new)
}

/// Orders the ranges by sequence, split into blocks where they overlap.
fn merge_inputs(
    mut found: Vec<BlockRange>,
    trimmed: u64,
    known_lost: &[SequenceRange],
    entries: &mut impl FnMut(&BlockRange) -> io::Result<Vec<BlockEntry>>,
) -> io::Result<Vec<MergeInput>> {
    found.sort_by_key(|block_range| (block_range.first_seq, Reverse(block_range.segment)));
    let mut shared = vec![false; found.len()];
    // The range that ends last so far: what overlaps an earlier range overlaps this one too.
    let mut furthest: Option<usize> = None;
    for (i, block_range) in found.iter().enumerate() {
        let reached = furthest.and_then(|f| found.get(f)).map(|f| f.end_seq);
        if let Some(f) = furthest.filter(|_| reached.is_some_and(|end| block_range.first_seq < end))
        {
            shared[f] = true;
            shared[i] = true;
        }
        let cut = block_range.first_seq < trimmed
            || known_lost.iter().any(|lost| block_range.overlaps(lost));
        shared[i] |= cut;
        if reached.is_none_or(|end| block_range.end_seq > end) {
            furthest = Some(i);
        }
    }
    let mut inputs = Vec::with_capacity(found.len());
    for (block_range, shared) in found.into_iter().zip(shared) {
        if !shared && block_range.index_range.is_some() {
            inputs.push(MergeInput::Range(block_range));
            continue;
        }
        let wanted = entries(&block_range)?
            .into_iter()
            .filter(|e| e.end_seq() > trimmed);
        inputs.extend(wanted.map(|entry| MergeInput::Block(entry, block_range.index_range)));
    }
    // A copy in a newer segment comes before the original, which is about to be removed.
    inputs.sort_by_key(|input| {
        let (segment, offset) = match input {
            MergeInput::Range(block_range) => (block_range.segment, 0),
            MergeInput::Block(entry, _) => (entry.segment, entry.offset),
        };
        (input.range().first, Reverse(segment), offset)
    });
    Ok(inputs)
}

/// Subtracts ordered ranges from a range.
fn subtract(range: SequenceRange, known_lost: &[SequenceRange]) -> Vec<SequenceRange> {
    let mut remaining = Vec::new();
    let mut at = range.first;
    for k in known_lost
        .iter()
        .filter(|k| k.end > range.first && k.first < range.end)
    {
        if k.first > at {
            remaining.push(SequenceRange {
                first: at,
                end: k.first,
            });
        }
        at = at.max(k.end);
    }
    if at < range.end {
        remaining.push(SequenceRange {
            first: at,
            end: range.end,
        });
    }
    remaining
}
