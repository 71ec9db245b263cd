//! `forebay source`: manages single sources.

mod lifecycle;
mod show;
mod verify;

use clap::Subcommand;
use forebay_api::aggregation::{AggregatedSink, AggregatedSource, AggregationResponse};
use forebay_api::source::{SourceList, SourceView};
use forebay_api::statistics::{FileStateName, FileView};
use reqwest::Method;

use super::common::ServerArgs;
use crate::api_client::{AGGREGATION, ApiClient, SOURCES, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{ColumnDefinition, SinkDefinition, SourceDefinition, parse_column};
use crate::terminal;
pub(super) use show::{URL_HIDDEN, url};

/// Most sinks of a source in a list.
const SINKS_SHOWN: usize = 10;

/// Creates, lists, shows, changes and deletes sources and their sinks.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    Create(SourceCreateArgs),
    #[command(visible_alias = "list")]
    Ls(SourceListArgs),
    Show(show::SourceShowArgs),
    Verify(verify::SourceVerifyArgs),
    /// Replaces the secret in the address of a source, and prints the new address
    ///
    /// Requests to the old address are rejected from now on.
    RotateSecret(lifecycle::SubjectArgs),
    /// Rejects the records of a source, or of one of its sinks
    ///
    /// Accepted records are still delivered.
    Disable(lifecycle::ReasonArgs),
    /// Accepts records of a disabled source or sink again
    Enable(lifecycle::SubjectArgs),
    /// Pauses the delivery of a topic sink
    ///
    /// Records are still accepted, and wait.
    #[command(after_help = "\
Example:
  forebay source pause my-events/orders --reason 'broker is being moved'")]
    Pause(lifecycle::ReasonArgs),
    /// Resumes the delivery of a paused topic sink
    Resume(lifecycle::SubjectArgs),
    /// Lists the versions of a source or sink
    Versions(lifecycle::SubjectArgs),
    /// Makes an earlier version of a source or sink its newest one
    ///
    /// Rejected for a version whose table belongs to another project now.
    Rollback(lifecycle::RollbackArgs),
    /// Deletes a source and its sinks, or one sink
    ///
    /// Accepted records are still loaded into the tables; the tables are not deleted. `undelete`
    /// restores the source or sink with its address.
    Delete(lifecycle::SubjectArgs),
    /// Restores a deleted source, with the sinks that were deleted with it, or a deleted sink
    Undelete(lifecycle::SubjectArgs),
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
            let api = ApiClient::new(args.server(), env)?;
            block_on(show::show(&api, &args))
        }
        SourceCommand::Verify(args) => {
            let api = ApiClient::new(args.server(), env)?;
            block_on(verify::verify(&api, args))
        }
        SourceCommand::RotateSecret(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(lifecycle::rotate_secret(&api, &args.of))
        }
        SourceCommand::Disable(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(lifecycle::change_with_reason(
                &api, &args, "disable", "disabled",
            ))
        }
        SourceCommand::Enable(args) => put(&args, env, "/enable", "enabled"),
        SourceCommand::Pause(args) => {
            args.of.expect_sink()?;
            let api = ApiClient::new(&args.server, env)?;
            block_on(lifecycle::change_with_reason(
                &api, &args, "pause", "paused",
            ))
        }
        SourceCommand::Resume(args) => {
            args.of.expect_sink()?;
            put(&args, env, "/resume", "resumed")
        }
        SourceCommand::Versions(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(lifecycle::versions(&api, &args.of))
        }
        SourceCommand::Rollback(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(lifecycle::rollback(&api, &args))
        }
        SourceCommand::Delete(args) => {
            let api = ApiClient::new(&args.server, env)?;
            let delete = (Method::DELETE, "");
            block_on(lifecycle::change(&api, &args.of, delete, "deleted"))
        }
        SourceCommand::Undelete(args) => put(&args, env, "/undelete", "restored"),
    }
}

fn put(
    args: &lifecycle::SubjectArgs,
    env: Environment,
    action: &str,
    done: &str,
) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    block_on(lifecycle::change(
        &api,
        &args.of,
        (Method::PUT, action),
        done,
    ))
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
