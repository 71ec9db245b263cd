//! Letters out of the log.

use std::collections::BTreeSet;

use forebay_log::{Item, Log};
use forebay_meta::stored::letters::LetterBook;
use forebay_record::block::decode;

use super::DeadLetterError;
use super::letter::{Letter, read_block};
use crate::pipeline::compression;

/// Letters that are looked at in one go, at most.
pub const AT_A_TIME_MAX: usize = 1_000;
/// Bytes of records that are looked at in one go; the last letter may go beyond.
const BYTES_MAX: usize = 16 << 20;

/// A letter with its number.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number in its sink and volume, from 0; never used again.
    pub number: u64,
    /// The letter.
    pub letter: Letter,
}

/// Which letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those from a number on, at most so many.
    From(u64, usize),
    /// These, each of which must be there.
    These(Vec<u64>),
}

/// Letters that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) letters: Vec<Kept>,
    /// Runs `[from, to)` that a damaged disk has taken.
    pub(super) lost: Vec<(u64, u64)>,
    /// Where to go on, if there may be more.
    pub(super) next: Option<u64>,
}

/// Reads letters that are not done with. Blocks: it reads files.
pub(super) fn read(
    log: &Log,
    stream: &str,
    book: &LetterBook,
    which: &Which,
) -> Result<Found, DeadLetterError> {
    let (mut wanted, from, max) = match which {
        Which::From(from, max) => (None, *from, (*max).min(AT_A_TIME_MAX)),
        Which::These(numbers) => {
            let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
            let from = wanted.first().copied().unwrap_or_default();
            (Some(wanted), from, AT_A_TIME_MAX)
        }
    };
    let mut found = Found::default();
    let mut bytes = 0;
    if let Some(id) = log.find(stream)
        && wanted.as_ref().is_none_or(|w| !w.is_empty())
    {
        let reader = log.reader(id, from.max(book.floor())).map_err(unreadable)?;
        for item in reader {
            if wanted.as_ref().is_some_and(BTreeSet::is_empty) {
                break;
            }
            let block = match item.map_err(unreadable)? {
                Item::Gap(gap) => {
                    found
                        .lost
                        .push((gap.first_seq, gap.first_seq + gap.records));
                    continue;
                }
                Item::Block(block) => block,
            };
            for (number, letter) in (block.first_seq..).zip(letters(&block)?) {
                if number < from || book.is_done(number) {
                    continue;
                }
                if wanted.as_ref().is_some_and(|w| !w.contains(&number)) {
                    continue;
                }
                if found.letters.len() == max || bytes >= BYTES_MAX {
                    if wanted.is_some() {
                        return Err(DeadLetterError::TooMuch);
                    }
                    found.next = Some(number);
                    return Ok(found);
                }
                if let Some(wanted) = &mut wanted {
                    wanted.remove(&number);
                }
                bytes += letter.body.len();
                found.letters.push(Kept { number, letter });
            }
        }
    }
    // Every letter that was asked for by its number must be there.
    match wanted.unwrap_or_default().first() {
        Some(number) => Err(DeadLetterError::NotFound(*number)),
        None => Ok(found),
    }
}

fn letters(block: &forebay_log::Block) -> Result<Vec<Letter>, DeadLetterError> {
    let codec = compression(block.codec)
        .ok_or_else(|| unreadable(format_args!("codec {} is not known", block.codec)))?;
    let text = decode(&block.payload, codec, block.raw_len as usize).map_err(unreadable)?;
    let letters = read_block(&text).map_err(unreadable)?;
    if letters.len() != block.records as usize {
        let (has, says) = (letters.len(), block.records);
        return Err(unreadable(format_args!(
            "a block has {has} letters instead of {says}"
        )));
    }
    Ok(letters)
}

fn unreadable(error: impl std::fmt::Display) -> DeadLetterError {
    DeadLetterError::Read(error.to_string())
}
