//! The limit of a job: a loop that passes prepared rows to the store's driver, with the best statement,
//! durability and number of connections. Nothing is read, parsed, routed, counted or checkpointed.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::CqlTimestamp;
use tokio_postgres::NoTls;

use crate::pull_rows::Product;

/// Rows per transaction or statement.
const TOGETHER: usize = 1000;
/// Connections to PostgreSQL: as many as a job has workers.
const CONNECTIONS: usize = 3;
/// Concurrent rows for Cassandra.
const IN_FLIGHT: usize = 192;

/// Rows per second into a new SQLite file: one prepared upsert per row, synced transactions.
pub fn sqlite(path: &Path, rows: &[Product]) -> anyhow::Result<f64> {
    let connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE products (id INTEGER NOT NULL PRIMARY KEY, name TEXT, price REAL,
             in_stock BOOLEAN, added TEXT, description TEXT)",
    )?;
    let mut insert = connection.prepare(
        "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
             name = excluded.name, price = excluded.price, in_stock = excluded.in_stock,
             added = excluded.added, description = excluded.description",
    )?;
    let begin = Instant::now();
    for part in rows.chunks(TOGETHER) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for r in part {
            insert.execute((r.id, &r.name, r.price, r.in_stock, &r.added, &r.description))?;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(rows.len() as f64 / begin.elapsed().as_secs_f64())
}

/// Rows per second into a new PostgreSQL table: upserts of whole batches as arrays, over a few
/// connections.
pub async fn postgres(url: &str, table: &str, rows: &Arc<Vec<Product>>) -> anyhow::Result<f64> {
    let first = connect(url).await?;
    first
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id bigint PRIMARY KEY, name text,
                 price double precision, in_stock boolean, added timestamptz, description text)"
        ))
        .await?;
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let (client, table, rows) = (connect(url).await?, table.to_owned(), Arc::clone(rows));
        tasks.spawn(async move {
            let insert = client
                .prepare(&format!(
                    "INSERT INTO {table} SELECT unnest($1::int8[]), unnest($2::text[]),
                         unnest($3::float8[]), unnest($4::bool[]), to_timestamp(unnest($5::float8[])),
                         unnest($6::text[])
                     ON CONFLICT (id) DO UPDATE SET name = excluded.name, price = excluded.price,
                         in_stock = excluded.in_stock, added = excluded.added,
                         description = excluded.description"
                ))
                .await?;
            for part in rows.chunks(TOGETHER).skip(number).step_by(CONNECTIONS) {
                let ids: Vec<i64> = part.iter().map(|r| r.id).collect();
                let names: Vec<&str> = part.iter().map(|r| r.name.as_str()).collect();
                let prices: Vec<f64> = part.iter().map(|r| r.price).collect();
                let stock: Vec<bool> = part.iter().map(|r| r.in_stock).collect();
                let added: Vec<f64> = part.iter().map(|r| r.added_millis as f64 / 1e3).collect();
                let text: Vec<&str> = part.iter().map(|r| r.description.as_str()).collect();
                client
                    .execute(&insert, &[&ids, &names, &prices, &stock, &added, &text])
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(rows.len() as f64 / begin.elapsed().as_secs_f64())
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with the client, which gets its errors.
    tokio::spawn(async move { drop(driver.await) });
    Ok(client)
}

/// A session with a Cassandra node.
pub async fn cassandra_session(node: &str) -> anyhow::Result<Session> {
    SessionBuilder::new()
        .known_node(node)
        .build()
        .await
        .with_context(|| node.to_owned())
}

/// Rows per second into a new Cassandra table: one prepared insert per row, many concurrently.
pub async fn cassandra(node: &str, table: &str, rows: &[Product]) -> anyhow::Result<f64> {
    let session = cassandra_session(node).await?;
    let (keyspace, _) = table.split_once('.').context("KEYSPACE.TABLE")?;
    for statement in [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ),
        format!("DROP TABLE IF EXISTS {table}"),
        format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, name text, price double, in_stock boolean, added timestamp, description text)"
        ),
    ] {
        session.query_unpaged(statement, ()).await?;
    }
    let insert = session
        .prepare(format!(
            "INSERT INTO {table} (id, name, price, in_stock, added, description) VALUES (?, ?, ?, ?, ?, ?)"
        ))
        .await?;
    let (session, insert) = (&session, &insert);
    let begin = Instant::now();
    futures::stream::iter(rows)
        .map(|r| async move {
            let added = CqlTimestamp(r.added_millis);
            let values = (r.id, &r.name, r.price, r.in_stock, added, &r.description);
            session.execute_unpaged(insert, values).await.map(drop)
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    Ok(rows.len() as f64 / begin.elapsed().as_secs_f64())
}
