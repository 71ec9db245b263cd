//! `forebay dead`: what was refused for good and is kept, of sinks, jobs and buffers.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::common::Server;
use super::source::{encoded, text};
use super::{buffer, job};
use crate::api::{ApiClient, SOURCES, block_on};
use crate::config::Environment;
use crate::failure::Failure;
use crate::query::TextTable;
use crate::terminal;

/// Lists, shows, replays and drops dead letters: what was refused for good and is kept.
///
/// A sink's are records that its mapping has refused, if its setting
/// storage.level.local.mapping.refused.action is dead_letter, and messages that its provider has
/// refused. A job's (--job) are records that a stage has refused, and bad lines. A buffer's
/// (--buffer) are messages that its provider has refused.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "list")]
    Ls(List),
    Show(Show),
    Replay(Replay),
    Drop(Drop),
    File(File),
}

/// Whose letters, and which.
#[derive(Debug, clap::Args)]
struct Names {
    /// Of the job of this file
    #[arg(long, value_name = "FILE", conflicts_with = "buffer")]
    job: Option<PathBuf>,
    /// Of the buffer in this directory
    #[arg(long, value_name = "DIR")]
    buffer: Option<PathBuf>,
    /// Ids of a source and its sink (without --job and --buffer), then those of letters
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Whose letters.
enum Keeper {
    /// The path of a sink's letters in the API.
    Sink(String),
    Job(job::FileArgs),
    Buffer(buffer::Place),
}

impl Names {
    /// The keeper, and the ids of letters.
    fn split(self) -> Result<(Keeper, Vec<String>), Failure> {
        let mut ids = self.ids;
        let keeper = match (self.job, self.buffer) {
            (Some(file), _) => Keeper::Job(job::FileArgs::new(file)),
            (_, Some(dir)) => Keeper::Buffer(buffer::Place::new(dir)),
            _ => {
                let [source, sink, ..] = ids.as_slice() else {
                    let missing = "the ids of a source and its sink are missing";
                    return Err(Failure::usage(missing)
                        .hint("--job FILE and --buffer DIR are for those of a job and a buffer"));
                };
                let (source, sink) = (encoded(source), encoded(sink));
                ids.drain(..2);
                Keeper::Sink(format!("{SOURCES}/{source}/sinks/{sink}/dead-letters"))
            }
        };
        Ok((keeper, ids))
    }
}

/// Lists them, the oldest first.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead ls [OPTIONS] <SOURCE> <SINK>
       forebay dead ls [OPTIONS] --job <FILE>
       forebay dead ls [OPTIONS] --buffer <DIR>")]
pub(crate) struct List {
    #[command(flatten)]
    names: Names,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// As JSON (a job's and a buffer's: one object a line)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Shows one, as it came, and why it was refused.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead show [OPTIONS] <SOURCE> <SINK> <LETTER>
       forebay dead show [OPTIONS] --job <FILE> <LETTER>
       forebay dead show [OPTIONS] --buffer <DIR> <LETTER>")]
pub(crate) struct Show {
    #[command(flatten)]
    names: Names,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Makes the rows of files dead letters that the sink's table can't take, so that they can be replayed
/// one by one, or dropped.
///
/// A file is parked when its table refuses it: a column of another type, a value that is too long.
/// Mend the table or the sink first if you can, and run `forebay retry`: a parked file follows the sink.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay dead file events in-demo-events --all
  forebay dead ls events in-demo-events")]
pub(crate) struct File {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    /// When each file was opened, like 2026-11-21T05:01:49.120Z
    #[arg(value_name = "OPENED_AT", required_unless_present = "all")]
    files: Vec<String>,
    /// All files that are parked
    #[arg(long, conflicts_with = "files")]
    all: bool,
    #[command(flatten)]
    server: Server,
}

/// Sends them on their way again: a sink's by the mapping in force, each once; a job's from the
/// stage where they failed; a buffer's to their topics.
///
/// Those that are refused again stay.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "\
forebay dead replay [OPTIONS] <SOURCE> <SINK> <LETTER>...|--all
       forebay dead replay [OPTIONS] --job <FILE> <LETTER>...|--all
       forebay dead replay [OPTIONS] --buffer <DIR> <LETTER>...|--all",
    after_help = "\
Example:
  forebay dead ls events in-demo-events
  forebay apply -f mended.yaml
  forebay dead replay events in-demo-events --all"
)]
pub(crate) struct Replay {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    server: Server,
}

/// Forgets them for good; a sink's balance counts them as expired.
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
forebay dead drop [OPTIONS] <SOURCE> <SINK> <LETTER>...|--all
       forebay dead drop [OPTIONS] --job <FILE> <LETTER>...|--all
       forebay dead drop [OPTIONS] --buffer <DIR> <LETTER>...|--all")]
pub(crate) struct Drop {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    #[command(flatten)]
    names: Names,
    /// All that there are
    #[arg(long)]
    all: bool,
}

impl Chosen {
    /// The keeper, and the ids of letters: none stands for all.
    fn split(self) -> Result<(Keeper, Vec<String>), Failure> {
        let (keeper, ids) = self.names.split()?;
        match (self.all, ids.is_empty()) {
            (false, true) => Err(Failure::usage("say which letters, or --all")),
            (true, false) => Err(Failure::usage("either ids of letters or --all, not both")),
            _ => Ok((keeper, ids)),
        }
    }
}

/// The numbers that letters of jobs and buffers have.
fn numbers(ids: &[String]) -> Result<Vec<u64>, Failure> {
    let number = |id: &String| {
        id.parse().map_err(|_| {
            Failure::usage(format_args!(
                "{id:?} is no number of a letter, as `forebay dead ls` lists them"
            ))
        })
    };
    ids.iter().map(number).collect()
}

/// The one letter that is meant.
fn only<T>(ids: Vec<T>) -> Result<T, Failure> {
    let one: Result<[T; 1], _> = ids.try_into();
    one.map(|[id]| id).map_err(|ids| {
        Failure::usage(format_args!(
            "one letter has to be named, not {}",
            ids.len()
        ))
    })
}

/// Runs it.
pub(crate) fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => list(args, env),
        Command::Show(args) => show(args, env),
        Command::Replay(args) => {
            let (keeper, ids) = args.chosen.split()?;
            match keeper {
                Keeper::Sink(path) => {
                    let api = ApiClient::new(&args.server, env)?;
                    block_on(replay_of_sink(&api, &path, &ids))
                }
                Keeper::Job(file) => job::dead::replay(&file, numbers(&ids)?, env),
                Keeper::Buffer(place) => buffer::dead::replay(&place, &numbers(&ids)?),
            }
        }
        Command::File(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(reject_files(&api, &args))
        }
        Command::Drop(args) => {
            let (keeper, ids) = args.chosen.split()?;
            match keeper {
                Keeper::Sink(path) => {
                    let api = ApiClient::new(&args.server, env)?;
                    block_on(discard_of_sink(&api, &path, &ids))
                }
                Keeper::Job(file) => job::dead::discard(&file, numbers(&ids)?, &env),
                Keeper::Buffer(place) => buffer::dead::discard(&place, &numbers(&ids)?),
            }
        }
    }
}

fn list(args: List, env: Environment) -> Result<(), Failure> {
    let (keeper, ids) = args.names.split()?;
    if let Some(id) = ids.first() {
        return Err(Failure::usage(format_args!("one id too many: {id:?}")));
    }
    match keeper {
        Keeper::Sink(path) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list_of_sink(&api, &path, args.limit as usize, args.json))
        }
        Keeper::Job(file) => job::dead::list(&file, args.json, 0, args.limit, &env),
        Keeper::Buffer(place) => buffer::dead::list(&place, args.limit),
    }
}

fn show(args: Show, env: Environment) -> Result<(), Failure> {
    let (keeper, ids) = args.names.split()?;
    match keeper {
        Keeper::Sink(path) => {
            let path = format!("{path}/{}", encoded(&only(ids)?));
            let api = ApiClient::new(&args.server, env)?;
            block_on(show_of_sink(&api, &path, args.json))
        }
        Keeper::Job(file) => job::dead::show(&file, only(numbers(&ids)?)?, args.json, &env),
        Keeper::Buffer(place) => buffer::dead::show(&place, only(numbers(&ids)?)?),
    }
}

async fn list_of_sink(
    api: &ApiClient,
    path: &str,
    limit: usize,
    json: bool,
) -> Result<(), Failure> {
    let letters = api.list_some(path, "letters", "letterId", limit).await?;
    if json {
        return terminal::line(format_args!("{:#}", Value::Array(letters)));
    }
    if letters.is_empty() {
        terminal::note("there is no dead letter");
    }
    let mut table = TextTable::new(&["letter", "received", "bytes", "why"]);
    for letter in &letters {
        let size = letter.get("size").and_then(Value::as_u64);
        table.row(&[
            text(letter, "letterId"),
            text(letter, "receivedAt"),
            &size.unwrap_or_default().to_string(),
            text(letter, "message"),
        ]);
    }
    terminal::data(table)
}

async fn show_of_sink(api: &ApiClient, path: &str, json: bool) -> Result<(), Failure> {
    let letter = api.get(path).await?;
    if json {
        return terminal::line(format_args!("{letter:#}"));
    }
    for (name, key) in [
        ("letter  ", "letterId"),
        ("received", "receivedAt"),
        ("from    ", "clientIp"),
        ("refused ", "message"),
    ] {
        terminal::line(format_args!("{name}  {}", text(&letter, key)))?;
    }
    if let Some(line) = letter.get("line").and_then(Value::as_u64) {
        terminal::line(format_args!("line      {line} of its batch"))?;
    }
    let headers = letter.get("headers").and_then(Value::as_object);
    for (name, value) in headers.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        terminal::line(format_args!("header    {name}: {value}"))?;
    }
    match letter.get("body").and_then(Value::as_str) {
        Some(body) => terminal::line(format_args!("\n{body}")),
        None => terminal::line(format_args!("\nbase64: {}", text(&letter, "bodyBase64"))),
    }
}

async fn replay_of_sink(api: &ApiClient, path: &str, ids: &[String]) -> Result<(), Failure> {
    let (mut replayed, mut refused) = (0, Vec::new());
    each(api, &format!("{path}/replay"), ids, |done| {
        replayed += count(done, "replayed");
        let more = done.get("refused").and_then(Value::as_array);
        refused.extend(more.into_iter().flatten().cloned());
    })
    .await?;
    terminal::line(format_args!(
        "{replayed} replayed, {} refused again",
        refused.len()
    ))?;
    const SHOWN: usize = 10;
    for letter in refused.iter().take(SHOWN) {
        terminal::note(format_args!(
            "{}: {}",
            text(letter, "letterId"),
            text(letter, "message")
        ));
    }
    if refused.is_empty() {
        return Ok(());
    }
    let kept = refused.len();
    Err(Failure::new(format_args!(
        "{kept} of the letters were refused again; they are kept"
    )))
}

async fn discard_of_sink(api: &ApiClient, path: &str, ids: &[String]) -> Result<(), Failure> {
    let mut dropped = 0;
    each(api, &format!("{path}/drop"), ids, |done| {
        dropped += count(done, "dropped")
    })
    .await?;
    terminal::line(format_args!("{dropped} dropped"))
}

async fn reject_files(api: &ApiClient, args: &File) -> Result<(), Failure> {
    let (source, sink) = (encoded(&args.source), encoded(&args.sink));
    let path = format!("{SOURCES}/{source}/sinks/{sink}");
    let mut files = args.files.clone();
    if args.all {
        let path = format!("{path}/statistics/files?failedFiles=true");
        let answer = api.get(&path).await?;
        let failed = answer.get("files").and_then(Value::as_array);
        let parked = failed.into_iter().flatten();
        let parked = parked.filter(|f| f.get("parked") == Some(&Value::Bool(true)));
        files.extend(parked.map(|f| text(f, "openedAt").to_owned()));
        if files.is_empty() {
            terminal::note("no file is parked");
        }
    }
    for file in files {
        let path = format!("{path}/files/{}/dead-letter", encoded(&file));
        let done = api.call(Method::POST, &path, None).await?;
        terminal::line(format_args!(
            "{file}: its rows become dead letters; the table could not take them: {}",
            text(&done, "cause")
        ))?;
    }
    Ok(())
}

fn count(done: &Value, name: &str) -> u64 {
    done.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// Does it to one part of the letters after the other; no id stands for all.
async fn each(
    api: &ApiClient,
    path: &str,
    ids: &[String],
    mut done: impl FnMut(&Value),
) -> Result<(), Failure> {
    /// As many as the server takes by name.
    const AT_A_TIME: usize = 100;
    if !ids.is_empty() {
        for ids in ids.chunks(AT_A_TIME) {
            let body = json!({ "letterIds": ids });
            done(&api.call(Method::POST, path, Some(&body)).await?);
        }
        return Ok(());
    }
    let mut body = json!({});
    loop {
        let answer = api.call(Method::POST, path, Some(&body)).await?;
        done(&answer);
        match answer.get("moreAfterId") {
            Some(after) => body = json!({ "afterId": after }),
            None => return Ok(()),
        }
    }
}
