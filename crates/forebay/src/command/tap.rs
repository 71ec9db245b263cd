//! `forebay tap`: live records of a running server.

use forebay_api::source::SourceList;
use forebay_api::tap::TapLine;
use forebay_model::words::counted;
use serde_json::Value;

use super::common::ServerArgs;
use super::subject::Subject;
use crate::api_client::{ApiClient, SOURCES, block_on, encoded};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

/// Longest line of a tap: a body, its headers and their JSON.
const LINE_MAX: usize = 64 << 20;

/// Shows records as they arrive at a server.
///
/// A tap never delays records: above `api.tapRecordsPerSecond`, and when they are not read in time, it
/// skips samples and reports their number. Headers with secrets (authorization, cookies, tokens,
/// signatures, keys) are always hidden. Each tap has an entry in the audit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay tap my-events
  forebay tap my-events --limit 10 --filter user.id=ada --redact user.email
  forebay tap my-events/events --stage row
  forebay tap my-events --stage dead --json")]
pub(crate) struct TapArgs {
    /// Id of the source, or of a source and its sink [default: the only source]
    #[arg(value_name = "SOURCE[/SINK]")]
    of: Option<Subject>,
    /// Step of the records
    #[arg(long, value_enum, default_value = "in")]
    stage: StageName,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Option<u32>,
    /// Only records whose value has this text: PATH=VALUE or PATH!=VALUE, in the stage row
    /// COLUMN=VALUE; repeatable, all must hold
    #[arg(long, value_name = "CONDITION")]
    filter: Vec<String>,
    /// Hide the values of a path in the body, in rows too; repeatable
    #[arg(long, value_name = "PATH")]
    redact: Vec<String>,
    /// Show one of N records
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: u32,
    /// Show the headers of records
    #[arg(long)]
    headers: bool,
    /// Print the server's lines of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StageName {
    /// As received, before any mapping
    In,
    /// As a row of a table or a message of a topic
    Row,
    /// Rejected by a mapping, whether or not they became dead letters
    Dead,
}

impl StageName {
    fn text(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Row => "row",
            Self::Dead => "dead",
        }
    }
}

pub(crate) fn run(args: &TapArgs, env: Environment) -> Result<(), CliError> {
    if args.stage == StageName::In && args.of.as_ref().is_some_and(|of| of.sink.is_some()) {
        return Err(CliError::usage(
            "a sink has no records of stage in: they belong to its source; use --stage row or dead",
        ));
    }
    let api = ApiClient::new(&args.server, env)?;
    block_on(tap(&api, args))
}

async fn tap(api: &ApiClient, args: &TapArgs) -> Result<(), CliError> {
    let of = match &args.of {
        Some(of) => of.clone(),
        None => Subject {
            source: only_source(api).await?,
            sink: None,
        },
    };
    let mut path = format!(
        "{SOURCES}/{}/tap?stage={}&sample={}",
        encoded(&of.source),
        args.stage.text(),
        args.sample
    );
    if let Some(limit) = args.limit {
        path.push_str(&format!("&limit={limit}"));
    }
    for (name, text) in [
        ("sinkId", of.sink.unwrap_or_default()),
        ("filter", args.filter.join(",")),
        ("redact", args.redact.join(",")),
    ] {
        if !text.is_empty() {
            path.push_str(&format!("&{name}={}", encoded(&text)));
        }
    }
    let mut stream = api.stream(&path).await?;
    let mut reported = 0;
    let mut held = Vec::new();
    let mut shown = 0;
    while let Some(chunk) = stream.chunk().await.map_err(|e| api.unanswered(&e))? {
        held.extend_from_slice(&chunk);
        if held.len() > LINE_MAX {
            return Err(CliError::new("the server sent a line that is too long"));
        }
        let mut start = 0;
        while let Some(length) = held
            .get(start..)
            .and_then(|h| h.iter().position(|b| *b == b'\n'))
        {
            let line = held.get(start..start + length).unwrap_or_default();
            shown += show(args, line, &mut reported)?;
            start += length + 1;
        }
        held.drain(..start);
    }
    match args.limit {
        Some(limit) if shown >= limit => Ok(()),
        _ => Err(CliError::new("the server ended the tap")
            .hint("it is stopping, or the connection was closed")),
    }
}

/// Prints a line; returns the number of records in it.
fn show(args: &TapArgs, line: &[u8], reported: &mut u64) -> Result<u32, CliError> {
    let unexpected =
        |e: serde_json::Error| CliError::new(format_args!("unexpected line from the server: {e}"));
    let parsed: TapLine = serde_json::from_slice(line).map_err(unexpected)?;
    if let Some(lost) = parsed.lost {
        if lost > *reported {
            let more = lost - *reported;
            *reported = lost;
            terminal::note(format_args!(
                "skipped {}, {lost} in total",
                counted(more, "record")
            ));
        }
        return Ok(0);
    }
    if args.json {
        terminal::line(String::from_utf8_lossy(line))?;
    } else {
        print_record(args, &parsed)?;
    }
    Ok(1)
}

fn print_record(args: &TapArgs, record: &TapLine) -> Result<(), CliError> {
    let mut words = Vec::new();
    words.extend(record.received_at.map(|t| t.to_string()));
    words.extend(record.sink_id.clone());
    words.extend(record.client_ip.clone());
    words.extend(record.line.map(|line| format!("line {line}")));
    if let Some(error) = &record.error {
        let column = record.column.as_deref().unwrap_or_default();
        let kept = if record.kept == Some(true) {
            "dead letter"
        } else {
            "rejected"
        };
        words.push(format!("{kept}: column \"{column}\": {error}"));
    }
    if let Some(row) = &record.row {
        words.push(Value::Object(row.clone()).to_string());
    }
    let body = record.body.as_ref().map(|body| body.get());
    if record.error.is_none() {
        words.extend(body.map(str::to_owned));
    }
    if let Some(bytes) = record.body_bytes {
        words.push(format!("(cut, {bytes} bytes)"));
    }
    terminal::line(words.join("  "))?;
    if let (Some(_), Some(body)) = (&record.error, body) {
        terminal::line(format_args!("  {body}"))?;
    }
    for (name, value) in record.headers.iter().flatten().filter(|_| args.headers) {
        terminal::line(format_args!(
            "  {name}: {}",
            value.as_str().unwrap_or_default()
        ))?;
    }
    Ok(())
}

async fn only_source(api: &ApiClient) -> Result<String, CliError> {
    let mut sources = api.list_some::<SourceList>(SOURCES, 2).await?;
    match (sources.pop(), sources.pop()) {
        (Some(source), None) => Ok(source.source_id),
        (None, _) => {
            Err(CliError::new("the server has no source")
                .hint("`forebay source create` creates one"))
        }
        _ => Err(CliError::usage("the server has several sources: name one")
            .hint("`forebay source ls` lists them")),
    }
}
