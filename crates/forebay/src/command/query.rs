//! `forebay query`: SQL on the tables.

use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::Path;

use forebay_model::words::counted;
use forebay_remote::table::sqlite::{self, QueryCell, QueryError, QueryVisitor};

use super::common::Place;
use crate::config::{Environment, TableDefault};
use crate::failure::Failure;
use crate::query::{Format, writer};
use crate::terminal;

/// Asks the tables of the embedded database with SQL; nothing can be changed.
///
/// Works beside a running server and without one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay query 'SELECT * FROM \"in.demo.events\" LIMIT 10' --data-dir ./data
  forebay query 'SELECT user, count(*) AS n FROM \"in.demo.events\" GROUP BY user' --format json
  forebay query \"SELECT name FROM sqlite_master WHERE type = 'table'\"")]
pub(crate) struct Args {
    /// One statement that reads; tables are called by their id, in double quotes
    sql: String,
    /// Form of the result
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Rows at most
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    #[command(flatten)]
    place: Place,
}

/// Runs it.
pub(crate) fn run(args: &Args, env: Environment) -> Result<(), Failure> {
    let loaded = args.place.load(env, Vec::new())?;
    let config = &loaded.config;
    let path = config.table.sqlite_path(&config.data_dir);
    let mut writer = writer(args.format, BufWriter::new(terminal::Output::stdout()));
    let answered = sqlite::query(&path, &args.sql, args.limit, &mut *writer);
    match answered {
        Ok(summary) => {
            writer.finish()?;
            if summary.truncated {
                let rows = counted(summary.rows, "row");
                terminal::note(format_args!("there are more than {rows}"));
            }
            Ok(())
        }
        Err(error) => {
            let failure = Failure::new(&error);
            Err(match hint(&error, &path, config.table.default) {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// What to do about it.
fn hint(error: &QueryError, path: &Path, default: TableDefault) -> Option<String> {
    match error {
        QueryError::NoDatabase(_) if default == TableDefault::Postgres => Some(
            "the tables of this configuration are in PostgreSQL: ask them there, with psql"
                .to_owned(),
        ),
        QueryError::NoDatabase(_) => {
            Some("is it the right directory? --data-dir names another one".to_owned())
        }
        QueryError::Statement(text) if text.contains("no such table") => {
            let names = tables(path);
            let list = if names.is_empty() {
                "there is none yet".to_owned()
            } else {
                names.join(", ")
            };
            Some(format!(
                "tables are called by their id in double quotes; there are: {list}"
            ))
        }
        QueryError::Statement(_) | QueryError::Database(_) => None,
    }
}

/// Names of the tables, quoted as SQL wants them.
fn tables(path: &Path) -> Vec<String> {
    struct Names(Vec<String>);
    impl QueryVisitor for Names {
        fn columns(&mut self, _: &[&str]) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
            if let Some(QueryCell::Text(name)) = cells.first() {
                self.0.push(format!("\"{name}\""));
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    let sql =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%.%.%' ORDER BY name";
    // It is only for a hint: without an answer there is none.
    drop(sqlite::query(path, sql, Some(20), &mut names));
    names.0
}
