//! `forebay buffer dead`: messages that were refused for good.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_buffer::inspect::Inspection;
use forebay_buffer::{
    Buffer, BufferConfig, Closing, Connection, DeadLetter, Delivery, Lane, Provider, SendError,
};
use forebay_model::Timestamp;
use forebay_remote::provider::file::json_line;
use serde_json::{Value, json};

use super::Place;
use crate::failure::Failure;
use crate::terminal;

/// Lists, shows, replays and drops dead letters: messages that were refused for good.
///
/// `forebay dead … --buffer DIR` is the same. While `send` or `drain` runs on the buffer, they can
/// be looked at only.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists them, the oldest first, as lines of JSON
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows one, as JSON
    Show {
        #[command(flatten)]
        place: Place,
        /// Its number
        number: u64,
    },
    /// Writes them to their topics again; `send` or `drain` delivers them
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
    /// Forgets them for good
    Drop {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        which: Which,
    },
}

/// Which of them: they leave the buffer in their order.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Their numbers; none that is older may be left
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { place, limit } => list(&place, limit),
        Command::Show { place, number } => show(&place, number),
        Command::Replay { place, which } => replay(&place, &which.numbers),
        Command::Drop { place, which } => discard(&place, &which.numbers),
    }
}

/// `ls`.
pub(crate) fn list(place: &Place, limit: u32) -> Result<(), Failure> {
    let look = look(place)?;
    let mut shown = 0;
    for letter in look.dead_letters() {
        let letter = letter.map_err(Failure::new)?;
        if shown == limit {
            terminal::note(format_args!("the first {shown}; --limit shows more"));
            return Ok(());
        }
        terminal::line(to_json(&letter))?;
        shown += 1;
    }
    if shown == 0 {
        terminal::note("there is no dead letter");
    }
    Ok(())
}

/// `show`.
pub(crate) fn show(place: &Place, number: u64) -> Result<(), Failure> {
    for letter in look(place)?.dead_letters() {
        let letter = letter.map_err(Failure::new)?;
        if letter.number == number {
            return terminal::line(format_args!("{:#}", to_json(&letter)));
        }
    }
    Err(Failure::new(format_args!(
        "there is no dead letter {number}"
    )))
}

/// `replay`; no number stands for all.
pub(crate) fn replay(place: &Place, numbers: &[u64]) -> Result<(), Failure> {
    let buffer = open(place)?;
    let replayed = match below(&buffer, numbers)? {
        Some(below) => buffer.replay_dead_letters(below).map_err(Failure::new)?,
        None => 0,
    };
    buffer.close(Closing::Leave).map_err(Failure::new)?;
    terminal::line(format_args!("{replayed} in their topics again"))
}

/// `drop`; no number stands for all.
pub(crate) fn discard(place: &Place, numbers: &[u64]) -> Result<(), Failure> {
    let buffer = open(place)?;
    let before = buffer.stats().dead_letters;
    if let Some(below) = below(&buffer, numbers)? {
        buffer.discard_dead_letters(below).map_err(Failure::new)?;
    }
    let dropped = before - buffer.stats().dead_letters;
    buffer.close(Closing::Leave).map_err(Failure::new)?;
    terminal::line(format_args!("{dropped} dropped"))
}

/// The first number that stays; none when there is nothing to take.
fn below(buffer: &Buffer, numbers: &[u64]) -> Result<Option<u64>, Failure> {
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut wanted = wanted.into_iter().peekable();
    let mut below = None;
    for letter in buffer.dead_letters(0) {
        let number = letter.map_err(Failure::new)?.number;
        if !numbers.is_empty() {
            match wanted.peek() {
                None => break,
                Some(&next) if next > number => {
                    let older = format!("dead letter {number} is older than {next} and would stay");
                    return Err(Failure::new(older).hint("name it too, or take --all"));
                }
                Some(&next) if next < number => break,
                Some(_) => wanted.next(),
            };
        }
        below = Some(number + 1);
    }
    match wanted.next() {
        Some(number) => Err(Failure::new(format_args!(
            "there is no dead letter {number}"
        ))),
        None => Ok(below),
    }
}

fn look(place: &Place) -> Result<Inspection, Failure> {
    Inspection::open(&place.log()).map_err(Failure::new)
}

fn open(place: &Place) -> Result<Buffer, Failure> {
    // One that is made by the wish to look into it would hide a wrong directory.
    drop(look(place)?);
    let opened = Buffer::open(BufferConfig::new(place.log()), Nobody);
    opened.map_err(|e| Failure::new(e).hint("no `send` and no `drain` may run on this buffer"))
}

fn to_json(letter: &DeadLetter) -> Value {
    let delivery = Delivery {
        topic: Arc::clone(&letter.topic),
        sequence: letter.sequence,
        message: letter.message.clone(),
    };
    json!({
        "number": letter.number,
        "lane": &*letter.lane,
        "error": letter.error,
        "attempts": letter.attempts,
        "at": Timestamp::from_millis(letter.at_ms),
        "message": json_line(&delivery),
    })
}

/// Takes nothing: what is put back waits for the next `send`.
struct Nobody;

impl Provider for Nobody {
    fn name(&self) -> &str {
        "nobody"
    }

    fn open(&self, _lane: &Lane) -> Result<Box<dyn Connection>, SendError> {
        Err(SendError::retry("nothing is delivered by this command"))
    }
}
