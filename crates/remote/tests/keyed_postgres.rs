//! Keyed rows in PostgreSQL: the suite, on a real server.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use forebay_remote::keyed::{KeyedTable, conformance};
use forebay_remote::services;
use forebay_remote::table::postgres::{PostgresConfig, PostgresKeyed};

#[tokio::test]
async fn postgres_keeps_keyed_rows() {
    let Some(service) = services::postgres("postgres_keeps_keyed_rows") else {
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
    let shape = conformance::shape(&format!("{schema}.Products"));
    let before = store.prepare(&shape).await.unwrap();
    client.batch_execute(&dropped).await.unwrap();
    let after = store.prepare(&shape).await.unwrap();
    assert_ne!(before.incarnation, after.incarnation);
    let odd = format!("CREATE TABLE \"{schema}\".odd (id bigint PRIMARY KEY, at point)");
    client.batch_execute(&odd).await.unwrap();
    let error = store.describe(&format!("{schema}.odd")).await.unwrap_err();
    assert!(
        error.to_string().contains("\"at\" has type point"),
        "{error}"
    );
    let drop_all = format!("DROP SCHEMA \"{schema}\" CASCADE");
    client.batch_execute(&drop_all).await.unwrap();
}
