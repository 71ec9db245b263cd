//! The embedded tables: the conformance suite of backends, and tests of SQLite's own behavior.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forebay_connect::keyed::CellValue;
use forebay_connect::table::conformance::{self, Bench, import, mapping, rows};
use forebay_connect::table::sqlite::{SqliteConfig, SqliteTable};
use forebay_connect::table::{RowBatch, Table, TableError};
use forebay_model::{DataType, TableId, TimestampMicros};
use futures::StreamExt;

struct Sqlite {
    _dir: tempfile::TempDir,
    table: SqliteTable,
    number: AtomicU32,
}

impl Sqlite {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = SqliteConfig::new(dir.path().join("tables.db"));
        Self {
            table: SqliteTable::open(config).unwrap(),
            _dir: dir,
            number: AtomicU32::new(0),
        }
    }

    fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.table.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

#[async_trait]
impl Bench for Sqlite {
    fn table(&self) -> &dyn Table {
        &self.table
    }

    fn fresh_table(&self) -> TableId {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("in.c-Bucket \"q\".t-{number}").parse().unwrap()
    }

    fn sql_name(&self, table: &TableId) -> String {
        format!("\"{}\"", table.to_string().replace('"', "\"\""))
    }

    async fn execute(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    async fn column(&self, sql: &str) -> Vec<Option<String>> {
        let connection = self.connection();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    async fn values(
        &self,
        table: &TableId,
        column: &str,
        order: &str,
        data_type: DataType,
    ) -> Vec<CellValue> {
        use rusqlite::types::ValueRef::{Integer, Null, Real, Text};
        let connection = self.connection();
        let name = self.sql_name(table);
        let sql = format!("SELECT \"{column}\" FROM {name} ORDER BY \"{order}\"");
        let mut statement = connection.prepare(&sql).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let rows = statement.query_map([], |row| {
            // A column without an affinity for its values would store another class.
            Ok(match (data_type, row.get_ref(0).unwrap()) {
                (_, Null) => CellValue::Null,
                (DataType::Text, Text(t)) => CellValue::Text(text(t)),
                (DataType::Json, Text(t)) => CellValue::Json(text(t)),
                (DataType::Integer, Integer(n)) => CellValue::Integer(n),
                (DataType::Double, Real(n)) => CellValue::Double(n),
                (DataType::Boolean, Integer(n @ 0..=1)) => CellValue::Boolean(n == 1),
                (DataType::Timestamp, Text(t)) => {
                    let text = text(t);
                    let time: TimestampMicros = text.parse().unwrap();
                    // All have the same length, so that texts sort as times.
                    assert_eq!(text, time.sortable().as_str());
                    CellValue::Timestamp(time)
                }
                (_, other) => panic!("{data_type}: {other:?}"),
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn before_create(&self, _table: &TableId) -> String {
        String::new()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conformance_suite() {
    conformance::run(&Sqlite::new()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_one_import_apply_it_once() {
    let bench = Sqlite::new();
    let other = SqliteTable::open(SqliteConfig::new(bench.table.path())).unwrap();
    let (table, mapping) = (bench.fresh_table(), mapping(&["id"]));
    let all: Vec<Vec<String>> = (0..200).map(|i| vec![i.to_string()]).collect();
    for number in 0..20 {
        let import = import(&table, number, &mapping);
        let load = async |t: &SqliteTable| {
            t.prepare(&table, &mapping).await.unwrap();
            t.import(&import, rows(&all)).await.unwrap()
        };
        let (one, two) = futures::join!(load(&bench.table), load(&other));
        assert_ne!(one.already_done, two.already_done);
        assert_eq!((one.rows, two.rows), (200, 200));
    }
    let sql = format!(
        "SELECT CAST(count(*) AS TEXT) FROM {}",
        bench.sql_name(&table)
    );
    assert_eq!(bench.column(&sql).await, [Some("4000".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_another_process_is_limited() {
    let bench = Sqlite::new();
    let mut config = SqliteConfig::new(bench.table.path());
    config.busy_timeout = Duration::from_millis(100);
    let impatient = SqliteTable::open(config).unwrap();
    let (table, mapping) = (bench.fresh_table(), mapping(&["id"]));
    impatient.prepare(&table, &mapping).await.unwrap();
    let other = bench.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let import = import(&table, 1, &mapping);
    let result = impatient.import(&import, rows(&[vec!["1"]])).await;
    retryable(result, &["locked", "tables.db", &table.to_string()]);
    retryable(impatient.check().await, &["locked"]);
    // Readers don't wait.
    assert_eq!(impatient.imported(&import.id).await, Ok(None));
    impatient.prepare(&table, &mapping).await.unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    impatient.import(&import, rows(&[vec!["1"]])).await.unwrap();
}

#[tokio::test]
async fn names_that_differ_only_in_case_are_rejected() {
    let bench = Sqlite::new();
    let (lower, upper) = ("in.c-b.events", "in.c-b.Events");
    let mapping = mapping(&["a"]);
    bench
        .table
        .prepare(&lower.parse().unwrap(), &mapping)
        .await
        .unwrap();
    let result = bench.table.prepare(&upper.parse().unwrap(), &mapping).await;
    terminal(result, &[lower, upper, "upper and lower case"]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tables.db");
    let text = "this is not a database, but it may be dear to someone ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let result = SqliteTable::open(SqliteConfig::new(&path));
    terminal(result, &["tables.db", "not a SQLite database"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let result = SqliteTable::open(SqliteConfig::new(dir.path().join("no/such/folder.db")));
    terminal(result, &["folder.db", "can't be opened"]);
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let bench = Sqlite::new();
    let path = bench.table.path().to_owned();
    let (table, mapping) = (bench.fresh_table(), mapping(&["id*"]));
    bench.table.prepare(&table, &mapping).await.unwrap();
    let all: Vec<Vec<String>> = (0..5000).map(|i| vec![format!("{i:0100}")]).collect();
    bench
        .table
        .import(&import(&table, 1, &mapping), rows(&all))
        .await
        .unwrap();
    let Sqlite {
        _dir, table: open, ..
    } = bench;
    open.close();
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[8192..length].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let damaged = match SqliteTable::open(SqliteConfig::new(&path)) {
        Err(e) => Err(e),
        Ok(open) => open.import(&import(&table, 2, &mapping), rows(&all)).await,
    };
    terminal(damaged, &["tables.db", "damaged"]);
}

#[tokio::test]
async fn a_deleted_file_is_detected_and_recreated() {
    let bench = Sqlite::new();
    let (table, mapping) = (bench.fresh_table(), mapping(&["id"]));
    bench.table.prepare(&table, &mapping).await.unwrap();
    for ending in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", bench.table.path().display())).unwrap();
    }
    let first = import(&table, 1, &mapping);
    bench.table.prepare(&table, &mapping).await.unwrap();
    bench
        .table
        .import(&first, rows(&[vec!["1"]]))
        .await
        .unwrap();
    let sql = format!("SELECT id FROM {}", bench.sql_name(&table));
    assert_eq!(bench.column(&sql).await, [Some("1".to_owned())]);

    // In the middle of an import, after more batches than fit into the writer's queue.
    let path = bench.table.path().to_owned();
    let deleting = rows(&vec![vec!["2"]; 30]).chain(futures::stream::once(async move {
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        Ok(RowBatch::new(1))
    }));
    let second = import(&table, 2, &mapping);
    let result = bench.table.import(&second, deleting.boxed()).await;
    retryable(result, &["tables.db", "moved, deleted or replaced"]);
}

#[tokio::test]
async fn imports_survive_a_restart() {
    let bench = Sqlite::new();
    let (table, mapping) = (bench.fresh_table(), mapping(&["id"]));
    let first = import(&table, 1, &mapping);
    bench.table.prepare(&table, &mapping).await.unwrap();
    bench
        .table
        .import(&first, rows(&[vec!["1"]]))
        .await
        .unwrap();
    let Sqlite {
        _dir, table: open, ..
    } = bench;
    let path = open.path().to_owned();
    open.close();
    let again = SqliteTable::open(SqliteConfig::new(path)).unwrap();
    assert_eq!(again.imported(&first.id).await, Ok(Some(1)));
}
