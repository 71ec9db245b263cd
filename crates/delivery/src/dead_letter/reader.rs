//! Reads unresolved dead letters of a sink from the log: records and rows of tables, messages of
//! topics.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use forebay_log::{Block, Log, ReadItem, StreamId};
use forebay_model::{
    CauseReport, DeadLetterEdit, DeadLetterFacts, DeadLetterFilter, DeadLetterQuery,
    DeadLetterSelection, ResolvedRanges,
};

use super::error::DeadLetterError;

/// Maximum number of dead letters per call.
pub const SELECTION_MAX: usize = 1_000;
/// Maximum bytes of records per call; the last dead letter may exceed it.
const BYTES_MAX: usize = 16 << 20;
/// Maximum number of dead letters that a call reads to find those that pass its filter.
pub const SCAN_MAX: usize = 20_000;
/// Maximum bytes of records that it reads; the last dead letter may exceed it.
const SCAN_BYTES_MAX: usize = 64 << 20;
/// Maximum number of causes that a call returns.
pub const CAUSES_MAX: usize = 100;

#[derive(Clone, Debug)]
pub struct StoredDeadLetter<T> {
    /// Number in its sink and volume, from 0; never reused.
    pub number: u64,
    pub dead_letter: T,
}

/// What a block of dead letters holds.
pub trait BlockContent: Sized {
    /// Decodes one dead letter per record of the block, or none if the block counts as lost.
    fn decode(block: Block) -> Result<Vec<Self>, DeadLetterError>;

    /// Properties that filters and causes read.
    fn facts(&self) -> DeadLetterFacts<'_>;

    /// Changes the record.
    ///
    /// # Errors
    /// The reason for which the change is not possible, for users.
    fn edit(&mut self, edit: &DeadLetterEdit) -> Result<(), String>;
}

/// Dead letters found by a selection.
#[derive(Debug)]
pub(crate) struct SelectedDeadLetters<T> {
    /// In the order of their numbers.
    pub(crate) dead_letters: Vec<StoredDeadLetter<T>>,
    /// Ranges `[from, to)` lost to disk damage.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Number of the last one that was read, if there are more.
    pub(crate) more_after: Option<u64>,
    /// Selected ones that are resolved.
    pub(crate) skipped: Vec<u64>,
    bytes: usize,
}

/// Amount that a call has read.
#[derive(Default)]
struct ScanProgress {
    dead_letters: usize,
    bytes: usize,
    last: Option<u64>,
}

impl ScanProgress {
    /// Counts a dead letter, unless as many were read as a call reads.
    fn advance(&mut self, number: u64, bytes: usize) -> ControlFlow<()> {
        if self.dead_letters >= SCAN_MAX || self.bytes >= SCAN_BYTES_MAX {
            return ControlFlow::Break(());
        }
        self.dead_letters += 1;
        self.bytes += bytes;
        self.last = Some(number);
        ControlFlow::Continue(())
    }
}

/// Dead letters of a sink. Its methods block: they read files.
pub(crate) struct DeadLetterReader<'a> {
    pub(crate) log: &'a Log,
    /// Each stream with the number of its first dead letter, in the order of the numbers.
    pub(crate) streams: &'a [(u64, StreamId)],
    pub(crate) resolved: &'a ResolvedRanges,
}

impl<T> SelectedDeadLetters<T> {
    fn new() -> Self {
        Self {
            dead_letters: Vec::new(),
            lost: Vec::new(),
            more_after: None,
            skipped: Vec::new(),
            bytes: 0,
        }
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.dead_letters.iter().map(|d| d.number)
    }

    fn is_full(&self, max: usize) -> bool {
        self.dead_letters.len() >= max || self.bytes >= BYTES_MAX
    }
}

impl<T: BlockContent> SelectedDeadLetters<T> {
    fn push(&mut self, number: u64, dead_letter: T) {
        self.bytes += dead_letter.facts().body.len();
        self.dead_letters.push(StoredDeadLetter {
            number,
            dead_letter,
        });
    }
}

impl DeadLetterReader<'_> {
    /// Selects dead letters, at most `max` and [`SELECTION_MAX`].
    pub(crate) fn select<T: BlockContent>(
        &self,
        query: &DeadLetterQuery,
        max: usize,
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        match &query.selection {
            DeadLetterSelection::After(after) => {
                self.read_page(*after, &query.filter, max.min(SELECTION_MAX))
            }
            DeadLetterSelection::These(numbers) => self.read_these(numbers),
        }
    }

    /// As [`Self::select`] of these, without those that are resolved.
    pub(crate) fn select_unresolved<T: BlockContent>(
        &self,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        let (skipped, left): (Vec<u64>, Vec<u64>) =
            numbers.partition(|number| self.resolved.contains(*number));
        let found = self.read_these(&left)?;
        Ok(SelectedDeadLetters { skipped, ..found })
    }

    /// Counts the dead letters after one that pass the filter, by their causes.
    pub(crate) fn causes<T: BlockContent>(
        &self,
        after: Option<u64>,
        filter: &DeadLetterFilter,
    ) -> Result<CauseReport, DeadLetterError> {
        let mut report = CauseReport::default();
        let mut progress = ScanProgress::default();
        let (_, is_complete) = self.scan(after, |number, dead_letter: T| {
            let facts = dead_letter.facts();
            progress.advance(number, facts.body.len())?;
            if filter.matches(&facts) {
                report.count(number, &facts, CAUSES_MAX);
            }
            ControlFlow::Continue(())
        })?;
        report.more_after = progress.last.filter(|_| !is_complete);
        Ok(report)
    }

    fn read_page<T: BlockContent>(
        &self,
        after: Option<u64>,
        filter: &DeadLetterFilter,
        max: usize,
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        let mut found = SelectedDeadLetters::new();
        let mut progress = ScanProgress::default();
        let (lost, is_complete) = self.scan(after, |number, dead_letter: T| {
            if found.is_full(max) {
                return ControlFlow::Break(());
            }
            let facts = dead_letter.facts();
            progress.advance(number, facts.body.len())?;
            if filter.matches(&facts) {
                found.push(number, dead_letter);
            }
            ControlFlow::Continue(())
        })?;
        found.lost = lost;
        found.more_after = progress.last.filter(|_| !is_complete);
        Ok(found)
    }

    /// Visits the unresolved dead letters after one until `visit` ends it. Returns the lost ranges,
    /// and whether all were visited.
    fn scan<T: BlockContent>(
        &self,
        after: Option<u64>,
        mut visit: impl FnMut(u64, T) -> ControlFlow<()>,
    ) -> Result<(Vec<(u64, u64)>, bool), DeadLetterError> {
        let from = after.map_or(0, |number| number.saturating_add(1));
        let from = from.max(self.resolved.floor());
        let mut lost = Vec::new();
        let ends = self.streams.iter().skip(1).map(|(base, _)| *base);
        for ((base, id), end) in self.streams.iter().zip(ends.chain([u64::MAX])) {
            if end <= from {
                continue;
            }
            let reader = self.log.reader(*id, from.saturating_sub(*base));
            for item in reader.map_err(unreadable)? {
                let (first, records) = match &item {
                    Ok(ReadItem::Gap(gap)) => (base + gap.first_seq, gap.records),
                    Ok(ReadItem::Block(block)) => {
                        (base + block.first_seq, u64::from(block.records))
                    }
                    Err(error) => return Err(unreadable(error)),
                };
                let dead_letters: Vec<T> = match item {
                    Ok(ReadItem::Block(block)) => T::decode(block)?,
                    _ => Vec::new(),
                };
                if dead_letters.is_empty() {
                    lost.push((first, first + records));
                }
                for (number, dead_letter) in (first..).zip(dead_letters) {
                    if number < from || self.resolved.contains(number) {
                        continue;
                    }
                    if visit(number, dead_letter).is_break() {
                        return Ok((lost, false));
                    }
                }
            }
        }
        Ok((lost, true))
    }

    fn read_these<T: BlockContent>(
        &self,
        numbers: &[u64],
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        let mut wanted: BTreeSet<u64> = numbers.iter().copied().collect();
        if let Some(number) = wanted.iter().find(|n| self.resolved.contains(**n)) {
            return Err(DeadLetterError::NotFound(*number));
        }
        let mut found = SelectedDeadLetters::new();
        while let Some(number) = wanted.first().copied() {
            for (at, dead_letter) in self.read_block(number)? {
                if !wanted.remove(&at) {
                    continue;
                }
                if found.is_full(SELECTION_MAX) {
                    return Err(DeadLetterError::TooMuch);
                }
                found.push(at, dead_letter);
            }
            if wanted.contains(&number) {
                return Err(DeadLetterError::NotFound(number));
            }
        }
        Ok(found)
    }

    /// The dead letters of the block that holds this number; none if it is lost or does not exist.
    fn read_block<T: BlockContent>(&self, number: u64) -> Result<Vec<(u64, T)>, DeadLetterError> {
        let stream = self.streams.iter().rev().find(|(base, _)| *base <= number);
        let Some((base, id)) = stream else {
            return Ok(Vec::new());
        };
        let mut reader = self.log.reader(*id, number - base).map_err(unreadable)?;
        match reader.next().transpose().map_err(unreadable)? {
            Some(ReadItem::Block(block)) => {
                let first = base + block.first_seq;
                Ok((first..).zip(T::decode(block)?).collect())
            }
            Some(ReadItem::Gap(_)) | None => Ok(Vec::new()),
        }
    }
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> DeadLetterError {
    DeadLetterError::Read(error.to_string())
}
