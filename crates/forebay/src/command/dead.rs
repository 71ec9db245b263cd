//! `forebay dead`: records that a mapping has refused and that are kept.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::common::Server;
use super::source::{encoded, text};
use crate::api::{ApiClient, SOURCES, block_on};
use crate::config::Environment;
use crate::failure::Failure;
use crate::query::TextTable;
use crate::terminal;

/// Shows, replays and drops dead letters: records that a sink's mapping has refused and that are
/// kept.
///
/// A sink keeps them when its setting storage.level.local.mapping.refused.action is dead_letter.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(List),
    Show(Show),
    Replay(Replay),
    Drop(Drop),
}

/// A sink.
#[derive(Debug, clap::Args)]
struct SinkPlace {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
}

impl SinkPlace {
    fn path(&self) -> String {
        let (source, sink) = (encoded(&self.source), encoded(&self.sink));
        format!("{SOURCES}/{source}/sinks/{sink}/dead-letters")
    }
}

/// Lists them, the oldest first.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: SinkPlace,
    /// So many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Shows one: the record as it came, and why it was refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    place: SinkPlace,
    /// Id of the letter, from `forebay dead ls`
    letter: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

/// Sends them on their way to the table, by the mapping in force; each is delivered once.
///
/// Those that the mapping refuses again stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay dead ls events in-demo-events
  forebay apply -f mended.yaml
  forebay dead replay events in-demo-events --all")]
pub(crate) struct Replay {
    #[command(flatten)]
    choice: Chosen,
    #[command(flatten)]
    server: Server,
}

/// Forgets them for good; the balance counts them as expired.
#[derive(Debug, clap::Args)]
pub(crate) struct Drop {
    #[command(flatten)]
    choice: Chosen,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, clap::Args)]
struct Chosen {
    #[command(flatten)]
    place: SinkPlace,
    /// Ids of letters
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    letters: Vec<String>,
    /// All that there are
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub(crate) fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Ls(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list(&api, &args))
        }
        Command::Show(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(show(&api, &args))
        }
        Command::Replay(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(replay(&api, &args.choice))
        }
        Command::Drop(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(discard(&api, &args.choice))
        }
    }
}

async fn list(api: &ApiClient, args: &List) -> Result<(), Failure> {
    let letters = api
        .list_some(&args.place.path(), "letters", "letterId", args.limit)
        .await?;
    if args.json {
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

async fn show(api: &ApiClient, args: &Show) -> Result<(), Failure> {
    let path = format!("{}/{}", args.place.path(), encoded(&args.letter));
    let letter = api.get(&path).await?;
    if args.json {
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

async fn replay(api: &ApiClient, chosen: &Chosen) -> Result<(), Failure> {
    let (mut replayed, mut refused) = (0, Vec::new());
    each(api, chosen, "replay", |done| {
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

async fn discard(api: &ApiClient, chosen: &Chosen) -> Result<(), Failure> {
    let mut dropped = 0;
    each(api, chosen, "drop", |done| {
        dropped += count(done, "dropped")
    })
    .await?;
    terminal::line(format_args!("{dropped} dropped"))
}

fn count(done: &Value, name: &str) -> u64 {
    done.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// Does it to one part of the letters after the other.
async fn each(
    api: &ApiClient,
    chosen: &Chosen,
    what: &str,
    mut done: impl FnMut(&Value),
) -> Result<(), Failure> {
    /// As many as the server takes by name.
    const AT_A_TIME: usize = 100;
    let path = format!("{}/{what}", chosen.place.path());
    if !chosen.all {
        for ids in chosen.letters.chunks(AT_A_TIME) {
            let body = json!({ "letterIds": ids });
            done(&api.call(Method::POST, &path, Some(&body)).await?);
        }
        return Ok(());
    }
    let mut body = json!({});
    loop {
        let answer = api.call(Method::POST, &path, Some(&body)).await?;
        done(&answer);
        match answer.get("moreAfterId") {
            Some(after) => body = json!({ "afterId": after }),
            None => return Ok(()),
        }
    }
}
