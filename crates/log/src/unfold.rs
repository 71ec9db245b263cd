//! Loading the entries of runs that a change cuts in two, before the change is made: the table is
//! changed under a lock, and no file is read under it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Control, Range};
use crate::env::File;
use crate::locate::locate;
use crate::queue::{Op, lock};
use crate::shared::Shared;
use crate::table::{Run, Table};

/// A run whose entries are wanted.
struct Wanted {
    stream: u64,
    run: Run,
    file: Arc<dyn File>,
    index_at: u64,
}

impl Shared {
    /// Loads what the operations cut. The streams that have to be folded again afterwards.
    ///
    /// A run that can't be read stays as it is: then it is counted as a whole until all of it is
    /// trimmed, and readers begin at the trim nevertheless. Blocks that turn out to be missing are
    /// noted as lost.
    pub(crate) fn unfold(&self, ops: &[Op]) -> BTreeSet<u64> {
        let mut streams = BTreeSet::new();
        let all = wanted(&self.store.read(), ops);
        for wanted in all {
            let located = locate(&*wanted.file, wanted.index_at, wanted.stream, &wanted.run);
            let Ok(located) = located else { continue };
            let entries = located.of(&wanted.run);
            let mut at = wanted.run.first_seq;
            let mut missing = Vec::new();
            for entry in &entries {
                missing.push(at..entry.first_seq);
                at = entry.end_seq();
            }
            missing.push(at..wanted.run.end_seq);
            for hole in missing.into_iter().filter(|hole| !hole.is_empty()) {
                let range = Range {
                    first: hole.start,
                    end: hole.end,
                };
                let stream = wanted.stream;
                lock(&self.queue).push(Op::Control(Control::Lost { stream, range }));
            }
            let mut table = self.store.write();
            table.unfold(wanted.stream, &wanted.run, entries);
            streams.insert(wanted.stream);
        }
        streams
    }
}

/// The runs that the operations cut and whose entries are not in memory.
fn wanted(table: &Table, ops: &[Op]) -> Vec<Wanted> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (id, range) in ops.iter().flat_map(cuts) {
        let Some(stream) = table.streams.get(&id) else {
            continue;
        };
        for seq in [range.first, range.end.saturating_sub(1)] {
            let Some(run) = stream.run_of(seq) else {
                continue;
            };
            let Some(segment) = table.segments.get(&u64::from(run.segment)) else {
                continue;
            };
            if run.is_folded() && !run.within(&range) && seen.insert((id, run.first_seq)) {
                found.push(Wanted {
                    stream: id,
                    run: run.clone(),
                    file: segment.file.clone(),
                    index_at: segment.end,
                });
            }
        }
    }
    found
}

/// The records that an operation takes away, or elsewhere.
fn cuts(op: &Op) -> Option<(u64, Range)> {
    match op {
        Op::Control(Control::Trim { stream, up_to, .. }) => Some((
            *stream,
            Range {
                first: 0,
                end: *up_to,
            },
        )),
        Op::Control(Control::Lost { stream, range }) => Some((*stream, *range)),
        Op::Moved {
            first_seq, block, ..
        } => Some((
            block.stream.0,
            Range {
                first: *first_seq,
                end: first_seq.saturating_add(u64::from(block.records)),
            },
        )),
        Op::Data { .. } | Op::Control(_) => None,
    }
}
