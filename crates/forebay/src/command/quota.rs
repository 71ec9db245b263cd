//! `forebay quota`: limits of projects and sources.

use clap::Subcommand;
use forebay_api::quota::{ProjectQuotaView, QuotaView};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::common::ServerArgs;
use crate::api_client::{ApiClient, SOURCES, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

/// Value that resets a limit to the server's configuration.
const DEFAULT: &str = "default";

/// Shows and sets the limits of projects and sources.
#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    Show(QuotaShowArgs),
    Set(QuotaSetArgs),
}

/// Shows the limits of a project.
#[derive(Debug, clap::Args)]
pub(crate) struct QuotaShowArgs {
    /// Number of the project; 1 is the server's own
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    project: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Sets limits of a project or a source; limits that are not given are not changed. They apply at once,
/// without a restart. A value is a number or a size, 0 for no limit, or "default" for the value of the
/// server's configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay quota set --project 7 --requests-per-second 500 --disk-bytes 10GB --data-dir ./data
  forebay quota set --project 7 --disk-bytes default --data-dir ./data
  forebay quota set --source events --bytes-per-second 5MB --data-dir ./data")]
pub(crate) struct QuotaSetArgs {
    /// Number of the project; 1 is the server's own
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    project: u64,
    /// One source of the token's project, instead of the whole project
    #[arg(long, value_name = "ID", conflicts_with = "project")]
    source: Option<String>,
    /// Requests per second
    #[arg(long, value_name = "NUMBER")]
    requests_per_second: Option<String>,
    /// Bytes of request bodies per second
    #[arg(long, value_name = "SIZE")]
    bytes_per_second: Option<String>,
    /// Open connections
    #[arg(long, value_name = "NUMBER", conflicts_with = "source")]
    connections: Option<String>,
    /// Bytes in the log and in staging
    #[arg(long, value_name = "SIZE", conflicts_with = "source")]
    disk_bytes: Option<String>,
    /// Requests per second of each source of the project without its own limit
    #[arg(long, value_name = "NUMBER", conflicts_with = "source")]
    source_requests_per_second: Option<String>,
    /// Bytes of request bodies per second of each source of the project without its own limit
    #[arg(long, value_name = "SIZE", conflicts_with = "source")]
    source_bytes_per_second: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: QuotaCommand, env: Environment) -> Result<(), CliError> {
    match command {
        QuotaCommand::Show(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                let quota: ProjectQuotaView = api.get(&path(args.project)).await?;
                match args.json {
                    true => terminal::json(&quota),
                    false => show(&quota),
                }
            })
        }
        QuotaCommand::Set(args) => {
            let changes = args.changes()?;
            if changes.is_empty() {
                return Err(CliError::usage("no limit is given"));
            }
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                match &args.source {
                    Some(source) => set_source(&api, source, changes).await,
                    None => set_project(&api, args.project, changes).await,
                }
            })
        }
    }
}

fn path(project: u64) -> String {
    format!("/v1/admin/quotas/{project}")
}

impl QuotaSetArgs {
    /// The given limits by their API names; null resets to the default.
    fn changes(&self) -> Result<Map<String, Value>, CliError> {
        let given = [
            ("requestsPerSecond", &self.requests_per_second, true),
            ("bytesPerSecond", &self.bytes_per_second, false),
            ("connections", &self.connections, true),
            ("diskBytes", &self.disk_bytes, false),
            (
                "sourceRequestsPerSecond",
                &self.source_requests_per_second,
                true,
            ),
            ("sourceBytesPerSecond", &self.source_bytes_per_second, false),
        ];
        let mut changes = Map::new();
        for (name, text, is_number) in given {
            let Some(text) = text else {
                continue;
            };
            let value = match text.as_str() {
                DEFAULT => Value::Null,
                text if is_number => json!(text.parse::<u64>().map_err(|_| {
                    CliError::usage(format_args!(
                        "{name} is \"{text}\", allowed is a whole number or \"{DEFAULT}\""
                    ))
                })?),
                text => json!(text),
            };
            changes.insert(name.to_owned(), value);
        }
        Ok(changes)
    }
}

async fn set_project(
    api: &ApiClient,
    project: u64,
    changes: Map<String, Value>,
) -> Result<(), CliError> {
    let path = path(project);
    let quota: ProjectQuotaView = api.get(&path).await?;
    let mut own = serde_json::to_value(quota.own).map_err(CliError::new)?;
    if let Some(own) = own.as_object_mut() {
        own.extend(changes);
        own.retain(|_, value| !value.is_null());
    }
    show(&api.call(Method::PUT, &path, &own).await?)
}

async fn set_source(
    api: &ApiClient,
    source: &str,
    changes: Map<String, Value>,
) -> Result<(), CliError> {
    let change = |(name, value)| json!({ "key": format!("source.quota.{name}"), "value": value });
    let settings: Vec<Value> = changes.into_iter().map(change).collect();
    let body = json!({ "changeDescription": "Quota.", "settings": settings });
    let path = format!("{SOURCES}/{source}/settings");
    api.run_task(Method::PATCH, &path, Some(&body)).await?;
    terminal::line(format_args!("quota of source {source} set"))
}

fn show(quota: &ProjectQuotaView) -> Result<(), CliError> {
    let mut table = crate::query::TextTable::new(&["limit", "value", "default"]);
    let json = |limits: &QuotaView| serde_json::to_value(limits).map_err(CliError::new);
    let (effective, default) = (json(&quota.effective)?, json(&quota.default)?);
    for (name, value) in effective.as_object().into_iter().flatten() {
        table.row(&[name, &text(value), &text(&default[name])]);
    }
    terminal::data(table)
}

/// Without quotes; zero is no limit.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) if text == "0B" => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) if n.as_u64() == Some(0) => "none".to_owned(),
        other => other.to_string(),
    }
}
