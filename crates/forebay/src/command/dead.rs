//! `forebay dead`: dead letters of sinks, jobs and buffers.

use std::path::PathBuf;

use clap::Subcommand;
use forebay_api::dead_letter::{
    DeadLetterList, DeadLetterSelectionRequest, DeadLetterView, DiscardResponse, ReplayResponse,
};
use forebay_api::retry::RejectedFile;
use forebay_api::statistics::FileList;
use forebay_model::DeadLetterSelection;
use reqwest::Method;
use serde::de::DeserializeOwned;

use super::common::{ServerArgs, dead_letter_selection};
use super::{buffer, job};
use crate::api_client::{ApiClient, SOURCES, block_on, encoded};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::query::TextTable;
use crate::terminal;

/// Lists, shows, replays and drops dead letters: records and messages that were rejected for good.
///
/// A sink's are records that its mapping has rejected, if its setting
/// storage.level.local.mapping.rejected.action is dead_letter, and messages that its provider has
/// rejected. A job's (--job) are records that a stage has rejected, and bad lines. A buffer's
/// (--buffer) are messages that its provider has rejected.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    #[command(visible_alias = "list")]
    Ls(DeadLetterListArgs),
    Show(DeadLetterShowArgs),
    Replay(DeadLetterReplayArgs),
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
    /// Ids of a source and its sink (without --job and --buffer), then ids of dead letters
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Location of a dead-letter queue.
enum QueueLocation {
    /// Path of a sink's dead letters in the API.
    Sink(String),
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
                let [source, sink, ..] = ids.as_slice() else {
                    let missing = "the ids of a source and its sink are missing";
                    return Err(CliError::usage(missing)
                        .hint("--job FILE and --buffer DIR select those of a job and a buffer"));
                };
                let (source, sink) = (encoded(source), encoded(sink));
                ids.drain(..2);
                QueueLocation::Sink(format!("{SOURCES}/{source}/sinks/{sink}/dead-letters"))
            }
        };
        Ok((location, ids))
    }
}

/// Lists dead letters, oldest first.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead ls [OPTIONS] <SOURCE> <SINK>
       forebay dead ls [OPTIONS] --job <FILE>
       forebay dead ls [OPTIONS] --buffer <DIR>")]
pub(crate) struct DeadLetterListArgs {
    #[command(flatten)]
    names: DeadLetterNameArgs,
    /// Maximum number of dead letters
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
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
forebay dead replay [OPTIONS] <SOURCE> <SINK> <ID>...|--all
       forebay dead replay [OPTIONS] --job <FILE> <ID>...|--all
       forebay dead replay [OPTIONS] --buffer <DIR> <ID>...|--all",
    after_help = "\
Example:
  forebay dead ls events in-demo-events
  forebay apply -f fixed.yaml
  forebay dead replay events in-demo-events --all"
)]
pub(crate) struct DeadLetterReplayArgs {
    #[command(flatten)]
    chosen: DeadLetterSelectionArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Deletes dead letters; those of a sink count as expired.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead drop [OPTIONS] <SOURCE> <SINK> <ID>...|--all
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
}

impl DeadLetterSelectionArgs {
    /// The queue, and the ids of dead letters: none selects all.
    fn split(self) -> Result<(QueueLocation, Vec<String>), CliError> {
        let (location, ids) = self.names.split()?;
        match (self.all, ids.is_empty()) {
            (false, true) => Err(CliError::usage("ids of dead letters or --all are missing")),
            (true, false) => Err(CliError::usage(
                "use either ids of dead letters or --all, not both",
            )),
            _ => Ok((location, ids)),
        }
    }
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
        DeadLetterCommand::Replay(args) => {
            let (location, ids) = args.chosen.split()?;
            match location {
                QueueLocation::Sink(path) => {
                    let api = ApiClient::new(&args.server, env)?;
                    block_on(replay_sink_dead_letters(&api, &path, ids))
                }
                QueueLocation::Job(file) => job::dead::replay(&file, &parse_selection(&ids)?, env),
                QueueLocation::Buffer(buffer_args) => {
                    buffer::dead::replay(&buffer_args, &parse_selection(&ids)?)
                }
            }
        }
        DeadLetterCommand::File(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(reject_files(&api, &args))
        }
        DeadLetterCommand::Drop(args) => {
            let (location, ids) = args.chosen.split()?;
            match location {
                QueueLocation::Sink(path) => {
                    let api = ApiClient::new(&args.server, env)?;
                    block_on(discard_sink_dead_letters(&api, &path, ids))
                }
                QueueLocation::Job(file) => {
                    job::dead::discard(&file, &parse_selection(&ids)?, &env)
                }
                QueueLocation::Buffer(buffer_args) => {
                    buffer::dead::discard(&buffer_args, &parse_selection(&ids)?)
                }
            }
        }
    }
}

fn list(args: DeadLetterListArgs, env: Environment) -> Result<(), CliError> {
    let (location, ids) = args.names.split()?;
    if let Some(id) = ids.first() {
        return Err(CliError::usage(format_args!("unexpected id {id:?}")));
    }
    match location {
        QueueLocation::Sink(path) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list_sink_dead_letters(
                &api,
                &path,
                args.limit as usize,
                args.json,
            ))
        }
        QueueLocation::Job(file) => job::dead::list(&file, args.json, 0, args.limit, &env),
        QueueLocation::Buffer(buffer_args) => buffer::dead::list(&buffer_args, args.limit),
    }
}

fn show(args: DeadLetterShowArgs, env: Environment) -> Result<(), CliError> {
    let (location, ids) = args.names.split()?;
    match location {
        QueueLocation::Sink(path) => {
            let path = format!("{path}/{}", encoded(&exactly_one(ids)?));
            let api = ApiClient::new(&args.server, env)?;
            block_on(show_sink_dead_letter(&api, &path, args.json))
        }
        QueueLocation::Job(file) => {
            job::dead::show(&file, exactly_one(parse_numbers(&ids)?)?, args.json, &env)
        }
        QueueLocation::Buffer(buffer_args) => {
            buffer::dead::show(&buffer_args, exactly_one(parse_numbers(&ids)?)?)
        }
    }
}

async fn list_sink_dead_letters(
    api: &ApiClient,
    path: &str,
    limit: usize,
    json: bool,
) -> Result<(), CliError> {
    let dead_letters = api.list_some::<DeadLetterList>(path, limit).await?;
    if json {
        return terminal::json(&dead_letters);
    }
    if dead_letters.is_empty() {
        terminal::note("no dead letters");
    }
    let mut table = TextTable::new(&["id", "received", "bytes", "error"]);
    for dead_letter in &dead_letters {
        table.row(&[
            &dead_letter.dead_letter_id,
            &dead_letter.received_at.to_string(),
            &dead_letter.size.to_string(),
            &dead_letter.message,
        ]);
    }
    terminal::data(table)
}

async fn show_sink_dead_letter(api: &ApiClient, path: &str, json: bool) -> Result<(), CliError> {
    let dead_letter: DeadLetterView = api.get(path).await?;
    if json {
        return terminal::json(&dead_letter);
    }
    let summary = &dead_letter.summary;
    terminal::line(format_args!("letter    {}", summary.dead_letter_id))?;
    terminal::line(format_args!("received  {}", summary.received_at))?;
    terminal::line(format_args!("from      {}", dead_letter.client_ip))?;
    terminal::line(format_args!("error     {}", summary.message))?;
    if let Some(line) = dead_letter.line {
        terminal::line(format_args!("line      {line} of its batch"))?;
    }
    for (name, value) in &dead_letter.headers {
        terminal::line(format_args!("header    {name}: {value}"))?;
    }
    match &dead_letter.body {
        Some(body) => terminal::line(format_args!("\n{body}")),
        None => terminal::line(format_args!(
            "\nbase64: {}",
            dead_letter.body_base64.unwrap_or_default()
        )),
    }
}

async fn replay_sink_dead_letters(
    api: &ApiClient,
    path: &str,
    ids: Vec<String>,
) -> Result<(), CliError> {
    let (mut replayed, mut rejected) = (0, Vec::new());
    for_each_batch(
        api,
        &format!("{path}/replay"),
        ids,
        |done: ReplayResponse| {
            replayed += done.replayed;
            rejected.extend(done.rejected);
            done.more_after_id
        },
    )
    .await?;
    terminal::line(format_args!(
        "{replayed} replayed, {} rejected again",
        rejected.len()
    ))?;
    const SHOWN: usize = 10;
    for dead_letter in rejected.iter().take(SHOWN) {
        terminal::note(format_args!(
            "{}: {}",
            dead_letter.dead_letter_id, dead_letter.message
        ));
    }
    if rejected.is_empty() {
        return Ok(());
    }
    let kept = rejected.len();
    Err(CliError::new(format_args!(
        "{kept} of the dead letters were rejected again and are retained"
    )))
}

async fn discard_sink_dead_letters(
    api: &ApiClient,
    path: &str,
    ids: Vec<String>,
) -> Result<(), CliError> {
    let mut dropped = 0;
    for_each_batch(
        api,
        &format!("{path}/drop"),
        ids,
        |done: DiscardResponse| {
            dropped += done.dropped;
            done.more_after_id
        },
    )
    .await?;
    terminal::line(format_args!("{dropped} dropped"))
}

async fn reject_files(api: &ApiClient, args: &DeadLetterFileArgs) -> Result<(), CliError> {
    let (source, sink) = (encoded(&args.source), encoded(&args.sink));
    let path = format!("{SOURCES}/{source}/sinks/{sink}");
    let mut files = args.files.clone();
    if args.all {
        let path = format!("{path}/statistics/files?failedFiles=true");
        let FileList { files: failed } = api.get(&path).await?;
        let parked = failed.iter().filter(|f| f.parked == Some(true));
        files.extend(parked.map(|f| f.opened_at.to_string()));
        if files.is_empty() {
            terminal::note("no parked files");
        }
    }
    for file in files {
        let path = format!("{path}/files/{}/dead-letter", encoded(&file));
        let rejected: RejectedFile = api.call_without_body(Method::POST, &path).await?;
        terminal::line(format_args!(
            "{file}: its rows become dead letters; the table rejected them: {}",
            rejected.cause
        ))?;
    }
    Ok(())
}

/// Handles the dead letters batch by batch; no id selects all. `done` returns the id after which there
/// are more.
async fn for_each_batch<T: DeserializeOwned>(
    api: &ApiClient,
    path: &str,
    ids: Vec<String>,
    mut done: impl FnMut(T) -> Option<String>,
) -> Result<(), CliError> {
    /// Most ids in one request.
    const AT_A_TIME: usize = 100;
    let mut selection = DeadLetterSelectionRequest {
        dead_letter_ids: None,
        after_id: None,
    };
    if !ids.is_empty() {
        for ids in ids.chunks(AT_A_TIME) {
            selection.dead_letter_ids = Some(ids.to_vec());
            done(api.call(Method::POST, path, &selection).await?);
        }
        return Ok(());
    }
    loop {
        selection.after_id = done(api.call(Method::POST, path, &selection).await?);
        if selection.after_id.is_none() {
            return Ok(());
        }
    }
}
