//! Conformance suite of stores of keyed rows.

#![allow(clippy::unwrap_used, reason = "only tests call this")]

use std::sync::Arc;

use crate::keyed::{
    CellValue, ColumnSchema, DataType, KeyedBatch, KeyedRow, KeyedTable, TableSchema,
};

/// A schema with a column of each type.
pub fn sample_schema(table: &str) -> TableSchema {
    let column = |name: &str, kind, is_key| ColumnSchema {
        name: name.to_owned(),
        kind,
        is_key,
        foreign: None,
    };
    TableSchema {
        table: table.to_owned(),
        columns: vec![
            column("id", DataType::Integer, true),
            column("name", DataType::Text, false),
            column("price", DataType::Double, false),
            column("in_stock", DataType::Boolean, false),
            column("added", DataType::Timestamp, false),
            column("tags", DataType::Json, false),
        ],
    }
}

/// A row of [`sample_schema`].
pub fn row(id: i64, name: &str) -> KeyedRow {
    KeyedRow(vec![
        CellValue::Integer(id),
        CellValue::Text(name.to_owned()),
        CellValue::Double(12.5),
        CellValue::Boolean(true),
        CellValue::Timestamp("2026-11-21T08:00:00.123Z".parse().unwrap()),
        CellValue::Json(r#"{"a": [1, 2.50]}"#.to_owned()),
    ])
}

/// Runs the suite on a table of that name, which must not exist.
///
/// # Panics
/// When the store fails the suite.
pub async fn run(store: &dyn KeyedTable, table: &str) {
    let schema = sample_schema(table);
    let prepared = store.prepare(&schema).await.unwrap();
    assert!(prepared.is_empty, "a new table has no rows");
    store.check().await.unwrap();
    writes_and_reads(store, &schema).await;
    let again = store.prepare(&schema).await.unwrap();
    assert_eq!(again.incarnation, prepared.incarnation);
    assert!(!again.is_empty);
    let described = store.describe(table).await.unwrap().unwrap();
    assert_eq!(sorted(&described), sorted(&schema));
    let unknown = format!("{table}_no");
    assert_eq!(store.describe(&unknown).await.unwrap(), None);
    rejects_mismatches(store, &schema).await;
}

/// Names, types and keys; a store need not keep the column order, and may store JSON as text.
fn sorted(schema: &TableSchema) -> Vec<(String, DataType, bool)> {
    let kind = |kind| match kind {
        DataType::Json => DataType::Text,
        other => other,
    };
    let columns = schema.columns.iter();
    let columns = columns.map(|c| (c.name.clone(), kind(c.kind), c.is_key));
    let mut columns: Vec<_> = columns.collect();
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    columns
}

async fn writes_and_reads(store: &dyn KeyedTable, schema: &TableSchema) {
    let nothing = KeyedRow(vec![
        CellValue::Integer(-1),
        CellValue::Null,
        CellValue::Null,
        CellValue::Null,
        CellValue::Null,
        CellValue::Null,
    ]);
    let rows = [
        row(1, "first"),
        row(2, "'\"; DROP TABLE x; -- ☃"),
        row(1, "second"),
        row(i64::MAX, ""),
        nothing.clone(),
    ];
    store.upsert(schema, &rows.clone().into()).await.unwrap();
    // A repeat changes nothing.
    store.upsert(schema, &rows.clone().into()).await.unwrap();
    store.upsert(schema, &KeyedBatch::default()).await.unwrap();
    let shared = Arc::new(schema.clone());
    let get = async |id| store.get(&shared, &[CellValue::Integer(id)]).await.unwrap();
    assert_eq!(get(1).await, Some(row(1, "second")), "the later row wins");
    assert_eq!(get(2).await.as_ref(), Some(&rows[1]));
    assert_eq!(get(i64::MAX).await, Some(row(i64::MAX, "")));
    assert_eq!(get(-1).await, Some(nothing));
    assert_eq!(get(99).await, None);
    let mut cleared = row(2, "");
    cleared.0[1] = CellValue::Null;
    store
        .upsert(schema, &[cleared.clone()].into())
        .await
        .unwrap();
    assert_eq!(get(2).await, Some(cleared), "null replaces a value");
}

async fn rejects_mismatches(store: &dyn KeyedTable, schema: &TableSchema) {
    let mut other = schema.clone();
    other.columns[1].kind = DataType::Integer;
    let error = store.prepare(&other).await.unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    assert!(
        error.contains("\"name\" of type text, the definition says integer"),
        "{error}"
    );
    let mut lacking = schema.clone();
    lacking.columns[1].name = "title".to_owned();
    let error = store.prepare(&lacking).await.unwrap_err().to_string();
    assert!(error.contains("no column \"title\""), "{error}");
    let mut keyed = schema.clone();
    keyed.columns[1].is_key = true;
    let error = store.prepare(&keyed).await.unwrap_err().to_string();
    assert!(error.contains("has the key (id)"), "{error}");
}
