//! `forebay dead`: dead letters of sinks, jobs and buffers.

mod edit;
mod filter;
mod sink;
mod transfer;

use std::path::PathBuf;

use clap::Subcommand;
use forebay_model::DeadLetterSelection;

use super::common::{ServerArgs, dead_letter_selection};
use super::{buffer, job};
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use filter::DeadLetterFilterArgs;
use sink::{ReplayOptions, SinkQueue};

/// Lists, shows, replays and drops dead letters: records and messages that were rejected for good.
///
/// A sink's are records that its mapping has rejected, if its setting
/// storage.level.local.mapping.rejected.action is dead_letter, and messages that its provider has
/// rejected. A job's (--job) are records that a stage has rejected, and bad lines. A buffer's
/// (--buffer) are messages that its provider has rejected.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  forebay dead ls                                        sinks that have dead letters
  forebay dead causes events in-demo-events              how many of which cause
  forebay dead replay events in-demo-events --all --dry-run
  forebay dead export events in-demo-events --cause 9c1f0a2b3d4e5f60 > letters.ndjson
  forebay dead import events in-demo-events letters.ndjson")]
pub(crate) enum DeadLetterCommand {
    #[command(visible_alias = "list")]
    Ls(DeadLetterListArgs),
    Show(DeadLetterShowArgs),
    Causes(DeadLetterCausesArgs),
    Replay(DeadLetterReplayArgs),
    Edit(edit::DeadLetterEditArgs),
    Export(transfer::DeadLetterExportArgs),
    Import(transfer::DeadLetterImportArgs),
    Drop(DeadLetterDropArgs),
    File(DeadLetterFileArgs),
}

/// Queue and ids.
#[derive(Debug, clap::Args)]
struct DeadLetterNameArgs {
    /// Job file
    #[arg(long, value_name = "FILE", conflicts_with = "buffer")]
    job: Option<PathBuf>,
    /// Directory of the buffer
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// Ids of a source and its sink, also as SOURCE/SINK (without --job and --buffer), then ids of
    /// dead letters
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Location of a dead-letter queue.
enum QueueLocation {
    Sink(SinkQueue),
    Job(job::JobFileArgs),
    Buffer(buffer::BufferArgs),
}

impl DeadLetterNameArgs {
    /// The queue, and the ids of dead letters.
    fn split(self) -> Result<(QueueLocation, Vec<String>), CliError> {
        let mut ids = self.ids;
        let location = match (self.job, self.buffer) {
            (Some(file), _) => QueueLocation::Job(job::JobFileArgs::new(file)),
            (_, Some(dir)) => QueueLocation::Buffer(buffer::BufferArgs::new(dir)),
            _ => {
                // As `forebay status` shows it, or as two ids.
                if let Some((source, sink)) = ids.first().and_then(|id| id.split_once('/')) {
                    ids.splice(..1, [source.to_owned(), sink.to_owned()]);
                }
                let [source, sink, ..] = ids.as_slice() else {
                    let missing = "the ids of a source and its sink are missing";
                    return Err(CliError::usage(missing)
                        .hint("--job FILE and --buffer DIR select those of a job and a buffer"));
                };
                let queue = SinkQueue::new(source, sink);
                ids.drain(..2);
                QueueLocation::Sink(queue)
            }
        };
        Ok((location, ids))
    }
}

/// Lists dead letters, oldest first; without ids, the sinks that have some.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead ls [OPTIONS] [<SOURCE> <SINK>]
       forebay dead ls [OPTIONS] --job <FILE>
       forebay dead ls [OPTIONS] --buffer <DIR>")]
pub(crate) struct DeadLetterListArgs {
    #[command(flatten)]
    names: DeadLetterNameArgs,
    /// Maximum number of dead letters
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
    /// Print JSON (of jobs and buffers: one object per line)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Shows a dead letter as received, and why it was rejected.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead show [OPTIONS] <SOURCE> <SINK> <ID>
       forebay dead show [OPTIONS] --job <FILE> <ID>
       forebay dead show [OPTIONS] --buffer <DIR> <ID>")]
pub(crate) struct DeadLetterShowArgs {
    #[command(flatten)]
    names: DeadLetterNameArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Counts the dead letters of a sink by their causes, the most frequent first.
///
/// Dead letters whose errors differ only in numbers and quoted values have the same cause. The id of a
/// cause selects them in the other commands (--cause).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay dead causes events in-demo-events
  forebay dead replay events in-demo-events --cause 9c1f0a2b3d4e5f60")]
pub(crate) struct DeadLetterCausesArgs {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Converts the rows of files that the sink's table rejects to dead letters, so that they can be
/// replayed one by one, or dropped.
///
/// A file is parked when its table rejects it: a column of another type, a value that is too long. If
/// possible, fix the table or the sink first and run `forebay retry`: a parked file uses the current
/// definition of the sink.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay dead file events in-demo-events --all
  forebay dead ls events in-demo-events")]
pub(crate) struct DeadLetterFileArgs {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    /// Opening time of each file, like 2026-11-21T05:01:49.120Z
    #[arg(value_name = "OPENED_AT", required_unless_present = "all")]
    files: Vec<String>,
    /// All parked files
    #[arg(long, conflicts_with = "files")]
    all: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Replays dead letters: those of a sink with the current mapping, each once; those of a job from the
/// stage that failed; those of a buffer to their topics.
///
/// Dead letters that are rejected again are retained.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "\
forebay dead replay [OPTIONS] <SOURCE> <SINK> <ID>...|--all|<FILTER>
       forebay dead replay [OPTIONS] --job <FILE> <ID>...|--all
       forebay dead replay [OPTIONS] --buffer <DIR> <ID>...|--all",
    after_help = "\
Example:
  forebay dead ls events in-demo-events
  forebay apply -f fixed.yaml
  forebay dead replay events in-demo-events --all --dry-run
  forebay dead replay events in-demo-events --all"
)]
pub(crate) struct DeadLetterReplayArgs {
    #[command(flatten)]
    chosen: DeadLetterSelectionArgs,
    /// Print what a replay would do with the current mapping, and the first rows; change nothing (only
    /// dead letters of sinks)
    #[arg(long)]
    dry_run: bool,
    /// Print the server's result as JSON (only dead letters of sinks)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Deletes dead letters; those of a sink count as expired.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead drop [OPTIONS] <SOURCE> <SINK> <ID>...|--all|<FILTER>
       forebay dead drop [OPTIONS] --job <FILE> <ID>...|--all
       forebay dead drop [OPTIONS] --buffer <DIR> <ID>...|--all")]
pub(crate) struct DeadLetterDropArgs {
    #[command(flatten)]
    chosen: DeadLetterSelectionArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct DeadLetterSelectionArgs {
    #[command(flatten)]
    names: DeadLetterNameArgs,
    /// All dead letters
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
}

impl DeadLetterSelectionArgs {
    /// The queue, and the ids of dead letters: none selects all that pass the filter.
    fn split(self) -> Result<(QueueLocation, Vec<String>), CliError> {
        let is_filtered = !self.filter.is_empty();
        let (location, ids) = self.names.split()?;
        if is_filtered && !matches!(location, QueueLocation::Sink(_)) {
            return Err(filter_of_sinks_only());
        }
        match (self.all || is_filtered, ids.is_empty()) {
            (false, true) => Err(CliError::usage(
                "ids of dead letters, --all or a filter are missing",
            )),
            (true, false) => Err(CliError::usage(
                "use either ids of dead letters or --all and filters, not both",
            )),
            _ => Ok((location, ids)),
        }
    }
}

fn filter_of_sinks_only() -> CliError {
    CliError::usage(
        "--cause, --error, --column, --contains, --since and --until select only dead letters of sinks",
    )
}

/// Numbers of dead letters of jobs and buffers.
fn parse_numbers(ids: &[String]) -> Result<Vec<u64>, CliError> {
    let number = |id: &String| {
        id.parse().map_err(|_| {
            CliError::usage(format_args!(
                "{id:?} is not the number of a dead letter; `forebay dead ls` lists them"
            ))
        })
    };
    ids.iter().map(number).collect()
}

fn parse_selection(ids: &[String]) -> Result<DeadLetterSelection, CliError> {
    parse_numbers(ids).map(dead_letter_selection)
}

fn exactly_one<T>(ids: Vec<T>) -> Result<T, CliError> {
    let one: Result<[T; 1], _> = ids.try_into();
    one.map(|[id]| id).map_err(|ids| {
        CliError::usage(format_args!(
            "exactly one dead letter is needed, not {}",
            ids.len()
        ))
    })
}

pub(crate) fn run(command: DeadLetterCommand, env: Environment) -> Result<(), CliError> {
    match command {
        DeadLetterCommand::Ls(args) => list(args, env),
        DeadLetterCommand::Show(args) => show(args, env),
        DeadLetterCommand::Causes(args) => {
            let api = ApiClient::new(&args.server, env)?;
            let queue = SinkQueue::new(&args.source, &args.sink);
            let filter = args.filter.request()?;
            block_on(sink::causes(&api, &queue, &filter, args.json))
        }
        DeadLetterCommand::Replay(args) => replay(args, env),
        DeadLetterCommand::Edit(args) => edit::run(&args, env),
        DeadLetterCommand::Export(args) => transfer::export(&args, env),
        DeadLetterCommand::Import(args) => transfer::import(&args, env),
        DeadLetterCommand::File(args) => {
            let api = ApiClient::new(&args.server, env)?;
            let queue = SinkQueue::new(&args.source, &args.sink);
            block_on(sink::reject_files(&api, &queue, &args.files, args.all))
        }
        DeadLetterCommand::Drop(args) => discard(args, env),
    }
}

fn replay(args: DeadLetterReplayArgs, env: Environment) -> Result<(), CliError> {
    let filter = args.chosen.filter.request()?;
    let (location, ids) = args.chosen.split()?;
    if (args.dry_run || args.json) && !matches!(location, QueueLocation::Sink(_)) {
        return Err(CliError::usage(
            "--dry-run and --json are for dead letters of sinks only",
        ));
    }
    match location {
        QueueLocation::Sink(queue) => {
            let api = ApiClient::new(&args.server, env)?;
            let options = ReplayOptions {
                dry_run: args.dry_run,
                json: args.json,
            };
            block_on(sink::replay(&api, &queue, &ids, &filter, options))
        }
        QueueLocation::Job(file) => job::dead::replay(&file, &parse_selection(&ids)?, env),
        QueueLocation::Buffer(buffer_args) => {
            buffer::dead::replay(&buffer_args, &parse_selection(&ids)?)
        }
    }
}

fn discard(args: DeadLetterDropArgs, env: Environment) -> Result<(), CliError> {
    let filter = args.chosen.filter.request()?;
    let (location, ids) = args.chosen.split()?;
    match location {
        QueueLocation::Sink(queue) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(sink::discard(&api, &queue, &ids, &filter))
        }
        QueueLocation::Job(file) => job::dead::discard(&file, &parse_selection(&ids)?, &env),
        QueueLocation::Buffer(buffer_args) => {
            buffer::dead::discard(&buffer_args, &parse_selection(&ids)?)
        }
    }
}

fn list(args: DeadLetterListArgs, env: Environment) -> Result<(), CliError> {
    let names = &args.names;
    if names.job.is_none() && names.buffer.is_none() && names.ids.is_empty() {
        let api = ApiClient::new(&args.server, env)?;
        return block_on(sink::list_sinks(&api, args.json));
    }
    let filter = args.filter.request()?;
    let (location, ids) = args.names.split()?;
    if let Some(id) = ids.first() {
        return Err(CliError::usage(format_args!("unexpected id {id:?}")));
    }
    if !args.filter.is_empty() && !matches!(location, QueueLocation::Sink(_)) {
        return Err(filter_of_sinks_only());
    }
    match location {
        QueueLocation::Sink(queue) => {
            let api = ApiClient::new(&args.server, env)?;
            let limit = args.limit as usize;
            block_on(sink::list(&api, &queue, &filter, limit, args.json))
        }
        QueueLocation::Job(file) => job::dead::list(&file, args.json, 0, args.limit, &env),
        QueueLocation::Buffer(buffer_args) => buffer::dead::list(&buffer_args, args.limit),
    }
}

fn show(args: DeadLetterShowArgs, env: Environment) -> Result<(), CliError> {
    let (location, ids) = args.names.split()?;
    match location {
        QueueLocation::Sink(queue) => {
            let id = exactly_one(ids)?;
            let api = ApiClient::new(&args.server, env)?;
            block_on(sink::show(&api, &queue, &id, args.json))
        }
        QueueLocation::Job(file) => {
            job::dead::show(&file, exactly_one(parse_numbers(&ids)?)?, args.json, &env)
        }
        QueueLocation::Buffer(buffer_args) => {
            buffer::dead::show(&buffer_args, exactly_one(parse_numbers(&ids)?)?)
        }
    }
}
