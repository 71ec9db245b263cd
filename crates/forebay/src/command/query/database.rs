//! The databases of `forebay query`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use forebay_connect::table::postgres::PostgresTable;
use forebay_connect::table::query::{QueryCell, QueryError, QuerySummary, QueryVisitor};
use forebay_connect::table::sqlite;

use crate::cli_error::CliError;
use crate::config::{Config, TableDefault};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TargetName {
    /// The embedded database in the data directory
    Sqlite,
    /// The server of `table.postgres`
    Postgres,
}

/// A database that statements are sent to.
#[derive(Debug)]
pub(super) enum QueryDatabase {
    Sqlite {
        path: PathBuf,
        /// The tables of new sinks are in PostgreSQL.
        is_postgres_default: bool,
    },
    Postgres(Box<PostgresTable>),
}

/// Tables in hints.
const SHOWN: u64 = 20;

impl QueryDatabase {
    pub(super) fn open(config: &Config, target: Option<TargetName>) -> Result<Self, CliError> {
        let is_postgres_default = config.table.default == TableDefault::Postgres;
        let default = if is_postgres_default {
            TargetName::Postgres
        } else {
            TargetName::Sqlite
        };
        if target.unwrap_or(default) == TargetName::Sqlite {
            return Ok(Self::Sqlite {
                path: config.table.sqlite_path(&config.data_dir),
                is_postgres_default,
            });
        }
        let postgres = config.table.resolve_postgres().map_err(CliError::usage)?;
        let postgres = postgres.ok_or_else(|| {
            CliError::usage("no PostgreSQL server is configured")
                .hint("set table.postgres.url in the configuration file (--config)")
        })?;
        let table = PostgresTable::open(&postgres);
        let table = table.map_err(|e| CliError::usage(format_args!("table.postgres: {e}")))?;
        Ok(Self::Postgres(Box::new(table)))
    }

    /// Shown at the start of a session.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => path.display().to_string(),
            Self::Postgres(table) => table.display_name().to_owned(),
        }
    }

    pub(super) async fn query(
        &self,
        sql: &str,
        limit: Option<u64>,
        visitor: &mut dyn QueryVisitor,
    ) -> Result<QuerySummary, QueryError> {
        match self {
            Self::Sqlite { path, .. } => sqlite::query(path, sql, limit, visitor),
            Self::Postgres(table) => table.query(sql, limit, visitor).await,
        }
    }

    /// Statement that lists the tables, as they are written in statements.
    pub(super) fn tables_sql(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => {
                "SELECT '\"' || name || '\"' AS \"table\" FROM sqlite_master WHERE type = 'table' AND name LIKE '%.%.%' ORDER BY name"
            }
            Self::Postgres(_) => {
                "SELECT '\"' || table_schema || '\".\"' || table_name || '\"' AS \"table\"
                 FROM information_schema.tables WHERE table_schema ~ '^(in|out)[.]' ORDER BY 1"
            }
        }
    }

    /// Statement that lists the columns of a table.
    pub(super) fn schema_sql(&self, table: &str) -> String {
        // Both are quoted as texts.
        let text = |t: &str| format!("'{}'", t.replace('\'', "''"));
        match self {
            Self::Sqlite { .. } => {
                let table = text(table.trim_matches('"'));
                format!(
                    "SELECT name AS \"column\", type, pk > 0 AS \"key\" FROM pragma_table_info({table})"
                )
            }
            Self::Postgres(_) => {
                let plain = table.replace('"', "");
                let (schema, name) = plain.rsplit_once('.').unwrap_or(("public", &plain));
                format!(
                    "SELECT column_name AS \"column\", data_type AS type, is_nullable AS \"nullable\"
                     FROM information_schema.columns WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
                    text(schema),
                    text(name)
                )
            }
        }
    }

    /// Advice for an error.
    pub(super) async fn hint(&self, error: &QueryError, sql: &str) -> Option<String> {
        let QueryError::Statement(text) = error else {
            return self.elsewhere(error);
        };
        let is_missing = text.contains("no such table")
            || (text.contains("relation") && text.contains("does not exist"));
        let id = unquoted_id(sql);
        match self {
            Self::Sqlite { .. } => {
                if let Some(id) = id {
                    return Some(format!("put table ids in double quotes: \"{id}\""));
                }
            }
            Self::Postgres(_) => {
                let id = id.or_else(|| quoted_id(sql));
                if let Some((schema, name)) = id.as_deref().and_then(|id| id.rsplit_once('.')) {
                    return Some(format!(
                        "in PostgreSQL the table is \"{schema}\".\"{name}\""
                    ));
                }
            }
        }
        if !is_missing {
            return None;
        }
        let names = self.table_names().await;
        if names.is_empty() {
            return self.elsewhere(error);
        }
        let names = names.join(", ");
        Some(format!(
            "put table ids in double quotes; existing tables: {names}"
        ))
    }

    /// Advice when the tables are in the other database.
    fn elsewhere(&self, error: &QueryError) -> Option<String> {
        let is_elsewhere = matches!(
            self,
            Self::Sqlite {
                is_postgres_default: true,
                ..
            }
        ) && !matches!(error, QueryError::Database(_));
        is_elsewhere.then(|| {
            "the tables of this configuration are in PostgreSQL; --target postgres queries them"
                .to_owned()
        })
    }

    /// Names of the first tables, quoted for SQL.
    async fn table_names(&self) -> Vec<String> {
        struct TableNameCollector(Vec<String>);
        impl QueryVisitor for TableNameCollector {
            fn columns(&mut self, _: &[&str]) -> ControlFlow<()> {
                ControlFlow::Continue(())
            }

            fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
                if let Some(QueryCell::Text(name)) = cells.first() {
                    self.0.push((*name).to_owned());
                }
                ControlFlow::Continue(())
            }
        }
        let mut names = TableNameCollector(Vec::new());
        // Only for a hint: an error is ignored.
        drop(self.query(self.tables_sql(), Some(SHOWN), &mut names).await);
        names.0
    }
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

/// The first table id in double quotes.
fn quoted_id(sql: &str) -> Option<String> {
    let mut quoted = sql.split('"').skip(1).step_by(2);
    let id = quoted.find(|word| {
        let mut parts = word.split('.');
        let stage = parts.next().unwrap_or_default();
        matches!(stage, "in" | "out") && parts.filter(|p| !p.is_empty()).count() == 2
    });
    id.map(str::to_owned)
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
