//! `table`: table backends.

use std::path::{Path, PathBuf};

use forebay_connect::table::postgres::{PostgresConfig, SslMode};
use forebay_connect::table::sqlite::SqliteConfig;
use forebay_model::HumanDuration;
use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::RangeViolations;
use super::staging::read_pem;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TableDefault {
    Sqlite,
    Postgres,
}

/// Table backends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TableSection {
    /// Backend of sinks that select none (type `keboola` in the API): `sqlite` or `postgres`.
    pub(crate) default: TableDefault,
    pub(crate) sqlite: SqliteSection,
    pub(crate) postgres: PostgresSection,
}

/// The embedded database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SqliteSection {
    /// The database file. Default: `tables.db` in the data directory.
    pub(crate) path: Option<PathBuf>,
    /// How long to wait for a lock of another process. 0 to 10m.
    pub(crate) busy_timeout: HumanDuration,
}

/// TLS requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PostgresSslMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it.
    Prefer,
    /// TLS or no connection.
    Require,
    /// TLS with a verified certificate.
    VerifyFull,
}

/// A PostgreSQL server. It is used if `url` is set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PostgresSection {
    /// Address: `postgres://user@host:5432/database?sslmode=verify-full`.
    pub(crate) url: Option<SecretText>,
    /// Password, instead of one in the URL: `${POSTGRES_PASSWORD}` or `${file:/run/secrets/pg}`.
    pub(crate) password: Option<SecretText>,
    /// TLS, instead of `sslmode` in the URL: `disable`, `prefer`, `require` or `verify-full`.
    pub(crate) ssl_mode: Option<PostgresSslMode>,
    /// File with additional CA certificates (PEM).
    pub(crate) ca_file: Option<PathBuf>,
    /// Connections in the pool. 1 to 64.
    pub(crate) pool_size: u32,
    /// Timeout of a connection attempt. 100ms to 5m.
    pub(crate) connect_timeout: HumanDuration,
    /// Timeout of a statement other than an import. 1s to 10m.
    pub(crate) statement_timeout: HumanDuration,
    /// Timeout of the statements of an import. 1s to 2h.
    pub(crate) import_timeout: HumanDuration,
    /// Schema of the import ledger.
    pub(crate) ledger_schema: String,
}

impl Default for TableSection {
    fn default() -> Self {
        Self {
            default: TableDefault::Sqlite,
            sqlite: SqliteSection::default(),
            postgres: PostgresSection::default(),
        }
    }
}

impl Default for SqliteSection {
    fn default() -> Self {
        Self {
            path: None,
            busy_timeout: HumanDuration(SqliteConfig::new("").busy_timeout),
        }
    }
}

impl Default for PostgresSection {
    fn default() -> Self {
        let postgres = PostgresConfig::new("");
        Self {
            url: None,
            password: None,
            ssl_mode: None,
            ca_file: None,
            pool_size: u32::try_from(postgres.pool_size).unwrap_or(u32::MAX),
            connect_timeout: HumanDuration(postgres.connect_timeout),
            statement_timeout: HumanDuration(postgres.statement_timeout),
            import_timeout: HumanDuration(postgres.import_timeout),
            ledger_schema: postgres.ledger_schema,
        }
    }
}

impl TableSection {
    pub(crate) fn sqlite_path(&self, data_dir: &Path) -> PathBuf {
        let made = || data_dir.join("tables.db");
        self.sqlite.path.clone().unwrap_or_else(made)
    }

    pub(crate) fn resolve_sqlite(&self, data_dir: &Path) -> SqliteConfig {
        let mut sqlite = SqliteConfig::new(self.sqlite_path(data_dir));
        sqlite.busy_timeout = self.sqlite.busy_timeout.0;
        sqlite
    }

    /// The PostgreSQL server, if configured.
    pub(crate) fn resolve_postgres(&self) -> Result<Option<PostgresConfig>, String> {
        let own = &self.postgres;
        let Some(url) = &own.url else {
            return Ok(None);
        };
        let mut postgres = PostgresConfig::new(url.expose());
        postgres.password = own.password.as_ref().map(|p| p.inner().clone());
        postgres.ssl_mode = own.ssl_mode.map(|mode| match mode {
            PostgresSslMode::Disable => SslMode::Disable,
            PostgresSslMode::Prefer => SslMode::Prefer,
            PostgresSslMode::Require => SslMode::Require,
            PostgresSslMode::VerifyFull => SslMode::VerifyFull,
        });
        postgres.pool_size = own.pool_size as usize;
        postgres.connect_timeout = own.connect_timeout.0;
        postgres.statement_timeout = own.statement_timeout.0;
        postgres.import_timeout = own.import_timeout.0;
        postgres.ledger_schema = own.ledger_schema.clone();
        if let Some(file) = &own.ca_file {
            postgres.ca_pem = Some(read_pem("table.postgres.caFile", file)?);
        }
        Ok(Some(postgres))
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let mut ranges = RangeViolations::default();
        ranges.check(
            "sqlite.busyTimeout",
            self.sqlite.busy_timeout,
            HumanDuration::default(),
            HumanDuration::mins(10),
        );
        let own = &self.postgres;
        if self.default == TableDefault::Postgres && own.url.is_none() {
            ranges.add_violation("default is postgres, but table.postgres.url is not set");
        }
        let second = HumanDuration::secs(1);
        ranges.check("postgres.poolSize", own.pool_size, 1, 64);
        ranges.check(
            "postgres.connectTimeout",
            own.connect_timeout,
            HumanDuration::millis(100),
            HumanDuration::mins(5),
        );
        ranges.check(
            "postgres.statementTimeout",
            own.statement_timeout,
            second,
            HumanDuration::mins(10),
        );
        ranges.check(
            "postgres.importTimeout",
            own.import_timeout,
            second,
            HumanDuration::hours(2),
        );
        let schema = &own.ledger_schema;
        let fits = |c: char| c != '\0' && !c.is_control();
        if schema.is_empty() || schema.len() > 63 || !schema.chars().all(fits) {
            ranges.add_violation(&format!(
                "postgres.ledgerSchema is {schema:?}, allowed are 1 to 63 bytes without control characters"
            ));
        }
        ranges.violations
    }
}
