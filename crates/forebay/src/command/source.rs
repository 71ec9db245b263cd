//! `forebay source`: manages single sources.

mod show;
mod verify;

use clap::Subcommand;
use forebay_api::aggregation::{AggregatedSink, AggregatedSource, AggregationResponse};
use forebay_api::source::{SourceList, SourceView};
use forebay_api::statistics::{FileStateName, FileView};
use reqwest::Method;

use super::common::ServerArgs;
use crate::api_client::{AGGREGATION, ApiClient, SOURCES, block_on, encoded};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{ColumnDefinition, SinkDefinition, SourceDefinition, parse_column};
use crate::terminal;

/// Most sinks of a source in a list.
const SINKS_SHOWN: usize = 10;

/// Creates, lists, shows and deletes sources.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    Create(SourceCreateArgs),
    #[command(visible_alias = "list")]
    Ls(SourceListArgs),
    Show(SourceShowArgs),
    Verify(verify::SourceVerifyArgs),
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
  price=path,as=double:price  a column of numbers instead of text
  options: key (part of the primary key), json (strings with their JSON quotes),
           default=TEXT or default=\"TEXT, with: anything\" (path),
           as=integer, double, boolean, timestamp or json: type of the column; a
           record with another value is rejected. unit=s, ms, us or ns: of times
           that are numbers

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
            block_on(show::show(&api, &args))
        }
        SourceCommand::Verify(args) => {
            let api = ApiClient::new(args.server(), env)?;
            block_on(verify::verify(&api, args))
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
        ..SourceDefinition::default()
    };
    let id = source.source_id()?;
    let path = format!("{SOURCES}/{id}");
    api.run_task(Method::POST, SOURCES, Some(&source.request(&id)))
        .await?;
    if let Some(table) = args.sink {
        let sink = SinkDefinition {
            table: Some(table),
            backend: args.backend,
            columns: args.column,
            ..SinkDefinition::default()
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
    let made: SourceView = api.get(&path).await?;
    terminal::line(format_args!("source {id} created"))?;
    terminal::line(format_args!("post to {}", url(&made).unwrap_or(URL_HIDDEN)))
}

async fn list(api: &ApiClient, json: bool) -> Result<(), CliError> {
    if json {
        return terminal::json(&api.list::<SourceList>(SOURCES).await?);
    }
    let sources = api.list::<AggregationResponse>(AGGREGATION).await?;
    if sources.is_empty() {
        terminal::note("no sources yet; `forebay source create` or `forebay apply` creates one");
    }
    let mut table = crate::query::TextTable::new(&["id", "name", "sinks", "state"]);
    for AggregatedSource {
        source,
        sinks_total: total,
        sinks,
    } in &sources
    {
        let failing = sinks.iter().filter(|s| is_failing(s)).count();
        let state = match failing {
            _ if source.disabled.is_some() => "disabled".to_owned(),
            0 => "active".to_owned(),
            1 if sinks.len() == 1 => "failing".to_owned(),
            some => format!("{some} of {total} sinks failing"),
        };
        let shown = sinks.iter().take(SINKS_SHOWN);
        let shown: Vec<&str> = shown.map(|s| s.sink.sink_id.as_str()).collect();
        let mut names = shown.join(", ");
        if *total > shown.len() {
            names.push_str(&format!(" and {} more", total - shown.len()));
        }
        table.row(&[&source.source_id, &source.name, &names, &state]);
    }
    terminal::data(table)
}

/// Whether delivery fails: the provider of its topic is down, or a step of one of its files is being
/// retried.
fn is_failing(AggregatedSink { sink, statistics }: &AggregatedSink) -> bool {
    let provider = statistics.provider.as_ref();
    let is_down = provider.is_some_and(|p| p.error.is_some());
    let has_failed = |file: &FileView| {
        let is_retried = file.retry_reason.is_some() || file.failed_slice.is_some();
        file.state != FileStateName::Imported && is_retried
    };
    sink.disabled.is_none() && (is_down || statistics.files.iter().any(has_failed))
}

/// Shown instead of the address, which is a secret that allows sending.
pub(super) const URL_HIDDEN: &str = "the address of a source is only shown to tokens of admins";

pub(super) fn url(source: &SourceView) -> Option<&str> {
    source.http.as_ref().map(|http| http.url.as_str())
}
