//! PostgreSQL: the conformance suite of backends, and tests of PostgreSQL's own behavior, on a real
//! server.
//!
//! Without `FOREBAY_TEST_POSTGRES_URL` these tests are skipped with a notice.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forebay_connect::keyed::CellValue;
use forebay_connect::table::conformance::{self, Bench, import, mapping, rows};
use forebay_connect::table::postgres::{PostgresConfig, PostgresTable, SslMode};
use forebay_connect::table::{Table, TableError};
use forebay_model::{DataType, TableId, TimestampMicros};
use forebay_test_support::cut_proxy::{Cut, Proxy};
use forebay_test_support::services::{self, PostgresService};

struct Postgres {
    table: PostgresTable,
    client: tokio_postgres::Client,
    run: String,
    number: AtomicU32,
}

impl Postgres {
    async fn new(service: &PostgresService) -> Self {
        Self::with(service, |_| {}).await
    }

    /// With its own ledger and bucket, as tests run concurrently on one server.
    async fn with(service: &PostgresService, change: impl FnOnce(&mut PostgresConfig)) -> Self {
        let tls = tokio_postgres::NoTls;
        let (client, connection) = tokio_postgres::connect(&service.url, tls).await.unwrap();
        tokio::spawn(connection);
        let run = unique();
        let mut config = PostgresConfig::new(service.url.as_str());
        config.ledger_schema = format!("ledger {run}");
        change(&mut config);
        Self {
            table: PostgresTable::open(&config).unwrap(),
            client,
            run,
            number: AtomicU32::new(0),
        }
    }
}

/// Host and port of the server.
fn address(service: &PostgresService) -> SocketAddr {
    let (_, rest) = service.url.split_once('@').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The URL with another host, port, user or database.
fn url(service: &PostgresService, user: &str, at: SocketAddr, database: &str) -> String {
    assert!(service.url.starts_with("postgres://"));
    format!("postgres://{user}@{at}/{database}")
}

fn terminal<T: std::fmt::Debug>(result: Result<T, TableError>, words: &[&str]) {
    match result {
        Err(TableError::Terminal(text)) => {
            assert!(words.iter().all(|w| text.contains(w)), "{words:?}: {text}");
        }
        other => panic!("expected a terminal error with {words:?}: {other:?}"),
    }
}

fn retryable<T: std::fmt::Debug>(result: Result<T, TableError>, words: &[&str]) {
    match result {
        Err(TableError::Retryable(text)) => {
            assert!(words.iter().all(|w| text.contains(w)), "{words:?}: {text}");
        }
        other => panic!("expected a retryable error with {words:?}: {other:?}"),
    }
}

/// Differs between tests and runs.
fn unique() -> String {
    let dir = tempfile::tempdir().unwrap();
    let name = dir
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    name.trim_start_matches('.').to_owned()
}

#[async_trait]
impl Bench for Postgres {
    fn table(&self) -> &dyn Table {
        &self.table
    }

    fn fresh_table(&self) -> TableId {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("in.c-{} \"q\".t-{number}", self.run)
            .parse()
            .unwrap()
    }

    fn sql_name(&self, table: &TableId) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("{}.{}", quote(&table.bucket_id()), quote(table.table()))
    }

    async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn column(&self, sql: &str) -> Vec<Option<String>> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn values(
        &self,
        table: &TableId,
        column: &str,
        order: &str,
        data_type: DataType,
    ) -> Vec<CellValue> {
        let (name, column) = (self.sql_name(table), format!("\"{column}\""));
        // The type has to be that of the column: a function of another type fails.
        let read = match data_type {
            DataType::Timestamp => {
                format!("(extract(epoch FROM {column}) * 1000000)::int8, pg_typeof({column})::text")
            }
            DataType::Json => format!("{column}::text, pg_typeof({column})::text"),
            _ => format!("{column}, pg_typeof({column})::text"),
        };
        let sql = format!("SELECT {read} FROM {name} ORDER BY \"{order}\"");
        let rows = self.client.query(&sql, &[]).await.unwrap();
        let value = |row: &tokio_postgres::Row| {
            let time = |micros| TimestampMicros::from_micros(micros).unwrap();
            let value = match data_type {
                DataType::Text => row.get::<_, Option<String>>(0).map(CellValue::Text),
                DataType::Json => row.get::<_, Option<String>>(0).map(CellValue::Json),
                DataType::Integer => row.get::<_, Option<i64>>(0).map(CellValue::Integer),
                DataType::Double => row.get::<_, Option<f64>>(0).map(CellValue::Double),
                DataType::Boolean => row.get::<_, Option<bool>>(0).map(CellValue::Boolean),
                DataType::Timestamp => row
                    .get::<_, Option<i64>>(0)
                    .map(|micros| CellValue::Timestamp(time(micros))),
            };
            if let DataType::Timestamp | DataType::Json = data_type {
                let of = row.get::<_, String>(1);
                assert!(["timestamp with time zone", "json"].contains(&of.as_str()));
            }
            value.unwrap_or(CellValue::Null)
        };
        rows.iter().map(value).collect()
    }

    fn before_create(&self, table: &TableId) -> String {
        let schema = table.bucket_id().replace('"', "\"\"");
        format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_suite() {
    let Some(service) = services::postgres("the conformance suite on PostgreSQL") else {
        return;
    };
    conformance::run(&Postgres::new(&service).await).await;
}

/// A schema is deleted with its last table, unless another user created it or uses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_deleted_with_its_last_table() {
    let Some(service) = services::postgres("the schemas of deleted tables") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let (one, two) = (bench.fresh_table(), bench.fresh_table());
    let exists = async || {
        let name = one.bucket_id().replace('\'', "''");
        let sql = format!("SELECT nspname::text FROM pg_namespace WHERE nspname = '{name}'");
        !bench.column(&sql).await.is_empty()
    };
    let columns = mapping(&["a"]);
    bench.table.prepare(&one, &columns).await.unwrap();
    bench.table.prepare(&two, &columns).await.unwrap();
    bench.table.delete(&one).await.unwrap();
    assert!(exists().await, "it has another table");
    bench.table.delete(&two).await.unwrap();
    assert!(!exists().await);
    bench.table.delete(&two).await.unwrap();
    bench.execute(&bench.before_create(&one)).await;
    bench.table.prepare(&one, &columns).await.unwrap();
    bench.table.delete(&one).await.unwrap();
    assert!(exists().await, "it was created by another user");
    let name = one.bucket_id().replace('"', "\"\"");
    bench.execute(&format!("DROP SCHEMA \"{name}\"")).await;
    bench.table.prepare(&one, &columns).await.unwrap();
    bench
        .execute(&format!("CREATE TYPE \"{name}\".own AS (n int)"))
        .await;
    bench.table.delete(&one).await.unwrap();
    assert!(exists().await, "it has another user's object");
    // A deleted schema is created again with the next table.
    bench.table.prepare(&one, &columns).await.unwrap();
}

/// The connection is cut during the commit, so the client doesn't know whether it succeeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_around_the_commit() {
    let Some(service) = services::postgres("cut connections to PostgreSQL") else {
        return;
    };
    let proxy = Proxy::start("127.0.0.1", address(&service)).await.unwrap();
    let through = url(&service, "forebay", proxy.address(), "postgres");
    let bench = Postgres::with(&service, |config| {
        config.url = through.into();
        // The proxy must see the statements.
        config.ssl_mode = Some(SslMode::Disable);
    })
    .await;
    let all = [vec!["1", "a"], vec!["2", "needle"]];
    for columns in [["id", "body"], ["id*", "body"]] {
        let (table, mapping) = (bench.fresh_table(), mapping(&columns));
        let count = || async {
            let sql = format!("SELECT count(*)::text FROM {}", bench.sql_name(&table));
            bench.column(&sql).await
        };
        bench.table.prepare(&table, &mapping).await.unwrap();
        for (number, cut, is_done) in [
            (1, Cut::Before(b"needle".to_vec()), false),
            (2, Cut::AfterAnswerTo(b"needle".to_vec()), false),
            (3, Cut::Before(b"COMMIT\0".to_vec()), false),
            (4, Cut::AfterAnswerTo(b"COMMIT\0".to_vec()), true),
        ] {
            let import = import(&table, number, &mapping);
            let before = count().await;
            proxy.arm(cut.clone());
            retryable(
                bench.table.import(&import, rows(&all)).await,
                &["can't import into table"],
            );
            assert!(!proxy.is_armed(), "{cut:?}");
            let recorded = bench.table.imported(&import.id).await.unwrap();
            assert_eq!(recorded, is_done.then_some(2), "{cut:?}");
            assert_eq!(
                count().await == before,
                !is_done || columns[0] == "id*",
                "{cut:?}"
            );
            let again = bench.table.import(&import, rows(&all)).await.unwrap();
            assert_eq!((again.rows, again.already_done), (2, is_done), "{cut:?}");
            let expected = if columns[0] == "id" { number * 2 } else { 2 };
            assert_eq!(count().await, [Some(expected.to_string())], "{cut:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_are_replaced() {
    let Some(service) = services::postgres("dead connections to PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let name = format!("forebay {}", bench.run);
    let named = format!(
        "{}?application_name={}",
        service.url,
        name.replace(' ', "%20")
    );
    let table = PostgresTable::open(&PostgresConfig::new(named)).unwrap();
    table.check().await.unwrap();
    let own = format!("pid FROM pg_stat_activity WHERE application_name = '{name}'");
    for _ in 0..3 {
        let killed = bench
            .column(&format!(
                "SELECT pg_terminate_backend(pid, 5000)::text, {own}"
            ))
            .await;
        assert_eq!(killed.len(), 1);
        table.check().await.unwrap();
    }
    // The number of connections never exceeds the pool size.
    let calls = (0..30).map(|_| table.imported("x"));
    for result in futures::future::join_all(calls).await {
        assert_eq!(result, Ok(None));
    }
    let open = bench
        .column(&format!("SELECT pid::text, {own}"))
        .await
        .len();
    assert!((1..=4).contains(&open), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_lock_is_limited() {
    let Some(service) = services::postgres("locked tables in PostgreSQL") else {
        return;
    };
    let bench = Postgres::with(&service, |config| {
        config.statement_timeout = Duration::from_millis(300);
    })
    .await;
    let (table, mapping) = (bench.fresh_table(), mapping(&["id"]));
    bench.table.prepare(&table, &mapping).await.unwrap();
    let lock = format!("BEGIN; LOCK TABLE {}", bench.sql_name(&table));
    bench.execute(&lock).await;
    let import = import(&table, 1, &mapping);
    let result = bench.table.import(&import, rows(&[vec!["1"]])).await;
    retryable(result, &["can't import into table", "timeout"]);
    bench.execute("ROLLBACK").await;
    bench
        .table
        .import(&import, rows(&[vec!["1"]]))
        .await
        .unwrap();
}

#[tokio::test]
async fn errors_that_need_an_operator_are_terminal() {
    let Some(service) = services::postgres("rejections by PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let at = address(&service);
    let open = |url: String| PostgresTable::open(&PostgresConfig::new(url)).unwrap();
    let nobody = open(url(&service, "no_such_role", at, "postgres"));
    terminal(nobody.check().await, &["can't connect", "no_such_role"]);
    let nowhere = open(url(&service, "forebay", at, "no_such_db"));
    terminal(nowhere.check().await, &["no_such_db"]);

    let db = format!("ascii {}", bench.run);
    bench
        .execute(&format!(
            "CREATE DATABASE \"{db}\" ENCODING 'SQL_ASCII' TEMPLATE template0"
        ))
        .await;
    let ascii = open(url(&service, "forebay", at, &db.replace(' ', "%20")));
    terminal(ascii.check().await, &["SQL_ASCII", "UTF8"]);
    bench.execute(&format!("DROP DATABASE \"{db}\"")).await;

    let role = format!("weak_{}", bench.run);
    bench
        .execute(&format!("CREATE ROLE \"{role}\" LOGIN"))
        .await;
    let weak = open(url(&service, &role, at, "postgres"));
    weak.check().await.unwrap();
    let result = weak.prepare(&bench.fresh_table(), &mapping(&["a"])).await;
    terminal(result, &["prepare table", "permission denied"]);
    bench.execute(&format!("DROP ROLE \"{role}\"")).await;
}

async fn found(table: &PostgresTable, id: &TableId, columns: &[&str]) -> Vec<String> {
    let found = table.inspect(id, &mapping(columns)).await.unwrap();
    found.findings.into_iter().map(|f| f.message).collect()
}

#[tokio::test]
async fn missing_privileges_are_reported_before_an_import() {
    let Some(service) = services::postgres("privileges in PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let role = format!("looks_{}", bench.run);
    bench
        .execute(&format!("CREATE ROLE \"{role}\" LOGIN"))
        .await;
    let mut config = PostgresConfig::new(url(&service, &role, address(&service), "postgres"));
    config.ledger_schema = format!("ledger {}", bench.run);
    let weak = PostgresTable::open(&config).unwrap();
    let id = bench.fresh_table();
    let all = |found: &[String], words: &[&str]| {
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (text, word) in found.iter().zip(words) {
            assert!(text.contains(word), "{text:?} lacks {word:?}");
        }
    };
    all(
        &found(&weak, &id, &["a"]).await,
        &["ledger of imports", "may not create it"],
    );
    // The ledger and the table were created by another user.
    let table = bench.table();
    table.prepare(&id, &mapping(&["a*", "b"])).await.unwrap();
    let schema = id.bucket_id().replace('"', "\"\"");
    let ledger = format!("ledger {}", bench.run);
    let grant = format!(
        "GRANT USAGE ON SCHEMA \"{schema}\", \"{ledger}\" TO \"{role}\";
         GRANT SELECT, INSERT, UPDATE, DELETE ON \"{ledger}\".imports TO \"{role}\""
    );
    bench.execute(&grant).await;
    all(
        &found(&weak, &id, &["a*", "b", "c"]).await,
        &["may not insert", "may not select and update", "may not add"],
    );
    let name = bench.sql_name(&id);
    let grant = format!("GRANT INSERT, SELECT, UPDATE ON {name} TO \"{role}\"");
    bench.execute(&grant).await;
    all(&found(&weak, &id, &["a*", "b"]).await, &[]);
    weak.prepare(&id, &mapping(&["a*", "b"])).await.unwrap();
    let other = bench.fresh_table();
    all(
        &found(&weak, &other, &["a"]).await,
        &["may not create tables in schema"],
    );
    bench
        .execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
        .await;
}

#[tokio::test]
async fn partitions_and_the_ledger_schema_are_rejected() {
    let Some(service) = services::postgres("partitions in PostgreSQL") else {
        return;
    };
    let bench = Postgres::with(&service, |config| {
        config.ledger_schema = format!("in.{}", unique());
    })
    .await;
    let (parent, part) = (bench.fresh_table(), bench.fresh_table());
    let (parent_name, part_name) = (bench.sql_name(&parent), bench.sql_name(&part));
    bench.execute(&bench.before_create(&parent)).await;
    bench
        .execute(&format!(
            "CREATE TABLE {parent_name} (a text) PARTITION BY LIST (a)"
        ))
        .await;
    let none = found(&bench.table, &parent, &["a"]).await;
    assert!(none[0].contains("no partition"), "{none:?}");
    bench
        .execute(&format!(
            "CREATE TABLE {part_name} PARTITION OF {parent_name} DEFAULT"
        ))
        .await;
    assert_eq!(found(&bench.table, &parent, &["a"]).await, [""; 0]);
    let part = found(&bench.table, &part, &["a"]).await;
    assert!(part[0].contains("is a partition"), "{part:?}");
    let mut config = PostgresConfig::new(service.url.as_str());
    config.ledger_schema = "in.ledger".to_owned();
    let table = PostgresTable::open(&config).unwrap();
    let id = "in.ledger.imports".parse().unwrap();
    let reserved = table.check_names(&id, &mapping(&["a"]));
    assert!(
        reserved[0].message.contains("is reserved for the ledger"),
        "{reserved:?}"
    );
    terminal(
        table.prepare(&id, &mapping(&["a"])).await,
        &["is reserved for the ledger"],
    );
}

#[tokio::test]
async fn tables_that_a_crash_empties_are_rejected() {
    let Some(service) = services::postgres("unlogged tables of PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let mapping = mapping(&["id"]);
    let table = bench.fresh_table();
    let name = bench.sql_name(&table);
    bench.execute(&bench.before_create(&table)).await;
    bench
        .execute(&format!("CREATE UNLOGGED TABLE {name} (id text)"))
        .await;
    let rejection = [&table.to_string() as &str, "UNLOGGED", "SET LOGGED"];
    terminal(bench.table.prepare(&table, &mapping).await, &rejection);
    bench
        .execute(&format!("ALTER TABLE {name} SET LOGGED"))
        .await;
    bench.table.prepare(&table, &mapping).await.unwrap();
    // Changed after `prepare`.
    bench
        .execute(&format!("ALTER TABLE {name} SET UNLOGGED"))
        .await;
    let first = import(&table, 1, &mapping);
    let result = bench.table.import(&first, rows(&[vec!["1"]])).await;
    terminal(result, &rejection);
    // One such partition is enough.
    let parted = bench.fresh_table();
    let name = bench.sql_name(&parted);
    bench
        .execute(&format!(
            "CREATE TABLE {name} (id text) PARTITION BY LIST (id);
             CREATE UNLOGGED TABLE \"{}\".part PARTITION OF {name} DEFAULT",
            parted.bucket_id().replace('"', "\"\"")
        ))
        .await;
    terminal(bench.table.prepare(&parted, &mapping).await, &["UNLOGGED"]);
    // The same applies to the ledger.
    let ledger = format!("\"ledger {}\".imports", bench.run);
    bench
        .execute(&format!("ALTER TABLE {ledger} SET UNLOGGED"))
        .await;
    let other = bench.fresh_table();
    terminal(
        bench.table.prepare(&other, &mapping).await,
        &["ledger", "UNLOGGED"],
    );
}

#[tokio::test]
async fn names_that_postgres_does_not_support_are_rejected() {
    let Some(service) = services::postgres("names in PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let long = "é".repeat(32);
    let table = format!("in.c-b.{long}").parse().unwrap();
    terminal(
        bench.table.prepare(&table, &mapping(&["a"])).await,
        &["64 bytes", "63"],
    );
    let table = format!("in.c-{long}.t").parse().unwrap();
    terminal(
        bench.table.prepare(&table, &mapping(&["a"])).await,
        &["69 bytes"],
    );
    let table = bench.fresh_table();
    for name in [long.as_str(), "ctid"] {
        terminal(
            bench.table.prepare(&table, &mapping(&[name])).await,
            &[name],
        );
    }
    let longest = "x".repeat(63);
    bench
        .table
        .prepare(&table, &mapping(&[&longest]))
        .await
        .unwrap();
    // A key cell that is too long for an index is a terminal error.
    let (table, keyed) = (bench.fresh_table(), mapping(&["k*"]));
    bench.table.prepare(&table, &keyed).await.unwrap();
    let noise: String = (0..20_000_u32)
        .map(|i| char::from_u32(0x4e00 + i.wrapping_mul(2_654_435_761) % 20_000).unwrap())
        .collect();
    let import = import(&table, 1, &keyed);
    let result = bench.table.import(&import, rows(&[vec![noise]])).await;
    terminal(result, &[&table.to_string(), "index"]);
}

#[tokio::test]
async fn passwords_are_sent_and_never_shown() {
    let Some(service) = services::postgres("passwords of PostgreSQL") else {
        return;
    };
    let bench = Postgres::new(&service).await;
    let role = format!("pw_{}", bench.run);
    // A concurrent run may create the group.
    let group = "DO $$ BEGIN CREATE ROLE password_users; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$";
    bench.execute(group).await;
    bench
        .execute(&format!(
            "CREATE ROLE \"{role}\" LOGIN PASSWORD 'p@ss/word' IN ROLE password_users"
        ))
        .await;
    let at = address(&service);
    for mode in [SslMode::Disable, SslMode::Require] {
        for (user, password, works) in [
            (format!("{role}:p%40ss%2Fword"), None, true),
            (role.clone(), Some("p@ss/word"), true),
            (format!("{role}:hunter2"), None, false),
            (format!("{role}:p%40ss%2Fword"), Some("hunter2"), false),
        ] {
            let mut config = PostgresConfig::new(url(&service, &user, at, "postgres"));
            config.password = password.map(Into::into);
            config.ssl_mode = Some(mode);
            let table = PostgresTable::open(&config).unwrap();
            let result = table.check().await;
            assert_eq!(result.is_ok(), works, "{result:?}");
            if !works {
                terminal(result.clone(), &["password authentication failed"]);
            }
            let shown = format!("{config:?} {table:?} {result:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("ss/word"),
                "{shown}"
            );
        }
    }
    bench.execute(&format!("DROP ROLE \"{role}\"")).await;
}

#[tokio::test]
async fn tls_does_what_its_mode_promises() {
    let Some(service) = services::postgres("TLS to PostgreSQL") else {
        return;
    };
    let Some(ca_file) = service.ca_file.clone() else {
        eprintln!("SKIPPED: TLS to PostgreSQL: FOREBAY_TEST_POSTGRES_CA is not set");
        return;
    };
    let at = address(&service);
    for mode in SslMode::ALL {
        let url = format!(
            "{}?sslmode={}&sslrootcert={ca_file}",
            service.url,
            mode.name()
        );
        let table = PostgresTable::open(&PostgresConfig::new(url)).unwrap();
        table.check().await.unwrap();
    }
    // The certificate is not valid for this address.
    let proxy = Proxy::start("127.0.0.2", at).await.unwrap();
    let mut elsewhere = PostgresConfig::new(url(&service, "forebay", proxy.address(), "postgres"));
    elsewhere.ca_pem = Some(std::fs::read(&ca_file).unwrap());
    for (mode, works) in [(SslMode::Require, true), (SslMode::VerifyFull, false)] {
        elsewhere.ssl_mode = Some(mode);
        let result = PostgresTable::open(&elsewhere).unwrap().check().await;
        assert_eq!(result.is_ok(), works, "{result:?}");
        if !works {
            terminal(result, &["can't connect", "certificate"]);
        }
    }
    // Nor is it from a CA that the system trusts; a system without any fails immediately.
    let mut unknown = PostgresConfig::new(service.url.as_str());
    unknown.ssl_mode = Some(SslMode::VerifyFull);
    match PostgresTable::open(&unknown) {
        Ok(table) => terminal(table.check().await, &["certificate"]),
        Err(e) => assert!(!e.is_retryable()),
    }
    unknown.ca_pem = Some(b"not PEM".to_vec());
    assert!(!PostgresTable::open(&unknown).unwrap_err().is_retryable());
}

#[tokio::test]
async fn an_unavailable_server_is_retryable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    // Bound and silent: the kernel accepts connections and no response is sent.
    let mut config = PostgresConfig::new(format!("postgres://u:hunter2@{at}/d"));
    config.connect_timeout = Duration::from_millis(300);
    let table = PostgresTable::open(&config).unwrap();
    retryable(table.check().await, &[&at.to_string(), "no response"]);
    drop(listener);
    retryable(table.check().await, &[&at.to_string(), "refused"]);
    assert!(!format!("{table:?}").contains("hunter2"));
}
