//! `forebay source`: manages single sources.

use std::collections::BTreeMap;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::common::ServerArgs;
use crate::api_client::{ApiClient, SOURCES, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{ColumnDefinition, SinkDefinition, SourceDefinition, parse_column};
use crate::terminal;

/// Most sinks of a source in a list.
const SINKS_SHOWN: usize = 10;
const AGGREGATION: &str = "/v1/branches/default/aggregation/sources";

/// Creates, lists, shows and deletes sources.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    Create(SourceCreateArgs),
    #[command(visible_alias = "list")]
    Ls(SourceListArgs),
    Show(SourceShowArgs),
    Delete(SourceDeleteArgs),
    Pause(SourcePauseArgs),
    Resume(SourceResumeArgs),
}

/// Creates a source, optionally with a sink.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Columns are NAME=TYPE[,OPTION...][:ARGUMENT]:
  id=uuid                    a new UUID for each row
  at=datetime                time of receipt
  ip=ip                      address of the sender
  all=body, h=headers        the request as received
  user=path:user.id          a part of the JSON body; rejected when it is missing,
  user=path,default=?:user.id  unless there is a default
  utm=path:[\"utm.source\"]    keys with any characters in quotes
  ids=path:$.items[*].id     JSONPath when it begins with $; many values as a list
  total=template:Body(\"price\") * Body(\"count\")   result of a Jsonnet expression
  env=static:prod            a constant
  options: key (part of the primary key), json (strings with their JSON quotes),
           default=TEXT or default=\"TEXT, with: anything\" (path)

Example:
  forebay source create 'My events' --sink in.demo.events --data-dir ./data \\
      --column id=uuid --column at=datetime --column user=path:user.id \\
      --column 'total=template:Body(\"price\") * Body(\"count\")'")]
pub(crate) struct SourceCreateArgs {
    /// Name of the source; its id is made from it
    name: String,
    /// Id [default: made from the name]
    #[arg(long)]
    id: Option<String>,
    /// Description of the source
    #[arg(long, default_value = "")]
    description: String,
    /// Table for its records: stage (in or out), bucket and name, like in.main.events
    #[arg(long, value_name = "TABLE", requires = "column")]
    sink: Option<String>,
    /// Table type (sqlite, postgres) [default: the server's]
    #[arg(long, value_name = "NAME", requires = "sink")]
    backend: Option<String>,
    /// A column of the table; repeatable
    #[arg(long, value_name = "NAME=TYPE", requires = "sink", value_parser = parse_column)]
    column: Vec<ColumnDefinition>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Lists sources.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Shows a source and its sinks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay source show my-events
  curl -d '{\"user\":{\"id\":\"ada\"}}' -H 'Content-Type: application/json' \\
      \"$(forebay source show my-events --url)\"")]
pub(crate) struct SourceShowArgs {
    /// Id of the source
    id: String,
    /// Print only the address to post records to
    #[arg(long, conflicts_with = "json")]
    url: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Deletes a source and its sinks.
///
/// Accepted records are still loaded into the tables; the tables are not deleted.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceDeleteArgs {
    /// Id of the source
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Pauses the delivery of a topic sink.
///
/// Records are still accepted, and wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay source pause my-events orders --reason 'broker is being moved'")]
pub(crate) struct SourcePauseArgs {
    /// Id of the source
    id: String,
    /// Id of the sink
    sink: String,
    /// Reason, shown with the sink
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Resumes the delivery of a paused sink.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceResumeArgs {
    /// Id of the source
    id: String,
    /// Id of the sink
    sink: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: SourceCommand, env: Environment) -> Result<(), CliError> {
    match command {
        SourceCommand::Create(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(create(&api, args))
        }
        SourceCommand::Ls(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list(&api, args.json))
        }
        SourceCommand::Show(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(show(&api, &args))
        }
        SourceCommand::Delete(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                api.run_task(
                    Method::DELETE,
                    &format!("{SOURCES}/{}", encoded(&args.id)),
                    None,
                )
                .await?;
                terminal::line(format_args!("source {} deleted", args.id))
            })
        }
        SourceCommand::Pause(args) => {
            let api = ApiClient::new(&args.server, env)?;
            let action = format!("pause?reason={}", encoded(&args.reason));
            block_on(change_delivery(
                &api,
                (&args.id, &args.sink),
                &action,
                "paused",
            ))
        }
        SourceCommand::Resume(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(change_delivery(
                &api,
                (&args.id, &args.sink),
                "resume",
                "resumed",
            ))
        }
    }
}

async fn change_delivery(
    api: &ApiClient,
    (source, sink): (&str, &str),
    action: &str,
    done: &str,
) -> Result<(), CliError> {
    let (id, of) = (encoded(sink), encoded(source));
    let path = format!("{SOURCES}/{of}/sinks/{id}/{action}");
    api.run_task(Method::PUT, &path, None).await?;
    terminal::line(format_args!("sink {source}/{sink} {done}"))
}

async fn create(api: &ApiClient, args: SourceCreateArgs) -> Result<(), CliError> {
    let source = SourceDefinition {
        name: args.name,
        id: args.id,
        description: args.description,
        settings: BTreeMap::new(),
        sinks: Vec::new(),
    };
    let id = source.source_id()?;
    let path = format!("{SOURCES}/{id}");
    api.run_task(Method::POST, SOURCES, Some(&source.request(&id)))
        .await?;
    if let Some(table) = args.sink {
        let sink = SinkDefinition {
            table: Some(table),
            kafka: None,
            http: None,
            backend: args.backend,
            name: None,
            id: None,
            description: String::new(),
            settings: BTreeMap::new(),
            columns: args.column,
        };
        let made = async {
            let body = sink.request(&sink.sink_id()?);
            api.run_task(Method::POST, &format!("{path}/sinks"), Some(&body))
                .await
        };
        if let Err(failure) = made.await {
            // A source without its sink would block the next attempt.
            let undone = api.run_task(Method::DELETE, &path, None).await;
            return Err(match undone {
                Ok(()) => failure,
                Err(_) => CliError::new(failure)
                    .hint(format_args!("source {id} was created, but not its sink")),
            });
        }
    }
    let made = api.get(&path).await?;
    terminal::line(format_args!("source {id} created"))?;
    terminal::line(format_args!("post to {}", url(&made).unwrap_or(URL_HIDDEN)))
}

async fn list(api: &ApiClient, json: bool) -> Result<(), CliError> {
    if json {
        let sources = api.list(SOURCES, "sources", "sourceId").await?;
        return terminal::line(format_args!("{:#}", Value::Array(sources)));
    }
    let sources = api.list(AGGREGATION, "sources", "sourceId").await?;
    if sources.is_empty() {
        terminal::note("no sources yet; `forebay source create` or `forebay apply` creates one");
    }
    let mut table = crate::query::TextTable::new(&["id", "name", "sinks", "state"]);
    for source in &sources {
        let sinks = source.get("sinks").and_then(Value::as_array);
        let sinks = sinks.map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = sinks.iter().map(|s| text(s, "sinkId")).collect();
        let total = source.get("sinksTotal").and_then(Value::as_u64);
        let total = total.and_then(|n| usize::try_from(n).ok());
        let total = total.unwrap_or(sinks.len());
        let failing: Vec<&Value> = sinks.iter().filter(|s| is_failing(s)).collect();
        let state = match failing.as_slice() {
            _ if source.get("disabled").is_some() => "disabled".to_owned(),
            [] => "active".to_owned(),
            [_] if sinks.len() == 1 => "failing".to_owned(),
            some => format!("{} of {total} sinks failing", some.len()),
        };
        let (id, name) = (text(source, "sourceId"), text(source, "name"));
        let shown: Vec<&str> = ids.iter().take(SINKS_SHOWN).copied().collect();
        let mut names = shown.join(", ");
        if total > shown.len() {
            names.push_str(&format!(" and {} more", total - shown.len()));
        }
        table.row(&[id, name, &names, &state]);
    }
    terminal::data(table)
}

/// Whether delivery fails: the provider of its topic is down, or a step of one of its files is being
/// retried.
fn is_failing(sink: &Value) -> bool {
    let is_down = sink.pointer("/statistics/provider/error").is_some();
    let files = sink.pointer("/statistics/files").and_then(Value::as_array);
    let has_failed = |file: &Value| {
        let of_slice = file.get("failedSlice").is_some();
        text(file, "state") != "imported" && (file.get("retryReason").is_some() || of_slice)
    };
    let is_stuck = files.into_iter().flatten().any(has_failed);
    sink.get("disabled").is_none() && (is_down || is_stuck)
}

async fn show(api: &ApiClient, args: &SourceShowArgs) -> Result<(), CliError> {
    let path = format!("{SOURCES}/{}", encoded(&args.id));
    let source = api.get(&path).await?;
    if args.url {
        return match url(&source) {
            Some(url) => terminal::line(url),
            None => Err(CliError::new(URL_HIDDEN).hint("use the token of an admin")),
        };
    }
    let sinks = api
        .list(&format!("{path}/sinks"), "sinks", "sinkId")
        .await?;
    if args.json {
        let mut all = source;
        all["sinks"] = Value::Array(sinks);
        return terminal::line(format_args!("{all:#}"));
    }
    terminal::line(format_args!(
        "source   {}  ({})",
        text(&source, "sourceId"),
        text(&source, "name")
    ))?;
    if !text(&source, "description").is_empty() {
        terminal::line(format_args!("         {}", text(&source, "description")))?;
    }
    terminal::line(format_args!(
        "post to  {}",
        url(&source).unwrap_or(URL_HIDDEN)
    ))?;
    for sink in &sinks {
        show_sink(api, &path, sink).await?;
    }
    Ok(())
}

async fn show_sink(api: &ApiClient, source: &str, sink: &Value) -> Result<(), CliError> {
    let id = text(sink, "sinkId");
    if sink.get("topic").is_some() {
        return show_topic(api, source, sink).await;
    }
    let table = sink
        .pointer("/table/tableId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    terminal::line(format_args!(
        "\nsink     {id}  ({}) into table {table}",
        text(sink, "name")
    ))?;
    let reconciliation = api
        .get(&format!("{source}/sinks/{id}/statistics/reconciliation"))
        .await?;
    let count = |name: &str| {
        reconciliation
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    };
    terminal::line(format_args!(
        "records  {} accepted, {} in the table, {} in flight",
        count("accepted"),
        count("imported"),
        count("inFlight")
    ))?;
    for (name, what) in [
        ("dead", "dead letters: forebay dead ls"),
        ("lost", "lost: see the server's log"),
    ] {
        if count(name) > 0 {
            terminal::line(format_args!("         {} {what}", count(name)))?;
        }
    }
    show_never_found(api, &format!("{source}/sinks/{id}")).await?;
    show_failed(api, &format!("{source}/sinks/{id}")).await?;
    let no_columns = json!([]);
    let columns = sink
        .pointer("/table/mapping/columns")
        .unwrap_or(&no_columns);
    let mut shown = crate::query::TextTable::new(&["column", "type", "from", "options"]);
    for column in columns.as_array().into_iter().flatten() {
        let is = |name: &str| column.get(name) == Some(&Value::Bool(true));
        let mut options = Vec::new();
        if is("primaryKey") {
            options.push("primary key".to_owned());
        }
        if let Some(text) = column.get("defaultValue") {
            options.push(format!("default {text}"));
        }
        let from = column
            .get("path")
            .or(column.pointer("/template/content"))
            .or(column.get("value"));
        let from = from.and_then(Value::as_str).unwrap_or_default();
        // In the syntax of the command line.
        let is_json = column.get("rawString") == Some(&Value::Bool(false));
        let json = if is_json { ",json" } else { "" };
        let kind = format!("{}{json}", text(column, "type"));
        let options = options.join(", ");
        shown.row(&[text(column, "name"), &kind, from, &options]);
    }
    terminal::data(shown)
}

/// Columns with the default in every record: most likely their paths are wrong.
async fn show_never_found(api: &ApiClient, sink: &str) -> Result<(), CliError> {
    let response = api.get(&format!("{sink}/statistics/columns")).await?;
    let records = response.get("records").and_then(Value::as_u64);
    let columns = response.get("columns").and_then(Value::as_array);
    for column in columns.into_iter().flatten() {
        if column.get("neverFound") == Some(&Value::Bool(true)) {
            terminal::line(format_args!(
                "warning  column {}: nothing at {} in any of {} records since {}",
                text(column, "name"),
                text(column, "path"),
                records.unwrap_or_default(),
                text(&response, "since")
            ))?;
        }
    }
    Ok(())
}

/// Failed imports with their errors.
async fn show_failed(api: &ApiClient, sink: &str) -> Result<(), CliError> {
    let response = api
        .get(&format!("{sink}/statistics/files?failedFiles=true"))
        .await?;
    let files = response.get("files").and_then(Value::as_array);
    for file in files.into_iter().flatten() {
        let parked = file.get("parked") == Some(&Value::Bool(true));
        let state = if parked { "parked" } else { "failed" };
        let next = match text(file, "retryAfter") {
            "" => String::new(),
            at => format!("; next attempt at {at}"),
        };
        terminal::line(format_args!(
            "{state}   file {}: {}{next}",
            text(file, "openedAt"),
            text(file, "retryReason")
        ))?;
    }
    Ok(())
}

async fn show_topic(api: &ApiClient, source: &str, sink: &Value) -> Result<(), CliError> {
    let id = text(sink, "sinkId");
    let topic = sink.get("topic").cloned().unwrap_or_default();
    terminal::line(format_args!(
        "\nsink     {id}  ({}) into {} topic {} of provider {}",
        text(sink, "name"),
        text(sink, "type"),
        text(&topic, "topic"),
        text(&topic, "provider")
    ))?;
    let path = format!("{source}/sinks/{id}/statistics/delivery");
    let delivery = api.get(&path).await?;
    let count = |name: &str| {
        let value = delivery.pointer(name).and_then(Value::as_u64);
        value.unwrap_or_default()
    };
    terminal::line(format_args!(
        "records  {} accepted, {} delivered, {} dead, {} waiting ({} bytes)",
        count("/accepted"),
        count("/delivered"),
        count("/dead"),
        count("/lag/records"),
        count("/lag/bytes")
    ))?;
    show_never_found(api, &format!("{source}/sinks/{id}")).await?;
    let provider = delivery.get("provider").cloned().unwrap_or_default();
    let why = sink.get("paused").map_or_else(
        || text(&provider, "error").to_owned(),
        |paused| text(paused, "reason").to_owned(),
    );
    let why = if why.is_empty() {
        why
    } else {
        format!(": {why}")
    };
    terminal::line(format_args!("state    {}{why}", text(&provider, "state")))?;
    let message = topic.get("message").cloned().unwrap_or_default();
    let mut shown = crate::query::TextTable::new(&["part", "type", "from"]);
    let mut row = |name: String, part: &Value| {
        let from = part
            .get("path")
            .or(part.pointer("/template/content"))
            .or(part.get("value"));
        let from = from.and_then(Value::as_str).unwrap_or_default();
        shown.row(&[&name, text(part, "type"), from]);
    };
    for name in ["key", "value"] {
        if let Some(part) = message.get(name) {
            row(name.to_owned(), part);
        }
    }
    for (list, before) in [("fields", "value."), ("headers", "header ")] {
        let parts = message.get(list).and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            row(format!("{before}{}", text(part, "name")), part);
        }
    }
    terminal::data(shown)
}

/// Shown instead of the address, which is a secret that allows sending.
pub(super) const URL_HIDDEN: &str = "the address of a source is only shown to tokens of admins";

pub(super) fn url(source: &Value) -> Option<&str> {
    source.pointer("/http/url").and_then(Value::as_str)
}

pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Percent-encodes an id for a path.
pub(super) fn encoded(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let byte = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    id.bytes().map(byte).collect()
}
