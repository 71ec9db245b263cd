//! Numbers and times from JSON Lines through tables to lookups, in each store, and rejected values.

use std::net::SocketAddr;
use std::sync::Arc;

use forebay_jobs::JobOutcome;
use forebay_jobs::definition::LookupConfig;
use forebay_jobs::lookup::LookupService;
use forebay_listener::Listener;
use forebay_test_support::services;

use crate::world::{World, dead};

/// A value of a column, and the JSON that the lookup returns, also for Cassandra if that differs.
struct Case {
    column: &'static str,
    sent: &'static str,
    answered: &'static str,
    cassandra: Option<&'static str>,
}

const fn case(column: &'static str, sent: &'static str, answered: &'static str) -> Case {
    Case {
        column,
        sent,
        answered,
        cassandra: None,
    }
}

const fn cut(sent: &'static str, answered: &'static str, cassandra: &'static str) -> Case {
    Case {
        column: "at",
        sent,
        answered,
        cassandra: Some(cassandra),
    }
}

/// Values that are stored.
const STORED: &[Case] = &[
    case(
        "at",
        "\"9999-12-31T23:59:59Z\"",
        "\"9999-12-31T23:59:59.000Z\"",
    ),
    case("at", "253402300799", "\"9999-12-31T23:59:59.000Z\""),
    case("at", "253402300799000", "\"9999-12-31T23:59:59.000Z\""),
    case(
        "at",
        "\"0001-01-01T00:00:00Z\"",
        "\"0001-01-01T00:00:00.000Z\"",
    ),
    case(
        "at",
        "\"2016-12-31T23:59:60Z\"",
        "\"2017-01-01T00:00:00.000Z\"",
    ),
    case(
        "at",
        "\"2025-08-28T17:01:00.5+02:00\"",
        "\"2025-08-28T15:01:00.500Z\"",
    ),
    case("at", "1704067200", "\"2024-01-01T00:00:00.000Z\""),
    case("at", "1704067200000", "\"2024-01-01T00:00:00.000Z\""),
    case("at", "1704067200000000", "\"2024-01-01T00:00:00.000Z\""),
    case("at", "1704067200000000000", "\"2024-01-01T00:00:00.000Z\""),
    case("at", "1.7040672e9", "\"2024-01-01T00:00:00.000Z\""),
    case("at", "-1", "\"1969-12-31T23:59:59.000Z\""),
    case("at", "-315619200000", "\"1960-01-01T00:00:00.000Z\""),
    cut(
        "\"2025-08-28T15:01:00.123456Z\"",
        "\"2025-08-28T15:01:00.123456Z\"",
        "\"2025-08-28T15:01:00.123Z\"",
    ),
    cut(
        "\"1969-12-31T23:59:59.999999999Z\"",
        "\"1969-12-31T23:59:59.999999Z\"",
        "\"1969-12-31T23:59:59.999Z\"",
    ),
    cut(
        "1704067200123456789",
        "\"2024-01-01T00:00:00.123456Z\"",
        "\"2024-01-01T00:00:00.123Z\"",
    ),
    case("millis", "157766400000", "\"1975-01-01T00:00:00.000Z\""),
    case("millis", "5", "\"1970-01-01T00:00:00.005Z\""),
    case("n", "7.0", "7"),
    case("n", "1e3", "1000"),
    case("n", "-0", "0"),
    case("n", "9223372036854775807", "9223372036854775807"),
    case("n", "-9.223372036854775808e18", "-9223372036854775808"),
    case("d", "1.50", "1.5"),
    case("d", "0.1", "0.1"),
    case("d", "-1e-300", "-1e-300"),
    case(
        "t",
        "12345678901234567890123",
        "\"12345678901234567890123\"",
    ),
    case("t", "1.10", "\"1.10\""),
    case("t", "1e400", "\"1e400\""),
    case("j", "{\"a\": 10.00, \"a\": 1E5}", "{\"a\":10.00,\"a\":1E5}"),
];

/// Values that are rejected, and a part of the error.
const REJECTED: &[(&str, &str, &str)] = &[
    ("at", "\"-000001-01-01T00:00:00Z\"", "years 0001 to 9999"),
    ("at", "\"0000-01-01T00:00:00Z\"", "years 0001 to 9999"),
    ("at", "\"+010000-01-01T00:00:00Z\"", "years 0001 to 9999"),
    ("at", "\"9999-12-31T23:59:59-00:01\"", "years 0001 to 9999"),
    ("at", "1e30", "years 0001 to 9999"),
    ("at", "157766400000", "one of s or of ms"),
    ("at", "\"infinity\"", "like 2006-01-02T15:04:05Z"),
    ("at", "\"2025-08-28T15:01:00\"", "a time with its offset"),
    ("millis", "1704067200000000", "in the unit ms"),
    (
        "n",
        "7.5",
        "from -9223372036854775808 to 9223372036854775807",
    ),
    ("n", "9223372036854775808", "is 9223372036854775808"),
    ("n", "\"42\"", "is \"42\""),
    ("d", "1e999", "a number"),
];

async fn check(store: &str, table: &str, is_cassandra: bool) {
    let world = World::new();
    let lines = STORED.iter().zip(0..).map(|(c, id)| (id, c.column, c.sent));
    let bad = REJECTED.iter().zip(1000..).map(|(r, id)| (id, r.0, r.1));
    let lines: Vec<String> = lines
        .chain(bad)
        .map(|(id, column, sent)| format!("{{\"id\":{id},\"{column}\":{sent}}}\n"))
        .collect();
    std::fs::write(world.path("a.jsonl"), lines.concat()).unwrap();
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl] }}\n\
         destination:\n  type: table\n  store: {store}\n  table: {table}\n  columns:\n\
         \x20 - {{ name: id, type: integer, key: true }}\n\
         \x20 - {{ name: at, type: timestamp }}\n\
         \x20 - {{ name: millis, type: timestamp, unit: ms }}\n\
         \x20 - {{ name: n, type: integer }}\n\
         \x20 - {{ name: d, type: double }}\n\
         \x20 - {{ name: t }}\n\
         \x20 - {{ name: j, type: json }}\n"
    ));
    let (end, summary) = world.run(&definition).await;
    let counts = (summary.written, summary.dead);
    assert_eq!(
        (end, counts),
        (
            JobOutcome::Complete,
            (STORED.len() as u64, REJECTED.len() as u64)
        ),
        "{store}"
    );
    let dead_letters = dead(&definition.state_dir()).await;
    for ((_, sent, message), dead_letter) in REJECTED.iter().zip(&dead_letters) {
        let error = &dead_letter.error;
        assert!(error.contains(message), "{sent}: {error}");
        let value: String = sent.chars().take(40).collect();
        assert!(error.contains(&value), "{sent}: {error}");
    }

    let (address, _listener) = look_up(&world, store, table, ", json: [j]").await;
    for (id, case) in STORED.iter().enumerate() {
        let url = format!("http://{address}/v/{id}");
        let body = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let answered = match case.cassandra {
            Some(answered) if is_cassandra => answered,
            _ => case.answered,
        };
        let expected = format!("\"{}\":{answered}", case.column);
        assert!(body.contains(&expected), "{store}: {}: {body}", case.sent);
    }
}

/// Starts a lookup service on a table.
async fn look_up(world: &World, store: &str, table: &str, extra: &str) -> (SocketAddr, Listener) {
    let file = world.path("lookup.yaml");
    let yaml = format!("store: {store}\nroutes: [{{ path: /v, table: {table}{extra} }}]\n");
    std::fs::write(&file, yaml).unwrap();
    let config = LookupConfig::read(&file, &|_| Ok(None)).unwrap();
    let service = LookupService::new(&config, Arc::new(String::new))
        .await
        .unwrap();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (socket.local_addr().unwrap(), service.serve(socket))
}

#[tokio::test]
async fn sqlite_stores_or_rejects_numbers_and_times() {
    check("{ type: sqlite, path: rows.db }", "products", false).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_stores_or_rejects_numbers_and_times() {
    let test = "postgres_stores_or_rejects_numbers_and_times";
    let Some(service) = services::postgres(test) else {
        return;
    };
    let store = format!("{{ type: postgres, url: '{}' }}", service.url);
    let table = format!("values{}.products", std::process::id());
    check(&store, &table, false).await;
    check_foreign_values_of_postgres(&service.url, &store).await;
}

/// Column, value in PostgreSQL, and the response.
#[cfg(feature = "postgres")]
const OTHERS: &[(&str, &str, &str)] = &[
    ("at", "infinity", "\"infinity\""),
    ("at", "-infinity", "\"-infinity\""),
    (
        "at",
        "0044-03-15 12:30:00.5+00 BC",
        "\"0044-03-15 12:30:00.5+00 BC\"",
    ),
    (
        "at",
        "20000-01-01 00:00:00+00",
        "\"20000-01-01 00:00:00+00\"",
    ),
    (
        "at",
        "294276-12-31 23:59:59.999999+00",
        "\"294276-12-31 23:59:59.999999+00\"",
    ),
    (
        "at",
        "4713-01-01 00:00:00+00 BC",
        "\"4713-01-01 00:00:00+00 BC\"",
    ),
    (
        "at",
        "9999-12-31 23:59:59.999999+00",
        "\"9999-12-31T23:59:59.999999Z\"",
    ),
    (
        "plain",
        "0001-12-31 00:00:00 BC",
        "\"0001-12-31 00:00:00 BC\"",
    ),
    (
        "plain",
        "2026-01-01 00:00:00.000001",
        "\"2026-01-01T00:00:00.000001Z\"",
    ),
    ("d", "Infinity", "\"Infinity\""),
    ("d", "-Infinity", "\"-Infinity\""),
    ("d", "NaN", "\"NaN\""),
    ("r", "0.1", "0.1"),
    (
        "num",
        "12345678901234567890.50",
        "\"12345678901234567890.50\"",
    ),
];

/// Looks up times and numbers that no job writes, in a table of another application.
#[cfg(feature = "postgres")]
async fn check_foreign_values_of_postgres(url: &str, store: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let schema = format!("others{}", std::process::id());
    let mut sql = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id bigint PRIMARY KEY, at timestamptz,
         plain timestamp, d double precision, r real, num numeric);"
    );
    for (id, (column, value, _)) in OTHERS.iter().enumerate() {
        sql.push_str(&format!(
            "INSERT INTO {schema}.t (id, {column}) VALUES ({id}, '{value}');"
        ));
    }
    client.batch_execute(&sql).await.unwrap();
    let world = World::new();
    let table = format!("{schema}.t");
    let (address, _listener) = look_up(&world, store, &table, "").await;
    for (id, (column, value, answered)) in OTHERS.iter().enumerate() {
        let url = format!("http://{address}/v/{id}");
        let body = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let expected = format!("\"{column}\":{answered}");
        assert!(body.contains(&expected), "{value}: {body}");
    }
    // The response equals the server's own text in UTC.
    let in_utc = "SET timezone TO 'UTC'; SET datestyle TO 'ISO'";
    client.batch_execute(in_utc).await.unwrap();
    let rows = client
        .query(
            &format!("SELECT id, at::text FROM {schema}.t WHERE id < 6"),
            &[],
        )
        .await
        .unwrap();
    for row in rows {
        let (id, text): (i64, String) = (row.get(0), row.get(1));
        let (_, _, answered) = OTHERS[usize::try_from(id).unwrap()];
        assert_eq!(answered.trim_matches('"'), text);
    }
    let sql = format!("DROP SCHEMA {schema} CASCADE");
    client.batch_execute(&sql).await.unwrap();
}

#[cfg(feature = "cassandra")]
#[tokio::test]
async fn cassandra_stores_or_rejects_numbers_and_times() {
    let test = "cassandra_stores_or_rejects_numbers_and_times";
    let Some(node) = services::cassandra(test) else {
        return;
    };
    let store = format!("{{ type: cassandra, nodes: ['{node}'] }}");
    let table = format!("values{}.products", std::process::id());
    check(&store, &table, true).await;
}

/// A key that a store would have to truncate is rejected, so that two keys never become one row.
async fn check_keys(store: &str, table: &str, keeps: usize) {
    let world = World::new();
    let keys = [
        "\"2026-01-01T00:00:00.123Z\"",
        "\"2026-01-01T00:00:00.123456Z\"",
        "\"2026-01-01T00:00:00.1234567Z\"",
    ];
    let lines = keys.map(|key| format!("{{\"at\":{key}}}\n"));
    std::fs::write(world.path("a.jsonl"), lines.concat()).unwrap();
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl] }}\n\
         destination:\n  type: table\n  store: {store}\n  table: {table}\n\
         \x20 columns: [{{ name: at, type: timestamp, key: true }}]\n"
    ));
    let (end, summary) = world.run(&definition).await;
    let counts = (summary.written, summary.dead);
    let (kept, dead) = (keeps as u64, (keys.len() - keeps) as u64);
    assert_eq!(
        (end, counts),
        (JobOutcome::Complete, (kept, dead)),
        "{store}"
    );
}

#[tokio::test]
async fn a_key_is_never_truncated() {
    check_keys("{ type: sqlite, path: rows.db }", "products", 2).await;
    #[cfg(feature = "cassandra")]
    if let Some(node) = services::cassandra("a_key_is_never_truncated") {
        let table = format!("values{}.keys", std::process::id());
        check_keys(
            &format!("{{ type: cassandra, nodes: ['{node}'] }}"),
            &table,
            1,
        )
        .await;
    }
}
