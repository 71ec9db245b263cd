//! Reads dead letters from the log.

use std::collections::BTreeSet;

use forebay_log::{Log, ReadItem};
use forebay_meta::catalog::stored::dead_letters::DeadLetterState;
use forebay_record::block::decode;

use super::DeadLetterError;
use super::block_format::{DeadLetter, read_block};
use crate::streams::compression;

/// Maximum number of dead letters per call.
pub const SELECTION_MAX: usize = 1_000;
/// Maximum bytes of records per call; the last dead letter may exceed it.
const BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct StoredDeadLetter {
    /// Number in its sink and volume, from 0; never reused.
    pub number: u64,
    pub dead_letter: DeadLetter,
}

/// Selection of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkDeadLetterSelection {
    /// First number, and maximum count.
    From(u64, usize),
    /// Numbers, each of which must exist.
    These(Vec<u64>),
}

/// Dead letters found by a selection.
#[derive(Debug, Default)]
pub(super) struct SelectedDeadLetters {
    pub(super) dead_letters: Vec<StoredDeadLetter>,
    /// Ranges `[from, to)` lost to disk damage.
    pub(super) lost: Vec<(u64, u64)>,
    /// Number to continue from, if there may be more.
    pub(super) next: Option<u64>,
}

/// Reads unresolved dead letters. Blocking: reads files.
pub(super) fn read_page(
    log: &Log,
    stream: &str,
    state: &DeadLetterState,
    selection: &SinkDeadLetterSelection,
) -> Result<SelectedDeadLetters, DeadLetterError> {
    let (mut wanted, from, max) = match selection {
        SinkDeadLetterSelection::From(from, max) => (None, *from, (*max).min(SELECTION_MAX)),
        SinkDeadLetterSelection::These(numbers) => {
            let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
            let from = wanted.first().copied().unwrap_or_default();
            (Some(wanted), from, SELECTION_MAX)
        }
    };
    let mut found = SelectedDeadLetters::default();
    let mut bytes = 0;
    if let Some(id) = log.find(stream)
        && wanted.as_ref().is_none_or(|w| !w.is_empty())
    {
        let reader = log
            .reader(id, from.max(state.floor()))
            .map_err(unreadable)?;
        for item in reader {
            if wanted.as_ref().is_some_and(BTreeSet::is_empty) {
                break;
            }
            let block = match item.map_err(unreadable)? {
                ReadItem::Gap(gap) => {
                    found
                        .lost
                        .push((gap.first_seq, gap.first_seq + gap.records));
                    continue;
                }
                ReadItem::Block(block) => block,
            };
            for (number, dead_letter) in (block.first_seq..).zip(decode_dead_letters(&block)?) {
                if number < from || state.is_resolved(number) {
                    continue;
                }
                if wanted.as_ref().is_some_and(|w| !w.contains(&number)) {
                    continue;
                }
                if found.dead_letters.len() == max || bytes >= BYTES_MAX {
                    if wanted.is_some() {
                        return Err(DeadLetterError::TooMuch);
                    }
                    found.next = Some(number);
                    return Ok(found);
                }
                if let Some(wanted) = &mut wanted {
                    wanted.remove(&number);
                }
                bytes += dead_letter.body.len();
                found.dead_letters.push(StoredDeadLetter {
                    number,
                    dead_letter,
                });
            }
        }
    }
    // Every dead letter selected by number must exist.
    match wanted.unwrap_or_default().first() {
        Some(number) => Err(DeadLetterError::NotFound(*number)),
        None => Ok(found),
    }
}

fn decode_dead_letters(block: &forebay_log::Block) -> Result<Vec<DeadLetter>, DeadLetterError> {
    let codec = compression(block.codec)
        .ok_or_else(|| unreadable(format_args!("unknown codec {}", block.codec)))?;
    let text = decode(&block.payload, codec, block.raw_len as usize).map_err(unreadable)?;
    let dead_letters = read_block(&text).map_err(unreadable)?;
    if dead_letters.len() != block.records as usize {
        let (has, says) = (dead_letters.len(), block.records);
        return Err(unreadable(format_args!(
            "a block has {has} dead letters instead of {says}"
        )));
    }
    Ok(dead_letters)
}

fn unreadable(error: impl std::fmt::Display) -> DeadLetterError {
    DeadLetterError::Read(error.to_string())
}
