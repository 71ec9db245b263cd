//! Reads unresolved dead letters of a sink from the log: records and rows of tables, messages of
//! topics.

use std::collections::BTreeSet;

use forebay_log::{Block, Log, ReadItem, StreamId};
use forebay_model::{DeadLetterSelection, ResolvedRanges};

use super::error::DeadLetterError;

/// Maximum number of dead letters per call.
pub const SELECTION_MAX: usize = 1_000;
/// Maximum bytes of records per call; the last dead letter may exceed it.
const BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct StoredDeadLetter<T> {
    /// Number in its sink and volume, from 0; never reused.
    pub number: u64,
    pub dead_letter: T,
}

/// What a block of dead letters holds.
pub(crate) trait BlockContent: Sized {
    /// Decodes one dead letter per record of the block, or none if the block counts as lost.
    fn decode(block: Block) -> Result<Vec<Self>, DeadLetterError>;

    /// Bytes of the record.
    fn size(&self) -> usize;
}

/// Dead letters found by a selection.
#[derive(Debug)]
pub(crate) struct SelectedDeadLetters<T> {
    /// In the order of their numbers.
    pub(crate) dead_letters: Vec<StoredDeadLetter<T>>,
    /// Ranges `[from, to)` lost to disk damage.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Number of the last one, if there are more.
    pub(crate) more_after: Option<u64>,
    bytes: usize,
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
        self.bytes += dead_letter.size();
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
        selection: &DeadLetterSelection,
        max: usize,
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        match selection {
            DeadLetterSelection::After(after) => {
                let from = after.map_or(0, |number| number.saturating_add(1));
                self.read_page(from, max.min(SELECTION_MAX))
            }
            DeadLetterSelection::These(numbers) => self.read_these(numbers),
        }
    }

    fn read_page<T: BlockContent>(
        &self,
        from: u64,
        max: usize,
    ) -> Result<SelectedDeadLetters<T>, DeadLetterError> {
        let from = from.max(self.resolved.floor());
        let mut found = SelectedDeadLetters::new();
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
                    found.lost.push((first, first + records));
                }
                for (number, dead_letter) in (first..).zip(dead_letters) {
                    if number < from || self.resolved.contains(number) {
                        continue;
                    }
                    if found.is_full(max) {
                        found.more_after = found.numbers().last();
                        return Ok(found);
                    }
                    found.push(number, dead_letter);
                }
            }
        }
        Ok(found)
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
