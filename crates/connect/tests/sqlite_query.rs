//! `forebay query`: read-only SQL on the embedded tables.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use forebay_connect::table::Table;
use forebay_connect::table::conformance::{import, mapping, rows};
use forebay_connect::table::query::{QueryCell, QueryError, QuerySummary, QueryVisitor};
use forebay_connect::table::sqlite::{SqliteConfig, SqliteTable, query};

#[derive(Default)]
struct Printer {
    lines: Vec<String>,
    stop_after: Option<usize>,
}

impl QueryVisitor for Printer {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        self.lines.push(names.join(","));
        ControlFlow::Continue(())
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        self.lines.push(format!("{cells:?}"));
        match self.stop_after {
            Some(n) if self.lines.len() > n => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn run(
    path: &Path,
    sql: &str,
    limit: Option<u64>,
) -> Result<(Vec<String>, QuerySummary), QueryError> {
    let mut printer = Printer::default();
    let summary = query(path, sql, limit, &mut printer)?;
    Ok((printer.lines, summary))
}

/// An open database with one table of three rows.
async fn database() -> (tempfile::TempDir, PathBuf, SqliteTable) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tables #1?.db");
    let table = SqliteTable::open(SqliteConfig::new(&path)).unwrap();
    let (id, mapping) = ("in.c-b.t".parse().unwrap(), mapping(&["id", "body"]));
    table.prepare(&id, &mapping).await.unwrap();
    let all = [vec!["1", "a"], vec!["2", ""], vec!["3", "ř"]];
    table
        .import(&import(&id, 1, &mapping), rows(&all))
        .await
        .unwrap();
    (dir, path, table)
}

const ALL: &str = "SELECT * FROM \"in.c-b.t\" ORDER BY id";

#[tokio::test]
async fn rows_are_visible_with_and_without_a_running_server() {
    let (_dir, path, table) = database().await;
    let expected = [
        "id,body",
        r#"[Text("1"), Text("a")]"#,
        r#"[Text("2"), Text("")]"#,
        r#"[Text("3"), Text("ř")]"#,
    ];
    let whole = QuerySummary {
        rows: 3,
        truncated: false,
    };
    assert_eq!(
        run(&path, ALL, None).unwrap(),
        (expected.map(str::to_owned).to_vec(), whole)
    );
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM \"in.c-b.t\"")
        .unwrap();
    assert_eq!(run(&path, ALL, None).unwrap().1, whole);
    writer.execute_batch("ROLLBACK").unwrap();
    drop(writer);
    table.close();
    assert_eq!(run(&path, ALL, None).unwrap().1, whole);
}

#[tokio::test]
async fn limits_and_visitors_end_a_query() {
    let (_dir, path, _table) = database().await;
    let (lines, summary) = run(&path, ALL, Some(2)).unwrap();
    assert_eq!(
        (lines.len(), summary),
        (
            3,
            QuerySummary {
                rows: 2,
                truncated: true
            }
        )
    );
    assert!(!run(&path, ALL, Some(3)).unwrap().1.truncated);
    let mut printer = Printer {
        stop_after: Some(1),
        ..Printer::default()
    };
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let summary = query(&path, endless, None, &mut printer).unwrap();
    assert_eq!(summary.rows, 1);
}

#[tokio::test]
async fn cells_keep_their_storage_class() {
    let (_dir, path, _table) = database().await;
    let sql = "SELECT NULL, 7, 1.5, 'x', x'00ff', CAST(x'ff' AS TEXT) ;  -- that is all";
    let (lines, _) = run(&path, sql, None).unwrap();
    assert_eq!(
        lines.last().unwrap(),
        r#"[Null, Int(7), Real(1.5), Text("x"), Blob([0, 255]), Blob([255])]"#
    );
}

#[tokio::test]
async fn no_query_changes_the_database() {
    let (dir, path, _table) = database().await;
    let other = dir.path().join("other.db");
    let attach = format!("ATTACH '{}' AS o", other.display());
    for sql in [
        "DELETE FROM \"in.c-b.t\"",
        "INSERT INTO \"in.c-b.t\" VALUES ('1', '2') RETURNING id",
        "CREATE TABLE x (a)",
        "DROP TABLE \"in.c-b.t\"",
        "PRAGMA user_version = 7",
        "VACUUM",
        "VACUUM INTO '/tmp/forebay-query-must-not-write.db'",
        attach.as_str(),
    ] {
        drop(run(&path, sql, None));
    }
    assert_eq!(run(&path, ALL, None).unwrap().1.rows, 3);
    let (version, _) = run(&path, "PRAGMA user_version", None).unwrap();
    assert_eq!(version.last().unwrap(), "[Int(0)]");
    assert!(!other.exists());
    assert!(!Path::new("/tmp/forebay-query-must-not-write.db").exists());
    let rejected = run(&path, "DELETE FROM \"in.c-b.t\"", None).unwrap_err();
    assert!(matches!(rejected, QueryError::Statement(text) if text.contains("only read")));
}

#[tokio::test]
async fn mistakes_are_explained() {
    let (dir, path, _table) = database().await;
    let statement = |sql: &str| match run(&path, sql, None) {
        Err(QueryError::Statement(text)) => text,
        other => panic!("{sql}: {other:?}"),
    };
    assert!(statement("").contains("no statement"));
    assert!(statement("-- nothing").contains("no statement"));
    assert!(statement("SELECT 1; SELECT 2").contains("only one"));
    assert!(statement("SELECT * FROM nope").contains("no such table: nope"));
    assert_eq!(
        statement("SELEC 1"),
        "near \"SELEC\": syntax error (at byte 1)"
    );
    let missing = run(&dir.path().join("no.db"), "SELECT 1", None).unwrap_err();
    assert!(matches!(missing, QueryError::NoDatabase(_)));
    assert!(!dir.path().join("no.db").exists());
    let noise = dir.path().join("noise.db");
    std::fs::write(&noise, "x".repeat(5000)).unwrap();
    let noise = run(&noise, "SELECT 1", None).unwrap_err();
    assert!(matches!(noise, QueryError::Database(text) if text.contains("not a SQLite database")));
}
