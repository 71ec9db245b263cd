//! Keyed rows in Cassandra: the conformance suite on a real node.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use forebay_connect::keyed::cassandra::{CassandraConfig, CassandraKeyed, CassandraTls};
use forebay_connect::keyed::{CellValue, ColumnSchema, KeyedRow, KeyedTable, conformance};
use forebay_connect::tls::ServerVerification;
use forebay_test_support::services;
use scylla::client::session_builder::SessionBuilder;

#[tokio::test]
async fn cassandra_passes_the_conformance_suite() {
    let Some(node) = services::cassandra("cassandra_passes_the_conformance_suite") else {
        return;
    };
    let store = CassandraKeyed::new(CassandraConfig::new(vec![node]));
    let keyspace = format!("Keyed{}", std::process::id());
    conformance::run(&store, &format!("{keyspace}.Products")).await;
}

/// Creates the table `t` with these columns in a new keyspace.
async fn make(node: &str, keyspace: &str, columns: &str) {
    let session = SessionBuilder::new()
        .known_node(node)
        .build()
        .await
        .unwrap();
    for statement in [
        format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ),
        format!("CREATE TABLE {keyspace}.t ({columns})"),
    ] {
        session.query_unpaged(statement, ()).await.unwrap();
    }
}

#[tokio::test]
async fn narrower_numbers_of_an_existing_table_are_written_or_rejected() {
    let Some(node) = services::cassandra("smaller_numbers_of_a_table_that_is_there") else {
        return;
    };
    let keyspace = format!("narrow{}", std::process::id());
    make(
        &node,
        &keyspace,
        "id int PRIMARY KEY, small smallint, tiny tinyint, rate float, code ascii",
    )
    .await;
    let store = CassandraKeyed::new(CassandraConfig::new(vec![node]));
    let schema = store
        .describe(&format!("{keyspace}.t"))
        .await
        .unwrap()
        .unwrap();
    store.prepare(&schema).await.unwrap();
    let row = |id: i64, small: i64, tiny: i64, rate: f64, code: &str| {
        let value = |c: &ColumnSchema| match c.name.as_str() {
            "id" => CellValue::Integer(id),
            "small" => CellValue::Integer(small),
            "tiny" => CellValue::Integer(tiny),
            "rate" => CellValue::Double(rate),
            _ => CellValue::Text(code.to_owned()),
        };
        KeyedRow(schema.columns.iter().map(value).collect())
    };
    let shared = Arc::new(schema.clone());
    let good = row(-7, 32_767, -128, 0.5, "plain");
    store.upsert(&schema, &[good.clone()].into()).await.unwrap();
    let found = store.get(&shared, &[CellValue::Integer(-7)]).await.unwrap();
    assert_eq!(found, Some(good));
    for (bad, message) in [
        (
            row(1 << 40, 0, 0, 0.0, ""),
            "1099511627776 does not fit a column of type int",
        ),
        (
            row(1, 32_768, 0, 0.0, ""),
            "32768 does not fit a column of type smallint",
        ),
        (
            row(1, 0, 128, 0.0, ""),
            "128 does not fit a column of type tinyint",
        ),
        (
            row(1, 0, 0, 1e300, ""),
            "does not fit a column of type float",
        ),
        (
            row(1, 0, 0, 0.0, "é"),
            "é does not fit a column of type ascii",
        ),
    ] {
        let error = store.upsert(&schema, &[bad].into()).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
    // A key that the column can't hold has no row.
    let found = store
        .get(&shared, &[CellValue::Integer(1 << 40)])
        .await
        .unwrap();
    assert_eq!(found, None);
}

const OTHERS: &str =
    "id int PRIMARY KEY, name text, tags set<text>, n decimal, u uuid, d date, b blob,
    m map<text, decimal>, l list<int>, i inet, v varint, t time, e duration, w tuple<int, text>,
    f vector<float, 2>, z set<uuid>";
const VALUES: &str = "(id, name, tags, n, u, d, b, m, l, i, v, t, e, w, f) VALUES (1, 'one',
    {'a', 'it''s'}, -123.450, 7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e, '2026-11-29', 0xcafe,
    {'a': 0.50}, [1, 2], '10.0.0.1', -12345678901234567890123, '08:30:00.5', 1mo2d3h,
    (1, null), [0.5, 1])";
const TEXTS: &[(&str, &str)] = &[
    ("tags", "{'a', 'it''s'}"),
    ("n", "-123.450"),
    ("u", "7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e"),
    ("d", "2026-11-29"),
    ("b", "0xcafe"),
    ("m", "{'a': 0.50}"),
    ("l", "[1, 2]"),
    ("i", "10.0.0.1"),
    ("v", "-12345678901234567890123"),
    ("t", "08:30:00.500000000"),
    ("e", "1mo2d10800000000000ns"),
    ("w", "(1, null)"),
    ("f", "[0.5, 1]"),
];

#[tokio::test]
async fn foreign_types_are_ignored_and_read_as_text() {
    let Some(node) = services::cassandra("foreign_types_are_ignored_and_read_as_text") else {
        return;
    };
    let keyspace = format!("others{}", std::process::id());
    make(&node, &keyspace, OTHERS).await;
    let session = SessionBuilder::new()
        .known_node(&node)
        .build()
        .await
        .unwrap();
    let insert = format!("INSERT INTO {keyspace}.t {VALUES}");
    session.query_unpaged(insert, ()).await.unwrap();
    let store = CassandraKeyed::new(CassandraConfig::new(vec![node.clone()]));
    let table = format!("{keyspace}.t");
    let there = store.describe(&table).await.unwrap().unwrap();
    let shared = Arc::new(there.clone());
    let row = store.get(&shared, &[CellValue::Integer(1)]).await.unwrap();
    let row = row.unwrap();
    let value = |name: &str| {
        let index = there.columns.iter().position(|c| c.name == name);
        row.0[index.unwrap()].clone()
    };
    for (name, text) in TEXTS {
        assert_eq!(value(name), CellValue::Text((*text).to_owned()), "{name}");
    }
    assert_eq!(value("z"), CellValue::Null);
    // A job that does not name foreign columns can still write its own.
    let wanted = |name: &str| {
        let mut schema = there.clone();
        schema.columns.retain(|c| c.name == "id" || c.name == name);
        schema.columns.iter_mut().for_each(|c| c.foreign = None);
        schema
    };
    let schema = wanted("name");
    store.prepare(&schema).await.unwrap();
    let new = KeyedRow(vec![
        CellValue::Integer(1),
        CellValue::Text("new".to_owned()),
    ]);
    store.upsert(&schema, &[new].into()).await.unwrap();
    let row = store.get(&shared, &[CellValue::Integer(1)]).await.unwrap();
    let tags = CellValue::Text(TEXTS[0].1.to_owned());
    assert!(row.unwrap().0.contains(&tags));
    let error = store.prepare(&wanted("tags")).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("of type set<text>, which"), "{message}");
}

#[tokio::test]
async fn keys_of_foreign_types_are_given_as_text() {
    let Some(node) = services::cassandra("keys_of_foreign_types_are_given_as_text") else {
        return;
    };
    let keyspace = format!("otherkeys{}", std::process::id());
    make(&node, &keyspace, "id int PRIMARY KEY").await;
    let session = SessionBuilder::new()
        .known_node(&node)
        .build()
        .await
        .unwrap();
    let store = CassandraKeyed::new(CassandraConfig::new(vec![node.clone()]));
    for (typ, key) in [
        ("uuid", "7f9c2a56-0c1a-4e4e-9d1e-6a3f1c2b3d4e"),
        ("inet", "10.0.0.1"),
        ("varint", "-12345678901234567890123"),
        ("date", "2026-11-29"),
    ] {
        let quote = if matches!(typ, "inet" | "date") {
            "'"
        } else {
            ""
        };
        let name = format!("{keyspace}.k_{typ}");
        for statement in [
            format!("CREATE TABLE {name} (k {typ} PRIMARY KEY, name text)"),
            format!("INSERT INTO {name} (k, name) VALUES ({quote}{key}{quote}, 'x')"),
        ] {
            session.query_unpaged(statement, ()).await.unwrap();
        }
        let schema = Arc::new(store.describe(&name).await.unwrap().unwrap());
        // A text that is invalid for the type has no row.
        for (text, is_there) in [(key, true), ("no such thing", false)] {
            let found = store
                .get(&schema, &[CellValue::Text(text.to_owned())])
                .await;
            assert_eq!(found.unwrap().is_some(), is_there, "{typ} {text}");
        }
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_certificates_checked() {
    let test = "connections_are_encrypted_and_certificates_checked";
    let (Some(node), Some(ca)) = (services::cassandra(test), services::cassandra_ca(test)) else {
        return;
    };
    let ca = std::fs::read(ca).unwrap();
    let store = |verify, ca_pem: Option<Vec<u8>>| {
        let mut config = CassandraConfig::new(vec![node.clone()]);
        config.tls = Some(CassandraTls { verify, ca_pem });
        config.login = Some(("cassandra".to_owned(), "hunter2".into()));
        CassandraKeyed::new(config)
    };
    let authority = store(ServerVerification::Authority, Some(ca.clone()));
    let keyspace = format!("tls{}", std::process::id());
    conformance::run(&authority, &format!("{keyspace}.t")).await;
    store(ServerVerification::Nothing, None)
        .check()
        .await
        .unwrap();
    // The node's certificate does not name its address.
    let error = store(ServerVerification::Full, Some(ca))
        .check()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    // The system doesn't trust the test's CA.
    let error = store(ServerVerification::Authority, None)
        .check()
        .await
        .unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = store(ServerVerification::Full, Some(b"no PEM".to_vec()))
        .check()
        .await;
    assert!(error.unwrap_err().to_string().contains("CA certificates"));
}

#[tokio::test]
async fn a_rejected_login_is_terminal_and_hides_the_password() {
    let test = "a_rejected_login_is_terminal_and_hides_the_password";
    let Some(node) = services::cassandra_passwords(test) else {
        return;
    };
    let store = |login: Option<(&str, &str)>| {
        let mut config = CassandraConfig::new(vec![node.clone()]);
        config.login = login.map(|(user, password)| (user.to_owned(), password.into()));
        CassandraKeyed::new(config)
    };
    // The node creates its first user shortly after it starts to listen.
    let right = store(Some(("cassandra", "cassandra")));
    let login = async { while right.check().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), login)
        .await
        .unwrap();
    let keyspace = format!("login{}", std::process::id());
    conformance::run(&right, &format!("{keyspace}.t")).await;
    for login in [
        Some(("cassandra", "hunter2")),
        Some(("nobody", "hunter2")),
        None,
    ] {
        let error = store(login).check().await.unwrap_err();
        assert!(!error.is_retryable(), "{login:?}: {error}");
        let message = error.to_string();
        assert!(
            message.contains(&node) && !message.contains("hunter2"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_cluster_is_retried() {
    let nobody = CassandraConfig::new(vec!["127.0.0.1:1".to_owned()]);
    let error = CassandraKeyed::new(nobody).check().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
