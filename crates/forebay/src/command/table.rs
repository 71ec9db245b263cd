//! `forebay table`: projects of tables.

use clap::{Subcommand, ValueEnum};
use forebay_api::sink::TableType;
use forebay_api::table::{
    OwnedTable, TableDetail, TableOwners, TableShare, TableTransfer, TableUnshare,
};
use reqwest::Method;
use serde::Serialize;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on, encoded};
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
                let table: TableDetail = api.get(&args.table.path("")).await?;
                match args.json {
                    true => terminal::json(&table),
                    false => show(&table),
                }
            })
        }
        TableCommand::Transfer(args) => {
            let body = TableTransfer {
                project_id: args.project,
                force: Some(args.force),
            };
            change(&args.server, env, &args.table.path("/transfer"), &body)
        }
        TableCommand::Share(args) => {
            let body = TableShare {
                project_id: args.project,
            };
            change(&args.server, env, &args.table.path("/share"), &body)
        }
        TableCommand::Unshare(args) => {
            let body = TableUnshare {
                project_id: args.project,
                force: Some(args.force),
            };
            change(&args.server, env, &args.table.path("/unshare"), &body)
        }
    }
}

impl TableArgs {
    fn path(&self, action: &str) -> String {
        let kind = match self.kind {
            TableTypeArg::Default => TableType::Keboola,
            TableTypeArg::Sqlite => TableType::Sqlite,
            TableTypeArg::Postgres => TableType::Postgres,
        };
        format!("{TABLES}/{kind}/{}{action}", encoded(&self.table))
    }
}

fn change(
    server: &ServerArgs,
    env: Environment,
    path: &str,
    body: &impl Serialize,
) -> Result<(), CliError> {
    let api = ApiClient::new(server, env)?;
    block_on(async { show(&api.call(Method::POST, path, body).await?) })
}

async fn list(api: &ApiClient, args: &TableListArgs) -> Result<(), CliError> {
    let path = match args.project {
        Some(project) => format!("{TABLES}?projectId={project}"),
        None => TABLES.to_owned(),
    };
    let tables = api.list::<TableOwners>(&path).await?;
    if args.json {
        return terminal::json(&tables);
    }
    let mut shown =
        crate::query::TextTable::new(&["table", "type", "project", "shared with", "filled"]);
    for table in &tables {
        shown.row(&[
            &table.table_id,
            &table.r#type.to_string(),
            &text(table.project_id),
            &shared(table),
            &text(table.filled_at),
        ]);
    }
    terminal::data(shown)
}

fn show(
    TableDetail {
        table,
        sinks,
        files,
    }: &TableDetail,
) -> Result<(), CliError> {
    let mut shown = crate::query::TextTable::new(&["", ""]);
    let state = match table.is_being_deleted {
        true => "being deleted with a source",
        false if table.was_there => "existed before Forebay; never dropped",
        false => "",
    };
    for (name, value) in [
        ("table", table.table_id.as_str()),
        ("type", &table.r#type.to_string()),
        ("project", &text(table.project_id)),
        ("shared with", &shared(table)),
        ("since", &table.since.to_string()),
        ("filled", &text(table.filled_at)),
        ("state", state),
        ("sinks", &sinks.join(", ")),
        ("files in flight", &files.to_string()),
    ] {
        if !value.is_empty() {
            shown.row(&[name, value]);
        }
    }
    terminal::data(shown)
}

fn shared(table: &OwnedTable) -> String {
    let projects = table.shared_with.iter().flatten();
    let projects: Vec<String> = projects.map(ToString::to_string).collect();
    projects.join(", ")
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}
