//! Loading the entries of block ranges that an operation splits, before it is applied: the table is
//! changed under a lock, and no file is read under it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{ControlBlock, SequenceRange};
use crate::env::EnvFile;
use crate::locate::locate;
use crate::queue::WriteOp;
use crate::shared::SharedVolume;
use crate::table::{BlockRange, VolumeTable};

/// A range whose entries must be loaded.
struct LoadRequest {
    stream: u64,
    block_range: BlockRange,
    file: Arc<dyn EnvFile>,
    index_at: u64,
}

impl SharedVolume {
    /// Loads the ranges that the operations split. Returns the streams whose entries must be
    /// evicted afterwards.
    ///
    /// A range that can't be read stays as it is: it is counted as a whole until all of it is
    /// trimmed, though readers begin at the trim. Blocks that turn out to be missing are recorded
    /// as lost.
    pub(crate) fn load_cut_entries(&self, ops: &[WriteOp]) -> BTreeSet<u64> {
        let mut streams = BTreeSet::new();
        let all = load_requests(&self.committed.read(), ops);
        for request in all {
            let located = locate(
                &*request.file,
                request.index_at,
                request.stream,
                &request.block_range,
            );
            let Ok(located) = located else { continue };
            let entries = located.into_entries(&request.block_range);
            let mut at = request.block_range.first_seq;
            let mut missing = Vec::new();
            for entry in &entries {
                missing.push(at..entry.first_seq);
                at = entry.end_seq();
            }
            missing.push(at..request.block_range.end_seq);
            for missing_range in missing.into_iter().filter(|range| !range.is_empty()) {
                let range = SequenceRange {
                    first: missing_range.start,
                    end: missing_range.end,
                };
                let stream = request.stream;
                self.queue
                    .lock()
                    .push(WriteOp::Control(ControlBlock::Lost { stream, range }));
            }
            let mut table = self.committed.write();
            table.load_entries(request.stream, &request.block_range, entries);
            streams.insert(request.stream);
        }
        streams
    }
}

/// The evicted ranges that the operations split.
fn load_requests(table: &VolumeTable, ops: &[WriteOp]) -> Vec<LoadRequest> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (id, range) in ops.iter().flat_map(cuts) {
        let Some(stream) = table.streams.get(&id) else {
            continue;
        };
        for seq in [range.first, range.end.saturating_sub(1)] {
            let Some(block_range) = stream.block_range_at(seq) else {
                continue;
            };
            let Some(segment) = table.segments.get(&u64::from(block_range.segment)) else {
                continue;
            };
            if block_range.is_evicted()
                && !block_range.within(&range)
                && seen.insert((id, block_range.first_seq))
            {
                found.push(LoadRequest {
                    stream: id,
                    block_range: block_range.clone(),
                    file: segment.file.clone(),
                    index_at: segment.end,
                });
            }
        }
    }
    found
}

/// The records that an operation removes or relocates.
fn cuts(op: &WriteOp) -> Option<(u64, SequenceRange)> {
    match op {
        WriteOp::Control(ControlBlock::Trim { stream, up_to, .. }) => Some((
            *stream,
            SequenceRange {
                first: 0,
                end: *up_to,
            },
        )),
        WriteOp::Control(ControlBlock::Lost { stream, range }) => Some((*stream, *range)),
        WriteOp::Relocated {
            first_seq, block, ..
        } => Some((
            block.stream.0,
            SequenceRange {
                first: *first_seq,
                end: first_seq.saturating_add(u64::from(block.records)),
            },
        )),
        WriteOp::Data { .. } | WriteOp::Control(_) => None,
    }
}
