//! Putting a stream's blocks in order, each once, out of what its segments hold.

use std::cmp::Reverse;
use std::io;

use crate::catalog::Range;
use crate::extent::Place;
use crate::table::{Entry, Run, Stream};

/// Something to be put into its place.
enum Piece {
    /// It has its records for itself.
    Run(Run),
    /// A block of a run that has not.
    Block(Entry, Option<Place>),
}

impl Piece {
    fn range(&self) -> Range {
        match self {
            Self::Run(run) => run.range(),
            Self::Block(entry, _) => entry.range(),
        }
    }
}

/// Gives a stream its blocks; returns the gaps that were not known yet. `entries` loads those of a
/// run, which only runs need that others overlap, or of which not everything is wanted.
pub(crate) fn place(
    stream: &mut Stream,
    found: Vec<Run>,
    mut entries: impl FnMut(&Run) -> io::Result<Vec<Entry>>,
) -> io::Result<Vec<Range>> {
    let known = std::mem::take(&mut stream.line.lost);
    let trimmed = stream.line.trimmed_to;
    let mut at = trimmed;
    let mut gaps = Vec::new();
    for piece in pieces(found, trimmed, &known, &mut entries)? {
        let range = piece.range();
        let inside = known
            .iter()
            .any(|r| r.first <= range.first && range.end <= r.end);
        let last = stream.runs.back();
        let twice = last.is_some_and(|run| range.first < run.end_seq);
        if twice || inside {
            continue;
        }
        if range.first > at {
            gaps.push(Range {
                first: at,
                end: range.first,
            });
        }
        at = range.end;
        match piece {
            Piece::Run(run) => stream.insert(run),
            Piece::Block(entry, place) => stream.push(entry, place),
        }
    }
    stream.runs.iter_mut().for_each(Run::fold);
    stream.line.next_seq = stream.line.next_seq.max(at);
    if stream.line.next_seq > at {
        gaps.push(Range {
            first: at,
            end: stream.line.next_seq,
        });
    }
    let new = gaps.iter().flat_map(|gap| subtract(*gap, &known)).collect();
    for gap in gaps {
        stream.note_lost(gap);
    }
    Ok(new)
}

/// The runs in order of sequence, those that have to be looked into block by block.
fn pieces(
    mut found: Vec<Run>,
    trimmed: u64,
    known: &[Range],
    entries: &mut impl FnMut(&Run) -> io::Result<Vec<Entry>>,
) -> io::Result<Vec<Piece>> {
    found.sort_by_key(|run| (run.first_seq, Reverse(run.segment)));
    let mut shared = vec![false; found.len()];
    // Of the runs so far, the one that goes furthest: whatever overlaps one overlaps it as well.
    let mut furthest: Option<usize> = None;
    for (i, run) in found.iter().enumerate() {
        let reached = furthest.and_then(|f| found.get(f)).map(|f| f.end_seq);
        if let Some(f) = furthest.filter(|_| reached.is_some_and(|end| run.first_seq < end)) {
            shared[f] = true;
            shared[i] = true;
        }
        let cut = run.first_seq < trimmed || known.iter().any(|lost| run.overlaps(lost));
        shared[i] |= cut;
        if reached.is_none_or(|end| run.end_seq > end) {
            furthest = Some(i);
        }
    }
    let mut pieces = Vec::with_capacity(found.len());
    for (run, shared) in found.into_iter().zip(shared) {
        if !shared && run.place.is_some() {
            pieces.push(Piece::Run(run));
            continue;
        }
        let wanted = entries(&run)?.into_iter().filter(|e| e.end_seq() > trimmed);
        pieces.extend(wanted.map(|entry| Piece::Block(entry, run.place)));
    }
    // A copy in a newer segment comes before the original, which is about to go.
    pieces.sort_by_key(|piece| {
        let (segment, offset) = match piece {
            Piece::Run(run) => (run.segment, 0),
            Piece::Block(entry, _) => (entry.segment, entry.offset),
        };
        (piece.range().first, Reverse(segment), offset)
    });
    Ok(pieces)
}

/// What of a run is in none of the others (which are in order).
fn subtract(run: Range, known: &[Range]) -> Vec<Range> {
    let mut left = Vec::new();
    let mut at = run.first;
    for k in known
        .iter()
        .filter(|k| k.end > run.first && k.first < run.end)
    {
        if k.first > at {
            left.push(Range {
                first: at,
                end: k.first,
            });
        }
        at = at.max(k.end);
    }
    if at < run.end {
        left.push(Range {
            first: at,
            end: run.end,
        });
    }
    left
}
