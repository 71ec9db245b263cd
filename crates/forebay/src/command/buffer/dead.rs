//! `forebay buffer dead`: dead letters of a buffer.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay_buffer::inspect::BufferInspection;
use forebay_buffer::{
    Buffer, BufferConfig, CloseMode, DeadLetterMessage, MessageDelivery, Partition, Provider,
    ProviderConnection, SendError,
};
use forebay_connect::provider::file::json_line;
use forebay_model::{DeadLetterSelection, Timestamp};
use serde_json::{Value, json};

use super::BufferArgs;
use crate::cli_error::CliError;
use crate::command::common::dead_letter_selection;
use crate::terminal;

/// Lists, shows, replays and drops dead letters: messages that were rejected for good.
///
/// `forebay dead … --buffer DIR` is the same. While `send` or `drain` runs on the buffer, they can only
/// be listed and shown.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BufferDeadLetterCommand {
    /// Lists dead letters, oldest first, as lines of JSON
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        place: BufferArgs,
        /// Maximum number of dead letters
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows a dead letter as JSON
    Show {
        #[command(flatten)]
        place: BufferArgs,
        /// Number of the dead letter
        number: u64,
    },
    /// Writes them to their topics again; `send` or `drain` delivers them
    Replay {
        #[command(flatten)]
        place: BufferArgs,
        #[command(flatten)]
        which: BufferSelectionArgs,
    },
    /// Deletes them
    Drop {
        #[command(flatten)]
        place: BufferArgs,
        #[command(flatten)]
        which: BufferSelectionArgs,
    },
}

/// Selected dead letters; they are resolved in order.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct BufferSelectionArgs {
    /// Numbers of dead letters; all older ones must be included
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// All dead letters
    #[arg(long)]
    all: bool,
}

pub(super) fn run(command: BufferDeadLetterCommand) -> Result<(), CliError> {
    match command {
        BufferDeadLetterCommand::Ls { place, limit } => list(&place, limit),
        BufferDeadLetterCommand::Show { place, number } => show(&place, number),
        BufferDeadLetterCommand::Replay { place, which } => {
            replay(&place, &dead_letter_selection(which.numbers))
        }
        BufferDeadLetterCommand::Drop { place, which } => {
            discard(&place, &dead_letter_selection(which.numbers))
        }
    }
}

pub(crate) fn list(buffer_args: &BufferArgs, limit: u32) -> Result<(), CliError> {
    let inspection = inspect(buffer_args)?;
    let mut shown = 0;
    for dead_letter in inspection.dead_letters() {
        let dead_letter = dead_letter.map_err(CliError::new)?;
        if shown == limit {
            terminal::note(format_args!("the first {shown}; --limit shows more"));
            return Ok(());
        }
        terminal::line(to_json(&dead_letter))?;
        shown += 1;
    }
    if shown == 0 {
        terminal::note("no dead letters");
    }
    Ok(())
}

pub(crate) fn show(buffer_args: &BufferArgs, number: u64) -> Result<(), CliError> {
    for dead_letter in inspect(buffer_args)?.dead_letters() {
        let dead_letter = dead_letter.map_err(CliError::new)?;
        if dead_letter.number == number {
            return terminal::line(format_args!("{:#}", to_json(&dead_letter)));
        }
    }
    Err(CliError::new(format_args!(
        "dead letter {number} does not exist"
    )))
}

pub(crate) fn replay(
    buffer_args: &BufferArgs,
    selection: &DeadLetterSelection,
) -> Result<(), CliError> {
    let buffer = open(buffer_args)?;
    let replayed = match first_remaining(&buffer, selection)? {
        Some(below) => buffer.replay_dead_letters(below).map_err(CliError::new)?,
        None => 0,
    };
    buffer.close(CloseMode::Detach).map_err(CliError::new)?;
    terminal::line(format_args!("{replayed} written to their topics again"))
}

pub(crate) fn discard(
    buffer_args: &BufferArgs,
    selection: &DeadLetterSelection,
) -> Result<(), CliError> {
    let buffer = open(buffer_args)?;
    let before = buffer.stats().dead_letters;
    if let Some(below) = first_remaining(&buffer, selection)? {
        buffer.discard_dead_letters(below).map_err(CliError::new)?;
    }
    let dropped = before - buffer.stats().dead_letters;
    buffer.close(CloseMode::Detach).map_err(CliError::new)?;
    terminal::line(format_args!("{dropped} dropped"))
}

/// The first number that is not selected; `None` when there is nothing to resolve.
fn first_remaining(
    buffer: &Buffer,
    selection: &DeadLetterSelection,
) -> Result<Option<u64>, CliError> {
    let DeadLetterSelection::These(numbers) = selection else {
        return Ok(Some(u64::MAX));
    };
    let wanted: BTreeSet<u64> = numbers.iter().copied().collect();
    let mut wanted = wanted.into_iter().peekable();
    let mut below = None;
    for dead_letter in buffer.dead_letters(0) {
        let number = dead_letter.map_err(CliError::new)?.number;
        match wanted.peek() {
            None => break,
            Some(&next) if next > number => {
                let older =
                    format!("dead letter {number} is older than {next} and must be resolved first");
                return Err(CliError::new(older).hint("include it, or use --all"));
            }
            Some(&next) if next < number => break,
            Some(_) => wanted.next(),
        };
        below = Some(number + 1);
    }
    match wanted.next() {
        Some(number) => Err(CliError::new(format_args!(
            "dead letter {number} does not exist"
        ))),
        None => Ok(below),
    }
}

fn inspect(buffer_args: &BufferArgs) -> Result<BufferInspection, CliError> {
    BufferInspection::open(&buffer_args.log_dir()).map_err(CliError::new)
}

fn open(buffer_args: &BufferArgs) -> Result<Buffer, CliError> {
    // Fails on a wrong directory, which opening would create.
    drop(inspect(buffer_args)?);
    let opened = Buffer::open(BufferConfig::new(buffer_args.log_dir()), NullProvider);
    opened.map_err(|e| CliError::new(e).hint("stop `send` or `drain` on this buffer first"))
}

fn to_json(dead_letter: &DeadLetterMessage) -> Value {
    let delivery = MessageDelivery {
        topic: Arc::clone(&dead_letter.topic),
        sequence: dead_letter.sequence,
        message: dead_letter.message.clone(),
    };
    json!({
        "number": dead_letter.number,
        "lane": &*dead_letter.partition,
        "error": dead_letter.error,
        "attempts": dead_letter.attempts,
        "at": Timestamp::from_millis(dead_letter.at_ms),
        "message": json_line(&delivery),
    })
}

/// Delivers nothing: replayed messages wait for the next `send`.
struct NullProvider;

impl Provider for NullProvider {
    fn name(&self) -> &str {
        "none"
    }

    fn open(&self, _partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        Err(SendError::retry("this command delivers nothing"))
    }
}
