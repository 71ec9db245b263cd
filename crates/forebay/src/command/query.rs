//! `forebay query`: SQL queries of the tables.

mod pending;

use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::Path;

use forebay_connect::table::sqlite::{self, QueryCell, QueryError, QueryVisitor};
use forebay_model::HumanDuration;
use forebay_model::words::counted;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::{Config, Environment, TableDefault};
use crate::endpoints::Endpoints;
use crate::query::{QueryFormat, writer};
use crate::terminal;

/// Runs a read-only SQL query on the embedded tables.
///
/// Works with and without a running server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay query 'SELECT * FROM \"in.demo.events\" LIMIT 10' --data-dir ./data
  forebay query 'SELECT user, count(*) AS n FROM \"in.demo.events\" GROUP BY user' --format json
  forebay query 'SELECT count(*) FROM \"in.demo.events\"' --wait
  forebay query \"SELECT name FROM sqlite_master WHERE type = 'table'\"")]
pub(crate) struct QueryArgs {
    /// One SELECT statement; put table ids in double quotes
    sql: String,
    /// Format of the result
    #[arg(long, value_enum, default_value = "table")]
    format: QueryFormat,
    /// Maximum number of rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// First wait until all records accepted by the running server are in the tables of the statement,
    /// at most this long [default with --wait: 1m]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    wait: Option<HumanDuration>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &QueryArgs, env: Environment) -> Result<(), CliError> {
    let loaded = args.server.place.load(env.clone(), Vec::new())?;
    let config = &loaded.config;
    if let Some(timeout) = args.wait {
        let api = ApiClient::new(&args.server, env.clone())?;
        block_on(pending::wait(&api, &args.sql, timeout))?;
    }
    let path = config.table.sqlite_path(&config.data_dir);
    let mut writer = writer(
        args.format,
        BufWriter::new(terminal::StdoutWriter::stdout()),
    );
    let answered = sqlite::query(&path, &args.sql, args.limit, &mut *writer);
    match answered {
        Ok(summary) => {
            writer.finish()?;
            if summary.truncated {
                let rows = counted(summary.rows, "row");
                terminal::note(format_args!(
                    "only the first {rows} shown; --limit shows more"
                ));
            }
            Ok(())
        }
        Err(error) => {
            let failure = CliError::new(&error);
            let hint = hint(&error, &path, args, config);
            Err(
                match hint.or_else(|| pending_hint(&error, args, config, env)) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                },
            )
        }
    }
}

/// Advice for an error.
fn hint(error: &QueryError, path: &Path, args: &QueryArgs, config: &Config) -> Option<String> {
    let in_postgres = config.table.default == TableDefault::Postgres;
    let psql = || "the tables of this configuration are in PostgreSQL; query them with psql";
    match error {
        QueryError::NoDatabase(_) if in_postgres => Some(psql().to_owned()),
        QueryError::Statement(text) => {
            if let Some(id) = unquoted_id(&args.sql) {
                return Some(format!("put table ids in double quotes: \"{id}\""));
            }
            if !text.contains("no such table") {
                return None;
            }
            if in_postgres {
                return Some(psql().to_owned());
            }
            let names = table_names(path);
            let names = (!names.is_empty()).then(|| names.join(", "));
            names.map(|names| format!("put table ids in double quotes; existing tables: {names}"))
        }
        QueryError::NoDatabase(_) | QueryError::Database(_) => None,
    }
}

/// Advice for a missing table or database, from the running server.
fn pending_hint(
    error: &QueryError,
    args: &QueryArgs,
    config: &Config,
    env: Environment,
) -> Option<String> {
    let other = match error {
        QueryError::NoDatabase(_) => "is it the right directory? --data-dir sets another one",
        QueryError::Statement(text) if text.contains("no such table") => {
            "no tables exist yet: the first import creates a table"
        }
        _ => return None,
    };
    let runs = Endpoints::find(&config.data_dir).ok().flatten().is_some();
    let api = runs
        .then(|| ApiClient::new(&args.server, env))
        .and_then(Result::ok);
    let pending = api.and_then(|api| block_on(pending::lookup(&api, &args.sql)).ok());
    let defined = pending
        .into_iter()
        .flatten()
        .find(|p| args.sql.contains(&p.table));
    Some(match defined {
        Some(p) if p.in_flight > 0 => format!(
            "\"{}\" is defined and has no rows yet; {} records are in flight; --wait waits for them",
            p.table, p.in_flight
        ),
        Some(p) => format!(
            "\"{}\" is defined and has no rows yet; --wait waits for records in flight",
            p.table
        ),
        None => other.to_owned(),
    })
}

/// The first unquoted table id of a statement: `in.bucket.table`.
fn unquoted_id(sql: &str) -> Option<String> {
    let mut plain = String::with_capacity(sql.len());
    let mut quote = None;
    for c in sql.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == '[' => quote = Some(']'),
            None => plain.push(c),
        }
        if quote.is_some() {
            plain.push(' ');
        }
    }
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut words = plain.split(|c| !is_part(c));
    let word = words.find(|word| {
        let parts: Vec<&str> = word.split('.').collect();
        matches!(parts.as_slice(), [stage, bucket, table, ..]
            if matches!(stage.to_ascii_lowercase().as_str(), "in" | "out") && !bucket.is_empty() && !table.is_empty())
    });
    word.map(str::to_owned)
}

/// Names of the tables, quoted for SQL.
fn table_names(path: &Path) -> Vec<String> {
    struct TableNameCollector(Vec<String>);
    impl QueryVisitor for TableNameCollector {
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
    let mut names = TableNameCollector(Vec::new());
    let sql =
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%.%.%' ORDER BY name";
    // Only for a hint: an error is ignored.
    drop(sqlite::query(path, sql, Some(20), &mut names));
    names.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ids_outside_of_quotes_are_found() {
        for (sql, id) in [
            ("SELECT * FROM in.demo.events", Some("in.demo.events")),
            (
                "select count(*) from OUT.c-main.t-1;",
                Some("OUT.c-main.t-1"),
            ),
            ("SELECT * FROM (in.a.b)", Some("in.a.b")),
            ("SELECT * FROM \"in.demo.events\"", None),
            ("SELECT 'in.a.b', [in.a.b], `in.a.b`", None),
            ("SELECT a.b.c FROM t WHERE x IN (1)", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(unquoted_id(sql).as_deref(), id, "{sql}");
        }
    }
}
