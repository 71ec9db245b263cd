//! Keyed rows in SQLite: the conformance suite, and tests of the file.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;

use forebay_connect::keyed::sqlite::SqliteKeyed;
use forebay_connect::keyed::{CellValue, KeyedTable, conformance};

#[tokio::test]
async fn sqlite_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteKeyed::new(dir.path().join("rows.db"));
    conformance::run(&store, "products").await;
    conformance::run(&store, "shop.products").await;
}

#[tokio::test]
async fn a_recreated_table_has_another_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.db");
    let store = SqliteKeyed::new(&path);
    let schema = conformance::sample_schema("products");
    let first = store.prepare(&schema).await.unwrap();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE products")
        .unwrap();
    let second = store.prepare(&schema).await.unwrap();
    assert_ne!(first.incarnation, second.incarnation);
}

#[tokio::test]
async fn a_missing_or_invalid_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = SqliteKeyed::new(dir.path().join("no.db"));
    let said = missing.describe("t").await.unwrap_err().to_string();
    assert!(said.contains("no.db"), "{said}");
    let path = dir.path().join("text.db");
    std::fs::write(&path, "this is not a database at all, it is text").unwrap();
    let text = SqliteKeyed::new(&path);
    let schema = conformance::sample_schema("products");
    let error = text.prepare(&schema).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error.to_string().contains("not a SQLite database"),
        "{error}"
    );
    let error = text
        .get(&Arc::new(schema), &[CellValue::Integer(1)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("text.db"), "{error}");
}
