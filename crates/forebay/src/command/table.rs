//! `forebay table`: projects of tables.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

const TABLES: &str = "/v1/admin/tables";

/// Shows the project of a table, transfers the table, or shares it.
#[derive(Debug, Subcommand)]
pub(crate) enum TableCommand {
    #[command(visible_alias = "list")]
    Ls(TableListArgs),
    Show(TableShowArgs),
    Transfer(TableTransferArgs),
    Share(TableShareArgs),
    Unshare(TableUnshareArgs),
}

/// Type of a table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TableTypeArg {
    /// The server's default
    Default,
    /// The embedded database
    Sqlite,
    /// The configured PostgreSQL server
    Postgres,
}

#[derive(Debug, clap::Args)]
struct TableArgs {
    /// Id of the table, like in.shop.orders
    table: String,
    /// Type of the table
    #[arg(long = "type", value_enum, default_value = "default")]
    kind: TableTypeArg,
}

/// Lists tables and their projects.
#[derive(Debug, clap::Args)]
pub(crate) struct TableListArgs {
    /// Only tables that this project may fill
    #[arg(long, value_name = "NUMBER")]
    project: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Shows the project of a table, and the sinks that fill it.
#[derive(Debug, clap::Args)]
pub(crate) struct TableShowArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Transfers a table to a project, also one that existed before Forebay and has no project.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay table transfer in.shop.orders --project 2 --data-dir ./data")]
pub(crate) struct TableTransferArgs {
    #[command(flatten)]
    table: TableArgs,
    /// New project of the table
    #[arg(long, value_name = "NUMBER")]
    project: u64,
    /// Also if a previous project still fills it: its records in flight are not imported
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Shares a table with another project, which may fill it but not drop it.
#[derive(Debug, clap::Args)]
pub(crate) struct TableShareArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Project to share with
    #[arg(long, value_name = "NUMBER")]
    project: u64,
    #[command(flatten)]
    server: ServerArgs,
}

/// Stops sharing a table with a project.
#[derive(Debug, clap::Args)]
pub(crate) struct TableUnshareArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Project to stop sharing with
    #[arg(long, value_name = "NUMBER")]
    project: u64,
    /// Also if it still fills the table: its records in flight are not imported
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: TableCommand, env: Environment) -> Result<(), CliError> {
    match command {
        TableCommand::Ls(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list(&api, &args))
        }
        TableCommand::Show(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                let table = api.get(&args.table.path("")).await?;
                match args.json {
                    true => terminal::line(format_args!("{table:#}")),
                    false => show(&table),
                }
            })
        }
        TableCommand::Transfer(args) => {
            let body = json!({ "projectId": args.project, "force": args.force });
            change(&args.server, env, &args.table.path("/transfer"), &body)
        }
        TableCommand::Share(args) => {
            let body = json!({ "projectId": args.project });
            change(&args.server, env, &args.table.path("/share"), &body)
        }
        TableCommand::Unshare(args) => {
            let body = json!({ "projectId": args.project, "force": args.force });
            change(&args.server, env, &args.table.path("/unshare"), &body)
        }
    }
}

impl TableArgs {
    fn path(&self, action: &str) -> String {
        let kind = match self.kind {
            TableTypeArg::Default => "keboola",
            TableTypeArg::Sqlite => "sqlite",
            TableTypeArg::Postgres => "postgres",
        };
        format!("{TABLES}/{kind}/{}{action}", escaped(&self.table))
    }
}

fn change(server: &ServerArgs, env: Environment, path: &str, body: &Value) -> Result<(), CliError> {
    let api = ApiClient::new(server, env)?;
    block_on(async { show(&api.call(Method::POST, path, Some(body)).await?) })
}

async fn list(api: &ApiClient, args: &TableListArgs) -> Result<(), CliError> {
    let path = match args.project {
        Some(project) => format!("{TABLES}?projectId={project}"),
        None => TABLES.to_owned(),
    };
    let mut tables = Vec::new();
    loop {
        let last = tables.last().map(|t| escaped(text(t, "id")));
        let join = if path.contains('?') { '&' } else { '?' };
        let page = format!("{path}{join}limit=100&afterId={}", last.unwrap_or_default());
        let page = api.get(&page).await?;
        let found = page.get("tables").and_then(Value::as_array).cloned();
        let found = found.unwrap_or_default();
        if found.is_empty() {
            break;
        }
        tables.extend(found);
    }
    if args.json {
        return terminal::line(format_args!("{:#}", Value::Array(tables)));
    }
    let mut shown =
        crate::query::TextTable::new(&["table", "type", "project", "shared with", "filled"]);
    for table in &tables {
        shown.row(&[
            text(table, "tableId"),
            text(table, "type"),
            &number(table, "projectId"),
            &shared(table),
            text(table, "filledAt"),
        ]);
    }
    terminal::data(shown)
}

fn show(table: &Value) -> Result<(), CliError> {
    let mut shown = crate::query::TextTable::new(&["", ""]);
    let state = match table["isBeingDeleted"] == true {
        true => "being deleted with a source",
        false if table["wasThere"] == true => "existed before Forebay; never dropped",
        false => "",
    };
    let sinks: Vec<&str> = table["sinks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, value) in [
        ("table", text(table, "tableId")),
        ("type", text(table, "type")),
        ("project", &number(table, "projectId")),
        ("shared with", &shared(table)),
        ("since", text(table, "since")),
        ("filled", text(table, "filledAt")),
        ("state", state),
        ("sinks", &sinks.join(", ")),
        ("files in flight", &number(table, "files")),
    ] {
        if !value.is_empty() {
            shown.row(&[name, value]);
        }
    }
    terminal::data(shown)
}

fn shared(table: &Value) -> String {
    let projects = table["sharedWith"].as_array().into_iter().flatten();
    let projects: Vec<String> = projects.map(ToString::to_string).collect();
    projects.join(", ")
}

fn number(value: &Value, name: &str) -> String {
    value.get(name).map(ToString::to_string).unwrap_or_default()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Percent-encodes an id for a path.
fn escaped(id: &str) -> String {
    let mut path = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    path
}
