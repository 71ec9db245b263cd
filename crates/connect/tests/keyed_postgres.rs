//! Keyed rows in PostgreSQL: the conformance suite on a real server.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;

use forebay_connect::keyed::{
    CellValue, ColumnSchema, KeyedRow, KeyedTable, TableSchema, conformance,
};
use forebay_connect::table::postgres::{PostgresConfig, PostgresKeyed};
use forebay_test_support::services;

#[tokio::test]
async fn postgres_passes_the_conformance_suite() {
    let Some(service) = services::postgres("postgres_passes_the_conformance_suite") else {
        return;
    };
    let store = PostgresKeyed::open(&PostgresConfig::new(service.url.as_str())).unwrap();
    let schema = format!("Keyed{}", std::process::id());
    conformance::run(&store, &format!("{schema}.Products")).await;
    let (client, connection) = tokio_postgres::connect(&service.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let dropped = format!("DROP TABLE \"{schema}\".\"Products\"");
    let table_schema = conformance::sample_schema(&format!("{schema}.Products"));
    let before = store.prepare(&table_schema).await.unwrap();
    client.batch_execute(&dropped).await.unwrap();
    let after = store.prepare(&table_schema).await.unwrap();
    assert_ne!(before.incarnation, after.incarnation);
    foreign_types_are_ignored_and_read_as_text(&store, &client, &schema).await;
    let drop_all = format!("DROP SCHEMA \"{schema}\" CASCADE");
    client.batch_execute(&drop_all).await.unwrap();
}

const OTHERS: &str =
    "n numeric(30,3), u uuid, d date, b bytea, l text[], i inet, t time, c char(3),
    v interval, p point, r int4range, m mood, x bit(3), j jsonb[]";
const VALUES: &str = "12345678901234567890.5, '7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e', '2026-11-29', '\\xcafe',
    '{a,\"b c\"}', '10.0.0.1', '08:30', 'ab', '1 day 2 hours', '(1,2)', '[1,5)', 'fine', B'101', NULL";
const TEXTS: &[(&str, &str)] = &[
    ("n", "12345678901234567890.500"),
    ("u", "7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e"),
    ("d", "2026-11-29"),
    ("b", "\\xcafe"),
    ("l", "{a,\"b c\"}"),
    ("i", "10.0.0.1/32"),
    ("t", "08:30:00"),
    ("c", "ab"),
    ("v", "1 day 02:00:00"),
    ("p", "(1,2)"),
    ("r", "[1,5)"),
    ("m", "fine"),
    ("x", "101"),
];

async fn foreign_types_are_ignored_and_read_as_text(
    store: &PostgresKeyed,
    client: &tokio_postgres::Client,
    schema: &str,
) {
    let make = format!(
        "SET search_path TO \"{schema}\"; CREATE TYPE mood AS ENUM ('fine', 'bad');
         CREATE TABLE others (id bigint PRIMARY KEY, name text, {OTHERS});
         INSERT INTO others VALUES (1, 'one', {VALUES})"
    );
    client.batch_execute(&make).await.unwrap();
    let table = format!("{schema}.others");
    let there = store.describe(&table).await.unwrap().unwrap();
    let row = store
        .get(&Arc::new(there.clone()), &[CellValue::Integer(1)])
        .await
        .unwrap()
        .unwrap();
    for (name, text) in TEXTS {
        let index = there.columns.iter().position(|c| c.name == *name).unwrap();
        let found = match &row.0[index] {
            CellValue::Text(found) => found.trim_end(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(found, *text, "{name}");
    }
    assert_eq!(row.0.last(), Some(&CellValue::Null));
    // A job that does not name foreign columns can still write its own.
    let wanted = |name: &str| TableSchema {
        table: table.clone(),
        columns: there
            .columns
            .iter()
            .filter(|c| c.name == "id" || c.name == name)
            .map(|c| ColumnSchema {
                foreign: None,
                ..c.clone()
            })
            .collect(),
    };
    let table_schema = wanted("name");
    store.prepare(&table_schema).await.unwrap();
    let new = KeyedRow(vec![
        CellValue::Integer(1),
        CellValue::Text("new".to_owned()),
    ]);
    store.upsert(&table_schema, &[new].into()).await.unwrap();
    let row = client
        .query_one("SELECT name, u::text FROM others", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "new");
    assert_eq!(row.get::<_, String>(1), TEXTS[1].1);
    let error = store.prepare(&wanted("u")).await.unwrap_err().to_string();
    assert!(
        error.contains("column \"u\" of type uuid, which"),
        "{error}"
    );
    keys_of_foreign_types_are_given_as_text(store, client, schema).await;
}

async fn keys_of_foreign_types_are_given_as_text(
    store: &PostgresKeyed,
    client: &tokio_postgres::Client,
    schema: &str,
) {
    for (declared, key, none) in [
        ("uuid", TEXTS[1].1, "7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d40"),
        ("numeric", "1.50", "2"),
        ("char(3)", "ab", "abc"),
        ("date", "2026-11-29", "2026-11-30"),
        ("mood", "fine", "bad"),
        ("bit(3)", "101", "100"),
    ] {
        let make = format!(
            "DROP TABLE IF EXISTS keyed; CREATE TABLE keyed (k {declared} PRIMARY KEY);
             INSERT INTO keyed VALUES ('{key}')"
        );
        client.batch_execute(&make).await.unwrap();
        let table_schema = store.describe(&format!("{schema}.keyed")).await.unwrap();
        let table_schema = Arc::new(table_schema.unwrap());
        for (text, is_there) in [
            (key, true),
            (none, false),
            ("no such thing", false),
            ("\0", false),
        ] {
            let found = store
                .get(&table_schema, &[CellValue::Text(text.to_owned())])
                .await;
            assert_eq!(found.unwrap().is_some(), is_there, "{declared} {text}");
        }
    }
}
