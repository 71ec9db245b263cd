//! Keyed rows in SQLite: the suite, and what only a file can do.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;

use forebay_connect::keyed::sqlite::SqliteKeyed;
use forebay_connect::keyed::{CellValue, KeyedTable, conformance};

#[tokio::test]
async fn sqlite_keeps_keyed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteKeyed::new(dir.path().join("rows.db"));
    conformance::run(&store, "products").await;
    conformance::run(&store, "shop.products").await;
}

#[tokio::test]
async fn a_table_that_was_dropped_is_another_one_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.db");
    let store = SqliteKeyed::new(&path);
    let shape = conformance::sample_schema("products");
    let first = store.prepare(&shape).await.unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE products")
        .unwrap();
    let second = store.prepare(&shape).await.unwrap();
    assert_ne!(first.incarnation, second.incarnation);
}

#[tokio::test]
async fn a_file_that_is_missing_or_something_else_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = SqliteKeyed::new(dir.path().join("no.db"));
    let said = missing.describe("t").await.unwrap_err().to_string();
    assert!(said.contains("no.db"), "{said}");
    let path = dir.path().join("text.db");
    std::fs::write(&path, "this is not a database at all, it is text").unwrap();
    let text = SqliteKeyed::new(&path);
    let shape = conformance::sample_schema("products");
    let error = text.prepare(&shape).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error.to_string().contains("not a SQLite database"),
        "{error}"
    );
    let error = text
        .get(&Arc::new(shape), &[CellValue::Integer(1)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("text.db"), "{error}");
}
