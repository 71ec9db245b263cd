//! `forebay query`: SQL queries of the tables.

mod database;
mod pending;
mod print;
mod repl;

use forebay_connect::table::query::QueryError;
use forebay_model::HumanDuration;

use forebay_model::words::counted;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::{Config, Environment};
use crate::endpoints::Endpoints;
use crate::query::QueryFormat;
use database::{QueryDatabase, TargetName};
use print::{QueryFailure, print};

/// Runs a read-only SQL query on the embedded tables, or on those in PostgreSQL.
///
/// Works with and without a running server. Without a statement it reads statements from standard input,
/// on a terminal with line editing and a history; `.help` lists its commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay query 'SELECT * FROM \"in.demo.events\" LIMIT 10' --data-dir ./data
  forebay query 'SELECT user, count(*) AS n FROM \"in.demo.events\" GROUP BY user' --format json
  forebay query 'SELECT count(*) FROM \"in.demo.events\"' --wait
  forebay query --target postgres 'SELECT * FROM \"in.demo\".\"events\" LIMIT 10'
  forebay query                                     a prompt, with .tables and .schema")]
pub(crate) struct QueryArgs {
    /// One SELECT statement; put table ids in double quotes [default: statements from standard input]
    sql: Option<String>,
    /// Format of the result
    #[arg(long, value_enum, default_value = "table")]
    format: QueryFormat,
    /// Database [default: the one of `table.default`]
    #[arg(long, value_enum)]
    target: Option<TargetName>,
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
    let database = QueryDatabase::open(config, args.target)?;
    let Some(sql) = &args.sql else {
        return block_on(repl::run(&database, args.format, args.limit, &env));
    };
    if let Some(timeout) = args.wait {
        let api = ApiClient::new(&args.server, env.clone())?;
        block_on(pending::wait(&api, sql, timeout))?;
    }
    let answered = block_on(async { Ok(print(&database, sql, args.format, args.limit).await) })?;
    answered.map_err(|failure| match failure {
        QueryFailure::Output(failure) => failure,
        QueryFailure::Query(error) => {
            let hint = block_on(async { Ok(database.hint(&error, sql).await) });
            let hint = hint.ok().flatten();
            let failure = CliError::new(&error);
            match hint.or_else(|| pending_hint(&error, sql, args, config, env)) {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
    })
}

/// Advice for a missing table or database, from the running server.
fn pending_hint(
    error: &QueryError,
    sql: &str,
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
    let pending = api.and_then(|api| block_on(pending::lookup(&api, sql)).ok());
    let defined = pending
        .into_iter()
        .flatten()
        .find(|p| sql.contains(&p.table));
    Some(match defined {
        Some(p) if p.in_flight > 0 => format!(
            "\"{}\" is defined and has no rows yet; in flight: {}; --wait waits for them",
            p.table,
            counted(p.in_flight, "record")
        ),
        Some(p) => format!(
            "\"{}\" is defined and has no rows yet; --wait waits for records in flight",
            p.table
        ),
        None => other.to_owned(),
    })
}
